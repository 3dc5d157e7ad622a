//! `sgflow bench`: what a change costs, on a private Open vSwitch with devices that are in the switch alone, and in the same run what
//! ovs-ofctl and ovs-vswitchd charge for the same flows.

mod datapath;
mod document;
mod drops;
mod host;
mod hybrid;
mod ipset;
mod peers;
mod plot;
mod report;
mod scenario;
mod store;
mod subject;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent::driver::Setup;
use anyhow::{Context as _, Result, ensure};
use policy::{Policy, PolicyDelta};

use host::{Floor, Host};
use peers::{PeerArgs, PeerFigures};
use scenario::{Scenario, port_id};
use subject::{Cost, Subject};

/// Members that come and go, to tell what the slowest of them take.
const REPEATS: u32 = 100;
/// Changes of a churn.
const CHURN: u32 = 100;

/// Options of `sgflow bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// What is measured: SHAPE-PORTS-MEMBERS, with shape default, rich, overlap or groups; without this, those of the anchors
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Scenario>,

    /// Besides, measure what is large: many ports, members, groups, overlapping rules
    #[arg(long)]
    big: bool,

    /// Instead of flows, measure the kernel's sets with so many members
    #[arg(long, value_name = "MEMBERS")]
    ipset: Option<u32>,

    /// How often each step is measured; medians are printed
    #[arg(long, value_name = "N", default_value_t = 5)]
    times: usize,

    #[command(flatten)]
    peers: PeerArgs,

    /// Write every figure there as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw plots there, as SVG
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,

    #[command(flatten)]
    datapath: datapath::DatapathArgs,

    #[command(flatten)]
    hybrid: hybrid::HybridArgs,

    #[command(flatten)]
    store: store::StoreArgs,

    #[command(flatten)]
    drops: drops::DropsArgs,
}

/// A step of a scenario, with what it cost each time.
#[derive(Debug, serde::Serialize)]
struct Step {
    name: &'static str,
    costs: Vec<Cost>,
}

/// How long single changes took, in seconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Latency {
    count: usize,
    taken_p50: f64,
    taken_p99: f64,
    applied_p50: f64,
    applied_p99: f64,
}

/// All figures of a scenario.
#[derive(Debug, serde::Serialize)]
struct Figures {
    scenario: String,
    flows: usize,
    floor: Vec<Floor>,
    steps: Vec<Step>,
    member_latency: Latency,
    agent_peak_rss_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerFigures>,
}

