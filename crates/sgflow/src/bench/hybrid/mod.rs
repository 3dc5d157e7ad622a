//! `sgflow bench --hybrid`: what a change costs on a host with hybrid bridges, and what it costs Neutron's driver for them. Each works in a
//! network namespace of its own with a private switch that has the bridges' ends as ports.

pub(crate) mod kernel;
mod report;
mod subject;

use std::collections::BTreeSet;

use agent::driver::{Hybrid, HybridError, HybridSetup, Variant};
use anyhow::{Context as _, Result};
use policy::{Policy, PolicyDelta};

use super::host::{BRIDGE, Host};
use super::peers::{Installed, PeerArgs, PeerFigures};
use super::scenario::{self, Scenario, Shape};
use kernel::Held;
use subject::{Cost, Subject};

/// Members that come and go, to tell what the slowest of them take.
const REPEATS: u32 = 100;

/// Options of `sgflow bench` about hybrid bridges.
#[derive(Debug, clap::Args)]
pub(crate) struct HybridArgs {
    /// Measure a host with hybrid bridges instead: iptables and ipsets, or nftables
    #[arg(long, conflicts_with_all = ["datapath", "ipset", "big", "plots"])]
    pub(crate) hybrid: bool,

    /// With --hybrid: this driver; without, all
    #[arg(long, value_name = "DRIVER", requires = "hybrid")]
    driver: Vec<Driver>,

    /// With --hybrid: only this kind of iptables
    #[arg(long, value_name = "KIND", requires = "hybrid")]
    iptables: Vec<Kind>,
}

/// A driver for hosts with hybrid bridges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Driver {
    /// iptables and ipsets
    #[value(name = "iptables_hybrid")]
    IptablesHybrid,
    /// Tables of nftables alone
    Nftables,
}

/// Kinds of iptables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Kind {
    /// That over nf_tables
    Nft,
    /// The old one
    Legacy,
}

impl Kind {
    fn variant(self) -> Variant {
        match self {
            Kind::Nft => Variant::Nft,
            Kind::Legacy => Variant::Legacy,
        }
    }
}

/// A driver, and what it works with.
#[derive(Clone, Copy, Debug)]
enum Candidate {
    IptablesHybrid(Variant),
    Nftables,
}

impl Candidate {
    fn name(self) -> String {
        match self {
            Candidate::IptablesHybrid(variant) => format!("iptables_hybrid, {}", kernel::name(variant)),
            Candidate::Nftables => "nftables".to_owned(),
        }
    }

    /// The iptables in which it keeps rules, if it does, and those of the peer that is measured beside it.
    fn iptables(self) -> Variant {
        match self {
            Candidate::IptablesHybrid(variant) => variant,
            Candidate::Nftables => Variant::Nft,
        }
    }

    /// Starts it, on a tokio runtime.
    fn start(self, setup: HybridSetup) -> Result<Hybrid, HybridError> {
        match self {
            Candidate::IptablesHybrid(iptables) => Hybrid::new(HybridSetup { iptables, ..setup }),
            Candidate::Nftables => Hybrid::with_nftables(setup),
        }
    }
}

impl HybridArgs {
    fn candidates(&self) -> Vec<Candidate> {
        let drivers = match &self.driver[..] {
            [] => &[Driver::IptablesHybrid, Driver::Nftables],
            drivers => drivers,
        };
        let kinds = match &self.iptables[..] {
            [] => &[Kind::Nft, Kind::Legacy],
            kinds => kinds,
        };
        let of = |driver: &Driver| match driver {
            Driver::IptablesHybrid => {
                kinds.iter().map(|kind| Candidate::IptablesHybrid(kind.variant())).collect()
            }
            Driver::Nftables => vec![Candidate::Nftables],
        };
        drivers.iter().flat_map(of).collect()
    }
}

/// A step of a scenario, with what it cost each time.
#[derive(Debug, serde::Serialize)]
struct Step {
    name: &'static str,
    costs: Vec<Cost>,
}

/// All figures of a driver in a scenario.
#[derive(Debug, serde::Serialize)]
struct Figures {
    scenario: String,
    driver: String,
    ports: u16,
    held: Held,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerFigures>,
}

/// Measures each driver in each scenario so many times, prints the figures and gives them back as JSON.
pub(super) fn run(
    args: &HybridArgs,
    scenarios: &[Scenario],
    (of_peers, peers): (&PeerArgs, &[Installed]),
    times: usize,
) -> Result<String> {
    peers.iter().try_for_each(Installed::has_hybrid_driver)?;
    let usual =
        [(500, 500), (500, 5000)].map(|(ports, members)| Scenario { shape: Shape::Default, ports, members });
    let scenarios = if scenarios.is_empty() { &usual } else { scenarios };
    let mut all = Vec::new();
    for scenario in scenarios {
        for candidate in args.candidates() {
            let what = || format!("{scenario}, {}", candidate.name());
            eprintln!("{} …", what());
            let mut figures = Bench::begin(*scenario, candidate, times)?.run().with_context(what)?;
            println!("{}", report::table(&figures));
            for peer in peers {
                eprintln!("{}, {peer} …", what());
                let peer =
                    of_peers.measure_hybrid(peer, scenario, candidate.iptables()).with_context(what)?;
                println!("{}", report::peer_table(&peer, &figures));
                figures.peers.push(peer);
            }
            all.push(figures);
        }
    }
    Ok(super::report::json(&all)?)
}

