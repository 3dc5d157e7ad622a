//! What is measured: a host's ports, the members of their groups, and the rules between them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use policy::{
    Direction, Ethertype, GroupId, MacAddr, Policy, Port, PortId, PortProtocol, PortRange, Remote, Rule,
    SecurityGroup, Service,
};

/// The group that all ports of a default scenario are in, and that more members and rules come to in any.
const FIRST_GROUP: usize = 0;
/// Groups of a rich scenario; a port is in [`GROUPS_OF_A_PORT`] of them.
const RICH_GROUPS: usize = 10;
const GROUPS_OF_A_PORT: usize = 5;
const RULES_OF_A_GROUP: u16 = 20;
/// Rules of the one group of an overlap scenario.
const OVERLAPPING_RULES: u16 = 1000;
/// Groups of a groups scenario.
const MANY_GROUPS: usize = 2000;
/// The group that any port can join, and the rule that the first group can have besides.
const EXTRA: &str = "extra";
const ONE_MORE: &str = "one-more";

/// Which rules there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// One group as Neutron makes it: to anybody, from its members.
    Default,
    /// Ten groups of twenty rules with ranges, prefixes and remote groups; each port is in five of them.
    Rich,
    /// One group of a thousand rules for ranges that overlap, from anybody, from its members and from prefixes.
    Overlap,
    /// Two thousand groups as Neutron makes them; each port is in two of them.
    Groups,
}

impl Shape {
    const ALL: [Shape; 4] = [Shape::Default, Shape::Rich, Shape::Overlap, Shape::Groups];

    fn name(self) -> &'static str {
        match self {
            Shape::Default => "default",
            Shape::Rich => "rich",
            Shape::Overlap => "overlap",
            Shape::Groups => "groups",
        }
    }
}

/// What a step does to a policy, and what undoes it, by name.
pub(crate) type Change = ([&'static str; 2], fn(&Scenario, &mut Policy));

/// Changes of the policy that are measured there and back.
pub(crate) const CHANGES: [Change; 3] = [
    (["+1 member", "-1 member"], |scenario, policy| scenario.add_port(policy, scenario.members)),
    (["+1 rule", "-1 rule"], |_, policy| Scenario::toggle_rule(policy)),
    (["a port joins a group", "and leaves it"], |_, policy| Scenario::change_groups(policy, 0)),
];

/// The members but the local ports, all at once.
pub(crate) const MANY_MEMBERS: Change =
    (["all others leave", "and come, in one delta"], |scenario, policy| scenario.leave_only_local(policy));

/// A shape, so many local ports, and so many members in all, each with an IPv4 and an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scenario {
    pub(crate) shape: Shape,
    pub(crate) ports: u16,
    pub(crate) members: u32,
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.shape.name(), self.ports, self.members)
    }
}

impl std::str::FromStr for Scenario {
    type Err = anyhow::Error;

    /// `SHAPE-PORTS-MEMBERS`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = text.split('-').collect();
        let [shape, ports, members] = words[..] else { bail!("not SHAPE-PORTS-MEMBERS: {text}") };
        let Some(shape) = Shape::ALL.into_iter().find(|known| known.name() == shape) else {
            bail!("no shape {shape:?}; there are {}", Shape::ALL.map(Shape::name).join(", "));
        };
        let (ports, members) =
            (ports.parse().context("how many ports")?, members.parse().context("how many members")?);
        if u32::from(ports) > members {
            bail!("{ports} ports are more than {members} members");
        }
        Ok(Scenario { shape, ports, members })
    }
}

impl Scenario {
    /// Those that anchors were measured with.
    pub(crate) fn all() -> Vec<Scenario> {
        let default = [(10, 500), (100, 500), (500, 500), (100, 2000), (500, 10_000)];
        let default = default.map(|(ports, members)| Scenario { shape: Shape::Default, ports, members });
        let rich = Scenario { shape: Shape::Rich, ports: 100, members: 500 };
        default.into_iter().chain([rich]).collect()
    }

    /// What large clouds and odd ones ask of a host.
    pub(crate) fn big() -> Vec<Scenario> {
        let big = [
            (Shape::Default, 1000, 1000),
            (Shape::Default, 100, 100_000),
            (Shape::Overlap, 400, 1000),
            (Shape::Groups, 1000, 10_000),
        ];
        big.map(|(shape, ports, members)| Scenario { shape, ports, members }).into()
    }

    /// The policy, with a group without members that any port can join; ports 0 to `ports` are local.
    pub(crate) fn policy(&self) -> Policy {
        let mut groups = match self.shape {
            Shape::Default => vec![default_group(FIRST_GROUP)],
            Shape::Rich => (0..RICH_GROUPS).map(rich_group).collect(),
            Shape::Overlap => vec![overlap_group()],
            Shape::Groups => (0..MANY_GROUPS).map(default_group).collect(),
        };
        groups.push(extra_group());
        let mut policy = Policy {
            groups: groups.into_iter().map(|group| (group.id.clone(), Arc::new(group))).collect(),
            ..Policy::default()
        };
        for number in 0..self.members {
            self.add_port(&mut policy, number);
        }
        policy
    }

