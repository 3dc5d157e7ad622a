//! What the fields of a packet are at one point of its way.

use std::collections::BTreeMap;

use rust_openflow::{Field, Subfield};

use super::error::ProofError;
use super::space::{BLOCKS, Block, Example, Region, Space};

/// Where a field's value comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Source {
    /// The packet's own bits.
    Bits(Block),
    /// The tables or the tracker wrote it.
    Const(u128),
}

/// What the fields of a packet are at one point of its way through the tables.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct View {
    fields: BTreeMap<Field, Source>,
}

/// What every packet brings along (see [`super::space::Blocks`] for what shares its bits).
const OWN: [(Field, Block); 24] = [
    (Field::EthType, BLOCKS.eth_type),
    (Field::VlanTci, BLOCKS.tci),
    (Field::IpFrag, BLOCKS.frag),
    (Field::IpProto, BLOCKS.proto),
    (Field::TcpSrc, BLOCKS.first),
    (Field::UdpSrc, BLOCKS.first),
    (Field::SctpSrc, BLOCKS.first),
    (Field::TcpDst, BLOCKS.second),
    (Field::UdpDst, BLOCKS.second),
    (Field::SctpDst, BLOCKS.second),
    (Field::Icmpv4Type, BLOCKS.first.low(8)),
    (Field::Icmpv6Type, BLOCKS.first.low(8)),
    (Field::Icmpv4Code, BLOCKS.second.low(8)),
    (Field::Icmpv6Code, BLOCKS.second.low(8)),
    (Field::EthSrc, BLOCKS.eth_src),
    (Field::EthDst, BLOCKS.eth_dst),
    (Field::Ipv4Src, BLOCKS.src.high(32)),
    (Field::ArpSpa, BLOCKS.src.high(32)),
    (Field::Ipv6Src, BLOCKS.src),
    (Field::Ipv4Dst, BLOCKS.dst.high(32)),
    (Field::ArpTpa, BLOCKS.dst.high(32)),
    (Field::Ipv6Dst, BLOCKS.dst),
    (Field::ArpSha, BLOCKS.sha),
    (Field::NdTarget, BLOCKS.nd_target),
];

/// What the tracker writes; 0 in a packet that was not tracked.
pub(crate) const TRACKED: [Field; 10] = [
    Field::CtState,
    Field::CtZone,
    Field::CtMark,
    Field::CtNwSrc,
    Field::CtNwDst,
    Field::CtIpv6Src,
    Field::CtIpv6Dst,
    Field::CtNwProto,
    Field::CtTpSrc,
    Field::CtTpDst,
];

impl View {
    /// A packet that comes in at a port. Registers are written before they are read, or reading them is an error: what
    /// they hold is 0, but nothing should depend on who was there before.
    pub(crate) fn entering(in_port: u32) -> Self {
        let own = OWN.map(|(field, block)| (field, Source::Bits(block)));
        let mut view = View { fields: own.into() };
        view.set(Field::InPort, Source::Const(u128::from(in_port)));
        view.untrack();
        view
    }

    pub(crate) fn get(&self, field: Field) -> Option<Source> {
        self.fields.get(&field).copied()
    }

    pub(crate) fn set(&mut self, field: Field, source: Source) {
        self.fields.insert(field, source);
    }

    /// Forgets a field: to read it is an error from now on.
    pub(crate) fn forget(&mut self, field: Field) {
        self.fields.remove(&field);
    }

    /// Takes away what the tracker wrote.
    pub(crate) fn untrack(&mut self) {
        for field in TRACKED {
            self.set(field, Source::Const(0));
        }
    }

    /// Takes the tag off. The switch looks into one (`vlan-limit`, ovs-vswitchd.conf.db(5)): a further one is an ethertype.
    pub(crate) fn pop_tag(&mut self) {
        self.set(Field::VlanTci, Source::Const(0));
    }