/// Runs the benchmarks and prints their figures.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let peers = args.peers.installed()?;
    ensure!(args.times > 0, "--times: at least one");
    if args.datapath.datapath {
        let json = datapath::run(&args.datapath, (&args.peers, &peers), args.times)?;
        return args.json.as_deref().map_or(Ok(()), |path| write(path, &json));
    }
    if args.hybrid.hybrid {
        let json = hybrid::run(&args.hybrid, &args.scenario, (&args.peers, &peers), args.times)?;
        return args.json.as_deref().map_or(Ok(()), |path| write(path, &json));
    }
    if args.drops.drops {
        let json = drops::run(&args.drops, args.times)?;
        return args.json.as_deref().map_or(Ok(()), |path| write(path, &json));
    }
    if args.store.store {
        let json = store::run(&args.store, args.plots.as_deref())?;
        return args.json.as_deref().map_or(Ok(()), |path| write(path, &json));
    }
    if let Some(members) = args.ipset {
        let figures = ipset::run(members, args.times)?;
        println!("{}", ipset::table(&figures));
        return match &args.json {
            Some(path) => write(path, &serde_json::to_string(&figures)?),
            None => Ok(()),
        };
    }
    let mut scenarios = args.scenario.clone();
    if scenarios.is_empty() {
        scenarios = Scenario::all();
    }
    if args.big {
        scenarios.extend(Scenario::big());
    }
    let mut all = Vec::new();
    for scenario in scenarios {
        eprintln!("{scenario} …");
        let mut figures = Bench::begin(scenario, args.times)?.run().with_context(|| scenario.to_string())?;
        println!("{}", report::table(&figures));
        for peer in &peers {
            eprintln!("{scenario}, {peer} …");
            let peer = args.peers.measure(peer, &scenario).with_context(|| scenario.to_string())?;
            println!("{}", report::peer_table(&peer, &figures));
            figures.peers.push(peer);
        }
        all.push(figures);
    }
    if let Some(path) = &args.json {
        write(path, &report::json(&all)?)?;
    }
    if let Some(directory) = &args.plots {
        for (name, svg) in plot::all(&all) {
            write(&directory.join(name), &svg)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// One scenario under way.
struct Bench {
    scenario: Scenario,
    times: usize,
    host: Host,
    setup: Setup,
    policy: Policy,
    steps: Vec<Step>,
}

impl Bench {
    fn begin(scenario: Scenario, times: usize) -> Result<Self> {
        let host = Host::start(&scenario)?;
        let setup = host.setup()?;
        Ok(Bench { scenario, times, host, setup, policy: scenario.policy(), steps: Vec::new() })
    }

    fn run(mut self) -> Result<Figures> {
        let agent_peak_rss_bytes = self.host.agent_peak_rss(&self.policy)?;
        let mut nothing = Vec::new();
        for _ in 0..self.times {
            self.host.empty()?;
            nothing.push(self.start()?.1);
        }
        self.note("from nothing", nothing);
        let mut restarts = Vec::new();
        for _ in 0..self.times {
            restarts.push(self.start()?.1);
        }
        self.note("restart, unchanged", restarts);
        let mut floor = Vec::new();
        for _ in 0..self.times {
            floor.push(self.host.floor()?);
        }
        let mut subject = self.start()?.0;
        let flows = subject.flows();
        for change in scenario::CHANGES {
            self.there_and_back(&mut subject, change)?;
        }
        if self.scenario.members > 2 * u32::from(self.scenario.ports) {
            self.there_and_back(&mut subject, scenario::MANY_MEMBERS)?;
        }
        let member_latency = self.latency(&mut subject)?;
        self.ports(&mut subject)?;
        self.churn(&mut subject)?;
        self.switch_restarts(&mut subject)?;
        let scenario = self.scenario.to_string();
        let (steps, peers) = (self.steps, Vec::new());
        Ok(Figures { scenario, flows, floor, steps, member_latency, agent_peak_rss_bytes, peers })
    }

    fn note(&mut self, name: &'static str, costs: Vec<Cost>) {
        self.steps.push(Step { name, costs });
    }

    /// A driver that begins, with all that costs it until the policy is applied.
    fn start(&self) -> Result<(Subject, Cost)> {
        let switch = self.host.switch_cpu()?;
        let begun = Instant::now();
        let mut subject = Subject::start(self.setup.clone())?;
        subject.give(Policy::diff(&Policy::default(), &self.policy))?;
        let cost = subject.until_settled((Duration::ZERO, switch), begun, || self.host.switch_cpu())?;
        Ok((subject, cost))
    }

    /// There and back, so often: the policy changes.
    fn there_and_back(
        &mut self,
        subject: &mut Subject,
        ([there, back], change): scenario::Change,
    ) -> Result<()> {
        let mut changed = self.policy.clone();
        change(&self.scenario, &mut changed);
        let deltas = [Policy::diff(&self.policy, &changed), Policy::diff(&changed, &self.policy)];
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..self.times {
            for (delta, costs) in deltas.iter().zip(&mut costs) {
                costs.push(self.change(subject, delta)?);
            }
        }
        let [of_there, of_back] = costs;
        self.note(there, of_there);
        self.note(back, of_back);
        Ok(())
    }

    fn change(&self, subject: &mut Subject, delta: &PolicyDelta) -> Result<Cost> {
        subject.change(delta.clone(), || self.host.switch_cpu())
    }

    /// Members that come and go, one after the other.
    fn latency(&self, subject: &mut Subject) -> Result<Latency> {
        let (mut taken, mut applied) = (Vec::new(), Vec::new());
        for number in 0..REPEATS {
            let mut changed = self.policy.clone();
            self.scenario.add_port(&mut changed, self.scenario.members + number);
            let deltas = [Policy::diff(&self.policy, &changed), Policy::diff(&changed, &self.policy)];
            let more = self.change(subject, &deltas[0])?;
            taken.push(more.taken);
            applied.push(more.applied);
            self.change(subject, &deltas[1])?;
        }
        taken.sort_by(f64::total_cmp);
        applied.sort_by(f64::total_cmp);
        let of = |times: &[f64], percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        Ok(Latency {
            count: taken.len(),
            taken_p50: of(&taken, 50),
            taken_p99: of(&taken, 99),
            applied_p50: of(&applied, 50),
            applied_p99: of(&applied, 99),
        })
    }

    /// A member's device is plugged in and out, by ovs-vsctl, whose own time is in that of the step.
    fn ports(&mut self, subject: &mut Subject) -> Result<()> {
        let number = self.scenario.ports;
        if u32::from(number) >= self.scenario.members {
            let mut changed = self.policy.clone();
            self.scenario.add_port(&mut changed, u32::from(number));
            let delta = Policy::diff(&self.policy, &changed);
            self.change(subject, &delta)?;
            self.policy = changed;
        }
        let (mut plugs, mut unplugs) = (Vec::new(), Vec::new());
        for _ in 0..self.times {
            let before = (subject.cpu()?, self.host.switch_cpu()?, Instant::now());
            self.host.plug(number)?;
            plugs.push(subject.until_settled((before.0, before.1), before.2, || self.host.switch_cpu())?);
            let before = (subject.cpu()?, self.host.switch_cpu()?, Instant::now());
            self.host.unplug(number)?;
            unplugs.push(subject.until_settled((before.0, before.1), before.2, || self.host.switch_cpu())?);
        }
        self.note("+1 port", plugs);
        self.note("-1 port", unplugs);
        Ok(())
    }

    /// Members, rules and ports' groups change without a pause.
    fn churn(&mut self, subject: &mut Subject) -> Result<()> {
        let mut costs = Vec::new();
        for _ in 0..self.times {
            let mut sum = Cost::default();
            let mut now = self.policy.clone();
            for number in 0..CHURN {
                let mut next = now.clone();
                match number % 5 {
                    0 | 1 => self.scenario.add_port(&mut next, self.scenario.members + 1 + number),
                    2 => _ = next.ports.remove(&port_id(self.scenario.members + number)),
                    3 => Scenario::change_groups(&mut next, number % u32::from(self.scenario.ports)),
                    _ => Scenario::toggle_rule(&mut next),
                }
                sum.add(&self.change(subject, &Policy::diff(&now, &next))?);
                now = next;
            }
            self.change(subject, &Policy::diff(&now, &self.policy))?;
            costs.push(sum);
        }
        self.note("churn, 100 changes in turn", costs);
        Ok(())
    }

    fn switch_restarts(&mut self, subject: &mut Subject) -> Result<()> {
        let mut costs = Vec::new();
        for _ in 0..self.times {
            let before = subject.cpu()?;
            self.host.restart_switch()?;
            let begun = Instant::now();
            let host = &self.host;
            costs.push(subject.until_settled((before, Duration::ZERO), begun, || host.switch_cpu())?);
        }
        self.note("ovs-vswitchd restarts", costs);
        Ok(())
    }
}
