//! `OFPT_FLOW_MOD` (OpenFlow 1.4 §7.3.4.1).

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::action::Action;
use crate::error::{DecodeError, EncodeError};
use crate::flow::{Flow, FlowFlags, FlowKey, FlowOptions};
use crate::flow_match::Match;
use crate::port::PortNo;
use crate::wire::Reader;

/// "No buffered packet", and "any group".
const NONE: u32 = u32::MAX;

/// What a flow-mod does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowModCommand {
    /// Add the flow, in place of one with the same table, priority and match.
    Add,
    /// Change the actions of every flow that the match covers.
    Modify,
    /// Change the actions of the flow with exactly this priority and match.
    ModifyStrict,
    /// Delete every flow that the match covers.
    Delete,
    /// Delete the flow with exactly this priority and match.
    DeleteStrict,
}

impl FlowModCommand {
    const ALL: [FlowModCommand; 5] =
        [Self::Add, Self::Modify, Self::ModifyStrict, Self::Delete, Self::DeleteStrict];

    fn code(self) -> u8 {
        match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::ModifyStrict => 2,
            Self::Delete => 3,
            Self::DeleteStrict => 4,
        }
    }

    fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteStrict)
    }

    /// The word before the flow in ovs-ofctl's bundle files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "modify",
            Self::ModifyStrict => "modify_strict",
            Self::Delete => "delete",
            Self::DeleteStrict => "delete_strict",
        }
    }
}

/// A change of flows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// The flow. Only additions have a cookie and options; deletions ignore the actions, which are neither
    /// written nor kept when read, and those that are not strict the priority.
    pub flow: Flow,
    /// For a deletion, all tables instead of the flow's.
    pub all_tables: bool,
    /// For modifications and deletions: only flows whose cookie is (value, mask) where the mask is one.
    pub cookie_filter: (u64, u64),
    /// For deletions: only flows that output to this port.
    pub out_port: PortNo,
}

impl FlowMod {
    /// The table number that stands for all tables.
    const ALL_TABLES: u8 = 0xff;

    fn new(command: FlowModCommand, flow: Flow) -> Self {
        FlowMod { command, flow, all_tables: false, cookie_filter: (0, 0), out_port: PortNo::ANY }
    }

    /// Adds a flow, in place of one with the same key.
    #[must_use]
    pub fn add(flow: &Flow) -> Self {
        Self::new(FlowModCommand::Add, flow.clone())
    }

    /// Gives the flow with this key these actions; its cookie, options and counters stay. Nothing happens if
    /// there is no such flow.
    #[must_use]
    pub fn modify_strict(flow: &Flow) -> Self {
        Self::new(FlowModCommand::ModifyStrict, flow.clone())
    }

    /// Deletes the flow with this key.
    #[must_use]
    pub fn delete_strict(key: &FlowKey) -> Self {
        let flow = Flow::new(key.table, key.priority, key.matches.clone(), Vec::new());
        Self::new(FlowModCommand::DeleteStrict, flow)
    }

    /// Deletes every flow that the match covers, in one table or (`None`) in all.
    #[must_use]
    pub fn delete(table: Option<u8>, matches: Match) -> Self {
        let flow = Flow::new(table.unwrap_or(0), 0, matches, Vec::new());
        FlowMod { all_tables: table.is_none(), ..Self::new(FlowModCommand::Delete, flow) }
    }

    /// Only flows whose cookie is `value` where `mask` is one.
    #[must_use]
    pub fn with_cookie_filter(self, value: u64, mask: u64) -> Self {
        FlowMod { cookie_filter: (value, mask), ..self }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let Flow { table, priority, cookie, matches, actions, options } = &self.flow;
        // One field holds the cookie to set, in additions, or the one to look for.
        let (cookie, mask) =
            if self.command == FlowModCommand::Add { (*cookie, 0) } else { self.cookie_filter };
        out.put_u64(cookie);
        out.put_u64(mask);
        out.put_u8(if self.all_tables { Self::ALL_TABLES } else { *table });
        out.put_u8(self.command.code());
        out.put_u16(options.idle_timeout);
        out.put_u16(options.hard_timeout);
        out.put_u16(*priority);
        out.put_u32(NONE);
        out.put_u32(self.out_port.0);
        out.put_u32(NONE);
        out.put_u16(options.flags.0);
        out.put_u16(options.importance);
        matches.encode(out)?;
        if self.command.deletes() { Ok(()) } else { Action::encode_instructions(actions, out) }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let cookie = reader.u64()?;
        let mask = reader.u64()?;
        let table = reader.u8()?;
        let code = reader.u8()?;
        let command = FlowModCommand::ALL
            .into_iter()
            .find(|command| command.code() == code)
            .ok_or(DecodeError::BadValue { what: "flow-mod command", value: u64::from(code) })?;
        let (idle_timeout, hard_timeout, priority) = (reader.u16()?, reader.u16()?, reader.u16()?);
        reader.u32()?;
        let out_port = PortNo(reader.u32()?);
        reader.u32()?;
        let (flags, importance) = (FlowFlags(reader.u16()?), reader.u16()?);
        let options = FlowOptions { idle_timeout, hard_timeout, importance, flags };
        let matches = Match::decode(reader)?;
        let actions = Action::decode_instructions(reader.rest())?;
        let all_tables = table == Self::ALL_TABLES;
        let filtered = command != FlowModCommand::Add;
        let flow = Flow {
            table: if all_tables { 0 } else { table },
            priority,
            cookie: if filtered { 0 } else { cookie },
            matches,
            actions: if command.deletes() { Vec::new() } else { actions },
            options,
        };
        let cookie_filter = if filtered { (cookie, mask) } else { (0, 0) };
        Ok(FlowMod { command, flow, all_tables, cookie_filter, out_port })
    }
}

/// As in ovs-ofctl's bundle files: the command, then the flow, or its key for deletions.
impl fmt::Display for FlowMod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ", self.command.name())?;
        if self.cookie_filter.1 != 0 {
            write!(out, "cookie={:#x}/{:#x}, ", self.cookie_filter.0, self.cookie_filter.1)?;
        }
        match self.command {
            FlowModCommand::DeleteStrict => write!(out, "{}", self.flow.key()),
            FlowModCommand::Delete if self.all_tables => write!(out, "{}", self.flow.matches),
            FlowModCommand::Delete => write!(out, "table={}, {}", self.flow.table, self.flow.matches),
            _ => write!(out, "{}", self.flow),
        }
    }
}
