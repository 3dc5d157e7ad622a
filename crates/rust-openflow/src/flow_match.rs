//! What a flow matches.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError, FieldError};
use crate::field::{Field, OxmHeader, ones};
use crate::port::PortNo;
use crate::wire::{Reader, be_uint, put_pad8, put_uint, set_length};

/// `ct_state`: the connection is not committed yet (ovs-fields(7), "ct_state").
pub const CT_NEW: u32 = 0x01;
/// `ct_state`: part of a committed connection.
pub const CT_EST: u32 = 0x02;
/// `ct_state`: related to a committed connection.
pub const CT_REL: u32 = 0x04;
/// `ct_state`: in the reply direction.
pub const CT_RPL: u32 = 0x08;
/// `ct_state`: could not be tracked.
pub const CT_INV: u32 = 0x10;
/// `ct_state`: went through the tracker.
pub const CT_TRK: u32 = 0x20;
/// `ct_state`: source address was translated.
pub const CT_SNAT: u32 = 0x40;
/// `ct_state`: destination address was translated.
pub const CT_DNAT: u32 = 0x80;

/// `ip_frag`: any fragment (ovs-fields(7), "ip_frag").
pub const FRAG_ANY: u8 = 1;
/// `ip_frag`: a fragment other than the first.
pub const FRAG_LATER: u8 = 2;

/// Bytes of matches that are believed: no switch has that many fields.
const MAX_BYTES: usize = 4096;

/// A flow's match in canonical form: each field at most once, in the switch's own order, values cut to their
/// masks, fields with an empty mask left out. Two matches are equal exactly if they match the same frames in
/// the same terms.
///
/// It is kept as the bytes of its OXM fields, which makes it small, and quick to encode and compare; clones share
/// them. The order of matches among each other has no meaning beyond being one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Match {
    oxm: Arc<[u8]>,
}

/// A match field that this crate does not know, as it stood on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawOxm<'a> {
    /// What it is.
    pub header: OxmHeader,
    /// Whether the second half of the payload is a mask.
    pub has_mask: bool,
    /// Value, and mask if there is one.
    pub payload: &'a [u8],
}

impl Match {
    /// The match of every packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Matches `field` exactly, in place of what was said of it before.
    ///
    /// # Panics
    /// If the value does not fit the field, or there is no such register: a cut value would match other
    /// frames.
    #[must_use]
    pub fn with(self, field: Field, value: impl Into<u128>) -> Self {
        self.with_mask(field, value, field.full_mask())
    }

    /// Matches the bits of `mask`, in place of what was said of the field before; an empty mask takes the
    /// field out.
    ///
    /// # Panics
    /// As [`with`](Self::with); also if the field can only be matched whole.
    #[must_use]
    pub fn with_mask(mut self, field: Field, value: impl Into<u128>, mask: impl Into<u128>) -> Self {
        match self.set(field, value.into(), mask.into()) {
            Ok(()) => self,
            Err(error) => panic!("match built with a bad field: {error}"),
        }
    }

    /// As [`with_mask`](Self::with_mask), for values that come from outside.
    pub fn set(&mut self, field: Field, value: u128, mask: u128) -> Result<(), FieldError> {
        let mut parts = stored_form(field, value, mask)?;
        if let [Some(part @ (Field::VlanVid | Field::VlanPcp, ..)), None, None, None] = parts {
            parts = self.tci_with(part);
        }
        for (field, value, mask) in parts.into_iter().flatten() {
            self.set_stored(field, value, mask);
        }
        Ok(())
    }

    /// The TCI with one of its parts said anew: how it is stored depends on both.
    fn tci_with(&self, (field, value, mask): (Field, u128, u128)) -> Parts {
        let (shift, bits) = if field == Field::VlanPcp { PCP } else { VID };
        let (old, old_mask) = self.get(Field::VlanTci).unwrap_or_default();
        let others = !(bits << shift);
        vlan_form(old & others | value << shift, old_mask & others | mask << shift)
    }

