//! The evaluator's frames as packets, so that both can be asked about the same.

use policy::evaluator::{Detail, Fragment, Frame, IpPacket, Payload, Transport};
use policy::{Ethertype, MacAddr, PortProtocol};
use rust_openflow::{FRAG_ANY, FRAG_LATER, Field, PortNo};

use crate::conntrack::{Tuple, number};
use crate::packet::{Packet, Tag};

const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
/// The VLAN of a tag of which the frame tells nothing but the kind.
const SOME_VID: u16 = 1;
/// What ovs-fields(7) 3.1, "IPv4/v6 Protocol", gives as the protocol of later IPv6 fragments.
const IPV6_FRAGMENT: u8 = 44;

impl Packet {
    /// A frame as Open vSwitch parses it, coming in at a port.
    ///
    /// What the frame says to be IP or ARP and cannot be read has that ethertype and no further fields. Of two tags the
    /// switch looks into the outer one, and takes the inner one's identifier for the ethertype (`vlan-limit` 1,
    /// ovs-vswitchd.conf.db(5)). Of a service tag without a customer tag around it the frame tells neither the VLAN
    /// nor what is in it: here they are 1 and ethertype 0.
    #[must_use]
    pub fn of_frame(in_port: PortNo, frame: &Frame) -> Self {
        let mut packet = Packet::new(in_port)
            .with(Field::EthSrc, mac(frame.eth_src))
            .with(Field::EthDst, mac(frame.eth_dst));
        if let Some(vid) = frame.vlan {
            packet.push_tag(Tag::new(CUSTOMER_TAG, vid));
        }
        match &frame.payload {
            Payload::Arp { op, sha, spa, tha, tpa } => packet
                .with(Field::EthType, ARP)
                .with(Field::ArpOp, *op)
                .with(Field::ArpSha, mac(*sha))
                .with(Field::ArpSpa, spa.to_bits())
                .with(Field::ArpTha, mac(*tha))
                .with(Field::ArpTpa, tpa.to_bits()),
            Payload::Rarp => packet.with(Field::EthType, RARP),
            Payload::Ip(ip) => with_ip(packet, ip),
            Payload::Other(tpid @ (CUSTOMER_TAG | SERVICE_TAG)) if frame.vlan.is_none() => {
                packet.with_tag(Tag::new(*tpid, SOME_VID))
            }
            Payload::Other(ethertype) => packet.with(Field::EthType, *ethertype),
        }
    }
}

fn mac(address: MacAddr) -> u128 {
    u128::from(address.to_u64())
}

fn with_ip(packet: Packet, ip: &IpPacket) -> Packet {
    let ethertype = ip.ethertype();
    let (src, dst) = match ethertype {
        Ethertype::Ipv4 => (Field::Ipv4Src, Field::Ipv4Dst),
        Ethertype::Ipv6 => (Field::Ipv6Src, Field::Ipv6Dst),
    };
    let fragment = match ip.fragment {
        Fragment::No => 0,
        Fragment::First => FRAG_ANY,
        Fragment::Later => FRAG_ANY | FRAG_LATER,
    };
    let protocol = match (ip.fragment, ethertype) {
        (Fragment::Later, Ethertype::Ipv6) => IPV6_FRAGMENT,
        _ => ip.protocol,
    };
    let packet = packet
        .with(Field::EthType, ethertype.number())
        .with(src, number(ip.src))
        .with(dst, number(ip.dst))
        .with(Field::IpFrag, fragment)
        .with(Field::IpProto, protocol);
    if ip.fragment == Fragment::Later { packet } else { with_transport(packet, ethertype, ip) }
}