    /// Member `number` joins.
    pub(crate) fn add_port(&self, policy: &mut Policy, number: u32) {
        let port = port(number, self.groups_of(number));
        policy.ports.insert(port.id.clone(), Arc::new(port));
    }

    /// Only the local ports are left.
    pub(crate) fn leave_only_local(&self, policy: &mut Policy) {
        policy.ports = (0..u32::from(self.ports))
            .filter_map(|number| policy.ports.remove_entry(&port_id(number)))
            .collect();
    }

    /// The port leaves the group that any port can join, or joins it.
    pub(crate) fn change_groups(policy: &mut Policy, number: u32) {
        if let Some(held) = policy.ports.get_mut(&port_id(number)) {
            let mut port = Port::clone(held);
            let extra = GroupId::from(EXTRA);
            if !port.security_groups.remove(&extra) {
                port.security_groups.insert(extra);
            }
            *held = Arc::new(port);
        }
    }

    /// One more rule in the first group, or one less if it is there.
    pub(crate) fn toggle_rule(policy: &mut Policy) {
        if let Some(held) = policy.groups.get_mut(&group_id(FIRST_GROUP)) {
            let mut group = SecurityGroup::clone(held);
            let count = group.rules.len();
            group.rules.retain(|rule| rule.id.as_str() != ONE_MORE);
            if group.rules.len() == count {
                let service = tcp(443, 443);
                group.rules.push(rule(ONE_MORE, Direction::Ingress, Ethertype::Ipv4, service, Remote::Any));
                group.rules.sort_by(|one, other| one.id.cmp(&other.id));
            }
            *held = Arc::new(group);
        }
    }

    fn groups_of(&self, number: u32) -> BTreeSet<GroupId> {
        let number = usize::try_from(number).unwrap_or(0);
        match self.shape {
            Shape::Default | Shape::Overlap => [group_id(FIRST_GROUP)].into(),
            Shape::Rich => {
                let first = number % RICH_GROUPS;
                (first..first + GROUPS_OF_A_PORT).map(|group| group_id(group % RICH_GROUPS)).collect()
            }
            Shape::Groups => {
                [number, number + MANY_GROUPS / 2].map(|group| group_id(group % MANY_GROUPS)).into()
            }
        }
    }
}

fn default_group(number: usize) -> SecurityGroup {
    let id = group_id(number);
    let members = || Remote::Group(id.clone());
    let rules = [
        rule("e4", Direction::Egress, Ethertype::Ipv4, Service::Any, Remote::Any),
        rule("e6", Direction::Egress, Ethertype::Ipv6, Service::Any, Remote::Any),
        rule("i4", Direction::Ingress, Ethertype::Ipv4, Service::Any, members()),
        rule("i6", Direction::Ingress, Ethertype::Ipv6, Service::Any, members()),
    ];
    group(&id.to_string(), rules.into())
}

/// Rules of all kinds in turn: to anybody, ranges from members, ranges from prefixes, of both families.
fn rich_group(number: usize) -> SecurityGroup {
    let id = group_id(number);
    let mut rules: Vec<Rule> = (0..RULES_OF_A_GROUP)
        .map(|turn| {
            let [_, octet] = turn.to_be_bytes();
            let low = 1000 + 100 * turn;
            let members = Remote::Group(id.clone());
            let prefix =
                Remote::Prefix(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, octet, 0, 0), 16).into());
            let (direction, ethertype, service, remote) = match turn % 5 {
                0 => (Direction::Egress, Ethertype::Ipv4, udp(low, low + 37), Remote::Any),
                1 => (Direction::Ingress, Ethertype::Ipv4, tcp(low, low + 37), members),
                2 => (Direction::Ingress, Ethertype::Ipv4, udp(low, low + 63), prefix),
                3 => (Direction::Ingress, Ethertype::Ipv6, tcp(low, low + 99), members),
                _ => (Direction::Egress, Ethertype::Ipv6, Service::Any, Remote::Any),
            };
            rule(&format!("{id}-{turn}"), direction, ethertype, service, remote)
        })
        .collect();
    rules.sort_by(|one, other| one.id.cmp(&other.id));
    group(&id.to_string(), rules)
}

