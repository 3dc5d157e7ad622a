//! The flows of a policy for given bindings: what an empty bridge would get, without a bridge; and the same of a host's tables of nftables.

use std::collections::{BTreeMap, BTreeSet};

use hybrid::{Devices, Plug};
use pipeline::{Binding, Config, FlowOp, GenerationPool, GenerationsExhausted, Known, RefusedRule, Renderer};
use policy::{Policy, PortId};
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
    let config = Config { permitted_ethertypes: permitted_ethertypes.clone(), ..Config::default() };
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

/// A binding of no device of a hybrid bridge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port {port}: {interface:?} is no device of a hybrid bridge: they are called tap… and qvo…")]
pub struct NoHybridDevice {
    port: PortId,
    interface: String,
}

/// Renders `policy` for a host with hybrid bridges: a text that nft(8) loads, and the rules that nftables cannot enforce.
///
/// # Errors
/// A port is plugged in by an interface of another name.
pub fn render_nftables(
    policy: &Policy,
    bindings: &Bindings,
    permitted_ethertypes: &BTreeSet<u16>,
) -> Result<(String, Vec<hybrid::RefusedRule>), NoHybridDevice> {
    Ok(hybrid::nft::script(policy, plugs(bindings)?, permitted_ethertypes))
}

/// The same for `iptables_hybrid`: texts for ipset(8), iptables-restore(8) and nft(8), and the rules that iptables cannot enforce.
///
/// # Errors
/// As [`render_nftables`].
pub fn render_iptables(
    policy: &Policy,
    bindings: &Bindings,
    permitted_ethertypes: &BTreeSet<u16>,
) -> Result<(String, Vec<hybrid::RefusedRule>), NoHybridDevice> {
    Ok(hybrid::iptables::script(policy, plugs(bindings)?, permitted_ethertypes))
}

fn plugs(bindings: &Bindings) -> Result<Vec<(PortId, Plug)>, NoHybridDevice> {
    let mut plugs = Vec::new();
    for local in &bindings.locals {
        // The guest's device is called as the one on the integration bridge.
        let outer = local.interface.strip_prefix("tap").map(|end| format!("qvo{end}"));
        let devices = Devices::of_interface(outer.as_deref().unwrap_or(&local.interface));
        let devices = devices
            .ok_or_else(|| NoHybridDevice { port: local.port.clone(), interface: local.interface.clone() })?;
        plugs.push((local.port.clone(), Plug { devices, zone: local.zone.0 }));
    }
    Ok(plugs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_hybrid_bridges_is_told_by_the_devices() {
        let bindings = |interface: &str| {
            Bindings::parse(&format!("[{{port_id: p-1, interface: {interface}, ofport: 1, tag: 10}}]"))
                .unwrap()
        };
        let rendered =
            |interface| render_nftables(&Policy::default(), &bindings(interface), &BTreeSet::new());
        let (text, refused) = rendered("tap1").unwrap();
        assert_eq!(refused, []);
        assert!(
            text.contains("add element bridge sgflow ports { \"tap1\" : goto drop-no-policy }"),
            "{text}"
        );
        assert_eq!(rendered("qvo1").unwrap().0, text);
        let error = rendered("eth1").unwrap_err().to_string();
        assert_eq!(
            error,
            "port p-1: \"eth1\" is no device of a hybrid bridge: they are called tap… and qvo…"
        );
    }
}
