//! Random frames, biased to what a world's policies speak of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::evaluator::{Fragment, Frame, IpPacket, Payload, Transport};
use policy::{Ethertype, MacAddr, PortProtocol};
use proptest::prelude::*;
use proptest::sample::select;

use super::policies::{LOCAL_PORTS, PORTS, SHARED_MAC, mac_of, v4, v6};

/// Who sends a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sender {
    Local(usize),
    /// Another host, through the trunk, on the network of this number.
    Network(usize),
}

/// A frame and its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) from: Sender,
    pub(crate) frame: Frame,
}

impl Sent {
    /// What the receiver answers; none where there is nothing to say.
    pub(crate) fn reply(&self) -> Option<Sent> {
        let packet = self.ip()?;
        let transport = match packet.transport {
            Transport::Ports { src, dst, tcp_flags } => {
                let tcp_flags = if tcp_flags == SYN { SYN | ACK } else { tcp_flags };
                Transport::Ports { src: dst, dst: src, tcp_flags }
            }
            Transport::Icmp { icmp_type, code, .. } => {
                let (_, reply) = *QUERIES.iter().find(|(query, _)| *query == icmp_type)?;
                Transport::Icmp { icmp_type: reply, code, nd_target: None, quoted: None }
            }
            Transport::None => Transport::None,
        };
        Some(self.back(IpPacket { src: packet.dst, dst: packet.src, transport, ..packet }))
    }

    /// The ICMP error that the receiver sends about the frame: destination unreachable.
    pub(crate) fn error(&self) -> Option<Sent> {
        let packet = self.ip().filter(|packet| packet.fragment == Fragment::No)?;
        let icmp_type = if packet.src.is_ipv4() { 3 } else { 1 };
        let quoted = Some(packet.tuple());
        let transport = Transport::Icmp { icmp_type, code: 1, nd_target: None, quoted };
        let protocol = packet.ethertype().icmp();
        Some(self.back(IpPacket { src: packet.dst, dst: packet.src, protocol, transport, ..packet }))
    }

    /// The frame again, with TCP gone past its handshake.
    pub(crate) fn again(&self) -> Sent {
        let mut sent = *self;
        if let Payload::Ip(IpPacket { transport: Transport::Ports { tcp_flags, .. }, protocol: 6, .. }) =
            &mut sent.frame.payload
        {
            *tcp_flags = ACK;
        }
        sent
    }

    /// The first part of a datagram between the same ends, UDP for UDP.
    pub(crate) fn first_part(&self) -> Option<Sent> {
        let mut sent = *self;
        match &mut sent.frame.payload {
            Payload::Ip(packet) if packet.protocol == PortProtocol::Udp.number() => {
                packet.fragment = Fragment::First;
            }
            _ => return None,
        }
        Some(sent)
    }

    /// The frame again, from or to another station.
    pub(crate) fn with_macs(&self, src: Option<MacAddr>, dst: Option<MacAddr>) -> Sent {
        let mut sent = self.again();
        sent.frame.eth_src = src.unwrap_or(sent.frame.eth_src);
        sent.frame.eth_dst = dst.unwrap_or(sent.frame.eth_dst);
        sent
    }

    pub(crate) fn ip(&self) -> Option<IpPacket> {
        match self.frame.payload {
            Payload::Ip(packet) => Some(packet),
            _ => None,
        }
    }

    fn back(&self, packet: IpPacket) -> Sent {
        let receiver = (0..LOCAL_PORTS).find(|n| mac_of(*n) == self.frame.eth_dst);
        let from = match (receiver, self.from) {
            (Some(receiver), _) => Sender::Local(receiver),
            (None, Sender::Local(port)) => Sender::Network(super::policies::network_of(port)),
            (None, network) => network,
        };
        let Frame { eth_src, eth_dst, .. } = self.frame;
        let frame = Frame { eth_src: eth_dst, eth_dst: eth_src, vlan: None, payload: Payload::Ip(packet) };
        Sent { from, frame }
    }
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const QUERIES: [(u8, u8); 4] = [(8, 0), (13, 14), (15, 16), (128, 129)];

pub(crate) fn macs() -> Vec<MacAddr> {
    let ports = (0..PORTS).map(mac_of);
    let others =
        [SHARED_MAC, MacAddr([2, 0, 0, 0, 0, 0x77]), MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])];
    ports.chain(others).collect()
}

