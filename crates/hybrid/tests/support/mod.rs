//! Random policies, small enough that everything in them meets.

use policy::{Policy, document};
use proptest::prelude::*;

/// Addresses that neighbour, overlap and are each other's halves.
pub(crate) const ADDRESSES: [&str; 9] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.2/31",
    "10.0.0.0/30",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "::/0",
    "8000::/1",
];

/// What rules admit.
const SERVICES: [&str; 4] = [
    "",
    ", protocol: tcp, port_range_min: 80, port_range_max: 90",
    ", protocol: udp",
    ", protocol: icmp, port_range_min: 8",
];

/// A document without problems.
pub(crate) fn parsed(text: &str) -> Policy {
    let parsed = document::parse(&[("policy.yaml", text)], None);
    assert!(parsed.diagnostics.is_empty(), "{text}\n{:?}", parsed.diagnostics);
    parsed.policy
}

/// Three groups of up to three rules, two address groups, three ports.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let some = |of: &'static [&'static str]| proptest::sample::subsequence(of, 0..=of.len());
    let rules = proptest::collection::vec((any::<bool>(), 0u8..4, any::<bool>(), 0usize..8), 0..4);
    let groups = proptest::collection::vec((rules, any::<bool>()), 3);
    let address_groups = proptest::collection::vec(some(&ADDRESSES), 2);
    let ports =
        proptest::collection::vec((some(&["g0", "g1", "g2"]), some(&ADDRESSES[..4]), any::<bool>()), 3);
    (groups, address_groups, ports).prop_map(|(groups, address_groups, ports)| {
        let mut text = "security_groups:\n".to_owned();
        for (number, (rules, stateful)) in groups.iter().enumerate() {
            let rule = |(at, (is_group, of, v6, kind)): (usize, &(bool, u8, bool, usize))| {
                let remote = if *is_group { format!("remote_group_id: g{of}") } else { format!("remote_address_group_id: a{}", of % 2) };
                let family = if *v6 { "IPv6" } else { "IPv4" };
                let direction = if kind % 2 == 0 { "ingress" } else { "egress" };
                let service = SERVICES[kind / 2];
                format!("{{id: r{number}-{at}, direction: {direction}, ethertype: {family}, {remote}{service}}}")
            };
            let rules: Vec<String> = rules.iter().enumerate().map(rule).collect();
            text += &format!("- {{id: g{number}, stateful: {stateful}, security_group_rules: [{}]}}\n", rules.join(", "));
        }
        text += "address_groups:\n";
        for (number, addresses) in address_groups.iter().enumerate() {
            let addresses: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
            text += &format!("- {{id: a{number}, addresses: [{}]}}\n", addresses.join(", "));
        }
        text += "ports:\n";
        for (number, (groups, addresses, secure)) in ports.iter().enumerate() {
            let pairs: Vec<String> = addresses.iter().map(|address| format!("{{ip_address: '{address}'}}")).collect();
            text += &format!(
                "- {{id: p{number}, network_id: n, mac_address: 'fa:16:3e:00:00:0{number}', security_groups: [{}], \
                 allowed_address_pairs: [{}], port_security_enabled: {secure}}}\n",
                groups.join(", "),
                pairs.join(", "),
            );
        }
        parsed(&text)
    })
}