    /// Takes a field out of the match.
    #[must_use]
    pub fn without(mut self, field: Field) -> Self {
        // A register that is not there is in no match.
        self.set(field, 0, 0).ok();
        self
    }

    /// The value and mask of a field, `None` if nothing is said of it. Fields that are stored as others
    /// (`XReg`, `VlanTci`, …) are put together again.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<(u128, u128)> {
        let mut parts = (0, 0);
        for (stored, shift, width) in parts_of(field) {
            if let Some((value, mask)) = self.get_stored(stored) {
                parts.0 |= (value & ones(width)) << shift;
                parts.1 |= (mask & ones(width)) << shift;
            }
        }
        if parts.1 == 0 {
            return self.get_stored(field);
        }
        if field == Field::InPortNxm {
            let port = u32::try_from(parts.0).ok().and_then(|port| PortNo(port).to_u16())?;
            return Some((u128::from(port), field.full_mask()));
        }
        if !field.is_maskable() {
            parts.1 = field.full_mask();
        }
        Some(parts)
    }

    /// The known fields in canonical order: field, value, mask.
    pub fn iter(&self) -> impl Iterator<Item = (Field, u128, u128)> + '_ {
        self.entries().filter_map(|entry| entry.known())
    }

    /// The fields that this crate does not know.
    pub fn raw(&self) -> impl Iterator<Item = RawOxm<'_>> {
        self.entries().filter(|entry| entry.known().is_none()).map(|entry| entry.oxm)
    }

    /// Adds a field that this crate does not know, as bytes.
    ///
    /// A field that it does know is read and stored like any other.
    pub fn push_raw(&mut self, oxm: RawOxm<'_>) -> Result<(), DecodeError> {
        if !tlv_fits(&oxm) {
            return Err(DecodeError::BadLength { what: "match field", length: oxm.payload.len() });
        }
        self.push_entry(&oxm)
    }

    /// Whether every packet matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.oxm.is_empty()
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut reader = Reader::new("match", &self.oxm);
        // What is stored was checked when it came in, so there is no error to lose here.
        std::iter::from_fn(move || if reader.is_empty() { None } else { Entry::read(&mut reader).ok() })
    }

    fn get_stored(&self, field: Field) -> Option<(u128, u128)> {
        // In canonical form a field has one header: of the others that is read, and no more.
        let header = field.oxm_header();
        let (stored, value, mask) = self.entries().find(|entry| entry.oxm.header == header)?.known()?;
        // A register that does not exist would go by the header of another.
        (stored == field).then_some((value, mask))
    }

    /// Whether anything is said of the field, under whichever name.
    fn is_said(&self, field: Field) -> bool {
        let tci = self.get(Field::VlanTci).map_or(0, |(_, mask)| mask);
        match field {
            Field::VlanVid => tci & VID.1 << VID.0 != 0,
            Field::VlanPcp => tci & PCP.1 << PCP.0 != 0,
            _ => self.get(field).is_some(),
        }
    }

    /// Puts a field that is stored under its own name into its place.
    fn set_stored(&mut self, field: Field, value: u128, mask: u128) {
        let mut tlv = Vec::with_capacity(8 + 2 * field.bytes());
        if mask != 0 {
            put_tlv(&mut tlv, field, value, mask);
        }
        self.splice((field, 0), &tlv);
    }

    /// Replaces the field with this key, or inserts it behind all lesser ones.
    fn splice(&mut self, key: Key, tlv: &[u8]) {
        let mut start = 0;
        let mut end = 0;
        for entry in self.entries() {
            let length = entry.length;
            if entry.key() > key {
                break;
            }
            end += length;
            // Unknown fields share a key and stand beside one another.
            if entry.key() < key || key.1 == 1 {
                start = end;
            }
        }
        let mut oxm = Vec::with_capacity(self.oxm.len() + tlv.len());
        oxm.extend_from_slice(&self.oxm[..start]);
        oxm.extend_from_slice(tlv);
        oxm.extend_from_slice(&self.oxm[end..]);
        self.oxm = oxm.into();
    }

    /// Reads the OXM fields of a match that fill `bytes`.
    pub(crate) fn decode_fields(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::BadLength { what: "match", length: bytes.len() });
        }
        if is_canonical(bytes)? {
            return Ok(Match { oxm: bytes.into() });
        }
        let mut flow_match = Match::new();
        let mut reader = Reader::new("match", bytes);
        while !reader.is_empty() {
            let entry = Entry::read(&mut reader)?;
            flow_match.push_entry(&entry.oxm)?;
        }
        Ok(flow_match)
    }

    fn push_entry(&mut self, oxm: &RawOxm<'_>) -> Result<(), DecodeError> {
        match known_field(oxm)? {
            Some((field, value, mask)) => {
                if self.is_said(field) {
                    return Err(DecodeError::BadValue {
                        what: "second match field",
                        value: oxm_id(&oxm.header),
                    });
                }
                self.set(field, value, mask)
                    .map_err(|_| DecodeError::BadValue { what: "match field", value: oxm_id(&oxm.header) })
            }
            None => {
                let mut tlv = Vec::new();
                put_header(&mut tlv, oxm.header, oxm.has_mask, oxm.payload.len());
                tlv.extend_from_slice(oxm.payload);
                self.splice((Field::TunGbpFlags, 1), &tlv);
                Ok(())
            }
        }
    }

    /// Reads an `ofp_match` (OpenFlow 1.4 §7.2.2.1) with its padding.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u16()?;
        if kind != 1 {
            return Err(DecodeError::BadValue { what: "match type", value: u64::from(kind) });
        }
        let length = usize::from(reader.u16()?);
        let fields = length.checked_sub(4).ok_or(DecodeError::BadLength { what: "match", length })?;
        let flow_match = Self::decode_fields(reader.take(fields)?)?;
        reader.take(length.next_multiple_of(8) - length)?;
        Ok(flow_match)
    }

    /// The OXM fields alone, without header and padding.
    pub(crate) fn as_oxm(&self) -> &[u8] {
        &self.oxm
    }

    /// Writes an `ofp_match` with its padding.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(1);
        out.put_u16(0);
        out.put_slice(&self.oxm);
        set_length(out, start, start + 2, || "match".to_owned())?;
        put_pad8(out, start);
        Ok(())
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Match({self})")
    }
}

