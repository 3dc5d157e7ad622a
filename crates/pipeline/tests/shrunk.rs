//! On start: whatever the switch holds that admits more than is wanted may have admitted connections, so the sets and directions
//! concerned, and no others, take new generations.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::collections::{BTreeMap, BTreeSet};

use pipeline::layout::{egress_commit, ingress_commit};
use pipeline::{Binding, Config, FlowBody, FlowOp, GenerationPool, Known, OfPort, Renderer, Vlan, Zone};
use policy::{Policy, document};
use rust_openflow::{Action, Flow, FlowKey};

type Table = BTreeMap<FlowKey, FlowBody>;

/// Port p-1 with group `a`, whose rules these are, and members of group `m` at these addresses.
fn policy(rules: &str, members: &[u8]) -> Policy {
    let mut text = format!(
        "security_groups: [{{id: a, security_group_rules: [{rules}]}}, {{id: m, security_group_rules: []}}]\nports:\n\
         - {{id: p-1, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{{ip_address: 10.0.0.1}}], \
         security_groups: [a]}}\n"
    );
    for member in members {
        text += &format!(
            "- {{id: m-{member}, network_id: n, mac_address: 'fa:16:3e:00:01:0{member}', \
             fixed_ips: [{{ip_address: 10.0.1.{member}}}], security_groups: [m]}}\n"
        );
    }
    let parsed = document::parse(&[("policy.yaml", &text)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

/// What a renderer wants that finds `held` in the switch.
fn rendered(policy: &Policy, held: &Table) -> (Renderer, Table) {
    let flows: Vec<Flow> = held
        .iter()
        .map(|(key, body)| {
            Flow::new(key.table, key.priority, key.matches.clone(), body.actions.to_vec())
                .with_cookie(body.cookie)
        })
        .collect();
    let mut renderer = Renderer::new(&Config::default(), Known::read(&flows));
    renderer.bind(&"p-1".into(), Some(Binding { ofport: OfPort(1), vlan: Vlan(10), zone: Zone(0x1001) }));
    renderer.apply_policy(&Policy::diff(&Policy::default(), policy));
    let batch = renderer.commit(&mut GenerationPool::new(100, 200)).unwrap();
    let set = |op| match op {
        FlowOp::Set(flow) => {
            let flow: Flow = flow;
            (flow.key(), FlowBody { cookie: flow.cookie, actions: flow.canonical().actions.into() })
        }
        FlowOp::Remove(key) => panic!("{key:?} is not there"),
    };
    (renderer, batch.ops.into_iter().map(set).collect())
}

/// In which directions connections are proven again when the switch holds `held` and `wanted` is wanted.
fn proven_again(held: &Table, policy: &Policy) -> BTreeSet<&'static str> {
    let (mut renderer, wanted) = rendered(policy, held);
    for (key, old) in held.iter().filter(|(key, old)| wanted.get(*key) != Some(*old)) {
        renderer.shrunk_by(key, old, wanted.get(key));
    }
    let batch = renderer.commit(&mut GenerationPool::new(300, 400)).unwrap();
    let stamped = batch.ops.iter().filter_map(|op| match op {
        FlowOp::Set(flow) if flow.table == egress_commit::TABLE => Some("egress"),
        FlowOp::Set(flow) if flow.table == ingress_commit::TABLE => Some("ingress"),
        _ => None,
    });
    stamped.collect()
}

/// The switch was filled by one policy, and another is wanted.
fn from_to(held: &Policy, wanted: &Policy) -> BTreeSet<&'static str> {
    proven_again(&rendered(held, &Table::new()).1, wanted)
}

const TO: &str = "{id: to, direction: egress, ethertype: IPv4, protocol: tcp}";
const FROM: &str = "{id: from, direction: ingress, ethertype: IPv4, protocol: tcp}";
const TO_MEMBERS: &str = "{id: to-m, direction: egress, ethertype: IPv4, remote_group_id: m}";
const FROM_MEMBERS: &str = "{id: from-m, direction: ingress, ethertype: IPv4, remote_group_id: m}";

#[test]
fn a_rule_that_the_switch_has_and_nobody_wants() {
    let both = policy(&[TO, FROM].join(", "), &[]);
    assert_eq!(from_to(&both, &policy(FROM, &[])), ["egress"].into());
    assert_eq!(from_to(&both, &policy(TO, &[])), ["ingress"].into());
    assert_eq!(from_to(&both, &policy("", &[])), ["egress", "ingress"].into());
}

#[test]
fn a_rule_about_members_that_the_switch_has_and_nobody_wants() {
    let both = policy(&[TO_MEMBERS, FROM_MEMBERS].join(", "), &[1, 2]);
    assert_eq!(from_to(&both, &policy(FROM_MEMBERS, &[1, 2])), ["egress"].into());
    assert_eq!(from_to(&both, &policy(TO_MEMBERS, &[1, 2])), ["ingress"].into());
}

#[test]
fn a_member_that_the_switch_has_and_nobody_wants() {
    let there = |rules: &str, members: &[u8]| policy(rules, members);
    assert_eq!(from_to(&there(TO_MEMBERS, &[1, 2]), &there(TO_MEMBERS, &[1])), ["egress"].into());
    assert_eq!(from_to(&there(FROM_MEMBERS, &[1, 2]), &there(FROM_MEMBERS, &[1])), ["ingress"].into());
}

#[test]
fn what_is_missing_in_the_switch_or_as_it_should_be_is_no_loss() {
    let all = [TO, FROM, TO_MEMBERS, FROM_MEMBERS].join(", ");
    let all = policy(&all, &[1, 2]);
    assert_eq!(from_to(&all, &all), [].into());
    assert_eq!(from_to(&policy(TO, &[]), &all), [].into());
    assert_eq!(from_to(&policy(TO_MEMBERS, &[1]), &all), [].into());
    // The same service for one more remote.
    let own = "{id: to-a, direction: egress, ethertype: IPv4, remote_group_id: a}";
    let more = policy(&[TO_MEMBERS, own].join(", "), &[1]);
    assert_eq!(from_to(&policy(TO_MEMBERS, &[1]), &more), [].into());
    assert_eq!(from_to(&more, &policy(TO_MEMBERS, &[1])), ["egress"].into());
}

/// Somebody who gave a later one may have revoked what carries ours.
#[test]
fn a_generation_that_is_later_than_ours() {
    let all = policy(&[TO, FROM].join(", "), &[]);
    let held = rendered(&all, &Table::new()).1;
    // And who gave the same revoked nothing.
    let same = |(key, body): (&FlowKey, &FlowBody)| {
        let other =
            FlowBody { cookie: body.cookie, actions: body.actions.iter().cycle().take(2).cloned().collect() };
        (key.clone(), if key.table == egress_commit::TABLE { other } else { body.clone() })
    };
    assert_eq!(proven_again(&held.iter().map(same).collect(), &all), [].into());
    for (table, direction) in [(egress_commit::TABLE, "egress"), (ingress_commit::TABLE, "ingress")] {
        let (mut renderer, wanted) = rendered(&all, &held);
        let stamp = |(key, body): (&FlowKey, &FlowBody)| {
            let is_stamp =
                key.table == table && body.actions.iter().any(|action| matches!(action, Action::Ct(_)));
            is_stamp.then(|| (key.clone(), body.clone()))
        };
        let (key, ours) = wanted.iter().find_map(stamp).unwrap();
        let text = Flow::new(key.table, key.priority, key.matches.clone(), ours.actions.to_vec()).to_string();
        let (before, mark) = text.split_once("set_field:").unwrap();
        let (_, after) = mark.split_once("->ct_mark").unwrap();
        for (mark, expected) in [("0xfff", BTreeSet::from([direction])), ("0x1", BTreeSet::new())] {
            let theirs: Flow = format!("{before}set_field:{mark}->ct_mark{after}").parse().unwrap();
            assert_ne!(theirs.to_string(), text);
            let theirs = FlowBody { cookie: ours.cookie, actions: theirs.canonical().actions.into() };
            renderer.shrunk_by(&key, &theirs, Some(&ours));
            let batch = renderer.commit(&mut GenerationPool::new(300, 400)).unwrap();
            let tables: BTreeSet<u8> = batch
                .ops
                .iter()
                .filter_map(|op| match op {
                    FlowOp::Set(flow) => Some(flow.table),
                    FlowOp::Remove(_) => None,
                })
                .collect();
            assert_eq!(tables.contains(&table), !expected.is_empty(), "{direction}, {mark}");
        }
    }
}
