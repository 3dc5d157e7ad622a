//! What rules match: services, remotes, members.

use super::*;
use crate::{GroupId, RuleId};

/// Port a (station 1) with one rule, given without id and direction, in a stateful group.
fn one_rule(direction: Direction, rule: &str) -> Evaluator {
    let groups = format!(
        "security_groups:\n- {{id: g, security_group_rules: [{{id: r, direction: {direction}, {rule}}}]}}\n"
    );
    Evaluator::new(&policy(&(groups + &ports(&[("a", 1, ", security_groups: [g]")]))), Settings::default())
}

fn admits(rule: &str, payload: Payload) -> bool {
    let judgement = one_rule(Direction::Ingress, rule).judge(
        &"a".into(),
        Direction::Ingress,
        &frame(7, 1, payload),
        &Tracking::first(&frame(7, 1, payload)),
    );
    let admitted = judgement.accepted();
    assert_eq!(
        judgement.rules,
        if admitted { vec![(GroupId::from("g"), RuleId::from("r"))] } else { vec![] }
    );
    assert_eq!(judgement.tracked, admitted);
    admitted
}

#[test]
fn services() {
    let to = |port| tcp(("10.0.0.7", 9), ("10.0.0.1", port), SYN);
    let four = "10.0.0.7";
    for (rule, payload, expected) in [
        ("ethertype: IPv4", to(80), true),
        ("ethertype: IPv6", to(80), false),
        ("ethertype: IPv4, protocol: tcp", to(80), true),
        ("ethertype: IPv4, protocol: udp", to(80), false),
        ("ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 90", to(80), true),
        ("ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 90", to(90), true),
        ("ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 90", to(79), false),
        ("ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 90", to(91), false),
        // The destination port counts, never the source port.
        ("ethertype: IPv4, protocol: tcp, port_range_min: 9, port_range_max: 9", to(80), false),
        (
            "ethertype: IPv4, protocol: dccp, port_range_min: 5, port_range_max: 5",
            ported(33, (four, 1), (four, 5)),
            true,
        ),
        ("ethertype: IPv4, protocol: icmp", icmp(four, four, 8, 0), true),
        ("ethertype: IPv4, protocol: icmp, port_range_min: 8", icmp(four, four, 8, 0), true),
        ("ethertype: IPv4, protocol: icmp, port_range_min: 13", icmp(four, four, 8, 0), false),
        (
            "ethertype: IPv4, protocol: icmp, port_range_min: 8, port_range_max: 0",
            icmp(four, four, 8, 0),
            true,
        ),
        (
            "ethertype: IPv4, protocol: icmp, port_range_min: 8, port_range_max: 1",
            icmp(four, four, 8, 0),
            false,
        ),
        ("ethertype: IPv6, protocol: icmp, port_range_min: 128", icmp("fd00::7", "fd00::1", 128, 0), true),
        ("ethertype: IPv6, protocol: 1", icmp("fd00::7", "fd00::1", 128, 0), false),
        ("ethertype: IPv4, protocol: gre", packet(four, four, 47, Transport::None), true),
        ("ethertype: IPv4, protocol: gre", packet(four, four, 50, Transport::None), false),
        ("ethertype: IPv4, protocol: 0", packet(four, four, 50, Transport::None), true),
    ] {
        assert_eq!(admits(rule, payload), expected, "{rule}: {payload:?}");
    }
}

#[test]
fn remotes_are_the_source_on_ingress_and_the_destination_on_egress() {
    let rule = "ethertype: IPv4, remote_ip_prefix: 10.0.0.0/24";
    let inside = udp(("10.0.0.1", 1), ("192.0.2.1", 2));
    let outside = udp(("192.0.2.1", 1), ("10.0.0.1", 2));
    assert!(admits(rule, inside));
    assert!(!admits(rule, outside));
    let egress = one_rule(Direction::Egress, rule);
    let to = |dst| frame(1, 7, udp(("10.0.0.1", 1), (dst, 2)));
    assert_eq!(verdict(&egress, "a", Direction::Egress, &to("10.0.0.7")), "rule");
    assert_eq!(verdict(&egress, "a", Direction::Egress, &to("192.0.2.1")), "-no-rule");
    // An egress rule says nothing of ingress.
    assert_eq!(verdict(&egress, "a", Direction::Ingress, &frame(7, 1, inside)), "-no-rule");
}

