//! Instructions (OpenFlow 1.4 §7.2.3): everything outside "apply actions".

use bytes::{BufMut, BytesMut};

use crate::action::{Action, RawAction};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, set_length};

use super::action_decode::{decode_list, take_one};

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;

impl Action {
    /// Writes a flow's actions as instructions; runs of actions become "apply actions".
    pub fn encode_instructions(actions: &[Action], out: &mut BytesMut) -> Result<(), EncodeError> {
        for run in actions.chunk_by(|a, b| !a.is_instruction() && !b.is_instruction()) {
            match run {
                [instruction] if instruction.is_instruction() => encode(instruction, out)?,
                _ => list(out, APPLY_ACTIONS, run)?,
            }
        }
        Ok(())
    }

    /// Reads a flow's instructions that fill `bytes`.
    pub fn decode_instructions(bytes: &[u8]) -> Result<Vec<Action>, DecodeError> {
        let mut actions = Vec::new();
        let mut reader = Reader::new("instructions", bytes);
        while !reader.is_empty() {
            decode(take_one("instruction", &mut reader)?, &mut actions)?;
        }
        Ok(actions)
    }
}

fn encode(instruction: &Action, out: &mut BytesMut) -> Result<(), EncodeError> {
    match instruction {
        Action::Goto(table) => {
            header(out, GOTO_TABLE, 8);
            out.put_u8(*table);
            out.put_bytes(0, 3);
        }
        Action::WriteMetadata { value, mask } => {
            header(out, WRITE_METADATA, 24);
            out.put_u32(0);
            out.put_u64(*value);
            out.put_u64(*mask);
        }
        Action::WriteActions(actions) => list(out, WRITE_ACTIONS, actions)?,
        Action::ClearActions => {
            header(out, CLEAR_ACTIONS, 8);
            out.put_u32(0);
        }
        Action::Meter(meter) => {
            header(out, METER, 8);
            out.put_u32(*meter);
        }
        Action::UnknownInstruction(raw) => out.put_slice(raw.as_bytes()),
        _ => unreachable!("the caller sorts actions from instructions"),
    }
    Ok(())
}

fn header(out: &mut BytesMut, kind: u16, length: u16) {
    out.put_u16(kind);
    out.put_u16(length);
}

fn list(out: &mut BytesMut, kind: u16, actions: &[Action]) -> Result<(), EncodeError> {
    let start = out.len();
    header(out, kind, 0);
    out.put_u32(0);
    Action::encode_list(actions, out)?;
    set_length(out, start, start + 2, || format!("list of {} actions", actions.len()))
}

fn decode(bytes: &[u8], actions: &mut Vec<Action>) -> Result<(), DecodeError> {
    let mut reader = Reader::new("instruction", bytes);
    let kind = reader.u16()?;
    reader.u16()?;
    let known = match (kind, bytes.len()) {
        (APPLY_ACTIONS, _) => {
            reader.take(4)?;
            actions.extend(decode_list(&mut reader, 0)?);
            return Ok(());
        }
        (WRITE_ACTIONS, _) => {
            reader.take(4)?;
            Action::WriteActions(decode_list(&mut reader, 0)?)
        }
        (GOTO_TABLE, 8) => Action::Goto(reader.u8()?),
        (WRITE_METADATA, 24) => {
            reader.take(4)?;
            Action::WriteMetadata { value: reader.u64()?, mask: reader.u64()? }
        }
        (CLEAR_ACTIONS, 8) => Action::ClearActions,
        (METER, 8) => Action::Meter(reader.u32()?),
        _ => Action::UnknownInstruction(RawAction(bytes.into())),
    };
    actions.push(known);
    Ok(())
}
