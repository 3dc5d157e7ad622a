//! A host of OpenStack's hybrid bridge: between a VM's device and the integration bridge stands a Linux bridge of the port's
//! own, so that the kernel's bridge filter sees what the VM sends and gets.
//!
//! ```text
//!   VM ── tapX ─ qbrX ─ qvbX ── qvoX ── br-int
//!   └ a packet socket           └ a packet socket each: HybridHost plays the switch
//! ```
//!
//! X are the first 11 characters of the port's id, as Neutron and os-vif have it. `tapX`, `qbrX` and `qvbX` are in the host's
//! namespace, where a driver is to filter. Both far ends are in another one: on a real host neither the guest's end nor a device
//! that Open vSwitch has taken shows its frames to the host's IP stack, which would filter group-addressed ones once more.
//!
//! The switch is a hub: what comes out of a `qvoX` goes to every other port of its VLAN and to the network, so that
//! what is judged is what the host filters; but of the stations that it is told of ([`HybridHost::know`]) it knows where they are, as
//! a real one does when they have spoken. What a driver finds in OVSDB, a real switch says: [`HybridSpec::on_switch`].

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dummy::DummySpec;
use crate::error::Tried as _;
use crate::netns::NetNs;
use crate::packet_socket::{Capture, PacketSocket};
use crate::quiet::Quiet;
use crate::{Error, Mac, process, vm};

/// Characters of a port's id in the names of its devices (nova's `NIC_NAME_LEN`, 14, less a prefix of three).
const ID_CHARACTERS: usize = 11;

/// How long the kernel may take until new devices carry frames.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// Frames come out of the host, go in at the other ports, and come out at their VMs: that is two rounds.
const MOST_ROUNDS: usize = 8;

/// Which of the bridges' frames iptables and ip6tables see, as Neutron's agent sets it (Documentation/networking/ip-sysctl.rst of
/// Linux, "bridge-nf-*"; of the namespace alone since 5.3).
const SHOWN_TO_RULES: [(&str, &str); 4] = [
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
    ("net/bridge/bridge-nf-filter-vlan-tagged", "0"),
];

/// A port to be plugged into a [`HybridHost`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HybridSpec {
    /// The Neutron port.
    pub port_id: String,
    /// The VLAN of its network on the integration bridge.
    pub tag: u16,
    /// Its MAC, as a hypervisor notes it.
    pub mac: Option<Mac>,
    /// The OpenFlow port number to ask for.
    pub ofport: Option<u16>,
}

impl HybridSpec {
    /// A port of a VLAN of which nothing else is known.
    #[must_use]
    pub fn new(port_id: &str, tag: u16) -> Self {
        Self { port_id: port_id.to_owned(), tag, mac: None, ofport: None }
    }

    /// The port as the integration bridge has it: an access port named after the far end of the pair of devices.
    #[must_use]
    pub fn on_switch(&self) -> DummySpec {
        DummySpec {
            port_id: Some(self.port_id.clone()),
            mac: self.mac,
            tag: Some(self.tag),
            ofport: self.ofport,
            ..DummySpec::new(&device("qvo", &self.port_id))
        }
    }
}

/// A plugged port.
#[derive(Debug)]
pub struct HybridPort {
    spec: HybridSpec,
    vm: Capture,
    switch: Capture,
}

impl HybridPort {
    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &HybridSpec {
        &self.spec
    }

    /// The VM's device on the host, `tapX`.
    #[must_use]
    pub fn tap(&self) -> String {
        device("tap", &self.spec.port_id)
    }

    /// The port's bridge, `qbrX`.
    #[must_use]
    pub fn bridge(&self) -> String {
        device("qbr", &self.spec.port_id)
    }

    /// The bridge's other port, towards the switch, `qvbX`.
    #[must_use]
    pub fn qvb(&self) -> String {
        device("qvb", &self.spec.port_id)
    }
}

