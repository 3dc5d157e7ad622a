//! The switch as a whole: hello, features, configuration, asynchronous messages.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::flow::{Flow, FlowOptions, FlowStats};
use crate::flow_match::Match;
use crate::wire::{Reader, put_pad8};

const VERSION_BITMAP: u16 = 1;

/// Writes the version bitmap (OpenFlow 1.4 §7.5.1).
pub(super) fn encode_hello(versions: &[u8], out: &mut BytesMut) {
    let words = versions.iter().max().map_or(0, |version| u16::from(*version) / 32 + 1);
    out.put_u16(VERSION_BITMAP);
    out.put_u16(4 + 4 * words);
    for word in 0..words {
        let bits = versions.iter().filter(|version| u16::from(**version) / 32 == word);
        out.put_u32(bits.fold(0, |bitmap, version| bitmap | 1 << (version % 32)));
    }
    put_pad8(out, out.len() - usize::from(4 + 4 * words));
}

/// The versions a hello offers: those of its bitmap, or if it has none, all up to that of its header.
pub(super) fn decode_hello(version: u8, reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    while reader.left() >= 4 {
        let kind = reader.u16()?;
        let length = usize::from(reader.u16()?);
        let bad_length = DecodeError::BadLength { what: "hello element", length };
        let body = reader.take(length.checked_sub(4).ok_or(bad_length)?)?;
        reader.take((length.next_multiple_of(8) - length).min(reader.left()))?;
        if kind != VERSION_BITMAP {
            continue;
        }
        // A version has eight bits, so that eight words are all there can be.
        let bits = body.chunks_exact(4).take(8).flat_map(|word| word.iter().rev());
        let versions = bits.flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        return Ok((0..=u8::MAX).zip(versions).filter(|(_, set)| *set).map(|(version, _)| version).collect());
    }
    Ok((1..=version).collect())
}

/// What a switch is (`ofp_switch_features`, OpenFlow 1.4 §7.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Its id: the bridge's Ethernet address in the low 48 bits, as a rule.
    pub datapath_id: u64,
    /// Packets it can buffer.
    pub n_buffers: u32,
    /// Tables it has.
    pub n_tables: u8,
    /// The auxiliary connection this is, 0 the main one.
    pub auxiliary_id: u8,
    /// `OFPC_*`.
    pub capabilities: u32,
}

impl Features {
    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u64(self.datapath_id);
        out.put_u32(self.n_buffers);
        out.put_u8(self.n_tables);
        out.put_u8(self.auxiliary_id);
        out.put_u16(0);
        out.put_u32(self.capabilities);
        out.put_u32(0);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let datapath_id = reader.u64()?;
        let n_buffers = reader.u32()?;
        let (n_tables, auxiliary_id) = (reader.u8()?, reader.u8()?);
        reader.u16()?;
        let capabilities = reader.u32()?;
        reader.u32()?;
        Ok(Features { datapath_id, n_buffers, n_tables, auxiliary_id, capabilities })
    }
}

/// What flow tables see of IP fragments (`OFPC_FRAG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FragMode {
    /// Ports of later fragments are 0; `ip_frag` cannot be matched as it should.
    Normal,
    /// Fragments are dropped.
    Drop,
    /// Fragments are put together first; no datapath does it.
    Reassemble,
    /// Open vSwitch's extension: the first fragment has its ports, later ones none, `ip_frag` tells them
    /// apart.
    NxMatch,
}

impl FragMode {
    const ALL: [FragMode; 4] = [Self::Normal, Self::Drop, Self::Reassemble, Self::NxMatch];
    const MASK: u16 = 3;
}

/// `ofp_switch_config` (OpenFlow 1.4 §7.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwitchConfig {
    /// What flow tables see of fragments: of the whole switch, not of this connection.
    pub frags: FragMode,
    /// Bytes of a packet that matched nothing which the switch sends. On a `.mgmt` connection, 0 (its
    /// beginning) silences all asynchronous messages, port-status too.
    pub miss_send_len: u16,
}

impl SwitchConfig {
    pub(super) fn encode(self, out: &mut BytesMut) {
        let code = FragMode::ALL.iter().position(|mode| *mode == self.frags);
        out.put_u16(code.and_then(|code| u16::try_from(code).ok()).expect("every mode is in ALL"));
        out.put_u16(self.miss_send_len);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let frags = FragMode::ALL[usize::from(reader.u16()? & FragMode::MASK)];
        Ok(SwitchConfig { frags, miss_send_len: reader.u16()? })
    }
}

/// What the switch tells this connection unasked (`OFPT_SET_ASYNC`, OpenFlow 1.4 §7.3.10): a bit a reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AsyncConfig {
    /// Packets, by `OFPR_*`.
    pub packet_in: u32,
    /// Ports, by `OFPPR_*`.
    pub port_status: u32,
    /// Removed flows, by `OFPRR_*`.
    pub flow_removed: u32,
}

impl AsyncConfig {
    pub(super) fn encode(self, out: &mut BytesMut) {
        // Odd property types are for the roles "equal" and "primary", even ones for "secondary".
        for (kind, mask) in [(1, self.packet_in), (3, self.port_status), (5, self.flow_removed)] {
            out.put_u16(kind);
            out.put_u16(8);
            out.put_u32(mask);
        }
    }
}

/// A flow expired or was deleted (`OFPT_FLOW_REMOVED`, OpenFlow 1.4 §7.4.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowRemoved {
    /// The flow, without its actions, flags and importance.
    pub flow: Flow,
    /// Its last counters.
    pub stats: FlowStats,
    /// `OFPRR_*`: 0 idle, 1 hard time-out, 2 deleted.
    pub reason: u8,
}

impl FlowRemoved {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u64(self.flow.cookie);
        out.put_u16(self.flow.priority);
        out.put_u8(self.reason);
        out.put_u8(self.flow.table);
        out.put_u32(self.stats.duration_s);
        out.put_u32(self.stats.duration_ns);
        out.put_u16(self.flow.options.idle_timeout);
        out.put_u16(self.flow.options.hard_timeout);
        out.put_u64(self.stats.packets);
        out.put_u64(self.stats.bytes);
        self.flow.matches.encode(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (cookie, priority) = (reader.u64()?, reader.u16()?);
        let (reason, table) = (reader.u8()?, reader.u8()?);
        let (duration_s, duration_ns) = (reader.u32()?, reader.u32()?);
        let (idle_timeout, hard_timeout) = (reader.u16()?, reader.u16()?);
        let (packets, bytes) = (reader.u64()?, reader.u64()?);
        let options = FlowOptions { idle_timeout, hard_timeout, ..FlowOptions::default() };
        let matches = Match::decode(reader)?;
        Ok(FlowRemoved {
            flow: Flow { table, priority, cookie, matches, actions: Vec::new(), options },
            stats: FlowStats { duration_s, duration_ns, packets, bytes },
            reason,
        })
    }
}
