//! Bytes that no switch sends, each found by fuzzing: what is made of them means the same in text and when it is sent on.
#![allow(clippy::unwrap_used)] // helpers of tests may fail like tests

use bytes::{Bytes, BytesMut};
use rust_openflow::message::Xid;
use rust_openflow::{Action, DecodeError, Field, Flow, FlowMod, Match, Message, OxmHeader, PortNo, RawOxm};

fn bytes_of(flow_mod: FlowMod) -> BytesMut {
    let mut out = BytesMut::new();
    Message::FlowMod(flow_mod).encode(Xid(7), &mut out).unwrap();
    out
}

/// A message with the only occurrence of some bytes replaced.
fn with(mut bytes: BytesMut, from: &[u8], to: &[u8]) -> Bytes {
    let places: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert_eq!(places.len(), 1, "the bytes stand there once");
    bytes[places[0]..places[0] + to.len()].copy_from_slice(to);
    bytes.freeze()
}

/// From 65280 to the reserved ports no number is a port's; as text, 65535 would be read as the 16-bit number of ANY.
#[test]
fn an_output_to_a_number_that_no_port_has_is_not_printed_as_one() {
    for number in [0xff00_u32, 0xffff, 0xffff_feff] {
        let mut list = BytesMut::new();
        Action::encode_list(&[Action::Output(PortNo(number))], &mut list).unwrap();
        let read = Action::decode_list(&list).unwrap();
        let printed = Action::print_list(&read);
        assert!(printed.starts_with("action(0x"), "{printed}");
        assert_eq!(Action::parse_list(&printed).unwrap(), read);
        let mut again = BytesMut::new();
        Action::encode_list(&read, &mut again).unwrap();
        assert_eq!(again, list);
    }
}

/// Open vSwitch answers such a match with `OFPBMC_BAD_VALUE`.
#[test]
fn an_ingress_port_that_no_port_has_is_an_error() {
    let flow = |port: u32| Flow::new(0, 1, Match::new().with(Field::InPort, port), Vec::new());
    let message =
        |to: u32| with(bytes_of(FlowMod::add(&flow(0x1234))), &0x1234_u32.to_be_bytes(), &to.to_be_bytes());
    for number in [0xff00_u32, 0xffff, 0xffff_feff] {
        let error = Message::decode(&message(number)).unwrap_err();
        assert!(matches!(error, DecodeError::BadValue { what: "match field", .. }), "{error}");
    }
    for number in [0xfeff, PortNo::LOCAL.0, PortNo::ANY.0] {
        let (_, read) = Message::decode(&message(number)).unwrap();
        assert_eq!(read, Message::FlowMod(FlowMod::add(&flow(number))));
    }
}

#[test]
fn a_deletion_loses_its_actions_when_it_is_read() {
    let flow = Flow::new(1, 1, Match::new(), vec![Action::Output(PortNo(2))]);
    // The command's place: cookie, cookie mask and table stand before it.
    let mut bytes = bytes_of(FlowMod::add(&flow));
    bytes[8 + 8 + 8 + 1] = 4;
    let (_, read) = Message::decode(&bytes.freeze()).unwrap();
    assert_eq!(read, Message::FlowMod(FlowMod::delete_strict(&flow.key())));
}

/// `vlan_pcp` alone, which Open vSwitch refuses, prints as the TCI and is the TCI.
#[test]
fn a_priority_without_a_tag_reads_as_it_prints() {
    let flow = Flow::new(0, 1, Match::new().with(Field::IpDscp, 3_u32), Vec::new());
    let dscp = [0x80, 0x00, 8 << 1, 1, 3];
    let (_, read) =
        Message::decode(&with(bytes_of(FlowMod::add(&flow)), &dscp, &[0x80, 0x00, 7 << 1])).unwrap();
    let Message::FlowMod(read) = read else { panic!("not a flow-mod: {read:?}") };
    assert_eq!(read.flow.matches.to_string(), "vlan_tci=0x6000/0xe000");
    assert_eq!("vlan_tci=0x6000/0xe000".parse::<Match>().unwrap(), read.flow.matches);
}

/// Open vSwitch answers `OFPBMC_DUP_FIELD`, whichever name a field is said by the second time.
#[test]
fn a_field_said_twice_by_two_names_is_an_error() {
    const VLAN_VID: (u16, u8, &[u8]) = (0x8000, 6, &[0x10, 5]);
    const VLAN_PCP: (u16, u8, &[u8]) = (0x8000, 7, &[3]);
    const VLAN_TCI: (u16, u8, &[u8]) = (0, 4, &[0x70, 5]);
    const IP_DSCP: (u16, u8, &[u8]) = (0x8000, 8, &[3]);
    const IP_TOS: (u16, u8, &[u8]) = (0, 5, &[4]);
    let twice = [
        (VLAN_VID, VLAN_TCI),
        (VLAN_TCI, VLAN_VID),
        (VLAN_PCP, VLAN_TCI),
        (VLAN_TCI, VLAN_PCP),
        (IP_DSCP, IP_TOS),
        (IP_TOS, IP_DSCP),
    ];
    for (first, second) in twice {
        let mut matches = Match::new();
        matches.push_raw(oxm(first)).unwrap();
        let error = matches.push_raw(oxm(second)).unwrap_err();
        assert!(matches!(error, DecodeError::BadValue { what: "second match field", .. }), "{error}");
    }
}

fn oxm((class, number, payload): (u16, u8, &'static [u8])) -> RawOxm<'static> {
    RawOxm { header: OxmHeader { class, number, experimenter: 0 }, has_mask: false, payload }
}
