//! A model of connection tracking: one zone, as Open vSwitch 3.1 keeps it in userspace.
//!
//! It tells what verdicts depend on and no more: connections do not time out or close, TCP sequence numbers are not
//! looked at, ICMP queries between two stations are one connection whatever their identifiers, and fragments arrive in
//! order and are as large as the tracker demands.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Direction, Ethertype, PortProtocol};

use super::Datapath;
use super::frame::{Detail, Fragment, Frame, IpPacket, Payload, Transport, Tuple};
use super::judgement::{DropReason, Judgement, Verdict};
use super::tracking::{Connection, Tracking};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// The connections of one port.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    datapath: Datapath,
    /// The way of the first packet, by its tuple.
    connections: BTreeMap<Tuple, Direction>,
    /// The tuple of the datagram whose parts come in, by what every part shows.
    datagrams: BTreeMap<(IpAddr, IpAddr), Tuple>,
}

impl Zone {
    /// A zone without connections.
    pub fn new(datapath: Datapath) -> Self {
        Self { datapath, ..Self::default() }
    }

    /// What the zone says of a frame.
    pub fn look_up(&self, frame: &Frame) -> Tracking {
        let Payload::Ip(packet) = &frame.payload else { return Tracking::Invalid };
        if let Some(quoted) = quoted_by_error(packet) {
            return self.related(packet, self.key(quoted));
        }
        let tuple = match packet.fragment {
            Fragment::Later => match self.datagrams.get(&(packet.src, packet.dst)) {
                Some(tuple) => *tuple,
                // Nothing to reassemble it with.
                None => return Tracking::Invalid,
            },
            Fragment::No | Fragment::First => self.key(packet.tuple()),
        };
        if !is_sound(packet) {
            return Tracking::Invalid;
        }
        match self.find(tuple) {
            Some(connection) => Tracking::Connection(connection),
            None if begins(packet, &tuple) => Tracking::New(tuple),
            None => Tracking::Invalid,
        }
    }

    /// Takes note of a frame that was judged by what [`Zone::look_up`] said: "A *new* connection is accepted, and
    /// committed in that zone" (semantics, "Rules and connections").
    pub fn note(&mut self, direction: Direction, frame: &Frame, tracking: &Tracking, judgement: &Judgement) {
        if let (Tracking::New(tuple), true, true) = (tracking, judgement.tracked, judgement.accepted()) {
            self.connections.entry(*tuple).or_insert(direction);
        }
        // Only what came to the tracker can be reassembled: not what a stateless rule let pass.
        let seen = judgement.tracked
            || matches!(judgement.verdict, Verdict::Drop(DropReason::NoRule | DropReason::Revoked));
        if let Payload::Ip(packet @ IpPacket { fragment: Fragment::First, .. }) = &frame.payload
            && seen
        {
            self.datagrams.insert((packet.src, packet.dst), self.key(packet.tuple()));
        }
    }

    /// "SCTP … the datapath tracks it without ports (userspace)", and the others that it does not know.
    fn key(&self, tuple: Tuple) -> Tuple {
        let is_known = match PortProtocol::from_number(tuple.protocol) {
            Some(PortProtocol::Sctp | PortProtocol::Dccp | PortProtocol::UdpLite) => {
                self.datapath.tracks_sctp_ports
            }
            _ => true,
        };
        if is_known { tuple } else { Tuple { detail: Detail::None, ..tuple } }
    }

    /// The connection that a packet of this tuple belongs to.
    fn find(&self, tuple: Tuple) -> Option<Connection> {
        let in_original = self.connections.get(&tuple).map(|original| (tuple, *original, false));
        let in_reply = || {
            let first = reply_to(tuple)?;
            self.connections.get(&first).map(|original| (first, *original, true))
        };
        let (tuple, original, reply) = in_original.or_else(in_reply)?;
        Some(Connection { original, tuple, reply, related: false })
    }

    /// An ICMP error belongs to the connection of the packet that it quotes, and goes the other way than that. One
    /// that goes to another than the quoted packet's sender, or of no known connection, is invalid.
    fn related(&self, packet: &IpPacket, quoted: Tuple) -> Tracking {
        match self.find(quoted) {
            Some(connection) if quoted.src == packet.dst => {
                Tracking::Connection(Connection { reply: !connection.reply, related: true, ..connection })
            }
            _ => Tracking::Invalid,
        }
    }
}

