//! Documents, what they become, and what is said of them.

use expect_test::{Expect, expect};

use super::{ObjectId, Parsed, parse};
use crate::{Ethertype, Policy, PortProtocol, PortRange, Remote, Rule, Service};

fn check(files: &[(&str, &str)], previous: Option<&Policy>, expected: Expect) -> Parsed {
    let parsed = parse(files, previous);
    let said: Vec<_> = parsed.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    expected.assert_eq(&said.concat());
    parsed
}

fn sound(text: &str) -> Policy {
    check(&[("policy.yaml", text)], None, expect![]).policy
}

/// The rules of a document that consists of one group with these.
fn rules(lines: &str) -> Vec<Rule> {
    let policy = sound(&format!("security_groups:\n- id: g\n  security_group_rules:\n{lines}"));
    policy.groups[&"g".into()].rules.clone()
}

const WEB: &str = r#"
security_groups:
- {id: sg-1, name: web, stateful: true, security_group_rules: [
    {id: r1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80, remote_ip_prefix: 10.0.0.0/8},
    {id: r2, direction: ingress, ethertype: IPv4, remote_group_id: sg-1}]}
address_groups:
- {id: ag-1, name: offices, addresses: [192.0.2.0/24, "2001:db8::/32"]}
ports:
- {id: p-1, network_id: net-1, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.5}],
   allowed_address_pairs: [{ip_address: 10.0.0.100, mac_address: "fa:16:3e:00:00:99"}], security_groups: [sg-1],
   port_security_enabled: true, device_owner: "compute:nova", "binding:host_id": host-1}
"#;

#[test]
fn the_example_of_the_design_is_read() {
    expect![[r#"
        Policy {
            groups: {
                "sg-1": SecurityGroup {
                    id: "sg-1",
                    name: "web",
                    stateful: true,
                    rules: [
                        Rule {
                            id: "r1",
                            direction: Ingress,
                            ethertype: Ipv4,
                            service: Ports {
                                protocol: Tcp,
                                range: Some(
                                    PortRange {
                                        min: 80,
                                        max: 80,
                                    },
                                ),
                            },
                            remote: Prefix(
                                10.0.0.0/8,
                            ),
                        },
                        Rule {
                            id: "r2",
                            direction: Ingress,
                            ethertype: Ipv4,
                            service: Any,
                            remote: Group(
                                "sg-1",
                            ),
                        },
                    ],
                },
            },
            address_groups: {
                "ag-1": AddressGroup {
                    id: "ag-1",
                    name: "offices",
                    addresses: {
                        192.0.2.0/24,
                        2001:db8::/32,
                    },
                },
            },
            ports: {
                "p-1": Port {
                    id: "p-1",
                    network_id: "net-1",
                    mac: fa:16:3e:00:00:01,
                    fixed_ips: {
                        10.0.0.5,
                    },
                    allowed_address_pairs: {
                        AddressPair {
                            ip: 10.0.0.100/32,
                            mac: Some(
                                fa:16:3e:00:00:99,
                            ),
                        },
                    },
                    security_groups: {
                        "sg-1",
                    },
                    port_security_enabled: true,
                    device_owner: "compute:nova",
                    host: Some(
                        "host-1",
                    ),
                },
            },
        }
    "#]]
    .assert_debug_eq(&sound(WEB));
}

#[test]
fn api_replies_are_documents() {
    let groups = r#"{"security_groups": [{"id": "g", "name": "n", "stateful": false, "tenant_id": "t",
        "security_group_rules": [{"id": "a", "security_group_id": "g", "direction": "egress",
        "ethertype": "IPv6", "protocol": null, "port_range_min": null, "port_range_max": null,
        "remote_ip_prefix": null, "remote_group_id": null, "remote_address_group_id": null,
        "normalized_cidr": null, "revision_number": 0, "tags": []}]}]}"#;
    let rule = r#"{"security_group_rule": {"id": "b", "security_group_id": "g", "direction": "ingress",
        "ethertype": "IPv4", "protocol": "6", "port_range_min": "22", "port_range_max": 22}}"#;
    let ports = r#"{"ports": [{"id": "p", "network_id": "n", "mac_address": "FA-16-3E-00-00-01",
        "admin_state_up": true, "allowed_address_pairs": [], "binding:host_id": "", "binding:vif_type": "ovs",
        "device_id": "d", "device_owner": "network:dhcp", "fixed_ips": [{"subnet_id": "s", "ip_address": "::1"}],
        "security_groups": ["g"], "port_security_enabled": true}]}"#;
    let parsed = check(&[("groups", groups), ("rule", rule), ("ports", ports)], None, expect![]);
    let group = &parsed.policy.groups[&"g".into()];
    assert!(!group.stateful);
    assert_eq!(group.rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let ssh = Some(PortRange { min: 22, max: 22 });
    assert_eq!(group.rules[1].service, Service::Ports { protocol: PortProtocol::Tcp, range: ssh });
    let port = &parsed.policy.ports[&"p".into()];
    assert!(port.is_trusted());
    assert_eq!(port.host, None);
}

