//! "A frame that a filtered port sends" of the semantics page, step by step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Direction, Ethertype, Port};

use super::Evaluator;
use super::frame::{ARP, Fragment, Frame, IpPacket, Payload, VLAN_TAGS};
use super::judgement::{Basis, DropReason, Judgement};
use super::membership::{has_mac, has_pair};
use super::tracking::Tracking;

impl Evaluator {
    pub(super) fn judge_egress(&self, port: &Port, frame: &Frame, tracking: &Tracking) -> Judgement {
        // "0. A frame that carries a VLAN tag: dropped, `vlan` (VID 0 is stripped and judged untagged)".
        let tagged = matches!(frame.vlan, Some(id) if id != 0);
        if tagged || matches!(frame.payload, Payload::Other(ethertype) if VLAN_TAGS.contains(&ethertype)) {
            return Judgement::drop(DropReason::Vlan);
        }
        // "1. Source MAC is none of the pairs' MACs: dropped, `spoofed-mac`."
        if !has_mac(port, frame.eth_src) {
            return Judgement::drop(DropReason::SpoofedMac);
        }
        match &frame.payload {
            // "2. ARP (IPv4 over Ethernet): accepted when (source MAC, `arp_spa`) is a pair and `arp_sha` is the
            // source MAC, or when it is a probe (`arp_spa` 0.0.0.0, `arp_sha` the source MAC); else dropped,
            // `spoofed-arp`."
            Payload::Arp { sha, spa, .. } => {
                let own = *spa == Ipv4Addr::UNSPECIFIED || has_pair(port, frame.eth_src, IpAddr::V4(*spa));
                match own && *sha == frame.eth_src {
                    true => Judgement::accept(Basis::Arp),
                    false => Judgement::drop(DropReason::SpoofedArp),
                }
            }
            // "RARP: accepted".
            Payload::Rarp => Judgement::accept(Basis::Arp),
            Payload::Ip(packet) => {
                let settled = match packet.ethertype() {
                    Ethertype::Ipv4 => check_ipv4(port, frame, packet),
                    Ethertype::Ipv6 => check_ipv6(port, frame, packet),
                };
                // "6. IPv4 and IPv6 that are left go through the rules, direction egress, remote = destination."
                settled
                    .unwrap_or_else(|| self.judge_by_rules(port, Direction::Egress, frame, packet, tracking))
            }
            // ARP that is not for IPv4 over Ethernet, IP that cannot be read: neither shows a pair.
            Payload::Other(ARP) => Judgement::drop(DropReason::SpoofedArp),
            Payload::Other(ethertype) if is_ip(*ethertype) => Judgement::drop(DropReason::SpoofedIp),
            // "5. Other ethertypes: accepted when listed in `permitted_ethertypes`, else dropped, `ethertype`."
            Payload::Other(ethertype) => self.judge_ethertype(*ethertype),
        }
    }
}

fn is_ip(ethertype: u16) -> bool {
    ethertype == Ethertype::Ipv4.number() || ethertype == Ethertype::Ipv6.number()
}

/// Step 3; none is a packet that is left for the rules.
fn check_ipv4(port: &Port, frame: &Frame, packet: &IpPacket) -> Option<Judgement> {
    let from_pair = has_pair(port, frame.eth_src, packet.src);
    match packet.udp_ports() {
        // "DHCP client (UDP 68→67) with (MAC, source) a pair or source 0.0.0.0: accepted."
        Some((68, 67)) if from_pair || packet.src == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            Some(Judgement::accept(Basis::Dhcp))
        }
        // "Any other UDP 67→68: dropped, `dhcp-server`."
        Some((67, 68)) => Some(Judgement::drop(DropReason::DhcpServer)),
        // "Other frames whose (MAC, source) is no pair: dropped, `spoofed-ip`."
        _ => (!from_pair).then(|| Judgement::drop(DropReason::SpoofedIp)),
    }
}

/// Step 4, "checked in this order"; none is a packet that is left for the rules.
fn check_ipv6(port: &Port, frame: &Frame, packet: &IpPacket) -> Option<Judgement> {
    let from_pair = has_pair(port, frame.eth_src, packet.src);
    let from_pair_or_none = from_pair || packet.src == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let fragmented = packet.fragment != Fragment::No;
    if let Some(reason) = ends_early(packet) {
        return Some(Judgement::drop(reason));
    }
    match (packet.udp_ports(), packet.icmp()) {
        // "DHCPv6 client (UDP 546→547) from a pair: accepted."
        (Some((546, 547)), _) if from_pair => Some(Judgement::accept(Basis::Dhcp)),
        // "UDP 547→546: dropped, `dhcp-server`."
        (Some((547, 546)), _) => Some(Judgement::drop(DropReason::DhcpServer)),
        // "Router advertisement (ICMPv6 134): dropped, `router-advertisement`."
        (_, Some((134, _))) => Some(Judgement::drop(DropReason::RouterAdvertisement)),
        // "a fragmented ND, RS or RA is dropped: RFC 6980, RFC 7113".
        (_, Some((133 | 135 | 136, _))) if fragmented => Some(Judgement::drop(DropReason::SpoofedNd)),
        // "Neighbour advertisement (136): accepted when its code is 0 and `nd_target` lies in a pair of that MAC,
        // else dropped, `spoofed-nd`."
        (_, Some((136, code))) => {
            let target = packet.nd_target().map(IpAddr::V6);
            let own = target.is_some_and(|target| has_pair(port, frame.eth_src, target));
            match code == 0 && own {
                true => Some(Judgement::accept(Basis::NeighbourDiscovery)),
                false => Some(Judgement::drop(DropReason::SpoofedNd)),
            }
        }
        // "Neighbour solicitation (135), router solicitation (133), MLD (130, 131, 132, 143): accepted when the
        // source is a pair of that MAC, or `::`."
        (_, Some((130..=133 | 135 | 143, _))) if from_pair_or_none => {
            Some(Judgement::accept(Basis::NeighbourDiscovery))
        }
        // "Source no pair: dropped, `spoofed-ip`."
        _ => (!from_pair).then(|| Judgement::drop(DropReason::SpoofedIp)),
    }
}

/// "(a fragmented ND, RS or RA is dropped: RFC 6980, RFC 7113)": section 3 of RFC 7113 drops first fragments whose
/// header chain ends before the upper layer too, since discovery could stand there (docs/decisions/0005). A chain
/// that ends inside an unfragmented packet has no upper-layer protocol: 0, which no chain can otherwise end with.
fn ends_early(packet: &IpPacket) -> Option<DropReason> {
    let first = packet.fragment == Fragment::First;
    match packet.protocol {
        0 => Some(DropReason::SpoofedNd),
        // A switch cannot tell a header it does not see from one of zeros; nobody sends either.
        58 if first && matches!(packet.icmp(), None | Some((0, 0))) => Some(DropReason::SpoofedNd),
        17 if first && matches!(packet.udp_ports(), None | Some((0, 0))) => Some(DropReason::DhcpServer),
        _ => None,
    }
}
