//! A page's host: its flows as they follow each other, the connections that its frames make, and what the flows do with them.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::layout::{deliver, hook, ingress_base, output};
use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::{Policy, PortId};
use rust_openflow::{Flow, FlowKey, PortNo};
use tests::case::{self, PacketLine, Step};
use tests::sketch::CUSTOMER_TAG;
use verify::symbolic::{Joints, LocalPort, differences};
use verify::{Connections, Packet, Tables, Tag, run};

/// The zone of a port is this and its OpenFlow port.
const FIRST_ZONE: u16 = 0x1000;

pub(crate) struct PageHost {
    renderer: Renderer,
    pool: GenerationPool,
    policy: Policy,
    flows: BTreeMap<FlowKey, Flow>,
    connections: Connections,
}

impl PageHost {
    /// The host of a page that begins with this step, without a policy.
    pub(crate) fn new(first: &Step) -> Result<Self, String> {
        let config =
            Config { permitted_ethertypes: first.config.permitted_ethertypes.clone(), ..Config::default() };
        let mut renderer = Renderer::new(&config, Known::default());
        for binding in &first.bindings {
            let ofport = OfPort(ofport(binding)?);
            match (&binding.port_id, binding.tag.map(Vlan)) {
                (Some(id), Some(vlan)) => {
                    let zone = Zone(FIRST_ZONE + ofport.0);
                    renderer.bind(&PortId::from(id.as_str()), Some(Binding { ofport, vlan, zone }));
                }
                (Some(id), None) => return Err(format!("{id} has no VLAN")),
                (None, vlan) if binding.uplink => {
                    renderer.network_port(ofport, Some(vlan.map_or(NetworkPort::Trunk, NetworkPort::Access)));
                }
                (None, _) => {}
            }
        }
        Ok(PageHost {
            renderer,
            pool: GenerationPool::new(1, u32::MAX),
            policy: Policy::default(),
            flows: BTreeMap::new(),
            connections: Connections::default(),
        })
    }

    pub(crate) fn put_in_force(&mut self, policy: &Policy) -> Result<(), String> {
        self.renderer.apply_policy(&Policy::diff(&self.policy, policy));
        self.policy = policy.clone();
        let batch = self.renderer.commit(&mut self.pool).map_err(|error| error.to_string())?;
        self.apply(batch.ops);
        let swept = self.renderer.sweep();
        self.apply(swept);
        Ok(())
    }

    fn apply(&mut self, ops: Vec<FlowOp>) {
        for op in ops {
            match op {
                FlowOp::Set(flow) => _ = self.flows.insert(flow.key(), flow),
                FlowOp::Remove(key) => _ = self.flows.remove(&key),
            }
        }
    }

    fn tables(&self) -> Result<Tables, String> {
        Tables::new(self.flows.values().cloned()).map_err(|refused| refused.to_string())
    }

    /// Frames of the step's lines that the flows let out elsewhere than the page says.
    pub(crate) fn sent_otherwise(&mut self, step: &Step) -> Result<Vec<String>, String> {
        let tables = self.tables()?;
        let mut otherwise = Vec::new();
        for line in &step.packets {
            let outcome = run(&tables, packet(step, line)?, &mut self.connections)
                .map_err(|error| error.to_string())?;
            let seen: BTreeSet<u32> = outcome.ports().map(|port| port.0).collect();
            let is_expected = |binding: &&case::Binding| line.expected.delivered.contains_key(binding.name());
            let expected = step.bindings.iter().filter(is_expected).map(|binding| binding.ofport).collect();
            if seen != expected {
                otherwise.push(format!("line {}: {}\n    comes out at {seen:?}", line.line, line.text));
            }
        }
        Ok(otherwise)
    }

    /// Packets of which the flows do otherwise than the policy, among all that there are.
    pub(crate) fn proved_otherwise(&self, step: &Step) -> Result<Vec<String>, String> {
        const JOINTS: Joints = Joints {
            hook: hook::TABLE,
            deliver: deliver::TABLE,
            ingress: ingress_base::TABLE,
            output: output::TABLE,
        };
        let mut ports = Vec::new();
        for binding in &step.bindings {
            if let (Some(id), Some(vlan)) = (&binding.port_id, binding.tag) {
                ports.push(LocalPort { id: PortId::from(id.as_str()), ofport: ofport(binding)?, vlan });
            }
        }
        let found =
            differences(&self.tables()?, JOINTS, &self.policy, &step.config.permitted_ethertypes, &ports);
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }
}

fn ofport(binding: &case::Binding) -> Result<u16, String> {
    u16::try_from(binding.ofport).map_err(|_| format!("{}: no such port", binding.interface))
}

/// The frame of a line as the switch gets it.
fn packet(step: &Step, line: &PacketLine) -> Result<Packet, String> {
    let from = step.bindings.iter().find(|binding| binding.name() == line.from);
    let from = from.ok_or_else(|| format!("no interface or port {:?}", line.from))?;
    let mut sketch = line.sketch.clone();
    let outer = sketch.tags.first().copied().filter(|tag| from.uplink && tag.ethertype == CUSTOMER_TAG);
    if outer.is_some() {
        sketch.tags.remove(0);
    }
    let packet = Packet::of_frame(PortNo(from.ofport), &sketch.frame());
    Ok(match outer {
        Some(tag) => packet.with_tag(Tag::new(tag.ethertype, tag.vid)),
        None => packet,
    })
}
