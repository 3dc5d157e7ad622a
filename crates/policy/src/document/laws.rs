//! Laws of reading: a policy written down reads back, and no text does harm.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::{parse, write};
use crate::{AddressGroup, AddressPair, Direction, Ethertype, GroupId, MacAddr, Policy, Port, PortProtocol};
use crate::{PortRange, Remote, Rule, SecurityGroup, Service};
use ipnet::IpNet;
use proptest::prelude::*;

fn prefix(ethertype: Ethertype) -> impl Strategy<Value = IpNet> {
    let longest = if ethertype == Ethertype::Ipv4 { 32 } else { 128 };
    (any::<u128>(), 0u8..=longest).prop_map(move |(bits, length)| {
        let ip = match (ethertype, Ipv6Addr::from(bits).octets()) {
            (Ethertype::Ipv4, [a, b, c, d, ..]) => IpAddr::from([a, b, c, d]),
            (Ethertype::Ipv6, octets) => IpAddr::from(octets),
        };
        IpNet::new(ip, length).unwrap().trunc()
    })
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![prefix(Ethertype::Ipv4), prefix(Ethertype::Ipv6)]
}

fn service(ethertype: Ethertype) -> impl Strategy<Value = Service> {
    let taken = PortProtocol::ALL.map(PortProtocol::number);
    prop_oneof![
        Just(Service::Any),
        (0usize..5, proptest::option::of((any::<u16>(), any::<u16>()))).prop_map(|(protocol, range)| {
            let range = range.map(|(a, b)| PortRange { min: a.min(b), max: a.max(b) });
            Service::Ports { protocol: PortProtocol::ALL[protocol], range }
        }),
        (proptest::option::of(any::<u8>()), proptest::option::of(any::<u8>()))
            .prop_map(|(icmp_type, code)| Service::Icmp { icmp_type, code: icmp_type.and(code) }),
        (1u8..).prop_filter_map("a protocol of its own", move |number| {
            (number != ethertype.icmp() && !taken.contains(&number)).then_some(Service::Protocol(number))
        }),
    ]
}

/// A rule of groups g0 to g2 and address groups a0 and a1; its id is given later.
fn rule() -> impl Strategy<Value = Rule> {
    let ethertype = prop_oneof![Just(Ethertype::Ipv4), Just(Ethertype::Ipv6)];
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    (ethertype, direction).prop_flat_map(|(ethertype, direction)| {
        let remote = prop_oneof![
            Just(Remote::Any),
            prefix(ethertype).prop_map(Remote::Prefix),
            (0..9).prop_map(|n| Remote::Group(format!("g{n}").into())),
            (0..2).prop_map(|n| Remote::AddressGroup(format!("a{n}").into())),
        ];
        (service(ethertype), remote).prop_map(move |(service, remote)| Rule {
            id: "".into(),
            direction,
            ethertype,
            service,
            remote,
        })
    })
}

fn mac() -> impl Strategy<Value = MacAddr> {
    // The address of a station: a group's is refused.
    any::<[u8; 6]>().prop_map(|[first, rest @ ..]| {
        let [b, c, d, e, f] = rest;
        MacAddr([first & !1, b, c, d, e, f])
    })
}

fn port() -> impl Strategy<Value = Port> {
    let pair = (any_prefix(), proptest::option::of(mac())).prop_map(|(ip, mac)| AddressPair { ip, mac });
    let pairs = proptest::collection::btree_set(pair, 0..3);
    let ips = proptest::collection::btree_set(any::<IpAddr>(), 0..3);
    let groups = proptest::collection::btree_set((0..3).prop_map(|n| GroupId::from(format!("g{n}"))), 0..3);
    let host = proptest::option::of("[a-z]{1,8}");
    (mac(), ips, pairs, groups, any::<bool>(), "[ -~]{0,12}", host).prop_map(
        |(
            mac,
            fixed_ips,
            allowed_address_pairs,
            security_groups,
            port_security_enabled,
            device_owner,
            host,
        )| Port {
            id: "".into(),
            network_id: "n".into(),
            mac,
            fixed_ips,
            allowed_address_pairs,
            security_groups,
            port_security_enabled,
            device_owner,
            host,
        },
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    let groups = proptest::collection::vec(
        (any::<String>(), any::<bool>(), proptest::collection::vec(rule(), 0..4)),
        3,
    );
    let addresses = proptest::collection::vec(proptest::collection::btree_set(any_prefix(), 0..4), 2);
    (groups, addresses, proptest::collection::vec(port(), 0..3)).prop_map(|(groups, addresses, ports)| {
        let mut policy = Policy::default();
        for (n, (name, stateful, mut rules)) in groups.into_iter().enumerate() {
            for (m, rule) in rules.iter_mut().enumerate() {
                rule.id = format!("r{n}-{m}").into();
            }
            let id = GroupId::from(format!("g{n}"));
            policy.groups.insert(id.clone(), SecurityGroup { id, name, stateful, rules }.into());
        }
        for (n, addresses) in addresses.into_iter().enumerate() {
            let group = AddressGroup { id: format!("a{n}").into(), name: String::new(), addresses };
            policy.address_groups.insert(group.id.clone(), group.into());
        }
        for (n, port) in ports.into_iter().enumerate() {
            let port = Port { id: format!("p{n}").into(), ..port };
            policy.ports.insert(port.id.clone(), port.into());
        }
        policy
    })
}

/// Every reference of a policy leads somewhere, but for remote groups.
fn is_closed(policy: &Policy) -> bool {
    let remotes = policy.groups.values().flat_map(|group| group.rules.iter().map(|rule| &rule.remote));
    let defined: BTreeSet<_> = policy.groups.keys().collect();
    remotes.into_iter().all(|remote| match remote {
        Remote::AddressGroup(id) => policy.address_groups.contains_key(id),
        _ => true,
    }) && policy.ports.values().all(|port| port.security_groups.iter().all(|id| defined.contains(id)))
}

proptest! {
    #[test]
    fn a_policy_reads_back_as_it_was_written(policy in policies()) {
        let json = write(&policy).to_string();
        for name in ["policy.json", "policy"] {
            let parsed = parse(&[(name, &json)], None);
            prop_assert_eq!(&parsed.diagnostics, &[]);
            prop_assert_eq!(&parsed.policy, &policy);
        }
    }

    #[test]
    fn damaged_text_leaves_a_policy_whole(
        before in policies(),
        after in policies(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~\\n]{0,3}", 0usize..4), 1..4),
        yaml: bool,
    ) {
        let mut text = if yaml { write(&after).to_string() } else { format!("{:#}", write(&after)) };
        for (at, inserted, removed) in damage {
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let removed: usize = text[at..].chars().take(removed).map(char::len_utf8).sum();
            text.replace_range(at..at + removed, &inserted);
        }
        let parsed = parse(&[(if yaml { "a.yaml" } else { "a.json" }, &text)], Some(&before));
        prop_assert!(is_closed(&parsed.policy));
        prop_assert_eq!(parsed.document_refused && parsed.policy != before, false);
        prop_assert!(parsed.diagnostics.iter().all(|diagnostic| diagnostic.line >= 1));
        if parsed.diagnostics.is_empty() {
            prop_assert!(parsed.refused.is_empty() && !parsed.document_refused);
        }
    }
}
