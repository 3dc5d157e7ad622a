//! Laws of the codec and of the text grammar, on generated values, damaged values and noise.
#![allow(clippy::unwrap_used)] // helpers of tests may fail like tests

mod support;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rust_openflow::message::{
    AsyncConfig, BundleAdd, BundleControl, BundleFlags, BundleStep, CtFlush, CtTuple, DropBand, ErrorMessage,
    Features, FlowMonitor, FlowRemoved, FlowUpdate, FlowUpdateEvent, FragMode, Framer, MeterCommand,
    MeterConfig, MeterMod, MonitorFlags, PacketIn, PacketOut, Part, PortDesc, PortReason, PortStatus,
    SwitchConfig, Xid,
};
use rust_openflow::{
    Action, DecodeError, Field, Flow, FlowEntry, FlowFilter, FlowKey, FlowMod, FlowStats, Match, Message,
    OfError, PortNo,
};
use support::generate;

fn bytes_of(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(Xid(7), &mut out).expect("the message can be encoded");
    out.freeze()
}

fn data() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = FlowEntry> {
    (generate::flow(), any::<(u32, u32, u64, u64)>()).prop_map(
        |(flow, (duration_s, duration_ns, packets, bytes))| FlowEntry {
            flow,
            stats: FlowStats { duration_s, duration_ns, packets, bytes },
        },
    )
}

fn flow_mod() -> impl Strategy<Value = FlowMod> {
    (generate::flow(), 0..4u8, any::<(u64, u64)>()).prop_map(
        |(flow, command, (cookie, mask))| match command {
            0 => FlowMod::add(&flow),
            1 => FlowMod::modify_strict(&Flow { cookie: 0, ..flow }).with_cookie_filter(cookie, mask),
            2 => FlowMod::delete_strict(&flow.key()).with_cookie_filter(cookie, mask),
            _ => FlowMod::delete(Some(flow.table).filter(|table| table % 2 == 0), flow.matches),
        },
    )
}

fn port() -> impl Strategy<Value = PortDesc> {
    (any::<(u32, [u8; 6], u32, u32)>(), "[a-z0-9-]{0,15}", data()).prop_map(|(numbers, name, properties)| {
        let (number, hw_addr, config, state) = numbers;
        PortDesc { number: PortNo(number), hw_addr, name, config, state, properties }
    })
}

fn tuple() -> impl Strategy<Value = CtTuple> {
    any::<(Option<[u8; 4]>, Option<[u8; 4]>, Option<u16>, Option<u16>, Option<(u16, u8, u8)>)>().prop_map(
        |(src, dst, src_port, dst_port, icmp)| CtTuple {
            src: src.map(Into::into),
            dst: dst.map(Into::into),
            src_port,
            dst_port,
            icmp,
        },
    )
}

fn packet_in() -> impl Strategy<Value = PacketIn> {
    (any::<(u32, u8, u8, Option<u64>)>(), generate::matches(), data(), data(), data()).prop_map(
        |((more, reason, table, cookie), metadata, data, userdata, continuation)| PacketIn {
            total_len: (more % 2000) + u32::try_from(data.len()).expect("64 bytes"),
            data,
            reason: rust_openflow::message::PacketReason(reason),
            table,
            cookie,
            metadata,
            userdata,
            continuation,
        },
    )
}

fn meter() -> impl Strategy<Value = MeterConfig> {
    let band = any::<(u32, u32)>().prop_map(|(rate, burst)| DropBand { rate, burst });
    (any::<(u32, u16)>(), proptest::collection::vec(band, 0..3))
        .prop_map(|((id, flags), bands)| MeterConfig { id, flags, bands })
}

fn update() -> impl Strategy<Value = FlowUpdate> {
    let event = prop_oneof![
        Just(FlowUpdateEvent::Initial),
        Just(FlowUpdateEvent::Added),
        any::<u8>().prop_map(FlowUpdateEvent::Removed),
        Just(FlowUpdateEvent::Modified)
    ];
    prop_oneof![
        8 => (event, generate::flow()).prop_map(|(event, flow)| FlowUpdate::Flow { event, flow }),
        1 => any::<u32>().prop_map(|xid| FlowUpdate::Abbreviated(Xid(xid))),
        1 => Just(FlowUpdate::Paused),
        1 => Just(FlowUpdate::Resumed),
    ]
}

