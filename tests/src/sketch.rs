//! Whole frames: what a verdict depends on, and what else their bytes need.

use std::net::Ipv4Addr;

use policy::MacAddr;
use policy::evaluator::{Fragment, Frame, IpPacket, Payload, Transport};

/// Ethertype of a customer's VLAN tag (IEEE 802.1Q) and of a provider's (IEEE 802.1ad).
pub const CUSTOMER_TAG: u16 = 0x8100;
/// See [`CUSTOMER_TAG`].
pub const SERVICE_TAG: u16 = 0x88a8;

/// A whole frame: what a verdict depends on ([`Sketch::frame`]) and what else its bytes need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sketch {
    /// Source address.
    pub eth_src: MacAddr,
    /// Destination address.
    pub eth_dst: MacAddr,
    /// VLAN tags from the outermost in.
    pub tags: Vec<Tag>,
    /// What stands behind the tags.
    pub body: Body,
}

/// A VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// [`CUSTOMER_TAG`] or [`SERVICE_TAG`].
    pub ethertype: u16,
    /// VLAN id, 0 to 4095.
    pub vid: u16,
}

/// What a frame carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// Reverse ARP.
    Rarp,
    /// IP, or a part of it.
    Ip(Datagram),
    /// Another ethertype, its payload of no meaning.
    Other(u16),
}

/// The fields of ARP (RFC 826).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// 1 is a request, 2 a reply.
    pub op: u16,
    /// Sender's hardware address.
    pub sha: MacAddr,
    /// Sender's protocol address.
    pub spa: Ipv4Addr,
    /// Target's hardware address.
    pub tha: MacAddr,
    /// Target's protocol address.
    pub tpa: Ipv4Addr,
}

/// An IP datagram, of which the frame may carry a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// The whole of it.
    pub packet: IpPacket,
    /// IPv6 extension headers before the protocol's own, by number.
    pub extensions: Vec<u8>,
    /// Identification of the datagram's parts, and identifier of an ICMP echo.
    pub id: u16,
    /// The part that the frame carries; none for all.
    pub part: Option<Part>,
}

/// A part of a datagram, in bytes of what follows the IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where it begins; a multiple of 8.
    pub offset: u16,
    /// Its length; a multiple of 8 unless it is the last.
    pub length: u16,
    /// The length of the whole.
    pub total: u16,
}

impl Sketch {
    /// The frame as the evaluator sees it.
    pub fn frame(&self) -> Frame {
        let (vlan, payload) = match self.tags.as_slice() {
            [] => (None, self.payload()),
            [Tag { ethertype: CUSTOMER_TAG, vid }] => (Some(*vid), self.payload()),
            [Tag { ethertype: CUSTOMER_TAG, vid }, inner, ..] => {
                (Some(*vid), Payload::Other(inner.ethertype))
            }
            [outer, ..] => (None, Payload::Other(outer.ethertype)),
        };
        Frame { eth_src: self.eth_src, eth_dst: self.eth_dst, vlan, payload }
    }

    fn payload(&self) -> Payload {
        match &self.body {
            Body::Arp(Arp { op, sha, spa, tha, tpa }) => {
                Payload::Arp { op: *op, sha: *sha, spa: *spa, tha: *tha, tpa: *tpa }
            }
            Body::Rarp => Payload::Rarp,
            Body::Other(ethertype) => Payload::Other(*ethertype),
            Body::Ip(datagram) => Payload::Ip(datagram.visible()),
        }
    }
}

impl Datagram {
    /// What can be seen of the datagram in its part.
    fn visible(&self) -> IpPacket {
        let fragment = match self.part {
            None => Fragment::No,
            Some(Part { offset: 0, .. }) => Fragment::First,
            Some(_) => Fragment::Later,
        };
        let transport = if fragment == Fragment::Later { Transport::None } else { self.packet.transport };
        IpPacket { fragment, transport, ..self.packet }
    }
}

impl From<&Frame> for Sketch {
    /// Some frame that the evaluator sees as `frame`.
    fn from(frame: &Frame) -> Self {
        let tag = frame.vlan.map(|vid| Tag { ethertype: CUSTOMER_TAG, vid });
        let body = match frame.payload {
            Payload::Arp { op, sha, spa, tha, tpa } => Body::Arp(Arp { op, sha, spa, tha, tpa }),
            Payload::Rarp => Body::Rarp,
            Payload::Other(ethertype) => Body::Other(ethertype),
            Payload::Ip(packet) => Body::Ip(Datagram::from(packet)),
        };
        Self { eth_src: frame.eth_src, eth_dst: frame.eth_dst, tags: tag.into_iter().collect(), body }
    }
}

impl From<IpPacket> for Datagram {
    fn from(packet: IpPacket) -> Self {
        let part = match packet.fragment {
            Fragment::No => None,
            Fragment::First => Some(Part { offset: 0, length: 1400, total: 2000 }),
            Fragment::Later => Some(Part { offset: 1400, length: 600, total: 2000 }),
        };
        let packet = IpPacket { fragment: Fragment::No, ..packet };
        Self { packet, extensions: Vec::new(), id: 1, part }
    }
}
