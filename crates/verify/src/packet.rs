//! Packets as flow tables see them: values of fields, and the VLAN tags that the switch looks into.

use std::fmt;

use rust_openflow::{Field, Match, PortNo};

use crate::conntrack::Tuple;

/// The bit of a TCI that says that there is a tag (ovs-fields(7), "vlan_tci").
const TAG_PRESENT: u16 = 0x1000;

/// A VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag {
    /// Tag protocol identifier: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority and VID; bit 12 is set.
    pub tci: u16,
}

impl Tag {
    /// A tag of the VLAN `vid`, 0 to 4095, of priority 0.
    #[must_use]
    pub fn new(tpid: u16, vid: u16) -> Self {
        Tag { tpid, tci: TAG_PRESENT | (vid & 0x0fff) }
    }

    /// The VLAN id.
    #[must_use]
    pub fn vid(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// A field of a tag was to be written and there is no tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet has no VLAN tag to write to")]
pub struct NoTag;

/// A packet on its way through the tables: its own fields, metadata and registers.
///
/// A field that the packet does not have is 0. That is how Open vSwitch itself keeps packets, and no match can tell:
/// [`crate::Tables`] refuses flows without the prerequisites of their fields, as the switch does.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Packet {
    /// Sorted by field, none of them 0; neither composed fields (`XReg`, …) nor those of tags.
    fields: Vec<(Field, u128)>,
    /// The outermost first. `EthType` is what stands behind those that the switch looks into.
    tags: Vec<Tag>,
    /// In an ICMP error, the packet that it is about.
    quoted: Option<Tuple>,
}

impl Packet {
    /// A packet of zeros that comes in at a port.
    #[must_use]
    pub fn new(in_port: PortNo) -> Self {
        Packet::default().with(Field::InPort, in_port.0)
    }

    /// The same packet with a field's value.
    ///
    /// # Panics
    /// For a field of a VLAN tag if there is none: see [`Packet::with_tag`].
    #[must_use]
    pub fn with(mut self, field: Field, value: impl Into<u128>) -> Self {
        self.set(field, value.into(), u128::MAX).expect("fields of tags are written after the tag was given");
        self
    }

    /// The same packet with a further, outermost tag.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.push_tag(tag);
        self
    }

    /// The same packet, an ICMP error about another.
    #[must_use]
    pub fn with_quoted(mut self, quoted: Option<Tuple>) -> Self {
        self.quoted = quoted;
        self
    }

    /// The packet that this ICMP error is about.
    #[must_use]
    pub fn quoted(&self) -> Option<Tuple> {
        self.quoted
    }

    /// The tags, the outermost first.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The value of a field, 0 if the packet does not have it.
    #[must_use]
    pub fn get(&self, field: Field) -> u128 {
        let tci = || self.tags.first().map_or(0, |tag| u128::from(tag.tci | TAG_PRESENT));
        match field {
            Field::VlanTci => tci(),
            Field::VlanVid => tci() & 0x1fff,
            Field::VlanPcp => tci() >> 13,
            Field::XReg(n) => self.registers(2 * n, 2),
            Field::XXReg(n) => self.registers(4 * n, 4),
            Field::InPortNxm => {
                let port = u32::try_from(self.stored(Field::InPort)).unwrap_or(u32::MAX);
                PortNo(port).to_u16().map_or(0, u128::from)
            }
            Field::IpTos => self.stored(Field::IpDscp) << 2,
            field => self.stored(field),
        }
    }

    /// The value of a field that holds no more than 16 bits.
    pub(crate) fn get_u16(&self, field: Field) -> u16 {
        u16::try_from(self.get(field)).unwrap_or(u16::MAX)
    }

    /// Writes the bits of `mask`.
    ///
    /// # Errors
    /// The field is one of a tag, and there is none.
    pub fn set(&mut self, field: Field, value: u128, mask: u128) -> Result<(), NoTag> {
        let merged = (self.get(field) & !mask) | (value & mask);
        match field {
            Field::VlanTci | Field::VlanVid | Field::VlanPcp => {
                let tag = self.tags.first_mut().ok_or(NoTag)?;
                let low = |bits: u128| u16::try_from(merged & bits).unwrap_or(0);
                tag.tci = TAG_PRESENT
                    | match field {
                        Field::VlanTci => low(0xffff),
                        Field::VlanVid => (tag.tci & 0xe000) | low(0x0fff),
                        _ => (tag.tci & 0x0fff) | low(7) << 13,
                    };
            }
            Field::XReg(n) => self.set_registers(2 * n, 2, merged),
            Field::XXReg(n) => self.set_registers(4 * n, 4, merged),
            Field::InPortNxm => {
                let port = u16::try_from(merged).map_or(PortNo::ANY, PortNo::from_u16);
                self.store(Field::InPort, u128::from(port.0));
            }
            Field::IpTos => self.store(Field::IpDscp, merged >> 2),
            field => self.store(field, merged & field.full_mask()),
        }
        Ok(())
    }

