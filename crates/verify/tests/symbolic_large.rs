//! Proofs of the size that hosts have: many members elsewhere, some groups a port, rules of all kinds.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod world;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use policy::{Policy, PortId};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use rust_openflow::Flow;
use verify::Tables;
use verify::symbolic::{Joints, LocalPort, differences, differences_side_by_side};

use world::host::{Rendered, VLANS};

const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120, output: 127 };

/// Ports of this host, groups, rules in all, and ports elsewhere: at least what issue "The whole law, proven" asks for.
const LOCAL: usize = 20;
const GROUPS: usize = 10;
const RULES: usize = 100;
const REMOTE: usize = 500;

fn rule() -> impl Strategy<Value = String> {
    let service = prop_oneof![
        2 => Just(String::new()),
        6 => (select(vec!["tcp", "udp", "sctp"]), any::<u16>(), 0..2000u16).prop_map(|(protocol, min, width)| {
            let max = min.saturating_add(width);
            format!(", protocol: {protocol}, port_range_min: {min}, port_range_max: {max}")
        }),
        1 => select(vec![1, 47, 50, 51, 112]).prop_map(|number| format!(", protocol: '{number}'")),
        1 => (0..40u8, 0..4u8).prop_map(|(icmp_type, code)| {
            format!(", protocol: ICMP, port_range_min: {icmp_type}, port_range_max: {code}")
        }),
    ];
    let remote = prop_oneof![
        1 => Just(String::new()),
        3 => (0..GROUPS).prop_map(|group| format!(", remote_group_id: sg-{group}")),
        1 => (0..2usize).prop_map(|group| format!(", remote_address_group_id: ag-{group}")),
        2 => (any::<u8>(), 8..32u8).prop_map(|(octet, length)| format!(", remote_ip_prefix: PREFIX{octet}/{length}")),
    ];
    (any::<bool>(), any::<bool>(), service, remote).prop_map(|(egress, v6, service, remote)| {
        let direction = if egress { "egress" } else { "ingress" };
        // AH is an extension header to the switch: an IPv6 rule for it is refused.
        let service = if v6 { service.replace("'51'", "'50'") } else { service };
        let (ethertype, icmp) = if v6 { ("IPv6", "ipv6-icmp") } else { ("IPv4", "icmp") };
        let remote =
            match remote.split_once("PREFIX").and_then(|(key, text)| Some((key, text.split_once('/')?))) {
                Some((key, (octet, length))) if v6 => {
                    format!("{key}'2001:db8:{octet}::/{}'", 2 * length.parse::<u8>().unwrap())
                }
                Some((key, (octet, length))) => format!("{key}10.{octet}.0.0/{length}"),
                None => remote,
            };
        format!("direction: {direction}, ethertype: {ethertype}{}{remote}", service.replace("ICMP", icmp))
    })
}

fn policy_text() -> impl Strategy<Value = String> {
    let all: Vec<usize> = (0..GROUPS).collect();
    (
        prop::collection::vec((0..GROUPS, rule()), RULES),
        prop::collection::vec(subsequence(all.clone(), 1..4), LOCAL),
        prop::collection::vec(subsequence(all, 1..3), REMOTE),
        prop::collection::vec(any::<bool>(), GROUPS),
    )
        .prop_map(|(rules, local, remote, stateless)| {
            let mut text = String::from("address_groups:\n");
            for group in 0..2 {
                text += &format!("- {{id: ag-{group}, name: ag-{group}, addresses: [192.0.{group}.0/24, '2001:db8:{group}::/48']}}\n");
            }
            text += "security_groups:\n";
            for (group, stateless) in stateless.into_iter().enumerate() {
                let stateful = !(stateless && group % 4 == 0);
                text += &format!("- id: sg-{group}\n  name: sg-{group}\n  stateful: {stateful}\n  security_group_rules:\n");
                for (number, (_, rule)) in rules.iter().enumerate().filter(|(_, (of, _))| *of == group) {
                    text += &format!("  - {{id: r-{number}, {rule}}}\n");
                }
                if rules.iter().all(|(of, _)| *of != group) {
                    text += "    []\n";
                }
            }
            text += "ports:\n";
            for (number, groups) in local.iter().chain(&remote).enumerate() {
                text += &port_text(number, groups);
            }
            text
        })
}

