//! A model of the connection tracker of Open vSwitch 3.1 in userspace, from its states as they were seen.
//!
//! It tells what verdicts depend on and no more. Connections neither time out nor close, sequence numbers are not
//! looked at, ICMP queries between two stations are one connection whatever their identifiers, and the fragments of
//! a datagram come one after the other, the first first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rust_openflow::{CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, FRAG_ANY, FRAG_LATER, Field};

use crate::conntrack::{Conntrack, IPV4, Stamp, Tracked, Tuple, addresses};
use crate::packet::Packet;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The zones of a datapath.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    zones: BTreeMap<u16, Zone>,
}

impl Connections {
    /// Forgets the connections of a zone, as when it is given to another port.
    pub fn flush(&mut self, zone: u16) {
        self.zones.remove(&zone);
    }

    /// The mark of a committed connection, by the tuple of its first packet.
    #[must_use]
    pub fn mark(&self, zone: u16, original: &Tuple) -> Option<u32> {
        self.zones.get(&zone)?.connections.get(original).map(|connection| connection.mark)
    }
}

impl Conntrack for Connections {
    fn ct(&mut self, zone: u16, packet: &Packet, commit: Option<&Stamp>) -> Option<Tracked> {
        let zone = self.zones.entry(zone).or_default();
        match (fragment_of(packet), ends(packet)) {
            (Fragment::Later, Some(ends)) => zone.later_fragment(ends, commit).map(without_ports),
            (Fragment::First, Some(ends)) => {
                let tracked = zone.whole(packet, commit);
                if let Some(tuple) = tuple_of(packet) {
                    zone.first_fragment(ends, tuple, tracked, commit.is_some());
                }
                Some(tracked)
            }
            _ => Some(zone.whole(packet, commit)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Zone {
    /// By the tuple of the first packet.
    connections: BTreeMap<Tuple, Connection>,
    /// The last datagram that came in fragments, by its ends: identifications are not looked at.
    datagrams: BTreeMap<[IpAddr; 2], Datagram>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    mark: u32,
    label: u128,
    is_replied: bool,
}

/// A datagram in fragments: all of it was tracked as one, when it was complete.
#[derive(Clone, Copy, Debug)]
struct Datagram {
    tuple: Tuple,
    tracked: Tracked,
    /// Whether the first fragment has been through `ct(commit)`.
    is_committed: bool,
}

impl Zone {
    /// A packet, or the first fragment, which shows what the whole shows.
    fn whole(&mut self, packet: &Packet, commit: Option<&Stamp>) -> Tracked {
        let is_error = is_error(packet);
        let Some(tuple) = tuple_of(packet).filter(|_| is_sound(packet)) else { return INVALID };
        if is_error {
            return self.related(packet);
        }
        if let Some((original, is_reply)) = self.find(&tuple) {
            return self.part_of(original, is_reply, begins_again(packet), commit);
        }
        if !begins(packet) {
            return INVALID;
        }
        let mut tracked = Tracked { state: CT_NEW | CT_TRK, mark: 0, label: 0, original: Some(tuple) };
        if let Some(stamp) = commit {
            let mut connection = Connection::default();
            connection.stamp(stamp);
            (tracked.mark, tracked.label) = (connection.mark, connection.label);
            self.connections.insert(tuple, connection);
        }
        tracked
    }

    /// A packet of a connection that is committed. Until there was a reply, packets of the original direction stay `+new`
    /// in userspace; of TCP only the repeated SYN (`tests/against_tracker.rs`).
    fn part_of(
        &mut self,
        original: Tuple,
        is_reply: bool,
        begins_again: bool,
        commit: Option<&Stamp>,
    ) -> Tracked {
        let connection = self.connections.entry(original).or_default();
        let mut state = CT_TRK;
        if is_reply {
            connection.is_replied = true;
            state |= CT_EST | CT_RPL;
        } else {
            let is_new = original.protocol != TCP || begins_again;
            state |= if is_new && !connection.is_replied { CT_NEW } else { CT_EST };
        }
        if let Some(stamp) = commit {
            connection.stamp(stamp);
        }
        Tracked { state, mark: connection.mark, label: connection.label, original: Some(original) }
    }

    /// An ICMP error belongs to the connection of the packet that it quotes, and goes the other way; to its sender.
    fn related(&self, packet: &Packet) -> Tracked {
        let to_sender =
            packet.quoted().filter(|quoted| ends(packet).is_some_and(|[_, dst]| dst == quoted.src));
        let found = to_sender.and_then(|quoted| self.find(&quoted));
        let Some((original, quotes_reply)) = found else { return INVALID };
        let connection = self.connections[&original];
        let direction = if quotes_reply { 0 } else { CT_RPL };
        Tracked {
            state: CT_REL | CT_TRK | direction,
            mark: connection.mark,
            label: connection.label,
            original: Some(original),
        }
    }

    fn first_fragment(&mut self, ends: [IpAddr; 2], tuple: Tuple, tracked: Tracked, is_committed: bool) {
        match self.datagrams.get_mut(&ends) {
            Some(datagram) if is_committed => datagram.is_committed = true,
            _ => _ = self.datagrams.insert(ends, Datagram { tuple, tracked, is_committed }),
        }
    }

    /// A later fragment was tracked with its first one; when it is to be committed, the tracker keeps it until the
    /// first one is to be committed too.
    fn later_fragment(&mut self, ends: [IpAddr; 2], commit: Option<&Stamp>) -> Option<Tracked> {
        // A fragment whose first one never came this way is given up after a while, as invalid.
        let Some(datagram) = self.datagrams.get(&ends).copied() else { return Some(INVALID) };
        let Some(stamp) = commit else { return Some(datagram.tracked) };
        let (original, is_reply) = self.find(&datagram.tuple).filter(|_| datagram.is_committed)?;
        let tracked = self.part_of(original, is_reply, false, Some(stamp));
        self.datagrams.insert(ends, Datagram { tracked, ..datagram });
        Some(tracked)
    }

    /// The connection of a packet with this tuple: its first packet's, and whether the packet is a reply.
    fn find(&self, tuple: &Tuple) -> Option<(Tuple, bool)> {
        if self.connections.contains_key(tuple) {
            return Some((*tuple, false));
        }
        let original = replied_to(tuple)?;
        self.connections.contains_key(&original).then_some((original, true))
    }
}

impl Connection {
    fn stamp(&mut self, stamp: &Stamp) {
        if let Some((value, mask)) = stamp.mark {
            self.mark = (self.mark & !mask) | (value & mask);
        }
        if let Some((value, mask)) = stamp.label {
            self.label = (self.label & !mask) | (value & mask);
        }
    }
}

/// What is seen of a later fragment: its flow has no ports, and those of its connection neither (lib/flow.c, 3.1:
/// `miniflow_extract`).
fn without_ports(tracked: Tracked) -> Tracked {
    let original = tracked.original.map(|tuple| Tuple { src_port: 0, dst_port: 0, ..tuple });
    Tracked { original, ..tracked }
}

const INVALID: Tracked = Tracked { state: CT_INV | CT_TRK, mark: 0, label: 0, original: None };

enum Fragment {
    No,
    First,
    Later,
}

fn fragment_of(packet: &Packet) -> Fragment {
    let bits = packet.get(Field::IpFrag);
    if bits & u128::from(FRAG_LATER) != 0 {
        Fragment::Later
    } else if bits & u128::from(FRAG_ANY) != 0 {
        Fragment::First
    } else {
        Fragment::No
    }
}

fn ends(packet: &Packet) -> Option<[IpAddr; 2]> {
    addresses(packet, [Field::Ipv4Src, Field::Ipv4Dst], [Field::Ipv6Src, Field::Ipv6Dst])
}

fn protocol(packet: &Packet) -> u8 {
    u8::try_from(packet.get(Field::IpProto)).unwrap_or(0)
}

/// Type and code of the ICMP of the packet's own family.
fn icmp(packet: &Packet) -> Option<(u16, u16)> {
    match (packet.get(Field::EthType) == IPV4, protocol(packet)) {
        (true, ICMP) => Some((packet.get_u16(Field::Icmpv4Type), packet.get_u16(Field::Icmpv4Code))),
        (false, ICMPV6) => Some((packet.get_u16(Field::Icmpv6Type), packet.get_u16(Field::Icmpv6Code))),
        _ => None,
    }
}

/// The tuple of a packet that is no later fragment; none of what is no IP. SCTP is tracked without its ports.
fn tuple_of(packet: &Packet) -> Option<Tuple> {
    let [src, dst] = ends(packet)?;
    let protocol = protocol(packet);
    let (src_port, dst_port) = match (protocol, icmp(packet)) {
        (TCP, _) => (packet.get_u16(Field::TcpSrc), packet.get_u16(Field::TcpDst)),
        (UDP, _) => (packet.get_u16(Field::UdpSrc), packet.get_u16(Field::UdpDst)),
        (_, Some((icmp_type, code))) => (icmp_type, code),
        _ => (0, 0),
    };
    Some(Tuple { src, dst, protocol, src_port, dst_port })
}

/// Queries that are tracked, each with its reply: echo, timestamp, information (RFC 792); echo (RFC 4443).
fn queries(protocol: u8) -> &'static [(u16, u16)] {
    match protocol {
        ICMP => &[(8, 0), (13, 14), (15, 16)],
        ICMPV6 => &[(128, 129)],
        _ => &[],
    }
}

fn is_icmp(tuple: &Tuple) -> bool {
    tuple.protocol == if tuple.src.is_ipv4() { ICMP } else { ICMPV6 }
}

/// The tuple of the packet that one with this tuple would be a reply to.
fn replied_to(tuple: &Tuple) -> Option<Tuple> {
    let (src_port, dst_port) = if is_icmp(tuple) {
        let (query, _) = queries(tuple.protocol).iter().find(|(_, reply)| *reply == tuple.src_port)?;
        (*query, tuple.dst_port)
    } else {
        (tuple.dst_port, tuple.src_port)
    };
    Some(Tuple { src: tuple.dst, dst: tuple.src, protocol: tuple.protocol, src_port, dst_port })
}

/// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792); RFC 4443's errors.
fn is_error(packet: &Packet) -> bool {
    match (icmp(packet), packet.get(Field::EthType) == IPV4) {
        (Some((icmp_type, _)), true) => matches!(icmp_type, 3 | 4 | 5 | 11 | 12),
        (Some((icmp_type, _)), false) => matches!(icmp_type, 1..=4),
        (None, _) => false,
    }
}

/// Whether a packet can belong to a connection at all: TCP and UDP with ports, TCP with flags that go together, ICMP
/// queries and replies with code 0.
fn is_sound(packet: &Packet) -> bool {
    match (protocol(packet), icmp(packet)) {
        (TCP, _) => {
            let has_ports = packet.get(Field::TcpSrc) != 0 && packet.get(Field::TcpDst) != 0;
            has_ports && are_sound(packet.get_u16(Field::TcpFlags))
        }
        (UDP, _) => packet.get(Field::UdpSrc) != 0 && packet.get(Field::UdpDst) != 0,
        (_, Some((_, code))) => is_error(packet) || code == 0,
        _ => true,
    }
}

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const PSH: u16 = 0x08;
const ACK: u16 = 0x10;
const URG: u16 = 0x20;

/// RFC 9293, section 3.5: a segment either synchronises, or acknowledges, or resets; ends, pushes and urgent data come
/// with an acknowledgement.
fn are_sound(flags: u16) -> bool {
    let any = |wanted: u16| flags & wanted != 0;
    let purpose = if any(SYN) { !any(RST | FIN) } else { any(ACK | RST) };
    purpose && (any(ACK) || !any(FIN | PSH | URG))
}

/// Whether a sound packet may begin a connection: not SYN and ACK together, but other segments from the middle; of ICMP
/// a query only.
fn begins(packet: &Packet) -> bool {
    match (protocol(packet), icmp(packet)) {
        (TCP, _) => packet.get_u16(Field::TcpFlags) & (SYN | ACK) != SYN | ACK,
        (protocol, Some((icmp_type, _))) => queries(protocol).iter().any(|(query, _)| *query == icmp_type),
        _ => true,
    }
}

fn begins_again(packet: &Packet) -> bool {
    protocol(packet) == TCP && packet.get_u16(Field::TcpFlags) & (SYN | ACK) == SYN
}

#[cfg(test)]
mod tests {
    use rust_openflow::PortNo;

    use super::*;

    fn udp(fragment: u8) -> Packet {
        let packet = Packet::new(PortNo(1))
            .with(Field::EthType, 0x0800u16)
            .with(Field::Ipv4Src, 0x0a00_0001u32)
            .with(Field::Ipv4Dst, 0x0a00_0002u32)
            .with(Field::IpProto, UDP)
            .with(Field::IpFrag, fragment);
        if fragment & FRAG_LATER != 0 {
            return packet;
        }
        packet.with(Field::UdpSrc, 1000u16).with(Field::UdpDst, 53u16)
    }

    /// `miniflow_extract` (lib/flow.c, 3.1) reads the ports of a connection only where the packet has some.
    #[test]
    fn a_later_fragment_shows_no_port_of_its_connection() {
        let mut connections = Connections::default();
        let stamp = Stamp { mark: Some((7, u32::MAX)), label: None };
        connections.ct(1, &udp(0), Some(&stamp));
        let ports = |tracked: Tracked| tracked.original.map(|tuple| (tuple.src_port, tuple.dst_port));
        let first = connections.ct(1, &udp(FRAG_ANY), None).unwrap();
        assert_eq!((ports(first), first.mark), (Some((1000, 53)), 7));
        let later = connections.ct(1, &udp(FRAG_ANY | FRAG_LATER), None).unwrap();
        assert_eq!((ports(later), later.mark), (Some((0, 0)), 7));
    }
}
