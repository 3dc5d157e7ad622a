//! Expressions as attributes: `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`, and what is in the latter.

use nfnetlink::{Attribute, Attributes, Malformed, Request};

use crate::expr::{Comparison, CtKey, Direction, Expr, Field, Header, MetaKey, Register};
use crate::value::{Data, Value};

/// `NFTA_EXPR_*`.
const NAME: u16 = 1;
const DATA: u16 = 2;

/// `NFTA_META_*`, and alike `NFTA_CT_*` up to its direction.
mod key {
    pub(super) const TO: u16 = 1;
    pub(super) const KEY: u16 = 2;
    pub(super) const META_FROM: u16 = 3;
    pub(super) const CT_DIRECTION: u16 = 3;
    pub(super) const CT_FROM: u16 = 4;
}

/// `NFTA_PAYLOAD_*`.
mod payload {
    pub(super) const TO: u16 = 1;
    pub(super) const BASE: u16 = 2;
    pub(super) const OFFSET: u16 = 3;
    pub(super) const LENGTH: u16 = 4;
}

/// `NFTA_EXTHDR_*`.
mod exthdr {
    pub(super) const TO: u16 = 1;
    pub(super) const TYPE: u16 = 2;
    pub(super) const OFFSET: u16 = 3;
    pub(super) const LENGTH: u16 = 4;
    pub(super) const FLAGS: u16 = 5;
    pub(super) const OPERATION: u16 = 6;
    /// `NFT_EXTHDR_F_PRESENT`, `NFT_EXTHDR_OP_IPV6`.
    pub(super) const PRESENT: u32 = 1;
    pub(super) const IPV6: u32 = 0;
}

/// `NFTA_CMP_*`, and alike `NFTA_RANGE_*`.
mod compare {
    pub(super) const FROM: u16 = 1;
    pub(super) const HOW: u16 = 2;
    pub(super) const WITH: u16 = 3;
    pub(super) const LAST: u16 = 4;
    /// `NFT_RANGE_EQ`, `NFT_RANGE_NEQ`.
    pub(super) const INSIDE: u32 = 0;
    pub(super) const OUTSIDE: u32 = 1;
}

/// `NFTA_BITWISE_*`.
mod bitwise {
    pub(super) const FROM: u16 = 1;
    pub(super) const TO: u16 = 2;
    pub(super) const LENGTH: u16 = 3;
    pub(super) const MASK: u16 = 4;
    pub(super) const XOR: u16 = 5;
    pub(super) const OPERATION: u16 = 6;
    /// `NFT_BITWISE_MASK_XOR`.
    pub(super) const MASK_XOR: u32 = 0;
}

/// `NFTA_BYTEORDER_*`.
mod byteorder {
    pub(super) const FROM: u16 = 1;
    pub(super) const TO: u16 = 2;
    pub(super) const OPERATION: u16 = 3;
    pub(super) const LENGTH: u16 = 4;
    pub(super) const SIZE: u16 = 5;
    /// `NFT_BYTEORDER_NTOH`, `NFT_BYTEORDER_HTON`.
    pub(super) const TO_HOST: u32 = 0;
    pub(super) const TO_NETWORK: u32 = 1;
}

/// `NFTA_LOOKUP_*`.
mod lookup {
    pub(super) const SET: u16 = 1;
    pub(super) const FROM: u16 = 2;
    pub(super) const TO: u16 = 3;
    pub(super) const FLAGS: u16 = 5;
    /// `NFT_LOOKUP_F_INV`.
    pub(super) const INVERTED: u32 = 1;
}

/// `NFTA_IMMEDIATE_*`.
mod immediate {
    pub(super) const TO: u16 = 1;
    pub(super) const DATA: u16 = 2;
}

/// `NFTA_COUNTER_*`.
mod counter {
    pub(super) const BYTES: u16 = 1;
    pub(super) const PACKETS: u16 = 2;
    pub(super) const PADDING: u16 = 3;
}

impl Expr {
    /// The kernel's name of it.
    pub fn name(&self) -> &str {
        match self {
            Expr::Meta { .. } | Expr::SetMeta { .. } => "meta",
            Expr::Payload { .. } => "payload",
            Expr::ExtensionHeader { .. } => "exthdr",
            Expr::Compare { .. } => "cmp",
            Expr::Range { .. } => "range",
            Expr::Bitwise { .. } => "bitwise",
            Expr::ByteOrder { .. } => "byteorder",
            Expr::Lookup { .. } => "lookup",
            Expr::Immediate { .. } => "immediate",
            Expr::Ct { .. } | Expr::SetCt { .. } => "ct",
            Expr::Counter { .. } => "counter",
            Expr::NoTrack => "notrack",
            Expr::Other { name, .. } => name,
        }
    }

