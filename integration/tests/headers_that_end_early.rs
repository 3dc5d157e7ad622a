//! IPv6 of a guest whose header chain ends before the upper layer: nobody can say that it is no router advertisement
//! (docs/decisions/0005); and ICMP that ends before its own header. Bytes that the language of the cases has no words for,
//! on a real Open vSwitch. Needs root.

use integration::{Firewall, PageFirewall as _};
use tests::case::{Binding, Config};

const POLICY: &str = r#"
security_groups:
- {id: g, security_group_rules: [{id: r, direction: egress, ethertype: IPv6},
    {id: i, direction: ingress, ethertype: IPv6, protocol: icmp}, {id: any, direction: ingress, ethertype: IPv4}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: "2001:db8::1"}, {ip_address: 10.0.0.1}], security_groups: [g]}
"#;

const ICMPV6: u8 = 58;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// To all nodes, from the port's own addresses.
fn ethernet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 0xfa, 0x16, 0x3e, 0, 0, 1, 0x86, 0xdd];
    let length = u16::try_from(payload.len()).expect("a short packet").to_be_bytes();
    frame.extend([0x60, 0, 0, 0, length[0], length[1], next_header, 255]);
    frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

/// To the port's MAC, from the network.
fn from_the_network(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xfa, 0x16, 0x3e, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x81, 0, 0, 10];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

/// A packet of ICMPv6 to the port, of this payload.
fn icmpv6(payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(ICMPV6, payload);
    frame[38..54].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame[22..38].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    from_the_network(0x86dd, &frame[14..])
}

/// RFC 8200, section 4.5: offset 0, more to come.
fn first_fragment(next_header: u8, rest: &[u8]) -> Vec<u8> {
    let header = [next_header, 0, 0, 1, 0, 0, 0, 7];
    ethernet(FRAGMENT, &[&header, rest].concat())
}

/// Options that say nothing (PadN, RFC 8200, section 4.2), eight octets.
fn options(next_header: u8) -> [u8; 8] {
    [next_header, 0, 1, 4, 0, 0, 0, 0]
}

fn host() -> Firewall {
    let port = Binding {
        port_id: Some("p-1".to_owned()),
        interface: "tap1".to_owned(),
        ofport: 1,
        tag: Some(10),
        uplink: false,
    };
    let uplink =
        Binding { port_id: None, interface: "uplink".to_owned(), ofport: 100, tag: None, uplink: true };
    let mut firewall = Firewall::start(&[port, uplink], &Config::default()).expect("a switch");
    let policy = policy::document::parse(&[("policy.yaml", POLICY)], None).policy;
    firewall.put_in_force(&policy).expect("in force");
    firewall
}

#[test]
fn a_message_behind_what_cannot_be_read_does_not_leave() {
    let firewall = host();
    let unreadable = [
        ("an advertisement to come", first_fragment(DESTINATION_OPTIONS, &options(ICMPV6))),
        ("a DHCPv6 answer to come", first_fragment(DESTINATION_OPTIONS, &options(UDP))),
        ("options cut in the middle", ethernet(DESTINATION_OPTIONS, &[ICMPV6, 3, 1, 4, 0, 0, 0, 0])),
        (
            "options cut in the middle of a part",
            first_fragment(DESTINATION_OPTIONS, &[ICMPV6, 3, 1, 4, 0, 0, 0, 0]),
        ),
    ];
    for (what, frame) in unreadable {
        firewall.receive("p-1", &frame).expect("sent");
        assert!(firewall.sighting().expect("a look").is_empty(), "{what} got out");
    }
}

#[test]
fn a_message_that_can_be_read_goes_by_the_rules() {
    let firewall = host();
    let datagram = [0x13, 0x88, 0x13, 0x89, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for frame in [
        ethernet(UDP, &datagram),
        first_fragment(DESTINATION_OPTIONS, &[&options(UDP)[..], &datagram].concat()),
    ] {
        firewall.receive("p-1", &frame).expect("sent");
        assert_eq!(firewall.sighting().expect("a look")["uplink"].len(), 1);
    }
}

/// "Any other invalid frame: dropped, `ct-invalid`" (semantics, "Rules and connections"): without a type it is no message,
/// and a rule for every type does not admit it.
#[test]
fn icmp_that_ends_before_its_header_is_no_message() {
    let firewall = host();
    // RFC 791: version and length, total length 20, TTL 64, protocol 1, from 10.0.0.9 to 10.0.0.1.
    let bare = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0x66, 0xd7, 10, 0, 0, 9, 10, 0, 0, 1];
    for (what, frame) in [("ICMPv6", icmpv6(&[])), ("ICMP", from_the_network(0x0800, &bare))] {
        firewall.receive("uplink", &frame).expect("sent");
        assert!(firewall.sighting().expect("a look").is_empty(), "{what} came in");
    }
    for padding in 0..=20 {
        let mut frame = [ethernet(ICMPV6, &[]), vec![0; padding]].concat();
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[38..54].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        firewall.receive("p-1", &frame).expect("sent");
        assert!(firewall.sighting().expect("a look").is_empty(), "ICMPv6 and {padding} octets went out");
    }
    // Destination unreachable, about nothing that is known: a message.
    let message = icmpv6(&[1, 0, 0, 0, 0, 0, 0, 0]);
    firewall.receive("uplink", &message).expect("sent");
    assert_eq!(firewall.sighting().expect("a look").keys().collect::<Vec<_>>(), ["p-1"]);
}
