//! One small world, as numbers and as a policy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use policy::{
    AddressGroup, Direction, Ethertype, GroupId, MacAddr, Policy, Port, PortId, PortProtocol, PortRange,
    Remote, Rule, SecurityGroup, Service,
};

/// Ports, of which the first [`LOCAL`] are on this host.
pub const PORTS: usize = 3;
/// See [`PORTS`].
pub const LOCAL: usize = 2;
/// The VLAN of the one network.
pub const VLAN: u16 = 10;

/// The groups' ids, in order.
const GROUPS: [&str; 2] = ["a", "b"];
const ADDRESS_GROUP: &str = "g";

/// The services of the palette.
pub(super) const SERVICES: [Service; 4] = [
    Service::Any,
    Service::Ports { protocol: PortProtocol::Tcp, range: Some(PortRange { min: 80, max: 81 }) },
    Service::Ports { protocol: PortProtocol::Tcp, range: Some(PortRange { min: 81, max: 82 }) },
    Service::Icmp { icmp_type: None, code: None },
];

/// Who the other end of a rule may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RemoteSpec {
    /// Everybody.
    Any,
    /// [`wide`].
    Wide,
    /// [`narrow`], inside it.
    Narrow,
    /// The group in which the rule stands.
    Own,
    /// The other group.
    Other,
    /// [`addresses`].
    Addresses,
}

const REMOTES: [RemoteSpec; 6] = [
    RemoteSpec::Any,
    RemoteSpec::Wide,
    RemoteSpec::Narrow,
    RemoteSpec::Own,
    RemoteSpec::Other,
    RemoteSpec::Addresses,
];

/// A rule that a group may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleSpec {
    /// Its direction.
    pub direction: Direction,
    /// Its ethertype.
    pub ethertype: Ethertype,
    /// Its service.
    pub service: Service,
    /// Its remote.
    pub remote: RemoteSpec,
}

/// A group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupSpec {
    /// Its rules by their places in the palette, rising.
    pub rules: Vec<usize>,
    /// Whether it is not stateful.
    pub stateless: bool,
}

/// A policy: the groups, and for each port the groups that it carries, A the first bit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct World {
    /// A and B.
    pub groups: [GroupSpec; 2],
    /// By port.
    pub carried: [u8; PORTS],
}

static PALETTE: LazyLock<Vec<RuleSpec>> = LazyLock::new(|| {
    let mut rules = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
            for service in SERVICES {
                let rule = |remote| RuleSpec { direction, ethertype, service, remote };
                rules.extend(REMOTES.map(rule));
            }
        }
    }
    rules
});

/// Every rule that a group may hold.
pub fn palette() -> &'static [RuleSpec] {
    &PALETTE
}

/// The wide prefix.
pub(super) fn wide(ethertype: Ethertype) -> &'static str {
    match ethertype {
        Ethertype::Ipv4 => "10.0.0.0/8",
        Ethertype::Ipv6 => "2001:db8::/32",
    }
}

/// The narrow prefix.
pub(super) fn narrow(ethertype: Ethertype) -> &'static str {
    match ethertype {
        Ethertype::Ipv4 => "10.0.1.0/24",
        Ethertype::Ipv6 => "2001:db8:0:1::/64",
    }
}

/// The address group: a prefix, and inside it the address of the first port.
pub(super) fn addresses(ethertype: Ethertype) -> [&'static str; 2] {
    match ethertype {
        Ethertype::Ipv4 => ["10.0.0.0/16", "10.0.1.1/32"],
        Ethertype::Ipv6 => ["2001:db8::/48", "2001:db8:0:1::1/128"],
    }
}

/// The address of a port.
pub fn address_of(port: usize, ethertype: Ethertype) -> IpAddr {
    let of_ports = match ethertype {
        Ethertype::Ipv4 => ["10.0.1.1", "10.8.0.1", "10.0.2.1"],
        Ethertype::Ipv6 => ["2001:db8:0:1::1", "2001:db8:8::1", "2001:db8:0:2::1"],
    };
    of_ports[port].parse().expect("an address")
}

