//! "A frame to a filtered port".

use super::*;

fn evaluator() -> Evaluator {
    let pairs = ", allowed_address_pairs: [{ip_address: 10.0.1.0/24, mac_address: 'fa:16:3e:00:00:63'}]";
    let text = ports(&[("a", 1, pairs), ("t", 2, ", port_security_enabled: false")]);
    let settings = Settings { permitted_ethertypes: [0x88cc].into(), ..Settings::default() };
    Evaluator::new(&policy(&text), settings)
}

fn check(cases: &[(&str, Frame, &str)]) {
    let evaluator = evaluator();
    for (what, frame, expected) in cases {
        assert_eq!(verdict(&evaluator, "a", Direction::Ingress, frame), *expected, "{what}: {frame:?}");
    }
}

fn broadcast(payload: Payload) -> Frame {
    Frame { eth_dst: MacAddr::BROADCAST, ..frame(7, 7, payload) }
}

#[test]
fn what_is_delivered() {
    let cdp = Payload::Other(0x88cc);
    check(&[
        ("to its MAC", frame(7, 1, cdp), "permitted-ethertype"),
        ("to a pair's MAC", frame(7, 0x63, cdp), "permitted-ethertype"),
        ("broadcast", broadcast(cdp), "permitted-ethertype"),
        ("to another", frame(7, 8, cdp), "-not-for-port"),
        ("ARP to another", frame(7, 8, arp(7, "10.0.0.7")), "-not-for-port"),
    ]);
    let frame = frame(7, 8, udp(("1.2.3.4", 1), ("5.6.7.8", 2)));
    assert_eq!(verdict(&evaluator(), "t", Direction::Ingress, &frame), "trusted");
    assert_eq!(verdict(&evaluator(), "nobody", Direction::Ingress, &frame), "-no-policy");
}

#[test]
fn what_passes_without_a_rule() {
    let to = |payload| frame(7, 1, payload);
    check(&[
        ("ARP", to(arp(9, "1.2.3.4")), "arp"),
        ("RARP", to(Payload::Rarp), "arp"),
        ("DHCP reply", to(udp(("10.0.0.2", 67), ("10.0.0.1", 68))), "dhcp"),
        ("DHCPv6 reply", to(udp(("fe80::2", 547), ("fe80::1", 546))), "dhcp"),
        ("DHCPv6 ports in IPv4", to(udp(("10.0.0.2", 547), ("10.0.0.1", 546))), "-no-rule"),
        ("DHCP request", to(udp(("10.0.0.2", 68), ("10.0.0.1", 67))), "-no-rule"),
        ("NA", to(icmp("fe80::2", "fe80::1", 136, 0)), "neighbour-discovery"),
        ("RA", to(icmp("fe80::2", "fe80::1", 134, 0)), "neighbour-discovery"),
        ("MLDv2 report", to(icmp("fe80::2", "ff02::16", 143, 0)), "neighbour-discovery"),
        ("RS", to(icmp("fe80::2", "ff02::2", 133, 0)), "-no-rule"),
        ("ICMPv6's number in IPv4", to(packet("10.0.0.2", "10.0.0.1", 58, Transport::None)), "-no-rule"),
        ("echo", to(icmp("10.0.0.2", "10.0.0.1", 8, 0)), "-no-rule"),
        ("not permitted", to(Payload::Other(0x88cd)), "-ethertype"),
        ("still tagged", Frame { vlan: Some(5), ..to(Payload::Rarp) }, "-ethertype"),
        ("priority tag", Frame { vlan: Some(0), ..to(Payload::Rarp) }, "-ethertype"),
        ("cannot be read", to(Payload::Other(0x0800)), "-ct-invalid"),
    ]);
}
