//! Whatever flow is missing, added or altered is named, with a packet.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::collections::BTreeSet;

use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::{Policy, document};
use rust_openflow::{Action, Field, Flow};
use verify::Fault;
use verify::audit::{Audit, Deviation, Subject, audit};
use verify::symbolic::{self, Joints, LocalPort};

const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120, output: 127 };

/// Nothing comes to this table: its flows are names for people (docs/decisions/0001).
const NAMES: u8 = 129;

const POLICY: &str = "
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

struct Host {
    policy: Policy,
    flows: Vec<Flow>,
}

impl Host {
    fn new() -> Self {
        let policy = document::parse(&[("policy.yaml", POLICY)], None).policy;
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

    fn audit(&self, held: &[Flow]) -> Audit {
        let ports: Vec<LocalPort> = [("p-1", 1), ("p-2", 2)]
            .into_iter()
            .map(|(id, ofport)| LocalPort { id: id.into(), ofport, vlan: 10 })
            .collect();
        audit(&Subject {
            held,
            wanted: &self.flows,
            joints: JOINTS,
            policy: &self.policy,
            permitted_ethertypes: &BTreeSet::new(),
            ports: &ports,
        })
    }
}

#[test]
fn what_is_rendered_is_exact() {
    let host = Host::new();
    assert_eq!(host.audit(&host.flows), Audit::default());
}

#[test]
fn every_flow_that_is_missing_is_named() {
    let host = Host::new();
    for index in 0..host.flows.len() {
        let mut held = host.flows.clone();
        let gone = held.remove(index);
        is_named(&host.audit(&held), &Deviation::Missing(gone));
    }
}

#[test]
fn every_flow_that_is_altered_is_named() {
    let host = Host::new();
    for index in 0..host.flows.len() {
        let mut held = host.flows.clone();
        // To nowhere what passes, to port 2 what is dropped.
        let actions: Vec<Action> = match held[index].actions.is_empty() {
            true => Action::parse_list("output:2").unwrap(),
            false => Vec::new(),
        };
        held[index].actions = actions;
        let deviation = Deviation::Altered { held: held[index].clone(), wanted: host.flows[index].clone() };
        is_named(&host.audit(&held), &deviation);
    }
}

/// One flow is wrong, and a packet shows it.
fn is_named(audit: &Audit, deviation: &Deviation) {
    let flow = deviation.flow();
    assert_eq!(audit.findings.len(), 1, "{flow}");
    assert_eq!(audit.findings[0].deviation, *deviation);
    assert!(audit.unexplained.is_empty(), "{flow}\n{}", audit.unexplained[0]);
    if flow.table == NAMES {
        return;
    }
    let evidence = audit.findings[0].evidence.as_ref().unwrap_or_else(|| panic!("no packet for {flow}"));
    assert_ne!(evidence.held, evidence.wanted, "{flow}");
}

/// A flow of somebody else, with any cookie.
#[test]
fn every_flow_that_is_added_is_named() {
    let host = Host::new();
    for flow in [
        "table=101,priority=200,in_port=1 actions=resubmit(,110)",
        "table=102,priority=101,ip,in_port=1,nw_src=10.0.0.66 actions=resubmit(,103)",
        "table=106,priority=71,ct_state=+new+trk,tcp,reg7=1,tp_dst=443 actions=resubmit(,107)",
        "table=123,priority=70,ct_state=-inv+trk,ct_nw_proto=6,ip,reg7=1 actions=conjunction(1,1/2)",
        "table=106,priority=200,ct_mark=77 actions=resubmit(,125)",
        "table=113,priority=200,reg6=10 actions=drop",
        "table=110,priority=200,reg6=10,dl_dst=fa:16:3e:00:00:01 actions=drop",
        "table=128,priority=200,reg10=4 actions=output:2",
    ] {
        let flow: Flow = flow.parse::<Flow>().unwrap().canonical();
        let mut held = host.flows.clone();
        held.push(flow.clone());
        is_named(&host.audit(&held), &Deviation::Extra(flow));
    }
}

/// What cannot be followed is named for that, and left out of the proof.
#[test]
fn a_flow_that_cannot_be_followed_is_named() {
    let host = Host::new();
    let flow: Flow = "table=101,priority=200,in_port=1 actions=NORMAL".parse::<Flow>().unwrap().canonical();
    let held: Vec<Flow> = host.flows.iter().chain([&flow]).cloned().collect();
    let audit = host.audit(&held);
    assert_eq!(audit.findings.len(), 1);
    assert_eq!(audit.findings[0].unfollowed, Some(Fault::Action));
    assert_eq!(audit.findings[0].deviation, Deviation::Extra(flow));
    assert!(!audit.is_exact());
}

/// A policy that is not the one that was rendered is told apart by packets, each with the rules that admit it.
#[test]
fn a_policy_that_is_not_the_tables_is_found_out() {
    let mut host = Host::new();
    let other = POLICY.replace("port_range_max: 81", "port_range_max: 82");
    host.policy = document::parse(&[("policy.yaml", &other)], None).policy;
    let audit = host.audit(&host.flows);
    assert!(audit.findings.is_empty());
    let found = &audit.unexplained[0];
    assert_eq!((found.fault, found.packet.get(Field::TcpDst)), (symbolic::Fault::Closes, 82), "{found}");
    assert_eq!(found.rules, ["w1".into()]);
}
