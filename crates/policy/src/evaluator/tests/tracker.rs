//! The model of connection tracking against what was measured on Open vSwitch 3.1.0.

use super::*;

const RST: u8 = 0x04;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// Whether an empty zone calls the packet new, or else invalid.
fn is_new(payload: Payload) -> bool {
    let frame = frame(1, 2, payload);
    match Zone::default().look_up(&frame) {
        Tracking::New(_) => true,
        Tracking::Invalid => false,
        other @ Tracking::Connection(_) => panic!("{other:?} in an empty zone"),
    }
}

#[test]
fn what_begins_a_connection() {
    for flags in [SYN, ACK, RST, RST | ACK, FIN | ACK] {
        assert!(is_new(tcp((A, 1), (B, 2), flags)), "TCP {flags:#x}");
    }
    for flags in [SYN | ACK, 0, SYN | FIN, SYN | RST, FIN, RST | FIN, RST | PSH, RST | URG] {
        assert!(!is_new(tcp((A, 1), (B, 2), flags)), "TCP {flags:#x}");
    }
    for protocol in [47, 50, 51, 89, 112] {
        assert!(is_new(packet(A, B, protocol, Transport::None)), "protocol {protocol}");
    }
    for protocol in [1, 6, 17] {
        assert!(!is_new(packet(A, B, protocol, Transport::None)), "protocol {protocol} without its header");
    }
    assert!(is_new(ported(132, (A, 1), (B, 2))));
    assert!(is_new(udp((A, 1), (B, 2))));
    assert!(!is_new(udp((A, 0), (B, 2))));
    assert!(!is_new(udp((A, 1), (B, 0))));
    for icmp_type in [8, 13, 15] {
        assert!(is_new(icmp(A, B, icmp_type, 0)), "ICMP {icmp_type}");
    }
    for icmp_type in [0, 3, 5, 9, 11, 17, 42] {
        assert!(!is_new(icmp(A, B, icmp_type, 0)), "ICMP {icmp_type}");
    }
    assert!(is_new(icmp("fd00::1", "fd00::2", 128, 0)));
    for icmp_type in [1, 129, 130, 133, 134, 139, 143] {
        assert!(!is_new(icmp("fd00::1", "fd00::2", icmp_type, 0)), "ICMPv6 {icmp_type}");
    }
    assert!(!is_new(icmp(A, B, 8, 1)));
    assert!(!is_new(arp(1, A)));
}

#[test]
fn what_belongs_to_a_connection() {
    let mut zone = Zone::default();
    let accepted = Judgement { tracked: true, ..Judgement::accept(Basis::Rule) };
    let mut commit = |direction, payload| {
        let frame = frame(1, 2, payload);
        let tracking = zone.look_up(&frame);
        zone.note(direction, &frame, &tracking, &accepted);
    };
    commit(Direction::Egress, tcp((A, 1), (B, 2), SYN));
    commit(Direction::Ingress, icmp(A, B, 8, 0));
    let seen = |payload| match zone.look_up(&frame(1, 2, payload)) {
        Tracking::Connection(Connection { original, reply, related, .. }) => Some((original, reply, related)),
        _ => None,
    };
    let (out, back) = (tcp((A, 1), (B, 2), ACK), tcp((B, 2), (A, 1), SYN | ACK));
    assert_eq!(seen(out), Some((Direction::Egress, false, false)));
    assert_eq!(seen(back), Some((Direction::Egress, true, false)));
    assert_eq!(seen(tcp((B, 1), (A, 2), ACK)), None);
    assert_eq!(seen(icmp(A, B, 8, 0)), Some((Direction::Ingress, false, false)));
    assert_eq!(seen(icmp(B, A, 0, 0)), Some((Direction::Ingress, true, false)));
    assert_eq!(seen(icmp(A, B, 0, 0)), None);
    assert_eq!(seen(icmp(B, A, 8, 0)), None);
    // An error goes the other way than the packet that it quotes.
    assert_eq!(seen(error(B, A, 3, out)), Some((Direction::Egress, true, true)));
    assert_eq!(seen(error(A, B, 3, back)), Some((Direction::Egress, false, true)));
    assert_eq!(seen(error("10.0.0.9", A, 11, icmp(A, B, 8, 0))), Some((Direction::Ingress, true, true)));
    assert_eq!(seen(error(B, "10.0.0.9", 3, out)), None);
}
