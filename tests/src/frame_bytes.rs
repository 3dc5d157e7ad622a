//! Frames as bytes, and back.

use std::net::IpAddr;

use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType, IpFragOffset, IpNumber,
    Ipv4Header, Ipv4HeaderSlice, Ipv6Header, Ipv6HeaderSlice,
};
use policy::evaluator::{Fragment, Frame, IpPacket, Payload};
use policy::{Ethertype, MacAddr};

use crate::sketch::{Arp, Body, CUSTOMER_TAG, Datagram, Part, SERVICE_TAG, Sketch};
use crate::transport_bytes::{read_transport, segment};

/// Ethertypes of ARP (RFC 826) and RARP (RFC 903).
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;

/// IPv6 extension headers (RFC 8200, section 4; RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// How many extension headers are walked over; a real packet has a few.
const MOST_EXTENSIONS: usize = 16;

impl Sketch {
    /// The frame as a port sends it, checksums right, without padding.
    ///
    /// # Errors
    /// The datagram is too short for its header, or too long for IP.
    pub fn bytes(&self) -> Result<Vec<u8>, LengthError> {
        let mut bytes = [self.eth_dst.0, self.eth_src.0].concat();
        for tag in &self.tags {
            bytes.extend(tag.ethertype.to_be_bytes());
            bytes.extend(tag.vid.to_be_bytes());
        }
        let (ethertype, payload) = match &self.body {
            Body::Arp(arp) => (ARP, arp_bytes(arp, ArpOperation(arp.op))),
            // RFC 903: "reverse request" is operation 3, the sender asks for its own address.
            Body::Rarp => {
                let nobody = std::net::Ipv4Addr::UNSPECIFIED;
                let own = Arp { op: 3, sha: self.eth_src, spa: nobody, tha: self.eth_src, tpa: nobody };
                (RARP, arp_bytes(&own, ArpOperation(3)))
            }
            Body::Other(ethertype) => (*ethertype, vec![0; 46]),
            Body::Ip(datagram) => (datagram.packet.ethertype().number(), datagram.bytes(self.eth_src)?),
        };
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        Ok(bytes)
    }
}

/// A datagram that cannot have the length it is said to have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LengthError(String);

fn arp_bytes(arp: &Arp, operation: ArpOperation) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: arp.sha.0,
        sender_ipv4: arp.spa.octets(),
        target_mac: arp.tha.0,
        target_ipv4: arp.tpa.octets(),
    };
    packet.to_bytes().to_vec()
}

impl Datagram {
    /// The IP packet, or the part of it that the frame carries.
    fn bytes(&self, eth_src: MacAddr) -> Result<Vec<u8>, LengthError> {
        let whole = segment(&self.packet, self.id, eth_src, self.part.map(|part| part.total.into()));
        let total = self.part.map_or(whole.len(), |part| part.total.into());
        if whole.len() != total {
            return Err(LengthError(format!("a header of {} bytes in a datagram of {total}", whole.len())));
        }
        let carried = match self.part {
            None => whole.as_slice(),
            Some(Part { offset, length, .. }) => {
                &whole[offset.into()..usize::from(offset) + usize::from(length)]
            }
        };
        match (self.packet.src, self.packet.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets(), carried),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), carried),
            _ => Err(LengthError("the addresses are of two families".to_owned())),
        }
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4], carried: &[u8]) -> Result<Vec<u8>, LengthError> {
        let too_long = |_| LengthError("too long for IPv4".to_owned());
        let length = u16::try_from(carried.len()).map_err(too_long)?;
        let number = IpNumber(self.packet.protocol);
        let mut header = Ipv4Header::new(length, 64, number, src, dst)
            .map_err(|_| LengthError("too long for IPv4".to_owned()))?;
        header.identification = self.id;
        header.dont_fragment = self.part.is_none();
        if let Some(part) = self.part {
            header.fragment_offset = offset_in_eights(part);
            header.more_fragments = !part.is_last();
        }
        header.header_checksum = header.calc_header_checksum();
        Ok([&header.to_bytes()[..], carried].concat())
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16], carried: &[u8]) -> Result<Vec<u8>, LengthError> {
        let mut numbers = self.extensions.clone();
        numbers.extend(self.part.map(|_| FRAGMENT));
        let mut extensions = Vec::new();
        let nexts = numbers.iter().skip(1).copied().chain([self.packet.protocol]);
        for (number, next) in numbers.iter().zip(nexts) {
            match (number, self.part) {
                (&FRAGMENT, Some(part)) => {
                    let offset = part.offset | u16::from(!part.is_last());
                    extensions.extend([next, 0]);
                    extensions.extend(offset.to_be_bytes());
                    extensions.extend(u32::from(self.id).to_be_bytes());
                }
                // Routing type 253 is for experiments (RFC 4727), no segments left.
                (&ROUTING, _) => extensions.extend([next, 0, 253, 0, 0, 0, 0, 0]),
                // One PadN option fills the smallest header (RFC 8200, section 4.2).
                _ => extensions.extend([next, 0, 1, 4, 0, 0, 0, 0]),
            }
        }
        let length = u16::try_from(extensions.len() + carried.len());
        let header = Ipv6Header {
            payload_length: length.map_err(|_| LengthError("too long for IPv6".to_owned()))?,
            next_header: IpNumber(numbers.first().copied().unwrap_or(self.packet.protocol)),
            // RFC 4861, section 7.1: neighbour discovery is valid with 255 only.
            hop_limit: 255,
            source: src,
            destination: dst,
            ..Ipv6Header::default()
        };
        Ok([&header.to_bytes()[..], &extensions, carried].concat())
    }
}