/// Where a field stands in a match: known fields by their order, the others where Open vSwitch writes those
/// that this crate does not know (tunnel metadata, ERSPAN, GTP-U, NSH).
type Key = (Field, u8);

struct Entry<'a> {
    oxm: RawOxm<'a>,
    length: usize,
}

impl<'a> Entry<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (header, has_mask, payload) = read_header(reader)?;
        let payload = reader.take(payload)?;
        Ok(Entry { oxm: RawOxm { header, has_mask, payload }, length: header.length() + payload.len() })
    }

    fn known(&self) -> Option<(Field, u128, u128)> {
        known_field(&self.oxm).ok().flatten()
    }

    fn key(&self) -> Key {
        Field::from_header(self.oxm.header).map_or((Field::TunGbpFlags, 1), |field| (field, 0))
    }
}

fn tlv_fits(oxm: &RawOxm<'_>) -> bool {
    let id_bytes = oxm.header.length() - 4;
    oxm.payload.len() + id_bytes <= 255
        && (!oxm.has_mask || oxm.payload.len().is_multiple_of(2))
        && oxm.header.number < 128
}

/// A number for error messages: class, field.
fn oxm_id(header: &OxmHeader) -> u64 {
    u64::from(header.class) << 16 | u64::from(header.number) << 9
}