fn small_message() -> impl Strategy<Value = Message> {
    let step = (0..8usize).prop_map(|step| {
        use BundleStep as S;
        [
            S::OpenRequest,
            S::OpenReply,
            S::CloseRequest,
            S::CloseReply,
            S::CommitRequest,
            S::CommitReply,
            S::DiscardRequest,
            S::DiscardReply,
        ][step]
    });
    prop_oneof![
        proptest::collection::btree_set(any::<u8>(), 1..9)
            .prop_map(|set| Message::Hello(set.into_iter().collect())),
        (any::<(u16, u16)>(), data()).prop_map(|((kind, code), data)| {
            let error =
                if kind == u16::MAX { OfError::nicira(code) } else { OfError::Standard { kind, code } };
            Message::Error(ErrorMessage { error, data })
        }),
        data().prop_map(Message::EchoRequest),
        data().prop_map(Message::EchoReply),
        Just(Message::FeaturesRequest),
        any::<(u64, u32, u8, u8, u32)>().prop_map(
            |(datapath_id, n_buffers, n_tables, auxiliary_id, capabilities)| {
                Message::FeaturesReply(Features {
                    datapath_id,
                    n_buffers,
                    n_tables,
                    auxiliary_id,
                    capabilities,
                })
            }
        ),
        any::<u16>().prop_map(|len| Message::SetConfig(SwitchConfig {
            frags: FragMode::NxMatch,
            miss_send_len: len
        })),
        Just(Message::BarrierRequest),
        Just(Message::BarrierReply),
        Just(Message::PortDescRequest),
        Just(Message::MeterConfigRequest),
        Just(Message::SetPacketIn2),
        any::<u16>().prop_map(Message::SetControllerId),
        any::<u16>().prop_map(Message::CtFlushZone),
        any::<u32>().prop_map(Message::FlowMonitorCancel),
        (any::<(bool, bool, u32)>(), step).prop_map(|((atomic, ordered, bundle), step)| {
            Message::BundleControl(BundleControl { bundle, step, flags: BundleFlags { atomic, ordered } })
        }),
    ]
}

