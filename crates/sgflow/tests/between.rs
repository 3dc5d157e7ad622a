//! "At no instant, on the way from the old to the new policy, is a frame accepted that both refuse, or refused that both
//! accept" (semantics, "Change"): frames of both kinds are sent without a pause while policies change.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{apply, document, ovs, stderr};
use lab::{DummyPort, DummySpec, FailMode};

/// How often the policies of a test follow each other.
const ROUNDS: usize = 30;

/// Ways to admit UDP port 53 of p-1 at p-2, each with the rest of an egress and of an ingress rule.
const BY_ANYBODY: (&str, &str) =
    ("port_range_min: 53, port_range_max: 53", "port_range_min: 53, port_range_max: 53");
const BY_PREFIX: (&str, &str) = (
    "port_range_min: 52, port_range_max: 53, remote_ip_prefix: 10.0.0.0/29",
    "port_range_min: 53, port_range_max: 53, remote_ip_prefix: 10.0.0.1",
);
const BY_GROUP: (&str, &str) = (
    "port_range_min: 53, port_range_max: 53, remote_group_id: in",
    "port_range_min: 53, port_range_max: 53, remote_address_group_id: a",
);

/// Port p-1 with group `out` and port p-2 with group `in` and these rules.
fn policy((egress, ingress): (&str, &str), stateful: bool) -> String {
    format!(
        r#"
security_groups:
- {{id: out, security_group_rules: [{{id: e, direction: egress, ethertype: IPv4, protocol: udp, {egress}}}]}}
- {{id: in, stateful: {stateful}, security_group_rules: [{{id: i, direction: ingress, ethertype: IPv4, protocol: udp, {ingress}}}]}}
- {{id: more, security_group_rules: []}}
address_groups: [{{id: a, addresses: [10.0.0.1]}}]
ports:
- {{id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{{ip_address: 10.0.0.1}}], security_groups: [out]}}
- {{id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{{ip_address: 10.0.0.2}}], security_groups: [in]}}
"#
    )
}

/// A UDP datagram from p-1 to p-2 without data (RFC 768; no checksum).
fn datagram(source: [u8; 4], source_port: u16, port: u16) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(source);
    ip.extend([10, 0, 0, 2]);
    let sum: u32 = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice");
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![0xfa, 0x16, 0x3e, 0, 0, 2, 0xfa, 0x16, 0x3e, 0, 0, 1, 8, 0];
    frame.extend(ip);
    frame.extend([source_port.to_be_bytes(), port.to_be_bytes(), 8u16.to_be_bytes(), [0, 0]].concat());
    frame.resize(60, 0);
    frame
}

/// Sends until told to stop; every admitted frame arrives and no other does. Returns how many were sent.
fn bombard(sender: &DummyPort, receiver: &DummyPort, is_over: &AtomicBool) -> usize {
    let mut sent = 0;
    // A connection of its own each time, and one that goes on.
    for source_port in (1000..u16::MAX).cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let admitted = [datagram([10, 0, 0, 1], source_port, 53), datagram([10, 0, 0, 1], 999, 53)];
        let refused = [
            datagram([10, 0, 0, 1], source_port, 54),
            datagram([10, 0, 0, 1], source_port, 51),
            datagram([10, 0, 0, 66], source_port, 53),
        ];
        sender.receive_all(&[&admitted[..], &refused[..]].concat()).expect("the switch takes them");
        let arrived = receiver.take_sent().expect("what arrived");
        assert_eq!(arrived, admitted, "after {sent} frames");
        sent += admitted.len() + refused.len();
    }
    sent
}

fn change_under_traffic(policies: &[String]) {
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let plug = |number: u16| {
        let (port_id, tag, ofport) = (Some(format!("p-{number}")), Some(10), Some(number));
        let spec = DummySpec { port_id, tag, ofport, ..DummySpec::new(&format!("tap{number}")) };
        ovs.add_dummy_port("br-int", spec).expect("a port")
    };
    let (sender, receiver) = (plug(1), plug(2));
    let enforce = |policy: &str| {
        let output = apply(&ovs, &document(&ovs, policy), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    enforce(&policies[0]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| bombard(&sender, &receiver, &is_over));
        for policy in policies.iter().cycle().skip(1).take(ROUNDS * policies.len()) {
            if traffic.is_finished() {
                break;
            }
            enforce(policy);
        }
        is_over.store(true, Ordering::Relaxed);
        let sent = traffic.join().expect("what was sent is judged alike all the time");
        assert!(sent > 10 * ROUNDS, "{sent} frames are no proof");
    });
}

#[test]
fn on_the_way_from_rule_to_rule_nothing_is_judged_otherwise() {
    change_under_traffic(&[policy(BY_ANYBODY, true), policy(BY_PREFIX, true), policy(BY_GROUP, true)]);
}

#[test]
fn on_the_way_from_set_to_set_nothing_is_judged_otherwise() {
    let one = policy(BY_ANYBODY, true);
    let other = one
        .replace("security_groups: [out]", "security_groups: [out, more]")
        .replace("security_groups: [in]", "security_groups: [in, more]");
    assert_ne!(one, other);
    change_under_traffic(&[one, other]);
}

#[test]
fn on_the_way_from_a_group_that_goes_nothing_is_judged_otherwise() {
    let one = policy(BY_ANYBODY, true);
    let other = one
        .replace("{id: out,", "{id: out-2,")
        .replace("[out]", "[out-2]")
        .replace("{id: in,", "{id: in-2,")
        .replace("[in]", "[in-2]");
    change_under_traffic(&[one, other]);
}

#[test]
fn on_the_way_to_stateless_and_back_nothing_is_judged_otherwise() {
    change_under_traffic(&[policy(BY_ANYBODY, true), policy(BY_ANYBODY, false)]);
}
