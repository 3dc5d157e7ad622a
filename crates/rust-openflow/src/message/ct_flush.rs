//! `NXT_CT_FLUSH` (Open vSwitch 3.1): forget the connections that a tuple selects.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, property, property_number, put_property, put_u16_property};

const ORIGINAL: u16 = 0;
const REPLY: u16 = 1;
const ZONE: u16 = 2;

const SRC: u16 = 0;
const DST: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;
const ICMP_ID: u16 = 4;
const ICMP_TYPE: u16 = 5;
const ICMP_CODE: u16 = 6;

/// Which connections to forget: every part that is given must match. There are no masks and ranges; an empty
/// flush forgets every connection of the datapath.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtFlush {
    /// Only of this zone.
    pub zone: Option<u16>,
    /// The IP protocol, 0 any. ICMP types need it, and both addresses.
    pub ip_proto: u8,
    /// The first packet's addresses and ports.
    pub original: CtTuple,
    /// The replies' addresses and ports.
    pub reply: CtTuple,
}

/// One direction of a connection; what is `None` matches anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtTuple {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// Identifier, type and code of ICMP and ICMPv6.
    pub icmp: Option<(u16, u8, u8)>,
}

impl CtFlush {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(self.ip_proto);
        out.put_bytes(0, 7);
        for (kind, tuple) in [(ORIGINAL, &self.original), (REPLY, &self.reply)] {
            if *tuple != CtTuple::default() {
                tuple.encode(kind, out)?;
            }
        }
        if let Some(zone) = self.zone {
            put_u16_property(out, ZONE, zone);
        }
        Ok(())
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut flush = CtFlush { ip_proto: reader.u8()?, ..CtFlush::default() };
        reader.take(7)?;
        while !reader.is_empty() {
            match property(reader)? {
                (ORIGINAL, value) => flush.original = CtTuple::decode(value)?,
                (REPLY, value) => flush.reply = CtTuple::decode(value)?,
                (ZONE, value) => flush.zone = Some(u16::from_be_bytes(property_number(value)?)),
                (kind, _) => {
                    return Err(DecodeError::BadValue { what: "ct flush property", value: u64::from(kind) });
                }
            }
        }
        Ok(flush)
    }
}

impl CtTuple {
    /// A nested property: four bytes of padding behind its header, then properties.
    fn encode(&self, kind: u16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut nested = BytesMut::new();
        nested.put_u32(0);
        for (kind, address) in [(SRC, self.src), (DST, self.dst)] {
            if let Some(address) = address {
                put_property(&mut nested, kind, &mapped(address))?;
            }
        }
        for (kind, port) in [(SRC_PORT, self.src_port), (DST_PORT, self.dst_port)] {
            if let Some(port) = port {
                put_u16_property(&mut nested, kind, port);
            }
        }
        if let Some((id, kind, code)) = self.icmp {
            put_u16_property(&mut nested, ICMP_ID, id);
            put_property(&mut nested, ICMP_TYPE, &[kind])?;
            put_property(&mut nested, ICMP_CODE, &[code])?;
        }
        put_property(out, kind, &nested)
    }

    fn decode(nested: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("ct tuple", nested);
        reader.take(4)?;
        let mut tuple = CtTuple::default();
        let mut icmp = (0, 0, 0);
        while !reader.is_empty() {
            let (kind, value) = property(&mut reader)?;
            match kind {
                SRC => tuple.src = Some(address(value)?),
                DST => tuple.dst = Some(address(value)?),
                SRC_PORT => tuple.src_port = Some(u16::from_be_bytes(property_number(value)?)),
                DST_PORT => tuple.dst_port = Some(u16::from_be_bytes(property_number(value)?)),
                ICMP_ID => icmp.0 = u16::from_be_bytes(property_number(value)?),
                ICMP_TYPE => [icmp.1] = property_number(value)?,
                ICMP_CODE => [icmp.2] = property_number(value)?,
                _ => return Err(DecodeError::BadValue { what: "ct tuple property", value: u64::from(kind) }),
            }
            if matches!(kind, ICMP_ID | ICMP_TYPE | ICMP_CODE) {
                tuple.icmp = Some(icmp);
            }
        }
        Ok(tuple)
    }
}

/// IPv6, or IPv4 mapped into it.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    let octets: [u8; 16] =
        bytes.try_into().map_err(|_| DecodeError::BadLength { what: "address", length: bytes.len() })?;
    Ok(IpAddr::from(octets).to_canonical())
}
