//! "A frame that a filtered port sends".

use super::*;

/// Port a owns .1, and by pairs 10.0.0.100 with its own MAC, 10.0.1.0/24 and fd01::/64 with MAC 99; it may send
/// anything by rule.
fn evaluator() -> Evaluator {
    let pairs = ", security_groups: [open], allowed_address_pairs: [{ip_address: 10.0.0.100}, \
                 {ip_address: 10.0.1.0/24, mac_address: 'fa:16:3e:00:00:63'}, \
                 {ip_address: 'fd01::/64', mac_address: 'fa:16:3e:00:00:63'}]";
    let groups = "security_groups:\n- {id: open, security_group_rules: [\
                  {id: e4, direction: egress, ethertype: IPv4}, {id: e6, direction: egress, ethertype: IPv6}]}\n";
    let text = ports(&[
        ("a", 1, pairs),
        ("t", 2, ", port_security_enabled: false"),
        ("r", 3, ", device_owner: 'network:x'"),
    ]);
    let settings = Settings { permitted_ethertypes: [0x88cc].into(), ..Settings::default() };
    Evaluator::new(&policy(&format!("{groups}{text}")), settings)
}

fn check(cases: &[(&str, Frame, &str)]) {
    let evaluator = evaluator();
    for (what, frame, expected) in cases {
        assert_eq!(verdict(&evaluator, "a", Direction::Egress, frame), *expected, "{what}: {frame:?}");
    }
}

fn from(mac: u8, payload: Payload) -> Frame {
    frame(mac, 7, payload)
}

fn nd(icmp_type: u8, code: u8, src: &str, target: &str) -> Payload {
    let nd_target = target.parse().ok();
    packet(src, "ff02::1", 58, Transport::Icmp { icmp_type, code, nd_target, quoted: None })
}

#[test]
fn closed_and_trusted_ports() {
    let evaluator = evaluator();
    let frame = from(9, udp(("1.2.3.4", 67), ("5.6.7.8", 68)));
    for (port, expected) in
        [("nobody", "-no-policy"), ("t", "trusted"), ("r", "trusted"), ("a", "-spoofed-mac")]
    {
        assert_eq!(verdict(&evaluator, port, Direction::Egress, &frame), expected);
    }
}

#[test]
fn vlan_tags_and_macs() {
    let sound = udp(("10.0.0.1", 1), ("10.9.9.9", 2));
    let tagged = |vlan, payload| Frame { vlan: Some(vlan), ..from(1, payload) };
    check(&[
        ("untagged", from(1, sound), "rule"),
        ("tagged", tagged(5, sound), "-vlan"),
        ("priority tag", tagged(0, sound), "rule"),
        ("a tag behind a priority tag", tagged(0, Payload::Other(0x8100)), "-vlan"),
        ("service tag", from(1, Payload::Other(0x88a8)), "-vlan"),
        ("the tag is looked at first", Frame { vlan: Some(5), ..from(9, sound) }, "-vlan"),
        ("MAC of no pair", from(9, sound), "-spoofed-mac"),
        ("MAC of a pair with the address of another", from(0x63, sound), "-spoofed-ip"),
    ]);
}

#[test]
fn arp_and_rarp() {
    check(&[
        ("own", from(1, arp(1, "10.0.0.1")), "arp"),
        ("by a pair", from(0x63, arp(0x63, "10.0.1.77")), "arp"),
        ("other sender hardware address", from(1, arp(9, "10.0.0.1")), "-spoofed-arp"),
        ("sender hardware address of another pair", from(1, arp(0x63, "10.0.0.1")), "-spoofed-arp"),
        ("other protocol address", from(1, arp(1, "10.0.0.2")), "-spoofed-arp"),
        ("address of another MAC", from(1, arp(1, "10.0.1.77")), "-spoofed-arp"),
        ("probe", from(1, arp(1, "0.0.0.0")), "arp"),
        ("probe of another", from(1, arp(9, "0.0.0.0")), "-spoofed-arp"),
        ("not for IPv4 over Ethernet", from(1, Payload::Other(0x0806)), "-spoofed-arp"),
        ("RARP", from(1, Payload::Rarp), "arp"),
        ("RARP of another", from(9, Payload::Rarp), "-spoofed-mac"),
    ]);
}

#[test]
fn ipv4() {
    check(&[
        ("DHCP client", from(1, udp(("0.0.0.0", 68), ("255.255.255.255", 67))), "dhcp"),
        ("DHCP renewal", from(1, udp(("10.0.0.1", 68), ("10.0.0.2", 67))), "dhcp"),
        ("DHCP client of a pair's MAC", from(0x63, udp(("0.0.0.0", 68), ("255.255.255.255", 67))), "dhcp"),
        ("DHCP client from elsewhere", from(1, udp(("10.0.0.9", 68), ("10.0.0.2", 67))), "-spoofed-ip"),
        ("DHCP server", from(1, udp(("10.0.0.1", 67), ("10.0.0.2", 68))), "-dhcp-server"),
        ("TCP by those ports", from(1, tcp(("10.0.0.1", 67), ("10.0.0.2", 68), SYN)), "rule"),
        ("pair without MAC", from(1, udp(("10.0.0.100", 1), ("10.0.0.2", 2))), "rule"),
        ("pair with MAC and prefix", from(0x63, udp(("10.0.1.5", 1), ("10.0.0.2", 2))), "rule"),
        ("pair with another MAC", from(1, udp(("10.0.1.5", 1), ("10.0.0.2", 2))), "-spoofed-ip"),
        ("no address", from(1, udp(("0.0.0.0", 1), ("10.0.0.2", 2))), "-spoofed-ip"),
        ("cannot be read", from(1, Payload::Other(0x0800)), "-spoofed-ip"),
    ]);
}

