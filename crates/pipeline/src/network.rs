//! Delivery on the networks of the bridge: which ports share a VLAN, which MACs they answer to, what leads out.
//!
//! Every flow here is about several ports at once, so it is kept by what it is about (a chunk, a MAC, a network)
//! and rendered anew when one of its ports changed: at most the 32 ports of a chunk, or those that share a MAC.

use std::collections::{BTreeMap, BTreeSet};

use policy::MacAddr;
use rust_openflow::{Action, Field, Flow, FlowKey, Match, PortNo, Subfield};

use crate::address::{group_addressed, macs, with_mac};
use crate::flow::{Journal, drop_as, flow, load, on_a_copy, resubmit};
use crate::layout::{DropReason, FlowKind, classify, deliver, flood, ingress_base, network, register, trunk};
use crate::numbers::{OfPort, SetId, Vlan, Zone};
use crate::placement::{Placement, Role};
use crate::port_flows::{TCI_PRESENT, TCI_VID, VID_BITS};

/// At most so many copies a flow: each resubmits, and Open vSwitch stops at 4,096 resubmits and at 64 KB a message.
const CHUNK_PORTS: u16 = 32;

/// 802.1Q tag protocol identifier (IEEE 802.1Q, table 9-1).
pub(crate) const TPID_CVLAN: u16 = 0x8100;
/// Service tag of 802.1ad (IEEE 802.1Q, table 9-1).
pub(crate) const TPID_SVLAN: u16 = 0x88a8;

/// A port of the bridge that leads to other hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkPort {
    /// All networks by their tags, the untagged one without.
    Trunk,
    /// One network, untagged.
    Access(Vlan),
}

/// Who answers to a MAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiver {
    Filtered { set: SetId, zone: Zone },
    Trusted,
}

#[derive(Default, Debug)]
struct Network {
    /// Filtered ports by chunk.
    chunks: BTreeMap<u16, BTreeMap<OfPort, SetId>>,
    trusted: BTreeSet<OfPort>,
    /// Trusted ports that have one MAC, which their plugs say: what is to other stations is not for them.
    stations: BTreeSet<OfPort>,
    access: BTreeSet<OfPort>,
    macs: BTreeMap<MacAddr, BTreeMap<OfPort, Receiver>>,
}

/// A flow whose ports changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Dirty {
    Chunk(Vlan, u16),
    GroupAddressed(Vlan),
    Mac(Vlan, MacAddr),
    Network(Vlan),
    Exit(Vlan),
    Trunks,
}

/// All networks of the bridge.
#[derive(Default, Debug)]
pub(crate) struct Networks {
    networks: BTreeMap<Vlan, Network>,
    trunks: BTreeSet<OfPort>,
    dirty: BTreeSet<Dirty>,
}

impl Networks {
    pub(crate) fn place(&mut self, placement: &Placement) {
        let ofport = placement.binding.ofport;
        let vlan = placement.binding.vlan;
        let network = self.networks.entry(vlan).or_default();
        let receiver = match placement.role {
            Role::Filtered(set) => {
                network.chunks.entry(chunk_of(ofport)).or_default().insert(ofport, set);
                self.dirty.extend([Dirty::Chunk(vlan, chunk_of(ofport)), Dirty::GroupAddressed(vlan)]);
                Receiver::Filtered { set, zone: placement.binding.zone }
            }
            Role::Trusted => {
                match placement.station {
                    Some(_) => network.stations.insert(ofport),
                    None => network.trusted.insert(ofport),
                };
                self.dirty.insert(Dirty::Network(vlan));
                Receiver::Trusted
            }
        };
        for mac in macs(&placement.port).into_iter().chain(placement.station) {
            network.macs.entry(mac).or_default().insert(ofport, receiver);
            self.dirty.insert(Dirty::Mac(vlan, mac));
        }
    }