    /// Adds its attributes.
    pub(crate) fn put(&self, request: &mut Request) {
        request.put_text(NAME, self.name());
        match self {
            Expr::NoTrack => {}
            Expr::Other { data, .. } if data.is_empty() => {}
            Expr::Other { data, .. } => _ = request.put_nested(DATA, data),
            _ => _ = request.nest(DATA, |data| self.put_data(data)),
        }
    }

    fn put_data(&self, data: &mut Request) {
        match self {
            Expr::Meta { key, to } => put_register(data, key::TO, *to).put_be32(key::KEY, key.0),
            Expr::SetMeta { key, from } => {
                put_register(data.put_be32(key::KEY, key.0), key::META_FROM, *from)
            }
            Expr::Payload { field, to } => put_register(data, payload::TO, *to)
                .put_be32(payload::BASE, field.header.0)
                .put_be32(payload::OFFSET, field.offset)
                .put_be32(payload::LENGTH, field.length),
            Expr::ExtensionHeader { header, offset, length, is_presence, to } => {
                put_register(data, exthdr::TO, *to)
                    .put_u8(exthdr::TYPE, *header)
                    .put_be32(exthdr::OFFSET, *offset)
                    .put_be32(exthdr::LENGTH, *length)
                    .put_be32(exthdr::FLAGS, if *is_presence { exthdr::PRESENT } else { 0 })
                    .put_be32(exthdr::OPERATION, exthdr::IPV6)
            }
            Expr::Lookup { set, from, to, is_inverted } => {
                put_register(data.put_text(lookup::SET, set.as_str()), lookup::FROM, *from);
                if let Some(to) = to {
                    put_register(data, lookup::TO, *to);
                }
                data.put_be32(lookup::FLAGS, if *is_inverted { lookup::INVERTED } else { 0 })
            }
            Expr::Immediate { to, data: loaded } => {
                loaded.put(put_register(data, immediate::TO, *to), immediate::DATA);
                data
            }
            Expr::Ct { key, direction, to } => {
                put_register(data, key::TO, *to).put_be32(key::KEY, key.0);
                put_direction(data, *direction)
            }
            Expr::SetCt { key, direction, from } => {
                put_direction(data.put_be32(key::KEY, key.0), *direction);
                put_register(data, key::CT_FROM, *from)
            }
            Expr::Counter { packets, bytes } => {
                data.put_be64(counter::BYTES, *bytes).put_be64(counter::PACKETS, *packets)
            }
            _ => self.put_computation(data),
        };
    }

    /// Of those that compute with what is in registers.
    fn put_computation<'d>(&self, data: &'d mut Request) -> &'d mut Request {
        match self {
            Expr::Compare { from, how, with } => {
                put_register(data, compare::FROM, *from).put_be32(compare::HOW, *how as u32);
                with.put(data, compare::WITH);
            }
            Expr::Range { from, is_inverted, first, last } => {
                let how = if *is_inverted { compare::OUTSIDE } else { compare::INSIDE };
                put_register(data, compare::FROM, *from).put_be32(compare::HOW, how);
                first.put(data, compare::WITH);
                last.put(data, compare::LAST);
            }
            Expr::Bitwise { from, to, mask, xor } => {
                put_register(put_register(data, bitwise::FROM, *from), bitwise::TO, *to);
                let length = u32::try_from(mask.octets().len()).unwrap_or(u32::MAX);
                data.put_be32(bitwise::LENGTH, length);
                mask.put(data, bitwise::MASK);
                xor.put(data, bitwise::XOR);
            }
            Expr::ByteOrder { from, to, to_host, length, size } => {
                let operation = if *to_host { byteorder::TO_HOST } else { byteorder::TO_NETWORK };
                put_register(put_register(data, byteorder::FROM, *from), byteorder::TO, *to)
                    .put_be32(byteorder::OPERATION, operation)
                    .put_be32(byteorder::LENGTH, *length)
                    .put_be32(byteorder::SIZE, *size);
            }
            _ => {}
        }
        data
    }

    /// Reads what an expression's attribute holds.
    pub(crate) fn read(expression: Attributes<'_>) -> Result<Self, Malformed> {
        let name = expression.find(NAME)?.ok_or(Malformed("an expression without name"))?.text()?;
        let data = expression.find(DATA)?.map_or(&[][..], |data| data.value);
        let known = match Parts::read(data)? {
            Some(parts) => known(name, &parts)?,
            None => None,
        };
        Ok(known.unwrap_or_else(|| Expr::Other { name: name.to_owned(), data: data.to_vec() }))
    }
}

