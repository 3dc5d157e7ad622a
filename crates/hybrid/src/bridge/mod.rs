//! The bridge family's table, for both drivers: what no other table sees, or sees too late. ARP and other ethertypes never come to the tables of
//! IP; fragments come there as one packet; and only here a frame shows its hardware addresses and its port.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::{IpNet, Ipv6Net};
use policy::{Direction, MacAddr, Port};

use crate::device::Devices;
use crate::drops;
use crate::mark;

/// The table without its ports but for the chains that drop.
const RULESET: &str = include_str!("bridge.nft");

/// The table without its ports, in the words of nft(8): `table bridge sgflow`.
pub fn ruleset() -> String {
    format!("{}\n{RULESET}", drops::chains(Family::Bridge))
}

/// One element of a set or map of a table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Element {
    /// In the table of which family.
    pub family: Family,
    /// Which set or map.
    pub set: &'static str,
    /// What is looked for.
    pub key: Vec<Key>,
    /// What is found, in a map.
    pub data: Option<Data>,
}

/// Family of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// Frames, at bridges.
    Bridge,
    /// Packets of IP.
    Inet,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Bridge => "bridge",
            Family::Inet => "inet",
        })
    }
}

/// A part of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// Name of a device.
    Device(String),
    /// Hardware address.
    Mac(MacAddr),
    /// Addresses; one in a set of single ones.
    Net(IpNet),
    /// The same of IPv6 as a number, of which nft does not know what it is.
    Bits(Ipv6Net),
    /// Ethertype.
    Ethertype(u16),
    /// A frame's mark.
    Mark(u32),
}

/// What a map says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Data {
    /// The frame's mark.
    Mark(u32),
    /// The zone of connections.
    Zone(u16),
    /// Go on in a chain.
    Goto(&'static str),
    /// Go on in a chain, and then behind.
    Jump(String),
}

impl fmt::Display for Element {
    /// As nft(8) has it between braces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.key.iter().enumerate() {
            let and = if at == 0 { "" } else { " . " };
            match part {
                Key::Device(name) => write!(f, "{and}\"{name}\"")?,
                Key::Mac(mac) => write!(f, "{and}{mac}")?,
                Key::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                    write!(f, "{and}{}", net.addr())?
                }
                Key::Net(net) => write!(f, "{and}{net}")?,
                Key::Bits(net) if net.prefix_len() == 128 => write!(f, "{and}{:#x}", net.addr().to_bits())?,
                Key::Bits(net) => {
                    write!(f, "{and}{:#x}-{:#x}", net.network().to_bits(), net.broadcast().to_bits())?;
                }
                Key::Ethertype(number) => write!(f, "{and}{number:#06x}")?,
                Key::Mark(mark) => write!(f, "{and}{mark:#010x}")?,
            }
        }
        match &self.data {
            None => Ok(()),
            Some(Data::Mark(mark)) => write!(f, " : {mark:#010x}"),
            Some(Data::Zone(zone)) => write!(f, " : {zone}"),
            Some(Data::Goto(chain)) => write!(f, " : goto {chain}"),
            Some(Data::Jump(chain)) => write!(f, " : jump {chain}"),
        }
    }
}

/// The elements for ethertypes that filtered ports may send and receive besides ARP, RARP and IP.
pub fn permitted(ethertypes: &BTreeSet<u16>) -> impl Iterator<Item = Element> {
    let element = |ethertype: &u16| Element {
        family: Family::Bridge,
        set: "ethertypes",
        key: vec![Key::Ethertype(*ethertype)],
        data: None,
    };
    ethertypes.iter().map(element)
}

/// What gives the connections of a port their zone.
pub(crate) fn zone_element(zone: u16) -> Element {
    let key = vec![Key::Mark(mark::SIGNATURE | u32::from(zone))];
    Element { family: Family::Inet, set: "zones", key, data: Some(Data::Zone(zone)) }
}

