//! Laws that hold for every policy and every frame.

use proptest::prelude::*;

use super::*;
use crate::{PortProtocol, PortRange, Remote, Rule, SecurityGroup, Service};

/// Addresses and MACs of few stations, so that frames meet rules.
fn station() -> impl Strategy<Value = u8> {
    1u8..4
}

fn rule() -> impl Strategy<Value = Rule> {
    let service = prop_oneof![
        Just(Service::Any),
        (0u16..3, 0u16..3).prop_map(|(min, more)| Service::Ports {
            protocol: PortProtocol::Tcp,
            range: Some(PortRange { min, max: min + more }),
        }),
        Just(Service::Ports { protocol: PortProtocol::Sctp, range: Some(PortRange { min: 1, max: 1 }) }),
        proptest::option::of(prop_oneof![Just(8), Just(3)])
            .prop_map(|icmp_type| Service::Icmp { icmp_type, code: None }),
    ];
    let remote = prop_oneof![
        Just(Remote::Any),
        Just(Remote::Group("g".into())),
        Just(Remote::Group("h".into())),
        station().prop_map(|n| Remote::Prefix(ip(&format!("10.0.0.{n}")).into())),
    ];
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    (direction, service, remote).prop_map(|(direction, service, remote)| Rule {
        id: "r".into(),
        direction,
        ethertype: crate::Ethertype::Ipv4,
        service,
        remote,
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::vec(rule(), 0..4).prop_map(|mut rules| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule.id = format!("r{index}").into();
        }
        rules
    })
}

/// Stations 1 in group g, 2 in h, 3 in both.
fn policy_of(g: Vec<Rule>, h: Vec<Rule>, h_stateful: bool) -> Policy {
    let text = ports(&[
        ("p1", 1, ", security_groups: [g]"),
        ("p2", 2, ", security_groups: [h]"),
        ("p3", 3, ", security_groups: [g, h], allowed_address_pairs: [{ip_address: 0.0.0.0/0}]"),
    ]);
    let mut policy = policy(&format!("security_groups: [{{id: g}}, {{id: h}}]\n{text}"));
    for (id, stateful, rules) in [("g", true, g), ("h", h_stateful, h)] {
        let group = SecurityGroup { id: id.into(), name: String::new(), stateful, rules };
        policy.groups.insert(id.into(), group.into());
    }
    policy
}

fn policies() -> impl Strategy<Value = Policy> {
    (rules(), rules(), any::<bool>()).prop_map(|(g, h, stateful)| policy_of(g, h, stateful))
}

/// A packet from one station to another, or an error about the one that goes the other way.
fn payload(from: u8, to: u8) -> impl Strategy<Value = Payload> {
    let address = |n: u8| format!("10.0.0.{n}");
    let (src, dst) = (address(from), address(to));
    let flags = prop_oneof![Just(SYN), Just(ACK), Just(SYN | ACK), Just(0)];
    (prop_oneof![Just(6u8), Just(132), Just(1), Just(47)], 1u16..4, 1u16..4, flags, 0u8..9).prop_map(
        move |(protocol, sport, dport, tcp_flags, icmp_type)| match protocol {
            1 if icmp_type == 3 => error(&src, &dst, 3, tcp((&dst, sport), (&src, dport), SYN)),
            1 => icmp(&src, &dst, icmp_type, 0),
            47 => packet(&src, &dst, 47, Transport::None),
            6 => tcp((&src, sport), (&dst, dport), tcp_flags),
            _ => ported(132, (&src, sport), (&dst, dport)),
        },
    )
}

fn frames() -> impl Strategy<Value = (u8, Frame)> {
    (station(), station()).prop_flat_map(|(from, to)| {
        (payload(from, to), any::<bool>()).prop_map(move |(payload, to_all)| {
            let unicast = frame(from, to, payload);
            (from, if to_all { Frame { eth_dst: MacAddr::BROADCAST, ..unicast } } else { unicast })
        })
    })
}

