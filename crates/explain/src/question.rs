//! What is asked: a packet of a port, as far as the law looks at it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::evaluator::{Connection, Detail, Fragment, Frame, IpPacket, Payload, Tracking, Transport, Tuple};
use policy::{Direction, Ethertype, MacAddr, Policy, Port, PortId, PortProtocol};
use serde::Serialize;
use thiserror::Error;

/// A packet that a port sends or is to receive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The port.
    pub port: PortId,
    /// Whether it sends the packet or is to receive it.
    pub direction: Direction,
    /// The other end.
    pub peer: IpAddr,
    /// The MAC of the other end; without, that of the port of the policy that has the address, else one of nobody's.
    pub peer_mac: Option<MacAddr>,
    /// The port's end; without, its first address of the family.
    pub own: Option<IpAddr>,
    /// The MAC of the port's end; without, the port's.
    pub own_mac: Option<MacAddr>,
    /// The VLAN id of a tag that the packet carries.
    pub vlan: Option<u16>,
    /// What is in it.
    pub content: Content,
    /// What it is to connection tracking.
    pub state: PacketState,
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// ARP: the sender says that its address is that of the packet's sender.
    Arp,
    /// Neither ARP nor IP: an ethertype.
    Ethertype(u16),
    /// IP, by the number of the protocol above it.
    Ip {
        /// The number.
        protocol: u8,
        /// Ports, or type and code.
        detail: Detail,
        /// The target of a neighbour solicitation or advertisement; without, the packet's source.
        nd_target: Option<Ipv6Addr>,
    },
}

/// What a packet is to connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketState {
    /// The first of a connection.
    #[default]
    New,
    /// A later one of a connection, in the direction of its first.
    Established,
    /// One of a connection whose first packet went the other way.
    Reply,
    /// An ICMP error about a connection whose packets go the other way.
    Related,
    /// None of a connection, and none that can begin one.
    Invalid,
}

/// A question that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum QuestionError {
    /// No such port.
    #[error("port {0}: the policy does not know it")]
    UnknownPort(PortId),
    /// The port has no address to send from.
    #[error("port {port}: it has no {ethertype} address; say which one it uses (--address)")]
    NoAddress {
        /// The port.
        port: PortId,
        /// The family that is asked about.
        ethertype: Ethertype,
    },
    /// Both ends are of one family.
    #[error("port {port}: its end {own} and the other end {peer} are of different families")]
    Families {
        /// The port.
        port: PortId,
        /// Its end.
        own: IpAddr,
        /// The other.
        peer: IpAddr,
    },
    /// ARP is for IPv4.
    #[error("ARP is asked about with IPv4 addresses, and {0} is none")]
    ArpFamily(IpAddr),
}

/// Whose MAC nobody has: locally administered, for an end that the policy does not know.
const SOMEBODY: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
/// The ICMP error that a related packet is: destination unreachable (RFC 792; RFC 4443, section 3.1).
const UNREACHABLE: [(Ethertype, u8); 2] = [(Ethertype::Ipv4, 3), (Ethertype::Ipv6, 1)];
/// Ethertype of RARP (RFC 903).
const RARP: u16 = 0x8035;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

impl Question {
    /// The frame that is asked about, and what the tracker says of it.
    ///
    /// # Errors
    /// The policy does not know the port, or the ends do not go together.
    pub fn frame(&self, policy: &Policy) -> Result<(Frame, Tracking), QuestionError> {
        let port = policy.ports.get(&self.port);
        let port = port.ok_or_else(|| QuestionError::UnknownPort(self.port.clone()))?;
        let own = self.own_address(port)?;
        let own_mac = self.own_mac.unwrap_or(port.mac);
        let peer_mac = self.peer_mac.unwrap_or_else(|| mac_of(policy, port, self.peer));
        let ((eth_src, src), (eth_dst, dst)) = match self.direction {
            Direction::Egress => ((own_mac, own), (peer_mac, self.peer)),
            Direction::Ingress => ((peer_mac, self.peer), (own_mac, own)),
        };
        let payload = match self.content {
            Content::Ethertype(RARP) => Payload::Rarp,
            Content::Ethertype(number) => Payload::Other(number),
            Content::Arp => {
                let v4 = |ip| match ip {
                    IpAddr::V4(ip) => Ok(ip),
                    IpAddr::V6(_) => Err(QuestionError::ArpFamily(ip)),
                };
                Payload::Arp { op: 1, sha: eth_src, spa: v4(src)?, tha: MacAddr([0; 6]), tpa: v4(dst)? }
            }
            Content::Ip { protocol, detail, nd_target } => {
                Payload::Ip(self.packet(src, dst, protocol, detail, nd_target))
            }
        };
        let eth_dst = if self.content == Content::Arp { MacAddr::BROADCAST } else { eth_dst };
        let frame = Frame { eth_src, eth_dst, vlan: self.vlan, payload };
        let tracking = self.tracking(&frame);
        Ok((frame, tracking))
    }

