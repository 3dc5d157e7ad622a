//! A host in small: local ports on VLANs, a zone each, frames sent through them.

use std::collections::BTreeMap;

use crate::{Direction, Policy, PortId};

use super::frame::Frame;
use super::judgement::Judgement;
use super::membership::has_mac;
use super::tracker::Zone;
use super::{Evaluator, Settings};

/// The local ports of a host, each with its local VLAN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// Local VLAN by port; a port that no policy names is closed.
    pub bindings: BTreeMap<PortId, u16>,
}

/// A host, its policy, and the connections that its ports have made.
#[derive(Clone, Debug)]
pub struct Model {
    evaluator: Evaluator,
    host: Host,
    zones: BTreeMap<PortId, Zone>,
}

/// What becomes of a frame that a local port sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The verdict at the sender.
    pub egress: Judgement,
    /// The verdict at every local port that the frame comes to, in order of port id.
    pub delivered: Vec<(PortId, Judgement)>,
    /// Whether the frame leaves for the network.
    pub to_network: bool,
}

impl Outcome {
    /// Whether the frame passes the sender and gets through to the port.
    pub fn reaches(&self, port: &PortId) -> bool {
        self.delivered.iter().any(|(receiver, judgement)| receiver == port && judgement.accepted())
    }
}

impl Model {
    /// A host with empty zones.
    pub fn new(policy: &Policy, settings: Settings, host: Host) -> Self {
        Self { evaluator: Evaluator::new(policy, settings), host, zones: BTreeMap::new() }
    }

    /// Puts another policy in force. Connections stay as conntrack holds them.
    pub fn set_policy(&mut self, policy: &Policy) {
        self.evaluator = Evaluator::new(policy, self.evaluator.settings().clone());
    }

    /// Sends a frame from a local port. A port that is not bound is closed and reaches nobody.
    pub fn send(&mut self, port: &PortId, frame: &Frame) -> Outcome {
        let egress = self.pass(port, Direction::Egress, frame);
        match self.host.bindings.get(port).copied() {
            Some(vlan) if egress.accepted() => {
                let (delivered, to_network) = self.deliver(vlan, &self.stripped(port, frame), Some(port));
                Outcome { egress, delivered, to_network }
            }
            _ => Outcome { egress, delivered: Vec::new(), to_network: false },
        }
    }

    /// Takes a frame in from the network of a VLAN, and gives the verdict at every local port that it comes to.
    pub fn receive(&mut self, vlan: u16, frame: &Frame) -> Vec<(PortId, Judgement)> {
        let (delivered, _) = self.deliver(vlan, frame, None);
        delivered
    }

    /// "VID 0 is stripped and judged untagged" (semantics, "egress") at a filtered port; a trusted one sends what it
    /// sends.
    fn stripped(&self, port: &PortId, frame: &Frame) -> Frame {
        let filtered = self.evaluator.policy().ports.get(port).is_some_and(|port| !port.is_trusted());
        let vlan = frame.vlan.filter(|id| *id != 0 || !filtered);
        Frame { vlan, ..*frame }
    }

    /// "Delivered are frames to one of its MACs, and group-addressed or flooded ones" (semantics, "ingress"): a
    /// group-addressed frame comes to every port of the VLAN but the sender; any other to the ports that own its
    /// destination, or, if none does, to the trusted ports and the network. What the sender alone owns comes to
    /// nobody: a bridge sends no frame back where it came from.
    fn deliver(
        &mut self,
        vlan: u16,
        frame: &Frame,
        sender: Option<&PortId>,
    ) -> (Vec<(PortId, Judgement)>, bool) {
        let policy = self.evaluator.policy();
        let ports = self.host.bindings.iter().filter(|(_, on)| **on == vlan).map(|(id, _)| id);
        let is = |id: &PortId, what: &dyn Fn(&crate::Port) -> bool| {
            policy.ports.get(id).is_some_and(|port| what(port))
        };
        let owned = ports.clone().any(|id| is(id, &|port| has_mac(port, frame.eth_dst)));
        let group = frame.eth_dst.is_group();
        let receives = |id: &PortId| match (group, owned) {
            (true, _) => true,
            (false, true) => is(id, &|port| has_mac(port, frame.eth_dst)),
            (false, false) => is(id, &|port| port.is_trusted()),
        };
        let others = ports.filter(|id| Some(*id) != sender);
        let receivers: Vec<PortId> = others.filter(|id| receives(id)).cloned().collect();
        let judge = |id: PortId| {
            let judgement = self.pass(&id, Direction::Ingress, frame);
            (id, judgement)
        };
        (receivers.into_iter().map(judge).collect(), group || !owned)
    }

    /// Judges a frame at a port by its zone, which takes note.
    fn pass(&mut self, port: &PortId, direction: Direction, frame: &Frame) -> Judgement {
        let datapath = self.evaluator.settings().datapath;
        let zone = self.zones.entry(port.clone()).or_insert_with(|| Zone::new(datapath));
        let tracking = zone.look_up(frame);
        let judgement = self.evaluator.judge(port, direction, frame, &tracking);
        zone.note(direction, frame, &tracking, &judgement);
        judgement
    }
}
