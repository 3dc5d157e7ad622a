//! The flows of one local port: who it is, and what it may send as its own (semantics, "egress").

use ipnet::IpNet;
use policy::{MacAddr, PortId};
use rust_openflow::{Field, Flow, Match};

use crate::address::{Pair, macs, pairs, with_mac, with_net};
use crate::flow::{flow, load, resubmit};
use crate::layout::{FlowKind, classify, deliver, egress_base, egress_ip, egress_source, register};
use crate::names::Name;
use crate::numbers::{OfPort, SetId};
use crate::placement::{Binding, Placement, Role};

/// Ethertypes (IANA, IEEE 802 Numbers).
pub(crate) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const RARP: u16 = 0x8035;
    pub(crate) const IPV6: u16 = 0x86dd;
}

/// Neighbour advertisement (RFC 4861, section 4.4).
pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The bit of `vlan_tci` that says that there is a tag, and the tag's VID (ovs-fields(7), vlan_tci).
pub(crate) const TCI_PRESENT: u16 = 0x1000;
pub(crate) const TCI_VID: u16 = 0x0fff;
pub(crate) const VID_BITS: u16 = 12;

/// Every flow that is the port's alone.
pub(crate) fn port_flows(placement: &Placement) -> Vec<Flow> {
    let mut flows = vec![Name::Port(placement.binding.ofport, placement.id.clone()).flow()];
    match placement.role {
        Role::Filtered(set) => filtered(&mut flows, placement, set),
        Role::Trusted => trusted(&mut flows, &placement.binding),
    }
    flows
}

fn about(ofport: OfPort) -> (FlowKind, u64) {
    (FlowKind::Port, u64::from(ofport.0))
}

fn from(ofport: OfPort) -> Match {
    Match::new().with(Field::InPort, ofport)
}

fn filtered(flows: &mut Vec<Flow>, placement: &Placement, set: SetId) {
    let Binding { ofport, vlan, zone } = placement.binding;
    let actions = vec![
        load(register::OFPORT, ofport),
        load(register::VLAN, vlan),
        load(register::SET, set),
        load(register::ZONE, zone),
        resubmit(egress_base::TABLE),
    ];
    flows.push(flow(about(ofport), classify::TABLE, classify::PORT, from(ofport), actions));
    for mac in macs(&placement.port) {
        flows.extend(mac_flows(ofport, mac));
    }
    for pair in pairs(&placement.port) {
        flows.extend(pair_flows(ofport, &pair));
    }
}

/// The MAC may send; it may probe for an address (semantics, egress 1 and 2).
fn mac_flows(ofport: OfPort, mac: MacAddr) -> [Flow; 2] {
    let sender = with_mac(from(ofport), Field::EthSrc, mac);
    let probe = with_mac(
        sender.clone().with(Field::EthType, ethertype::ARP).with(Field::ArpSpa, 0u8),
        Field::ArpSha,
        mac,
    );
    [
        flow(
            about(ofport),
            egress_base::TABLE,
            egress_base::MAC,
            sender,
            vec![resubmit(egress_source::TABLE)],
        ),
        flow(about(ofport), egress_source::TABLE, egress_source::PAIR, probe, vec![resubmit(deliver::TABLE)]),
    ]
}

/// The MAC may send from the prefix, and say by ARP or neighbour advertisement that it has it (egress 2 to 4).
fn pair_flows(ofport: OfPort, pair: &Pair) -> [Flow; 2] {
    let sender = with_mac(from(ofport), Field::EthSrc, pair.mac);
    let table = egress_source::TABLE;
    let (says, priority, sends) = match pair.net {
        IpNet::V4(_) => {
            let arp = with_mac(sender.clone().with(Field::EthType, ethertype::ARP), Field::ArpSha, pair.mac);
            let arp = with_net(arp, &pair.net, Field::ArpSpa, Field::ArpSpa);
            (arp, egress_source::PAIR, sender.with(Field::EthType, ethertype::IPV4))
        }
        IpNet::V6(_) => {
            let ipv6 = sender.with(Field::EthType, ethertype::IPV6);
            let advertisement = icmpv6(ipv6.clone(), NEIGHBOUR_ADVERTISEMENT).with(Field::Icmpv6Code, 0u8);
            let advertisement = with_net(advertisement, &pair.net, Field::NdTarget, Field::NdTarget);
            (advertisement, egress_source::ND_TARGET, ipv6)
        }
    };
    let sends = with_net(sends, &pair.net, Field::Ipv4Src, Field::Ipv6Src);
    [
        flow(about(ofport), table, priority, says, vec![resubmit(deliver::TABLE)]),
        flow(about(ofport), table, egress_source::PAIR, sends, vec![resubmit(egress_ip::TABLE)]),
    ]
}

pub(crate) fn icmpv6(ipv6: Match, icmp_type: u8) -> Match {
    ipv6.with(Field::IpProto, 58u8).with(Field::Icmpv6Type, icmp_type)
}

/// A trusted port sends everything.
fn trusted(flows: &mut Vec<Flow>, binding: &Binding) {
    let Binding { ofport, vlan, .. } = *binding;
    let enter = vec![load(register::OFPORT, ofport), load(register::VLAN, vlan), resubmit(deliver::TABLE)];
    flows.push(flow(about(ofport), classify::TABLE, classify::PORT, from(ofport), enter));
}

/// The name of a port that is bound and has no policy: closed, but known to whoever reads a dump.
pub(crate) fn closed_port_flows(id: &PortId, ofport: OfPort) -> Vec<Flow> {
    vec![Name::Port(ofport, id.clone()).flow()]
}
