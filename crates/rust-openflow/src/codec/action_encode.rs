//! Writing of actions.

use bytes::{BufMut, BytesMut};

use crate::action::{Action, Controller, Ct, CtZone, Subfield, note_length};
use crate::error::{EncodeError, FieldError};
use crate::field::{Field, OxmHeader, ones};
use crate::flow_match::put_header;
use crate::port::PortNo;
use crate::wire::{put_pad8, put_property, put_u16_property, put_uint, set_length};

use super::{CT_COMMIT, CT_FORCE, NICIRA, NO_TABLE, controller2, kind, nicira};

impl Action {
    /// Writes a list of actions, each with its header and padding.
    pub fn encode_list(actions: &[Action], out: &mut BytesMut) -> Result<(), EncodeError> {
        actions.iter().try_for_each(|action| encode(action, out))
    }
}

pub(super) fn encode(action: &Action, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    match action {
        Action::Output(PortNo::CONTROLLER) => output(out, PortNo::CONTROLLER, u16::MAX),
        Action::Output(port) => output(out, *port, 0),
        Action::OutputMaxLen { port, max_len } => output(out, *port, *max_len),
        Action::Group(group) => plain(out, kind::GROUP, |out| out.put_u32(*group)),
        Action::SetQueue(queue) => plain(out, kind::SET_QUEUE, |out| out.put_u32(*queue)),
        Action::PushVlan(ethertype) => plain(out, kind::PUSH_VLAN, |out| out.put_u16(*ethertype)),
        Action::PopVlan => plain(out, kind::POP_VLAN, |_| ()),
        Action::SetVlanVid(vid) => plain(out, kind::SET_VLAN_VID, |out| out.put_u16(*vid)),
        Action::SetVlanPcp(pcp) => plain(out, kind::SET_VLAN_PCP, |out| out.put_u8(*pcp)),
        Action::PushMpls(ethertype) => plain(out, kind::PUSH_MPLS, |out| out.put_u16(*ethertype)),
        Action::PopMpls(ethertype) => plain(out, kind::POP_MPLS, |out| out.put_u16(*ethertype)),
        Action::DecTtl => plain(out, kind::DEC_NW_TTL, |_| ()),
        Action::DecMplsTtl => plain(out, kind::DEC_MPLS_TTL, |_| ()),
        Action::SetField { field, value, mask } => set_field(out, *field, *value, *mask)?,
        Action::Unknown(raw) => out.put_slice(raw.as_bytes()),
        Action::Note(bytes) => {
            experimenter(out, nicira::NOTE);
            out.put_slice(bytes);
            out.put_bytes(0, note_length(bytes.len()) - bytes.len());
        }
        Action::Conjunction { id, clause, n_clauses } => {
            let Some(index) = clause.checked_sub(1) else {
                return Err(EncodeError::OutOfRange { what: "conjunction clause, from 1", value: 0 });
            };
            experimenter(out, nicira::CONJUNCTION);
            out.put_u8(index);
            out.put_u8(*n_clauses);
            out.put_u32(*id);
        }
        Action::Controller(controller) => encode_controller(out, controller)?,
        Action::Resubmit { port, table, ct } => resubmit(out, *port, *table, *ct)?,
        Action::Ct(ct) => encode_ct(out, ct)?,
        Action::Clone(nested) => {
            experimenter(out, nicira::CLONE);
            out.put_bytes(0, 6);
            Action::encode_list(nested, out)?;
        }
        Action::CtClear => experimenter(out, nicira::CT_CLEAR),
        Action::PopQueue => experimenter(out, nicira::POP_QUEUE),
        Action::Exit => experimenter(out, nicira::EXIT),
        other => encode_subfields(out, other)?,
    }
    if !matches!(action, Action::Unknown(_)) {
        put_pad8(out, start);
        set_length(out, start, start + 2, || format!("action {}", abridged(action)))?;
    }
    Ok(())
}