/// What came out of a host, in order of time at each place.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Emerged {
    /// The frames that each VM got, by port id; VMs without any are left out.
    pub vms: BTreeMap<String, Vec<Vec<u8>>>,
    /// The frames that left for the network, with their VLAN, without its tag.
    pub network: Vec<(u16, Vec<u8>)>,
}

/// The ports, by id, at which a switch has seen a MAC on a VLAN.
pub type Stations = BTreeMap<(u16, Mac), BTreeSet<String>>;

/// A host with ports, all of whose VMs and switch are packet sockets of this process.
#[derive(Debug)]
pub struct HybridHost {
    ports: Vec<HybridPort>,
    stations: Stations,
    network: Mutex<Vec<(u16, Vec<u8>)>>,
    quiet: Quiet,
    outside: NetNs,
    netns: NetNs,
}

impl HybridHost {
    /// A host with these ports, its bridges' frames shown to iptables and ip6tables, its rules none.
    ///
    /// # Errors
    /// The kernel refuses: root and br_netfilter are needed; two ports have ids that begin alike.
    pub fn start(specs: &[HybridSpec]) -> Result<Self, Error> {
        let (netns, outside) = (NetNs::new()?, NetNs::new()?);
        for netns in [&netns, &outside] {
            // os-vif leaves no IPv6 address on a port's bridge; elsewhere the kernel's own words would be taken for a VM's.
            vm::write_sysctls(netns, &[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        }
        vm::write_sysctls(&netns, &SHOWN_TO_RULES)?;
        let quiet = Quiet::new(&outside)?;
        let mut host = Self {
            ports: Vec::new(),
            stations: Stations::new(),
            network: Mutex::default(),
            quiet,
            outside,
            netns,
        };
        host.plug(specs)?;
        Ok(host)
    }

    /// The namespace of the host, where its devices are and rules are to be.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// A plugged port by its id.
    ///
    /// # Errors
    /// There is none.
    pub fn port(&self, port_id: &str) -> Result<&HybridPort, Error> {
        let port = self.ports.iter().find(|port| port.spec.port_id == port_id);
        port.ok_or_else(|| no_port(port_id))
    }

    /// Plugs more ports, as os-vif does, and returns when they carry frames.
    ///
    /// # Errors
    /// As [`HybridHost::start`].
    pub fn plug(&mut self, specs: &[HybridSpec]) -> Result<(), Error> {
        let ids = || specs.iter().map(|spec| spec.port_id.as_str());
        self.netns.ip(&ids().flat_map(|id| add_devices(id, &self.outside.path())).collect::<Vec<_>>())?;
        let far_ends: Vec<String> = ids().flat_map(|id| ["vm", "qvo"].map(|end| device(end, id))).collect();
        self.outside.ip(&far_ends.iter().map(|end| format!("link set {end} up")).collect::<Vec<_>>())?;
        let near_ends: Vec<String> = ids().flat_map(|id| ["tap", "qvb"].map(|end| device(end, id))).collect();
        for (netns, ends) in [(&self.netns, &near_ends), (&self.outside, &far_ends)] {
            leave_frames_alone(netns, ends)?;
            wait_until_up(netns, ends)?;
        }
        let open = |spec: &HybridSpec| -> Result<HybridPort, Error> {
            let socket = |end| PacketSocket::open(&device(end, &spec.port_id)).map(Capture::new);
            Ok(HybridPort { spec: spec.clone(), vm: socket("vm")?, switch: socket("qvo")? })
        };
        let ports: Vec<HybridPort> =
            self.outside.enter(|| specs.iter().map(open).collect::<Result<_, Error>>())??;
        self.ports.extend(ports);
        Ok(())
    }

    /// Takes a port and its devices away.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn unplug(&mut self, port_id: &str) -> Result<(), Error> {
        let place = self.ports.iter().position(|port| port.spec.port_id == port_id);
        let port = self.ports.remove(place.ok_or_else(|| no_port(port_id))?);
        let devices = [port.tap(), port.qvb(), port.bridge()];
        self.netns.ip(&devices.map(|device| format!("link del {device}")))
    }

    /// Tells the switch, which knows nobody at first, where stations are: a frame to one of them goes to its ports alone. To the others
    /// it is still a hub.
    pub fn know(&mut self, stations: Stations) {
        self.stations = stations;
    }

    /// Lets the VM of a port send a frame as it is, and returns when the host and the switch are done with it.
    ///
    /// # Errors
    /// There is no such port, or the kernel refuses the frame (shorter than its header, longer than a device takes).
    pub fn send_from_vm(&self, port_id: &str, frame: &[u8]) -> Result<(), Error> {
        let port = self.port(port_id)?;
        self.carry(|| port.vm.send(frame))
    }

    /// Lets a frame come in from the network on a VLAN, without its tag.
    ///
    /// # Errors
    /// As [`HybridHost::send_from_vm`].
    pub fn send_from_network(&self, vlan: u16, frame: &[u8]) -> Result<(), Error> {
        self.carry(|| self.hand_over(vlan, frame).try_for_each(|port| port.switch.send(frame)))
    }

    /// What came out since the last call.
    ///
    /// # Errors
    /// A device is gone.
    pub fn take_emerged(&self) -> Result<Emerged, Error> {
        let mut emerged = Emerged::default();
        for port in &self.ports {
            let frames = port.vm.drain()?;
            if !frames.is_empty() {
                emerged.vms.insert(port.spec.port_id.clone(), frames);
            }
        }
        emerged.network = std::mem::take(&mut *self.network.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(emerged)
    }

    /// Sends, and plays the switch until nothing comes out any more.
    fn carry(&self, send: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.quiet.on_one_processor(|| {
            send()?;
            for _ in 0..MOST_ROUNDS {
                self.quiet.wait()?;
                if !self.switch_frames()? {
                    return Ok(());
                }
            }
            let what = format!("silence after {MOST_ROUNDS} rounds through the switch");
            Err(Error::Invalid { what: "host", value: what, reason: "frames go round".to_owned() })
        })?
    }

    /// Hands on what has come out towards the switch; says whether there was anything.
    fn switch_frames(&self) -> Result<bool, Error> {
        let mut any = false;
        for from in &self.ports {
            for frame in from.switch.drain()? {
                any = true;
                let frame = at_access_port(frame);
                let (vlan, own) = (from.spec.tag, from.spec.port_id.as_str());
                for to in self.hand_over(vlan, &frame).filter(|to| to.spec.port_id != own) {
                    to.switch.send(&frame)?;
                }
                if self.known(vlan, &frame).is_none() {
                    self.network.lock().unwrap_or_else(PoisonError::into_inner).push((vlan, frame));
                }
            }
        }
        Ok(any)
    }

    /// The ports that get a frame of a VLAN, its sender's included.
    fn hand_over(&self, vlan: u16, frame: &[u8]) -> impl Iterator<Item = &HybridPort> {
        let known = self.known(vlan, frame);
        let gets = move |port: &&HybridPort| known.is_none_or(|ids| ids.contains(&port.spec.port_id));
        self.ports.iter().filter(move |port| port.spec.tag == vlan).filter(gets)
    }

    /// Where the station is that a frame is for, if the switch knows.
    fn known(&self, vlan: u16, frame: &[u8]) -> Option<&BTreeSet<String>> {
        let destination = frame.first_chunk::<6>()?;
        self.stations.get(&(vlan, Mac(*destination)))
    }
}

/// What a switch makes of a frame at an access port: with VLAN 0 it is of the port's VLAN, and has no tag any more
/// (ovs-vswitchd.conf.db(5), Port, `vlan_mode`: "access").
pub fn at_access_port(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.get(12..16) == Some(&[0x81, 0, 0, 0]) {
        frame.drain(12..16);
    }
    frame
}

fn no_port(port_id: &str) -> Error {
    Error::Invalid {
        what: "port",
        value: port_id.to_owned(),
        reason: "not plugged into this host".to_owned(),
    }
}

/// A device's name: what the kernel does not take in one (`dev_valid_name`, net/core/dev.c) becomes a dash.
fn device(prefix: &str, port_id: &str) -> String {
    let allowed = |c: char| c.is_ascii_graphic() && !['/', ':'].contains(&c);
    let id = port_id.chars().take(ID_CHARACTERS).map(|c| if allowed(c) { c } else { '-' });
    prefix.chars().chain(id).collect()
}

/// The bridge learns nothing and listens to nothing, so that it hands on every frame at once, as os-vif sets it.
fn add_devices(port_id: &str, outside: &str) -> [String; 6] {
    let of = |prefix| device(prefix, port_id);
    let (tap, qbr, qvb) = (of("tap"), of("qbr"), of("qvb"));
    [
        format!("link add {qbr} type bridge forward_delay 0 ageing_time 0 stp_state 0 mcast_snooping 0"),
        format!("link set {qbr} up"),
        format!("link add {tap} type veth peer name {} netns {outside}", of("vm")),
        format!("link add {qvb} type veth peer name {} netns {outside}", of("qvo")),
        format!("link set {tap} master {qbr} up"),
        format!("link set {qvb} master {qbr} up"),
    ]
}

/// No device sums, merges or cuts: what comes out is what went in.
fn leave_frames_alone(netns: &NetNs, devices: &[String]) -> Result<(), Error> {
    let mut ethtool = Command::new("sh");
    let each =
        r#"for device; do ethtool -K "$device" rx off tx off gso off gro off tso off >/dev/null; done"#;
    ethtool.args(["-e", "-c", each, "sh"]).args(devices);
    process::run(ethtool, Some(netns)).map(drop)
}

/// A device sends nothing, and a bridge hands it nothing, until the kernel's worker has taken note that it is connected
/// (`linkwatch_event`, net/core/link_watch.c).
pub(crate) fn wait_until_up(netns: &NetNs, devices: &[String]) -> Result<(), Error> {
    let deadline = Instant::now() + UP_WITHIN;
    loop {
        let mut show = Command::new("ip");
        show.args(["-d", "-j", "link", "show"]);
        let text = process::run(show, Some(netns))?;
        let links: Vec<Value> =
            serde_json::from_str(&text).map_err(std::io::Error::from).tried(|| "read ip -j".to_owned())?;
        let is_up =
            |device: &String| links.iter().any(|link| link["ifname"] == device.as_str() && carries(link));
        if devices.iter().all(is_up) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout { what: format!("{devices:?} up"), after: UP_WITHIN });
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a link, as ip(8) shows it in JSON, carries frames.
fn carries(link: &Value) -> bool {
    let state = &link["linkinfo"]["info_slave_data"]["state"];
    link["operstate"] == "UP" && (state.is_null() || state == "forwarding")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_the_first_eleven_characters_of_its_ports_id() {
        assert_eq!(device("tap", "3f0a5c1e-77d2-4e5b-9c1a-000000000001"), "tap3f0a5c1e-77");
        assert_eq!(device("qvo", "p-1"), "qvop-1");
        assert_eq!(device("qbr", "a/b c:dé"), "qbra-b-c-d-");
    }

    #[test]
    fn a_bridges_port_carries_frames_when_it_forwards() {
        let link = |operstate: &str, state: &str| {
            let slave = serde_json::json!({"state": state});
            serde_json::json!({"operstate": operstate, "linkinfo": {"info_slave_data": slave}})
        };
        assert!(carries(&link("UP", "forwarding")));
        assert!(!carries(&link("UP", "disabled")));
        assert!(!carries(&link("DOWN", "forwarding")));
        assert!(carries(&serde_json::json!({"operstate": "UP", "linkinfo": {"info_kind": "veth"}})));
    }
}
