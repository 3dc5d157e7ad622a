//! History does not matter: whatever the order of changes, the flows are those of a cold start that knows the ids.
//!
//! The cold start reads ids and generations from the flows of the incremental renderer, as a restarted agent reads
//! them from the switch; so this is also the promise that a restart with nothing changed sends nothing.
#![allow(clippy::unwrap_used, reason = "a helper of a test that cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::{
    AddressGroup, AddressPair, Direction, Ethertype, GroupId, MacAddr, PolicyDelta, Port, PortId,
    PortProtocol, PortRange, Remote, Rule, SecurityGroup, Service,
};
use proptest::prelude::*;
use rust_openflow::{Flow, FlowKey};

/// A switch that believes everything it is told.
#[derive(Default, Debug)]
struct Switch {
    flows: BTreeMap<FlowKey, Flow>,
}

impl Switch {
    fn apply(&mut self, ops: Vec<FlowOp>) {
        for op in ops {
            match op {
                FlowOp::Set(flow) => {
                    self.flows.insert(flow.key(), flow);
                }
                FlowOp::Remove(key) => {
                    self.flows.remove(&key);
                }
            }
        }
    }
}

/// What has been told so far, so that it can be told again at once.
#[derive(Default, Debug)]
struct Told {
    groups: BTreeMap<GroupId, Option<Arc<SecurityGroup>>>,
    address_groups: BTreeMap<policy::AddressGroupId, Option<Arc<AddressGroup>>>,
    ports: BTreeMap<PortId, Option<Arc<Port>>>,
    bindings: BTreeMap<PortId, Option<Binding>>,
    network_ports: BTreeMap<OfPort, Option<NetworkPort>>,
}

#[derive(Clone, Debug)]
enum Step {
    Group(u8, Option<(bool, u16)>),
    AddressGroup(u8),
    Port(u8, Option<(u8, u8, u8)>),
    Bind(u8, Option<(u8, u8)>),
    NetworkPort(u8, Option<bool>),
    Commit,
    Sweep,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, proptest::option::weighted(0.9, (any::<bool>(), any::<u16>()))).prop_map(|(g, d)| Step::Group(g, d)),
        1 => any::<u8>().prop_map(Step::AddressGroup),
        4 => (0..4u8, proptest::option::weighted(0.9, (0..8u8, 0..4u8, 0..8u8))).prop_map(|(p, d)| Step::Port(p, d)),
        3 => (0..4u8, proptest::option::weighted(0.8, (0..4u8, 0..2u8))).prop_map(|(p, b)| Step::Bind(p, b)),
        1 => (0..2u8, proptest::option::of(any::<bool>())).prop_map(|(o, a)| Step::NetworkPort(o, a)),
        3 => Just(Step::Commit),
        1 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ]
}

fn group_id(n: u8) -> GroupId {
    format!("sg-{n}").as_str().into()
}

/// Sixteen rules that overlap in every way: same match with other remotes, ranges inside ranges, prefixes.
fn rule_pool() -> Vec<Rule> {
    let range = |min, max| Some(PortRange { min, max });
    let tcp = |range| Service::Ports { protocol: PortProtocol::Tcp, range };
    let net = |text: &str| Remote::Prefix(text.parse().unwrap());
    let (v4, v6) = (Ethertype::Ipv4, Ethertype::Ipv6);
    let (i, e) = (Direction::Ingress, Direction::Egress);
    let group = |n| Remote::Group(group_id(n));
    let offices = || Remote::AddressGroup("ag-0".into());
    let ping = Service::Icmp { icmp_type: Some(8), code: None };
    let rows = [
        (e, v4, Service::Any, Remote::Any),
        (e, v6, Service::Any, group(1)),
        (i, v4, Service::Any, group(0)),
        (i, v6, Service::Any, group(0)),
        (i, v4, tcp(range(80, 80)), Remote::Any),
        (i, v4, tcp(range(80, 90)), net("10.0.0.0/8")),
        (i, v4, tcp(range(80, 90)), group(0)),
        (i, v4, tcp(range(80, 90)), group(1)),
        (i, v4, tcp(range(85, 85)), offices()),
        (i, v6, tcp(None), offices()),
        (i, v4, ping, Remote::Any),
        (e, v4, tcp(range(1, 1023)), group(2)),
        (i, v4, Service::Ports { protocol: PortProtocol::Sctp, range: range(7, 7) }, group(2)),
        (i, v4, Service::Protocol(47), net("192.0.2.0/24")),
        (i, v4, Service::Ports { protocol: PortProtocol::Dccp, range: range(5, 5) }, Remote::Any),
        (e, v4, Service::Any, net("10.1.0.0/16")),
    ];
    let rules = rows.into_iter().enumerate().map(|(n, (direction, ethertype, service, remote))| Rule {
        id: format!("r{n:02}").as_str().into(),
        direction,
        ethertype,
        service,
        remote,
    });
    rules.collect()
}

fn port(n: u8, (groups, address, kind): (u8, u8, u8)) -> Port {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, address));
    let ip6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(address)));
    let mut pairs = BTreeSet::new();
    if kind & 1 != 0 {
        pairs.insert(AddressPair { ip: "0.0.0.0/0".parse().unwrap(), mac: None });
    }
    if kind & 2 != 0 {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 99]));
        pairs.insert(AddressPair { ip: "10.0.0.100/32".parse().unwrap(), mac });
    }
    Port {
        id: format!("p-{n}").as_str().into(),
        network_id: "net".into(),
        mac: MacAddr([2, 0, 0, 0, 0, n]),
        fixed_ips: [ip, ip6].into(),
        allowed_address_pairs: pairs,
        security_groups: (0..3).filter(|g| groups & (1 << g) != 0).map(group_id).collect(),
        port_security_enabled: kind != 4,
        device_owner: "compute:nova".into(),
        host: None,
    }
}

