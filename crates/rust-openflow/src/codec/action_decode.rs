//! Reading of actions.

use bytes::BytesMut;

use crate::action::{Action, Controller, Ct, CtZone, RawAction, Subfield};
use crate::error::DecodeError;
use crate::field::{Field, ones};
use crate::flow_match::{RawOxm, known_field, read_header};
use crate::port::PortNo;
use crate::wire::{Reader, property, property_number};

use super::action_encode::encode;
use super::{CT_COMMIT, CT_FORCE, MAX_DEPTH, NICIRA, NO_TABLE, controller2, kind, nicira};

impl Action {
    /// Reads a list of actions. What the crate does not know, or could not write again byte for byte, is kept
    /// as [`Action::Unknown`].
    ///
    /// Two old forms are read as their modern equals and so written differently: `NXAST_RESUBMIT` as
    /// `NXAST_RESUBMIT_TABLE`, and `NXAST_REG_LOAD2` of a whole field as `OFPAT_SET_FIELD`.
    pub fn decode_list(bytes: &[u8]) -> Result<Vec<Action>, DecodeError> {
        decode_list(&mut Reader::new("actions", bytes), 0)
    }
}

pub(super) fn decode_list(reader: &mut Reader<'_>, depth: usize) -> Result<Vec<Action>, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
    }
    let mut actions = Vec::new();
    let mut scratch = BytesMut::new();
    while !reader.is_empty() {
        let bytes = take_one("action", reader)?;
        actions.push(decode_one(bytes, depth, &mut scratch)?);
    }
    Ok(actions)
}

/// The bytes of the next action or instruction, by its length field.
pub(super) fn take_one<'a>(what: &'static str, reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let mut header = Reader::new(what, reader.peek());
    header.u16()?;
    let length = usize::from(header.u16()?);
    if length < 8 || length % 8 != 0 {
        return Err(DecodeError::BadLength { what, length });
    }
    reader.take(length)
}

fn decode_one(bytes: &[u8], depth: usize, scratch: &mut BytesMut) -> Result<Action, DecodeError> {
    let unknown = || Action::Unknown(RawAction(bytes.into()));
    let action = match known(bytes, depth) {
        Ok(Some(action)) => action,
        Err(error @ DecodeError::TooDeep { .. }) => return Err(error),
        // Not what it should be, but whole: what the switch gives out it takes back.
        Ok(None) | Err(_) => return Ok(unknown()),
    };
    if matches!(action, Action::Resubmit { .. } | Action::SetField { .. }) {
        return Ok(action);
    }
    scratch.clear();
    let same = encode(&action, scratch).is_ok() && scratch[..] == *bytes;
    Ok(if same { action } else { unknown() })
}

fn known(bytes: &[u8], depth: usize) -> Result<Option<Action>, DecodeError> {
    let mut reader = Reader::new("action", bytes);
    let kind = reader.u16()?;
    reader.u16()?;
    Ok(Some(match kind {
        kind::OUTPUT => match (PortNo(reader.u32()?), reader.u16()?) {
            (port, _) if !port.can_exist() => return Ok(None),
            (PortNo::CONTROLLER, u16::MAX) => Action::Output(PortNo::CONTROLLER),
            (port, 0) if port != PortNo::CONTROLLER => Action::Output(port),
            (port, max_len) => Action::OutputMaxLen { port, max_len },
        },
        kind::SET_VLAN_VID => Action::SetVlanVid(reader.u16()?),
        kind::SET_VLAN_PCP => Action::SetVlanPcp(reader.u8()?),
        kind::DEC_MPLS_TTL => Action::DecMplsTtl,
        kind::PUSH_VLAN => Action::PushVlan(reader.u16()?),
        kind::POP_VLAN => Action::PopVlan,
        kind::PUSH_MPLS => Action::PushMpls(reader.u16()?),
        kind::POP_MPLS => Action::PopMpls(reader.u16()?),
        kind::SET_QUEUE => Action::SetQueue(reader.u32()?),
        kind::GROUP => Action::Group(reader.u32()?),
        kind::DEC_NW_TTL => Action::DecTtl,
        kind::SET_FIELD => return set_field(&mut reader),
        kind::EXPERIMENTER if reader.u32()? == NICIRA => return known_nicira(&mut reader, depth),
        _ => return Ok(None),
    }))
}

fn known_nicira(reader: &mut Reader<'_>, depth: usize) -> Result<Option<Action>, DecodeError> {
    Ok(Some(match reader.u16()? {
        nicira::CONJUNCTION => {
            let (index, n_clauses) = (reader.u8()?, reader.u8()?);
            let Some(clause) = index.checked_add(1) else { return Ok(None) };
            Action::Conjunction { id: reader.u32()?, clause, n_clauses }
        }
        nicira::RESUBMIT => Action::Resubmit { port: in_port(reader.u16()?), table: None, ct: false },
        nicira::RESUBMIT_TABLE => resubmit(reader, false)?,
        nicira::RESUBMIT_TABLE_CT => resubmit(reader, true)?,
        nicira::NOTE => Action::Note(reader.rest().to_vec()),
        nicira::REG_LOAD2 => return set_field(reader),
        nicira::CT => return ct(reader, depth),
        nicira::CT_CLEAR => Action::CtClear,
        nicira::POP_QUEUE => Action::PopQueue,
        nicira::EXIT => Action::Exit,
        nicira::CLONE => {
            reader.take(6)?;
            Action::Clone(decode_list(reader, depth + 1)?)
        }
        nicira::CONTROLLER => Action::Controller(Controller {
            max_len: reader.u16()?,
            id: reader.u16()?,
            reason: reader.u8()?,
            ..Controller::default()
        }),
        nicira::CONTROLLER2 => Action::Controller(controller(reader)?),
        nicira::OUTPUT_TRUNC => {
            Action::OutputTrunc { port: PortNo::from_u16(reader.u16()?), max_len: reader.u32()? }
        }
        other => return known_subfields(other, reader),
    }))
}

