//! Matches, flows and actions as values: equality, canonical form, bounds.
#![allow(clippy::unwrap_used)] // helpers of tests may fail like tests

use std::collections::BTreeSet;

use rust_openflow::{Action, CT_EST, CT_TRK, Field, FieldError, Flow, FlowKey, Match, Subfield};

const MAX32: u128 = 0xffff_ffff;

#[test]
fn matches_are_equal_whatever_the_order_they_were_built_in() {
    let one =
        Match::new().with(Field::Reg(7), 3u32).with(Field::EthType, 0x0800u32).with(Field::InPort, 1u32);
    let other =
        Match::new().with(Field::InPort, 1u32).with(Field::EthType, 0x0800u32).with(Field::Reg(7), 3u32);
    assert_eq!(one, other);
    assert_eq!(BTreeSet::from([one.clone(), other]).len(), 1);
    let fields: Vec<_> = one.iter().map(|(field, ..)| field).collect();
    assert_eq!(fields, [Field::InPort, Field::EthType, Field::Reg(7)]);
    assert_ne!(one, one.clone().with(Field::Reg(7), 4u32));
}

#[test]
fn values_are_cut_to_their_masks_and_empty_masks_say_nothing() {
    let net = Match::new().with_mask(Field::Ipv4Src, 0x0a01_0203u32, 0xff00_0000u32);
    assert_eq!(net.get(Field::Ipv4Src), Some((0x0a00_0000, 0xff00_0000)));
    assert_eq!(net, Match::new().with_mask(Field::Ipv4Src, 0x0a00_0000u32, 0xff00_0000u32));
    assert_eq!(net.clone().with_mask(Field::Ipv4Src, 1u32, 0u32), Match::new());
    assert_eq!(net.without(Field::Ipv4Src), Match::new());
    let exact = Match::new().with_mask(Field::Reg(1), 5u32, u32::MAX);
    assert_eq!(exact, Match::new().with(Field::Reg(1), 5u32));
    assert_eq!(exact.get(Field::Reg(2)), None);
}

#[test]
fn wide_registers_are_the_registers_they_consist_of() {
    let wide = Match::new().with(Field::XReg(1), 0x1_0000_0002_u64);
    assert_eq!(wide, Match::new().with(Field::Reg(2), 1u32).with(Field::Reg(3), 2u32));
    assert_eq!(wide.get(Field::XReg(1)), Some((0x1_0000_0002, u128::from(u64::MAX))));
    assert_eq!(wide.get(Field::XXReg(0)), Some((0x1_0000_0002, u128::from(u64::MAX))));
    let part = Match::new().with_mask(Field::XXReg(3), 1u32, 0xffu32);
    assert_eq!(part.iter().collect::<Vec<_>>(), [(Field::Reg(15), 1, 0xff)]);
    assert_eq!(wide.without(Field::XReg(1)), Match::new());
}

#[test]
fn vlans_are_one_thing_whichever_way_they_are_said() {
    let tci = Match::new().with_mask(Field::VlanTci, 0x100au32, 0x1fffu32);
    let vid = Match::new().with(Field::VlanVid, 0x100au32);
    assert_eq!(tci, vid);
    assert_eq!(vid.get(Field::VlanTci), Some((0x100a, 0x1fff)));
    let untagged = Match::new().with(Field::VlanTci, 0u32);
    assert_eq!(untagged, Match::new().with(Field::VlanVid, 0u32));
    let both = Match::new().with(Field::VlanTci, 0x700au32);
    assert_eq!(both, vid.clone().with(Field::VlanPcp, 3u32));
    assert_eq!(both.to_string(), "dl_vlan=10,dl_vlan_pcp=3");
    // A priority under a mask can only be said by the TCI; saying the VLAN anew replaces all of it.
    let masked = vid.clone().with_mask(Field::VlanTci, 0x5000u32, 0x5000u32);
    assert_eq!(masked.iter().collect::<Vec<_>>(), [(Field::VlanTci, 0x5000, 0x5000)]);
    assert_eq!(masked.clone().with(Field::VlanTci, 0x100au32).get(Field::VlanPcp), Some((0, 7)));
    assert_eq!(masked.with_mask(Field::VlanTci, 0x100au32, 0x1fffu32), vid);
    let tagged = Match::new().with_mask(Field::VlanTci, 0x1000u32, 0x1000u32);
    assert_eq!(tagged.to_string(), "vlan_tci=0x1000/0x1000");
}

/// Parts and the whole TCI are one thing also where there is a priority and no tag that it could stand in.
#[test]
fn a_priority_without_a_tag_is_the_tci_in_any_order() {
    let tci = |value: u32, mask: u32| Match::new().with_mask(Field::VlanTci, value, mask);
    let priority = Match::new().with(Field::VlanPcp, 3u32);
    assert_eq!(priority, tci(0x6000, 0xe000));
    assert_eq!(priority.to_string().parse().as_ref(), Ok(&priority));
    let untagged = priority.clone().with_mask(Field::VlanVid, 0u32, 0xfffu32);
    assert_eq!(untagged, tci(0x6000, 0xefff));
    assert_eq!(untagged, tci(0, 0xfff).with(Field::VlanPcp, 3u32));
    let tagged = Match::new().with(Field::VlanVid, 0x100au32).with(Field::VlanPcp, 3u32);
    assert_eq!(priority.with(Field::VlanVid, 0x100au32), tagged);
    assert_eq!(tagged.without(Field::VlanVid), tci(0x6000, 0xe000));
    assert_eq!(tci(0x6000, 0xe000).without(Field::VlanPcp), Match::new());
}

