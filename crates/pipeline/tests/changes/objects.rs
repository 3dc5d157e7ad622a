//! A few objects that overlap in every way, and what may become of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pipeline::{Binding, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::{
    AddressGroup, AddressPair, Direction, Ethertype, GroupId, MacAddr, PolicyDelta, Port, PortId,
    PortProtocol, PortRange, Remote, Rule, SecurityGroup, Service,
};
use proptest::option;
use proptest::prelude::*;

/// What something is, or is to be; none of it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Group(u8, Option<Group>),
    AddressGroup(Option<u8>),
    Port(u8, Option<PortSpec>),
    /// OpenFlow port and VLAN, by number.
    Bind(u8, Option<(u8, u8)>),
    /// A trunk, or an access port.
    NetworkPort(u8, Option<bool>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    pub(crate) stateful: bool,
    /// Rules of the pool, a bit each.
    pub(crate) rules: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortSpec {
    /// A bit each.
    pub(crate) groups: u8,
    pub(crate) address: u8,
    /// Two allowed pairs, a bit each.
    pub(crate) pairs: u8,
    pub(crate) trusted: bool,
}

/// What a change is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Object {
    Group(u8),
    AddressGroup,
    Port(u8),
    Bind(u8),
    NetworkPort(u8),
}

pub(crate) fn change() -> BoxedStrategy<Change> {
    let group = (any::<bool>(), any::<u16>()).prop_map(|(stateful, rules)| Group { stateful, rules });
    let port = (0..8u8, 0..4u8, 0..4u8, prop::bool::weighted(0.1))
        .prop_map(|(groups, address, pairs, trusted)| PortSpec { groups, address, pairs, trusted });
    prop_oneof![
        4 => (0..3u8, option::weighted(0.9, group)).prop_map(|(n, group)| Change::Group(n, group)),
        1 => option::weighted(0.9, 0..16u8).prop_map(Change::AddressGroup),
        4 => (0..4u8, option::weighted(0.9, port)).prop_map(|(n, port)| Change::Port(n, port)),
        3 => (0..4u8, option::weighted(0.8, (0..4u8, 0..2u8))).prop_map(|(n, place)| Change::Bind(n, place)),
        1 => (0..2u8, option::of(any::<bool>())).prop_map(|(n, trunk)| Change::NetworkPort(n, trunk)),
    ]
    .boxed()
}

impl Change {
    pub(crate) fn object(self) -> Object {
        match self {
            Change::Group(n, _) => Object::Group(n),
            Change::AddressGroup(_) => Object::AddressGroup,
            Change::Port(n, _) => Object::Port(n),
            Change::Bind(n, _) => Object::Bind(n),
            Change::NetworkPort(n, _) => Object::NetworkPort(n),
        }
    }

    /// Tells a renderer.
    pub(crate) fn tell(self, renderer: &mut Renderer) {
        let mut delta = PolicyDelta::default();
        match self {
            Change::Group(n, group) => {
                delta.groups.push((group_id(n), group.map(|group| Arc::new(group.group(n)))));
            }
            Change::AddressGroup(mask) => {
                delta.address_groups.push(("ag-0".into(), mask.map(|mask| Arc::new(address_group(mask)))));
            }
            Change::Port(n, port) => {
                delta.ports.push((port_id(n), port.map(|port| Arc::new(port.port(n)))));
            }
            Change::Bind(n, place) => {
                let binding = place.map(|(slot, vlan)| Binding {
                    // Ports may swap their ofports between commits; two never have one at the same commit.
                    ofport: OfPort(u16::from(slot) * 10 + u16::from(n)),
                    vlan: Vlan(u16::from(vlan) * 10),
                    zone: Zone(5000 + u16::from(n)),
                });
                renderer.bind(&port_id(n), binding);
            }
            Change::NetworkPort(n, trunk) => {
                let attachment =
                    trunk.map(|trunk| if trunk { NetworkPort::Trunk } else { NetworkPort::Access(Vlan(10)) });
                renderer.network_port(OfPort(100 + u16::from(n)), attachment);
            }
        }
        renderer.apply_policy(&delta);
    }
}

impl Object {
    /// It is not there.
    fn gone(self) -> Change {
        match self {
            Object::Group(n) => Change::Group(n, None),
            Object::AddressGroup => Change::AddressGroup(None),
            Object::Port(n) => Change::Port(n, None),
            Object::Bind(n) => Change::Bind(n, None),
            Object::NetworkPort(n) => Change::NetworkPort(n, None),
        }
    }
}

/// What everything is, as told so far; what is gone is not there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct State(BTreeMap<Object, Change>);

impl State {
    pub(crate) fn after<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Self {
        let mut state = State::default();
        changes.into_iter().for_each(|change| _ = state.take(*change));
        state
    }

