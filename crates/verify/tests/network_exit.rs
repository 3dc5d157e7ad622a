//! The way to other hosts: where frames leave without a tag of ours (the untagged network by trunks, any network by its
//! access ports), a tag that a trusted guest sets must not carry its frame into another network.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::evaluator::{Frame, Payload};
use policy::{MacAddr, Policy, document};
use rust_openflow::PortNo;
use verify::{Connections, Outcome, Packet, Tables, run};

const POLICY: &str = "
ports:
- {id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01', port_security_enabled: false}
";
const GUEST: u16 = 1;
const TRUNK: u16 = 100;
const ACCESS: u16 = 101;
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
/// For experiments (IEEE 802, local experimental ethertype 1).
const ETHERTYPE: u16 = 0x88b5;

/// A trusted guest on a network, a trunk, and perhaps an access port of that network.
fn host(vlan: u16, has_access: bool) -> Tables {
    let policy = document::parse(&[("policy.yaml", POLICY)], None).policy;
    let mut renderer = Renderer::new(&Config::default(), Known::default());
    renderer.network_port(OfPort(TRUNK), Some(NetworkPort::Trunk));
    if has_access {
        renderer.network_port(OfPort(ACCESS), Some(NetworkPort::Access(Vlan(vlan))));
    }
    let binding = Binding { ofport: OfPort(GUEST), vlan: Vlan(vlan), zone: Zone(0x1001) };
    renderer.bind(&"p".into(), Some(binding));
    renderer.apply_policy(&Policy::diff(&Policy::default(), &policy));
    let ops = renderer.commit(&mut GenerationPool::new(1, 100)).unwrap().ops;
    let flows = ops.into_iter().filter_map(|op| match op {
        FlowOp::Set(flow) => Some(flow),
        FlowOp::Remove(_) => None,
    });
    Tables::new(flows).unwrap()
}

/// A frame to somebody on another host, with the tag that the guest gave it, and what stands behind.
fn sent(tables: &Tables, vlan: Option<u16>, ethertype: u16) -> Outcome {
    let eth_src = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
    let frame =
        Frame { eth_src, eth_dst: MacAddr([2, 0, 0, 0, 0, 9]), vlan, payload: Payload::Other(ethertype) };
    run(tables, Packet::of_frame(PortNo(u32::from(GUEST)), &frame), &mut Connections::default()).unwrap()
}

/// Ports, each with the VLANs that the frame says there.
fn left(outcome: &Outcome) -> Vec<(u32, Vec<u16>)> {
    let vids = |packet: &Packet| packet.tags().iter().map(|tag| tag.vid()).collect();
    outcome.outputs.iter().map(|output| (output.port.0, vids(&output.packet))).collect()
}

#[test]
fn a_guests_tag_does_not_lead_into_another_network() {
    for (vlan, has_access) in [(0, false), (0, true), (20, true)] {
        let tables = host(vlan, has_access);
        for (tag, ethertype) in [
            (Some(10), ETHERTYPE),
            (Some(10), CUSTOMER_TAG),
            (None, SERVICE_TAG),
            (Some(0), CUSTOMER_TAG),
            (Some(0), SERVICE_TAG),
        ] {
            let outcome = sent(&tables, tag, ethertype);
            assert_eq!(left(&outcome), [], "VLAN {vlan}: {tag:?}, {ethertype:#x}");
        }
    }
}

#[test]
fn what_has_no_tag_of_its_own_leaves_by_every_way_of_its_network() {
    let access = u32::from(ACCESS);
    let trunk = u32::from(TRUNK);
    for (vlan, has_access, ways) in [
        (0, false, vec![(trunk, vec![])]),
        (0, true, vec![(access, vec![]), (trunk, vec![])]),
        (20, false, vec![(trunk, vec![20])]),
        (20, true, vec![(access, vec![]), (trunk, vec![20])]),
    ] {
        let tables = host(vlan, has_access);
        assert_eq!(left(&sent(&tables, None, ETHERTYPE)), ways, "VLAN {vlan}");
        if has_access || vlan == 0 {
            // A priority tag names no network; it is taken off where another tag would say too much.
            assert_eq!(left(&sent(&tables, Some(0), ETHERTYPE)), ways, "VLAN {vlan}, priority tag");
        }
    }
}
