//! Others that enforce security groups, measured with the same scenarios in the same run, where they are installed.

mod neutron;
mod ovn;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{io, thread};

use agent::driver::Variant;
use anyhow::{Context as _, Result, bail, ensure};
use lab::Ovs;
use policy::Policy;

use super::scenario::{CHANGES, Scenario};

/// How much processor time a peer may take in [`QUIET_FOR`] and be called idle.
const QUIET: Duration = Duration::from_millis(5);
const QUIET_FOR: Duration = Duration::from_millis(200);

/// Options of `sgflow bench` about peers.
#[derive(Debug, clap::Args)]
pub(crate) struct PeerArgs {
    /// Measure this one too
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<Peer>,

    /// A Python that can import neutron; without this, that of `make peers`
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// How often each step of a peer is measured; medians are printed
    #[arg(long, value_name = "N", default_value_t = 1)]
    peer_times: usize,

    /// A step of a peer that takes longer is given up, and those after it
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    peer_patience: u64,
}

/// Who is measured beside sgflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Neutron's openvswitch firewall driver; with --hybrid, its iptables_hybrid
    Neutron,
    /// OVN's northd and controller
    Ovn,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Neutron => "Neutron",
            Peer::Ovn => "OVN",
        }
    }
}

/// A peer that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Installed {
    peer: Peer,
    version: String,
}

impl Installed {
    /// # Errors
    /// It has nothing for hosts with hybrid bridges.
    pub(crate) fn has_hybrid_driver(&self) -> Result<()> {
        ensure!(self.peer == Peer::Neutron, "{self} has no driver for hybrid bridges");
        Ok(())
    }
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer.name(), self.version)
    }
}

/// All figures of a peer in a scenario.
#[derive(Debug, serde::Serialize)]
pub(crate) struct PeerFigures {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) steps: Vec<PeerStep>,
    /// The step that took too long; those after it were not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<&'static str>,
}

impl PeerFigures {
    /// Notes what a step cost, or that it took too long.
    fn note(&mut self, name: &'static str, cost: Result<PeerCost>) -> Result<()> {
        match cost {
            Ok(cost) => match self.steps.iter_mut().find(|step| step.name == name) {
                Some(step) => step.costs.push(cost),
                None => self.steps.push(PeerStep { name, costs: vec![cost] }),
            },
            Err(error) => {
                self.given_up = error.is::<TookTooLong>().then_some(name);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A step, named as sgflow's own, with what it cost each time.
#[derive(Debug, serde::Serialize)]
pub(crate) struct PeerStep {
    pub(crate) name: &'static str,
    pub(crate) costs: Vec<PeerCost>,
}

/// What a step cost a peer.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct PeerCost {
    /// Processor time of what serves all hosts, if that is measured, in seconds like the others.
    pub(crate) central_cpu: f64,
    /// Of what enforces the policy on the host, and of the programs that it runs.
    pub(crate) agent_cpu: f64,
    pub(crate) switch_cpu: f64,
    /// From the event until the switch has all flows.
    pub(crate) taken: f64,
    /// Flow-mods that were sent, where the peer can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flow_mods: Option<usize>,
    /// Programs that were run, where the peer can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) programs: Option<usize>,
    /// Flows that the switch has then, or rules that the kernel has.
    pub(crate) flows: usize,
}

/// Processor time used so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Clocks {
    central: Duration,
    agent: Duration,
    switch: Duration,
}

impl Clocks {
    fn total(&self) -> Duration {
        self.central + self.agent + self.switch
    }

    fn cost_since(&self, before: &Clocks) -> PeerCost {
        let seconds = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64();
        PeerCost {
            central_cpu: seconds(self.central, before.central),
            agent_cpu: seconds(self.agent, before.agent),
            switch_cpu: seconds(self.switch, before.switch),
            ..PeerCost::default()
        }
    }
}

/// A peer at work on a switch of its own.
trait Enforcer {
    /// Has it enforce a policy in the place of what it enforces now, and tells what that cost.
    fn apply(&mut self, policy: &Policy) -> Result<PeerCost>;

    /// Its part on the host ends and begins anew, with all that costs until it is where it was.
    fn restart(&mut self) -> Result<PeerCost>;
}

/// A step took longer than the caller would wait.
#[derive(Debug)]
struct TookTooLong;

impl fmt::Display for TookTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("took too long")
    }
}

impl std::error::Error for TookTooLong {}

impl PeerArgs {
    /// Finds the peers that are asked for.
    ///
    /// # Errors
    /// One is not installed.
    pub(crate) fn installed(&self) -> Result<Vec<Installed>> {
        ensure!(self.peer_times > 0, "--peer-times: at least one");
        let installed = |peer: &Peer| {
            let version = match peer {
                Peer::Neutron => neutron::version(&self.python()?)?,
                Peer::Ovn => ovn::version()?,
            };
            Ok(Installed { peer: *peer, version })
        };
        self.peers.iter().map(installed).collect()
    }

