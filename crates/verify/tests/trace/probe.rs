//! Packets to ask a switch about.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rust_openflow::{
    CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, FRAG_ANY, FRAG_LATER, Field, Flow, Format,
};
use verify::Packet;

use crate::world::frames::sent;
use crate::world::host::packet;

/// A packet and what the tracker will say each time it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) packet: Packet,
    pub(crate) next_state: u32,
}

/// Bits of `ct_state` by their names in a trace.
const STATE_BITS: [(u32, &str); 6] =
    [(CT_NEW, "new"), (CT_EST, "est"), (CT_REL, "rel"), (CT_RPL, "rpl"), (CT_INV, "inv"), (CT_TRK, "trk")];

/// The table that no packet reaches: its flows overlap, and do nothing.
const NAMES: u8 = 129;

const STATES: [u32; 6] = [
    CT_TRK | CT_NEW,
    CT_TRK | CT_EST,
    CT_TRK | CT_EST | CT_RPL,
    CT_TRK | CT_REL,
    CT_TRK | CT_REL | CT_RPL,
    CT_TRK | CT_INV,
];

/// Packets that begin in some table with some registers and some connection, many of them made to match one of the
/// flows there.
pub(crate) fn probe(flows: &[Flow]) -> BoxedStrategy<Probe> {
    let tables: Vec<u8> = {
        let mut tables: Vec<u8> = flows.iter().map(|flow| flow.table).collect();
        tables.dedup();
        tables.retain(|table| *table != NAMES);
        tables
    };
    let flows = flows.to_vec();
    let registers = (0..9u32, select(vec![0u32, 10, 20]), 0..7u32, 0..3u32, 0..14u32, 0..4u32, 0..2u32);
    let connection = (select(STATES.to_vec()), 0..8u32, sent(), any::<bool>());
    (sent(), select(tables), any::<Index>(), 0..4u8, registers, connection, select(STATES.to_vec()))
        .prop_map(move |(sent, table, which, effort, registers, connection, next_state)| {
            let mut packet = packet(&sent);
            let (state, mark, other, is_tracked) = connection;
            with_registers(&mut packet, registers);
            if is_tracked {
                set(&mut packet, Field::CtState, u128::from(state));
                set(&mut packet, Field::CtMark, u128::from(mark));
            }
            let tuple_of = if effort == 0 { crate::world::host::packet(&other) } else { packet.clone() };
            with_tuple(&mut packet, &tuple_of);
            if table != 0 {
                set(&mut packet, Field::Metadata, u128::from(table));
                let candidates: Vec<&Flow> = flows.iter().filter(|flow| flow.table == table).collect();
                if effort > 1 {
                    force(&mut packet, candidates[which.index(candidates.len())]);
                }
            }
            Probe { packet: cleaned(&packet), next_state }
        })
        .boxed()
}

fn set(packet: &mut Packet, field: Field, value: u128) {
    packet.set(field, value, u128::MAX).unwrap();
}

fn with_registers(packet: &mut Packet, registers: (u32, u32, u32, u32, u32, u32, u32)) {
    let (ofport, vlan, number, next, reason, chunk, mode) = registers;
    let values = [
        (5, ofport),
        (6, vlan),
        (7, number),
        (8, 0x1000 + ofport),
        (9, next),
        (10, reason),
        (11, chunk),
        (12, mode),
    ];
    for (register, value) in values {
        set(packet, Field::Reg(register), u128::from(value));
    }
}

/// The connection of which `of` would be the first packet.
fn with_tuple(packet: &mut Packet, of: &Packet) {
    let ports =
        [Field::TcpSrc, Field::UdpSrc, Field::Icmpv4Type, Field::Icmpv6Type].map(|field| of.get(field));
    let others =
        [Field::TcpDst, Field::UdpDst, Field::Icmpv4Code, Field::Icmpv6Code].map(|field| of.get(field));
    for (field, value) in [
        (Field::CtNwSrc, of.get(Field::Ipv4Src)),
        (Field::CtNwDst, of.get(Field::Ipv4Dst)),
        (Field::CtIpv6Src, of.get(Field::Ipv6Src)),
        (Field::CtIpv6Dst, of.get(Field::Ipv6Dst)),
        (Field::CtNwProto, of.get(Field::IpProto)),
        (Field::CtTpSrc, ports.iter().sum()),
        (Field::CtTpDst, others.iter().sum()),
    ] {
        set(packet, field, value);
    }
}

