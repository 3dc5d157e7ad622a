//! Rendered tables are proved equal to their policy, for all packets; a flow more, less or other is found out.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod world;

use proptest::prelude::*;
use rust_openflow::Flow;
use verify::Tables;
use verify::symbolic::{Difference, Joints, LocalPort, differences};

use world::host::{Rendered, VLANS, ofport};
use world::policies::{LOCAL_PORTS, World, network_of, port_id, world};

const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120, output: 127 };

fn prove(world: &World, flows: impl Iterator<Item = Flow>) -> Vec<Difference> {
    let tables = Tables::new(flows).unwrap();
    let ports: Vec<LocalPort> = (0..LOCAL_PORTS)
        .map(|port| LocalPort { id: port_id(port), ofport: ofport(port), vlan: VLANS[network_of(port)] })
        .collect();
    differences(&tables, JOINTS, &world.policy(), &world.permitted_ethertypes, &ports).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_is_the_policy(world in world()) {
        let rendered = Rendered::new(&world);
        let found = prove(&world, rendered.flows().cloned());
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        prop_assert!(found.is_empty(), "{}", text.join("\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// An ethertype that says that a VLAN tag follows stays one, whatever an operator permits.
    #[test]
    fn a_tag_is_nothing_to_be_permitted(mut world in world()) {
        world.permitted_ethertypes.extend([0x8100, 0x88a8]);
        let found = prove(&world, Rendered::new(&world).flows().cloned());
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        prop_assert!(found.is_empty(), "{}", text.join("\n"));
    }
}
