//! Flow monitors (OpenFlow 1.4 §7.3.5.17): the switch tells what changes in its tables.

use bytes::{BufMut, BytesMut};

use crate::action::Action;
use crate::error::{DecodeError, EncodeError};
use crate::flow::{Flow, FlowOptions};
use crate::flow_match::Match;
use crate::port::PortNo;
use crate::wire::{Reader, set_length};

use super::{Message, Xid};

const ADD: u8 = 0;
const DELETE: u8 = 2;

/// `OFPFMF_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MonitorFlags(pub u16);

impl MonitorFlags {
    /// Tell the flows that are there now.
    pub const INITIAL: MonitorFlags = MonitorFlags(1);
    /// Tell flows that are added.
    pub const ADD: MonitorFlags = MonitorFlags(2);
    /// Tell flows that are removed.
    pub const REMOVED: MonitorFlags = MonitorFlags(4);
    /// Tell flows whose actions change.
    pub const MODIFY: MonitorFlags = MonitorFlags(8);
    /// With their actions.
    pub const INSTRUCTIONS: MonitorFlags = MonitorFlags(16);
    /// Changes that came by this connection in full too. The specification calls bit 6 `OFPFMF_ONLY_OWN`;
    /// Open vSwitch 3.1 takes it to mean "do not abbreviate my own changes", and refuses bit 5,
    /// `OFPFMF_NO_ABBREV`.
    pub const OWN_IN_FULL: MonitorFlags = MonitorFlags(64);

    /// The flags of both.
    #[must_use]
    pub const fn with(self, other: MonitorFlags) -> MonitorFlags {
        MonitorFlags(self.0 | other.0)
    }
}

impl Default for MonitorFlags {
    /// Additions, removals and modifications, with their actions.
    fn default() -> Self {
        Self::ADD.with(Self::REMOVED).with(Self::MODIFY).with(Self::INSTRUCTIONS)
    }
}

/// What to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowMonitor {
    /// A number of the controller's choice.
    pub id: u32,
    /// Which changes, and how.
    pub flags: MonitorFlags,
    /// Only this table.
    pub table: Option<u8>,
    /// Only flows that this match covers.
    pub matches: Match,
    /// Only flows that output to this port.
    pub out_port: PortNo,
}

impl FlowMonitor {
    /// A monitor of all flows.
    #[must_use]
    pub fn all(id: u32, flags: MonitorFlags) -> Self {
        FlowMonitor { id, flags, table: None, matches: Match::new(), out_port: PortNo::ANY }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(self.id);
        out.put_u32(self.out_port.0);
        out.put_u32(u32::MAX);
        out.put_u16(self.flags.0);
        out.put_u8(self.table.unwrap_or(0xff));
        out.put_u8(ADD);
        self.matches.encode(out)
    }
}

pub(super) fn encode_cancel(id: u32, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u32(id);
    out.put_u32(PortNo::ANY.0);
    out.put_u32(u32::MAX);
    out.put_u16(0);
    out.put_u8(0xff);
    out.put_u8(DELETE);
    Match::new().encode(out)
}

pub(super) fn decode_request(reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let id = reader.u32()?;
    let out_port = PortNo(reader.u32()?);
    reader.u32()?;
    let flags = MonitorFlags(reader.u16()?);
    let table = Some(reader.u8()?).filter(|table| *table != 0xff);
    let command = reader.u8()?;
    let matches = Match::decode(reader)?;
    match command {
        ADD => Ok(Message::FlowMonitorRequest(FlowMonitor { id, flags, table, matches, out_port })),
        DELETE => Ok(Message::FlowMonitorCancel(id)),
        _ => Err(DecodeError::BadValue { what: "flow monitor command", value: u64::from(command) }),
    }
}

/// One thing that a monitor tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlowUpdate {
    /// Something happened to a flow.
    Flow {
        /// What.
        event: FlowUpdateEvent,
        /// The flow; its actions are there only if the monitor asked for them, and its flags and importance
        /// never.
        flow: Flow,
    },
    /// This connection's request with this xid was carried out.
    Abbreviated(Xid),
    /// The switch stops telling, as this side reads too slowly. What changes now is told after `Resumed`.
    Paused,
    /// The switch has told what changed, and goes on.
    Resumed,
}

/// What happened to a flow (`OFPFME_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowUpdateEvent {
    /// It was there when the monitor began.
    Initial,
    /// It was added.
    Added,
    /// It was removed, for this reason (`OFPRR_*`).
    Removed(u8),
    /// Its actions were changed.
    Modified,
}

impl FlowUpdateEvent {
    fn code(self) -> u16 {
        match self {
            Self::Initial => 0,
            Self::Added => 1,
            Self::Removed(_) => 2,
            Self::Modified => 3,
        }
    }
}

const ABBREVIATED: u16 = 4;
const PAUSED: u16 = 5;
const RESUMED: u16 = 6;

impl FlowUpdate {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(0);
        match self {
            FlowUpdate::Flow { event, flow } => {
                out.put_u16(event.code());
                out.put_u8(flow.table);
                out.put_u8(if let FlowUpdateEvent::Removed(reason) = event { *reason } else { 0 });
                out.put_u16(flow.options.idle_timeout);
                out.put_u16(flow.options.hard_timeout);
                out.put_u16(flow.priority);
                out.put_u32(0);
                out.put_u64(flow.cookie);
                flow.matches.encode(out)?;
                Action::encode_instructions(&flow.actions, out)?;
            }
            FlowUpdate::Abbreviated(xid) => {
                out.put_u16(ABBREVIATED);
                out.put_u32(xid.0);
            }
            FlowUpdate::Paused => {
                out.put_u16(PAUSED);
                out.put_u32(0);
            }
            FlowUpdate::Resumed => {
                out.put_u16(RESUMED);
                out.put_u32(0);
            }
        }
        set_length(out, start, start, || "flow update".to_owned())
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(reader.u16()?);
        let bad_length = DecodeError::BadLength { what: "flow update", length };
        let mut update = reader.sub("flow update", length.checked_sub(2).ok_or(bad_length)?)?;
        let update = &mut update;
        let code = update.u16()?;
        match code {
            ABBREVIATED => return Ok(FlowUpdate::Abbreviated(Xid(update.u32()?))),
            PAUSED => return Ok(FlowUpdate::Paused),
            RESUMED => return Ok(FlowUpdate::Resumed),
            _ => {}
        }
        let (table, reason) = (update.u8()?, update.u8()?);
        let event = match code {
            0 => FlowUpdateEvent::Initial,
            1 => FlowUpdateEvent::Added,
            2 => FlowUpdateEvent::Removed(reason),
            3 => FlowUpdateEvent::Modified,
            _ => return Err(DecodeError::BadValue { what: "flow update event", value: u64::from(code) }),
        };
        let (idle_timeout, hard_timeout, priority) = (update.u16()?, update.u16()?, update.u16()?);
        update.u32()?;
        let cookie = update.u64()?;
        let matches = Match::decode(update)?;
        let actions = Action::decode_instructions(update.rest())?;
        let options = FlowOptions { idle_timeout, hard_timeout, ..FlowOptions::default() };
        Ok(FlowUpdate::Flow { event, flow: Flow { table, priority, cookie, matches, actions, options } })
    }
}