#[test]
fn protocols_by_name_and_number() {
    let service = |ethertype: &str, rest: &str| {
        let rules = rules(&format!("  - {{id: r, direction: egress, ethertype: {ethertype}{rest}}}\n"));
        rules[0].service
    };
    let icmp = Service::Icmp { icmp_type: None, code: None };
    for (ethertype, protocol, expected) in [
        ("IPv4", "any", Service::Any),
        ("IPv4", "0", Service::Any),
        ("IPv4", "'0'", Service::Any),
        ("IPv4", "null", Service::Any),
        ("IPv4", "TCP", Service::Ports { protocol: PortProtocol::Tcp, range: None }),
        ("IPv4", "17", Service::Ports { protocol: PortProtocol::Udp, range: None }),
        ("IPv6", "'132'", Service::Ports { protocol: PortProtocol::Sctp, range: None }),
        ("IPv6", "udplite", Service::Ports { protocol: PortProtocol::UdpLite, range: None }),
        ("IPv4", "icmp", icmp),
        ("IPv6", "icmp", icmp),
        ("IPv6", "ipv6-icmp", icmp),
        ("IPv4", "1", icmp),
        ("IPv6", "58", icmp),
        ("IPv6", "1", Service::Protocol(1)),
        ("IPv4", "58", Service::Protocol(58)),
        ("IPv4", "gre", Service::Protocol(47)),
        ("IPv6", "ipv6-route", Service::Protocol(43)),
        ("IPv4", "255", Service::Protocol(255)),
    ] {
        assert_eq!(
            service(ethertype, &format!(", protocol: {protocol}")),
            expected,
            "{ethertype} {protocol}"
        );
    }
    assert_eq!(
        service("ipv6", ", protocol: icmpv6, port_range_min: 1, port_range_max: '4'"),
        Service::Icmp { icmp_type: Some(1), code: Some(4) }
    );
    assert_eq!(
        service("IPv4", ", protocol: icmp, port_range_min: 0"),
        Service::Icmp { icmp_type: Some(0), code: None }
    );
}

#[test]
fn every_name_of_the_api_is_its_number() {
    // The names of the law; numbers by IANA, Assigned Internet Protocol Numbers.
    let names = [
        ("tcp", 6),
        ("udp", 17),
        ("sctp", 132),
        ("dccp", 33),
        ("udplite", 136),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("igmp", 2),
        ("ospf", 89),
        ("vrrp", 112),
        ("pgm", 113),
        ("rsvp", 46),
        ("egp", 8),
        ("ipip", 4),
        ("ipv6-encap", 41),
        ("ipv6-frag", 44),
        ("ipv6-nonxt", 59),
        ("ipv6-opts", 60),
        ("ipv6-route", 43),
    ];
    let both = |ethertype| names.map(|(name, number)| (ethertype, name, number));
    let icmp = [("IPv4", "icmp", 1), ("IPv6", "icmp", 58), ("IPv6", "icmpv6", 58), ("IPv6", "ipv6-icmp", 58)];
    for (ethertype, name, number) in both("IPv4").into_iter().chain(both("IPv6")).chain(icmp) {
        let service = |protocol: &str| {
            let rule =
                format!("  - {{id: r, direction: egress, ethertype: {ethertype}, protocol: {protocol}}}\n");
            rules(&rule)[0].service
        };
        assert_eq!(service(name), service(&number.to_string()), "{name} in {ethertype}");
        assert_ne!(service(name), Service::Any, "{name} in {ethertype}");
    }
}

