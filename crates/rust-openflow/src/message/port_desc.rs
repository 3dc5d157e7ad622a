//! Ports: `ofp_port` (OpenFlow 1.4 §7.2.1.1), `OFPMP_PORT_DESC` (§7.3.5.7), `OFPT_PORT_STATUS` (§7.4.3).

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::DecodeError;
use crate::port::PortNo;
use crate::wire::{Reader, cut};

const NAME_LENGTH: usize = 16;
const FIXED_LENGTH: usize = 40;

/// A port of the switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortDesc {
    /// Its number.
    pub number: PortNo,
    /// Its Ethernet address.
    pub hw_addr: [u8; 6],
    /// Its name, cut to 15 bytes.
    pub name: String,
    /// `OFPPC_*`: 1 administratively down.
    pub config: u32,
    /// `OFPPS_*`: 1 no link, 2 blocked, 4 live.
    pub state: u32,
    /// Its properties (speeds), as bytes.
    pub properties: Bytes,
}

impl PortDesc {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = PortNo(reader.u32()?);
        let length = usize::from(reader.u16()?);
        let bad_length = DecodeError::BadLength { what: "port", length };
        let mut port = reader.sub("port", length.checked_sub(6).ok_or(bad_length)?)?;
        port.u16()?;
        let mut hw_addr = [0; 6];
        hw_addr.copy_from_slice(port.take(6)?);
        port.u16()?;
        let name = port.string(NAME_LENGTH)?;
        let (config, state) = (port.u32()?, port.u32()?);
        let properties = Bytes::copy_from_slice(port.rest());
        Ok(PortDesc { number, hw_addr, name, config, state, properties })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.number.0);
        let length = FIXED_LENGTH + self.properties.len();
        out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        out.put_u16(0);
        out.put_slice(&self.hw_addr);
        out.put_u16(0);
        let name = cut(&self.name, NAME_LENGTH - 1);
        out.put_slice(name.as_bytes());
        out.put_bytes(0, NAME_LENGTH - name.len());
        out.put_u32(self.config);
        out.put_u32(self.state);
        out.put_slice(&self.properties);
    }
}

/// What happened to a port (`OFPPR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortReason {
    /// It came.
    Add,
    /// It went.
    Delete,
    /// It changed.
    Modify,
}

/// A port came, went or changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port, as it is now or last was.
    pub port: PortDesc,
}

impl PortStatus {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let reason = match reader.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            other => {
                return Err(DecodeError::BadValue { what: "port-status reason", value: u64::from(other) });
            }
        };
        reader.take(7)?;
        Ok(PortStatus { reason, port: PortDesc::decode(reader)? })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(match self.reason {
            PortReason::Add => 0,
            PortReason::Delete => 1,
            PortReason::Modify => 2,
        });
        out.put_bytes(0, 7);
        self.port.encode(out);
    }
}