/// The MAC of a port.
pub fn mac_of(port: usize) -> MacAddr {
    MacAddr([0xfa, 0x16, 0x3e, 0, 0, u8::try_from(port + 1).expect("few ports")])
}

/// The id of a port.
pub fn port_id(port: usize) -> PortId {
    format!("p{port}").as_str().into()
}

impl World {
    /// The world with A and B exchanged everywhere.
    pub fn exchanged(&self) -> World {
        let [a, b] = self.groups.clone();
        World { groups: [b, a], carried: self.carried.map(|bits| (bits >> 1) | ((bits & 1) << 1)) }
    }

    /// Each rule of the policy with the number of its group.
    pub(super) fn rules(&self) -> Vec<(usize, RuleSpec)> {
        let palette = palette();
        let of_group = |group: usize| self.groups[group].rules.iter().map(move |rule| (group, *rule));
        (0..GROUPS.len()).flat_map(of_group).map(|(group, rule)| (group, palette[rule])).collect()
    }

    /// Whether a port carries a group.
    pub(super) fn carries(&self, port: usize, group: usize) -> bool {
        self.carried[port] & (1 << group) != 0
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        let palette = palette();
        let mut policy = Policy::default();
        for (n, group) in self.groups.iter().enumerate() {
            let rules = group.rules.iter().enumerate().map(|(r, rule)| palette[*rule].rule(n, r));
            let id = group_id(n);
            let (name, stateful) = (String::new(), !group.stateless);
            let group = SecurityGroup { id: id.clone(), name, stateful, rules: rules.collect() };
            policy.groups.insert(id, Arc::new(group));
        }
        let nets = [Ethertype::Ipv4, Ethertype::Ipv6].into_iter().flat_map(addresses);
        let addresses: BTreeSet<_> = nets.map(|net| net.parse().expect("a prefix")).collect();
        let group = AddressGroup { id: ADDRESS_GROUP.into(), name: String::new(), addresses };
        policy.address_groups.insert(ADDRESS_GROUP.into(), Arc::new(group));
        for port in 0..PORTS {
            policy.ports.insert(port_id(port), Arc::new(self.port(port)));
        }
        policy
    }

    fn port(&self, port: usize) -> Port {
        Port {
            id: port_id(port),
            network_id: "n".into(),
            mac: mac_of(port),
            fixed_ips: [Ethertype::Ipv4, Ethertype::Ipv6].map(|family| address_of(port, family)).into(),
            allowed_address_pairs: BTreeSet::new(),
            security_groups: (0..GROUPS.len())
                .filter(|group| self.carries(port, *group))
                .map(group_id)
                .collect(),
            port_security_enabled: true,
            device_owner: "compute:nova".to_owned(),
            host: None,
        }
    }
}

impl RuleSpec {
    fn rule(&self, group: usize, number: usize) -> Rule {
        let prefix = |text: &str| Remote::Prefix(text.parse().expect("a prefix"));
        let remote = match self.remote {
            RemoteSpec::Any => Remote::Any,
            RemoteSpec::Wide => prefix(wide(self.ethertype)),
            RemoteSpec::Narrow => prefix(narrow(self.ethertype)),
            RemoteSpec::Own => Remote::Group(group_id(group)),
            RemoteSpec::Other => Remote::Group(group_id(1 - group)),
            RemoteSpec::Addresses => Remote::AddressGroup(ADDRESS_GROUP.into()),
        };
        Rule {
            id: format!("{}{number}", GROUPS[group]).as_str().into(),
            direction: self.direction,
            ethertype: self.ethertype,
            service: self.service,
            remote,
        }
    }
}

fn group_id(group: usize) -> GroupId {
    GROUPS[group].into()
}
