//! OpenFlow 1.4 messages, those of the switch and those of its controller.

mod bundle;
mod ct_flush;
mod error_message;
mod error_names;
mod flow_mod;
mod flow_stats;
mod meter;
mod monitor;
mod packet;
mod port_desc;
mod switch;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::NICIRA;
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, set_length};

pub use bundle::{BundleAdd, BundleControl, BundleFlags, BundleStep};
pub use ct_flush::{CtFlush, CtTuple};
pub use error_message::{ErrorMessage, OfError};
pub use flow_mod::{FlowMod, FlowModCommand};
pub use flow_stats::{FlowEntry, FlowFilter};
pub use meter::{
    DropBand, METER_BURST, METER_KILOBITS, METER_PACKETS, METER_STATS, MeterCommand, MeterConfig, MeterMod,
};
pub use monitor::{FlowMonitor, FlowUpdate, FlowUpdateEvent, MonitorFlags};
pub use packet::{PacketIn, PacketOut, PacketReason};
pub use port_desc::{PortDesc, PortReason, PortStatus};
pub use switch::{AsyncConfig, Features, FlowRemoved, FragMode, SwitchConfig};

/// OpenFlow 1.4 in `ofp_header.version`.
pub const OFP14_VERSION: u8 = 0x05;
/// Bytes of `ofp_header`.
pub const HEADER_LENGTH: usize = 8;

/// A transaction id: an answer carries that of its request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Xid(pub u32);

/// Message types (OpenFlow 1.4 §7.1.1), `OFPT_*`.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0;
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const ECHO_REQUEST: u8 = 2;
    pub(crate) const ECHO_REPLY: u8 = 3;
    pub(crate) const EXPERIMENTER: u8 = 4;
    pub(crate) const FEATURES_REQUEST: u8 = 5;
    pub(crate) const FEATURES_REPLY: u8 = 6;
    pub(crate) const GET_CONFIG_REQUEST: u8 = 7;
    pub(crate) const GET_CONFIG_REPLY: u8 = 8;
    pub(crate) const SET_CONFIG: u8 = 9;
    pub(crate) const PACKET_IN: u8 = 10;
    pub(crate) const FLOW_REMOVED: u8 = 11;
    pub(crate) const PORT_STATUS: u8 = 12;
    pub(crate) const PACKET_OUT: u8 = 13;
    pub(crate) const FLOW_MOD: u8 = 14;
    pub(crate) const MULTIPART_REQUEST: u8 = 18;
    pub(crate) const MULTIPART_REPLY: u8 = 19;
    pub(crate) const BARRIER_REQUEST: u8 = 20;
    pub(crate) const BARRIER_REPLY: u8 = 21;
    pub(crate) const SET_ASYNC: u8 = 28;
    pub(crate) const METER_MOD: u8 = 29;
    pub(crate) const BUNDLE_CONTROL: u8 = 33;
    pub(crate) const BUNDLE_ADD_MESSAGE: u8 = 34;
}

/// Subtypes of Nicira messages, `NXT_*`.
mod nicira {
    pub(super) const SET_PACKET_IN_FORMAT: u32 = 16;
    pub(super) const SET_CONTROLLER_ID: u32 = 20;
    pub(super) const CT_FLUSH_ZONE: u32 = 29;
    pub(super) const PACKET_IN2: u32 = 30;
    pub(super) const CT_FLUSH: u32 = 32;
}

/// Multipart types (OpenFlow 1.4 §7.3.5), `OFPMP_*`.
mod multipart {
    pub(super) const FLOW: u16 = 1;
    pub(super) const METER_CONFIG: u16 = 10;
    pub(super) const PORT_DESC: u16 = 13;
    pub(super) const FLOW_MONITOR: u16 = 16;
}

/// `ofp_header`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The protocol version.
    pub version: u8,
    /// The message type, `OFPT_*`.
    pub kind: u8,
    /// Bytes of the message, this header included.
    pub length: u16,
    /// The transaction id.
    pub xid: Xid,
}

