//! Documents to measure with, as a cloud's API would give them: `default-P-M` and `rich-P-M` of docs/benchmarks.

use serde_json::{Value, json};

/// Groups of a rich document; a port is in [`GROUPS_OF_A_PORT`] of them.
const RICH_GROUPS: u32 = 10;
const GROUPS_OF_A_PORT: u32 = 5;
const RULES_OF_A_GROUP: u32 = 20;

/// Which rules there are.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// One group as Neutron makes it: to anybody, from its members.
    Default,
    /// Ten groups of twenty rules with ranges, prefixes and remote groups; each port is in five of them.
    Rich,
}

/// A document with so many members, and what may come on top.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Which rules there are.
    pub(crate) shape: Shape,
    /// Ports, each with an IPv4 and an IPv6 address.
    pub(crate) members: u32,
    /// The first group has one rule more.
    pub(crate) has_extra_rule: bool,
    /// The first port is also in a group of its own.
    pub(crate) has_extra_group: bool,
}

impl Scenario {
    /// A document without extras.
    pub(crate) fn new(shape: Shape, members: u32) -> Self {
        Scenario { shape, members, has_extra_rule: false, has_extra_group: false }
    }

    /// As JSON.
    pub(crate) fn document(&self) -> Value {
        let groups = match self.shape {
            Shape::Default => 1,
            Shape::Rich => RICH_GROUPS,
        };
        let mut groups: Vec<Value> = (0..groups).map(|number| self.group(number)).collect();
        let own = rule(
            "own-1",
            "ingress",
            "IPv4",
            json!({"protocol": "tcp", "port_range_min": 8080, "port_range_max": 8090}),
        );
        groups.push(json!({"id": "own", "name": "own", "security_group_rules": [own]}));
        let ports: Vec<Value> = (0..self.members).map(|number| self.port(number)).collect();
        json!({"security_groups": groups, "ports": ports})
    }

    fn group(&self, number: u32) -> Value {
        let id = format!("sg-{number}");
        let mut rules = match self.shape {
            Shape::Default => default_rules(&id),
            Shape::Rich => (0..RULES_OF_A_GROUP).map(|turn| rich_rule(&id, turn)).collect(),
        };
        if self.has_extra_rule && number == 0 {
            let https = json!({"protocol": "tcp", "port_range_min": 443, "port_range_max": 443});
            rules.push(rule("one-more", "ingress", "IPv4", https));
        }
        json!({"id": id, "name": id, "security_group_rules": rules})
    }

    fn port(&self, number: u32) -> Value {
        let mut groups: Vec<String> = match self.shape {
            Shape::Default => vec!["sg-0".to_owned()],
            Shape::Rich => (number..number + GROUPS_OF_A_PORT)
                .map(|group| format!("sg-{}", group % RICH_GROUPS))
                .collect(),
        };
        if self.has_extra_group && number == 0 {
            groups.push("own".to_owned());
        }
        let [_, b, c, d] = number.to_be_bytes();
        json!({
            "id": port_id(number),
            "network_id": "net",
            "mac_address": format!("fa:16:3e:{b:02x}:{c:02x}:{d:02x}"),
            "fixed_ips": [{"ip_address": format!("10.{b}.{c}.{d}")}, {"ip_address": format!("2001:db8::{number:x}")}],
            "security_groups": groups,
            "device_owner": "compute:nova",
        })
    }
}

/// The id of a member.
pub(crate) fn port_id(number: u32) -> String {
    format!("port-{number}")
}

fn default_rules(group: &str) -> Vec<Value> {
    let members = || json!({"remote_group_id": group});
    vec![
        rule("e4", "egress", "IPv4", json!({})),
        rule("e6", "egress", "IPv6", json!({})),
        rule("i4", "ingress", "IPv4", members()),
        rule("i6", "ingress", "IPv6", members()),
    ]
}

/// Rules of all kinds in turn: to anybody, ranges from members, ranges from prefixes, of both families.
fn rich_rule(group: &str, turn: u32) -> Value {
    let low = 1000 + 100 * turn;
    let range = |protocol, width: u32| json!({"protocol": protocol, "port_range_min": low, "port_range_max": low + width});
    let with = |mut service: Value, name: &str, remote: String| {
        service[name] = remote.into();
        service
    };
    let (direction, ethertype, what) = match turn % 5 {
        0 => ("egress", "IPv4", range("udp", 37)),
        1 => ("ingress", "IPv4", with(range("tcp", 37), "remote_group_id", group.to_owned())),
        2 => ("ingress", "IPv4", with(range("udp", 63), "remote_ip_prefix", format!("10.{turn}.0.0/16"))),
        3 => ("ingress", "IPv6", with(range("tcp", 99), "remote_group_id", group.to_owned())),
        _ => ("egress", "IPv6", json!({})),
    };
    rule(&format!("{group}-{turn}"), direction, ethertype, what)
}

fn rule(id: &str, direction: &str, ethertype: &str, mut what: Value) -> Value {
    what["id"] = id.into();
    what["direction"] = direction.into();
    what["ethertype"] = ethertype.into();
    what
}