fn put_register(data: &mut Request, kind: u16, register: Register) -> &mut Request {
    data.put_be32(kind, register.number())
}

fn put_direction(data: &mut Request, direction: Option<Direction>) -> &mut Request {
    match direction {
        Some(direction) => data.put_u8(key::CT_DIRECTION, direction as u8),
        None => data,
    }
}

/// An expression of a name, if nothing of it is unknown here.
fn known(name: &str, parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    match name {
        "meta" => meta(parts),
        "payload" => payload(parts),
        "exthdr" => extension_header(parts),
        "cmp" => compare(parts),
        "range" => range(parts),
        "bitwise" => bitwise(parts),
        "byteorder" => byte_order(parts),
        "lookup" => lookup(parts),
        "immediate" => immediate(parts),
        "ct" => ct(parts),
        "counter" => count(parts),
        "notrack" => Ok(parts.are(&[]).then_some(Expr::NoTrack)),
        _ => Ok(None),
    }
}

/// Attributes by their kind.
struct Parts<'m> {
    of_kind: [Option<Attribute<'m>>; KINDS],
}

/// More than any expression of ours has.
const KINDS: usize = 8;

impl<'m> Parts<'m> {
    /// None if there are others than ours have.
    fn read(data: &'m [u8]) -> Result<Option<Self>, Malformed> {
        let mut parts = Parts { of_kind: [None; KINDS] };
        for attribute in Attributes::new(data) {
            let attribute = attribute?;
            match parts.of_kind.get_mut(usize::from(attribute.kind)) {
                Some(part @ None) => *part = Some(attribute),
                _ => return Ok(None),
            }
        }
        Ok(Some(parts))
    }

    /// Whether there are no others than these.
    fn are(&self, kinds: &[u16]) -> bool {
        let there = self.of_kind.iter().flatten();
        there.into_iter().all(|attribute| kinds.contains(&attribute.kind))
    }

    fn find(&self, kind: u16) -> Option<Attribute<'m>> {
        self.of_kind.get(usize::from(kind)).copied().flatten()
    }

    fn part(&self, kind: u16) -> Result<Attribute<'m>, Malformed> {
        self.find(kind).ok_or(Malformed("an expression lacks an attribute"))
    }

    fn number(&self, kind: u16) -> Result<u32, Malformed> {
        self.part(kind)?.be32()
    }

    fn register(&self, kind: u16) -> Result<Register, Malformed> {
        Register::of_number(self.number(kind)?).ok_or(Malformed("a register that there is not"))
    }

    fn value(&self, kind: u16) -> Result<Value, Malformed> {
        Value::read(self.part(kind)?)
    }
}

fn meta(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[key::TO, key::KEY, key::META_FROM]) {
        return Ok(None);
    }
    let key = MetaKey(parts.number(key::KEY)?);
    Ok(match (parts.find(key::TO), parts.find(key::META_FROM)) {
        (Some(_), None) => Some(Expr::Meta { key, to: parts.register(key::TO)? }),
        (None, Some(_)) => Some(Expr::SetMeta { key, from: parts.register(key::META_FROM)? }),
        _ => None,
    })
}

fn ct(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[key::TO, key::KEY, key::CT_DIRECTION, key::CT_FROM]) {
        return Ok(None);
    }
    let key = CtKey(parts.number(key::KEY)?);
    let direction = match parts.find(key::CT_DIRECTION).map(Attribute::u8).transpose()? {
        None => None,
        Some(0) => Some(Direction::Original),
        Some(1) => Some(Direction::Reply),
        Some(_) => return Ok(None),
    };
    Ok(match (parts.find(key::TO), parts.find(key::CT_FROM)) {
        (Some(_), None) => Some(Expr::Ct { key, direction, to: parts.register(key::TO)? }),
        (None, Some(_)) => Some(Expr::SetCt { key, direction, from: parts.register(key::CT_FROM)? }),
        _ => None,
    })
}

fn payload(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[payload::TO, payload::BASE, payload::OFFSET, payload::LENGTH]) {
        return Ok(None);
    }
    let field = Field {
        header: Header(parts.number(payload::BASE)?),
        offset: parts.number(payload::OFFSET)?,
        length: parts.number(payload::LENGTH)?,
    };
    Ok(Some(Expr::Payload { field, to: parts.register(payload::TO)? }))
}