impl Header {
    /// Reads a header; `None` if fewer than [`HEADER_LENGTH`] bytes are there.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<Header> {
        let mut reader = Reader::new("header", bytes);
        Some(Header {
            version: reader.u8().ok()?,
            kind: reader.u8().ok()?,
            length: reader.u16().ok()?,
            xid: Xid(reader.u32().ok()?),
        })
    }
}

/// A message of OpenFlow 1.4, or one of Open vSwitch's additions to it.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// The versions that the sender speaks, as `ofp_header.version` numbers.
    Hello(Vec<u8>),
    /// A request failed.
    Error(ErrorMessage),
    /// Are you there?
    EchoRequest(Bytes),
    /// Yes; with the request's bytes.
    EchoReply(Bytes),
    /// Ask for [`Features`].
    FeaturesRequest,
    /// What the switch is.
    FeaturesReply(Features),
    /// Ask for the [`SwitchConfig`].
    GetConfigRequest,
    /// The switch's configuration.
    GetConfigReply(SwitchConfig),
    /// Set the switch's configuration.
    SetConfig(SwitchConfig),
    /// Choose what the switch tells unasked.
    SetAsync(AsyncConfig),
    /// Ask for packets as `NXT_PACKET_IN2`, the only form that carries userdata.
    SetPacketIn2,
    /// Ask for the packets whose `controller` action names this id, in place of those that name none (ovs-actions(7),
    /// `controller`).
    SetControllerId(u16),
    /// A packet for the controller, in either form.
    PacketIn(PacketIn),
    /// A packet for the switch to send.
    PacketOut(PacketOut),
    /// A flow expired or was removed.
    FlowRemoved(FlowRemoved),
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// Change flows.
    FlowMod(FlowMod),
    /// Change a meter.
    MeterMod(MeterMod),
    /// Ask for an answer once everything before is done.
    BarrierRequest,
    /// Everything before is done.
    BarrierReply,
    /// Open, close, commit or discard a bundle, and the answers.
    BundleControl(BundleControl),
    /// Add a message to a bundle.
    BundleAdd(BundleAdd),
    /// Ask for the flows that a filter selects.
    FlowStatsRequest(FlowFilter),
    /// Some of those flows.
    FlowStatsReply(Part<FlowEntry>),
    /// Ask for all ports.
    PortDescRequest,
    /// Some of the ports.
    PortDescReply(Part<PortDesc>),
    /// Ask for all meters.
    MeterConfigRequest,
    /// Some of the meters.
    MeterConfigReply(Part<MeterConfig>),
    /// Ask to be told of changes of flows.
    FlowMonitorRequest(FlowMonitor),
    /// Stop telling (`OFPFMC_DELETE` of this monitor id).
    FlowMonitorCancel(u32),
    /// Changes of flows: the answer to the request, and later unasked with xid 0.
    FlowMonitorReply(Part<FlowUpdate>),
    /// Forget the connections of a conntrack zone.
    CtFlushZone(u16),
    /// Forget the connections that a tuple selects.
    CtFlush(CtFlush),
    /// Anything else: type and body.
    Unknown {
        /// `OFPT_*`.
        kind: u8,
        /// What follows the header.
        body: Bytes,
    },
}

/// One message's part of a long answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<T> {
    /// What it carries.
    pub items: Vec<T>,
    /// Whether more parts follow.
    pub more: bool,
}

impl Message {
    /// Appends the message. Nothing is appended if there is an error.
    pub fn encode(&self, xid: Xid, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        self.encode_whole(xid, out).map_err(|error| {
            out.truncate(start);
            match (self, error) {
                (Message::FlowMod(flow_mod), error) => {
                    EncodeError::InFlow { key: Box::new(flow_mod.flow.key()), error: Box::new(error) }
                }
                (_, error) => error,
            }
        })
    }

    fn encode_whole(&self, xid: Xid, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u8(OFP14_VERSION);
        out.put_u8(self.kind());
        out.put_u16(0);
        out.put_u32(xid.0);
        self.encode_body(xid, out)?;
        set_length(out, start, start + 2, || match self {
            // The room for the message around it is what is missing.
            Message::BundleAdd(BundleAdd { message, .. }) => match &**message {
                Message::FlowMod(flow_mod) => format!("flow '{}' in a bundle", flow_mod.flow.key()),
                other => format!("OpenFlow message of type {} in a bundle", other.kind()),
            },
            other => format!("OpenFlow message of type {}", other.kind()),
        })
    }

