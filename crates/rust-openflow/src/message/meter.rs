//! Meters: `OFPT_METER_MOD` (OpenFlow 1.4 §7.3.4.5), `OFPMP_METER_CONFIG` (§7.3.5.11).

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, set_length};

/// `OFPM_ALL`: every meter, in a request.
const ALL: u32 = 0xffff_ffff;

const BAND_LENGTH: u16 = 16;
/// `OFPMBT_DROP`.
const DROP: u16 = 1;

/// What is to become of a meter (`OFPMC_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MeterCommand {
    /// It is made; an error if it is there.
    Add,
    /// It takes this shape; an error if it is not there.
    Modify,
    /// It goes, and each flow whose instructions name it.
    Delete,
}

/// A band that drops what is above its rate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DropBand {
    /// Packets, or kilobits, a second.
    pub rate: u32,
    /// How many packets, or kilobits, may come at once; 0 leaves it to the switch.
    pub burst: u32,
}

/// A meter, as it is configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterConfig {
    /// Its number.
    pub id: u32,
    /// `OFPMF_*`: [`METER_PACKETS`] and others.
    pub flags: u16,
    /// Its bands.
    pub bands: Vec<DropBand>,
}

/// `OFPMF_KBPS`: rates are kilobits a second.
pub const METER_KILOBITS: u16 = 1;
/// `OFPMF_PKTPS`: rates are packets a second.
pub const METER_PACKETS: u16 = 1 << 1;
/// `OFPMF_BURST`: bands say a burst.
pub const METER_BURST: u16 = 1 << 2;
/// `OFPMF_STATS`: it counts.
pub const METER_STATS: u16 = 1 << 3;

/// A change of a meter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterMod {
    /// What becomes of it.
    pub command: MeterCommand,
    /// The meter.
    pub meter: MeterConfig,
}

impl MeterMod {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u16(match self.command {
            MeterCommand::Add => 0,
            MeterCommand::Modify => 1,
            MeterCommand::Delete => 2,
        });
        out.put_u16(self.meter.flags);
        out.put_u32(self.meter.id);
        put_bands(&self.meter.bands, out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let command = match reader.u16()? {
            0 => MeterCommand::Add,
            1 => MeterCommand::Modify,
            2 => MeterCommand::Delete,
            other => return Err(DecodeError::BadValue { what: "meter command", value: u64::from(other) }),
        };
        let (flags, id) = (reader.u16()?, reader.u32()?);
        Ok(MeterMod { command, meter: MeterConfig { id, flags, bands: bands(reader)? } })
    }
}

impl MeterConfig {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(0);
        out.put_u16(self.flags);
        out.put_u32(self.id);
        put_bands(&self.bands, out);
        set_length(out, start, start, || format!("meter {}", self.id))
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(reader.u16()?);
        let bad_length = DecodeError::BadLength { what: "meter", length };
        let mut meter = reader.sub("meter", length.checked_sub(2).ok_or(bad_length)?)?;
        let (flags, id) = (meter.u16()?, meter.u32()?);
        Ok(MeterConfig { id, flags, bands: bands(&mut meter)? })
    }
}

pub(super) fn encode_request(out: &mut BytesMut) {
    out.put_u32(ALL);
    out.put_u32(0);
}

/// Whether a request is for every meter; no other is made here.
pub(super) fn is_request_for_all(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let id = reader.u32()?;
    reader.take(4)?;
    Ok(id == ALL)
}

fn put_bands(bands: &[DropBand], out: &mut BytesMut) {
    for band in bands {
        out.put_u16(DROP);
        out.put_u16(BAND_LENGTH);
        out.put_u32(band.rate);
        out.put_u32(band.burst);
        out.put_u32(0);
    }
}

/// Open vSwitch has no other band than this (ovs-ofctl(8), add-meter).
fn bands(reader: &mut Reader<'_>) -> Result<Vec<DropBand>, DecodeError> {
    let mut bands = Vec::new();
    while !reader.is_empty() {
        let (kind, length) = (reader.u16()?, reader.u16()?);
        if kind != DROP {
            return Err(DecodeError::BadValue { what: "meter band", value: u64::from(kind) });
        }
        if length != BAND_LENGTH {
            return Err(DecodeError::BadLength { what: "meter band", length: usize::from(length) });
        }
        bands.push(DropBand { rate: reader.u32()?, burst: reader.u32()? });
        reader.take(4)?;
    }
    Ok(bands)
}