#[test]
fn ipv6() {
    let own = mac(1).link_local().to_string();
    let other = mac(0x63).link_local().to_string();
    let target = "fd00::1";
    check(&[
        ("DHCPv6 client", from(1, udp((&own, 546), ("ff02::1:2", 547))), "dhcp"),
        ("DHCPv6 client from nowhere", from(1, udp(("::", 546), ("ff02::1:2", 547))), "-spoofed-ip"),
        ("DHCPv6 server", from(1, udp((&own, 547), ("fd00::2", 546))), "-dhcp-server"),
        ("RA", from(1, icmp(&own, "ff02::1", 134, 0)), "-router-advertisement"),
        ("NA", from(1, nd(136, 0, target, target)), "neighbour-discovery"),
        ("NA of the link-local address", from(1, nd(136, 0, &own, &own)), "neighbour-discovery"),
        ("NA by a pair's prefix", from(0x63, nd(136, 0, "fd01::5", "fd01::5")), "neighbour-discovery"),
        ("NA for another", from(1, nd(136, 0, target, "fd00::2")), "-spoofed-nd"),
        ("NA for another MAC of the port", from(1, nd(136, 0, target, "fd01::5")), "-spoofed-nd"),
        ("NA with a code", from(1, nd(136, 1, target, target)), "-spoofed-nd"),
        ("NA without target", from(1, nd(136, 0, target, "")), "-spoofed-nd"),
        ("DAD", from(1, nd(135, 0, "::", target)), "neighbour-discovery"),
        ("NS", from(1, nd(135, 0, target, "fd00::2")), "neighbour-discovery"),
        ("NS from another", from(1, nd(135, 0, "fd00::2", "fd00::3")), "-spoofed-ip"),
        ("RS", from(1, icmp(&own, "ff02::2", 133, 0)), "neighbour-discovery"),
        ("MLD report from nowhere", from(1, icmp("::", "ff02::16", 143, 0)), "neighbour-discovery"),
        ("MLD of another MAC of the port", from(1, icmp(&other, "ff02::16", 131, 0)), "-spoofed-ip"),
        ("link-local of a pair's MAC", from(0x63, udp((&other, 1), ("fd00::2", 2))), "rule"),
        ("echo from nowhere", from(1, icmp("::", "fd00::2", 128, 0)), "-spoofed-ip"),
        ("redirect goes by the rules", from(1, icmp(&own, "fd00::2", 137, 0)), "rule"),
        ("cannot be read", from(1, Payload::Other(0x86dd)), "-spoofed-ip"),
    ]);
}

/// "a number means itself": protocol 1 in IPv6 has types of its own, none of which is discovery or a reply.
#[test]
fn icmp_of_the_other_family_is_no_icmp() {
    let foreign = |src: &str, icmp_type| {
        let transport = Transport::Icmp { icmp_type, code: 0, nd_target: None, quoted: None };
        from(1, packet(src, "fd00::2", 1, transport))
    };
    check(&[
        ("looks like an RA", foreign("fd00::1", 134), "rule"),
        ("looks like an NA", foreign("fd00::1", 136), "rule"),
        ("looks like an RS from nowhere", foreign("::", 133), "-spoofed-ip"),
    ]);
}

#[test]
fn fragmented_neighbour_discovery_is_dropped() {
    let first = |payload| from(1, fragment(Fragment::First, payload));
    let own = mac(1).link_local().to_string();
    check(&[
        ("NS", first(nd(135, 0, "fd00::1", "fd00::2")), "-spoofed-nd"),
        ("NA", first(nd(136, 0, "fd00::1", "fd00::1")), "-spoofed-nd"),
        ("RS", first(icmp(&own, "ff02::2", 133, 0)), "-spoofed-nd"),
        ("RA", first(icmp(&own, "ff02::1", 134, 0)), "-router-advertisement"),
        ("echo", first(icmp(&own, "fd00::2", 128, 0)), "rule"),
    ]);
}

#[test]
fn headers_that_end_before_the_upper_layer_are_dropped() {
    let unread = |protocol| packet("fd00::1", "ff02::1", protocol, Transport::None);
    let first = |protocol| from(1, fragment(Fragment::First, unread(protocol)));
    check(&[
        ("ICMPv6 to come", first(58), "-spoofed-nd"),
        ("UDP to come", first(17), "-dhcp-server"),
        ("TCP to come", first(6), "rule"),
        (
            "zeros in its place",
            from(1, fragment(Fragment::First, udp(("fd00::1", 0), ("ff02::1", 0)))),
            "-dhcp-server",
        ),
        ("no end in sight", from(1, unread(0)), "-spoofed-nd"),
    ]);
}

#[test]
fn other_ethertypes() {
    check(&[
        ("permitted", from(1, Payload::Other(0x88cc)), "permitted-ethertype"),
        ("not permitted", from(1, Payload::Other(0x88cd)), "-ethertype"),
        ("of a MAC that is not ours", from(9, Payload::Other(0x88cc)), "-spoofed-mac"),
    ]);
}