/// One driver in one scenario.
struct Bench {
    scenario: Scenario,
    candidate: Candidate,
    times: usize,
    host: Host,
    setup: HybridSetup,
    policy: Policy,
    steps: Vec<Step>,
}

impl Bench {
    fn begin(scenario: Scenario, candidate: Candidate, times: usize) -> Result<Self> {
        let host = Host::start_hybrid(&scenario)?;
        let setup = HybridSetup {
            remote: host.ovs.db_remote().parse().context("the database's address")?,
            tls: None,
            bridge: BRIDGE.to_owned(),
            permitted_ethertypes: BTreeSet::new(),
            compress: false,
            iptables: candidate.iptables(),
            observe: agent::observe::Options::default(),
        };
        Ok(Bench { scenario, candidate, times, host, setup, policy: scenario.policy(), steps: Vec::new() })
    }

    fn run(mut self) -> Result<Figures> {
        let (mut nothing, mut restarts) = (Vec::new(), Vec::new());
        for _ in 0..self.times {
            kernel::empty(self.host.ovs.netns(), self.candidate.iptables())?;
            nothing.push(self.start()?.1);
        }
        self.note("from nothing", nothing);
        for _ in 0..self.times {
            restarts.push(self.start()?.1);
        }
        self.note("restart, unchanged", restarts);
        let subject = self.start()?.0;
        let held = kernel::held(self.host.ovs.netns(), self.candidate.iptables())?;
        self.members(&subject)?;
        let [_, others @ ..] = scenario::CHANGES;
        for change in others {
            self.there_and_back(&subject, change)?;
        }
        if self.scenario.members > 2 * u32::from(self.scenario.ports) {
            self.there_and_back(&subject, scenario::MANY_MEMBERS)?;
        }
        self.ports(&subject)?;
        drop(subject);
        if let Candidate::Nftables = self.candidate {
            let loads = (0..self.times).map(|_| kernel::load_again(self.host.ovs.netns()));
            let loads = loads.collect::<Result<_>>()?;
            self.note("nft -f of the same", loads);
        }
        let (scenario, driver) = (self.scenario.to_string(), self.candidate.name());
        Ok(Figures {
            scenario,
            driver,
            ports: self.scenario.ports,
            held,
            steps: self.steps,
            peers: Vec::new(),
        })
    }

    fn note(&mut self, name: &'static str, costs: Vec<Cost>) {
        self.steps.push(Step { name, costs });
    }

    /// A driver that begins, with all that costs it until the policy is in force.
    fn start(&self) -> Result<(Subject, Cost)> {
        let whole = Policy::diff(&Policy::default(), &self.policy);
        let (candidate, setup) = (self.candidate, self.setup.clone());
        let driver = move || candidate.start(setup);
        let ports = usize::from(self.scenario.ports);
        self.host.ovs.netns().enter(|| Subject::start(driver, whole, ports))?
    }

    /// Members that come and go, one after the other, and so many that there is a slowest.
    fn members(&mut self, subject: &Subject) -> Result<()> {
        let [([there, back], _), ..] = scenario::CHANGES;
        let mut costs = [Vec::new(), Vec::new()];
        for number in 0..REPEATS {
            let mut changed = self.policy.clone();
            self.scenario.add_port(&mut changed, self.scenario.members + number);
            for (delta, costs) in self.deltas(&changed).into_iter().zip(&mut costs) {
                costs.push(subject.change(delta)?);
            }
        }
        let [of_there, of_back] = costs;
        self.note(there, of_there);
        self.note(back, of_back);
        Ok(())
    }

    /// There and back, so often: the policy changes.
    fn there_and_back(&mut self, subject: &Subject, ([there, back], change): scenario::Change) -> Result<()> {
        let mut changed = self.policy.clone();
        change(&self.scenario, &mut changed);
        let deltas = self.deltas(&changed);
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..self.times {
            for (delta, costs) in deltas.iter().zip(&mut costs) {
                costs.push(subject.change(delta.clone())?);
            }
        }
        let [of_there, of_back] = costs;
        self.note(there, of_there);
        self.note(back, of_back);
        Ok(())
    }

    fn deltas(&self, changed: &Policy) -> [PolicyDelta; 2] {
        [Policy::diff(&self.policy, changed), Policy::diff(changed, &self.policy)]
    }

    /// A member's device is plugged in and out, by ovs-vsctl, whose own time is in that of the step and in that of the programs.
    fn ports(&mut self, subject: &Subject) -> Result<()> {
        let number = self.scenario.ports;
        if u32::from(number) >= self.scenario.members {
            let mut changed = self.policy.clone();
            self.scenario.add_port(&mut changed, u32::from(number));
            let [delta, _] = self.deltas(&changed);
            subject.change(delta)?;
            self.policy = changed;
        }
        let (mut plugs, mut unplugs) = (Vec::new(), Vec::new());
        for _ in 0..self.times {
            let begun = subject.begin()?;
            self.host.plug(number)?;
            plugs.push(subject.until(begun, |status| status.ports == usize::from(number) + 1)?);
            let begun = subject.begin()?;
            self.host.unplug(number)?;
            unplugs.push(subject.until(begun, |status| status.ports == usize::from(number))?);
        }
        self.note("+1 port", plugs);
        self.note("-1 port", unplugs);
        Ok(())
    }
}
