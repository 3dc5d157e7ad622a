//! States of connection tracking, each with the packets that can be in it.

use policy::{Direction, Ethertype};
use rust_openflow::{CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Field};

use super::space::{BLOCKS, Block, Exhausted, Region, Space};
use super::view::{Source, View};

/// What the tracker says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// It belongs to no connection and can begin none.
    Invalid,
    /// It would be a connection's first; or it is one of a connection without an answer yet.
    New,
    /// It goes the way of the connection's first packet.
    Original,
    /// It goes the other way.
    Reply,
    /// The reply to an ICMP query.
    IcmpReply,
    /// An ICMP error about a connection's reply.
    RelatedOriginal,
    /// An ICMP error about a connection's own way.
    RelatedReply,
}

/// The variables that tell connections apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) proto: Block,
    pub(crate) first: Block,
    pub(crate) second: Block,
    pub(crate) src: Block,
    pub(crate) dst: Block,
}

/// The packet's own.
pub(crate) const OWN: Tuple = Tuple {
    proto: BLOCKS.proto,
    first: BLOCKS.first,
    second: BLOCKS.second,
    src: BLOCKS.src,
    dst: BLOCKS.dst,
};

/// That of the packet that it replies to.
const SWAPPED: Tuple = Tuple {
    proto: BLOCKS.proto,
    first: BLOCKS.second,
    second: BLOCKS.first,
    src: BLOCKS.dst,
    dst: BLOCKS.src,
};

/// That of the query that it replies to: its type is another.
const QUERY: Tuple = Tuple {
    proto: BLOCKS.proto,
    first: BLOCKS.tuple_first,
    second: BLOCKS.tuple_second,
    src: BLOCKS.dst,
    dst: BLOCKS.src,
};

/// One that the packet does not show.
const APART: Tuple = Tuple {
    proto: BLOCKS.tuple_proto,
    first: BLOCKS.tuple_first,
    second: BLOCKS.tuple_second,
    src: BLOCKS.tuple_src,
    dst: BLOCKS.tuple_dst,
};

impl State {
    /// All of them. Later fragments that are tracked are left out: they show no ports, nor their connection's, and the
    /// tracker holds them until their first one was admitted.
    pub const ALL: [State; 7] = [
        State::Invalid,
        State::New,
        State::Original,
        State::Reply,
        State::IcmpReply,
        State::RelatedOriginal,
        State::RelatedReply,
    ];

    /// `ct_state` (ovs-fields(7)).
    pub(crate) fn bits(self) -> u32 {
        CT_TRK
            | match self {
                State::Invalid => CT_INV,
                State::New => CT_NEW,
                State::Original => CT_EST,
                State::Reply | State::IcmpReply => CT_EST | CT_RPL,
                State::RelatedOriginal => CT_REL,
                State::RelatedReply => CT_REL | CT_RPL,
            }
    }

    /// Whether it is about a connection's other way.
    pub(crate) fn is_reply(self) -> bool {
        matches!(self, State::Reply | State::IcmpReply | State::RelatedReply)
    }

    pub(crate) fn is_related(self) -> bool {
        matches!(self, State::RelatedOriginal | State::RelatedReply)
    }

    /// The way of the connection's first packet, for a packet that goes `direction`.
    pub(crate) fn original(self, direction: Direction) -> Direction {
        if self.is_reply() { direction.opposite() } else { direction }
    }

    /// What tells the connection apart; none for what belongs to none.
    pub(crate) fn tuple(self) -> Option<Tuple> {
        match self {
            State::Invalid => None,
            State::New | State::Original => Some(OWN),
            State::Reply => Some(SWAPPED),
            State::IcmpReply => Some(QUERY),
            _ => Some(APART),
        }
    }

    /// The packets that can be in this state.
    pub(crate) fn possible(self, space: &Space) -> Result<Region, Exhausted> {
        let later = space.is(BLOCKS.frag.high(1), 1u8)?;
        let of = |family: Ethertype| {
            space.is(BLOCKS.eth_type, family.number())?.and(&space.is(BLOCKS.proto, family.icmp())?)
        };
        let icmp = of(Ethertype::Ipv4)?.or(&of(Ethertype::Ipv6)?)?;
        match self {
            State::Invalid => Ok(space.all()),
            State::New | State::Original => later.not(),
            State::Reply => later.or(&icmp)?.not(),
            State::IcmpReply | State::RelatedOriginal | State::RelatedReply => icmp.minus(&later),
        }
    }

    /// Writes what the tracker says to a packet's view.
    pub(crate) fn write(self, zone: u16, view: &mut View) {
        view.untrack();
        view.set(Field::CtState, Source::Const(u128::from(self.bits())));
        view.set(Field::CtZone, Source::Const(u128::from(zone)));
        let Some(tuple) = self.tuple() else { return };
        for (field, block) in [
            (Field::CtMark, BLOCKS.mark),
            (Field::CtNwProto, tuple.proto),
            (Field::CtTpSrc, tuple.first),
            (Field::CtTpDst, tuple.second),
            (Field::CtNwSrc, tuple.src.high(32)),
            (Field::CtNwDst, tuple.dst.high(32)),
            (Field::CtIpv6Src, tuple.src),
            (Field::CtIpv6Dst, tuple.dst),
        ] {
            view.set(field, Source::Bits(block));
        }
    }
}
