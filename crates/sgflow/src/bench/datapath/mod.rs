//! `sgflow bench --datapath`: what packets cost under sgflow's table and under others that enforce the same policy, each on a
//! private switch of its own, one after the other in turns.

mod cloud;
mod exchange;
mod frames;
mod report;
mod rig;
mod stream;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use lab::Ovs;
use policy::Ethertype;

use super::peers::{Installed, PeerArgs};
use rig::{Cost, Rig, TableFile};

/// What the connection that lasts carries in a turn.
const MEGABYTES: usize = 150;
/// Connections that the VMs' kernels make in a turn.
const IN_TURN: usize = 2000;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Traffic {
    /// Members of the groups and others ask a port for many services, over IPv4
    Mixed,
    /// The same over IPv6
    Mixed6,
    /// A member and another try one port after the other
    Scan,
    /// Members connect to a port
    In,
    /// A port connects to hosts behind the network
    Out,
    /// TCP connections of two VMs' kernels, one after the other
    InTurn,
    /// Megabytes of one TCP connection of two VMs' kernels
    Lasting,
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Traffic::Mixed => "mixed, IPv4",
            Traffic::Mixed6 => "mixed, IPv6",
            Traffic::Scan => "port scans",
            Traffic::In => "10,000 connections in",
            Traffic::Out => "10,000 connections out",
            Traffic::InTurn => "connections in turn, VM to VM",
            Traffic::Lasting => "MB of one connection, VM to VM",
        }
    }

    /// Sends it; with the places in the list of connections that were admitted, where there is a list.
    fn send(self, rig: &Rig) -> Result<(Cost, Vec<u32>)> {
        match self {
            Traffic::Mixed => rig.exchange(&cloud::mixed(Ethertype::Ipv4), true),
            Traffic::Mixed6 => rig.exchange(&cloud::mixed(Ethertype::Ipv6), true),
            Traffic::Scan => rig.exchange(&cloud::scan(), true),
            Traffic::In => rig.exchange(&cloud::incoming(), true),
            Traffic::Out => rig.exchange(&cloud::outgoing(), false),
            Traffic::InTurn => Ok((rig.connections(IN_TURN)?, Vec::new())),
            Traffic::Lasting => Ok((rig.throughput(MEGABYTES)?, Vec::new())),
        }
    }
}

/// What one kind of traffic cost under one table, in each turn.
#[derive(Debug, serde::Serialize)]
struct Figures {
    traffic: &'static str,
    table: String,
    flows: usize,
    costs: Vec<Cost>,
}

/// Options of `sgflow bench --datapath`.
#[derive(Debug, clap::Args)]
pub(crate) struct DatapathArgs {
    /// Measure packets instead: megaflows, upcalls and processor time of mixed traffic, port scans, many connections and long ones
    #[arg(long, conflicts_with_all = ["scenario", "plots"])]
    pub(crate) datapath: bool,

    /// With --datapath: this kind of traffic; without, all
    #[arg(long, value_name = "KIND", requires = "datapath")]
    traffic: Vec<Traffic>,

    /// With --datapath: measure this table of ovs-ofctl's flows too, in turn with sgflow's
    #[arg(long, value_name = "NAME=FILE", requires = "datapath")]
    table: Vec<TableFile>,

    /// With --datapath: write there what another program needs to make its table for the same ports, and sgflow's table
    #[arg(long, value_name = "DIRECTORY", requires = "datapath")]
    export: Option<PathBuf>,
}

/// Measures sgflow's table, those of peers and those of files, so many turns each, prints the figures and gives them back as JSON.
pub(super) fn run(
    args: &DatapathArgs,
    (of_peers, peers): (&PeerArgs, &[Installed]),
    times: usize,
) -> Result<String> {
    let mut rigs = vec![Rig::start("sgflow", rig::enforce)?];
    for peer in peers {
        let leave_flows = |ovs: &Ovs, _: &str| of_peers.leave_flows(peer, ovs, &cloud::policy());
        rigs.push(Rig::start(&peer.to_string(), leave_flows)?);
    }
    for TableFile { name, path } in &args.table {
        let load = |ovs: &Ovs, _: &str| rig::load(ovs, path).with_context(|| path.display().to_string());
        rigs.push(Rig::start(name, load)?);
    }
    if let (Some(directory), Some(rig)) = (&args.export, rigs.first()) {
        rig.export(directory, &cloud::policy())?;
    }
    println!("{}", report::HEAD);
    let mut all = Vec::new();
    let traffics = if args.traffic.is_empty() { Traffic::value_variants() } else { &args.traffic };
    for traffic in traffics {
        let figures = measure(*traffic, &rigs, times).with_context(|| traffic.name())?;
        print!("{}", report::lines(&figures));
        all.extend(figures);
    }
    Ok(report::json(&all)?)
}

/// So many turns, of every table each; all tables must admit the same.
fn measure(traffic: Traffic, rigs: &[Rig], times: usize) -> Result<Vec<Figures>> {
    let figures = |rig: &Rig| Figures {
        traffic: traffic.name(),
        table: rig.name.clone(),
        flows: rig.flows,
        costs: Vec::new(),
    };
    let mut all: Vec<Figures> = rigs.iter().map(figures).collect();
    let mut expected = None;
    for _ in 0..times {
        for (rig, figures) in rigs.iter().zip(&mut all) {
            let (cost, admitted) =
                traffic.send(rig).with_context(|| format!("under the table of {}", rig.name))?;
            let expected = expected.get_or_insert_with(|| admitted.clone());
            ensure!(
                *expected == admitted,
                "{} admits {} connections, {} of them otherwise than {}",
                rig.name,
                admitted.len(),
                differences(expected, &admitted),
                rigs[0].name
            );
            figures.costs.push(cost);
        }
    }
    Ok(all)
}

/// How many are in one list alone; both are in rising order.
fn differences(one: &[u32], other: &[u32]) -> usize {
    let missing =
        |from: &[u32], of: &[u32]| of.iter().filter(|number| from.binary_search(number).is_err()).count();
    missing(one, other) + missing(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_count_both_ways() {
        assert_eq!(differences(&[1, 2, 3], &[1, 2, 3]), 0);
        assert_eq!(differences(&[1, 2, 3], &[2, 4]), 3);
    }
}
