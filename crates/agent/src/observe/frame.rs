//! Frames as samples have them: the beginning of one, perhaps cut off.

use std::net::IpAddr;

use etherparse::{
    ArpPacketSlice, EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice,
};
use policy::evaluator::{Fragment, Frame, IpPacket, Payload, Transport};
use policy::{MacAddr, PortProtocol};

/// Ethertype of reverse ARP (RFC 903).
const RARP: u16 = 0x8035;

/// Reads an Ethernet frame as far as it goes; nothing if not even its addresses are there.
pub(super) fn read(bytes: &[u8]) -> Option<Frame> {
    let packet = LaxSlicedPacket::from_ethernet(bytes).ok()?;
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { return None };
    let tag = packet.vlan_ids().first().map(|id| id.value());
    Some(Frame {
        eth_src: MacAddr(ethernet.source()),
        eth_dst: MacAddr(ethernet.destination()),
        vlan: tag,
        payload: payload(&packet, ethernet.ether_type()),
    })
}

fn payload(packet: &LaxSlicedPacket<'_>, outermost: EtherType) -> Payload {
    if let Some(LaxNetSlice::Arp(arp)) = &packet.net {
        let ethertype = if outermost.0 == RARP { EtherType(RARP) } else { EtherType::ARP };
        return if ethertype.0 == RARP { Payload::Rarp } else { self::arp(arp) };
    }
    match ip(packet) {
        Some(packet) => Payload::Ip(packet),
        None => {
            let inner = packet.ether_payload().map_or(outermost, |payload| payload.ether_type);
            if inner.0 == RARP { Payload::Rarp } else { Payload::Other(inner.0) }
        }
    }
}

fn arp(arp: &ArpPacketSlice<'_>) -> Payload {
    let mac = |bytes: &[u8]| <[u8; 6]>::try_from(bytes).ok().map(MacAddr);
    let ip = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Into::into);
    let read = || {
        Some(Payload::Arp {
            op: arp.operation().0,
            sha: mac(arp.sender_hw_addr())?,
            spa: ip(arp.sender_protocol_addr())?,
            tha: mac(arp.target_hw_addr())?,
            tpa: ip(arp.target_protocol_addr())?,
        })
    };
    read().unwrap_or(Payload::Other(EtherType::ARP.0))
}

fn ip(packet: &LaxSlicedPacket<'_>) -> Option<IpPacket> {
    let (src, dst, carried, offset): (IpAddr, IpAddr, _, _) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let offset = header.fragments_offset().value();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload(), offset)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let offset = ip.extensions().clone().into_iter().find_map(|extension| match extension {
                etherparse::Ipv6ExtensionSlice::Fragment(fragment) => {
                    Some(fragment.fragment_offset().value())
                }
                _ => None,
            });
            (header.source_addr().into(), header.destination_addr().into(), ip.payload(), offset.unwrap_or(0))
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let fragment = match (carried.fragmented, offset) {
        (false, _) => Fragment::No,
        (true, 0) => Fragment::First,
        (true, _) => Fragment::Later,
    };
    let transport = match fragment {
        Fragment::Later => Transport::None,
        Fragment::No | Fragment::First => transport(packet, carried.ip_number, carried.payload),
    };
    Some(IpPacket { src, dst, protocol: carried.ip_number.0, fragment, transport })
}

fn transport(packet: &LaxSlicedPacket<'_>, protocol: IpNumber, bytes: &[u8]) -> Transport {
    match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => icmp_of(icmp.type_u8(), icmp.code_u8()),
        Some(TransportSlice::Icmpv6(icmp)) => icmp_of(icmp.type_u8(), icmp.code_u8()),
        // The first fragment of a datagram, what is cut off, and protocols that the library does not read.
        _ => match (PortProtocol::from_number(protocol.0), bytes, protocol) {
            (Some(_), [a, b, c, d, rest @ ..], _) => Transport::Ports {
                src: u16::from_be_bytes([*a, *b]),
                dst: u16::from_be_bytes([*c, *d]),
                tcp_flags: if protocol == IpNumber::TCP { rest.get(9).copied().unwrap_or(0) } else { 0 },
            },
            (None, [icmp_type, code, ..], IpNumber::ICMP | IpNumber::IPV6_ICMP) => icmp_of(*icmp_type, *code),
            _ => Transport::None,
        },
    }
}