#[test]
fn prefixes_lose_their_host_bits() {
    let rules = rules(
        "  - {id: a, direction: egress, ethertype: IPv4, remote_ip_prefix: 10.1.2.3/8}\n\
         \x20 - {id: b, direction: egress, ethertype: IPv6, remote_ip_prefix: '2001:db8::1'}\n",
    );
    let prefix = |index: usize| match &rules[index].remote {
        Remote::Prefix(prefix) => prefix.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!((prefix(0), prefix(1)), ("10.0.0.0/8".to_owned(), "2001:db8::1/128".to_owned()));
    assert_eq!(rules[1].ethertype, Ethertype::Ipv6);
}

#[test]
fn every_bad_field_of_a_rule_is_named() {
    let text = "\
security_groups:
- id: g
  security_group_rules:
  - {id: a, direction: in, ethertype: IPv5}
  - {id: b, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 443, port_range_max: 80}
  - {id: c, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 1}
  - {id: d, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 1, port_range_max: 65536}
  - {id: e, direction: ingress, ethertype: IPv4, protocol: icmp, port_range_max: 1}
  - {id: f, direction: ingress, ethertype: IPv4, protocol: icmp, port_range_min: 256}
  - {id: g, direction: ingress, ethertype: IPv4, protocol: gre, port_range_min: 1, port_range_max: 1}
  - {id: h, direction: ingress, ethertype: IPv4, port_range_min: 1, port_range_max: 2}
  - {id: i, direction: ingress, ethertype: IPv4, protocol: ipv6-icmp}
  - {id: j, direction: ingress, ethertype: IPv4, protocol: 256}
  - {id: k, direction: ingress, ethertype: IPv4, protocol: tpc}
  - {id: l, direction: ingress, ethertype: IPv4, remote_ip_prefix: '::/0'}
  - {id: m, direction: ingress, ethertype: IPv4, remote_ip_prefix: 10.0.0.0/33}
  - id: n
    direction: ingress
    ethertype: IPv4
    remote_group_id: g
    remote_address_group_id: x
  - {id: o, direction: ingress, ethertype: IPv4, remote_adress_group_id: x}
  - {id: p, direction: ingress, ethertype: IPv4, security_group_id: h}
  - {id: q, direction: ingress, ethertype: IPv4, remote_address_group_id: x}
  - {direction: ingress, ethertype: IPv4}
  - {id: 7, ethertype: IPv4, protocol: 1.5, remote_group_id: ''}
  - rule
security_group_rules:
- {id: t, direction: ingress, ethertype: IPv4, security_group_id: z}
";
    let parsed = check(
        &[("a.yaml", text)],
        None,
        expect![[r#"
            a.yaml:4: rule a of security group g: direction: expected ingress or egress, found "in"
            a.yaml:4: rule a of security group g: ethertype: expected IPv4 or IPv6, found "IPv5"
            a.yaml:5: rule b of security group g: port_range_min: 443 is above port_range_max 80
            a.yaml:6: rule c of security group g: port_range_max: is missing beside port_range_min
            a.yaml:7: rule d of security group g: port_range_max: expected a number from 0 to 65535, found 65536
            a.yaml:8: rule e of security group g: port_range_min: the ICMP type is missing beside the code in port_range_max
            a.yaml:9: rule f of security group g: port_range_min: expected a number from 0 to 255, found 256
            a.yaml:10: rule g of security group g: port_range_min: protocol 47 takes no ports
            a.yaml:10: rule g of security group g: port_range_max: protocol 47 takes no ports
            a.yaml:11: rule h of security group g: port_range_min: a rule for any protocol takes no ports
            a.yaml:11: rule h of security group g: port_range_max: a rule for any protocol takes no ports
            a.yaml:12: rule i of security group g: protocol: ipv6-icmp does not belong in an IPv4 rule
            a.yaml:13: rule j of security group g: protocol: expected a protocol number from 0 to 255, found 256
            a.yaml:14: rule k of security group g: protocol: "tpc": unknown protocol; give its number, 0 to 255
            a.yaml:15: rule l of security group g: remote_ip_prefix: ::/0 does not belong in an IPv4 rule
            a.yaml:16: rule m of security group g: remote_ip_prefix: "10.0.0.0/33": not an IP address or CIDR
            a.yaml:21: rule n of security group g: remote_address_group_id: a second remote beside remote_group_id; a rule has at most one
            a.yaml:22: rule o of security group g: remote_adress_group_id: unknown field; is remote_address_group_id meant?
            a.yaml:23: rule p of security group g: security_group_id: is h, but the rule stands in g
            a.yaml:24: rule q of security group g: remote_address_group_id: address group x is not defined
            a.yaml:25: security_group_rules[17] of security group g: id: is missing
            a.yaml:26: security_group_rules[18] of security group g: id: expected text, found a number (quote it)
            a.yaml:26: security_group_rules[18] of security group g: direction: is missing
            a.yaml:26: security_group_rules[18] of security group g: protocol: expected a protocol's name or number, found a number
            a.yaml:26: security_group_rules[18] of security group g: remote_group_id: is empty
            a.yaml:27: security_group_rules[19] of security group g: object: expected a mapping, found text
            a.yaml:29: rule t of security group z: security_group_id: security group z is not defined
        "#]],
    );
    assert_eq!(parsed.policy.groups[&"g".into()].rules, []);
    assert_eq!(parsed.refused.len(), 18);
}

#[test]
fn every_bad_field_of_a_port_or_group_is_named() {
    let text = "\
security_groups:
- {id: g, stateful: 'yes', name: [x], security_group_rules: {}}
- {id: '', name: x}
- 5
address_groups:
- id: a
  addresses: [10.0.0.0/8, 10.0.0.300, '::/129', 5]
ports:
- id: p
  network_id: 12
  mac_address: fa:16:3e
  fixed_ips: [{ip_address: 10.0.0.0/8}, {}, x]
  allowed_address_pairs:
  - {ip_address: 10.0.0.1, mac_address: fa}
  - {mac_address: 'fa:16:3e:00:00:01'}
  security_groups: [1]
  port_security_enabled: 1
  device_owner: 3
- {id: q, network_id: n, fixed_ip: [], security_groups: [g, h]}
";
    let parsed = check(
        &[("a.yaml", text)],
        None,
        expect![[r#"
            a.yaml:2: security group g: name: expected text, found a list
            a.yaml:2: security group g: stateful: expected true or false, found text
            a.yaml:2: security group g: security_group_rules: expected a list, found a mapping
            a.yaml:3: security_groups[1]: id: is empty
            a.yaml:4: security_groups[2]: object: expected a mapping, found a number
            a.yaml:7: address group a: addresses[1]: "10.0.0.300": not an IP address or CIDR
            a.yaml:7: address group a: addresses[2]: "::/129": not an IP address or CIDR
            a.yaml:7: address group a: addresses[3]: expected text, found a number (quote it)
            a.yaml:10: port p: network_id: expected text, found a number (quote it)
            a.yaml:11: port p: mac_address: "fa:16:3e": not a MAC address (six octets like fa:16:3e:00:00:01)
            a.yaml:12: port p: fixed_ips[0].ip_address: "10.0.0.0/8": invalid IP address syntax
            a.yaml:12: port p: fixed_ips[1].ip_address: is missing
            a.yaml:12: port p: fixed_ips[2]: expected a mapping, found text
            a.yaml:14: port p: allowed_address_pairs[0].mac_address: "fa": not a MAC address (six octets like fa:16:3e:00:00:01)
            a.yaml:15: port p: allowed_address_pairs[1].ip_address: is missing
            a.yaml:16: port p: security_groups[0]: expected text, found a number (quote it)
            a.yaml:17: port p: port_security_enabled: expected true or false, found a number
            a.yaml:18: port p: device_owner: expected text, found a number (quote it)
            a.yaml:19: port q: fixed_ip: unknown field; is fixed_ips meant?
            a.yaml:19: port q: mac_address: is missing
            a.yaml:19: port q: security_groups: security group g is refused, and there is none from before
            a.yaml:19: port q: security_groups: security group h is not defined
        "#]],
    );
    assert_eq!(parsed.policy, Policy::default());
}

#[test]
fn nobody_sends_from_the_address_of_a_group() {
    let text = "ports:\n\
        - {id: p, network_id: n, mac_address: '01:00:5e:00:00:01', security_groups: []}\n\
        - {id: q, network_id: n, mac_address: 'fa:16:3e:00:00:01', security_groups: [],\n   \
           allowed_address_pairs: [{ip_address: 10.0.0.1, mac_address: 'ff:ff:ff:ff:ff:ff'}]}\n";
    check(
        &[("a.yaml", text)],
        None,
        expect![[r#"
            a.yaml:2: port p: mac_address: "01:00:5e:00:00:01": the address of a group, not of a station
            a.yaml:4: port q: allowed_address_pairs[0].mac_address: "ff:ff:ff:ff:ff:ff": the address of a group, not of a station
        "#]],
    );
}

#[test]
fn duplicates_name_both_places_and_refuse_both() {
    let one = "security_groups:\n- {id: g, security_group_rules: [\n  {id: r, direction: egress, ethertype: IPv4}]}\n\
               ports:\n- {id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01', security_groups: [g]}\n";
    let two = "{\"security_groups\": [\n{\"id\": \"h\"}, {\"id\": \"h\"}],\n\"ports\":\n[{\"id\": \"p\"}],\n\
               \"security_group_rules\": [{\"id\": \"r\", \"direction\": \"egress\", \"ethertype\": \"IPv6\", \"security_group_id\": \"g\"}]}";
    let parsed = check(
        &[("one.yaml", one), ("two.json", two)],
        None,
        expect![[r#"
        two.json:2: security group h: id: is given twice, first at two.json:2; both are refused
        two.json:4: port p: network_id: is missing
        two.json:4: port p: mac_address: is missing
        two.json:4: port p: id: is given twice, first at one.yaml:5; both are refused
        two.json:5: rule r: id: is given twice, first at one.yaml:3; both are refused
    "#]],
    );
    assert_eq!(parsed.policy.groups.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["g"]);
    assert_eq!(parsed.policy.groups[&"g".into()].rules, []);
    assert!(parsed.policy.ports.is_empty());
}

#[test]
fn what_a_refused_object_governed_stays_as_it_was() {
    let before = "\
security_groups:
- {id: g, security_group_rules: [
    {id: r, direction: ingress, ethertype: IPv4, remote_address_group_id: a},
    {id: s, direction: ingress, ethertype: IPv4, protocol: tcp}]}
- {id: h, security_group_rules: [{id: t, direction: ingress, ethertype: IPv4, remote_address_group_id: b}]}
- {id: i}
address_groups: [{id: a, addresses: [10.0.0.0/8]}, {id: b, addresses: []}, {id: c, addresses: []}]
ports:
- {id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01', security_groups: [g]}
- {id: q, network_id: n, mac_address: 'fa:16:3e:00:00:02', security_groups: [h]}
- {id: u, network_id: n, mac_address: 'fa:16:3e:00:00:03', security_groups: [i]}
";
    // a and r are malformed, s is well-formed and changed, h and b are gone although q (malformed) needs them,
    // i is malformed, v is a new port of the new malformed group j.
    let after = "\
security_groups:
- {id: g, security_group_rules: [
    {id: r, direction: sideways, ethertype: IPv4, remote_address_group_id: a},
    {id: s, direction: ingress, ethertype: IPv4, protocol: udp}]}
- {id: i, stateful: perhaps}
- {id: j, stateful: perhaps}
address_groups: [{id: a, addresses: [ten]}]
ports:
- {id: p, network_id: n, mac_address: 'fa:16:3e:00:00:11', security_groups: [g]}
- {id: q, network_id: n, mac_address: 'fa:16:3e:00:00:12', security_groups: [h]}
- {id: u, network_id: n, mac_address: 'fa:16:3e:00:00:03', security_groups: [i]}
- {id: v, network_id: n, mac_address: 'fa:16:3e:00:00:04', security_groups: [j]}
";
    let before = sound(before);
    let parsed = check(
        &[("a.yaml", after)],
        Some(&before),
        expect![[r#"
        a.yaml:3: rule r of security group g: direction: expected ingress or egress, found "sideways"
        a.yaml:5: security group i: stateful: expected true or false, found text
        a.yaml:6: security group j: stateful: expected true or false, found text
        a.yaml:7: address group a: addresses[0]: "ten": not an IP address or CIDR
        a.yaml:10: port q: security_groups: security group h is not defined
        a.yaml:12: port v: security_groups: security group j is refused, and there is none from before
    "#]],
    );
    let mut expected = before.clone();
    expected.address_groups.remove(&"c".into());
    let mut group = (*expected.groups[&"g".into()]).clone();
    group.rules[1].service = Service::Ports { protocol: PortProtocol::Udp, range: None };
    expected.groups.insert("g".into(), group.into());
    let mut port = (*expected.ports[&"p".into()]).clone();
    port.mac = "fa:16:3e:00:00:11".parse().unwrap();
    expected.ports.insert("p".into(), port.into());
    assert_eq!(parsed.policy, expected);
    let refused = [
        ObjectId::SecurityGroup("i".into()),
        ObjectId::SecurityGroup("j".into()),
        ObjectId::Rule(Some("g".into()), "r".into()),
        ObjectId::AddressGroup("a".into()),
        ObjectId::Port("q".into()),
        ObjectId::Port("v".into()),
    ];
    assert_eq!(parsed.refused, refused.into());
    assert!(!parsed.document_refused);
}

#[test]
fn a_document_that_cannot_be_understood_changes_nothing() {
    let before = sound(WEB);
    for (text, expected) in [
        (
            "",
            expect![[r#"
            a.yaml:1: port p: network_id: is missing
            a.yaml:1: port p: mac_address: is missing
            b.yaml:1: document: object: expected a mapping, found null
        "#]],
        ),
        (
            "ports: [",
            expect![[r#"
            a.yaml:1: port p: network_id: is missing
            a.yaml:1: port p: mac_address: is missing
            b.yaml:1: document: syntax: bad YAML: unclosed bracket '[' at line 1, column 8
        "#]],
        ),
        (
            "- ports",
            expect![[r#"
            a.yaml:1: port p: network_id: is missing
            a.yaml:1: port p: mac_address: is missing
            b.yaml:1: document: object: expected a mapping, found a list
        "#]],
        ),
        (
            "security_grups: []\nports: []",
            expect![[r#"
            a.yaml:1: port p: network_id: is missing
            a.yaml:1: port p: mac_address: is missing
            b.yaml:1: document: security_grups: unknown key; a document has security_groups, security_group_rules, address_groups, ports
        "#]],
        ),
        (
            "ports: {id: p}",
            expect![[r#"
            a.yaml:1: port p: network_id: is missing
            a.yaml:1: port p: mac_address: is missing
            b.yaml:1: document: ports: expected a list, found a mapping
        "#]],
        ),
        (
            "port: {id: p}\nport: {id: q}",
            expect![[r#"
                a.yaml:1: port p: network_id: is missing
                a.yaml:1: port p: mac_address: is missing
                b.yaml:2: document: syntax: bad YAML: the key "port" is given twice
            "#]],
        ),
    ] {
        let files = [("a.yaml", "ports: [{id: p, security_groups: [far]}]"), ("b.yaml", text)];
        let parsed = check(&files, Some(&before), expected);
        assert!(parsed.document_refused);
        assert_eq!(parsed.policy, before);
        assert_eq!(parse(&files, None).policy, Policy::default());
    }
}

#[test]
fn a_remote_group_need_not_be_defined() {
    let rules = rules("  - {id: r, direction: ingress, ethertype: IPv4, remote_group_id: elsewhere}\n");
    assert_eq!(rules[0].remote, Remote::Group("elsewhere".into()));
    assert_eq!(sound("{}"), Policy::default());
    assert_eq!(sound("ports:\nsecurity_groups: []"), Policy::default());
}

/// Fields that we do not know are the API's, and one as short as this is near too much.
#[test]
fn a_short_field_of_the_apis_is_no_misspelling() {
    let parsed = parse(&[("a.yaml", "security_groups: [{id: g, rename: x, shared: true}]")], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    assert_eq!(parsed.policy.groups.len(), 1);
    let parsed = parse(&[("a.yaml", "security_groups: [{id: g, statefu: false}]")], None);
    assert_eq!(parsed.diagnostics.len(), 1, "seven letters are enough");
}

/// "A malformed object is refused whole" (semantics, "Change"), also where all but one field of it is good.
#[test]
fn one_bad_field_refuses_the_whole_object() {
    let groups = "security_groups: [{id: g}]\n";
    let port = |field: &str| {
        format!(
            "{groups}ports: [{{id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01', security_groups: [g], {field}}}]"
        )
    };
    let rule = |field: &str| {
        format!(
            "security_groups: [{{id: g, security_group_rules: [{{id: r, direction: ingress, ethertype: IPv4, {field}}}]}}]"
        )
    };
    assert_eq!(sound(&port("fixed_ips: [{ip_address: 10.0.0.1}]")).ports.len(), 1);
    assert_eq!(sound(&rule("protocol: tcp")).groups[&"g".into()].rules.len(), 1);
    for text in [
        port("fixed_ips: [{ip_address: 10.0.0.1}, {ip_address: x}]"),
        port("fixed_ips: [{ip_adress: 10.0.0.1}]"),
        port("allowed_address_pairs: [{ip_address: x}]"),
        port("port_security_enabled: 0"),
        port("device_owner: 1"),
        port("fixed_ip: []"),
        rule("protocol: tcp, remote_ip_prefix: x"),
        rule("protocol: tcp, port_range_max: 80"),
        rule("port_range_min: 80, port_range_max: 80"),
        rule("remote_ip_prefx: 10.0.0.0/8"),
        "security_groups: [{id: g, stateful: 1}]".to_owned(),
        "address_groups: [{id: a, addresses: [10.0.0.0/8, x]}]".to_owned(),
    ] {
        let parsed = parse(&[("a.yaml", &text)], None);
        assert!(!parsed.diagnostics.is_empty() && !parsed.document_refused, "{text}");
        let Policy { groups, address_groups, ports } = &parsed.policy;
        let rules: usize = groups.values().map(|group| group.rules.len()).sum();
        assert_eq!((rules, address_groups.len(), ports.len()), (0, 0, 0), "{text}");
        assert_eq!(parsed.refused.len(), 1, "{text}");
    }
}

/// A change of the example: what is said of it, and the policy afterwards.
fn change(text: &str, expected: Expect) -> Policy {
    let mut policy = sound(WEB);
    let changes = super::parse_changes(("change", text), &policy);
    let said: Vec<_> = changes.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    expected.assert_eq(&said.concat());
    assert_eq!(changes.document_refused, changes.diagnostics.iter().any(|of| of.object == "document"));
    policy.apply(changes.delta);
    policy
}

#[test]
fn a_change_refers_to_what_it_does_not_have_and_leaves_it_as_it_was() {
    let before = sound(WEB);
    let after = change(
        r#"{"ports": [{"id": "p-2", "network_id": "net-1", "mac_address": "fa:16:3e:00:00:02", "security_groups": ["sg-1", "sg-2"]}],
            "security_groups": [{"id": "sg-2", "security_group_rules": [
                {"id": "r3", "direction": "egress", "ethertype": "IPv4", "remote_address_group_id": "ag-1"}]}]}"#,
        expect![],
    );
    assert_eq!(after.ports.len(), 2);
    assert_eq!(after.groups[&"sg-2".into()].rules.len(), 1);
    assert_eq!(
        (&after.address_groups, &after.ports[&"p-1".into()]),
        (&before.address_groups, &before.ports[&"p-1".into()])
    );
}

#[test]
fn what_is_wrong_in_a_change_stays_as_it_was() {
    let before = sound(WEB);
    let after = change(
        r#"{"ports": [{"id": "p-1", "network_id": "net-1", "mac_address": "x", "security_groups": ["sg-9"]}],
 "security_groups": [{"id": "sg-1", "security_group_rules": [
   {"id": "r1", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 9}]}]}"#,
        expect![[r#"
            change:1: port p-1: mac_address: "x": not a MAC address (six octets like fa:16:3e:00:00:01)
            change:1: port p-1: security_groups: security group sg-9 is not defined
            change:3: rule r1 of security group sg-1: port_range_max: is missing beside port_range_min
        "#]],
    );
    assert_eq!(after.ports, before.ports);
    let rules = &after.groups[&"sg-1".into()].rules;
    assert_eq!(rules.as_slice(), &before.groups[&"sg-1".into()].rules[..1], "r2 is gone, r1 as it was");
    assert_eq!(
        change(
            "{\"ports\": [",
            expect![[r#"
        change:1: document: syntax: bad YAML: unclosed bracket '[' at line 1, column 11
    "#]]
        )
        .ports,
        before.ports
    );
}

#[test]
fn nothing_new_is_no_change() {
    let before = sound(WEB);
    let changes = super::parse_changes(("change", WEB), &before);
    assert!(changes.delta.is_empty() && changes.diagnostics.is_empty());
}
