//! Flows at random, of shapes that Open vSwitch accepts: each match has the prerequisites of its fields.

use proptest::prelude::*;
use rust_openflow::{
    Action, CT_EST, CT_INV, CT_NEW, CT_RPL, CT_TRK, Ct, CtZone, Field, Flow, Match, PortNo, Subfield,
};

type Setting = (Field, u128, u128);

fn exact(field: Field, value: impl Strategy<Value = u128>) -> impl Strategy<Value = Setting> {
    value.prop_map(move |value| (field, value, field.full_mask()))
}

fn bits(field: Field) -> u128 {
    if field.bits() >= 128 { u128::MAX } else { (1 << field.bits()) - 1 }
}

/// Any value under a prefix mask, any mask, or exactly.
fn masked(field: Field) -> impl Strategy<Value = Setting> {
    let width = u32::from(field.bits());
    prop_oneof![
        any::<u128>().prop_map(move |value| (field, value & bits(field), field.full_mask())),
        (any::<u128>(), 1..width).prop_map(move |(value, length)| {
            let mask = bits(field) & !(bits(field) >> length);
            (field, value & mask, mask)
        }),
        (any::<u128>(), any::<u128>()).prop_map(move |(value, mask)| {
            let mask = mask & bits(field) | 1;
            (field, value & mask, mask)
        }),
    ]
}

fn port(field: Field) -> impl Strategy<Value = Setting> {
    prop_oneof![exact(field, any::<u16>().prop_map(u128::from)), masked(field)]
}

fn set(settings: Vec<Setting>) -> Match {
    settings
        .into_iter()
        .fold(Match::new(), |matches, (field, value, mask)| matches.with_mask(field, value, mask))
}

fn some<S: Strategy<Value = Setting> + 'static>(strategies: Vec<S>) -> BoxedStrategy<Vec<Setting>> {
    strategies
        .into_iter()
        .map(|strategy| proptest::option::weighted(0.4, strategy))
        .collect::<Vec<_>>()
        .prop_map(|settings| settings.into_iter().flatten().collect())
        .boxed()
}

fn any_packet() -> BoxedStrategy<Vec<Setting>> {
    some(vec![
        masked(Field::Reg(0)).boxed(),
        masked(Field::Reg(7)).boxed(),
        masked(Field::Reg(15)).boxed(),
        masked(Field::Metadata).boxed(),
        masked(Field::TunId).boxed(),
        masked(Field::PktMark).boxed(),
        exact(Field::InPort, (1u128..0xff00).boxed()).boxed(),
        masked(Field::EthSrc).boxed(),
        masked(Field::EthDst).boxed(),
        exact(Field::VlanVid, (0x1000u128..0x2000).boxed()).boxed(),
        masked(Field::CtMark).boxed(),
        masked(Field::CtLabel).boxed(),
        exact(Field::CtZone, any::<u16>().prop_map(u128::from)).boxed(),
        exact(Field::ConjId, any::<u32>().prop_map(u128::from)).boxed(),
    ])
}

fn ip_header() -> BoxedStrategy<Vec<Setting>> {
    some(vec![
        exact(Field::IpDscp, 0u128..64).boxed(),
        exact(Field::IpEcn, 0u128..4).boxed(),
        exact(Field::IpTtl, 0u128..256).boxed(),
        prop_oneof![
            Just((Field::IpFrag, 0, 3)),
            Just((Field::IpFrag, 1, 3)),
            Just((Field::IpFrag, 3, 3)),
            Just((Field::IpFrag, 1, 1)),
            Just((Field::IpFrag, 0, 2))
        ]
        .boxed(),
    ])
}

fn addresses(v6: bool) -> BoxedStrategy<Vec<Setting>> {
    if v6 {
        some(vec![
            masked(Field::Ipv6Src).boxed(),
            masked(Field::Ipv6Dst).boxed(),
            masked(Field::Ipv6Label).boxed(),
        ])
    } else {
        some(vec![masked(Field::Ipv4Src), masked(Field::Ipv4Dst)])
    }
}