/// The actions whose arguments are parts of fields.
fn encode_subfields(out: &mut BytesMut, action: &Action) -> Result<(), EncodeError> {
    match action {
        Action::OutputReg(src) => {
            experimenter(out, nicira::OUTPUT_REG);
            out.put_u16(offset_and_bits(*src)?);
            put_short_header(out, src.field)?;
            out.put_u16(u16::MAX);
            out.put_bytes(0, 6);
        }
        Action::OutputTrunc { port, max_len } => {
            experimenter(out, nicira::OUTPUT_TRUNC);
            out.put_u16(short_port(*port)?);
            out.put_u32(*max_len);
        }
        Action::Load { dst, value } => {
            experimenter(out, nicira::REG_LOAD);
            out.put_u16(offset_and_bits(*dst)?);
            put_short_header(out, dst.field)?;
            if u128::from(*value) > ones(dst.bits) {
                return Err(EncodeError::OutOfRange { what: "load", value: u128::from(*value) });
            }
            out.put_u64(*value);
        }
        Action::Move { src, dst } => {
            experimenter(out, nicira::REG_MOVE);
            if src.bits != dst.bits {
                return Err(EncodeError::OutOfRange { what: "move's bits", value: u128::from(dst.bits) });
            }
            check_subfield(*src)?;
            check_subfield(*dst)?;
            out.put_u16(src.bits);
            out.put_u16(src.offset);
            out.put_u16(dst.offset);
            put_field_header(out, src.field);
            put_field_header(out, dst.field);
        }
        Action::Push(subfield) => stack(out, nicira::STACK_PUSH, *subfield)?,
        Action::Pop(subfield) => stack(out, nicira::STACK_POP, *subfield)?,
        Action::CheckPktLarger { pkt_len, dst } => {
            experimenter(out, nicira::CHECK_PKT_LARGER);
            check_subfield(*dst)?;
            out.put_u16(*pkt_len);
            out.put_u16(dst.offset);
            put_field_header(out, dst.field);
            out.put_bytes(0, 14 - dst.field.nxm_header().length() - 4);
        }
        _ => return Err(EncodeError::OutOfRange { what: "instruction among actions", value: 0 }),
    }
    Ok(())
}