/// The tuple of the first packet of the connection, if this is the tuple of a reply: an ICMP reply answers its own
/// query only.
fn reply_to(tuple: Tuple) -> Option<Tuple> {
    let reversed = tuple.reversed();
    match tuple.detail {
        Detail::Icmp { icmp_type, code } => {
            let (query, _) = *queries(tuple.src).iter().find(|(_, reply)| *reply == icmp_type)?;
            Some(Tuple { detail: Detail::Icmp { icmp_type: query, code }, ..reversed })
        }
        _ => Some(reversed),
    }
}

/// Types of queries that conntrack tracks, each with its reply: echo, timestamp and information request (RFC 792);
/// ICMPv6 echo (RFC 4443).
fn queries(family: IpAddr) -> &'static [(u8, u8)] {
    if family.is_ipv4() { &[(8, 0), (13, 14), (15, 16)] } else { &[(128, 129)] }
}

/// The packet that an ICMP error quotes. Errors are destination unreachable, source quench, redirect, time exceeded
/// and parameter problem (RFC 792), and ICMPv6 types 1 to 4 (RFC 4443).
fn quoted_by_error(packet: &IpPacket) -> Option<Tuple> {
    match (packet.ethertype(), packet.icmp(), packet.transport) {
        (Ethertype::Ipv4, Some((3 | 4 | 5 | 11 | 12, _)), Transport::Icmp { quoted, .. })
        | (Ethertype::Ipv6, Some((1..=4, _)), Transport::Icmp { quoted, .. }) => quoted,
        _ => None,
    }
}

/// Whether a packet can belong to any connection: neither port of TCP or UDP is 0 ("Conntrack itself calls a tracked
/// TCP or UDP frame with port 0 invalid"; semantics, "Objects"), TCP flags make sense together, and an ICMP query or
/// reply has no code ("queries with a code").
fn is_sound(packet: &IpPacket) -> bool {
    match packet.transport {
        Transport::Ports { src, dst, tcp_flags } => {
            let tcp = packet.protocol == PortProtocol::Tcp.number();
            let with_ports = tcp || packet.protocol == PortProtocol::Udp.number();
            !(with_ports && (src == 0 || dst == 0)) && (!tcp || is_sound_tcp(tcp_flags))
        }
        Transport::Icmp { code, .. } => packet.icmp().is_none() || code == 0,
        // Without the header that it must have there is nothing to track it by; a later part has none.
        Transport::None => {
            let headed = [PortProtocol::Tcp.number(), PortProtocol::Udp.number(), packet.ethertype().icmp()];
            packet.fragment == Fragment::Later || !headed.contains(&packet.protocol)
        }
    }
}

/// SYN excludes RST and FIN; every other segment carries ACK or RST; FIN, PSH and URG come with ACK only
/// (lib/conntrack-tcp.c of Open vSwitch 3.1 calls all else invalid).
fn is_sound_tcp(flags: u8) -> bool {
    let has = |flag: u8| flags & flag != 0;
    let opened = if has(SYN) { !has(RST) && !has(FIN) } else { has(ACK) || has(RST) };
    opened && (has(ACK) || !(has(FIN) || has(PSH) || has(URG)))
}

/// Whether a packet may begin a connection: not SYN+ACK ("`+inv`: SYN+ACK out of the blue", but mid-stream segments
/// are `+new`), and of ICMP a query only.
fn begins(packet: &IpPacket, tuple: &Tuple) -> bool {
    match (tuple.detail, packet.transport) {
        (detail, _) if tuple.protocol == packet.ethertype().icmp() => {
            let is_query = |icmp_type| queries(tuple.src).iter().any(|(query, _)| *query == icmp_type);
            matches!(detail, Detail::Icmp { icmp_type, .. } if is_query(icmp_type))
        }
        // Other protocols have no flags.
        (_, Transport::Ports { tcp_flags, .. }) => tcp_flags & (SYN | ACK) != SYN | ACK,
        _ => true,
    }
}