fn protocol(v6: bool) -> BoxedStrategy<Vec<Setting>> {
    let with = |proto: u128, fields: Vec<BoxedStrategy<Setting>>| {
        some(fields).prop_map(move |mut settings| {
            settings.push((Field::IpProto, proto, 0xff));
            settings
        })
    };
    let byte = |field| exact(field, any::<u8>().prop_map(u128::from)).boxed();
    let (icmp, kind, code) = if v6 {
        (58, Field::Icmpv6Type, Field::Icmpv6Code)
    } else {
        (1, Field::Icmpv4Type, Field::Icmpv4Code)
    };
    let flags = masked(Field::TcpFlags).boxed();
    prop_oneof![
        Just(vec![]),
        with(47, vec![]),
        with(6, vec![port(Field::TcpSrc).boxed(), port(Field::TcpDst).boxed(), flags]),
        with(17, vec![port(Field::UdpSrc).boxed(), port(Field::UdpDst).boxed()]),
        with(132, vec![port(Field::SctpSrc).boxed(), port(Field::SctpDst).boxed()]),
        with(icmp, vec![byte(kind), byte(code)]),
    ]
    .boxed()
}

/// The connection's original tuple, with a valid state before it.
fn connection(v6: bool) -> BoxedStrategy<Vec<Setting>> {
    let (src, dst) = if v6 { (Field::CtIpv6Src, Field::CtIpv6Dst) } else { (Field::CtNwSrc, Field::CtNwDst) };
    let ports = some(vec![port(Field::CtTpSrc).boxed(), port(Field::CtTpDst).boxed()]);
    let proto = prop_oneof![
        Just(vec![]),
        (prop_oneof![Just(6u128), Just(17), Just(132)], ports).prop_map(|(proto, mut ports)| {
            ports.push((Field::CtNwProto, proto, 0xff));
            ports
        })
    ];
    let state = prop_oneof![
        Just((CT_TRK | CT_NEW, CT_TRK | CT_NEW)),
        Just((CT_TRK | CT_EST, CT_TRK | CT_EST | CT_RPL | CT_INV)),
        Just((CT_TRK, CT_TRK | CT_INV)),
    ];
    let tuple = (some(vec![masked(src), masked(dst)]), proto, state).prop_map(
        |(mut settings, proto, (value, mask))| {
            settings.extend(proto);
            settings.push((Field::CtState, u128::from(value), u128::from(mask)));
            settings
        },
    );
    prop_oneof![Just(vec![]), tuple].boxed()
}

fn ip(v6: bool) -> BoxedStrategy<Vec<Setting>> {
    let kind = if v6 { 0x86dd } else { 0x0800 };
    (addresses(v6), ip_header(), protocol(v6), connection(v6))
        .prop_map(move |parts| {
            let mut settings = [parts.0, parts.1, parts.2, parts.3].concat();
            settings.push((Field::EthType, kind, 0xffff));
            // Ports of later fragments cannot be matched.
            if settings.iter().any(|(field, ..)| *field == Field::IpProto) {
                settings.retain(|(field, value, _)| *field != Field::IpFrag || *value != 3);
            }
            settings
        })
        .boxed()
}

fn arp() -> BoxedStrategy<Vec<Setting>> {
    some(vec![
        exact(Field::ArpOp, 1u128..256).boxed(),
        masked(Field::ArpSpa).boxed(),
        masked(Field::ArpTpa).boxed(),
        masked(Field::ArpSha).boxed(),
        masked(Field::ArpTha).boxed(),
    ])
    .prop_map(|mut settings| {
        settings.push((Field::EthType, 0x0806, 0xffff));
        settings
    })
    .boxed()
}

fn neighbour() -> BoxedStrategy<Vec<Setting>> {
    let solicitation =
        some(vec![masked(Field::NdTarget), masked(Field::NdSll)]).prop_map(|settings| (settings, 135));
    let advertisement =
        some(vec![masked(Field::NdTarget), masked(Field::NdTll)]).prop_map(|settings| (settings, 136));
    prop_oneof![solicitation.boxed(), advertisement.boxed()]
        .prop_map(|(mut settings, kind): (Vec<Setting>, u128)| {
            settings.push((Field::EthType, 0x86dd, 0xffff));
            settings.push((Field::IpProto, 58, 0xff));
            settings.push((Field::Icmpv6Type, kind, 0xff));
            settings.push((Field::Icmpv6Code, 0, 0xff));
            settings
        })
        .boxed()
}

pub(crate) fn matches() -> BoxedStrategy<Match> {
    let special = prop_oneof![Just(vec![]), ip(false), ip(true), arp(), neighbour()];
    (any_packet(), special).prop_map(|(common, special)| set([common, special].concat())).boxed()
}

fn subfield(field: Field) -> impl Strategy<Value = Subfield> {
    let width = field.bits();
    (0..width, 1..=width)
        .prop_map(move |(offset, bits)| Subfield::new(field, offset, bits.min(width - offset)))
}