fn host() -> Host {
    Host { bindings: (1..4).map(|n| (format!("p{n}").as_str().into(), 1)).collect() }
}

fn sender(n: u8) -> PortId {
    format!("p{n}").as_str().into()
}

proptest! {
    /// A rule more never closes anything: rules only allow. (A stateless one may: what it accepts is not tracked,
    /// so that replies lose their connection. Hence one frame, judged by the same tracking.)
    #[test]
    fn a_rule_more_never_drops_a_frame(
        policy in policies(),
        more in rule(),
        (from, frame) in frames(),
        invalid: bool,
    ) {
        let mut wider = policy.clone();
        let mut group = (*wider.groups[&"g".into()]).clone();
        group.rules.push(Rule { id: "z".into(), ..more });
        wider.groups.insert("g".into(), group.into());
        let tracking = if invalid { Tracking::Invalid } else { Tracking::first(&frame) };
        for (port, direction) in [(sender(from), Direction::Egress), ("p3".into(), Direction::Ingress)] {
            let judge = |policy| Evaluator::new(policy, Settings::default()).judge(&port, direction, &frame, &tracking);
            prop_assert!(!judge(&policy).accepted() || judge(&wider).accepted());
        }
    }

    /// "Revocation is exact": a change of policy keeps exactly the connections that the new policy would admit.
    #[test]
    fn a_connection_passes_if_and_only_if_it_would_be_admitted_now(
        new in policies(),
        direction in prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)],
        remote in station(),
        sport in 1u16..4,
        dport in 1u16..4,
    ) {
        let evaluator = Evaluator::new(&new, Settings::default());
        let address = |n| format!("10.0.0.{n}");
        let (own, other) = (address(1), address(remote));
        let outward = tcp((&own, dport), (&other, sport), ACK);
        let inward = tcp((&other, sport), (&own, dport), ACK);
        let first = if direction == Direction::Ingress { inward } else { outward };
        let port = "p1".into();
        let judge = |way, payload, tracking| {
            let (from, to) = if way == Direction::Ingress { (remote, 1) } else { (1, remote) };
            let judgement = evaluator.judge(&port, way, &frame(from, to, payload), &tracking);
            (judgement.accepted(), judgement.rules)
        };
        let Payload::Ip(packet) = first else { unreachable!("TCP is IP") };
        let tuple = packet.tuple();
        let fresh = judge(direction, first, Tracking::New(tuple));
        for (way, payload) in [(Direction::Ingress, inward), (Direction::Egress, outward)] {
            let reply = way != direction;
            let connection = Connection { original: direction, tuple, reply, related: false };
            prop_assert_eq!(judge(way, payload, Tracking::Connection(connection)), fresh.clone());
        }
    }

    /// What nobody's rule admits reaches nobody, in whatever order frames come.
    #[test]
    fn without_rules_no_packet_arrives(frames in proptest::collection::vec(frames(), 1..12)) {
        let mut model = Model::new(&policy_of(vec![], vec![], true), Settings::default(), host());
        for (from, frame) in &frames {
            let outcome = model.send(&sender(*from), frame);
            prop_assert!(!outcome.egress.accepted() && outcome.delivered.is_empty());
        }
    }

    /// Every verdict names its rules exactly when rules decided it.
    #[test]
    fn accepted_by_rule_means_rules_are_named(
        policy in policies(),
        frames in proptest::collection::vec(frames(), 1..12),
    ) {
        let mut model = Model::new(&policy, Settings::default(), host());
        for (from, frame) in &frames {
            let outcome = model.send(&sender(*from), frame);
            let receivers = outcome.delivered.iter().map(|(_, judgement)| judgement);
            for judgement in receivers.chain([&outcome.egress]) {
                prop_assert_eq!(judgement.verdict == Verdict::Accept(Basis::Rule), !judgement.rules.is_empty());
            }
            // A frame comes to a port only if the sender's port let it out.
            prop_assert!(outcome.egress.accepted() || outcome.delivered.is_empty());
        }
    }
}