/// Makes the packet match the flow, as far as it goes.
fn force(packet: &mut Packet, flow: &Flow) {
    for (field, value, mask) in flow.matches.iter().filter(|(field, ..)| *field != Field::ConjId) {
        // A tag is not made up.
        _ = packet.set(field, value, mask);
    }
}

/// The packet without fields that it cannot have, which a trace would refuse.
fn cleaned(packet: &Packet) -> Packet {
    let mut cleaned = packet.clone();
    // A later fragment is a fragment.
    if packet.get(Field::IpFrag) & u128::from(FRAG_LATER) != 0 {
        set(&mut cleaned, Field::IpFrag, u128::from(FRAG_ANY | FRAG_LATER));
    }
    for field in Field::all().filter(|field| !applies(packet, *field)) {
        // Fields of tags are never taken away here.
        _ = cleaned.set(field, 0, u128::MAX);
    }
    cleaned
}

fn applies(packet: &Packet, field: Field) -> bool {
    let ethertype = packet.get(Field::EthType);
    let (v4, v6) = (ethertype == 0x0800, ethertype == 0x86dd);
    let is_later = packet.get(Field::IpFrag) & u128::from(FRAG_LATER) != 0;
    let is = |protocol: u128| (v4 || v6) && packet.get(Field::IpProto) == protocol && !is_later;
    let code = packet.get(Field::Icmpv6Code);
    let discovery =
        |kinds: &[u128]| v6 && is(58) && code == 0 && kinds.contains(&packet.get(Field::Icmpv6Type));
    // Of `rel` alone a trace does not take the original tuple.
    let is_valid = packet.get(Field::CtState) & u128::from(CT_NEW | CT_EST) != 0;
    match field {
        Field::Ipv4Src | Field::Ipv4Dst => v4,
        Field::Ipv6Src | Field::Ipv6Dst => v6,
        Field::IpFrag | Field::IpProto => v4 || v6,
        Field::TcpSrc | Field::TcpDst | Field::TcpFlags => is(6),
        Field::UdpSrc | Field::UdpDst => is(17),
        Field::SctpSrc | Field::SctpDst => is(132),
        Field::Icmpv4Type | Field::Icmpv4Code => v4 && is(1),
        Field::Icmpv6Type | Field::Icmpv6Code => v6 && is(58),
        Field::NdTarget => discovery(&[135, 136]),
        Field::ArpOp | Field::ArpSpa | Field::ArpTpa | Field::ArpSha | Field::ArpTha => ethertype == 0x0806,
        Field::CtNwSrc | Field::CtNwDst => v4 && is_valid,
        Field::CtIpv6Src | Field::CtIpv6Dst => v6 && is_valid,
        Field::CtNwProto | Field::CtTpSrc | Field::CtTpDst => (v4 || v6) && is_valid,
        _ => true,
    }
}

impl Probe {
    /// The flow as `ofproto/trace` takes it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for field in Field::all() {
            let value = self.packet.get(field);
            let is_part = matches!(
                field,
                Field::XReg(_)
                    | Field::XXReg(_)
                    | Field::InPortNxm
                    | Field::VlanVid
                    | Field::VlanPcp
                    | Field::IpTos
            );
            if value == 0 || is_part {
                continue;
            }
            let value = match field.format() {
                Format::Mac => {
                    let bytes = u64::try_from(value).unwrap().to_be_bytes();
                    bytes[2..].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
                }
                Format::Ipv4 => Ipv4Addr::from_bits(u32::try_from(value).unwrap()).to_string(),
                Format::Ipv6 => Ipv6Addr::from_bits(value).to_string(),
                Format::CtState => state_text(u32::try_from(value).unwrap(), "|"),
                Format::Frag => if value == 1 { "first" } else { "later" }.to_owned(),
                Format::Hex | Format::TcpFlags => format!("{value:#x}"),
                _ => value.to_string(),
            };
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}{}={value}", field.name()).unwrap();
        }
        text
    }

    pub(crate) fn next_state_text(&self) -> String {
        state_text(self.next_state, ",")
    }
}

fn state_text(state: u32, between: &str) -> String {
    let names = STATE_BITS.iter().filter(|(bit, _)| state & bit != 0).map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(between)
}
