//! Random policies over few addresses, ports and groups, so that everything overlaps.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use policy::{
    AddressGroup, AddressPair, Direction, Ethertype, MacAddr, Policy, Port, PortId, PortProtocol, PortRange,
    Remote, Rule, SecurityGroup, Service,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Ports 0 to 4 are local, the rest are members on other hosts.
pub(crate) const LOCAL_PORTS: usize = 5;
pub(crate) const PORTS: usize = 7;
pub(crate) const GROUPS: usize = 4;
pub(crate) const ADDRESS_GROUPS: usize = 2;

/// Ethertypes that may be permitted.
pub(crate) const ETHERTYPES: [u16; 2] = [0x88cc, 0x88f7];

/// A policy as it is generated: objects by number.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) groups: Vec<Group>,
    pub(crate) address_groups: Vec<BTreeSet<IpNet>>,
    /// None is a port without a policy.
    pub(crate) ports: Vec<Option<PortSpec>>,
    pub(crate) permitted_ethertypes: BTreeSet<u16>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) stateful: bool,
    pub(crate) rules: Vec<RuleSpec>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleSpec {
    pub(crate) direction: Direction,
    pub(crate) ethertype: Ethertype,
    pub(crate) service: Service,
    pub(crate) remote: RemoteSpec,
}

#[derive(Clone, Debug)]
pub(crate) enum RemoteSpec {
    Any,
    Prefix(u8),
    /// One beyond the last is a group that no document defines.
    Group(usize),
    AddressGroup(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct PortSpec {
    pub(crate) fixed: BTreeSet<usize>,
    pub(crate) pairs: BTreeSet<AddressPair>,
    pub(crate) groups: BTreeSet<usize>,
    pub(crate) trusted: bool,
}

/// One object becomes another.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Group(usize, Group),
    AddressGroup(usize, BTreeSet<IpNet>),
    Port(usize, Option<PortSpec>),
    /// A port gets the groups of another.
    Regroup(usize, BTreeSet<usize>),
    AddRule(usize, RuleSpec),
    /// A group loses one of its rules.
    RemoveRule(usize, prop::sample::Index),
}

pub(crate) fn mac_of(port: usize) -> MacAddr {
    MacAddr([0xfa, 0x16, 0x3e, 0, 0, u8::try_from(port + 1).unwrap()])
}

pub(crate) fn port_id(port: usize) -> PortId {
    format!("p{port}").as_str().into()
}

/// Ports 3, 4 and 6 are on the second network.
pub(crate) fn network_of(port: usize) -> usize {
    usize::from(matches!(port, 3 | 4 | 6))
}

pub(crate) fn v4(n: usize) -> IpAddr {
    format!("10.0.0.{}", n + 1).parse().unwrap()
}

pub(crate) fn v6(n: usize) -> IpAddr {
    format!("2001:db8::{}", n + 1).parse().unwrap()
}

/// A MAC that allowed pairs share.
pub(crate) const SHARED_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);

pub(crate) fn prefixes(ethertype: Ethertype) -> &'static [&'static str] {
    match ethertype {
        Ethertype::Ipv4 => &[
            "10.0.0.2/32",
            "10.0.0.0/30",
            "10.0.0.0/24",
            "0.0.0.0/0",
            "8.0.0.0/5",
            "203.0.113.9/32",
            "10.0.0.0/8",
        ],
        Ethertype::Ipv6 => &[
            "2001:db8::2/128",
            "2001:db8::/126",
            "2001:db8::/64",
            "::/0",
            "2000::/3",
            "2001:db8:9::9/128",
            "fe80::/16",
        ],
    }
}