    pub(crate) fn displace(&mut self, placement: &Placement) {
        let ofport = placement.binding.ofport;
        let vlan = placement.binding.vlan;
        let Some(network) = self.networks.get_mut(&vlan) else { return };
        match placement.role {
            Role::Filtered(_) => {
                let chunk = chunk_of(ofport);
                if let Some(ports) = network.chunks.get_mut(&chunk) {
                    ports.remove(&ofport);
                    if ports.is_empty() {
                        network.chunks.remove(&chunk);
                    }
                }
                self.dirty.extend([Dirty::Chunk(vlan, chunk), Dirty::GroupAddressed(vlan)]);
            }
            Role::Trusted => {
                network.trusted.remove(&ofport);
                network.stations.remove(&ofport);
                self.dirty.insert(Dirty::Network(vlan));
            }
        }
        for mac in macs(&placement.port).into_iter().chain(placement.station) {
            if let Some(receivers) = network.macs.get_mut(&mac) {
                receivers.remove(&ofport);
                if receivers.is_empty() {
                    network.macs.remove(&mac);
                }
            }
            self.dirty.insert(Dirty::Mac(vlan, mac));
        }
    }

    pub(crate) fn attach(&mut self, ofport: OfPort, attachment: NetworkPort) {
        match attachment {
            NetworkPort::Trunk => {
                self.trunks.insert(ofport);
                self.dirty.insert(Dirty::Trunks);
            }
            NetworkPort::Access(vlan) => {
                self.networks.entry(vlan).or_default().access.insert(ofport);
                self.dirty.insert(Dirty::Exit(vlan));
            }
        }
    }

    pub(crate) fn detach(&mut self, ofport: OfPort, attachment: NetworkPort) {
        match attachment {
            NetworkPort::Trunk => {
                self.trunks.remove(&ofport);
                self.dirty.insert(Dirty::Trunks);
            }
            NetworkPort::Access(vlan) => {
                if let Some(network) = self.networks.get_mut(&vlan) {
                    network.access.remove(&ofport);
                }
                self.dirty.insert(Dirty::Exit(vlan));
            }
        }
    }

    /// Writes what changed since the last time.
    pub(crate) fn flush(&mut self, journal: &mut Journal) {
        for dirty in std::mem::take(&mut self.dirty) {
            for (key, flow) in self.render(dirty) {
                match flow {
                    Some(flow) => journal.set(flow),
                    None => journal.remove(key),
                }
            }
        }
        self.networks.retain(|_, network| !network.is_empty());
    }

    fn render(&self, dirty: Dirty) -> Vec<(FlowKey, Option<Flow>)> {
        match dirty {
            Dirty::Chunk(vlan, chunk) => vec![self.chunk(vlan, chunk)],
            Dirty::GroupAddressed(vlan) => vec![self.group_addressed(vlan)],
            Dirty::Mac(vlan, mac) => vec![self.mac(vlan, mac)],
            Dirty::Network(vlan) => self.network(vlan),
            Dirty::Exit(vlan) => self.exit(vlan),
            Dirty::Trunks => self.trunks(),
        }
    }

    /// A copy of a group-addressed frame for each filtered port of the chunk; no conntrack, so no zone.
    fn chunk(&self, vlan: Vlan, chunk: u16) -> (FlowKey, Option<Flow>) {
        let matches = on(vlan).with(register::CHUNK, chunk);
        let ports = self.networks.get(&vlan).and_then(|network| network.chunks.get(&chunk));
        let actions = ports.into_iter().flatten().flat_map(|(ofport, set)| {
            [load(register::OFPORT, *ofport), load(register::SET, *set), resubmit(ingress_base::TABLE)]
        });
        unit(vlan, flood::TABLE, flood::CHUNK, matches, actions.collect())
    }

    fn group_addressed(&self, vlan: Vlan) -> (FlowKey, Option<Flow>) {
        let mut actions = Vec::new();
        if let Some(network) = self.networks.get(&vlan).filter(|network| !network.chunks.is_empty()) {
            for chunk in network.chunks.keys() {
                actions.extend([load(register::CHUNK, *chunk), resubmit(flood::TABLE)]);
            }
            actions.push(resubmit(network::TABLE));
        }
        unit(vlan, deliver::TABLE, deliver::GROUP_ADDRESSED, group_addressed(on(vlan)), actions)
    }

    fn mac(&self, vlan: Vlan, mac: MacAddr) -> (FlowKey, Option<Flow>) {
        let receivers = self.networks.get(&vlan).and_then(|network| network.macs.get(&mac));
        let receivers = || receivers.into_iter().flatten();
        // Trusted ports first: before conntrack has had its way with the packet.
        let trusted = receivers().filter(|(_, receiver)| matches!(receiver, Receiver::Trusted));
        let mut actions: Vec<Action> = trusted.map(|(ofport, _)| output(*ofport)).collect();
        let mut filtered: Vec<Vec<Action>> = receivers().filter_map(judge_at).collect();
        let last = filtered.pop();
        actions.extend(filtered.into_iter().map(on_a_copy));
        actions.extend(last.into_iter().flatten());
        let matches = with_mac(on(vlan), Field::EthDst, mac);
        unit(vlan, deliver::TABLE, deliver::MAC, matches, actions)
    }

