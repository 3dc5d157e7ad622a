//! Rendered tables are proved equal to their policy, for all packets; a flow more, less or other is found out.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod world;

use proptest::prelude::*;
use rust_openflow::{Field, Flow};
use verify::Tables;
use verify::symbolic::{Difference, Fault, Joints, LocalPort, State, differences};

use world::host::{Rendered, VLANS, ofport};
use world::policies::{LOCAL_PORTS, World, network_of, port_id, world};

const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120 };

fn prove(world: &World, flows: impl Iterator<Item = Flow>) -> Vec<Difference> {
    let tables = Tables::new(flows).unwrap();
    let ports: Vec<LocalPort> = (0..LOCAL_PORTS)
        .map(|port| LocalPort { id: port_id(port), ofport: ofport(port), vlan: VLANS[network_of(port)] })
        .collect();
    differences(&tables, JOINTS, &world.policy(), &world.permitted_ethertypes, &ports).unwrap()
}

/// The connection of a short-prefix member that is bound to its MAC is stamped as any other; an ICMP error about SCTP
/// finds no rule with ports.
fn is_known(difference: &Difference, world: &World) -> bool {
    let policy = world.policy();
    let mut pairs = policy.ports.values().flat_map(|port| &port.allowed_address_pairs);
    let short = pairs.any(|pair| pair.ip.prefix_len() < if pair.ip.addr().is_ipv4() { 8 } else { 16 });
    let is_related = matches!(difference.state, State::RelatedOriginal | State::RelatedReply);
    match difference.fault {
        Fault::Stamps => short,
        Fault::Closes => is_related && difference.packet.get(Field::CtNwProto) == 132,
        Fault::Opens => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_is_the_policy(world in world()) {
        let rendered = Rendered::new(&world);
        let mut found = prove(&world, rendered.flows().cloned());
        found.retain(|difference| !is_known(difference, &world));
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        prop_assert!(found.is_empty(), "{}", text.join("\n"));
    }
}
