//! On start: whatever the switch holds that admits more than is wanted may have admitted connections, so the sets and directions
//! concerned, and no others, take new generations; what packets may still come to by a set that is out of use stays for the sweep;
//! and numbers that the switch knows are nobody else's until all is told.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use pipeline::layout::{egress_commit, ingress_commit, register};
use pipeline::{
    Binding, Config, FlowBody, FlowKind, FlowOp, GenerationPool, Known, OfPort, Renderer, Vlan, Zone,
    decode_cookie,
};
use policy::{Policy, Port, SecurityGroup, document};
use rust_openflow::{Action, Flow, FlowKey};

type Table = BTreeMap<FlowKey, FlowBody>;

/// Port p-1 with group `a`, whose rules these are, and members of group `m` at these addresses.
fn policy(rules: &str, members: &[u8]) -> Policy {
    policy_of("a", rules, members)
}

/// The same with another group for the port.
fn policy_of(group: &str, rules: &str, members: &[u8]) -> Policy {
    let mut text = format!(
        "security_groups: [{{id: a, security_group_rules: [{rules}]}}, {{id: b, security_group_rules: []}}, \
         {{id: m, security_group_rules: []}}]\nports:\n\
         - {{id: p-1, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{{ip_address: 10.0.0.1}}], \
         security_groups: [{group}]}}\n"
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
    // The counter is above all that the switch holds.
    let first = if held.is_empty() { 100 } else { 200 };
    let batch = renderer.commit(&mut GenerationPool::new(first, first + 100)).unwrap();
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

/// What stays for the sweep when the switch was filled by one policy and another is wanted: of each flow what it held, and
/// what is to stay.
fn left_over(held: &Policy, wanted: &Policy) -> Vec<(FlowKey, FlowBody, FlowBody)> {
    let held = rendered(held, &Table::new()).1;
    let (renderer, wanted) = rendered(wanted, &held);
    let differ = held.into_iter().filter(|(key, old)| wanted.get(key) != Some(old));
    let left = differ.filter_map(|(key, old)| {
        let stays = renderer.left_over(&key, &old, wanted.get(&key))?;
        Some((key, old, stays))
    });
    left.collect()
}

fn kinds(left: &[(FlowKey, FlowBody, FlowBody)]) -> BTreeSet<FlowKind> {
    left.iter().filter_map(|(_, old, _)| Some(decode_cookie(old.cookie)?.0)).collect()
}

#[test]
fn nothing_of_a_set_in_use_is_left_over() {
    let both = policy(&[TO_MEMBERS, FROM_MEMBERS, TO].join(", "), &[1, 2]);
    for wanted in [policy(TO, &[1, 2]), policy(TO_MEMBERS, &[1]), policy(FROM_MEMBERS, &[1, 2])] {
        let left = left_over(&both, &wanted);
        let of_rules = [FlowKind::Rule, FlowKind::Set];
        assert!(kinds(&left).iter().all(|kind| !of_rules.contains(kind)), "{left:?}");
    }
    assert_eq!(left_over(&both, &policy(TO_MEMBERS, &[1])), [], "m is named still");
}

/// Its rules, what they say of members, and those members' own flows.
#[test]
fn a_set_that_is_out_of_use_stays_as_it_was() {
    let left = left_over(&policy(&[FROM, TO_MEMBERS].join(", "), &[1]), &policy_of("b", "", &[1]));
    assert_eq!(kinds(&left), [FlowKind::Set, FlowKind::Rule, FlowKind::Remote, FlowKind::Member].into());
    for (key, old, stays) in &left {
        assert_eq!(old, stays, "{key:?}");
        let of_a_set = matches!(decode_cookie(old.cookie), Some((FlowKind::Set | FlowKind::Rule, _)));
        // Which set a frame goes by, and its name, are not asked by its number.
        assert!(!of_a_set || key.matches.get(register::SET).is_some(), "{key:?}");
    }
}

/// To one remote the address is left, of the other it is wanted.
#[test]
fn a_member_that_is_wanted_otherwise_keeps_what_is_left_besides() {
    let of_m = "{id: of-m, direction: ingress, ethertype: IPv4, remote_group_id: m}";
    let mut held = policy(of_m, &[1]);
    let mut wanted = policy_of("b", of_m, &[1]);
    for (policy, rule) in [(&mut held, of_m), (&mut wanted, of_m)] {
        let both = |group: &str| {
            let text = format!("security_groups: [{{id: {group}, security_group_rules: [{rule}]}}]")
                .replace("remote_group_id: m", "remote_group_id: n")
                .replace("of-m", "of-n");
            document::parse(&[("p.yaml", &text)], None).policy.groups
        };
        policy.groups.extend(both("b"));
        let mut member = Port::clone(&policy.ports[&"m-1".into()]);
        member.security_groups.insert("n".into());
        policy.groups.insert(
            "n".into(),
            Arc::new(SecurityGroup {
                id: "n".into(),
                name: String::new(),
                stateful: true,
                rules: Vec::new(),
            }),
        );
        policy.ports.insert(member.id.clone(), Arc::new(member));
    }
    let members: Vec<_> = left_over(&held, &wanted)
        .into_iter()
        .filter(|(_, old, _)| matches!(decode_cookie(old.cookie), Some((FlowKind::Member, _))))
        .collect();
    assert!(!members.is_empty());
    for (key, old, stays) in members {
        let (was, is): (BTreeSet<String>, BTreeSet<String>) = (
            old.actions.iter().map(ToString::to_string).collect(),
            stays.actions.iter().map(ToString::to_string).collect(),
        );
        assert!(was.is_subset(&is) && is.len() == was.len() + 1, "{key:?}: {was:?}, {is:?}");
    }
}

#[test]
fn what_the_switch_calls_something_is_no_name_for_another_until_all_is_told() {
    let held = rendered(&policy(TO_MEMBERS, &[1]), &Table::new()).1;
    let of_address_group = |renderer: &mut Renderer, id: &str| {
        let text = format!(
            "address_groups: [{{id: {id}, addresses: [10.9.0.0/16]}}]\nsecurity_groups: [{{id: a, security_group_rules: \
             [{{id: {id}, direction: egress, ethertype: IPv4, remote_address_group_id: {id}}}]}}]"
        );
        let parsed = document::parse(&[("p.yaml", &text)], None);
        assert_eq!(parsed.diagnostics, []);
        let delta = Policy::diff(&Policy::default(), &parsed.policy);
        renderer.apply_policy(&delta);
        let batch = renderer.commit(&mut GenerationPool::new(300, 400)).unwrap();
        conjunctions(batch.ops)
    };
    let (mut renderer, _) = rendered(&policy("", &[1]), &held);
    assert_eq!(of_address_group(&mut renderer, "x"), [2].into(), "1 is group m");
    let (mut renderer, _) = rendered(&policy("", &[1]), &held);
    renderer.forget_known();
    assert_eq!(of_address_group(&mut renderer, "x"), [1].into());
}

/// Else connections of then would be good again, without proof.
#[test]
fn a_set_that_nobody_claims_at_the_start_begins_anew_when_it_comes_back() {
    let there = policy(TO, &[]);
    let held = rendered(&there, &Table::new()).1;
    let elsewhere = policy_of("b", TO, &[]);
    let number = |renderer: &mut Renderer| {
        renderer.apply_policy(&Policy::diff(&elsewhere, &there));
        let batch = renderer.commit(&mut GenerationPool::new(300, 400)).unwrap();
        let rule = batch.ops.iter().find_map(|op| match op {
            FlowOp::Set(flow) => decode_cookie(flow.cookie).filter(|(kind, _)| *kind == FlowKind::Rule),
            FlowOp::Remove(_) => None,
        });
        rule.unwrap().1
    };
    let (mut renderer, _) = rendered(&elsewhere, &held);
    assert_eq!(number(&mut renderer), 100, "while all is being told");
    let (mut renderer, _) = rendered(&elsewhere, &held);
    renderer.forget_known();
    assert_eq!(number(&mut renderer), 300);
}

#[test]
fn the_highest_generation_is_above_all_that_a_switch_holds() {
    let held = rendered(&policy(&[TO, FROM].join(", "), &[]), &Table::new()).1;
    let flow = |(key, body): (&FlowKey, &FlowBody)| {
        Flow::new(key.table, key.priority, key.matches.clone(), body.actions.to_vec())
            .with_cookie(body.cookie)
    };
    let flows: Vec<Flow> = held.iter().map(flow).collect();
    let highest = Known::read(&flows).highest_generation().unwrap();
    assert_eq!(highest.0, 102, "a set and two generations, from 100 on");
    assert_eq!(Known::read(&[]).highest_generation(), None);
}

fn conjunctions(ops: Vec<FlowOp>) -> BTreeSet<u32> {
    let set = ops.into_iter().filter_map(|op| match op {
        FlowOp::Set(flow) => Some(flow),
        FlowOp::Remove(_) => None,
    });
    let ids = set.flat_map(|flow: Flow| flow.actions).filter_map(|action| match action {
        Action::Conjunction { id, .. } => Some(id),
        _ => None,
    });
    ids.collect()
}