fn great_message() -> impl Strategy<Value = Message> {
    use proptest::collection::vec;
    prop_oneof![
        flow_mod().prop_map(Message::FlowMod),
        (any::<u32>(), flow_mod()).prop_map(|(bundle, flow_mod)| Message::BundleAdd(BundleAdd {
            bundle,
            flags: BundleFlags::ATOMIC_ORDERED,
            message: Box::new(Message::FlowMod(flow_mod))
        })),
        (vec(entry(), 0..4), any::<bool>())
            .prop_map(|(items, more)| Message::FlowStatsReply(Part { items, more })),
        (generate::matches(), any::<(u64, u64)>(), any::<u32>()).prop_map(|(matches, cookie, port)| {
            Message::FlowStatsRequest(FlowFilter { table: Some(3), matches, cookie, out_port: PortNo(port) })
        }),
        (vec(port(), 0..4), any::<bool>())
            .prop_map(|(items, more)| Message::PortDescReply(Part { items, more })),
        (vec(meter(), 0..4), any::<bool>())
            .prop_map(|(items, more)| Message::MeterConfigReply(Part { items, more })),
        (meter(), 0..3usize).prop_map(|(meter, command)| {
            let command = [MeterCommand::Add, MeterCommand::Modify, MeterCommand::Delete][command];
            Message::MeterMod(MeterMod { command, meter })
        }),
        port().prop_map(|port| Message::PortStatus(PortStatus { reason: PortReason::Delete, port })),
        packet_in().prop_map(Message::PacketIn),
        (any::<u32>(), generate::flow(), data()).prop_map(|(port, flow, data)| {
            let actions = flow.actions.into_iter().filter(|action| !action.is_instruction()).collect();
            Message::PacketOut(PacketOut { in_port: PortNo(port), actions, data })
        }),
        (entry(), any::<u8>()).prop_map(|(entry, reason)| {
            let flow = Flow { actions: vec![], ..entry.flow };
            Message::FlowRemoved(FlowRemoved { flow, stats: entry.stats, reason })
        }),
        (any::<u32>(), any::<u16>(), generate::matches()).prop_map(|(id, flags, matches)| {
            let all = FlowMonitor::all(id, MonitorFlags(flags));
            Message::FlowMonitorRequest(FlowMonitor { matches, ..all })
        }),
        (vec(update(), 0..4), any::<bool>())
            .prop_map(|(items, more)| Message::FlowMonitorReply(Part { items, more })),
        (any::<(Option<u16>, u8)>(), tuple(), tuple()).prop_map(|((zone, ip_proto), original, reply)| {
            Message::CtFlush(CtFlush { zone, ip_proto, original, reply })
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![1 => small_message(), 2 => great_message()]
}

/// Everything that takes bytes.
fn decode_everything(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    if let Ok((_, Message::Error(error))) = Message::decode(&whole) {
        drop(error.offending_message());
    }
    Action::decode_list(bytes).ok();
    Action::decode_instructions(bytes).ok();
    let mut framer = Framer::default();
    framer.push(bytes);
    while let Ok(Some(message)) = framer.next_message() {
        Message::decode(&message).ok();
    }
}

fn read_everything(text: &str) {
    text.parse::<Flow>().ok();
    text.parse::<FlowKey>().ok();
    text.parse::<Match>().ok();
    Action::parse_list(text).ok();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_are_read_as_they_were_written(message in message()) {
        let bytes = bytes_of(&message);
        let (header, read) = Message::decode(&bytes).unwrap();
        prop_assert_eq!(header.xid, Xid(7));
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(bytes_of(&read), bytes);
    }

    #[test]
    fn a_stream_is_cut_into_its_messages(messages in proptest::collection::vec(message(), 1..4), cut in 1..200usize) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| bytes_of(message).to_vec()).collect();
        let mut framer = Framer::default();
        let mut read = Vec::new();
        for piece in stream.chunks(cut) {
            framer.push(piece);
            while let Some(message) = framer.next_message().unwrap() {
                read.push(Message::decode(&message).unwrap().1);
            }
        }
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn noise_is_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(&noise);
    }

    #[test]
    fn damaged_messages_are_no_panic(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = bytes_of(&message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_everything(&bytes);
        let cut = cut.index(bytes.len());
        decode_everything(&bytes[..cut]);
        // With a length that fits, so that the damage is looked at.
        let length = u16::try_from(cut).unwrap().to_be_bytes();
        bytes.truncate(cut);
        if let Some(field) = bytes.get_mut(2..4) {
            field.copy_from_slice(&length);
        }
        decode_everything(&bytes);
    }

    #[test]
    fn flows_are_read_as_they_were_printed(flow in generate::flow()) {
        prop_assert_eq!(&flow.to_string().parse::<Flow>().unwrap(), &flow);
        prop_assert_eq!(flow.key().to_string().parse::<FlowKey>().unwrap(), flow.key());
    }

    #[test]
    fn damaged_text_is_no_panic(flow in generate::flow(), at in any::<prop::sample::Index>(), piece in "\\PC{0,4}") {
        let mut text: Vec<char> = flow.to_string().chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, piece.chars());
        read_everything(&text.into_iter().collect::<String>());
    }

    #[test]
    fn strange_text_is_no_panic(text in "[a-z0-9:=,()\\[\\]/.>|+ -]{0,60}|\\PC{0,40}") {
        read_everything(&text);
        read_everything(&format!("{text} actions={text}"));
    }

    #[test]
    fn canonical_actions_stay_canonical(flow in generate::flow()) {
        let once = flow.canonical();
        prop_assert_eq!(once.clone().canonical(), once);
    }
}

#[test]
fn unknown_actions_are_kept_and_printed_so_that_they_can_be_read() {
    // set_tunnel64, an experimenter's, and a `ct` with a `nat` in it.
    let hex = [
        "ffff00180000232000090000000000000000000000000005",
        "ffff0010deadbeef0102030405060708",
        "ffff00280000232000230001000000000005ff000000000000000000\
         ffff0010000023200024000000010000",
    ];
    for hex in hex.map(|hex| hex.replace(' ', "")) {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let bytes = &bytes[..bytes.len() / 8 * 8];
        let Ok(actions) = Action::decode_list(bytes) else { panic!("{hex}") };
        let mut again = BytesMut::new();
        Action::encode_list(&actions, &mut again).unwrap();
        assert_eq!(again, bytes);
        assert_eq!(Action::parse_list(&Action::print_list(&actions)).unwrap(), actions, "{actions:?}");
    }
}

#[test]
fn unknown_match_fields_are_kept_and_printed_so_that_they_can_be_read() {
    let header = rust_openflow::OxmHeader { class: 1, number: 40, experimenter: 0 };
    let mut matches = Match::new().with(Field::EthType, 0x0800u32).with(Field::Reg(0), 1u32);
    let oxm = rust_openflow::RawOxm { header, has_mask: true, payload: &[1, 2, 3, 0xff, 0xff, 0xff] };
    matches.push_raw(oxm).unwrap();
    assert_eq!(matches.to_string(), "ip,reg0=0x1,oxm:0x0001.40.0x0.mask=0x010203ffffff");
    assert_eq!(matches.to_string().parse::<Match>().unwrap(), matches);
    let flow_mod = FlowMod::add(&Flow::new(1, 2, matches.clone(), vec![]));
    let bytes = bytes_of(&Message::FlowMod(flow_mod));
    let (_, Message::FlowMod(read)) = Message::decode(&bytes).unwrap() else { panic!() };
    assert_eq!(read.flow.matches, matches);
    assert_eq!(matches.raw().collect::<Vec<_>>(), [oxm]);
}

#[test]
fn deep_nesting_is_an_error() {
    let mut action = Action::Exit;
    for _ in 0..200 {
        action = Action::Clone(vec![action]);
    }
    let mut bytes = BytesMut::new();
    Action::encode_list(&[action.clone()], &mut bytes).unwrap();
    assert!(matches!(Action::decode_list(&bytes), Err(DecodeError::TooDeep { .. })));
    assert!(Action::parse_list(&action.to_string()).is_err());
}

#[test]
fn async_configuration_has_the_bytes_of_the_specification() {
    let config = AsyncConfig { packet_in: 3, port_status: 7, flow_removed: 0xf };
    let bytes = bytes_of(&Message::SetAsync(config));
    let expected =
        [5, 28, 0, 32, 0, 0, 0, 7, 0, 1, 0, 8, 0, 0, 0, 3, 0, 3, 0, 8, 0, 0, 0, 7, 0, 5, 0, 8, 0, 0, 0, 15];
    assert_eq!(bytes[..], expected);
}

#[test]
fn bad_text_is_an_error_that_says_where() {
    for (text, expected) in [
        ("ip", "flow 'ip': has no actions"),
        ("table=255 actions=drop", "table '255': tables are 0 to 254"),
        ("reg16=1 actions=drop", "flow 'reg16': unknown keyword"),
        ("ip,nw_src=10.0.0.256 actions=drop", "ip_src '10.0.0.256': not an address"),
        ("ip,nw_src=10.0.0.0/33 actions=drop", "ip_src '10.0.0.0/33': not a mask"),
        ("tp_dst=80 actions=drop", "tp_dst '80': needs a protocol that has it, such as tcp or icmp6"),
        ("tcp,tp_dst=65536 actions=drop", "tcp_dst '65536': does not fit 16 bits"),
        ("ct_state=+new+new actions=drop", "ct_state '+new+new': 'new' is given twice"),
        ("ct_state=+old actions=drop", "ct_state '+old': unknown flag 'old'"),
        ("actions=conjunction(1,0/2)", "conjunction '1,0/2': needs 2 to 64 clauses, and a clause among them"),
        ("actions=conjunction(1,1/1)", "conjunction '1,1/1': needs 2 to 64 clauses, and a clause among them"),
        ("actions=ct(force)", "ct 'force': force needs commit"),
        ("actions=drop,output:1", "drop 'drop,output:1': must stand alone"),
        ("actions=learn(table=1)", "action 'learn': unknown action"),
        ("actions=load:5->reg0[0..1]", "load '5->reg0[0..1]': does not fit 2 bits"),
        (
            "actions=move:reg0[0..3]->reg1[]",
            "move 'reg0[0..3]->reg1[]': source and destination differ in size",
        ),
        ("actions=resubmit(,)", "resubmit ',': needs a port or a table"),
        ("actions=clone(output:1", "clone 'output:1': ')' is missing"),
        ("nw_proto=6/3,ip actions=drop", "nw_proto '6/3': the field cannot be masked"),
    ] {
        assert_eq!(text.parse::<Flow>().unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn a_shared_name_is_printed_only_where_it_means_the_field() {
    // Found by fuzzing: `icmp,icmp_type=135` is another match.
    for (text, printed) in [
        ("icmp,icmpv6_type=135", "icmp,icmpv6_type=135"),
        ("icmp,icmpv6_code=1", "icmp,icmpv6_code=1"),
        ("udp,tcp_dst=80", "udp,tcp_dst=80"),
        ("ip,sctp_src=80", "ip,sctp_src=80"),
        ("arp,ipv4_src=10.0.0.1", "arp,ipv4_src=10.0.0.1"),
        ("icmp6,icmpv6_type=135", "icmp6,icmp_type=135"),
        ("tcp6,tcp_dst=80", "tcp6,tp_dst=80"),
        // The own names of ICMP's type and code are the shared ones: by another protocol they mean ICMPv6's.
        ("icmp6,oxm:0x8000.20.0=0x88,icmp_code=0", "icmp6,oxm:0x8000.20.0x0=0x88,icmp_code=0"),
        ("tcp,oxm:0x8000.19.0=0x08", "tcp,oxm:0x8000.19.0x0=0x08"),
        // To a reader the protocol of ARP is its operation.
        ("arp,oxm:0x8000.10.0=0x01", "arp,oxm:0x8000.10.0x0=0x01"),
        ("rarp,arp_op=3,oxm:0x8000.10.0=0x11", "rarp,oxm:0x8000.10.0x0=0x11,arp_op=3"),
    ] {
        let matches: Match = text.parse().unwrap();
        assert_eq!(matches.to_string(), printed);
        assert_eq!(printed.parse::<Match>().unwrap(), matches);
    }
}

/// Found by fuzzing: bytes that are no UTF-8 grew beyond the field, and were cut in the midst of a character.
#[test]
fn a_port_name_that_is_no_utf8_is_read_written_and_read_the_same() {
    let long: &[u8] = "tap-\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}".as_bytes();
    for name in [&[0xec; 16][..], long, b"tap0123456789abc"] {
        let mut bytes = vec![5, 12, 0, 56 + 24, 0, 0, 0, 7];
        bytes.extend([0; 8]);
        bytes.extend([0, 0, 0, 1, 0, 64, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend(name.iter().chain(&[0; 16]).take(16));
        bytes.extend([0; 32]);
        let (header, read) = Message::decode(&Bytes::from(bytes)).unwrap();
        let mut again = BytesMut::new();
        read.encode(header.xid, &mut again).unwrap();
        assert_eq!(Message::decode(&again.freeze()).unwrap().1, read);
    }
}

/// Found by fuzzing: both were read as what no text and no message can say again.
#[test]
fn what_has_no_place_in_a_message_is_refused_in_a_text() {
    for (text, reason) in [
        ("tcp,tcp_flags=0/0x1fff actions=drop", "the mask does not fit 12 bits"),
        ("actions=check_pkt_larger(1500)->NXM_NX_REG0[]", "the destination is not one bit"),
    ] {
        let error = text.parse::<Flow>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    for text in ["tcp,tcp_flags=0x2/0x12", "tcp,tcp_flags=0x2/0xffff"] {
        let matches: Match = text.parse().unwrap();
        assert_eq!(matches.to_string().parse::<Match>().unwrap(), matches);
    }
}

/// Found by fuzzing: a field with more room than bits, and a mask of what is none of them, was printed as a word without a value.
#[test]
fn a_mask_without_a_bit_of_the_field_matches_everything() {
    for (field, mask) in [(Field::TcpFlags, 0xf000u128), (Field::Ipv6Label, 0xfff0_0000)] {
        let mut matches = Match::new();
        matches.set(field, 0, mask).unwrap();
        assert_eq!(matches, Match::new(), "{field:?}");
        let full = Match::new().with(field, 2u8);
        assert_eq!(full.get(field).map(|(value, _)| value), Some(2), "{field:?}");
    }
}