fn addresses(ethertype: Ethertype) -> Vec<IpAddr> {
    let (own, others): (fn(usize) -> IpAddr, &[&str]) = match ethertype {
        Ethertype::Ipv4 => (v4, &["10.0.1.1", "203.0.113.9", "0.0.0.0", "224.0.0.5", "9.9.9.9", "192.0.2.1"]),
        Ethertype::Ipv6 => (v6, &["2001:db8:1::1", "2001:db8:9::9", "::", "ff02::1", "fe80::1", "fd00::1"]),
    };
    let link_local = (0..PORTS).map(|n| IpAddr::V6(mac_of(n).link_local()));
    let link_local = link_local.filter(|_| ethertype == Ethertype::Ipv6);
    (0..PORTS).map(own).chain(others.iter().map(|text| text.parse().unwrap())).chain(link_local).collect()
}

/// The ends of a frame, before what it carries: ports by number.
#[derive(Clone, Copy, Debug)]
struct Ends {
    from: Sender,
    src: usize,
    dst: usize,
    src_mac: Option<MacAddr>,
    dst_mac: Option<MacAddr>,
}

fn ends() -> BoxedStrategy<Ends> {
    let from = prop_oneof![
        4 => (0..LOCAL_PORTS).prop_map(Sender::Local),
        1 => (0..2usize).prop_map(Sender::Network),
    ];
    let other_mac = || prop_oneof![5 => Just(None), 1 => select(macs()).prop_map(Some)];
    (from, 0..PORTS, 0..PORTS, other_mac(), other_mac())
        .prop_map(|(from, src, dst, src_mac, dst_mac)| {
            let src = match from {
                Sender::Local(port) => port,
                Sender::Network(_) => src,
            };
            Ends { from, src, dst, src_mac, dst_mac }
        })
        .boxed()
}

fn ethertype() -> BoxedStrategy<Ethertype> {
    prop_oneof![3 => Just(Ethertype::Ipv4), 2 => Just(Ethertype::Ipv6)].boxed()
}

/// Protocol and the header above IP.
fn transport(ethertype: Ethertype) -> BoxedStrategy<(u8, Transport)> {
    let port =
        || prop_oneof![6 => select(vec![80u16, 443, 1024, 40000, 22]), 1 => Just(0), 1 => any::<u16>()];
    let tcp_flags = prop_oneof![4 => Just(SYN), 2 => Just(ACK), 1 => Just(SYN | ACK), 1 => 0..64u8];
    let of = |protocol: PortProtocol| protocol.number();
    let dhcp = select(vec![(68u16, 67u16), (67, 68), (546, 547), (547, 546)]);
    let types = match ethertype {
        Ethertype::Ipv4 => vec![8u8, 8, 0, 3, 13, 14, 42, 17, 30],
        Ethertype::Ipv6 => vec![128u8, 128, 129, 1, 133, 134, 135, 136, 130, 131, 132, 143, 139],
    };
    let targets = select(addresses(Ethertype::Ipv6)).prop_map(|target| match target {
        IpAddr::V6(target) => target,
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
    });
    let icmp = (select(types), prop_oneof![4 => Just(0u8), 1 => 0..3u8], targets);
    let number = ethertype.icmp();
    prop_oneof![
        6 => (port(), port(), tcp_flags)
            .prop_map(move |(src, dst, tcp_flags)| (of(PortProtocol::Tcp), Transport::Ports { src, dst, tcp_flags })),
        4 => (port(), port())
            .prop_map(move |(src, dst)| (of(PortProtocol::Udp), Transport::Ports { src, dst, tcp_flags: 0 })),
        2 => (port(), port())
            .prop_map(move |(src, dst)| (of(PortProtocol::Sctp), Transport::Ports { src, dst, tcp_flags: 0 })),
        1 => (port(), port())
            .prop_map(move |(src, dst)| (of(PortProtocol::Dccp), Transport::Ports { src, dst, tcp_flags: 0 })),
        2 => dhcp.prop_map(move |(src, dst)| (of(PortProtocol::Udp), Transport::Ports { src, dst, tcp_flags: 0 })),
        5 => icmp.prop_map(move |(icmp_type, code, target)| {
            let nd_target = matches!(icmp_type, 135 | 136).then_some(target).filter(|_| number == 58);
            (number, Transport::Icmp { icmp_type, code, nd_target, quoted: None })
        }),
        1 => select(vec![47u8, 50, 112, 17, 58]).prop_map(|protocol| (protocol, Transport::None)),
    ]
    .boxed()
}

