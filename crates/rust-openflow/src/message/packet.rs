//! Packets between switch and controller: `OFPT_PACKET_IN` (OpenFlow 1.4 §7.4.1), `NXT_PACKET_IN2` of Open
//! vSwitch, `OFPT_PACKET_OUT` (§7.3.7).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::action::Action;
use crate::error::{DecodeError, EncodeError};
use crate::field::Field;
use crate::flow_match::Match;
use crate::port::PortNo;
use crate::wire::{Reader, property, property_number, put_property, set_length};

/// `NXPIF_NXT_PACKET_IN2` of `NXT_SET_PACKET_IN_FORMAT`.
pub(super) const FORMAT_PACKET_IN2: u32 = 2;

/// "Not buffered".
const NO_BUFFER: u32 = u32::MAX;
/// "No cookie".
const NO_COOKIE: u64 = u64::MAX;

const PACKET: u16 = 0;
const FULL_LEN: u16 = 1;
const TABLE_ID: u16 = 3;
const COOKIE: u16 = 4;
const REASON: u16 = 5;
const METADATA: u16 = 6;
const USERDATA: u16 = 7;
const CONTINUATION: u16 = 8;

/// Why a packet comes to the controller (`OFPR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PacketReason(pub u8);

impl PacketReason {
    /// No flow matched.
    pub const NO_MATCH: PacketReason = PacketReason(0);
    /// A flow's action.
    pub const ACTION: PacketReason = PacketReason(1);
    /// Its TTL is spent.
    pub const INVALID_TTL: PacketReason = PacketReason(2);
}

impl fmt::Display for PacketReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::text::packet_reason(self.0) {
            Some(name) => out.write_str(name),
            None => write!(out, "{}", self.0),
        }
    }
}

/// A packet for the controller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketIn {
    /// The frame, or its beginning.
    pub data: Bytes,
    /// Bytes of the whole frame.
    pub total_len: u32,
    /// Why.
    pub reason: PacketReason,
    /// The table of the flow that sent it.
    pub table: u8,
    /// The cookie of the flow that sent it, if the switch tells.
    pub cookie: Option<u64>,
    /// Metadata fields of the packet: ingress port, registers, connection tracking.
    pub metadata: Match,
    /// The action's userdata.
    pub userdata: Bytes,
    /// What resumes a paused packet.
    pub continuation: Bytes,
}

impl PacketIn {
    /// The port it came in by.
    #[must_use]
    pub fn in_port(&self) -> Option<PortNo> {
        let (port, _) = self.metadata.get(Field::InPort)?;
        u32::try_from(port).ok().map(PortNo)
    }

    pub(super) fn decode_standard(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u32()?;
        let total_len = u32::from(reader.u16()?);
        let (reason, table) = (PacketReason(reader.u8()?), reader.u8()?);
        let cookie = Some(reader.u64()?).filter(|cookie| *cookie != NO_COOKIE);
        let metadata = Match::decode(reader)?;
        reader.take(2)?;
        let data = Bytes::copy_from_slice(reader.rest());
        Ok(PacketIn { data, total_len, reason, table, cookie, metadata, ..PacketIn::default() })
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut packet = PacketIn::default();
        let mut full_len = None;
        while !reader.is_empty() {
            let (kind, value) = property(reader)?;
            match kind {
                PACKET => packet.data = Bytes::copy_from_slice(value),
                FULL_LEN => full_len = Some(u32::from_be_bytes(property_number(value)?)),
                TABLE_ID => [packet.table] = property_number(value)?,
                COOKIE => packet.cookie = Some(cookie(value)?),
                REASON => {
                    let [reason] = property_number(value)?;
                    packet.reason = PacketReason(reason);
                }
                METADATA => packet.metadata = Match::decode_fields(value)?,
                USERDATA => packet.userdata = Bytes::copy_from_slice(value),
                CONTINUATION => packet.continuation = Bytes::copy_from_slice(value),
                // Open vSwitch has had no packet buffers since 2.7, and may add properties.
                _ => {}
            }
        }
        let here = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
        packet.total_len = full_len.unwrap_or(here);
        Ok(packet)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_property(out, PACKET, &self.data)?;
        if usize::try_from(self.total_len) != Ok(self.data.len()) {
            put_property(out, FULL_LEN, &self.total_len.to_be_bytes())?;
        }
        put_property(out, TABLE_ID, &[self.table])?;
        if let Some(number) = self.cookie {
            let mut cookie = [0; 12];
            cookie[4..].copy_from_slice(&number.to_be_bytes());
            put_property(out, COOKIE, &cookie)?;
        }
        put_property(out, REASON, &[self.reason.0])?;
        put_property(out, METADATA, self.metadata.as_oxm())?;
        if !self.userdata.is_empty() {
            put_property(out, USERDATA, &self.userdata)?;
        }
        if !self.continuation.is_empty() {
            put_property(out, CONTINUATION, &self.continuation)?;
        }
        Ok(())
    }
}

/// Eight bytes, aligned to eight by four of padding.
fn cookie(value: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new("cookie", value);
    reader.take(4)?;
    reader.u64()
}

/// A packet for the switch to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketOut {
    /// The port to pretend it came in by; `CONTROLLER` is none.
    pub in_port: PortNo,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The frame.
    pub data: Bytes,
}

impl PacketOut {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(NO_BUFFER);
        out.put_u32(self.in_port.0);
        let length_at = out.len();
        out.put_u16(0);
        out.put_bytes(0, 6);
        let start = out.len();
        Action::encode_list(&self.actions, out)?;
        set_length(out, start, length_at, || "actions of a packet-out".to_owned())?;
        out.put_slice(&self.data);
        Ok(())
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u32()?;
        let in_port = PortNo(reader.u32()?);
        let length = usize::from(reader.u16()?);
        reader.take(6)?;
        let actions = Action::decode_list(reader.take(length)?)?;
        Ok(PacketOut { in_port, actions, data: Bytes::copy_from_slice(reader.rest()) })
    }
}