    /// What the object is now. Gives what it was.
    pub(crate) fn take(&mut self, change: Change) -> Change {
        let object = change.object();
        let before =
            if change == object.gone() { self.0.remove(&object) } else { self.0.insert(object, change) };
        before.unwrap_or_else(|| object.gone())
    }

    pub(crate) fn of(&self, object: Object) -> Change {
        self.0.get(&object).copied().unwrap_or_else(|| object.gone())
    }

    /// Everything, at once.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        self.0.values().copied()
    }
}

fn group_id(n: u8) -> GroupId {
    format!("sg-{n}").as_str().into()
}

fn port_id(n: u8) -> PortId {
    format!("p-{n}").as_str().into()
}

/// Sixteen rules that overlap in every way: same match with other remotes, ranges inside ranges, prefixes.
fn rule_pool() -> Vec<Rule> {
    let range = |min, max| Some(PortRange { min, max });
    let tcp = |range| Service::Ports { protocol: PortProtocol::Tcp, range };
    let net = |text: &str| Remote::Prefix(text.parse().unwrap());
    let (v4, v6) = (Ethertype::Ipv4, Ethertype::Ipv6);
    let (i, e) = (Direction::Ingress, Direction::Egress);
    let group = |n| Remote::Group(group_id(n));
    let offices = || Remote::AddressGroup("ag-0".into());
    let ping = Service::Icmp { icmp_type: Some(8), code: None };
    let rows = [
        (e, v4, Service::Any, Remote::Any),
        (e, v6, Service::Any, group(1)),
        (i, v4, Service::Any, group(0)),
        (i, v6, Service::Any, group(0)),
        (i, v4, tcp(range(80, 80)), Remote::Any),
        (i, v4, tcp(range(80, 90)), net("10.0.0.0/8")),
        (i, v4, tcp(range(80, 90)), group(0)),
        (i, v4, tcp(range(80, 90)), group(1)),
        (i, v4, tcp(range(85, 85)), offices()),
        (i, v6, tcp(None), offices()),
        (i, v4, ping, Remote::Any),
        (e, v4, tcp(range(1, 1023)), group(2)),
        (i, v4, Service::Ports { protocol: PortProtocol::Sctp, range: range(7, 7) }, group(2)),
        (i, v4, Service::Protocol(47), net("192.0.2.0/24")),
        (i, v4, Service::Ports { protocol: PortProtocol::Dccp, range: range(5, 5) }, Remote::Any),
        (e, v4, Service::Any, net("10.1.0.0/16")),
    ];
    let rules = rows.into_iter().enumerate().map(|(n, (direction, ethertype, service, remote))| Rule {
        id: format!("r{n:02}").as_str().into(),
        direction,
        ethertype,
        service,
        remote,
    });
    rules.collect()
}

impl Group {
    fn group(self, n: u8) -> SecurityGroup {
        let rules = rule_pool().into_iter().enumerate().filter(|(r, _)| self.rules & (1 << r) != 0);
        let rules = rules.map(|(_, mut rule)| {
            // Rule ids are unique among all groups.
            rule.id = format!("{}-{n}", rule.id).as_str().into();
            rule
        });
        let (id, name) = (group_id(n), String::new());
        SecurityGroup { id, name, stateful: self.stateful, rules: rules.collect() }
    }
}

fn address_group(mask: u8) -> AddressGroup {
    let nets = ["192.0.2.0/24", "192.0.2.7/32", "2001:db8:1::/48", "10.0.0.1/32"];
    let nets = nets.iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0);
    let addresses = nets.map(|(_, net)| net.parse().unwrap()).collect();
    AddressGroup { id: "ag-0".into(), name: String::new(), addresses }
}

impl PortSpec {
    fn port(self, n: u8) -> Port {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.address));
        let ip6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(self.address)));
        let mut pairs = BTreeSet::new();
        if self.pairs & 1 != 0 {
            pairs.insert(AddressPair { ip: "0.0.0.0/0".parse().unwrap(), mac: None });
        }
        if self.pairs & 2 != 0 {
            let mac = Some(MacAddr([2, 0, 0, 0, 0, 99]));
            pairs.insert(AddressPair { ip: "10.0.0.100/32".parse().unwrap(), mac });
        }
        Port {
            id: port_id(n),
            network_id: "net".into(),
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            fixed_ips: [ip, ip6].into(),
            allowed_address_pairs: pairs,
            security_groups: (0..3).filter(|g| self.groups & (1 << g) != 0).map(group_id).collect(),
            port_security_enabled: !self.trusted,
            device_owner: "compute:nova".into(),
            host: None,
        }
    }
}