    fn network(&self, vlan: Vlan) -> Vec<(FlowKey, Option<Flow>)> {
        let network = || self.networks.get(&vlan).into_iter();
        let trusted = || network().flat_map(|network| &network.trusted);
        let stations = || network().flat_map(|network| &network.stations);
        let and_out = |mut actions: Vec<Action>| {
            if !actions.is_empty() {
                actions.push(resubmit(trunk::TABLE));
            }
            actions
        };
        let all = and_out(trusted().map(|ofport| output(*ofport)).collect());
        // What is to everybody is to stations too.
        let to_group = match stations().next() {
            Some(_) => and_out(trusted().chain(stations()).map(|ofport| output(*ofport)).collect()),
            None => Vec::new(),
        };
        let table = network::TABLE;
        vec![
            unit(vlan, table, network::GROUP_ADDRESSED, group_addressed(on(vlan)), to_group),
            unit(vlan, table, network::VLAN, on(vlan), all),
        ]
    }

    /// The trunks, and with them every network that leaves by another way too.
    fn trunks(&self) -> Vec<(FlowKey, Option<Flow>)> {
        let by_access =
            self.networks.iter().filter(|(_, network)| !network.access.is_empty()).map(|(vlan, _)| *vlan);
        let vlans: BTreeSet<Vlan> = by_access.chain([Vlan(0)]).collect();
        let mut flows: Vec<_> = vlans.into_iter().flat_map(|vlan| self.exit(vlan)).collect();
        flows.push(unit(Vlan(0), trunk::TABLE, trunk::TAGGED, Match::new(), self.tagged()));
        flows
    }

    /// The way out of a network whose frames leave without a tag of ours. One of their own is no passport: it is
    /// stripped if it says nothing (VID 0), and stops the frame if it would say where the frame belongs.
    fn exit(&self, vlan: Vlan) -> Vec<(FlowKey, Option<Flow>)> {
        let access = self.networks.get(&vlan).into_iter().flat_map(|network| &network.access);
        let mut actions: Vec<Action> = access.map(|ofport| output(*ofport)).collect();
        let leaves_untagged = vlan == Vlan(0) || !actions.is_empty();
        if vlan == Vlan(0) {
            actions.extend(self.trunks.iter().map(|ofport| output(*ofport)));
        } else if leaves_untagged {
            actions.extend(self.tagged());
        }
        let unless_idle = |then: Vec<Action>| if actions.is_empty() { Vec::new() } else { then };
        let table = trunk::TABLE;
        let priority_tag = on(vlan).with_mask(Field::VlanTci, TCI_PRESENT, TCI_PRESENT | TCI_VID);
        let strip = unless_idle(vec![Action::PopVlan, resubmit(table)]);
        let mut flows = vec![unit(vlan, table, trunk::PRIORITY_TAG, priority_tag, strip)];
        let tagged = on(vlan).with_mask(Field::VlanTci, TCI_PRESENT, TCI_PRESENT);
        let inner = [TPID_CVLAN, TPID_SVLAN]
            .map(|tpid| on(vlan).with(Field::EthType, tpid).with_mask(Field::VlanTci, 0u16, TCI_PRESENT));
        for matches in std::iter::once(tagged).chain(inner) {
            let stop = unless_idle(drop_as(DropReason::Vlan));
            flows.push(unit(vlan, table, trunk::STILL_TAGGED, matches, stop));
        }
        flows.push(unit(vlan, table, trunk::UNTAGGED, on(vlan), actions));
        flows
    }

    /// Out by every trunk, with the network's tag.
    fn tagged(&self) -> Vec<Action> {
        if self.trunks.is_empty() {
            return Vec::new();
        }
        let tag = Action::Move { src: vid_of(register::VLAN), dst: vid_of(Field::VlanVid) };
        let outputs = self.trunks.iter().map(|ofport| output(*ofport));
        [Action::PushVlan(TPID_CVLAN), tag].into_iter().chain(outputs).collect()
    }
}