/// An action's text, cut where it would fill a screen.
fn abridged(action: &Action) -> String {
    let mut text = action.to_string();
    if let Some((end, _)) = text.char_indices().nth(120) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn plain(out: &mut BytesMut, kind: u16, body: impl FnOnce(&mut BytesMut)) {
    out.put_u16(kind);
    out.put_u16(0);
    body(out);
}

/// The header of a Nicira action; its length is filled in at the end.
fn experimenter(out: &mut BytesMut, subtype: u16) {
    out.put_u16(kind::EXPERIMENTER);
    out.put_u16(0);
    out.put_u32(NICIRA);
    out.put_u16(subtype);
}

fn output(out: &mut BytesMut, port: PortNo, max_len: u16) {
    plain(out, kind::OUTPUT, |out| {
        out.put_u32(port.0);
        out.put_u16(max_len);
    });
    // With the padding to eight bytes that makes the 16 of an ofp_action_output.
    out.put_bytes(0, 6);
}

fn short_port(port: PortNo) -> Result<u16, EncodeError> {
    port.to_u16().ok_or(EncodeError::OutOfRange { what: "port (16 bits)", value: u128::from(port.0) })
}

fn resubmit(
    out: &mut BytesMut,
    port: Option<PortNo>,
    table: Option<u8>,
    ct: bool,
) -> Result<(), EncodeError> {
    experimenter(out, if ct { nicira::RESUBMIT_TABLE_CT } else { nicira::RESUBMIT_TABLE });
    out.put_u16(short_port(port.unwrap_or(PortNo::IN_PORT))?);
    out.put_u8(table.unwrap_or(NO_TABLE));
    Ok(())
}

/// A whole field by the standard action, part of one by Nicira's, as OpenFlow 1.4's has no mask.
fn set_field(out: &mut BytesMut, field: Field, value: u128, mask: u128) -> Result<(), EncodeError> {
    if !field.exists() {
        return Err(FieldError::NoSuchField(field).into());
    }
    if value > ones(field.bits()) {
        return Err(FieldError::TooWide { field, value, bits: field.bits() }.into());
    }
    let bytes = field.bytes();
    if mask == field.full_mask() {
        plain(out, kind::SET_FIELD, |_| ());
        put_header(out, field.oxm_header(), false, bytes);
        put_uint(out, value, bytes);
    } else {
        experimenter(out, nicira::REG_LOAD2);
        put_header(out, field.nxm_header(), true, 2 * bytes);
        put_uint(out, value & mask, bytes);
        put_uint(out, mask & field.full_mask(), bytes);
    }
    Ok(())
}

fn check_subfield(subfield: Subfield) -> Result<(), EncodeError> {
    let Subfield { field, offset, bits } = subfield;
    if !field.exists() {
        return Err(FieldError::NoSuchField(field).into());
    }
    let end = u32::from(offset) + u32::from(bits);
    if bits == 0 || end > u32::from(field.subfield_bits()) {
        return Err(EncodeError::OutOfRange { what: "end of the subfield", value: u128::from(end) });
    }
    Ok(())
}

/// `(offset << 6) | (bits - 1)`, for at most 64 bits.
fn offset_and_bits(subfield: Subfield) -> Result<u16, EncodeError> {
    check_subfield(subfield)?;
    if subfield.bits > 64 {
        return Err(EncodeError::OutOfRange { what: "bits (64)", value: u128::from(subfield.bits) });
    }
    Ok(subfield.offset << 6 | (subfield.bits - 1))
}

fn put_field_header(out: &mut BytesMut, field: Field) {
    put_header(out, field.nxm_header(), false, field.bytes());
}

/// A field's header where there is room for four bytes only.
fn put_short_header(out: &mut BytesMut, field: Field) -> Result<(), EncodeError> {
    if field.nxm_header().class == OxmHeader::EXPERIMENTER {
        return Err(EncodeError::OutOfRange { what: "field with an experimenter id", value: 0 });
    }
    put_field_header(out, field);
    Ok(())
}

fn stack(out: &mut BytesMut, subtype: u16, subfield: Subfield) -> Result<(), EncodeError> {
    check_subfield(subfield)?;
    experimenter(out, subtype);
    out.put_u16(subfield.offset);
    put_field_header(out, subfield.field);
    out.put_u16(subfield.bits);
    out.put_bytes(0, 10 - subfield.field.nxm_header().length());
    Ok(())
}

fn encode_ct(out: &mut BytesMut, ct: &Ct) -> Result<(), EncodeError> {
    experimenter(out, nicira::CT);
    out.put_u16(if ct.commit { CT_COMMIT } else { 0 } | if ct.force { CT_FORCE } else { 0 });
    match ct.zone {
        CtZone::Imm(zone) => {
            out.put_u32(0);
            out.put_u16(zone);
        }
        CtZone::Field(subfield) => {
            put_short_header(out, subfield.field)?;
            out.put_u16(offset_and_bits(subfield)?);
        }
    }
    out.put_u8(ct.table.unwrap_or(NO_TABLE));
    out.put_bytes(0, 3);
    out.put_u16(ct.alg);
    Action::encode_list(&ct.exec, out)
}

/// By the older action where that can say it, as Open vSwitch does.
fn encode_controller(out: &mut BytesMut, controller: &Controller) -> Result<(), EncodeError> {
    let Controller { max_len, id, reason, userdata, meter, pause } = controller;
    if userdata.is_empty() && !pause && meter.is_none() {
        experimenter(out, nicira::CONTROLLER);
        out.put_u16(*max_len);
        out.put_u16(*id);
        out.put_u8(*reason);
        return Ok(());
    }
    experimenter(out, nicira::CONTROLLER2);
    out.put_bytes(0, 6);
    if *max_len != u16::MAX {
        put_u16_property(out, controller2::MAX_LEN, *max_len);
    }
    if *id != 0 {
        put_u16_property(out, controller2::CONTROLLER_ID, *id);
    }
    if *reason != Controller::REASON_ACTION {
        put_property(out, controller2::REASON, &[*reason])?;
    }
    if !userdata.is_empty() {
        put_property(out, controller2::USERDATA, userdata)?;
    }
    if *pause {
        put_property(out, controller2::PAUSE, &[])?;
    }
    if let Some(meter) = meter {
        put_property(out, controller2::METER_ID, &meter.to_be_bytes())?;
    }
    Ok(())
}