    /// Puts a tag around the packet (ovs-actions(7), "push_vlan").
    pub(crate) fn push_tag(&mut self, tag: Tag) {
        self.tags.insert(0, tag);
    }

    /// Takes the outermost tag off, if there is one (ovs-actions(7), "strip_vlan and pop").
    pub(crate) fn pop_tag(&mut self) {
        if !self.tags.is_empty() {
            self.tags.remove(0);
        }
    }

    /// The same packet before it was tracked.
    pub(crate) fn untracked(&self) -> Self {
        let mut packet = self.clone();
        packet.clear_conntrack();
        packet
    }

    /// Takes away what the connection tracker has written (ovs-actions(7), "ct_clear").
    pub(crate) fn clear_conntrack(&mut self) {
        self.fields.retain(|(field, _)| !CONNTRACK_FIELDS.contains(field));
    }

    fn registers(&self, first: u8, count: u8) -> u128 {
        (first..first + count).fold(0, |value, n| value << 32 | self.stored(Field::Reg(n)))
    }

    fn set_registers(&mut self, first: u8, count: u8, value: u128) {
        for n in 0..count {
            let shift = 32 * u32::from(count - 1 - n);
            self.store(Field::Reg(first + n), value >> shift & 0xffff_ffff);
        }
    }

    fn stored(&self, field: Field) -> u128 {
        let found = self.fields.binary_search_by_key(&field, |(field, _)| *field);
        found.map_or(0, |index| self.fields[index].1)
    }

    fn store(&mut self, field: Field, value: u128) {
        match (self.fields.binary_search_by_key(&field, |(field, _)| *field), value) {
            (Ok(index), 0) => _ = self.fields.remove(index),
            (Ok(index), value) => self.fields[index].1 = value,
            (Err(_), 0) => {}
            (Err(index), value) => self.fields.insert(index, (field, value)),
        }
    }
}

/// The fields that are not 0, as a match of ovs-ofctl; the order of fields is that of `ovs-ofctl dump-flows`.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tags.first().map(|tag| (Field::VlanTci, u128::from(tag.tci)));
        let fields = self.fields.iter().copied().chain(tag);
        let described = fields.fold(Match::new(), |all, (field, value)| match field {
            // What is not set is not asked for, so that the names of the flags are printed.
            Field::CtState => all.with_mask(field, value, value),
            field => all.with(field, value),
        });
        described.fmt(f)
    }
}

/// What the connection tracker writes (ovs-fields(7), "Connection Tracking Fields").
const CONNTRACK_FIELDS: [Field; 11] = [
    Field::CtState,
    Field::CtZone,
    Field::CtMark,
    Field::CtLabel,
    Field::CtNwSrc,
    Field::CtNwDst,
    Field::CtIpv6Src,
    Field::CtIpv6Dst,
    Field::CtNwProto,
    Field::CtTpSrc,
    Field::CtTpDst,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_registers_are_their_parts() {
        let packet =
            Packet::new(PortNo(1)).with(Field::XXReg(1), 0x1111_1111_2222_2222_3333_3333_4444_4444u128);
        assert_eq!(packet.get(Field::Reg(4)), 0x1111_1111);
        assert_eq!(packet.get(Field::XReg(3)), 0x3333_3333_4444_4444);
        assert_eq!(packet.with(Field::Reg(7), 0u8).get(Field::XReg(3)), 0x3333_3333_0000_0000);
    }

    #[test]
    fn fields_of_tags_are_those_of_the_outermost() {
        let mut packet = Packet::new(PortNo(1)).with_tag(Tag::new(0x8100, 7));
        packet.push_tag(Tag::new(0x88a8, 0));
        packet.set(Field::VlanVid, 10, 0x0fff).unwrap();
        packet.set(Field::VlanPcp, 5, 7).unwrap();
        assert_eq!((packet.get(Field::VlanVid), packet.get(Field::VlanPcp)), (0x100a, 5));
        assert_eq!(packet.get(Field::VlanTci), 0xb00a);
        packet.pop_tag();
        assert_eq!(packet.get(Field::VlanVid), 0x1007);
        packet.pop_tag();
        packet.pop_tag();
        assert_eq!(packet.get(Field::VlanTci), 0);
        assert_eq!(packet.set(Field::VlanVid, 10, 0x0fff), Err(NoTag));
    }

    #[test]
    fn what_is_zero_is_not_there() {
        let packet = Packet::new(PortNo(1)).with(Field::CtMark, 5u8).with(Field::Reg(1), 5u8);
        let mut cleared = packet.clone();
        cleared.clear_conntrack();
        assert_eq!(cleared, packet.with(Field::CtMark, 0u8));
    }
}