impl Network {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
            && self.trusted.is_empty()
            && self.stations.is_empty()
            && self.access.is_empty()
            && self.macs.is_empty()
    }
}

/// Neighbouring ofports share a chunk: a port's chunk depends on nothing but the port.
/// Numbered from 1: 0 is no copy.
pub(crate) fn chunk_of(ofport: OfPort) -> u16 {
    ofport.0 / CHUNK_PORTS + 1
}

fn on(vlan: Vlan) -> Match {
    Match::new().with(register::VLAN, vlan)
}

/// The VID in the low bits of a field.
fn vid_of(field: Field) -> Subfield {
    Subfield { field, offset: 0, bits: VID_BITS }
}

fn output(ofport: OfPort) -> Action {
    Action::Output(PortNo::from_u16(ofport.0))
}

/// A flow that stands there while it has something to do.
fn unit(
    vlan: Vlan,
    table: u8,
    priority: u16,
    matches: Match,
    actions: Vec<Action>,
) -> (FlowKey, Option<Flow>) {
    let flow = flow((FlowKind::Network, u64::from(vlan.0)), table, priority, matches, actions);
    (flow.key(), (!flow.actions.is_empty()).then_some(flow))
}

/// The way of a frame into a filtered port.
fn judge_at((ofport, receiver): (&OfPort, &Receiver)) -> Option<Vec<Action>> {
    let Receiver::Filtered { set, zone } = receiver else { return None };
    Some(vec![
        load(register::OFPORT, *ofport),
        load(register::SET, *set),
        load(register::ZONE, *zone),
        resubmit(ingress_base::TABLE),
    ])
}

/// How frames come in from the network through `ofport`.
pub(crate) fn network_port_flows(ofport: OfPort, attachment: NetworkPort) -> Vec<Flow> {
    let table = classify::TABLE;
    let flow = |vlan: Vlan, priority, matches, actions| {
        flow((FlowKind::Network, u64::from(vlan.0)), table, priority, matches, actions)
    };
    let from = Match::new().with(Field::InPort, ofport);
    let untagged = from.clone().with_mask(Field::VlanTci, 0u16, TCI_PRESENT);
    match attachment {
        NetworkPort::Trunk => {
            let tagged = from.with_mask(Field::VlanTci, TCI_PRESENT, TCI_PRESENT);
            let enter = vec![
                load(register::OFPORT, ofport),
                Action::Move { src: vid_of(Field::VlanVid), dst: vid_of(register::VLAN) },
                Action::PopVlan,
                resubmit(deliver::TABLE),
            ];
            let native =
                vec![load(register::OFPORT, ofport), load(register::VLAN, 0u8), resubmit(deliver::TABLE)];
            vec![
                flow(Vlan(0), classify::PORT, tagged, enter),
                flow(Vlan(0), classify::UNTAGGED, untagged, native),
            ]
        }
        NetworkPort::Access(vlan) => {
            let enter =
                vec![load(register::OFPORT, ofport), load(register::VLAN, vlan), resubmit(deliver::TABLE)];
            let priority_tag = from.with_mask(Field::VlanTci, TCI_PRESENT, TCI_PRESENT | TCI_VID);
            let strip = std::iter::once(Action::PopVlan).chain(enter.iter().cloned()).collect();
            vec![flow(vlan, classify::PORT, priority_tag, strip), flow(vlan, classify::PORT, untagged, enter)]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn neighbours_share_a_chunk_and_no_chunk_is_larger_than_a_flow_may_be() {
        let mut chunks: BTreeMap<u16, u16> = BTreeMap::new();
        for ofport in 0..=u16::MAX {
            *chunks.entry(chunk_of(OfPort(ofport))).or_default() += 1;
        }
        assert!(chunks.values().all(|ports| *ports == CHUNK_PORTS));
        assert_eq!(chunk_of(OfPort(32)), chunk_of(OfPort(63)));
    }

    #[test]
    fn a_network_without_ports_is_forgotten() {
        let mut networks = Networks::default();
        let access = NetworkPort::Access(Vlan(10));
        networks.attach(OfPort(1), access);
        networks.flush(&mut Journal::default());
        assert_eq!(networks.networks.len(), 1);
        networks.detach(OfPort(1), access);
        networks.flush(&mut Journal::default());
        assert!(networks.networks.is_empty());
    }
}