    fn own_address(&self, port: &Port) -> Result<IpAddr, QuestionError> {
        let families = |own| QuestionError::Families { port: port.id.clone(), own, peer: self.peer };
        if let Some(own) = self.own {
            return (own.is_ipv4() == self.peer.is_ipv4()).then_some(own).ok_or_else(|| families(own));
        }
        let pairs = port.allowed_address_pairs.iter().map(|pair| pair.ip.network());
        let mut all = port.fixed_ips.iter().copied().chain(pairs);
        all.find(|own| own.is_ipv4() == self.peer.is_ipv4()).ok_or_else(|| QuestionError::NoAddress {
            port: port.id.clone(),
            ethertype: if self.peer.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 },
        })
    }

    fn packet(
        &self,
        src: IpAddr,
        dst: IpAddr,
        protocol: u8,
        detail: Detail,
        nd_target: Option<Ipv6Addr>,
    ) -> IpPacket {
        let own = Tuple { src, dst, protocol, detail };
        let ethertype = if src.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
        let tcp_flags = match self.state {
            _ if protocol != PortProtocol::Tcp.number() => 0,
            PacketState::New => SYN,
            _ => ACK,
        };
        let mut packet = IpPacket { src, dst, protocol, fragment: Fragment::No, transport: Transport::None };
        packet.transport = match detail {
            _ if self.state == PacketState::Related => {
                packet.protocol = ethertype.icmp();
                let (_, icmp_type) =
                    UNREACHABLE.into_iter().find(|(of, _)| *of == ethertype).unwrap_or((ethertype, 3));
                // It is about a packet that went the other way.
                let quoted = Some(own.reversed());
                Transport::Icmp { icmp_type, code: 1, nd_target: None, quoted }
            }
            Detail::Ports { src, dst } => Transport::Ports { src, dst, tcp_flags },
            Detail::Icmp { icmp_type, code } => {
                let is_discovery = ethertype == Ethertype::Ipv6 && matches!(icmp_type, 135 | 136);
                let source = match src {
                    IpAddr::V6(source) => Some(source),
                    IpAddr::V4(_) => None,
                };
                let nd_target = nd_target.or(source).filter(|_| is_discovery);
                Transport::Icmp { icmp_type, code, nd_target, quoted: None }
            }
            Detail::None => Transport::None,
        };
        packet
    }

    fn tracking(&self, frame: &Frame) -> Tracking {
        let (Payload::Ip(_), Content::Ip { protocol, detail, .. }) = (&frame.payload, self.content) else {
            return Tracking::Invalid;
        };
        let Payload::Ip(packet) = frame.payload else { return Tracking::Invalid };
        // In userspace SCTP is tracked without its ports; whoever judges by them looks at the packet's own.
        let tuple = Tuple { src: packet.src, dst: packet.dst, protocol, detail };
        let same = self.direction;
        let connection = |original, tuple, reply, related| {
            Tracking::Connection(Connection { original, tuple, reply, related })
        };
        match self.state {
            PacketState::New => Tracking::New(tuple),
            PacketState::Established => connection(same, tuple, false, false),
            PacketState::Reply => connection(same.opposite(), asked(tuple.reversed()), true, false),
            PacketState::Related => connection(same.opposite(), tuple.reversed(), true, true),
            PacketState::Invalid => Tracking::Invalid,
        }
    }
}

/// Of an answer's tuple turned round, the question's: a tracker knows the connection by the query (RFC 792, RFC 4443).
fn asked(tuple: Tuple) -> Tuple {
    let Detail::Icmp { icmp_type, code } = tuple.detail else { return tuple };
    let query = match icmp_type {
        0 => 8,
        14 => 13,
        16 => 15,
        129 => 128,
        other => other,
    };
    Tuple { detail: Detail::Icmp { icmp_type: query, code }, ..tuple }
}

/// Who has an address: of several, one of the port's own network.
fn mac_of(policy: &Policy, near: &Port, ip: IpAddr) -> MacAddr {
    if let Some(group) = group_mac(ip) {
        return group;
    }
    let has = |port: &&Port| port.id != near.id && port.fixed_ips.contains(&ip);
    let ports = || policy.ports.values().map(AsRef::as_ref).filter(has);
    let neighbour = ports().find(|port| port.network_id == near.network_id);
    neighbour.or_else(|| ports().next()).map_or(SOMEBODY, |port| port.mac)
}

/// The MAC of a group address (RFC 1112, section 6.4; RFC 2464, section 7).
fn group_mac(ip: IpAddr) -> Option<MacAddr> {
    match ip {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(MacAddr::BROADCAST),
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            Some(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            Some(MacAddr([0x33, 0x33, a, b, c, d]))
        }
        _ => None,
    }
}