fn ip(ends: Ends) -> BoxedStrategy<Payload> {
    let fragment =
        prop_oneof![8 => Just(Fragment::No), 1 => Just(Fragment::First), 1 => Just(Fragment::Later)];
    let address = |ethertype, own: usize| {
        let own = addresses(ethertype)[own];
        prop_oneof![6 => Just(own), 1 => select(addresses(ethertype))]
    };
    ethertype()
        .prop_flat_map(move |ethertype| {
            (
                address(ethertype, ends.src),
                address(ethertype, ends.dst),
                transport(ethertype),
                fragment.clone(),
            )
                .prop_map(|(src, dst, (protocol, transport), fragment)| {
                    let transport = if fragment == Fragment::Later { Transport::None } else { transport };
                    Payload::Ip(IpPacket { src, dst, protocol, fragment, transport })
                })
        })
        .boxed()
}

fn arp(ends: Ends) -> BoxedStrategy<Payload> {
    let sender = prop_oneof![4 => Just(v4(ends.src)), 2 => select(addresses(Ethertype::Ipv4))];
    let sha = prop_oneof![4 => Just(ends.src_mac.unwrap_or(mac_of(ends.src))), 1 => select(macs())];
    (1..3u16, sender, sha)
        .prop_map(move |(op, spa, sha)| {
            let v4_of = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            Payload::Arp { op, sha, spa: v4_of(spa), tha: MacAddr([0; 6]), tpa: v4_of(v4(ends.dst)) }
        })
        .boxed()
}

fn payload(ends: Ends) -> BoxedStrategy<Payload> {
    let other = select(vec![0x88cc, 0x88f7, 0x8100, 0x88a8, 0x0806, 0x1234]);
    prop_oneof![
        16 => ip(ends),
        2 => arp(ends),
        1 => Just(Payload::Rarp),
        1 => other.prop_map(Payload::Other),
    ]
    .boxed()
}

pub(crate) fn sent() -> BoxedStrategy<Sent> {
    let vlan = prop_oneof![24 => Just(None), 1 => Just(Some(0u16)), 1 => Just(Some(20))];
    (ends(), vlan)
        .prop_flat_map(|(ends, vlan)| {
            payload(ends).prop_map(move |payload| {
                let eth_src = ends.src_mac.unwrap_or(mac_of(ends.src));
                let eth_dst = ends.dst_mac.unwrap_or(mac_of(ends.dst));
                Sent { from: ends.from, frame: Frame { eth_src, eth_dst, vlan, payload } }
            })
        })
        .boxed()
}

/// What a later fragment of the datagram shows, whose first fragment `first` is.
pub(crate) fn later_fragment(first: &Sent) -> Option<Sent> {
    let packet = first.ip().filter(|packet| packet.fragment == Fragment::First)?;
    let packet = IpPacket { fragment: Fragment::Later, transport: Transport::None, ..packet };
    Some(Sent { frame: Frame { payload: Payload::Ip(packet), ..first.frame }, ..*first })
}
