//! What a change costs: flow-mods counted, at few and at many ports (issue: "whatever the number of ports").

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pipeline::layout::{egress_ip, ingress_base};
use pipeline::{Batch, Binding, Config, FlowOp, GenerationPool, Known, OfPort, Renderer, Vlan, Zone};
use policy::{
    Direction, Ethertype, GroupId, MacAddr, PolicyDelta, Port, PortId, PortProtocol, PortRange, Remote, Rule,
    SecurityGroup, Service,
};

fn default_group(extra: Option<Rule>) -> Arc<SecurityGroup> {
    let id: GroupId = "default".into();
    let rule = |name: &str, direction, ethertype, remote| Rule {
        id: name.into(),
        direction,
        ethertype,
        service: Service::Any,
        remote,
    };
    let mut rules = vec![
        rule("e4", Direction::Egress, Ethertype::Ipv4, Remote::Any),
        rule("e6", Direction::Egress, Ethertype::Ipv6, Remote::Any),
        rule("i4", Direction::Ingress, Ethertype::Ipv4, Remote::Group(id.clone())),
        rule("i6", Direction::Ingress, Ethertype::Ipv6, Remote::Group(id.clone())),
    ];
    rules.extend(extra);
    Arc::new(SecurityGroup { id, name: "default".into(), stateful: true, rules })
}

fn member(n: u16) -> Arc<Port> {
    let [high, low] = n.to_be_bytes();
    let addresses = [
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)),
    ];
    Arc::new(Port {
        id: port_id(n),
        network_id: "net".into(),
        mac: MacAddr([0xfa, 0x16, 0x3e, 0, high, low]),
        fixed_ips: addresses.into(),
        allowed_address_pairs: BTreeSet::new(),
        security_groups: [GroupId::from("default")].into(),
        port_security_enabled: true,
        device_owner: "compute:nova".into(),
        host: None,
    })
}

fn port_id(n: u16) -> PortId {
    format!("port-{n}").as_str().into()
}

struct Host {
    renderer: Renderer,
    pool: GenerationPool,
    flows: usize,
}

impl Host {
    fn new(ports: u16, members: u16) -> Self {
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        renderer.apply_policy(&PolicyDelta {
            groups: vec![("default".into(), Some(default_group(None)))],
            ports: (0..members).map(|n| (port_id(n), Some(member(n)))).collect(),
            ..PolicyDelta::default()
        });
        for n in 0..ports {
            renderer.bind(&port_id(n), Some(binding(n)));
        }
        let mut host = Host { renderer, pool: GenerationPool::new(1, 100_000), flows: 0 };
        host.flows = host.commit().ops.len();
        host
    }

    fn commit(&mut self) -> Batch {
        self.renderer.commit(&mut self.pool).expect("generations are reserved")
    }

    fn change(&mut self, delta: PolicyDelta) -> Batch {
        self.renderer.apply_policy(&delta);
        self.commit()
    }
}

fn binding(n: u16) -> Binding {
    Binding { ofport: OfPort(n + 1), vlan: Vlan(10), zone: Zone(4097 + n) }
}

fn ports(ports: Vec<(PortId, Option<Arc<Port>>)>) -> PolicyDelta {
    PolicyDelta { ports, ..PolicyDelta::default() }
}

const SIZES: [u16; 2] = [10, 500];

#[test]
fn a_default_group_of_500_ports_and_500_members_is_at_most_8000_flows() {
    assert!(Host::new(500, 500).flows <= 8_000, "{} flows", Host::new(500, 500).flows);
}

#[test]
fn one_member_more_is_four_flow_mods() {
    for size in SIZES {
        let batch = Host::new(size, 500).change(ports(vec![(port_id(600), Some(member(600)))]));
        assert_eq!(batch.ops.len(), 4, "two planes, two families, at {size} ports");
        assert!(!batch.shrinks, "growth needs no revalidation");
    }
}

#[test]
fn one_member_less_is_at_most_20_flow_mods() {
    let costs = SIZES.map(|size| {
        let batch = Host::new(size, 600).change(ports(vec![(port_id(599), None)]));
        assert!(batch.shrinks);
        batch.ops.len()
    });
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0] <= 20, "{costs:?}");
}

#[test]
fn one_rule_more_costs_the_same_at_any_number_of_ports() {
    let rule = Rule {
        id: "web".into(),
        direction: Direction::Ingress,
        ethertype: Ethertype::Ipv4,
        service: Service::Ports {
            protocol: PortProtocol::Tcp,
            range: Some(PortRange { min: 443, max: 443 }),
        },
        remote: Remote::Any,
    };
    for size in SIZES {
        let mut host = Host::new(size, 500);
        let with = PolicyDelta {
            groups: vec![("default".into(), Some(default_group(Some(rule.clone()))))],
            ..PolicyDelta::default()
        };
        let batch = host.change(with);
        assert_eq!(batch.ops.len(), 3, "one flow a plane, at {size} ports");
        assert!(!batch.shrinks);
    }
}

#[test]
fn a_port_that_joins_a_known_set_costs_its_own_flows() {
    for size in SIZES {
        let mut host = Host::new(size, 600);
        host.renderer.bind(&port_id(550), Some(binding(550)));
        let batch = host.commit();
        assert!(batch.ops.len() <= 40, "{} flow-mods at {size} ports", batch.ops.len());
        let others = batch.ops.iter().filter(|op| match op {
            FlowOp::Set(flow) => {
                flow.matches.get(rust_openflow::Field::InPort).is_some_and(|(port, _)| port != 551)
            }
            FlowOp::Remove(_) => true,
        });
        assert_eq!(others.count(), 0, "no other port's flows change");
    }
}

#[test]
fn ports_of_other_hosts_take_no_generations() {
    let mut host = Host::new(10, 500);
    host.renderer.apply_policy(&ports((500..900).map(|n| (port_id(n), Some(member(n)))).collect()));
    assert_eq!(host.renderer.generations_needed(), 0);
}

#[test]
fn saying_the_same_again_costs_nothing() {
    let mut host = Host::new(10, 20);
    host.renderer.bind(&port_id(3), Some(binding(3)));
    let delta = PolicyDelta {
        groups: vec![("default".into(), Some(default_group(None)))],
        ..ports(vec![(port_id(3), Some(member(3)))])
    };
    let batch = host.change(delta);
    assert!(batch.ops.is_empty() && !batch.shrinks, "{batch:?}");
}

#[test]
fn only_a_set_with_stateless_rules_asks_for_them() {
    let flows_with = |stateful: bool, direction: Direction| {
        let mut host = Host::new(1, 1);
        let mut group = SecurityGroup::clone(&default_group(None));
        group.stateful = stateful;
        group.rules.retain(|rule| rule.direction == direction);
        let groups = vec![("default".into(), Some(Arc::new(group)))];
        let ops = host.change(PolicyDelta { groups, ..PolicyDelta::default() }).ops;
        // In the tables in which a set's frames are asked for their connection, and before that for stateless rules.
        let asks = |table: u8| {
            ops.iter().filter(|op| matches!(op, FlowOp::Set(flow) if flow.table == table)).count()
        };
        (asks(egress_ip::TABLE), asks(ingress_base::TABLE))
    };
    assert_eq!(flows_with(true, Direction::Egress), (0, 0));
    assert_eq!(flows_with(false, Direction::Egress), (1, 0));
    assert_eq!(flows_with(false, Direction::Ingress), (0, 2), "of two ethertypes");
}