    fn kind(&self) -> u8 {
        match self {
            Message::Hello(_) => kind::HELLO,
            Message::Error(_) => kind::ERROR,
            Message::EchoRequest(_) => kind::ECHO_REQUEST,
            Message::EchoReply(_) => kind::ECHO_REPLY,
            Message::FeaturesRequest => kind::FEATURES_REQUEST,
            Message::FeaturesReply(_) => kind::FEATURES_REPLY,
            Message::GetConfigRequest => kind::GET_CONFIG_REQUEST,
            Message::GetConfigReply(_) => kind::GET_CONFIG_REPLY,
            Message::SetConfig(_) => kind::SET_CONFIG,
            Message::SetAsync(_) => kind::SET_ASYNC,
            Message::PacketOut(_) => kind::PACKET_OUT,
            Message::FlowRemoved(_) => kind::FLOW_REMOVED,
            Message::PortStatus(_) => kind::PORT_STATUS,
            Message::FlowMod(_) => kind::FLOW_MOD,
            Message::MeterMod(_) => kind::METER_MOD,
            Message::BarrierRequest => kind::BARRIER_REQUEST,
            Message::BarrierReply => kind::BARRIER_REPLY,
            Message::BundleControl(_) => kind::BUNDLE_CONTROL,
            Message::BundleAdd(_) => kind::BUNDLE_ADD_MESSAGE,
            Message::FlowStatsRequest(_)
            | Message::PortDescRequest
            | Message::MeterConfigRequest
            | Message::FlowMonitorRequest(_)
            | Message::FlowMonitorCancel(_) => kind::MULTIPART_REQUEST,
            Message::FlowStatsReply(_)
            | Message::PortDescReply(_)
            | Message::MeterConfigReply(_)
            | Message::FlowMonitorReply(_) => kind::MULTIPART_REPLY,
            Message::SetPacketIn2
            | Message::SetControllerId(_)
            | Message::PacketIn(_)
            | Message::CtFlushZone(_)
            | Message::CtFlush(_) => kind::EXPERIMENTER,
            Message::Unknown { kind, .. } => *kind,
        }
    }

