//! Frames, as far as a verdict depends on them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::document::protocol_name;
use crate::{Ethertype, MacAddr, PortProtocol};

/// Ethertype of ARP (RFC 826), for a [`Payload::Other`] that is no ARP for IPv4 over Ethernet.
pub(super) const ARP: u16 = 0x0806;
/// Ethertypes that announce a VLAN tag: IEEE 802.1Q, customer and service.
pub(super) const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];

/// An Ethernet frame at a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Source address.
    pub eth_src: MacAddr,
    /// Destination address.
    pub eth_dst: MacAddr,
    /// VLAN id of the outermost IEEE 802.1Q tag, as the port itself sees it (not the local VLAN that the switch
    /// gives it); `Some(0)` is a priority tag.
    pub vlan: Option<u16>,
    /// What stands behind the tag. A second tag is [`Payload::Other`] of its ethertype.
    pub payload: Payload,
}

/// What it carries and from whom to whom, in a line: `tcp 10.0.0.9:40000 -> 10.0.0.5:22`.
impl fmt::Display for Frame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = match &self.payload {
            Payload::Arp { spa, tpa, .. } => return write!(out, "arp {spa} -> {tpa}"),
            Payload::Rarp => return out.write_str("rarp"),
            Payload::Other(number) => return write!(out, "ethertype {number:#06x}"),
            Payload::Ip(packet) => packet,
        };
        let (src, dst) = (packet.src, packet.dst);
        write!(out, "{} ", protocol_name(packet.protocol, packet.ethertype()))?;
        match packet.transport {
            Transport::Ports { src: from, dst: to, .. } => {
                write!(out, "{} -> {}", SocketAddr::new(src, from), SocketAddr::new(dst, to))
            }
            Transport::Icmp { icmp_type, code, .. } => {
                write!(out, "type {icmp_type} code {code} {src} -> {dst}")
            }
            Transport::None => write!(out, "{src} -> {dst}"),
        }
    }
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp {
        /// 1 is a request, 2 a reply.
        op: u16,
        /// Sender's hardware address.
        sha: MacAddr,
        /// Sender's protocol address; 0.0.0.0 in a probe (RFC 5227, section 1.1).
        spa: Ipv4Addr,
        /// Target's hardware address.
        tha: MacAddr,
        /// Target's protocol address.
        tpa: Ipv4Addr,
    },
    /// Reverse ARP (RFC 903).
    Rarp,
    /// IPv4 or IPv6.
    Ip(IpPacket),
    /// Any other ethertype; that of ARP or IP for a payload that cannot be read as such.
    Other(u16),
}

/// An IPv4 or IPv6 packet. Both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpPacket {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The protocol above IP, IPv6 extension headers walked over. What a later IPv6 fragment holds, nobody sees:
    /// there this is not looked at (ovs-fields(7) 3.1, "IPv4/v6 Protocol": such fragments have 44).
    pub protocol: u8,
    /// Which part of its datagram this is.
    pub fragment: Fragment,
    /// What can be read of the header above IP; nothing in a later fragment.
    pub transport: Transport,
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// All of it.
    No,
    /// The first of several parts, which holds the transport header.
    First,
    /// Any other part.
    Later,
}

/// The header above IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, UDP, SCTP, DCCP or UDP-Lite.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// The octet of TCP flags, FIN lowest (RFC 9293, section 3.1); 0 in other protocols.
        tcp_flags: u8,
    },
    /// ICMP or ICMPv6, by the packet's protocol.
    Icmp {
        /// Type.
        icmp_type: u8,
        /// Code.
        code: u8,
        /// Target address of a neighbour solicitation or advertisement (RFC 4861, section 4.3 and 4.4).
        nd_target: Option<Ipv6Addr>,
        /// In an error message, the packet that it is about.
        quoted: Option<Tuple>,
    },
    /// None, or none that can be read.
    None,
}

/// What tells connections apart: addresses, protocol and the protocol's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol above IP.
    pub protocol: u8,
    /// Ports, or type and code.
    pub detail: Detail,
}

/// The part of a [`Tuple`] that the protocol gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Detail {
    /// Source and destination port.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// Type and code.
    Icmp {
        /// Type.
        icmp_type: u8,
        /// Code.
        code: u8,
    },
    /// Nothing: a protocol without ports, one whose ports are not tracked, or a part without header.
    None,
}

impl IpPacket {
    /// The family of the packet.
    pub fn ethertype(&self) -> Ethertype {
        if self.src.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 }
    }

    /// The packet's own tuple, as far as it can be read from this part of it.
    pub fn tuple(&self) -> Tuple {
        let detail = match self.transport {
            Transport::Ports { src, dst, .. } => Detail::Ports { src, dst },
            Transport::Icmp { icmp_type, code, .. } => Detail::Icmp { icmp_type, code },
            Transport::None => Detail::None,
        };
        Tuple { src: self.src, dst: self.dst, protocol: self.protocol, detail }
    }

    /// Source and destination port of a UDP packet.
    pub(super) fn udp_ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Ports { src, dst, .. } if self.protocol == PortProtocol::Udp.number() => {
                Some((src, dst))
            }
            _ => None,
        }
    }

    /// Type and code of a packet of its family's ICMP.
    pub(super) fn icmp(&self) -> Option<(u8, u8)> {
        match self.transport {
            Transport::Icmp { icmp_type, code, .. } if self.protocol == self.ethertype().icmp() => {
                Some((icmp_type, code))
            }
            _ => None,
        }
    }

    /// The target of a neighbour solicitation or advertisement.
    pub(super) fn nd_target(&self) -> Option<Ipv6Addr> {
        match self.transport {
            Transport::Icmp { nd_target, .. } => nd_target,
            _ => None,
        }
    }
}

impl Tuple {
    /// The tuple of a packet the other way. ICMP types are left as they are.
    pub fn reversed(self) -> Self {
        let detail = match self.detail {
            Detail::Ports { src, dst } => Detail::Ports { src: dst, dst: src },
            other => other,
        };
        Self { src: self.dst, dst: self.src, protocol: self.protocol, detail }
    }
}
