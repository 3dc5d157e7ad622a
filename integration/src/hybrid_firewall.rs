//! A host of the hybrid bridge, under the ports of a case.

use std::collections::BTreeSet;

use lab::{Datapath, DummySpec, FailMode, HybridHost, HybridSpec, Mac, NetNs, Ovs, OvsOptions, Stations};
use ovsdb::Remote;
use policy::{Policy, PortId};
use tests::case::{Binding, Config};
use tests::sketch::CUSTOMER_TAG;

use crate::firewall::BRIDGE;
use crate::page_firewall::{FirewallError, PageFirewall, Sighting};

/// Where a frame's tag stands: behind the two addresses.
const TAG: std::ops::Range<usize> = 12..16;

/// What goes wrong in a driver.
pub type DriverError = Box<dyn std::error::Error + Send + Sync>;

/// What a driver is to filter.
#[derive(Debug)]
pub struct HybridSetup<'a> {
    /// The database that says which ports there are: interfaces `qvo…` of the integration bridge.
    pub remote: Remote,
    /// The integration bridge.
    pub bridge: String,
    /// The host's namespace, with `tap…`, `qbr…` and `qvb…` of each port.
    pub netns: &'a NetNs,
    /// Ethertypes beside ARP, RARP and IP that filtered ports may use.
    pub permitted_ethertypes: BTreeSet<u16>,
    /// The interfaces of the bridge that lead to the network.
    pub network_ports: Vec<String>,
}

/// A driver that filters on the bridges of a host.
pub trait HybridDriver: Sized {
    /// Whether it counts what is dropped.
    const COUNTS: bool = true;

    /// Starts without a policy: every port is closed as soon as there is one.
    ///
    /// # Errors
    /// The host or the database is not as it must be.
    fn start(setup: HybridSetup<'_>) -> Result<Self, DriverError>;

    /// Returns when a policy is in force.
    ///
    /// # Errors
    /// It is not, or only in part.
    fn put_in_force(&mut self, policy: &Policy) -> Result<(), DriverError>;

    /// How many things it has changed in the kernel since it began.
    fn changed(&self) -> usize;
}

/// A driver that filters nothing: what the host alone does with frames.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl HybridDriver for Open {
    const COUNTS: bool = false;

    fn start(_: HybridSetup<'_>) -> Result<Self, DriverError> {
        Ok(Self)
    }

    fn put_in_force(&mut self, _: &Policy) -> Result<(), DriverError> {
        Ok(())
    }

    fn changed(&self) -> usize {
        0
    }
}

/// What the integration bridge knows of the stations of its networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// Nothing: every frame that leaves a port's bridge goes to all other ports of its network.
    Floods,
    /// Where the MACs of the policy's ports are, as when each of them has spoken.
    Knows,
}

/// A host with the ports of a case, a database that says so, and the driver that filters there.
#[derive(Debug)]
pub struct HybridFirewall<D> {
    // Fields are dropped in this order: the driver before what it watches and filters.
    driver: Option<D>,
    host: HybridHost,
    ovs: Ovs,
    bindings: Vec<Binding>,
    config: Config,
    policy: Policy,
    switch: Switch,
}

impl<D> HybridFirewall<D> {
    /// The same with a switch that floods, or that knows the stations of each policy that is put in force. It knows unless told
    /// otherwise.
    pub fn with_switch(self, switch: Switch) -> Self {
        Self { switch, ..self }
    }

    /// What its switch knows.
    pub fn switch(&self) -> Switch {
        self.switch
    }

    /// The host, its namespace with the rules that the driver has made.
    pub fn host(&self) -> &HybridHost {
        &self.host
    }

    /// The switch whose database the driver watches. No frame goes through it.
    pub fn ovs(&self) -> &Ovs {
        &self.ovs
    }
}

impl<D: HybridDriver> HybridFirewall<D> {
    /// Ends the driver and begins another one with the same policy, which is to find everything as it would have made it.
    ///
    /// # Errors
    /// It changed something, or does not start.
    pub fn restarted_finds_all_right(&mut self) -> Result<(), FirewallError> {
        self.driver = None;
        self.start_driver()?;
        let policy = self.policy.clone();
        self.put_in_force(&policy)?;
        match self.driver.as_ref().map_or(0, D::changed) {
            0 => Ok(()),
            changed => Err(FirewallError::Driver(format!("a restart changed {changed} things").into())),
        }
    }

    fn start_driver(&mut self) -> Result<(), FirewallError> {
        let network_ports = self.bindings.iter().filter(|binding| binding.uplink);
        let driver = D::start(HybridSetup {
            remote: Remote::Unix(self.ovs.rundir().join("db.sock")),
            bridge: BRIDGE.to_owned(),
            netns: self.host.netns(),
            permitted_ethertypes: self.config.permitted_ethertypes.clone(),
            network_ports: network_ports.map(|binding| binding.interface.clone()).collect(),
        });
        self.driver = Some(driver.map_err(FirewallError::Driver)?);
        Ok(())
    }
}