#[test]
fn members_of_groups() {
    let groups = "\
security_groups:
- {id: g, security_group_rules: [
    {id: r4, direction: ingress, ethertype: IPv4, remote_group_id: friends},
    {id: r6, direction: ingress, ethertype: IPv6, remote_group_id: friends},
    {id: s4, direction: ingress, ethertype: IPv4, protocol: tcp, remote_address_group_id: offices}]}
- {id: friends}
address_groups:
- {id: offices, addresses: [192.0.2.0/24, 'fd02::/64']}
";
    let ports = ports(&[
        ("a", 1, ", security_groups: [g]"),
        ("b", 2, ", security_groups: [friends], allowed_address_pairs: [{ip_address: 10.1.0.0/16}]"),
        // Trusted ports count, and ports that are not here.
        ("c", 3, ", security_groups: [friends], port_security_enabled: false, 'binding:host_id': far"),
        // Too short to count without the MAC.
        (
            "d",
            4,
            ", security_groups: [friends], allowed_address_pairs: [{ip_address: 0.0.0.0/0}, \
                  {ip_address: 'fc00::/7', mac_address: 'fa:16:3e:00:00:44'}, {ip_address: '2000::/16'}, \
                  {ip_address: 11.0.0.0/8}]",
        ),
    ]);
    let evaluator = Evaluator::new(&policy(&format!("{groups}{ports}")), Settings::default());
    for (from, src, expected) in [
        (2, "10.0.0.2", "rule"),
        (9, "10.0.0.2", "rule"),
        (2, "10.1.2.3", "rule"),
        (2, "10.2.2.3", "-no-rule"),
        (3, "fd00::3", "rule"),
        (1, "10.0.0.1", "-no-rule"),
        (4, "198.51.100.1", "rule"),
        (9, "198.51.100.1", "-no-rule"),
        (9, "11.2.3.4", "rule"),
        (0x44, "fd77::1", "rule"),
        (4, "fd77::1", "-no-rule"),
        (9, "2000::77", "rule"),
        // The link-local address is the port's, but no member.
        (2, "fe80::f816:3eff:fe00:2", "-no-rule"),
        (9, "192.0.2.1", "-no-rule"),
    ] {
        let dst = if src.contains(':') { "fd00::1" } else { "10.0.0.1" };
        let frame = frame(from, 1, udp((src, 1), (dst, 2)));
        assert_eq!(verdict(&evaluator, "a", Direction::Ingress, &frame), expected, "{src} from {from}");
    }
    let office = |src| frame(9, 1, tcp((src, 1), ("10.0.0.1", 2), SYN));
    assert_eq!(verdict(&evaluator, "a", Direction::Ingress, &office("192.0.2.1")), "rule");
    assert_eq!(verdict(&evaluator, "a", Direction::Ingress, &office("192.0.3.1")), "-no-rule");
}

#[test]
fn on_egress_the_destination_mac_is_the_members() {
    let groups = "security_groups:\n- {id: g, security_group_rules: [\
                  {id: r, direction: egress, ethertype: IPv4, remote_group_id: friends}]}\n- id: friends\n";
    let any = ", security_groups: [friends], allowed_address_pairs: [{ip_address: 0.0.0.0/0}]";
    let ports = ports(&[("a", 1, ", security_groups: [g]"), ("b", 2, any)]);
    let evaluator = Evaluator::new(&policy(&format!("{groups}{ports}")), Settings::default());
    let to = |mac| frame(1, mac, udp(("10.0.0.1", 1), ("198.51.100.1", 2)));
    assert_eq!(verdict(&evaluator, "a", Direction::Egress, &to(2)), "rule");
    assert_eq!(verdict(&evaluator, "a", Direction::Egress, &to(3)), "-no-rule");
}

#[test]
fn a_group_without_members_admits_nobody() {
    let empty = "ethertype: IPv4, remote_group_id: elsewhere";
    assert!(!admits(empty, udp(("10.0.0.7", 1), ("10.0.0.1", 2))));
}

#[test]
fn every_rule_that_admits_is_named() {
    let groups = "\
security_groups:
- {id: h, security_group_rules: [{id: z, direction: ingress, ethertype: IPv4}]}
- {id: g, security_group_rules: [
    {id: y, direction: ingress, ethertype: IPv4, protocol: udp},
    {id: x, direction: ingress, ethertype: IPv4},
    {id: w, direction: ingress, ethertype: IPv4, protocol: tcp}]}
";
    let text = format!("{groups}{}", ports(&[("a", 1, ", security_groups: [h, g]")]));
    let evaluator = Evaluator::new(&policy(&text), Settings::default());
    let frame = frame(7, 1, udp(("10.0.0.7", 1), ("10.0.0.1", 2)));
    let judgement = evaluator.judge(&"a".into(), Direction::Ingress, &frame, &Tracking::first(&frame));
    let named: Vec<_> = judgement.rules.iter().map(|(group, rule)| format!("{group}/{rule}")).collect();
    assert_eq!(named, ["g/x", "g/y", "h/z"]);
}