fn any_prefix() -> BoxedStrategy<IpNet> {
    (any::<bool>(), 0..7usize)
        .prop_map(|(is_v4, n)| {
            let family = if is_v4 { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
            prefixes(family)[n].parse().unwrap()
        })
        .boxed()
}

fn service() -> BoxedStrategy<Service> {
    let protocols = vec![PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp];
    let ranges =
        select(vec![(80, 80), (0, 1023), (0, 65535), (80, 443), (1024, 65535), (67, 68), (547, 547)])
            .prop_map(|(min, max)| PortRange { min, max });
    let icmp_type = select(vec![0u8, 3, 8, 1, 128, 129, 133, 134, 135, 42]);
    prop_oneof![
        6 => Just(Service::Any),
        6 => (select(protocols), option::weighted(0.8, ranges))
            .prop_map(|(protocol, range)| Service::Ports { protocol, range }),
        2 => select(vec![PortProtocol::Dccp, PortProtocol::UdpLite])
            .prop_map(|protocol| Service::Ports { protocol, range: None }),
        3 => option::of((icmp_type, option::of(0..3u8))).prop_map(|icmp| Service::Icmp {
            icmp_type: icmp.map(|(icmp_type, _)| icmp_type),
            code: icmp.and_then(|(_, code)| code),
        }),
        1 => select(vec![47u8, 50, 112]).prop_map(Service::Protocol),
    ]
    .boxed()
}

pub(crate) fn rule() -> BoxedStrategy<RuleSpec> {
    let direction = select(vec![Direction::Ingress, Direction::Egress]);
    let ethertype = prop_oneof![3 => Just(Ethertype::Ipv4), 2 => Just(Ethertype::Ipv6)];
    let remote = prop_oneof![
        5 => Just(RemoteSpec::Any),
        3 => (0..7u8).prop_map(RemoteSpec::Prefix),
        4 => (0..=GROUPS).prop_map(RemoteSpec::Group),
        2 => (0..ADDRESS_GROUPS).prop_map(RemoteSpec::AddressGroup),
    ];
    (direction, ethertype, service(), remote)
        .prop_map(|(direction, ethertype, service, remote)| RuleSpec {
            direction,
            ethertype,
            service,
            remote,
        })
        .boxed()
}

fn group() -> BoxedStrategy<Group> {
    (prop::bool::weighted(0.75), vec(rule(), 1..7))
        .prop_map(|(stateful, rules)| Group { stateful, rules })
        .boxed()
}

fn pair() -> BoxedStrategy<AddressPair> {
    let macs: Vec<Option<MacAddr>> = vec![None, Some(SHARED_MAC), Some(mac_of(1)), Some(mac_of(3))];
    (any_prefix(), select(macs)).prop_map(|(ip, mac)| AddressPair { ip, mac }).boxed()
}

fn groups_of_port() -> BoxedStrategy<BTreeSet<usize>> {
    prop_oneof![1 => Just(BTreeSet::new()), 9 => btree_set(0..GROUPS, 1..4)].boxed()
}

fn port(number: usize) -> BoxedStrategy<PortSpec> {
    let fixed = prop_oneof![6 => Just(BTreeSet::from([number])), 1 => btree_set(0..PORTS, 0..3)];
    let pairs = prop_oneof![3 => Just(BTreeSet::new()), 2 => btree_set(pair(), 1..3)];
    (fixed, pairs, groups_of_port(), prop::bool::weighted(0.1))
        .prop_map(|(fixed, pairs, groups, trusted)| PortSpec { fixed, pairs, groups, trusted })
        .boxed()
}

fn some_port(number: usize) -> BoxedStrategy<Option<PortSpec>> {
    option::weighted(0.95, port(number)).boxed()
}

fn addresses() -> BoxedStrategy<BTreeSet<IpNet>> {
    btree_set(any_prefix(), 0..4).boxed()
}

pub(crate) fn world() -> BoxedStrategy<World> {
    let ports = (0..PORTS).map(some_port).collect::<Vec<_>>();
    (
        vec(group(), GROUPS),
        vec(addresses(), ADDRESS_GROUPS),
        ports,
        btree_set(select(ETHERTYPES.to_vec()), 0..2),
    )
        .prop_map(|(groups, address_groups, ports, permitted_ethertypes)| World {
            groups,
            address_groups,
            ports,
            permitted_ethertypes,
        })
        .boxed()
}

pub(crate) fn edit() -> BoxedStrategy<Edit> {
    prop_oneof![
        1 => (0..GROUPS, group()).prop_map(|(n, group)| Edit::Group(n, group)),
        2 => (0..ADDRESS_GROUPS, addresses()).prop_map(|(n, addresses)| Edit::AddressGroup(n, addresses)),
        2 => (0..PORTS).prop_flat_map(|n| some_port(n).prop_map(move |port| Edit::Port(n, port))),
        2 => (0..PORTS, groups_of_port()).prop_map(|(n, groups)| Edit::Regroup(n, groups)),
        3 => (0..GROUPS, rule()).prop_map(|(n, rule)| Edit::AddRule(n, rule)),
        4 => (0..GROUPS, any::<prop::sample::Index>()).prop_map(|(n, which)| Edit::RemoveRule(n, which)),
    ]
    .boxed()
}

impl World {
    pub(crate) fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Group(n, group) => self.groups[*n] = group.clone(),
            Edit::AddressGroup(n, addresses) => self.address_groups[*n] = addresses.clone(),
            Edit::Port(n, port) => self.ports[*n] = port.clone(),
            Edit::Regroup(n, groups) => {
                if let Some(port) = &mut self.ports[*n] {
                    port.groups = groups.clone();
                }
            }
            Edit::AddRule(n, rule) => self.groups[*n].rules.push(rule.clone()),
            Edit::RemoveRule(n, which) => {
                let rules = &mut self.groups[*n].rules;
                if !rules.is_empty() {
                    rules.remove(which.index(rules.len()));
                }
            }
        }
    }

    /// The MACs that a port answers to.
    pub(crate) fn macs(&self, port: usize) -> BTreeSet<MacAddr> {
        let pairs = self.ports[port].iter().flat_map(|port| &port.pairs);
        pairs.filter_map(|pair| pair.mac).chain([mac_of(port)]).collect()
    }

    pub(crate) fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        for (n, group) in self.groups.iter().enumerate() {
            let rules = group.rules.iter().enumerate();
            let rules = rules.map(|(r, rule)| rule.rule(&format!("r{n}.{r:03}"))).collect();
            let id = group_id(n);
            let group =
                SecurityGroup { id: id.clone(), name: String::new(), stateful: group.stateful, rules };
            policy.groups.insert(id, Arc::new(group));
        }
        for (n, addresses) in self.address_groups.iter().enumerate() {
            let id = address_group_id(n);
            let group = AddressGroup { id: id.clone(), name: String::new(), addresses: addresses.clone() };
            policy.address_groups.insert(id, Arc::new(group));
        }
        for (n, port) in self.ports.iter().enumerate() {
            if let Some(port) = port {
                policy.ports.insert(port_id(n), Arc::new(port.port(n)));
            }
        }
        policy
    }
}