/// Reads a TLV header; returns it, whether there is a mask, and the bytes of the payload (value and mask).
pub(crate) fn read_header(reader: &mut Reader<'_>) -> Result<(OxmHeader, bool, usize), DecodeError> {
    let class = reader.u16()?;
    let number = reader.u8()?;
    let length = usize::from(reader.u8()?);
    let bad_length = DecodeError::BadLength { what: "match field", length };
    let mut header = OxmHeader { class, number: number >> 1, experimenter: 0 };
    let mut payload = length;
    if class == OxmHeader::EXPERIMENTER {
        payload = payload.checked_sub(4).ok_or(bad_length.clone())?;
        header.experimenter = reader.u32()?;
    }
    let has_mask = number & 1 == 1;
    if has_mask && payload % 2 == 1 {
        return Err(bad_length);
    }
    Ok((header, has_mask, payload))
}

/// Writes a TLV header for `payload` bytes of value and mask.
pub(crate) fn put_header(out: &mut impl BufMut, header: OxmHeader, has_mask: bool, payload: usize) {
    out.put_u16(header.class);
    out.put_u8(header.number << 1 | u8::from(has_mask));
    let length = payload + header.length() - 4;
    out.put_u8(u8::try_from(length).expect("payloads are at most 247 bytes, see tlv_fits"));
    if header.class == OxmHeader::EXPERIMENTER {
        out.put_u32(header.experimenter);
    }
}

fn put_tlv(out: &mut Vec<u8>, field: Field, value: u128, mask: u128) {
    let exact = field.is_exact(mask);
    let bytes = field.bytes();
    put_header(out, field.oxm_header(), !exact, if exact { bytes } else { 2 * bytes });
    put_uint(out, value, bytes);
    if !exact {
        put_uint(out, mask, bytes);
    }
}

/// Field, value and mask of a TLV; `None` if the field is unknown.
pub(crate) fn known_field(oxm: &RawOxm<'_>) -> Result<Option<(Field, u128, u128)>, DecodeError> {
    let Some(field) = Field::from_header(oxm.header) else { return Ok(None) };
    let bytes = field.bytes();
    let expected = if oxm.has_mask { 2 * bytes } else { bytes };
    if oxm.payload.len() != expected {
        return Err(DecodeError::BadLength { what: "match field", length: oxm.payload.len() });
    }
    let value = be_uint(&oxm.payload[..bytes]);
    let mask = if oxm.has_mask { be_uint(&oxm.payload[bytes..]) } else { field.full_mask() };
    if field == Field::InPort && !u32::try_from(value).is_ok_and(|port| PortNo(port).can_exist()) {
        return Err(DecodeError::BadValue { what: "match field", value: oxm_id(&oxm.header) });
    }
    Ok(Some((field, value, mask)))
}

