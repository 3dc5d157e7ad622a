//! The connection tracker as the `ct` action meets it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rust_openflow::{CT_NEW, CT_TRK, Field};

use crate::packet::Packet;

/// Ethertype of IPv4.
pub(crate) const IPV4: u128 = 0x0800;
/// Ethertype of IPv6.
pub(crate) const IPV6: u128 = 0x86dd;

/// What tells connections apart. ICMP has its type as source port and its code as destination port (ovs-fields(7),
/// "ct_tp_src"); a protocol that is tracked without ports has zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Protocol above IP.
    pub protocol: u8,
    /// Source port, or ICMP type.
    pub src_port: u16,
    /// Destination port, or ICMP code.
    pub dst_port: u16,
}

/// What the tracker says of a packet, as the `ct_*` fields of ovs-fields(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tracked {
    /// `ct_state`.
    pub state: u32,
    /// `ct_mark`.
    pub mark: u32,
    /// `ct_label`.
    pub label: u128,
    /// The tuple of the connection's first packet; none of an invalid packet.
    pub original: Option<Tuple>,
}

/// What `ct(commit,exec(…))` writes to the connection, each as (value, mask).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    /// To `ct_mark`.
    pub mark: Option<(u32, u32)>,
    /// To `ct_label`.
    pub label: Option<(u128, u128)>,
}

/// A connection tracker.
pub trait Conntrack {
    /// Sends a packet through the tracker in a zone; with a stamp its connection is committed and stamped. None: the
    /// tracker keeps the packet, as it does with a fragment until its datagram is complete.
    fn ct(&mut self, zone: u16, packet: &Packet, commit: Option<&Stamp>) -> Option<Tracked>;
}

impl Tracked {
    /// What the `ct_*` fields of a packet say.
    pub(crate) fn read(packet: &Packet) -> Self {
        let fields =
            addresses(packet, [Field::CtNwSrc, Field::CtNwDst], [Field::CtIpv6Src, Field::CtIpv6Dst]);
        let original = fields.map(|[src, dst]| Tuple {
            src,
            dst,
            protocol: u8::try_from(packet.get(Field::CtNwProto)).unwrap_or(0),
            src_port: packet.get_u16(Field::CtTpSrc),
            dst_port: packet.get_u16(Field::CtTpDst),
        });
        let number = |field| u32::try_from(packet.get(field)).unwrap_or(0);
        let (state, mark) = (number(Field::CtState), number(Field::CtMark));
        Tracked { state, mark, label: packet.get(Field::CtLabel), original }
    }

    /// Writes the `ct_*` fields of a packet that was tracked in `zone`.
    pub(crate) fn write(&self, zone: u16, packet: &mut Packet) {
        packet.clear_conntrack();
        let mut write = |field, value| {
            packet.set(field, value, u128::MAX).expect("no field of a tag");
        };
        write(Field::CtState, u128::from(self.state));
        write(Field::CtZone, u128::from(zone));
        write(Field::CtMark, u128::from(self.mark));
        write(Field::CtLabel, self.label);
        let Some(tuple) = self.original else { return };
        write(Field::CtNwProto, u128::from(tuple.protocol));
        write(Field::CtTpSrc, u128::from(tuple.src_port));
        write(Field::CtTpDst, u128::from(tuple.dst_port));
        let (src, dst) = match tuple.src {
            IpAddr::V4(_) => (Field::CtNwSrc, Field::CtNwDst),
            IpAddr::V6(_) => (Field::CtIpv6Src, Field::CtIpv6Dst),
        };
        write(src, number(tuple.src));
        write(dst, number(tuple.dst));
    }
}

/// An address as the value of a field.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The addresses of an IP packet, from the fields of its family.
pub(crate) fn addresses(packet: &Packet, v4: [Field; 2], v6: [Field; 2]) -> Option<[IpAddr; 2]> {
    match packet.get(Field::EthType) {
        IPV4 => Some(v4.map(|field| {
            let bits = u32::try_from(packet.get(field)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(bits))
        })),
        IPV6 => Some(v6.map(|field| IpAddr::V6(Ipv6Addr::from_bits(packet.get(field))))),
        _ => None,
    }
}

/// A tracker that says what it was told to say, as `ofproto/trace` does: one state after another, and `+new+trk` when
/// they are used up. Mark, label and original tuple are those that the packet already carries.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    states: VecDeque<u32>,
}

impl Scripted {
    /// A tracker with these states (`ct_state`, [`CT_TRK`] is added).
    pub fn new(states: impl IntoIterator<Item = u32>) -> Self {
        Scripted { states: states.into_iter().collect() }
    }
}

impl Conntrack for Scripted {
    fn ct(&mut self, _zone: u16, packet: &Packet, commit: Option<&Stamp>) -> Option<Tracked> {
        let state = self.states.pop_front().unwrap_or(CT_NEW) | CT_TRK;
        let mut tracked = Tracked { state, ..Tracked::read(packet) };
        // A packet that is committed goes on with what it was stamped with.
        if let Some((value, mask)) = commit.and_then(|stamp| stamp.mark) {
            tracked.mark = tracked.mark & !mask | value & mask;
        }
        Some(tracked)
    }
}