/// Each range overlaps those of the sixteen rules before it and after it.
fn overlap_group() -> SecurityGroup {
    let id = group_id(FIRST_GROUP);
    let mut rules: Vec<Rule> = (0..OVERLAPPING_RULES)
        .map(|turn| {
            let [_, octet] = turn.to_be_bytes();
            let low = 1024 + 61 * turn;
            let service = tcp(low, low + 61 * 16 + turn % 7);
            let (ethertype, remote) = match turn % 4 {
                0 => (Ethertype::Ipv4, Remote::Any),
                1 => (Ethertype::Ipv4, Remote::Group(id.clone())),
                2 => (Ethertype::Ipv6, Remote::Group(id.clone())),
                _ => {
                    let prefix = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, octet & 0x3f, 0, 0), 16);
                    (Ethertype::Ipv4, Remote::Prefix(prefix.into()))
                }
            };
            rule(&format!("{id}-{turn}"), Direction::Ingress, ethertype, service, remote)
        })
        .collect();
    rules.sort_by(|one, other| one.id.cmp(&other.id));
    group(&id.to_string(), rules)
}

fn extra_group() -> SecurityGroup {
    let rule = rule("extra-1", Direction::Ingress, Ethertype::Ipv4, tcp(8080, 8090), Remote::Any);
    group(EXTRA, vec![rule])
}

fn group(id: &str, rules: Vec<Rule>) -> SecurityGroup {
    SecurityGroup { id: id.into(), name: id.to_owned(), stateful: true, rules }
}

fn group_id(number: usize) -> GroupId {
    format!("sg-{number}").as_str().into()
}

fn rule(id: &str, direction: Direction, ethertype: Ethertype, service: Service, remote: Remote) -> Rule {
    Rule { id: id.into(), direction, ethertype, service, remote }
}

fn tcp(min: u16, max: u16) -> Service {
    Service::Ports { protocol: PortProtocol::Tcp, range: Some(PortRange { min, max }) }
}

fn udp(min: u16, max: u16) -> Service {
    Service::Ports { protocol: PortProtocol::Udp, range: Some(PortRange { min, max }) }
}

/// The port of a member.
pub(crate) fn port_id(number: u32) -> PortId {
    format!("port-{number}").as_str().into()
}

/// Its MAC.
pub(crate) fn mac(number: u32) -> MacAddr {
    let [_, b, c, d] = number.to_be_bytes();
    MacAddr([0xfa, 0x16, 0x3e, b, c, d])
}

fn port(number: u32, security_groups: BTreeSet<GroupId>) -> Port {
    let [a, b, c, d] = number.to_be_bytes();
    let low = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    let addresses = [
        IpAddr::V4(Ipv4Addr::new(10, b, c, d)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, low[0], low[1])),
    ];
    Port {
        id: port_id(number),
        network_id: "net".into(),
        mac: mac(number),
        fixed_ips: addresses.into(),
        allowed_address_pairs: BTreeSet::new(),
        security_groups,
        port_security_enabled: true,
        device_owner: "compute:nova".into(),
        host: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_named_by_its_shape_and_size() {
        let named: Scenario = "rich-100-500".parse().unwrap();
        assert_eq!(named, Scenario { shape: Shape::Rich, ports: 100, members: 500 });
        assert_eq!(named.to_string(), "rich-100-500");
        for wrong in ["rich-100", "poor-1-2", "default-500-10", "default-x-10"] {
            assert!(wrong.parse::<Scenario>().is_err(), "{wrong}");
        }
        for scenario in Scenario::all().into_iter().chain(Scenario::big()) {
            assert_eq!(scenario.to_string().parse::<Scenario>().unwrap(), scenario);
        }
    }

    #[test]
    fn big_scenarios_are_what_they_are_named_for() {
        let overlap = Scenario { shape: Shape::Overlap, ports: 2, members: 2 }.policy();
        assert_eq!(overlap.groups[&group_id(FIRST_GROUP)].rules.len(), 1000);
        let groups = Scenario { shape: Shape::Groups, ports: 1000, members: 1000 }.policy();
        let used: BTreeSet<&GroupId> = groups.ports.values().flat_map(|port| &port.security_groups).collect();
        assert_eq!((groups.groups.len(), used.len()), (2000 + 1, 2000), "and one that nobody is in");
    }

    #[test]
    fn all_but_the_local_ports_can_leave() {
        let scenario = Scenario { shape: Shape::Default, ports: 2, members: 5 };
        let mut policy = scenario.policy();
        scenario.leave_only_local(&mut policy);
        assert_eq!(policy.ports.keys().map(PortId::as_str).collect::<Vec<_>>(), ["port-0", "port-1"]);
    }

    #[test]
    fn every_member_has_addresses_of_its_own() {
        let policy = Scenario { shape: Shape::Rich, ports: 10, members: 1000 }.policy();
        let addresses: BTreeSet<IpAddr> =
            policy.ports.values().flat_map(|port| port.fixed_ips.clone()).collect();
        assert_eq!(addresses.len(), 2000);
        assert!(policy.groups.values().all(|group| group.rules.len() == 20 || group.id.as_str() == EXTRA));
        assert!(policy.ports.values().all(|port| port.security_groups.len() == 5));
    }
}