    fn encode_body(&self, xid: Xid, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Message::Hello(versions) => switch::encode_hello(versions, out),
            Message::Error(error) => error.encode(out),
            Message::EchoRequest(data) | Message::EchoReply(data) => out.put_slice(data),
            Message::FeaturesRequest
            | Message::GetConfigRequest
            | Message::BarrierRequest
            | Message::BarrierReply => {}
            Message::FeaturesReply(features) => features.encode(out),
            Message::GetConfigReply(config) | Message::SetConfig(config) => config.encode(out),
            Message::SetAsync(config) => config.encode(out),
            Message::SetPacketIn2 => {
                experimenter(out, nicira::SET_PACKET_IN_FORMAT);
                out.put_u32(packet::FORMAT_PACKET_IN2);
            }
            Message::SetControllerId(id) => {
                experimenter(out, nicira::SET_CONTROLLER_ID);
                out.put_bytes(0, 6);
                out.put_u16(*id);
            }
            Message::PacketIn(packet) => {
                experimenter(out, nicira::PACKET_IN2);
                packet.encode(out)?;
            }
            Message::PacketOut(packet) => packet.encode(out)?,
            Message::FlowRemoved(removed) => removed.encode(out)?,
            Message::PortStatus(status) => status.encode(out),
            Message::FlowMod(flow_mod) => flow_mod.encode(out)?,
            Message::MeterMod(meter_mod) => meter_mod.encode(out),
            Message::BundleControl(control) => control.encode(out),
            Message::BundleAdd(add) => add.encode(xid, out)?,
            Message::FlowStatsRequest(filter) => {
                multipart_header(out, multipart::FLOW, false);
                filter.encode(out)?;
            }
            Message::FlowStatsReply(part) => {
                multipart_header(out, multipart::FLOW, part.more);
                part.items.iter().try_for_each(|entry| entry.encode(out))?;
            }
            Message::PortDescRequest => multipart_header(out, multipart::PORT_DESC, false),
            Message::PortDescReply(part) => {
                multipart_header(out, multipart::PORT_DESC, part.more);
                part.items.iter().for_each(|port| port.encode(out));
            }
            Message::MeterConfigRequest => {
                multipart_header(out, multipart::METER_CONFIG, false);
                meter::encode_request(out);
            }
            Message::MeterConfigReply(part) => {
                multipart_header(out, multipart::METER_CONFIG, part.more);
                part.items.iter().try_for_each(|meter| meter.encode(out))?;
            }
            Message::FlowMonitorRequest(monitor) => {
                multipart_header(out, multipart::FLOW_MONITOR, false);
                monitor.encode(out)?;
            }
            Message::FlowMonitorCancel(id) => {
                multipart_header(out, multipart::FLOW_MONITOR, false);
                monitor::encode_cancel(*id, out)?;
            }
            Message::FlowMonitorReply(part) => {
                multipart_header(out, multipart::FLOW_MONITOR, part.more);
                part.items.iter().try_for_each(|update| update.encode(out))?;
            }
            Message::CtFlushZone(zone) => {
                experimenter(out, nicira::CT_FLUSH_ZONE);
                out.put_bytes(0, 6);
                out.put_u16(*zone);
            }
            Message::CtFlush(flush) => {
                experimenter(out, nicira::CT_FLUSH);
                flush.encode(out)?;
            }
            Message::Unknown { body, .. } => out.put_slice(body),
        }
        Ok(())
    }

    /// Reads one whole message, header included. A message of another type or version, or a reply of an
    /// unknown multipart type, comes back as `Unknown`; a hello or an error is read in any version.
    pub fn decode(bytes: &Bytes) -> Result<(Header, Message), DecodeError> {
        let header = Header::peek(bytes).ok_or(DecodeError::Short {
            what: "header",
            need: HEADER_LENGTH,
            left: bytes.len(),
        })?;
        if usize::from(header.length) != bytes.len() {
            return Err(DecodeError::BadLength { what: "message", length: usize::from(header.length) });
        }
        let body = bytes.slice(HEADER_LENGTH..);
        let known = header.version == OFP14_VERSION || matches!(header.kind, kind::HELLO | kind::ERROR);
        let message = if known { decode_body(header, &body)? } else { None };
        Ok((header, message.unwrap_or(Message::Unknown { kind: header.kind, body })))
    }
}

fn decode_body(header: Header, body: &Bytes) -> Result<Option<Message>, DecodeError> {
    let mut reader = Reader::new("message", body);
    let reader = &mut reader;
    Ok(Some(match header.kind {
        kind::HELLO => Message::Hello(switch::decode_hello(header.version, reader)?),
        kind::ERROR => Message::Error(ErrorMessage::decode(reader)?),
        kind::ECHO_REQUEST => Message::EchoRequest(body.clone()),
        kind::ECHO_REPLY => Message::EchoReply(body.clone()),
        kind::FEATURES_REQUEST => Message::FeaturesRequest,
        kind::FEATURES_REPLY => Message::FeaturesReply(Features::decode(reader)?),
        kind::GET_CONFIG_REQUEST => Message::GetConfigRequest,
        kind::GET_CONFIG_REPLY => Message::GetConfigReply(SwitchConfig::decode(reader)?),
        kind::SET_CONFIG => Message::SetConfig(SwitchConfig::decode(reader)?),
        kind::PACKET_IN => Message::PacketIn(PacketIn::decode_standard(reader)?),
        kind::FLOW_REMOVED => Message::FlowRemoved(FlowRemoved::decode(reader)?),
        kind::PORT_STATUS => Message::PortStatus(PortStatus::decode(reader)?),
        kind::PACKET_OUT => Message::PacketOut(PacketOut::decode(reader)?),
        kind::FLOW_MOD => Message::FlowMod(FlowMod::decode(reader)?),
        kind::METER_MOD => Message::MeterMod(MeterMod::decode(reader)?),
        kind::BARRIER_REQUEST => Message::BarrierRequest,
        kind::BARRIER_REPLY => Message::BarrierReply,
        kind::BUNDLE_CONTROL => Message::BundleControl(BundleControl::decode(reader)?),
        kind::BUNDLE_ADD_MESSAGE => Message::BundleAdd(BundleAdd::decode(reader, body)?),
        kind::MULTIPART_REQUEST => return decode_request(reader),
        kind::MULTIPART_REPLY => return decode_reply(reader),
        kind::EXPERIMENTER => return decode_experimenter(reader),
        _ => return Ok(None),
    }))
}