#[test]
fn short_and_long_ports_are_the_same_port() {
    let local = Match::new().with(Field::InPortNxm, 0xfffeu32);
    assert_eq!(local, Match::new().with(Field::InPort, 0xffff_fffeu32));
    assert_eq!(local.get(Field::InPortNxm), Some((0xfffe, 0xffff)));
    let tos = Match::new().with(Field::IpTos, 184u32);
    assert_eq!(tos.get(Field::IpDscp), Some((46, 0x3f)));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_cut() {
    let mut matches = Match::new();
    let wide = matches.set(Field::Reg(0), MAX32 + 1, MAX32);
    assert_eq!(wide, Err(FieldError::TooWide { field: Field::Reg(0), value: MAX32 + 1, bits: 32 }));
    let wide = matches.set(Field::IpDscp, 64, Field::IpDscp.full_mask());
    assert_eq!(wide, Err(FieldError::TooWide { field: Field::IpDscp, value: 64, bits: 6 }));
    assert_eq!(matches.set(Field::Reg(16), 1, MAX32), Err(FieldError::NoSuchField(Field::Reg(16))));
    let masked = matches.set(Field::EthType, 0x0800, 0xff00);
    assert_eq!(masked, Err(FieldError::NotMaskable { field: Field::EthType, mask: 0xff00 }));
    assert_eq!(matches, Match::new());
}

#[test]
#[should_panic(expected = "needs more than 16 bits")]
fn building_with_a_value_that_does_not_fit_is_a_panic() {
    let _ = Match::new().with(Field::TcpDst, 65_536u32);
}

#[test]
fn connection_states_have_eight_bits() {
    let state = Match::new().with_mask(Field::CtState, CT_TRK | CT_EST, u32::MAX);
    assert_eq!(state.get(Field::CtState), Some((u128::from(CT_TRK | CT_EST), 0xff)));
    assert_eq!(state.to_string(), "ct_state=est|trk");
}

#[test]
fn loads_and_set_fields_of_the_same_bits_are_canonically_one() {
    let list =
        |text| Action::parse_list(text).unwrap().into_iter().map(Action::canonical).collect::<Vec<_>>();
    assert_eq!(list("load:3->reg2"), list("set_field:3->reg2"));
    assert_eq!(list("load:3->NXM_NX_REG2[4..7]"), list("set_field:0x30/0xf0->reg2"));
    assert_ne!(list("load:3->reg2[0..15]"), list("set_field:3->reg2"));
    assert_eq!(list("clone(load:3->reg2)"), list("clone(set_field:3->reg2)"));
    assert_eq!(list("ct(commit,exec(load:1->ct_mark))"), list("ct(commit,exec(set_field:1->ct_mark))"));
    assert_eq!(Action::Note(vec![1]).canonical(), Action::note([1]));
}

#[test]
fn values_that_cannot_be_said_are_encoding_errors() {
    let mut out = bytes::BytesMut::new();
    for action in [
        Action::Conjunction { id: 1, clause: 0, n_clauses: 2 },
        Action::Load { dst: Subfield::new(Field::Reg(0), 0, 2), value: 4 },
        Action::OutputReg(Subfield::new(Field::Reg(0), 30, 3)),
        Action::OutputReg(Subfield::new(Field::XXReg(0), 0, 65)),
        Action::OutputReg(Subfield::new(Field::Reg(16), 0, 1)),
        Action::Move { src: Subfield::whole(Field::Reg(0)), dst: Subfield::whole(Field::XReg(0)) },
        Action::set_field(Field::Reg(99), 1u32),
        Action::set_field(Field::TcpDst, 65_536u32),
        Action::Resubmit { port: Some(rust_openflow::PortNo(0x10_0000)), table: Some(1), ct: false },
        Action::Clone(vec![Action::Goto(1)]),
    ] {
        assert!(Action::encode_list(std::slice::from_ref(&action), &mut out).is_err(), "{action:?}");
    }
}

#[test]
fn keys_order_and_print_flows() {
    let low: Flow = "table=1,priority=1,ip actions=drop".parse().unwrap();
    let high: Flow = "table=1,priority=2,ip actions=drop".parse().unwrap();
    let next: Flow = "table=2,priority=0 actions=drop".parse().unwrap();
    let keys: BTreeSet<FlowKey> = [&next, &high, &low].map(Flow::key).into();
    let printed: Vec<_> = keys.iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["table=1, priority=1,ip", "table=1, priority=2,ip", "table=2, priority=0"]);
}

#[test]
fn statistics_are_read_with_the_flow_or_passed_over() {
    let line = " cookie=0x5, duration=12.345s, table=3, n_packets=7, n_bytes=490, idle_age=3, priority=9,ip actions=drop";
    let (flow, stats) = Flow::parse_with_stats(line).unwrap();
    assert_eq!(flow.to_string(), "cookie=0x5, table=3, priority=9,ip actions=drop");
    assert_eq!((stats.packets, stats.bytes, stats.duration_s, stats.duration_ns), (7, 490, 12, 345_000_000));
    assert_eq!(line.parse::<Flow>().unwrap(), flow);
}