fn with_transport(packet: Packet, ethertype: Ethertype, ip: &IpPacket) -> Packet {
    match ip.transport {
        Transport::Ports { src, dst, tcp_flags } => {
            let with =
                |[src_field, dst_field]: [Field; 2]| packet.clone().with(src_field, src).with(dst_field, dst);
            match PortProtocol::from_number(ip.protocol) {
                Some(PortProtocol::Tcp) => {
                    with([Field::TcpSrc, Field::TcpDst]).with(Field::TcpFlags, tcp_flags)
                }
                Some(PortProtocol::Udp) => with([Field::UdpSrc, Field::UdpDst]),
                Some(PortProtocol::Sctp) => with([Field::SctpSrc, Field::SctpDst]),
                // Open vSwitch does not look into the others.
                _ => packet,
            }
        }
        Transport::Icmp { icmp_type, code, nd_target, quoted } if ip.protocol == ethertype.icmp() => {
            let (type_field, code_field) = match ethertype {
                Ethertype::Ipv4 => (Field::Icmpv4Type, Field::Icmpv4Code),
                Ethertype::Ipv6 => (Field::Icmpv6Type, Field::Icmpv6Code),
            };
            let packet = packet.with(type_field, icmp_type).with(code_field, code);
            // Only a discovery message of code 0 is looked into (RFC 4861, section 4.3 and 4.4).
            let target = nd_target.filter(|_| matches!((icmp_type, code), (135 | 136, 0)));
            let packet = match target {
                Some(target) => packet.with(Field::NdTarget, target.to_bits()),
                None => packet,
            };
            packet.with_quoted(quoted.map(Tuple::from))
        }
        Transport::Icmp { .. } | Transport::None => packet,
    }
}

impl From<policy::evaluator::Tuple> for Tuple {
    /// A tuple as a tracker in userspace keeps it: SCTP and what is not looked into without ports.
    fn from(tuple: policy::evaluator::Tuple) -> Self {
        let tracks_ports = [PortProtocol::Tcp.number(), PortProtocol::Udp.number()].contains(&tuple.protocol);
        let (src_port, dst_port) = match tuple.detail {
            Detail::Ports { src, dst } if tracks_ports => (src, dst),
            Detail::Icmp { icmp_type, code } => (u16::from(icmp_type), u16::from(code)),
            Detail::Ports { .. } | Detail::None => (0, 0),
        };
        Tuple { src: tuple.src, dst: tuple.dst, protocol: tuple.protocol, src_port, dst_port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(fragment: Fragment) -> IpPacket {
        IpPacket {
            src: "2001:db8::1".parse().unwrap(),
            dst: "2001:db8::2".parse().unwrap(),
            protocol: 17,
            fragment,
            transport: Transport::Ports { src: 1, dst: 2, tcp_flags: 0 },
        }
    }

    fn packet(vlan: Option<u16>, payload: Payload) -> Packet {
        let frame = Frame { eth_src: MacAddr([2; 6]), eth_dst: MacAddr::BROADCAST, vlan, payload };
        Packet::of_frame(PortNo(3), &frame)
    }

    #[test]
    fn later_fragments_show_no_more_than_the_switch_sees() {
        let whole = packet(None, Payload::Ip(ip(Fragment::No)));
        assert_eq!((whole.get(Field::IpProto), whole.get(Field::UdpDst)), (17, 2));
        let later = packet(None, Payload::Ip(ip(Fragment::Later)));
        assert_eq!((later.get(Field::IpProto), later.get(Field::UdpDst)), (44, 0));
        assert_eq!(later.get(Field::IpFrag), 3);
    }

    #[test]
    fn tags_are_where_the_switch_sees_them() {
        let tagged = packet(Some(5), Payload::Rarp);
        assert_eq!((tagged.get(Field::VlanVid), tagged.get(Field::EthType)), (0x1005, 0x8035));
        let service = packet(None, Payload::Other(0x88a8));
        assert_eq!((service.tags(), service.get(Field::EthType)), (&[Tag::new(0x88a8, 1)][..], 0));
        let double = packet(Some(5), Payload::Other(0x88a8));
        assert_eq!((double.tags().len(), double.get(Field::EthType)), (1, 0x88a8));
    }
}
