//! One frame of each class that a world's constants tell apart.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use policy::evaluator::{Fragment, Frame, IpPacket, Payload, Transport};
use policy::{Direction, Ethertype, MacAddr, PortProtocol, Service};

use super::world::{LOCAL, PORTS, RemoteSpec, World, address_of, addresses, mac_of, narrow, wide};

/// Where a frame comes in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum From {
    /// At a local port.
    Port(usize),
    /// From the network.
    Network,
}

/// A frame that begins a connection, or could.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Its sender.
    pub from: From,
    /// The frame.
    pub frame: Frame,
}

/// A station of the network that no port is.
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x77]);
/// Source ports of frames between a port and the network, and between two ports.
const FAR: u16 = 40000;
const NEAR: u16 = 40001;
/// An ICMP and an ICMPv6 type that are no query, no answer and no error.
const MESSAGES: [u8; 2] = [42, 139];
const ECHO: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// One frame of each class, for each local port and each direction alone, and for two ports at once.
///
/// Classes are cut by the constants of all rules of the direction and ethertype, whoever carries them: addresses by the
/// prefixes and groups that the rules name, ports by the ends of ranges (the last one outside, the first inside, and so at
/// the other end), protocols by those that rules name, ICMP by what conntrack makes of it. An address that is the port's own
/// is not tried against it: whoever sends to himself is a case of its own (`verify`'s tests name it).
pub fn probes(world: &World) -> Vec<Probe> {
    let mut probes = Vec::new();
    for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
        for direction in [Direction::Ingress, Direction::Egress] {
            let services = services(world, direction, ethertype);
            for port in 0..LOCAL {
                for other in others(world, port, direction, ethertype) {
                    let alone = |service: &Segment| alone(port, other, direction, *service);
                    probes.extend(services.iter().map(alone));
                }
            }
        }
        let mut services = services(world, Direction::Ingress, ethertype);
        services.extend(self::services(world, Direction::Egress, ethertype));
        for (from, to) in [(0, 1), (1, 0)] {
            let together = |service: &Segment| {
                let ends = [address_of(from, ethertype), address_of(to, ethertype)];
                let frame = frame([mac_of(from), mac_of(to)], ends, *service, NEAR);
                Probe { from: From::Port(from), frame }
            };
            probes.extend(services.iter().map(together));
        }
    }
    probes
}

/// What a frame carries above IP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Segment {
    Tcp(u16),
    Udp,
    Echo,
    /// ICMP that conntrack calls invalid.
    Message,
}

fn services(world: &World, direction: Direction, ethertype: Ethertype) -> BTreeSet<Segment> {
    let mut segments = BTreeSet::from([Segment::Message]);
    for (_, rule) in world.rules() {
        if (rule.direction, rule.ethertype) != (direction, ethertype) {
            continue;
        }
        match rule.service {
            Service::Ports { range: Some(range), .. } => {
                let ports = [range.min - 1, range.min, range.max, range.max + 1];
                segments.extend(ports.map(Segment::Tcp));
                segments.insert(Segment::Udp);
            }
            Service::Icmp { .. } => segments.extend([Segment::Echo, Segment::Udp]),
            _ => {}
        }
    }
    if segments.len() == 1 {
        segments.insert(Segment::Tcp(80));
    }
    segments
}

/// One address of each class, the port's own left out.
fn others(world: &World, port: usize, direction: Direction, ethertype: Ethertype) -> Vec<IpAddr> {
    let strangers = match ethertype {
        Ethertype::Ipv4 => ["10.0.1.2", "10.0.3.1", "10.9.0.1", "192.0.2.1"],
        Ethertype::Ipv6 => ["2001:db8:0:1::2", "2001:db8:0:3::1", "2001:db8:9::1", "2001:db9::1"],
    };
    let strangers = strangers.iter().map(|text| text.parse().expect("an address"));
    let all = (0..PORTS).map(|port| address_of(port, ethertype)).chain(strangers);
    let rules = world.rules();
    let named = rules.iter().filter(|(_, rule)| (rule.direction, rule.ethertype) == (direction, ethertype));
    let named: BTreeSet<(RemoteSpec, usize)> = named.map(|(group, rule)| (rule.remote, *group)).collect();
    let mut classes = BTreeSet::new();
    let mut first_of_class = |address: &IpAddr| {
        let class: Vec<bool> =
            named.iter().flat_map(|(remote, group)| class_by(world, *remote, *group, *address)).collect();
        classes.insert(class)
    };
    let others = all.filter(|address| *address != address_of(port, ethertype));
    others.filter(|address| first_of_class(address)).collect()
}

