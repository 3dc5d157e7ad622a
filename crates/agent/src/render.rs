//! The flows of a policy for given bindings: what an empty bridge would get, without a bridge.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Binding, Config, FlowOp, GenerationPool, GenerationsExhausted, Known, RefusedRule, Renderer};
use policy::Policy;
use rust_openflow::{Flow, FlowKey};

use crate::bindings::Bindings;

/// What [`render`] gives.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rendering {
    /// Sorted by table, then by falling priority, then by match.
    pub flows: Vec<Flow>,
    /// Rules that the pipeline cannot enforce: they admit nothing.
    pub refused: Vec<RefusedRule>,
}

/// Renders `policy` for a bridge with these `bindings`. Ids and generations are numbered from 1.
pub fn render(
    policy: &Policy,
    bindings: &Bindings,
    permitted_ethertypes: &BTreeSet<u16>,
) -> Result<Rendering, GenerationsExhausted> {
    let config = Config { permitted_ethertypes: permitted_ethertypes.clone() };
    let mut renderer = Renderer::new(&config, Known::default());
    renderer.apply_policy(&Policy::diff(&Policy::default(), policy));
    for uplink in &bindings.uplinks {
        renderer.network_port(uplink.ofport, Some(uplink.attachment));
    }
    for local in &bindings.locals {
        let binding = Binding { ofport: local.ofport, vlan: local.vlan, zone: local.zone };
        renderer.bind(&local.port, Some(binding));
    }
    let batch = renderer.commit(&mut GenerationPool::new(1, u32::MAX))?;
    let mut flows: BTreeMap<FlowKey, Flow> = BTreeMap::new();
    for op in batch.ops {
        match op {
            FlowOp::Set(flow) => _ = flows.insert(flow.key(), flow.canonical()),
            FlowOp::Remove(key) => _ = flows.remove(&key),
        }
    }
    let mut flows: Vec<Flow> = flows.into_values().collect();
    flows.sort_by(|a, b| (a.table, b.priority, &a.matches).cmp(&(b.table, a.priority, &b.matches)));
    Ok(Rendering { flows, refused: batch.refused })
}