    /// Measures a peer.
    ///
    /// # Errors
    /// It fails. One that only takes too long is measured up to there.
    pub(crate) fn measure(&self, installed: &Installed, scenario: &Scenario) -> Result<PeerFigures> {
        self.measure_by(installed, scenario, || self.start(installed.peer, scenario))
    }

    /// Measures a peer on a host with hybrid bridges, with one kind of iptables.
    ///
    /// # Errors
    /// As of [`PeerArgs::measure`], or it has nothing for such hosts.
    pub(crate) fn measure_hybrid(
        &self,
        installed: &Installed,
        scenario: &Scenario,
        iptables: Variant,
    ) -> Result<PeerFigures> {
        installed.has_hybrid_driver()?;
        let patience = Duration::from_secs(self.peer_patience);
        self.measure_by(installed, scenario, || {
            let driver = neutron::Driver::IptablesHybrid(iptables);
            Ok(Box::new(neutron::Neutron::start(scenario, driver, &self.python()?, patience)?))
        })
    }

    fn measure_by(
        &self,
        installed: &Installed,
        scenario: &Scenario,
        start: impl Fn() -> Result<Box<dyn Enforcer>>,
    ) -> Result<PeerFigures> {
        let (name, version) = (installed.peer.name(), installed.version.clone());
        let mut figures = PeerFigures { name, version, steps: Vec::new(), given_up: None };
        match self.steps(start, scenario, &mut figures) {
            Err(_) if figures.given_up.is_some() => {}
            done => done.with_context(|| installed.to_string())?,
        }
        Ok(figures)
    }

    /// Has a peer enforce a policy on the ports of a switch, and end; its flows stay.
    ///
    /// # Errors
    /// It fails, or takes its flows with it.
    pub(crate) fn leave_flows(&self, installed: &Installed, ovs: &Ovs, policy: &Policy) -> Result<()> {
        match installed.peer {
            Peer::Neutron => neutron::leave_flows(ovs, &self.python()?, policy),
            Peer::Ovn => bail!("what packets cost under OVN's flows is not measured yet"),
        }
        .with_context(|| installed.to_string())
    }

    fn steps(
        &self,
        start: impl Fn() -> Result<Box<dyn Enforcer>>,
        scenario: &Scenario,
        figures: &mut PeerFigures,
    ) -> Result<()> {
        let policy = scenario.policy();
        let mut enforcer = start()?;
        figures.note("from nothing", enforcer.apply(&policy))?;
        for _ in 1..self.peer_times {
            enforcer = start()?;
            figures.note("from nothing", enforcer.apply(&policy))?;
        }
        for _ in 0..self.peer_times {
            figures.note("restart, unchanged", enforcer.restart())?;
        }
        for ([there, back], change) in CHANGES {
            let mut changed = policy.clone();
            change(scenario, &mut changed);
            for _ in 0..self.peer_times {
                figures.note(there, enforcer.apply(&changed))?;
                figures.note(back, enforcer.apply(&policy))?;
            }
        }
        Ok(())
    }

    fn start(&self, peer: Peer, scenario: &Scenario) -> Result<Box<dyn Enforcer>> {
        let patience = Duration::from_secs(self.peer_patience);
        Ok(match peer {
            Peer::Neutron => Box::new(neutron::Neutron::start(
                scenario,
                neutron::Driver::OpenvSwitch,
                &self.python()?,
                patience,
            )?),
            Peer::Ovn => Box::new(ovn::Ovn::start(scenario, patience)?),
        })
    }

    /// The interpreter named, or that of `make peers`, which is beside the directory of this program.
    fn python(&self) -> Result<PathBuf> {
        if let Some(python) = &self.python {
            return Ok(python.clone());
        }
        let program = std::env::current_exe().context("finding this program")?;
        Ok(program.ancestors().nth(2).unwrap_or(&program).join("peers/bin/python"))
    }
}

/// Says which version a program prints, or how to come by it.
fn version_of(command: &mut Command, missing: &str) -> Result<String> {
    let shown = format!("{command:?}");
    let output = match command.output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => bail!("{missing} ({shown}: {})", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{missing} ({shown}: {error})"),
        Err(error) => return Err(error).context(shown),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.split_ascii_whitespace().last());
    Ok(version.with_context(|| format!("{shown} prints nothing"))?.to_owned())
}

/// Waits until what came before is over, so that it is not in what comes next.
fn until_idle(patience: Duration, clocks: impl Fn() -> Result<Clocks>) -> Result<()> {
    let begun = Instant::now();
    let mut before = clocks()?.total();
    loop {
        thread::sleep(QUIET_FOR);
        let now = clocks()?.total();
        if now.saturating_sub(before) < QUIET {
            return Ok(());
        }
        if begun.elapsed() > patience {
            return Err(TookTooLong.into());
        }
        before = now;
    }
}
