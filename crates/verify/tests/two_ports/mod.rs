//! Two ports of two groups on one network, and a trunk: their policy and its flows.
#![allow(dead_code, reason = "each test binary uses a part")]

use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::{Policy, document};
use rust_openflow::Flow;
use verify::symbolic::{Joints, LocalPort};

pub(crate) const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120, output: 127 };

pub(crate) const POLICY: &str = "
security_groups:
- {id: web, security_group_rules: [
    {id: w1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 81},
    {id: w2, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 22, port_range_max: 22, remote_group_id: admin},
    {id: w3, direction: egress, ethertype: IPv4, remote_ip_prefix: 10.0.0.0/8}]}
- {id: admin, security_group_rules: [
    {id: a1, direction: egress, ethertype: IPv6, protocol: icmp, remote_group_id: web}]}
ports:
- {id: p-1, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 10.0.0.1}, {ip_address: 'fd00::1'}], security_groups: [web]}
- {id: p-2, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 10.0.0.2}, {ip_address: 'fd00::2'}], security_groups: [admin]}
";

pub(crate) struct Host {
    pub(crate) policy: Policy,
    pub(crate) flows: Vec<Flow>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::of(POLICY)
    }

    /// With another policy of its ports.
    pub(crate) fn of(policy: &str) -> Self {
        let policy = document::parse(&[("policy.yaml", policy)], None).policy;
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        renderer.network_port(OfPort(9), Some(NetworkPort::Trunk));
        for (id, number) in [("p-1", 1), ("p-2", 2)] {
            let binding = Binding { ofport: OfPort(number), vlan: Vlan(10), zone: Zone(0x1000 + number) };
            renderer.bind(&id.into(), Some(binding));
        }
        renderer.apply_policy(&Policy::diff(&Policy::default(), &policy));
        let batch = renderer.commit(&mut GenerationPool::new(1, u32::MAX)).unwrap();
        let flows = batch.ops.into_iter().filter_map(|op| match op {
            FlowOp::Set(flow) => Some(flow.canonical()),
            FlowOp::Remove(_) => None,
        });
        Host { policy, flows: flows.collect() }
    }
}

pub(crate) fn ports() -> Vec<LocalPort> {
    let port = |(id, ofport): (&str, u16)| LocalPort { id: id.into(), ofport, vlan: 10 };
    [("p-1", 1), ("p-2", 2)].map(port).to_vec()
}