/// Whether the bytes are those that this crate would write, so that they can be kept as they are.
fn is_canonical(bytes: &[u8]) -> Result<bool, DecodeError> {
    let mut reader = Reader::new("match", bytes);
    let mut last = None;
    while !reader.is_empty() {
        let entry = Entry::read(&mut reader)?;
        let key = entry.key();
        let in_order = last.is_none_or(|last| last < key || (key.1 == 1 && last == key));
        last = Some(key);
        let as_written = match known_field(&entry.oxm)? {
            None => true,
            Some((field, value, mask)) => {
                // How a priority or a whole TCI is stored depends on what else is said.
                let alone = !matches!(field, Field::VlanPcp | Field::VlanTci)
                    && matches!(stored_form(field, value, mask),
                        Ok([Some(stored), None, None, None]) if stored == (field, value, mask));
                let exact = field.is_exact(mask);
                alone && mask != 0 && exact != entry.oxm.has_mask && entry.oxm.header == field.oxm_header()
            }
        };
        if !in_order || !as_written {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the parts of a TCI stand in it: shift, bits. The id has its "there is a tag" bit with it.
const VID: (u32, u128) = (0, 0x1fff);
const PCP: (u32, u128) = (13, 7);

type Parts = [Option<(Field, u128, u128)>; 4];

/// The fields that stand for `field` in a match, with values cut to their masks.
fn stored_form(field: Field, value: u128, mask: u128) -> Result<Parts, FieldError> {
    if !field.exists() {
        return Err(FieldError::NoSuchField(field));
    }
    let mask = mask & field.full_mask();
    // In the room that a field has beyond its bits there is nothing to match.
    let mask = if mask & ones(field.bits()) == 0 { 0 } else { mask };
    if mask != 0 && mask != field.full_mask() && !field.is_maskable() {
        return Err(FieldError::NotMaskable { field, mask });
    }
    // A value that would not fit is refused, not cut, unless the caller's mask says that those bits do not
    // matter.
    let full = mask == field.full_mask();
    if (full || value & mask > ones(field.bits())) && value > ones(field.bits()) {
        return Err(FieldError::TooWide { field, value, bits: field.bits() });
    }
    let value = value & mask;
    let reg = |number: u8, shift: u16| {
        Some((Field::Reg(number), value >> shift & ones(32), mask >> shift & ones(32)))
    };
    Ok(match field {
        Field::XReg(number) => [reg(2 * number, 32), reg(2 * number + 1, 0), None, None],
        Field::XXReg(number) => {
            [reg(4 * number, 96), reg(4 * number + 1, 64), reg(4 * number + 2, 32), reg(4 * number + 3, 0)]
        }
        Field::InPortNxm => {
            let port = u16::try_from(value).map_or(PortNo::ANY, PortNo::from_u16);
            let mask = if mask == 0 { 0 } else { Field::InPort.full_mask() };
            [Some((Field::InPort, u128::from(port.0), mask)), None, None, None]
        }
        Field::IpTos => {
            let mask = if mask == 0 { 0 } else { Field::IpDscp.full_mask() };
            [Some((Field::IpDscp, value >> 2, mask)), None, None, None]
        }
        Field::VlanTci => vlan_form(value, mask),
        _ => [Some((field, value, mask)), None, None, None],
    })
}

/// A TCI as OXM says it: the id with its "there is a tag" bit, and the priority, which cannot be masked and
/// needs a tag. "No tag" has no priority, so that of TCI 0 is dropped, as Open vSwitch does.
fn vlan_form(value: u128, mask: u128) -> Parts {
    let vid = |mask| Some((Field::VlanVid, value & 0x1fff & mask, mask & 0x1fff));
    let pcp = |mask| Some((Field::VlanPcp, value >> 13 & mask, mask));
    let whole = |tci| Some((Field::VlanTci, value & tci, tci));
    let tagged = value & 0x1fff != 0;
    // What is not said is taken out, as it may have been said before.
    match mask >> 13 {
        0 => [vid(mask), pcp(0), whole(0), None],
        7 if tagged => [vid(mask), pcp(Field::VlanPcp.full_mask()), whole(0), None],
        7 if value == 0 && mask & 0x1000 != 0 => [vid(mask), pcp(0), whole(0), None],
        _ => [vid(0), pcp(0), whole(mask), None],
    }
}

/// The stored fields that `field` is made of: field, shift, bits of it that count.
fn parts_of(field: Field) -> Vec<(Field, u32, u16)> {
    match field {
        Field::XReg(number) if field.exists() => {
            vec![(Field::Reg(2 * number), 32, 32), (Field::Reg(2 * number + 1), 0, 32)]
        }
        Field::XXReg(number) if field.exists() => (0..4)
            .map(|quarter| (Field::Reg(4 * number + quarter), 96 - 32 * u32::from(quarter), 32))
            .collect(),
        Field::InPortNxm => vec![(Field::InPort, 0, 32)],
        Field::IpTos => vec![(Field::IpDscp, 2, 6)],
        Field::VlanTci => vec![(Field::VlanVid, VID.0, 13), (Field::VlanPcp, PCP.0, 3)],
        _ => Vec::new(),
    }
}
