//! `OFPMP_FLOW` (OpenFlow 1.4 §7.3.5.2).

use bytes::{BufMut, BytesMut};

use crate::action::Action;
use crate::error::{DecodeError, EncodeError};
use crate::flow::{Flow, FlowFlags, FlowOptions, FlowStats};
use crate::flow_match::Match;
use crate::port::PortNo;
use crate::wire::{Reader, set_length};

/// Which flows to tell; the default is all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowFilter {
    /// Only this table.
    pub table: Option<u8>,
    /// Only flows that this match covers.
    pub matches: Match,
    /// Only flows whose cookie is (value, mask) where the mask is one.
    pub cookie: (u64, u64),
    /// Only flows that output to this port.
    pub out_port: PortNo,
}

impl Default for FlowFilter {
    fn default() -> Self {
        FlowFilter { table: None, matches: Match::new(), cookie: (0, 0), out_port: PortNo::ANY }
    }
}

impl FlowFilter {
    /// The flows of one table.
    #[must_use]
    pub fn table(table: u8) -> Self {
        FlowFilter { table: Some(table), ..Self::default() }
    }

    /// The flows whose cookie is `value` where `mask` is one.
    #[must_use]
    pub fn cookie(value: u64, mask: u64) -> Self {
        FlowFilter { cookie: (value, mask), ..Self::default() }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(self.table.unwrap_or(0xff));
        out.put_bytes(0, 3);
        out.put_u32(self.out_port.0);
        out.put_u32(u32::MAX);
        out.put_u32(0);
        out.put_u64(self.cookie.0);
        out.put_u64(self.cookie.1);
        self.matches.encode(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table = Some(reader.u8()?).filter(|table| *table != 0xff);
        reader.take(3)?;
        let out_port = PortNo(reader.u32()?);
        reader.take(8)?;
        let cookie = (reader.u64()?, reader.u64()?);
        Ok(FlowFilter { table, matches: Match::decode(reader)?, cookie, out_port })
    }
}

/// A flow as a switch tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowEntry {
    /// The flow.
    pub flow: Flow,
    /// Its counters and age.
    pub stats: FlowStats,
}

impl FlowEntry {
    /// Writes an `ofp_flow_stats`.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let FlowEntry { flow, stats } = self;
        let start = out.len();
        out.put_u16(0);
        out.put_u8(flow.table);
        out.put_u8(0);
        out.put_u32(stats.duration_s);
        out.put_u32(stats.duration_ns);
        out.put_u16(flow.priority);
        out.put_u16(flow.options.idle_timeout);
        out.put_u16(flow.options.hard_timeout);
        out.put_u16(flow.options.flags.0);
        out.put_u16(flow.options.importance);
        out.put_u16(0);
        out.put_u64(flow.cookie);
        out.put_u64(stats.packets);
        out.put_u64(stats.bytes);
        flow.matches.encode(out)?;
        Action::encode_instructions(&flow.actions, out)?;
        set_length(out, start, start, || format!("flow '{flow}'"))
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(reader.u16()?);
        let bad_length = DecodeError::BadLength { what: "flow entry", length };
        let mut entry = reader.sub("flow entry", length.checked_sub(2).ok_or(bad_length)?)?;
        let entry = &mut entry;
        let table = entry.u8()?;
        entry.u8()?;
        let (duration_s, duration_ns) = (entry.u32()?, entry.u32()?);
        let (priority, idle_timeout, hard_timeout) = (entry.u16()?, entry.u16()?, entry.u16()?);
        let (flags, importance) = (FlowFlags(entry.u16()?), entry.u16()?);
        entry.u16()?;
        let (cookie, packets, bytes) = (entry.u64()?, entry.u64()?, entry.u64()?);
        let matches = Match::decode(entry)?;
        let actions = Action::decode_instructions(entry.rest())?;
        let options = FlowOptions { idle_timeout, hard_timeout, importance, flags };
        Ok(FlowEntry {
            flow: Flow { table, priority, cookie, matches, actions, options },
            stats: FlowStats { duration_s, duration_ns, packets, bytes },
        })
    }
}
