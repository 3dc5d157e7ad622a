//! A pair of ports, policies that all admit the same of what the one sends to the other, and frames without a pause.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{DummyPort, DummySpec, FailMode, Ovs};
use serde_json::Value;

/// Ways to admit UDP port 53 of p-1 at p-2, each with the rest of an egress and of an ingress rule.
pub const BY_ANYBODY: (&str, &str) =
    ("port_range_min: 53, port_range_max: 53", "port_range_min: 53, port_range_max: 53");
pub const BY_PREFIX: (&str, &str) = (
    "port_range_min: 52, port_range_max: 53, remote_ip_prefix: 10.0.0.0/29",
    "port_range_min: 53, port_range_max: 53, remote_ip_prefix: 10.0.0.1",
);
pub const BY_GROUP: (&str, &str) = (
    "port_range_min: 53, port_range_max: 53, remote_group_id: in",
    "port_range_min: 53, port_range_max: 53, remote_address_group_id: a",
);

/// Port p-1 with group `out` and port p-2 with group `in` and these rules.
pub fn policy((egress, ingress): (&str, &str), stateful: bool) -> String {
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

/// Names of p-2 for everybody, and a log for p-1's group.
pub const SERVICES: &str = r#"
security_groups:
- {id: sg-out, name: clients, security_group_rules: [{id: e, direction: egress, ethertype: IPv4}]}
- {id: sg-in, name: servers, security_group_rules: [
    {id: dns, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53},
    {id: log, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 514, port_range_max: 514, remote_group_id: sg-out}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-out]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [sg-in]}
"#;

/// A bridge with ports p-1 and p-2.
pub fn ends(ovs: &Ovs) -> (DummyPort, DummyPort) {
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let plug = |number: u16| {
        let (port_id, tag, ofport) = (Some(format!("p-{number}")), Some(10), Some(number));
        let spec = DummySpec { port_id, tag, ofport, ..DummySpec::new(&format!("tap{number}")) };
        ovs.add_dummy_port("br-int", spec).expect("a port")
    };
    (plug(1), plug(2))
}

/// A UDP datagram from p-1 to p-2 without data (RFC 768; no checksum).
pub fn datagram(source: [u8; 4], source_port: u16, port: u16) -> Vec<u8> {
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

/// Sends what is admitted and what is not until the first has been heard for a while; of the others none may arrive. Gives the
/// number of frames.
pub fn until_heard(sender: &DummyPort, receiver: &DummyPort) -> usize {
    receiver.take_sent().expect("what arrived before");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut passed = 0;
    for (sent, port) in (1000..u16::MAX).cycle().enumerate() {
        let admitted = datagram([10, 0, 0, 1], port, 53);
        let refused = [datagram([10, 0, 0, 1], port, 54), datagram([10, 0, 0, 66], port, 53)];
        sender
            .receive_all(&[&refused[..], std::slice::from_ref(&admitted)].concat())
            .expect("the switch takes them");
        let arrived = receiver.take_sent().expect("what arrived");
        assert!(arrived.iter().all(|frame| *frame == admitted), "leaked after {sent} rounds");
        assert!(passed == 0 || !arrived.is_empty(), "lost after it was filled");
        passed += arrived.len();
        if passed >= 20 {
            return 3 * (sent + 1);
        }
        assert!(Instant::now() < deadline, "never filled");
    }
    unreachable!("ports go round")
}

/// Tells the others to stop, also when their test fails.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends until told to stop; every admitted frame arrives and no other does. Returns how many were sent.
pub fn bombard(sender: &DummyPort, receiver: &DummyPort, is_over: &AtomicBool) -> usize {
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

/// From p-1 with another source address.
pub fn spoofed() -> Vec<u8> {
    datagram([10, 0, 0, 66], 4000, 53)
}

/// From p-1 to a port of p-2 that no rule is about.
pub fn refused(source_port: u16) -> Vec<u8> {
    datagram([10, 0, 0, 1], source_port, 54)
}

/// Packets counted for a reason: of all, and of a port.
pub fn counted(drops: &Value, port: &str, reason: &str) -> (u64, u64) {
    let sum = |list: &str, is_its: &dyn Fn(&Value) -> bool| -> u64 {
        let entries = drops[list].as_array().expect("a list").iter();
        entries.filter(|one| is_its(one)).map(|one| one["packets"].as_u64().expect("a number")).sum()
    };
    (
        sum("reasons", &|one| one["reason"] == reason),
        sum("ports", &|one| one["reason"] == reason && one["port"] == port),
    )
}