/// What a port is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing<'p> {
    /// Nothing passes.
    Closed,
    /// Everything passes.
    Trusted,
    /// What the law says passes.
    Filtered { port: &'p Port, zone: u16, is_tracked: bool },
}

/// Everything the table holds of a port.
pub(crate) fn elements(devices: &Devices, standing: Standing<'_>) -> BTreeSet<Element> {
    let (tap, inner) = (devices.tap(), devices.inner());
    let mut elements = BTreeSet::new();
    let mut add =
        |set, key: Vec<Key>, data| _ = elements.insert(Element { family: Family::Bridge, set, key, data });
    for device in [&tap, &inner] {
        add("plugs", vec![Key::Device(device.clone())], None);
    }
    let (from, to) = match standing {
        Standing::Closed => (Data::Goto("drop-no-policy"), Data::Goto("drop-no-policy")),
        Standing::Trusted => (Data::Goto("trusted"), Data::Goto("trusted")),
        Standing::Filtered { .. } => (Data::Goto("from-port"), Data::Goto("to-port")),
    };
    add("ports", vec![Key::Device(tap.clone())], Some(from));
    add("ports", vec![Key::Device(inner.clone())], Some(to));
    let Standing::Filtered { port, zone, is_tracked } = standing else { return elements };
    for (device, direction) in [(&tap, Direction::Egress), (&inner, Direction::Ingress)] {
        let alone = if is_tracked { 0 } else { mark::ALONE };
        let mark = mark::of(zone, direction) | alone;
        add("marks", vec![Key::Device(device.clone())], Some(Data::Mark(mark)));
        for mac in macs(port) {
            add("macs", vec![Key::Device(device.clone()), Key::Mac(mac)], None);
        }
    }
    let mut add =
        |set, key: Vec<Key>, data| _ = elements.insert(Element { family: Family::Bridge, set, key, data });
    for mac in macs(port) {
        add("twins", vec![Key::Device(tap.clone()), Key::Mac(mac), Key::Mac(mac)], None);
    }
    for (mac, net) in pairs(port) {
        let is_one = net.prefix_len() == net.max_prefix_len();
        let set = match (net, is_one) {
            (IpNet::V4(_), true) => "pairs4",
            (IpNet::V4(_), false) => "wide4",
            (IpNet::V6(_), true) => "pairs6",
            (IpNet::V6(_), false) => "wide6",
        };
        add(set, vec![Key::Device(tap.clone()), Key::Mac(mac), Key::Net(net)], None);
        if let IpNet::V6(net) = net {
            let set = if is_one { "targets" } else { "wide-targets" };
            add(set, vec![Key::Device(tap.clone()), Key::Mac(mac), Key::Bits(net)], None);
        }
    }
    elements
}

/// "A port's MACs are mac_address and every pair's MAC."
fn macs(port: &Port) -> BTreeSet<MacAddr> {
    let others = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
    others.chain([port.mac]).collect()
}

/// "A *pair* is (MAC, IP prefix): (mac_address, each fixed IP), each allowed address pair, and for IPv6 also each MAC's EUI-64 link-local
/// address." Of what overlaps the widest stands for all: a set of intervals holds no element twice.
fn pairs(port: &Port) -> BTreeSet<(MacAddr, IpNet)> {
    let own = port.fixed_ips.iter().map(|ip| (port.mac, IpNet::from(*ip)));
    let allowed = port.allowed_address_pairs.iter().map(|pair| (pair.mac.unwrap_or(port.mac), pair.ip));
    let link_local =
        macs(port).into_iter().map(|mac| (mac, IpNet::from(std::net::IpAddr::V6(mac.link_local()))));
    let all: BTreeSet<(MacAddr, IpNet)> = own.chain(allowed).chain(link_local).collect();
    let is_within = |(mac, net): &(MacAddr, IpNet)| {
        all.iter().any(|(other_mac, other)| mac == other_mac && net != other && other.contains(net))
    };
    all.iter().filter(|pair| !is_within(pair)).copied().collect()
}