fn icmp_of(icmp_type: u8, code: u8) -> Transport {
    Transport::Icmp { icmp_type, code, nd_target: None, quoted: None }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const SRC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const DST: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn text(bytes: &[u8]) -> String {
        read(bytes).expect("an Ethernet frame").to_string()
    }

    #[test]
    fn packets_are_told_by_protocol_and_both_ends() {
        let v4 = || PacketBuilder::ethernet2(SRC, DST).ipv4([10, 0, 0, 9], [10, 0, 0, 5], 64);
        let mut tcp = Vec::new();
        v4().tcp(40_000, 22, 1, 100).syn().write(&mut tcp, &[0; 200]).unwrap();
        assert_eq!(text(&tcp), "tcp 10.0.0.9:40000 -> 10.0.0.5:22");
        // As much as a sample has, and less.
        assert_eq!(text(&tcp[..128]), "tcp 10.0.0.9:40000 -> 10.0.0.5:22");
        assert_eq!(text(&tcp[..38]), "tcp 10.0.0.9:40000 -> 10.0.0.5:22");
        assert_eq!(text(&tcp[..35]), "tcp 10.0.0.9 -> 10.0.0.5");
        let mut echo = Vec::new();
        v4().icmpv4_echo_request(1, 1).write(&mut echo, &[]).unwrap();
        assert_eq!(text(&echo), "icmp type 8 code 0 10.0.0.9 -> 10.0.0.5");
        let v6 = || PacketBuilder::ethernet2(SRC, DST).ipv6([0x20; 16], [0x30; 16], 64);
        let mut udp = Vec::new();
        v6().udp(5353, 53).write(&mut udp, &[1; 100]).unwrap();
        let ends =
            "[2020:2020:2020:2020:2020:2020:2020:2020]:5353 -> [3030:3030:3030:3030:3030:3030:3030:3030]:53";
        assert_eq!(text(&udp), format!("udp {ends}"));
        // SCTP's ports stand where UDP's do (RFC 9260, section 3.1).
        udp[20] = 132;
        assert_eq!(text(&udp), format!("sctp {ends}"));
    }

    #[test]
    fn what_is_no_ip_is_told_by_its_kind() {
        let frame =
            |ethertype: u16, rest: &[u8]| [&DST[..], &SRC[..], &ethertype.to_be_bytes(), rest].concat();
        let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 5];
        assert_eq!(text(&frame(0x0806, &arp)), "arp 10.0.0.9 -> 10.0.0.5");
        assert_eq!(text(&frame(0x0806, &arp[..10])), "ethertype 0x0806");
        assert_eq!(text(&frame(RARP, &arp)), "rarp");
        assert_eq!(text(&frame(0x88cc, &[1, 2])), "ethertype 0x88cc");
        assert_eq!(text(&frame(0x0800, &[0x45])), "ethertype 0x0800");
        let tagged = read(&frame(0x8100, &[0, 7, 0x88, 0xcc])).unwrap();
        assert_eq!((tagged.vlan, tagged.payload), (Some(7), Payload::Other(0x88cc)));
        assert_eq!(read(&[0; 13]), None);
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut fragment = Vec::new();
        let mut header =
            etherparse::Ipv4Header::new(8, 64, IpNumber::UDP, [10, 0, 0, 9], [10, 0, 0, 5]).unwrap();
        header.fragment_offset = 185.try_into().unwrap();
        PacketBuilder::ethernet2(SRC, DST)
            .ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
            .write(&mut fragment, IpNumber::UDP, &[0; 8])
            .unwrap();
        assert_eq!(text(&fragment), "udp 10.0.0.9 -> 10.0.0.5");
        let Payload::Ip(packet) = read(&fragment).unwrap().payload else { panic!("no IP") };
        assert_eq!(packet.fragment, Fragment::Later);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..160)) {
            _ = read(&bytes).map(|frame| frame.to_string());
        }
    }
}
