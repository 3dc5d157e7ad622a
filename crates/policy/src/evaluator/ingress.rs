//! "A frame to a filtered port" of the semantics page, step by step.

use crate::{Direction, Ethertype, Port};

use super::Evaluator;
use super::frame::{ARP, Frame, IpPacket, Payload, VLAN_TAGS};
use super::judgement::{Basis, DropReason, Judgement};
use super::membership::has_mac;
use super::tracking::Tracking;

impl Evaluator {
    pub(super) fn judge_ingress(&self, port: &Port, frame: &Frame, tracking: &Tracking) -> Judgement {
        // "1. Delivered are frames to one of its MACs, and group-addressed or flooded ones." A frame to a station
        // that nobody knows is flooded to the network and to trusted ports only, so that no filtered port sees it.
        if !frame.eth_dst.is_group() && !has_mac(port, frame.eth_dst) {
            return Judgement::drop(DropReason::NotForPort);
        }
        // A tag that is still there is not the port's network's, and makes another ethertype of the frame. The law
        // strips the one of VID 0 where a filtered port sends it, and nowhere else.
        if frame.vlan.is_some() {
            let [tag, _] = VLAN_TAGS;
            return self.judge_ethertype(tag);
        }
        match &frame.payload {
            // "ARP, RARP: accepted."
            Payload::Arp { .. } | Payload::Rarp | Payload::Other(ARP) => Judgement::accept(Basis::Arp),
            Payload::Ip(packet) => match passes_always(packet) {
                Some(basis) => Judgement::accept(basis),
                // "3. IPv4 and IPv6 that are left go through the rules, direction ingress, remote = source."
                None => self.judge_by_rules(port, Direction::Ingress, frame, packet, tracking),
            },
            // IP that cannot be read is nothing that conntrack knows.
            Payload::Other(ethertype)
                if [Ethertype::Ipv4, Ethertype::Ipv6].iter().any(|ip| ip.number() == *ethertype) =>
            {
                Judgement::drop(DropReason::CtInvalid)
            }
            // "Permitted ethertypes: accepted; others: dropped."
            Payload::Other(ethertype) => self.judge_ethertype(*ethertype),
        }
    }
}

/// "2. ICMPv6 130, 131, 132, 134, 135, 136, 143: accepted. DHCP replies (UDP 67→68, 547→546): accepted."
fn passes_always(packet: &IpPacket) -> Option<Basis> {
    match (packet.ethertype(), packet.udp_ports(), packet.icmp()) {
        (Ethertype::Ipv6, _, Some((130..=132 | 134..=136 | 143, _))) => Some(Basis::NeighbourDiscovery),
        (Ethertype::Ipv4, Some((67, 68)), _) | (Ethertype::Ipv6, Some((547, 546)), _) => Some(Basis::Dhcp),
        _ => None,
    }
}