fn port_text(number: usize, groups: &[usize]) -> String {
    let octets = u16::try_from(number + 1).unwrap().to_be_bytes();
    let v4 = Ipv4Addr::new(10, 1, octets[0], octets[1]);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from_be_bytes(octets));
    let names: Vec<String> = groups.iter().map(|group| format!("sg-{group}")).collect();
    let pair = if number.is_multiple_of(7) {
        format!(", allowed_address_pairs: [{{ip_address: 10.{}.0.0/16}}]", number % 200)
    } else {
        String::new()
    };
    format!(
        "- {{id: p-{number}, network_id: net-1, mac_address: 'fa:16:3e:00:{:02x}:{:02x}', fixed_ips: [{{ip_address: {v4}}}, {{ip_address: '{v6}'}}], security_groups: [{}]{pair}}}\n",
        octets[0],
        octets[1],
        names.join(", "),
    )
}

/// The tables of a policy on a host whose first ports are local, but for the flow whose text has this, and these ports.
fn host(policy: &Policy, local: usize, without: Option<&str>) -> (Tables, Vec<LocalPort>) {
    let none = BTreeSet::new();
    let ports: Vec<(PortId, u16, u16)> = (0..local)
        .map(|port| {
            (PortId::from(format!("p-{port}").as_str()), u16::try_from(port + 200).unwrap(), VLANS[0])
        })
        .collect();
    let mut rendered = Rendered::with_ports(&none, ports.iter().cloned());
    rendered.put_in_force(policy.clone());
    let is_left = |flow: &&Flow| without.is_none_or(|part| !flow.to_string().contains(part));
    let tables = Tables::new(rendered.flows().filter(is_left).cloned()).unwrap();
    let ports = ports.into_iter().map(|(id, ofport, vlan)| LocalPort { id, ofport, vlan }).collect();
    (tables, ports)
}

/// Where there are ports enough for them.
const THREADS: usize = 2;

/// Differences between a policy and its tables.
fn prove(policy: &Policy, local: usize) -> Vec<String> {
    let (tables, ports) = host(policy, local, None);
    let found = differences_side_by_side(THREADS, &tables, JOINTS, policy, &BTreeSet::new(), &ports).unwrap();
    found.iter().map(ToString::to_string).collect()
}

fn parsed(text: &str) -> Policy {
    let parsed = policy::document::parse(&[("policy.yaml", text)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

fn prove_random(cases: u32) {
    // No shrinking: a policy of this size shrinks for hours, and is told whole.
    let config =
        ProptestConfig { cases, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&policy_text(), |text| {
        let found = prove(&parsed(&text), LOCAL);
        prop_assert!(found.is_empty(), "{}\n{text}", found.join("\n"));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Four times fifty, so that they share the cores.
#[test]
fn realistic_policies_are_rendered_as_they_are() {
    prove_random(50);
}

#[test]
fn fifty_more_realistic_policies() {
    prove_random(50);
}

#[test]
fn fifty_more_again() {
    prove_random(50);
}

#[test]
fn and_fifty_more() {
    prove_random(50);
}

/// One default group with so many ports.
fn default_group(ports: usize) -> Policy {
    let mut text = String::from("security_groups:\n- {id: sg-0, name: sg-0, security_group_rules: [");
    for (number, (direction, ethertype, remote)) in [
        ("egress", "IPv4", ""),
        ("egress", "IPv6", ""),
        ("ingress", "IPv4", ", remote_group_id: sg-0"),
        ("ingress", "IPv6", ", remote_group_id: sg-0"),
    ]
    .into_iter()
    .enumerate()
    {
        text += &format!("{{id: r-{number}, direction: {direction}, ethertype: {ethertype}{remote}}}, ");
    }
    text += "]}\nports:\n";
    for number in 0..ports {
        text += &port_text(number, &[0]);
    }
    parsed(&text)
}

/// All of them on this host.
#[test]
fn five_hundred_ports_in_one_group() {
    let found = prove(&default_group(500), 500);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_found_side_by_side_is_what_is_found_one_after_the_other() {
    let policy = default_group(110);
    // A member that nobody admits any more, and an address that its port cannot use.
    for (without, least) in [("ct_nw_src=10.1.0.7", 100), ("nw_src=10.1.0.100 ", 1)] {
        let (tables, ports) = host(&policy, 110, Some(without));
        let one = differences(&tables, JOINTS, &policy, &BTreeSet::new(), &ports).unwrap();
        let other =
            differences_side_by_side(THREADS, &tables, JOINTS, &policy, &BTreeSet::new(), &ports).unwrap();
        assert!(one.len() >= least, "{} differences without {without}", one.len());
        assert!(one == other, "{} and {} differences", one.len(), other.len());
    }
}
