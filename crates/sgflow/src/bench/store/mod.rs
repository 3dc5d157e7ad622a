//! `sgflow bench --store`: what a policy costs that is in one store for a whole cloud. The agents are this process, with the protocol and the view that
//! real ones have and a driver that counts; the servers are ovsdb-servers, and all is on one machine.

mod cloud;
mod fleets;
mod pen;
mod plot;
mod report;
mod servers;
mod transactions;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio::runtime;

use cloud::{Cloud, Size};
use fleets::{Change, Start, Trial, Trouble};
use pen::Pen;
use servers::{Cpu, Memory, Servers, seconds};

/// Rows of a transaction, as `sgflow policy put` has them.
const BATCH: usize = 10_000;

/// Options of `sgflow bench` about the policy store.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// Measure the policy store instead: many agents at a cluster of three and its relays
    #[arg(long, conflicts_with_all = ["scenario", "datapath", "hybrid", "ipset", "big", "peers"])]
    pub(crate) store: bool,

    /// With --store: what transactions of many rows cost a cluster, instead of many agents
    #[arg(long, requires = "store", conflicts_with_all = ["agents", "ports", "groups", "members", "changes", "plots"])]
    transactions: bool,

    /// With --store: small, in seconds; the figures say nothing
    #[arg(long, requires = "store")]
    quick: bool,

    /// With --store: so many hosts at most [default: 1000]
    #[arg(long, value_name = "N", requires = "store")]
    agents: Option<usize>,

    /// With --store: so many ports [default: 100000]
    #[arg(long, value_name = "N", requires = "store")]
    ports: Option<usize>,

    /// With --store: so many groups [default: 2000]
    #[arg(long, value_name = "N", requires = "store")]
    groups: Option<usize>,

    /// With --store: members of the largest group [default: 20000]
    #[arg(long, value_name = "N", requires = "store")]
    members: Option<usize>,

    /// With --store: so many relays; 0: agents ask the members
    #[arg(long, value_name = "N", requires = "store", default_value_t = 2)]
    relays: usize,

    /// With --store: so many changes of each kind [default: 50]
    #[arg(long, value_name = "N", requires = "store")]
    changes: Option<usize>,
}

/// What it took to fill the store.
#[derive(Debug, serde::Serialize)]
struct Fill {
    seconds: f64,
    transactions: usize,
    cpu: Cpu,
    /// Of whoever leads in the end, since it began.
    leader_cpu: f64,
    memory: Memory,
}

/// All figures.
#[derive(Debug, serde::Serialize)]
struct Figures {
    size: Size,
    relays: usize,
    fill: Fill,
    starts: Vec<Start>,
    changes: Vec<Change>,
    troubles: Vec<Trouble>,
}

impl StoreArgs {
    fn size(&self) -> Size {
        let usual = match self.quick {
            true => Size { agents: 20, ports: 1000, groups: 40, members: 200 },
            false => Size { agents: 1000, ports: 100_000, groups: 2000, members: 20_000 },
        };
        Size {
            agents: self.agents.unwrap_or(usual.agents),
            ports: self.ports.unwrap_or(usual.ports),
            groups: self.groups.unwrap_or(usual.groups),
            members: self.members.unwrap_or(usual.members),
        }
    }

    /// With so many agents, one after the other: an eighth, a quarter, half, all.
    fn steps(&self, agents: usize) -> Vec<usize> {
        let divisors: &[usize] = if self.quick { &[2, 1] } else { &[8, 4, 2, 1] };
        divisors.iter().map(|divisor| agents / divisor).filter(|agents| *agents > 0).collect()
    }
}

/// Measures, prints the figures, draws them if a directory is given, and gives them back as JSON.
pub(super) fn run(args: &StoreArgs, plots: Option<&Path>) -> Result<String> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    if args.transactions {
        let fillings = runtime.block_on(transactions::measure(args.quick))?;
        println!("{}", transactions::text(&fillings));
        return Ok(super::report::json(&fillings)?);
    }
    let cloud = Cloud::new(args.size())?;
    let changes = args.changes.unwrap_or(if args.quick { 4 } else { 50 });
    ensure!(changes > 0, "--changes: at least one");
    let mut servers = Servers::start(args.relays)?;
    let figures = runtime.block_on(measure(args, &cloud, &mut servers, changes))?;
    println!("{}", report::text(&figures));
    for (name, svg) in plots.iter().flat_map(|_| plot::all(&figures)) {
        super::write(&plots.unwrap_or(Path::new("")).join(name), &svg)?;
    }
    Ok(super::report::json(&[figures])?)
}

async fn measure(args: &StoreArgs, cloud: &Cloud, servers: &mut Servers, changes: usize) -> Result<Figures> {
    eprintln!("filling the store …");
    let mut pen = Pen::begin(servers.members()?).await?;
    let before = servers.cpu()?;
    let begun = std::time::Instant::now();
    let written = pen.write(&cloud.policy(), BATCH).await.context("filling the store")?;
    let fill = Fill {
        seconds: seconds(begun.elapsed()),
        transactions: written.transactions,
        cpu: servers.cpu()?.since(before),
        leader_cpu: servers.leader_cpu()?,
        memory: servers.memory()?,
    };
    let mut trial = Trial::new(cloud, servers, pen, changes);
    for agents in args.steps(cloud.size.agents) {
        eprintln!("{agents} agents …");
        trial.start(agents).await?;
        for (group, spread) in cloud.special() {
            if spread.hosts == cloud.size.agents || agents == cloud.size.agents {
                trial.members(group, spread).await?;
            }
        }
    }
    trial.rules().await?;
    eprintln!("what fails …");
    trial.leader_dies().await?;
    trial.relay_dies().await?;
    trial.all_restart().await?;
    let Trial { starts, changes, troubles, .. } = trial;
    Ok(Figures { size: cloud.size, relays: args.relays, fill, starts, changes, troubles })
}