impl<D: HybridDriver> PageFirewall for HybridFirewall<D> {
    fn start(bindings: &[Binding], config: &Config) -> Result<Self, FirewallError> {
        let ports = bindings.iter().filter(|binding| !binding.uplink);
        let specs: Vec<HybridSpec> = ports.map(spec).collect::<Result<_, _>>()?;
        let host = HybridHost::start(&specs)?;
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None })?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        let network = bindings.iter().filter(|binding| binding.uplink).map(|binding| DummySpec {
            tag: binding.tag,
            ofport: u16::try_from(binding.ofport).ok(),
            ..DummySpec::new(&binding.interface)
        });
        let on_switch = specs.iter().map(HybridSpec::on_switch).chain(network).collect();
        // What comes out of these is for nobody.
        drop(ovs.add_dummy_ports(BRIDGE, on_switch)?);
        let mut firewall = Self {
            driver: None,
            host,
            ovs,
            bindings: bindings.to_vec(),
            config: config.clone(),
            policy: Policy::default(),
            switch: Switch::Knows,
        };
        firewall.start_driver()?;
        Ok(firewall)
    }

    fn put_in_force(&mut self, policy: &Policy) -> Result<(), FirewallError> {
        self.host.know(match self.switch {
            Switch::Floods => Stations::new(),
            Switch::Knows => stations(&self.bindings, policy),
        });
        self.policy = policy.clone();
        let driver = self.driver.as_mut().expect("one is started wherever one is ended");
        driver.put_in_force(policy).map_err(FirewallError::Driver)
    }

    fn receive(&self, from: &str, frame: &[u8]) -> Result<(), FirewallError> {
        let binding = self.binding(from)?;
        match (&binding.port_id, binding.tag) {
            (Some(port_id), _) => self.host.send_from_vm(port_id, frame)?,
            (None, Some(vlan)) => self.host.send_from_network(vlan, frame)?,
            (None, None) => {
                let (vlan, frame) = untagged(frame).ok_or_else(|| FirewallError::NoTag(from.to_owned()))?;
                self.host.send_from_network(vlan, &frame)?;
            }
        }
        Ok(())
    }

    fn sighting(&self) -> Result<Sighting, FirewallError> {
        let emerged = self.host.take_emerged()?;
        let mut sighting = Sighting::new();
        for (vlan, frame) in emerged.network {
            for binding in self.bindings.iter().filter(|binding| binding.uplink) {
                let frame = match binding.tag {
                    Some(tag) if tag != vlan => continue,
                    Some(_) => frame.clone(),
                    None => tagged(vlan, &frame),
                };
                sighting.entry(binding.name().to_owned()).or_default().push(frame);
            }
        }
        sighting.extend(emerged.vms);
        Ok(sighting)
    }

    fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}

fn spec(binding: &Binding) -> Result<HybridSpec, FirewallError> {
    match (&binding.port_id, binding.tag) {
        (Some(port_id), Some(tag)) => {
            Ok(HybridSpec { ofport: u16::try_from(binding.ofport).ok(), ..HybridSpec::new(port_id, tag) })
        }
        _ => Err(FirewallError::Trunk(binding.name().to_owned())),
    }
}

/// The ports of each network that have a MAC: "mac_address and every pair's MAC" (semantics, egress).
pub(crate) fn stations(bindings: &[Binding], policy: &Policy) -> Stations {
    let mut stations = Stations::new();
    for binding in bindings {
        let (Some(id), Some(vlan)) = (&binding.port_id, binding.tag) else { continue };
        let Some(port) = policy.ports.get(&PortId::from(id.as_str())) else { continue };
        let pairs = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
        for mac in pairs.chain([port.mac]) {
            stations.entry((vlan, Mac(mac.0))).or_default().insert(id.clone());
        }
    }
    stations
}

/// The VLAN of a frame and the frame without its tag; none if it has no customer's tag.
pub(crate) fn untagged(frame: &[u8]) -> Option<(u16, Vec<u8>)> {
    let tag = frame.get(TAG)?;
    if tag[..2] != CUSTOMER_TAG.to_be_bytes() {
        return None;
    }
    let vlan = u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff;
    Some((vlan, [&frame[..TAG.start], &frame[TAG.end..]].concat()))
}

/// A frame with the tag of a VLAN, as a trunk has it.
pub(crate) fn tagged(vlan: u16, frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(TAG.start);
    [addresses, &CUSTOMER_TAG.to_be_bytes(), &vlan.to_be_bytes(), rest].concat()
}