fn group_id(n: usize) -> policy::GroupId {
    format!("g{n}").as_str().into()
}

fn address_group_id(n: usize) -> policy::AddressGroupId {
    format!("a{n}").as_str().into()
}

impl RuleSpec {
    fn rule(&self, id: &str) -> Rule {
        let remote = match self.remote {
            RemoteSpec::Any => Remote::Any,
            RemoteSpec::Prefix(n) => {
                Remote::Prefix(prefixes(self.ethertype)[usize::from(n)].parse().unwrap())
            }
            RemoteSpec::Group(n) => Remote::Group(group_id(n)),
            RemoteSpec::AddressGroup(n) => Remote::AddressGroup(address_group_id(n)),
        };
        Rule {
            id: id.into(),
            direction: self.direction,
            ethertype: self.ethertype,
            service: self.service,
            remote,
        }
    }
}

impl PortSpec {
    fn port(&self, number: usize) -> Port {
        Port {
            id: port_id(number),
            network_id: format!("n{}", network_of(number)).as_str().into(),
            mac: mac_of(number),
            fixed_ips: self.fixed.iter().flat_map(|n| [v4(*n), v6(*n)]).collect(),
            allowed_address_pairs: self.pairs.clone(),
            security_groups: self.groups.iter().map(|n| group_id(*n)).collect(),
            port_security_enabled: !self.trusted,
            device_owner: "compute:nova".to_owned(),
            host: None,
        }
    }
}