/// What a remote tells apart of an address: for an address group each of its entries.
fn class_by(world: &World, remote: RemoteSpec, group: usize, address: IpAddr) -> Vec<bool> {
    let ethertype = if address.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
    let within = |text: &str| text.parse::<IpNet>().expect("a prefix").contains(&address);
    let is_member =
        |group| (0..PORTS).any(|port| world.carries(port, group) && address_of(port, ethertype) == address);
    match remote {
        RemoteSpec::Any => Vec::new(),
        RemoteSpec::Wide => vec![within(wide(ethertype))],
        RemoteSpec::Narrow => vec![within(narrow(ethertype))],
        RemoteSpec::Own => vec![is_member(group)],
        RemoteSpec::Other => vec![is_member(1 - group)],
        RemoteSpec::Addresses => addresses(ethertype).map(within).to_vec(),
    }
}

/// A frame between a port and a station of the network.
fn alone(port: usize, other: IpAddr, direction: Direction, segment: Segment) -> Probe {
    let ethertype = if other.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
    let own = address_of(port, ethertype);
    match direction {
        Direction::Egress => Probe {
            from: From::Port(port),
            frame: frame([mac_of(port), STRANGER], [own, other], segment, FAR),
        },
        Direction::Ingress => {
            Probe { from: From::Network, frame: frame([STRANGER, mac_of(port)], [other, own], segment, FAR) }
        }
    }
}

fn frame([eth_src, eth_dst]: [MacAddr; 2], [src, dst]: [IpAddr; 2], segment: Segment, port: u16) -> Frame {
    let family = usize::from(src.is_ipv6());
    let icmp = if src.is_ipv4() { Ethertype::Ipv4.icmp() } else { Ethertype::Ipv6.icmp() };
    let message = |icmp_type| Transport::Icmp { icmp_type, code: 0, nd_target: None, quoted: None };
    let (protocol, transport) = match segment {
        Segment::Tcp(dst) => {
            (PortProtocol::Tcp.number(), Transport::Ports { src: port, dst, tcp_flags: SYN })
        }
        Segment::Udp => (PortProtocol::Udp.number(), Transport::Ports { src: port, dst: 81, tcp_flags: 0 }),
        Segment::Echo => (icmp, message(ECHO[family])),
        Segment::Message => (icmp, message(MESSAGES[family])),
    };
    let packet = IpPacket { src, dst, protocol, fragment: Fragment::No, transport };
    Frame { eth_src, eth_dst, vlan: None, payload: Payload::Ip(packet) }
}

impl Probe {
    /// What comes back; none where there is nothing to say.
    pub fn reply(&self) -> Option<Probe> {
        let Frame { eth_src, eth_dst, payload: Payload::Ip(packet), .. } = self.frame else { return None };
        let transport = match packet.transport {
            Transport::Ports { src, dst, tcp_flags } => {
                let tcp_flags = if tcp_flags == 0 { 0 } else { SYN | ACK };
                Transport::Ports { src: dst, dst: src, tcp_flags }
            }
            Transport::Icmp { icmp_type, code, .. } => {
                let family = ECHO.iter().position(|query| *query == icmp_type)?;
                Transport::Icmp { icmp_type: ECHO_REPLY[family], code, nd_target: None, quoted: None }
            }
            Transport::None => Transport::None,
        };
        let from = (0..LOCAL).find(|port| mac_of(*port) == eth_dst).map_or(From::Network, From::Port);
        let payload = Payload::Ip(IpPacket { src: packet.dst, dst: packet.src, transport, ..packet });
        Some(Probe { from, frame: Frame { eth_src: eth_dst, eth_dst: eth_src, vlan: None, payload } })
    }

    /// The same again, TCP gone past its handshake.
    pub fn again(&self) -> Probe {
        let mut again = *self;
        if let Payload::Ip(IpPacket { transport: Transport::Ports { tcp_flags, .. }, .. }) =
            &mut again.frame.payload
            && *tcp_flags != 0
        {
            *tcp_flags = ACK;
        }
        again
    }
}
