//! A host of a small world: its flows, what keeps them, and what the evaluator says of frames at its ports.

use std::collections::BTreeMap;

use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::Policy;
use policy::evaluator::{Host, Model, Settings};
use rust_openflow::{Flow, FlowKey, PortNo};
use tests::small::between::{Outputs, TRUNK, accepted, ofport};
use tests::small::{From, LOCAL, Probe, VLAN, port_id};
use verify::{Packet, Tables, Tag};

/// A switch's flows, and what keeps them.
pub(crate) struct Switch {
    renderer: Renderer,
    pool: GenerationPool,
    policy: Policy,
    pub(crate) flows: BTreeMap<FlowKey, Flow>,
}

impl Switch {
    pub(crate) fn new() -> Self {
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        renderer.network_port(OfPort(TRUNK), Some(NetworkPort::Trunk));
        for port in 0..LOCAL {
            let ofport = ofport(port);
            let binding = Binding { ofport: OfPort(ofport), vlan: Vlan(VLAN), zone: Zone(0x1000 + ofport) };
            renderer.bind(&port_id(port), Some(binding));
        }
        let pool = GenerationPool::new(1, u32::MAX);
        Switch { renderer, pool, policy: Policy::default(), flows: BTreeMap::new() }
    }

    pub(crate) fn put_in_force(&mut self, policy: &Policy) {
        self.change(policy);
        self.sweep();
    }

    /// The bundle that brings the policy into the switch.
    pub(crate) fn change(&mut self, policy: &Policy) {
        self.renderer.apply_policy(&Policy::diff(&self.policy, policy));
        self.policy = policy.clone();
        let batch = self.renderer.commit(&mut self.pool).expect("generations");
        self.apply(batch.ops);
    }

    /// The bundle that follows when the caches are revalidated: what only they could still have asked for goes.
    pub(crate) fn sweep(&mut self) {
        let swept = self.renderer.sweep();
        self.apply(swept);
    }

    fn apply(&mut self, ops: Vec<FlowOp>) {
        for op in ops {
            match op {
                FlowOp::Set(flow) => _ = self.flows.insert(flow.key(), flow),
                FlowOp::Remove(key) => _ = self.flows.remove(&key),
            }
        }
    }

    pub(crate) fn tables(&self) -> Tables {
        Tables::new(self.flows.values().cloned()).unwrap_or_else(|refused| panic!("{refused}"))
    }
}

/// The evaluator's host with the policy, on which nothing has happened yet.
pub(crate) fn model(policy: &Policy) -> Model {
    let bindings = (0..LOCAL).map(|port| (port_id(port), VLAN)).collect();
    Model::new(policy, Settings::default(), Host { bindings })
}

/// Where the evaluator lets a frame out.
pub(crate) fn by_evaluator(model: &mut Model, probe: &Probe) -> Outputs {
    match probe.from {
        From::Port(port) => {
            let outcome = model.send(&port_id(port), &probe.frame);
            let network = outcome.to_network.then_some(u32::from(TRUNK));
            accepted(&outcome.delivered).chain(network).collect()
        }
        From::Network => accepted(&model.receive(VLAN, &probe.frame)).collect(),
    }
}

/// The frame as it comes in.
pub(crate) fn packet(probe: &Probe) -> Packet {
    match probe.from {
        From::Port(port) => Packet::of_frame(PortNo(u32::from(ofport(port))), &probe.frame),
        From::Network => {
            Packet::of_frame(PortNo(u32::from(TRUNK)), &probe.frame).with_tag(Tag::new(0x8100, VLAN))
        }
    }
}
