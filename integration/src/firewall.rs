//! A real switch with a real driver, under the ports of a case.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::driver::{OpenvSwitch, Setup};
use agent::engine::Options;
use lab::{Datapath, DummyPort, DummySpec, FailMode, Ovs, OvsOptions};
use ovsdb::Remote;
use pipeline::Hook;
use policy::Policy;
use tests::case::{Binding, Config};
use tokio::runtime::Runtime;

use crate::in_force::{NotInForce, put_in_force};
use crate::page_firewall::{FirewallError, PageFirewall, Sighting};

/// The integration bridge.
pub const BRIDGE: &str = "br-int";

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

impl Firewall {
    /// The switch.
    pub fn ovs(&self) -> &Ovs {
        &self.ovs
    }

    /// Lets frames in at a port, in order, and returns when the switch is done with all of them.
    ///
    /// # Errors
    /// As [`PageFirewall::receive`].
    pub fn receive_all(&self, from: &str, frames: &[Vec<u8>]) -> Result<(), FirewallError> {
        let port = self.ports.get(from).ok_or_else(|| FirewallError::NoPort(from.to_owned()))?;
        Ok(port.receive_all(frames)?)
    }
}

impl PageFirewall for Firewall {
    fn start(bindings: &[Binding], config: &Config) -> Result<Self, FirewallError> {
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
            hook: Hook::Bridge,
            takeover_timeout: Duration::ZERO,
            network_ports: bindings.iter().filter(|b| b.uplink).map(|b| b.interface.clone()).collect(),
        };
        let remote = Remote::Unix(ovs.rundir().join("db.sock"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let setup =
            Setup { remote, tls: None, openflow: None, engine, mirror: None, observe: None, dry_run: false };
        let driver = {
            let _inside = runtime.enter();
            OpenvSwitch::new(setup)?
        };
        let ports = names.zip(plugged).collect();
        Ok(Self { driver, runtime, ports, bindings: bindings.to_vec(), policy: Policy::default(), ovs })
    }

    fn put_in_force(&mut self, policy: &Policy) -> Result<(), FirewallError> {
        let delta = Policy::diff(&self.policy, policy);
        self.policy = policy.clone();
        put_in_force(&self.runtime, &mut self.driver, delta).map_err(|failure| match failure {
            NotInForce::InTime(reports) => FirewallError::NotInForce(reports),
            NotInForce::Refused(reports) => FirewallError::Refused(reports),
        })
    }

    fn receive(&self, from: &str, frame: &[u8]) -> Result<(), FirewallError> {
        let port = self.ports.get(from).ok_or_else(|| FirewallError::NoPort(from.to_owned()))?;
        Ok(port.receive(frame)?)
    }

    fn sighting(&self) -> Result<Sighting, FirewallError> {
        let mut sighting = Sighting::new();
        for (name, port) in &self.ports {
            let frames = port.take_sent()?;
            if !frames.is_empty() {
                sighting.insert(name.clone(), frames);
            }
        }
        Ok(sighting)
    }

    fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}