fn decode_request(reader: &mut Reader<'_>) -> Result<Option<Message>, DecodeError> {
    let kind = reader.u16()?;
    reader.take(6)?;
    Ok(match kind {
        multipart::FLOW => Some(Message::FlowStatsRequest(FlowFilter::decode(reader)?)),
        multipart::PORT_DESC => Some(Message::PortDescRequest),
        multipart::METER_CONFIG => meter::is_request_for_all(reader)?.then_some(Message::MeterConfigRequest),
        multipart::FLOW_MONITOR => Some(monitor::decode_request(reader)?),
        _ => None,
    })
}

fn decode_reply(reader: &mut Reader<'_>) -> Result<Option<Message>, DecodeError> {
    let kind = reader.u16()?;
    let more = reader.u16()? & 1 == 1;
    reader.take(4)?;
    Ok(match kind {
        multipart::FLOW => Some(Message::FlowStatsReply(part(reader, more, FlowEntry::decode)?)),
        multipart::PORT_DESC => Some(Message::PortDescReply(part(reader, more, PortDesc::decode)?)),
        multipart::METER_CONFIG => Some(Message::MeterConfigReply(part(reader, more, MeterConfig::decode)?)),
        multipart::FLOW_MONITOR => Some(Message::FlowMonitorReply(part(reader, more, FlowUpdate::decode)?)),
        _ => None,
    })
}

fn part<T>(
    reader: &mut Reader<'_>,
    more: bool,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Part<T>, DecodeError> {
    let mut items = Vec::new();
    while !reader.is_empty() {
        items.push(decode(reader)?);
    }
    Ok(Part { items, more })
}

fn decode_experimenter(reader: &mut Reader<'_>) -> Result<Option<Message>, DecodeError> {
    if reader.u32()? != NICIRA {
        return Ok(None);
    }
    Ok(match reader.u32()? {
        nicira::PACKET_IN2 => Some(Message::PacketIn(PacketIn::decode(reader)?)),
        nicira::CT_FLUSH_ZONE => {
            reader.take(6)?;
            Some(Message::CtFlushZone(reader.u16()?))
        }
        nicira::SET_CONTROLLER_ID => {
            reader.take(6)?;
            Some(Message::SetControllerId(reader.u16()?))
        }
        nicira::CT_FLUSH => Some(Message::CtFlush(CtFlush::decode(reader)?)),
        nicira::SET_PACKET_IN_FORMAT if reader.u32()? == packet::FORMAT_PACKET_IN2 => {
            Some(Message::SetPacketIn2)
        }
        _ => None,
    })
}

fn experimenter(out: &mut BytesMut, subtype: u32) {
    out.put_u32(NICIRA);
    out.put_u32(subtype);
}

fn multipart_header(out: &mut BytesMut, kind: u16, more: bool) {
    out.put_u16(kind);
    out.put_u16(u16::from(more));
    out.put_u32(0);
}

/// Cuts messages out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
}

impl Framer {
    /// Adds bytes that came in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, header included. An error means that the stream is lost: a header gives a
    /// length shorter than itself.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(header) = Header::peek(&self.buffer) else { return Ok(None) };
        let length = usize::from(header.length);
        if length < HEADER_LENGTH {
            return Err(DecodeError::BadLength { what: "message", length });
        }
        if self.buffer.remaining() < length {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}