    /// The packets of which a match says that a field has this value; none if it has no value yet.
    pub(crate) fn term(
        &self,
        space: &Space,
        (field, value, mask): (Field, u128, u128),
    ) -> Result<Term, ProofError> {
        // The fields of a tag are parts of its TCI (ovs-fields(7), "vlan_tci").
        let (field, shift, bits) = match field {
            Field::VlanVid => (Field::VlanTci, 0, 13),
            Field::VlanPcp => (Field::VlanTci, 13, 3),
            field => (field, 0, u32::MAX),
        };
        match self.get(field).ok_or(ProofError::Unset(field))? {
            Source::Const(held) => {
                let part = held >> shift & ones(bits);
                Ok(if part & mask == value { Term::Always } else { Term::Never })
            }
            Source::Bits(block) => {
                let (value, mask) = (value << shift, (mask & ones(bits)) << shift);
                Ok(Term::If(space.matching(block, value, mask)?))
            }
        }
    }

    /// A part of a field that the tables wrote.
    pub(crate) fn constant(&self, part: Subfield) -> Result<u128, ProofError> {
        match self.get(part.field).ok_or(ProofError::Unset(part.field))? {
            Source::Const(value) => Ok(value >> part.offset.min(127) & ones(u32::from(part.bits))),
            Source::Bits(_) => Err(ProofError::Copied(part.field)),
        }
    }

    /// Writes bits of a field that the tables keep: registers, and the tag that they pushed.
    pub(crate) fn write(&mut self, field: Field, value: u128, mask: u128) -> Result<(), ProofError> {
        let whole = mask & field.full_mask() == field.full_mask();
        let (field, value, mask) = match field {
            Field::VlanVid => (Field::VlanTci, value & 0x0fff, mask & 0x0fff),
            field => (field, value, mask & field.full_mask()),
        };
        let before = match self.get(field) {
            Some(Source::Const(before)) => before,
            None if whole => 0,
            None => return Err(ProofError::Unset(field)),
            Some(Source::Bits(_)) => return Err(ProofError::Rewritten(field)),
        };
        self.set(field, Source::Const(before & !mask | value & mask));
        Ok(())
    }

    /// The fields that a packet like this example has, and where they stand: those of its ethertype and protocol.
    pub(crate) fn bits_of_packets(&self, example: &Example) -> Vec<(Field, Block)> {
        let (eth_type, proto) = (example.get(BLOCKS.eth_type), example.get(BLOCKS.proto));
        let has = |field: Field| match field {
            Field::EthSrc | Field::EthDst | Field::EthType => true,
            Field::ArpSpa | Field::ArpTpa | Field::ArpSha => eth_type == 0x0806,
            Field::Ipv4Src | Field::Ipv4Dst | Field::CtNwSrc | Field::CtNwDst => eth_type == 0x0800,
            Field::Ipv6Src | Field::Ipv6Dst | Field::CtIpv6Src | Field::CtIpv6Dst => eth_type == 0x86dd,
            Field::IpFrag
            | Field::IpProto
            | Field::CtMark
            | Field::CtNwProto
            | Field::CtTpSrc
            | Field::CtTpDst => [0x0800, 0x86dd].contains(&eth_type),
            Field::TcpSrc | Field::TcpDst => proto == 6,
            Field::UdpSrc | Field::UdpDst => proto == 17,
            Field::SctpSrc | Field::SctpDst => proto == 132,
            Field::Icmpv4Type | Field::Icmpv4Code => proto == 1 && eth_type == 0x0800,
            Field::Icmpv6Type | Field::Icmpv6Code | Field::NdTarget => proto == 58 && eth_type == 0x86dd,
            _ => false,
        };
        let bits = self.fields.iter().filter_map(|(field, source)| match source {
            Source::Bits(block) => Some((*field, *block)),
            Source::Const(_) => None,
        });
        bits.filter(|(field, _)| has(*field)).collect()
    }

    /// The sources of some fields: packets of equal sources are treated alike by what looks at nothing else.
    pub(crate) fn sources_of(&self, fields: &[Field]) -> Vec<Option<Source>> {
        fields.iter().map(|field| self.get(*field)).collect()
    }
}

/// Whether a part of a match holds.
pub(crate) enum Term {
    /// For every packet.
    Always,
    /// For none.
    Never,
    /// For these.
    If(Region),
}

/// The lowest `bits` bits.
fn ones(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
}