fn tell(renderer: &mut Renderer, told: &mut Told, step: &Step) {
    let mut delta = PolicyDelta::default();
    match step {
        Step::Group(n, definition) => {
            let group = definition.map(|(stateful, mask)| {
                let rules = rule_pool().into_iter().enumerate().filter(|(r, _)| mask & (1 << r) != 0);
                let rules = rules.map(|(_, mut rule)| {
                    // Rule ids are unique among all groups.
                    rule.id = format!("{}-{n}", rule.id).as_str().into();
                    rule
                });
                Arc::new(SecurityGroup {
                    id: group_id(*n),
                    name: String::new(),
                    stateful,
                    rules: rules.collect(),
                })
            });
            told.groups.insert(group_id(*n), group.clone());
            delta.groups.push((group_id(*n), group));
        }
        Step::AddressGroup(mask) => {
            let nets = ["192.0.2.0/24", "192.0.2.7/32", "2001:db8:1::/48", "10.0.0.1/32"];
            let nets = nets.iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0);
            let addresses = nets.map(|(_, net)| net.parse().unwrap()).collect();
            let group = Arc::new(AddressGroup { id: "ag-0".into(), name: String::new(), addresses });
            told.address_groups.insert("ag-0".into(), Some(group.clone()));
            delta.address_groups.push(("ag-0".into(), Some(group)));
        }
        Step::Port(n, definition) => {
            let id: PortId = format!("p-{n}").as_str().into();
            let port = definition.map(|definition| Arc::new(port(*n, definition)));
            told.ports.insert(id.clone(), port.clone());
            delta.ports.push((id, port));
        }
        Step::Bind(n, place) => {
            let id: PortId = format!("p-{n}").as_str().into();
            let binding = place.map(|(slot, vlan)| Binding {
                // Ports may swap their ofports between commits; two never have one at the same commit.
                ofport: OfPort(u16::from(slot) * 10 + u16::from(*n)),
                vlan: Vlan(u16::from(vlan) * 10),
                zone: Zone(5000 + u16::from(*n)),
            });
            told.bindings.insert(id.clone(), binding);
            renderer.bind(&id, binding);
        }
        Step::NetworkPort(n, attachment) => {
            let ofport = OfPort(100 + u16::from(*n));
            let attachment = attachment
                .map(|trunk| if trunk { NetworkPort::Trunk } else { NetworkPort::Access(Vlan(10)) });
            told.network_ports.insert(ofport, attachment);
            renderer.network_port(ofport, attachment);
        }
        Step::Commit | Step::Sweep | Step::Restart => {}
    }
    renderer.apply_policy(&delta);
}

/// A renderer that has been told everything at once, knowing what the switch holds.
fn cold(told: &Told, switch: &Switch) -> Renderer {
    let mut renderer = Renderer::new(&Config::default(), Known::read(switch.flows.values()));
    renderer.apply_policy(&PolicyDelta {
        groups: told.groups.clone().into_iter().collect(),
        address_groups: told.address_groups.clone().into_iter().collect(),
        ports: told.ports.clone().into_iter().collect(),
    });
    for (port, binding) in &told.bindings {
        renderer.bind(port, *binding);
    }
    for (ofport, attachment) in &told.network_ports {
        renderer.network_port(*ofport, *attachment);
    }
    renderer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_in_the_table_of_a_cold_start(steps in proptest::collection::vec(step(), 1..40)) {
        let mut pool = GenerationPool::new(1, 1_000_000);
        let mut switch = Switch::default();
        let mut told = Told::default();
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        for step in &steps {
            match step {
                Step::Commit => switch.apply(renderer.commit(&mut pool).unwrap().ops),
                Step::Sweep => {
                    switch.apply(renderer.commit(&mut pool).unwrap().ops);
                    switch.apply(renderer.sweep());
                }
                Step::Restart => {
                    let mut again = cold(&told, &switch);
                    let batch = again.commit(&mut pool).unwrap();
                    let mut wanted = Switch::default();
                    wanted.apply(batch.ops);
                    for (key, old) in &switch.flows {
                        let body = |flow: &Flow| pipeline::FlowBody { cookie: flow.cookie, actions: flow.actions.clone() };
                        if wanted.flows.get(key) != Some(old) {
                            again.shrunk_by(key, &body(old), wanted.flows.get(key).map(body).as_ref());
                        }
                    }
                    wanted.apply(again.commit(&mut pool).unwrap().ops);
                    again.forget_known();
                    renderer = again;
                    switch = wanted;
                }
                other => tell(&mut renderer, &mut told, other),
            }
        }
        switch.apply(renderer.commit(&mut pool).unwrap().ops);
        switch.apply(renderer.sweep());
        prop_assert_eq!(renderer.generations_needed(), 0);

        let mut again = Switch::default();
        again.apply(cold(&told, &switch).commit(&mut GenerationPool::new(1, 1000)).unwrap().ops);
        let text = |switch: &Switch| switch.flows.values().map(|flow| format!("{flow:?}")).collect::<Vec<_>>().join("\n");
        prop_assert_eq!(text(&switch), text(&again));
    }
}