/// The actions whose arguments are parts of fields.
fn known_subfields(subtype: u16, reader: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    Ok(match subtype {
        nicira::REG_LOAD => match short_subfield(reader)? {
            Some(dst) => Some(Action::Load { dst, value: reader.u64()? }),
            None => None,
        },
        nicira::OUTPUT_REG => short_subfield(reader)?.map(Action::OutputReg),
        nicira::REG_MOVE => {
            let (bits, from, to) = (reader.u16()?, reader.u16()?, reader.u16()?);
            match (field(reader)?, field(reader)?) {
                (Some(src), Some(dst)) => Some(Action::Move {
                    src: Subfield::new(src, from, bits),
                    dst: Subfield::new(dst, to, bits),
                }),
                _ => None,
            }
        }
        nicira::STACK_PUSH => stack(reader)?.map(Action::Push),
        nicira::STACK_POP => stack(reader)?.map(Action::Pop),
        nicira::CHECK_PKT_LARGER => {
            let (pkt_len, offset) = (reader.u16()?, reader.u16()?);
            field(reader)?
                .map(|field| Action::CheckPktLarger { pkt_len, dst: Subfield::new(field, offset, 1) })
        }
        _ => None,
    })
}

/// A field's TLV header alone.
fn field(reader: &mut Reader<'_>) -> Result<Option<Field>, DecodeError> {
    let (header, _, _) = read_header(reader)?;
    Ok(Field::from_header(header))
}

/// `(offset << 6) | (bits - 1)` and a four-byte header.
fn short_subfield(reader: &mut Reader<'_>) -> Result<Option<Subfield>, DecodeError> {
    let packed = reader.u16()?;
    Ok(field(reader)?.map(|field| Subfield::new(field, packed >> 6, (packed & 63) + 1)))
}

fn stack(reader: &mut Reader<'_>) -> Result<Option<Subfield>, DecodeError> {
    let offset = reader.u16()?;
    let field = field(reader)?;
    let bits = reader.u16()?;
    Ok(field.map(|field| Subfield::new(field, offset, bits)))
}

fn set_field(reader: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    let (header, has_mask, payload) = read_header(reader)?;
    let oxm = RawOxm { header, has_mask, payload: reader.take(payload)? };
    let Some((field, value, mask)) = known_field(&oxm)? else { return Ok(None) };
    let mask = mask & field.full_mask();
    if value & mask > ones(field.bits()) || reader.rest().iter().any(|byte| *byte != 0) {
        return Ok(None);
    }
    Ok(Some(Action::SetField { field, value: value & mask, mask }))
}

fn in_port(port: u16) -> Option<PortNo> {
    Some(PortNo::from_u16(port)).filter(|port| *port != PortNo::IN_PORT)
}

fn resubmit(reader: &mut Reader<'_>, ct: bool) -> Result<Action, DecodeError> {
    let port = in_port(reader.u16()?);
    let table = Some(reader.u8()?).filter(|table| *table != NO_TABLE);
    Ok(Action::Resubmit { port, table, ct })
}

fn ct(reader: &mut Reader<'_>, depth: usize) -> Result<Option<Action>, DecodeError> {
    let flags = reader.u16()?;
    let mut source = reader.sub("ct zone", 4)?;
    let zone = reader.u16()?;
    let zone = if source.peek() == [0; 4] {
        CtZone::Imm(zone)
    } else {
        match field(&mut source)? {
            Some(field) => CtZone::Field(Subfield::new(field, zone >> 6, (zone & 63) + 1)),
            None => return Ok(None),
        }
    };
    let table = Some(reader.u8()?).filter(|table| *table != NO_TABLE);
    reader.take(3)?;
    let alg = reader.u16()?;
    let exec = decode_list(reader, depth + 1)?;
    let (commit, force) = (flags & CT_COMMIT != 0, flags & CT_FORCE != 0);
    Ok(Some(Action::Ct(Ct { commit, force, zone, table, alg, exec })))
}

fn controller(reader: &mut Reader<'_>) -> Result<Controller, DecodeError> {
    reader.take(6)?;
    let mut controller = Controller::default();
    while !reader.is_empty() {
        let (kind, value) = property(reader)?;
        match kind {
            controller2::MAX_LEN => controller.max_len = u16::from_be_bytes(property_number(value)?),
            controller2::CONTROLLER_ID => controller.id = u16::from_be_bytes(property_number(value)?),
            controller2::REASON => [controller.reason] = property_number(value)?,
            controller2::USERDATA => controller.userdata = value.to_vec(),
            controller2::PAUSE => controller.pause = true,
            controller2::METER_ID => controller.meter = Some(u32::from_be_bytes(property_number(value)?)),
            _ => return Err(DecodeError::BadValue { what: "controller property", value: u64::from(kind) }),
        }
    }
    Ok(controller)
}