fn simple_action() -> BoxedStrategy<Action> {
    let port = prop_oneof![(1u32..0xff00).prop_map(PortNo), Just(PortNo::LOCAL), Just(PortNo::IN_PORT)];
    prop_oneof![
        port.clone().prop_map(Action::Output),
        any::<u8>().prop_filter("a table", |table| *table < 255).prop_map(Action::resubmit),
        (port, 0u8..255).prop_map(|(port, table)| Action::Resubmit {
            port: Some(port).filter(|port| *port != PortNo::IN_PORT),
            table: Some(table),
            ct: false
        }),
        prop_oneof![
            masked(Field::Reg(3)).boxed(),
            masked(Field::EthDst).boxed(),
            masked(Field::XReg(2)).boxed(),
            masked(Field::XXReg(1)).boxed(),
            masked(Field::Metadata).boxed(),
            masked(Field::TunId).boxed()
        ]
        .prop_map(|(field, value, mask)| Action::SetField { field, value, mask }),
        (subfield(Field::Reg(3)), any::<u64>())
            .prop_map(|(dst, value)| Action::Load { dst, value: value & (u64::MAX >> (64 - dst.bits)) }),
        subfield(Field::Reg(4))
            .prop_map(|src| Action::Move { src, dst: Subfield { field: Field::Reg(5), ..src } }),
        subfield(Field::Reg(6)).prop_map(Action::Push),
        subfield(Field::Reg(6)).prop_map(Action::OutputReg),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Action::note),
        Just(Action::CtClear),
        Just(Action::Exit),
    ]
    .boxed()
}

fn ct() -> BoxedStrategy<Action> {
    let zone = prop_oneof![
        any::<u16>().prop_map(CtZone::Imm),
        Just(CtZone::Field(Subfield::new(Field::Reg(8), 0, 16))),
    ];
    let mark = masked(Field::CtMark).prop_map(|(field, value, mask)| Action::SetField { field, value, mask });
    let label =
        masked(Field::CtLabel).prop_map(|(field, value, mask)| Action::SetField { field, value, mask });
    let exec = proptest::collection::vec(prop_oneof![mark, label], 0..3);
    (any::<bool>(), any::<bool>(), zone, proptest::option::of(0u8..255), exec)
        .prop_map(|(commit, force, zone, table, exec)| {
            let exec = if commit { exec } else { vec![] };
            Action::Ct(Ct { commit, force: force && commit, zone, table, alg: 0, exec })
        })
        .boxed()
}

fn conjunctions() -> BoxedStrategy<Vec<Action>> {
    let one = (any::<u32>(), 2u8..=64).prop_flat_map(|(id, n_clauses)| {
        (1..=n_clauses).prop_map(move |clause| Action::Conjunction { id, clause, n_clauses })
    });
    proptest::collection::vec(one, 1..20).boxed()
}

fn actions() -> BoxedStrategy<Vec<Action>> {
    let nested = proptest::collection::vec(simple_action(), 1..3).prop_map(Action::Clone);
    let list = proptest::collection::vec(prop_oneof![4 => simple_action(), 1 => nested], 0..5);
    let goto = (list.clone(), 101u8..255).prop_map(|(mut list, table)| {
        list.push(Action::Goto(table));
        list
    });
    prop_oneof![list, goto].boxed()
}

/// Flows that Open vSwitch accepts, in tables 0 to 100.
pub(crate) fn flow() -> BoxedStrategy<Flow> {
    let with_match = matches().prop_flat_map(|matches| {
        let is_ip = matches.get(Field::EthType).is_some_and(|(kind, _)| kind == 0x0800 || kind == 0x86dd);
        let actions = if is_ip {
            prop_oneof![
                2 => actions(),
                2 => (actions(), ct()).prop_map(|(mut list, ct)| { list.insert(0, ct); list }),
                1 => conjunctions()
            ]
            .boxed()
        } else {
            prop_oneof![3 => actions(), 1 => conjunctions()].boxed()
        };
        // A flow with conjunctions cannot match on one.
        (Just(matches), actions).prop_map(|(matches, actions)| {
            let conjunctive = actions.iter().any(|action| matches!(action, Action::Conjunction { .. }));
            (if conjunctive { matches.without(Field::ConjId) } else { matches }, actions)
        })
    });
    (0u8..=100, any::<u16>(), any::<u64>(), with_match)
        .prop_map(|(table, priority, cookie, (matches, actions))| {
            Flow::new(table, priority, matches, actions).with_cookie(cookie)
        })
        .boxed()
}