impl Part {
    fn is_last(self) -> bool {
        self.offset.checked_add(self.length) == Some(self.total)
    }
}

fn offset_in_eights(part: Part) -> IpFragOffset {
    IpFragOffset::try_new(part.offset / 8).expect("an eighth of 16 bits fits in 13")
}

/// What the evaluator sees of a frame; none if it is shorter than an Ethernet header.
pub fn read(bytes: &[u8]) -> Option<Frame> {
    let (addresses, rest) = bytes.split_at_checked(12)?;
    let eth_dst = MacAddr(addresses[..6].try_into().ok()?);
    let eth_src = MacAddr(addresses[6..].try_into().ok()?);
    let (ethertype, rest) = take_u16(rest)?;
    let (vlan, payload) = match ethertype {
        CUSTOMER_TAG => {
            let (tag, rest) = take_u16(rest)?;
            let (inner, rest) = take_u16(rest)?;
            (Some(tag & 0x0fff), read_payload(inner, rest))
        }
        _ => (None, read_payload(ethertype, rest)),
    };
    Some(Frame { eth_src, eth_dst, vlan, payload })
}

fn read_payload(ethertype: u16, bytes: &[u8]) -> Payload {
    let payload = match ethertype {
        ARP => read_arp(bytes),
        RARP => Some(Payload::Rarp),
        CUSTOMER_TAG | SERVICE_TAG => None,
        _ if ethertype == Ethertype::Ipv4.number() => read_ipv4(bytes).map(Payload::Ip),
        _ if ethertype == Ethertype::Ipv6.number() => read_ipv6(bytes).map(Payload::Ip),
        _ => None,
    };
    payload.unwrap_or(Payload::Other(ethertype))
}

fn read_arp(bytes: &[u8]) -> Option<Payload> {
    let arp = ArpPacketSlice::from_slice(bytes).ok()?;
    let for_ipv4 = arp.hw_addr_type() == ArpHardwareId::ETHERNET && arp.proto_addr_type() == EtherType::IPV4;
    let octets = |slice: &[u8]| <[u8; 4]>::try_from(slice).ok();
    let mac = |slice: &[u8]| <[u8; 6]>::try_from(slice).ok().map(MacAddr);
    for_ipv4.then_some(())?;
    Some(Payload::Arp {
        op: arp.operation().0,
        sha: mac(arp.sender_hw_addr())?,
        spa: octets(arp.sender_protocol_addr())?.into(),
        tha: mac(arp.target_hw_addr())?,
        tpa: octets(arp.target_protocol_addr())?.into(),
    })
}

fn read_ipv4(bytes: &[u8]) -> Option<IpPacket> {
    let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    // What stands behind the datagram is padding.
    let carried = bytes.get(header.slice().len()..header.total_len().into())?;
    let fragment = match (header.fragments_offset().value(), header.more_fragments()) {
        (0, false) => Fragment::No,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
    let protocol = header.protocol().0;
    let transport = read_transport(protocol, Ethertype::Ipv4, fragment, carried);
    Some(IpPacket { src, dst, protocol, fragment, transport })
}

fn read_ipv6(bytes: &[u8]) -> Option<IpPacket> {
    let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
    let begin = header.slice().len();
    let mut carried = bytes.get(begin..begin + usize::from(header.payload_length()))?;
    let mut protocol = header.next_header().0;
    let mut fragment = Fragment::No;
    for _ in 0..MOST_EXTENSIONS {
        // RFC 8200, section 4.1: next header, then the length in units of eight without the first; that of the
        // authentication header counts in fours without the first two (RFC 4302, section 2.2).
        let length = match (protocol, carried.get(1)) {
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS, Some(units)) => 8 + usize::from(*units) * 8,
            (AUTHENTICATION, Some(units)) => 8 + usize::from(*units) * 4,
            (FRAGMENT, Some(_)) => 8,
            _ => break,
        };
        let (extension, rest) = carried.split_at_checked(length)?;
        if protocol == FRAGMENT {
            let offset = u16::from_be_bytes([extension[2], extension[3]]);
            fragment = match (offset & !7, offset & 1) {
                (0, 0) => Fragment::No,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            };
        }
        protocol = extension[0];
        carried = rest;
        if fragment == Fragment::Later {
            break;
        }
    }
    let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
    let transport = read_transport(protocol, Ethertype::Ipv6, fragment, carried);
    Some(IpPacket { src, dst, protocol, fragment, transport })
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*word), rest))
}