fn extension_header(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    use exthdr::{FLAGS, IPV6, LENGTH, OFFSET, OPERATION, PRESENT, TO, TYPE};
    if !parts.are(&[TO, TYPE, OFFSET, LENGTH, FLAGS, OPERATION]) || parts.find(TO).is_none() {
        return Ok(None);
    }
    let optional = |kind| parts.find(kind).map_or(Ok(0), Attribute::be32);
    let flags = optional(FLAGS)?;
    if optional(OPERATION)? != IPV6 || flags & !PRESENT != 0 {
        return Ok(None);
    }
    Ok(Some(Expr::ExtensionHeader {
        header: parts.part(TYPE)?.u8()?,
        offset: parts.number(OFFSET)?,
        length: parts.number(LENGTH)?,
        is_presence: flags & PRESENT != 0,
        to: parts.register(TO)?,
    }))
}

fn compare(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[compare::FROM, compare::HOW, compare::WITH]) {
        return Ok(None);
    }
    let Some(how) = Comparison::of_number(parts.number(compare::HOW)?) else { return Ok(None) };
    Ok(Some(Expr::Compare { from: parts.register(compare::FROM)?, how, with: parts.value(compare::WITH)? }))
}

fn range(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[compare::FROM, compare::HOW, compare::WITH, compare::LAST]) {
        return Ok(None);
    }
    let is_inverted = match parts.number(compare::HOW)? {
        compare::INSIDE => false,
        compare::OUTSIDE => true,
        _ => return Ok(None),
    };
    Ok(Some(Expr::Range {
        from: parts.register(compare::FROM)?,
        is_inverted,
        first: parts.value(compare::WITH)?,
        last: parts.value(compare::LAST)?,
    }))
}

fn bitwise(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    use bitwise::{FROM, LENGTH, MASK, MASK_XOR, OPERATION, TO, XOR};
    let operation = parts.find(OPERATION).map_or(Ok(MASK_XOR), Attribute::be32)?;
    if !parts.are(&[FROM, TO, LENGTH, MASK, XOR, OPERATION]) || operation != MASK_XOR {
        return Ok(None);
    }
    let (mask, xor) = (parts.value(MASK)?, parts.value(XOR)?);
    let length = usize::try_from(parts.number(LENGTH)?).unwrap_or(usize::MAX);
    if mask.octets().len() != length || xor.octets().len() != length {
        return Err(Malformed("a mask of another length than it says"));
    }
    Ok(Some(Expr::Bitwise { from: parts.register(FROM)?, to: parts.register(TO)?, mask, xor }))
}

fn byte_order(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    use byteorder::{FROM, LENGTH, OPERATION, SIZE, TO, TO_HOST, TO_NETWORK};
    let to_host = match parts.number(OPERATION)? {
        TO_HOST => true,
        TO_NETWORK => false,
        _ => return Ok(None),
    };
    Ok(parts.are(&[FROM, TO, OPERATION, LENGTH, SIZE]).then_some(Expr::ByteOrder {
        from: parts.register(FROM)?,
        to: parts.register(TO)?,
        to_host,
        length: parts.number(LENGTH)?,
        size: parts.number(SIZE)?,
    }))
}

fn lookup(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    let flags = parts.find(lookup::FLAGS).map_or(Ok(0), Attribute::be32)?;
    if !parts.are(&[lookup::SET, lookup::FROM, lookup::TO, lookup::FLAGS]) || flags & !lookup::INVERTED != 0 {
        return Ok(None);
    }
    let set = parts.part(lookup::SET)?.text()?;
    let to = parts.find(lookup::TO).map(|_| parts.register(lookup::TO)).transpose()?;
    Ok(Some(Expr::Lookup {
        set: set.parse().map_err(|_| Malformed("a set of no name"))?,
        from: parts.register(lookup::FROM)?,
        to,
        is_inverted: flags & lookup::INVERTED != 0,
    }))
}

fn immediate(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[immediate::TO, immediate::DATA]) {
        return Ok(None);
    }
    let data = Data::read(parts.part(immediate::DATA)?)?;
    Ok(Some(Expr::Immediate { to: parts.register(immediate::TO)?, data }))
}

fn count(parts: &Parts<'_>) -> Result<Option<Expr>, Malformed> {
    if !parts.are(&[counter::BYTES, counter::PACKETS, counter::PADDING]) {
        return Ok(None);
    }
    let (packets, bytes) = (parts.part(counter::PACKETS)?.be64()?, parts.part(counter::BYTES)?.be64()?);
    Ok(Some(Expr::Counter { packets, bytes }))
}
