//! A real switch with a real driver, under the ports of a case.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::driver::{Driver as _, OpenvSwitch, Setup, SetupError};
use agent::engine::{Options, Report};
use lab::{Datapath, DummyPort, DummySpec, FailMode, Ovs, OvsOptions};
use ovsdb::Remote;
use policy::Policy;
use tests::case::{Binding, Config};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The integration bridge.
pub const BRIDGE: &str = "br-int";

/// How long a policy may take to be in force on a busy machine.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(60);

/// An Open vSwitch of its own, its ports of type `dummy`, and the driver that enforces a policy on it.
#[derive(Debug)]
pub struct Firewall {
    // Fields are dropped in this order: the driver before the runtime and the switch that it talks to.
    driver: OpenvSwitch,
    runtime: Runtime,
    ports: BTreeMap<String, DummyPort>,
    bindings: Vec<Binding>,
    policy: Policy,
    ovs: Ovs,
}

/// The frames that came out at each port since the last look, by the names that packet lines use; ports without
/// any are left out.
pub type Sighting = BTreeMap<String, Vec<Vec<u8>>>;

/// What went wrong around the frames.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// The driver's setup.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The runtime.
    #[error("the runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// A policy is not in force in time.
    #[error("the policy is not in force within {IN_FORCE_WITHIN:?}; the driver's reports: {0:?}")]
    NotInForce(Vec<Report>),
    /// A policy is in force with something left out.
    #[error("the driver refused something: {0:?}")]
    Refused(Vec<Report>),
    /// A frame is to be sent from a port that is not there.
    #[error("no port {0:?}")]
    NoPort(String),
}

impl Firewall {
    /// Starts a switch with these bindings and a driver that has no policy yet.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(bindings: &[Binding], config: &Config) -> Result<Self, FirewallError> {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None })?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        let spec = |binding: &Binding| DummySpec {
            port_id: binding.port_id.clone(),
            tag: binding.tag,
            ofport: u16::try_from(binding.ofport).ok(),
            ..DummySpec::new(&binding.interface)
        };
        let plugged = ovs.add_dummy_ports(BRIDGE, bindings.iter().map(spec).collect())?;
        let names = bindings.iter().map(|binding| binding.name().to_owned());
        let engine = Options {
            bridge: BRIDGE.to_owned(),
            set_fail_mode: false,
            permitted_ethertypes: config.permitted_ethertypes.clone(),
            network_ports: bindings.iter().filter(|b| b.uplink).map(|b| b.interface.clone()).collect(),
        };
        let remote = Remote::Unix(ovs.rundir().join("db.sock"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let setup = Setup { remote, tls: None, openflow: None, engine, mirror: None, dry_run: false };
        let driver = {
            let _inside = runtime.enter();
            OpenvSwitch::new(setup)?
        };
        let ports = names.zip(plugged).collect();
        Ok(Self { driver, runtime, ports, bindings: bindings.to_vec(), policy: Policy::default(), ovs })
    }

    /// The switch.
    pub fn ovs(&self) -> &Ovs {
        &self.ovs
    }

    /// Gives the driver another policy and returns when it is in force, caches included.
    ///
    /// # Errors
    /// That does not happen in time, or with something refused.
    pub fn put_in_force(&mut self, policy: &Policy) -> Result<(), FirewallError> {
        self.driver.policy(Policy::diff(&self.policy, policy));
        self.policy = policy.clone();
        let driver = &mut self.driver;
        let mut reports = Vec::new();
        let settled = self.runtime.block_on(async {
            let all_reports = async {
                loop {
                    match driver.report().await {
                        Report::Settled => return,
                        report => reports.push(report),
                    }
                }
            };
            timeout(IN_FORCE_WITHIN, all_reports).await
        });
        let is_refusal = |report: &Report| {
            matches!(report, Report::FlowRefused(_) | Report::RuleRefused(_) | Report::NoZone(..))
        };
        match settled {
            Err(_) => Err(FirewallError::NotInForce(reports)),
            Ok(()) if reports.iter().any(is_refusal) => Err(FirewallError::Refused(reports)),
            Ok(()) => Ok(()),
        }
    }

    /// Lets a frame in at a port, by the name that packet lines use.
    ///
    /// # Errors
    /// There is no such port, or the switch is gone.
    pub fn receive(&self, from: &str, frame: &[u8]) -> Result<(), FirewallError> {
        let port = self.ports.get(from).ok_or_else(|| FirewallError::NoPort(from.to_owned()))?;
        Ok(port.receive(frame)?)
    }

    /// Lets frames in at a port, in order, and returns when the switch is done with all of them.
    ///
    /// # Errors
    /// As [`Firewall::receive`].
    pub fn receive_all(&self, from: &str, frames: &[Vec<u8>]) -> Result<(), FirewallError> {
        let port = self.ports.get(from).ok_or_else(|| FirewallError::NoPort(from.to_owned()))?;
        Ok(port.receive_all(frames)?)
    }

    /// What came out since the last call.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn sighting(&self) -> Result<Sighting, FirewallError> {
        let mut sighting = Sighting::new();
        for (name, port) in &self.ports {
            let frames = port.take_sent()?;
            if !frames.is_empty() {
                sighting.insert(name.clone(), frames);
            }
        }
        Ok(sighting)
    }

    /// The interface that a packet line names.
    ///
    /// # Errors
    /// There is none.
    pub fn binding(&self, name: &str) -> Result<&Binding, FirewallError> {
        let binding = self.bindings.iter().find(|binding| binding.name() == name);
        binding.ok_or_else(|| FirewallError::NoPort(name.to_owned()))
    }
}
