//! What another policy would change is found at the ports at which it changes, and at no others.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod two_ports;
mod world;

use std::collections::BTreeSet;

use policy::{Direction, PortId};
use proptest::collection::vec;
use proptest::prelude::*;
use rust_openflow::Field;
use verify::Tables;
use verify::symbolic::{Difference, Fault, LocalPort, State, changes};

use two_ports::{Host, JOINTS, ports};
use world::host::{Rendered, VLANS, ofport};
use world::policies::{LOCAL_PORTS, World, edit, network_of, port_id, world};

/// Both ports serve names. What serves zones does so among its like; what serves `all`, serves names too.
const POLICY: &str = "
security_groups:
- {id: names, security_group_rules: [
    {id: n1, direction: egress, ethertype: IPv4},
    {id: n2, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53}]}
- {id: zones, security_group_rules: [
    {id: z1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 53, port_range_max: 53, remote_group_id: zones}]}
- {id: clocks, security_group_rules: [
    {id: c1, direction: egress, ethertype: IPv4},
    {id: c2, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 123, port_range_max: 123}]}
- {id: all, security_group_rules: [
    {id: a1, direction: egress, ethertype: IPv4},
    {id: a2, direction: ingress, ethertype: IPv4, protocol: udp}]}
ports:
- {id: p-1, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [names]}
- {id: p-2, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [names]}
";

/// The policy with other groups for its ports.
fn with_groups(first: &str, second: &str) -> String {
    let (head, tail) = POLICY.split_once("- {id: p-2").unwrap();
    let [head, tail] = [(head, first), (tail, second)].map(|(text, groups)| {
        text.replace("security_groups: [names]", &format!("security_groups: [{groups}]"))
    });
    format!("{head}- {{id: p-2{tail}")
}

/// What would change, as flows and connections see it; what is stamped until then is no change of its own.
fn between(old: &str, new: &str) -> Vec<Difference> {
    let (old, new) = (Host::of(old), Host::of(new));
    let tables = Tables::new(old.flows).unwrap();
    let mut found = changes(&tables, JOINTS, &new.policy, &BTreeSet::new(), &ports()).unwrap();
    found.retain(|difference| difference.fault != Fault::Stamps);
    found
}

fn named(found: &[Difference]) -> BTreeSet<PortId> {
    found.iter().map(|difference| difference.port.clone()).collect()
}

#[test]
fn a_port_that_leaves_others_of_its_group_is_the_only_one_that_changes() {
    for (first, second) in [("names", "clocks"), ("names", ""), ("names", "names, clocks")] {
        let found = between(POLICY, &with_groups(first, second));
        assert_eq!(named(&found), ["p-2".into()].into(), "{second}: {found:?}");
    }
}

/// Connections of a port are judged again where it has come, and those that are admitted there lose nothing.
#[test]
fn a_port_that_comes_to_where_more_is_admitted_loses_nothing() {
    let found = between(POLICY, &with_groups("names", "all"));
    assert_eq!(named(&found), ["p-2".into()].into(), "{found:?}");
    assert!(found.iter().all(|difference| difference.fault == Fault::Closes), "{found:?}");
}

/// One that leaves is a member less for those that stay, in each state of a connection.
#[test]
fn who_loses_a_member_is_named_with_the_packets_of_that_member() {
    let both = with_groups("names, zones", "names, zones");
    let found = between(&both, &with_groups("names, zones", "names"));
    assert_eq!(named(&found), ["p-1".into(), "p-2".into()].into());
    let at_first: Vec<&Difference> = found.iter().filter(|found| found.port.as_str() == "p-1").collect();
    for difference in &at_first {
        let remote = match difference.direction {
            Direction::Ingress => Field::Ipv4Src,
            Direction::Egress => Field::Ipv4Dst,
        };
        assert_eq!(difference.fault, Fault::Opens, "{difference}");
        if ![State::RelatedOriginal, State::RelatedReply].contains(&difference.state) {
            assert_eq!(difference.packet.get(remote), 0x0a00_0002, "{difference}");
        }
    }
    let seen =
        |state, direction| at_first.iter().any(|found| (found.state, found.direction) == (state, direction));
    assert!(
        seen(State::New, Direction::Ingress) && seen(State::Original, Direction::Ingress),
        "{at_first:?}"
    );
    assert!(seen(State::Reply, Direction::Egress), "{at_first:?}");
}

#[test]
fn ports_that_change_places_are_both_named() {
    let found = between(&with_groups("names", "clocks"), &with_groups("clocks", "names"));
    assert_eq!(named(&found), ["p-1".into(), "p-2".into()].into());
}

#[test]
fn the_policy_in_force_changes_nothing() {
    for groups in ["names", "clocks", "names, zones", ""] {
        let policy = with_groups("names", groups);
        assert_eq!(between(&policy, &policy), [], "{groups}");
    }
}

/// Ports, with the way of packets.
type Places = BTreeSet<(PortId, Direction)>;

/// Where packets would stop to pass with another policy, and where they would come to pass.
fn places(now: &World, then: &World) -> (Places, Places) {
    let tables = Tables::new(Rendered::new(now).flows().cloned()).unwrap();
    let port = |port| LocalPort { id: port_id(port), ofport: ofport(port), vlan: VLANS[network_of(port)] };
    let ports: Vec<LocalPort> = (0..LOCAL_PORTS).map(port).collect();
    let found = changes(&tables, JOINTS, &then.policy(), &now.permitted_ethertypes, &ports).unwrap();
    let of = |fault| {
        let found = found.iter().filter(|difference| difference.fault == fault);
        found.map(|found| (found.port.clone(), found.direction)).collect()
    };
    (of(Fault::Opens), of(Fault::Closes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a change takes is what its opposite gives: marks of connections hide nothing, and nobody is named for them alone.
    #[test]
    fn what_a_change_takes_its_opposite_gives(mut now in world(), edits in vec(edit(), 1..4)) {
        // Few sets for many ports.
        for n in 2..now.ports.len() {
            let groups = now.ports[n % 2].as_ref().map(|port| port.groups.clone());
            if let (Some(port), Some(groups)) = (&mut now.ports[n], groups) {
                port.groups = groups;
            }
        }
        let mut then = now.clone();
        edits.iter().for_each(|edit| then.apply(edit));
        // What a trusted port gets besides what is for it, the law does not say.
        let ports = now.ports.iter_mut().chain(&mut then.ports);
        ports.flatten().for_each(|port| port.trusted = false);
        let (taken, given) = places(&now, &then);
        let (taken_back, given_back) = places(&then, &now);
        prop_assert_eq!(taken, given_back);
        prop_assert_eq!(given, taken_back);
    }
}
