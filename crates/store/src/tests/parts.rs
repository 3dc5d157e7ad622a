//! Groups of several rows.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{Condition, Delete, Insert, Mutate, Mutator, Operation, Transaction, Value};
use policy::document::parse;
use policy::{Policy, PolicyDelta};
use proptest::prelude::*;
use serde_json::json;

use super::world::World;
use crate::schema::{DATABASE, MEMBERS, SECURITY_GROUP};

/// A port of host h whose group admits itself, and members elsewhere, with an address of each family.
fn policy(members: impl IntoIterator<Item = u8>) -> Policy {
    let member = |number: u8| {
        json!({"id": format!("m{number}"), "network_id": "n", "mac_address": format!("fa:16:3e:00:01:{number:02x}"),
            "fixed_ips": [{"ip_address": format!("10.0.0.{number}")}, {"ip_address": format!("2001:db8::{number:x}")}], "security_groups": ["g"]})
    };
    let mut ports: Vec<_> = members.into_iter().map(member).collect();
    ports.push(json!({"id": "p", "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "security_groups": ["g"], "binding:host_id": "h"}));
    let rule = json!({"id": "r", "direction": "ingress", "ethertype": "IPv4", "remote_group_id": "g"});
    let document = json!({"security_groups": [{"id": "g", "security_group_rules": [rule]}], "ports": ports});
    parse(&[("p", &document.to_string())], None).policy
}

/// A store whose rows have two members at most.
fn world(members: impl IntoIterator<Item = u8>) -> World {
    let mut world = World::new(&["h"]);
    world.scribe.writer.room = 2;
    world.write(policy(members));
    world.run();
    world
}

/// Who stands in which row of the group, its own being 0.
fn rows(world: &World) -> BTreeMap<i64, Vec<String>> {
    let replica = world.scribe.session.core.replica();
    let of = |row: &ovsdb::Row| -> Vec<String> {
        let texts = row.strings("members_ipv4").unwrap();
        texts.into_iter().map(|text| text.trim_start_matches("10.0.0.").to_owned()).collect()
    };
    let heads = replica.rows(SECURITY_GROUP).map(|row| (0, of(row)));
    let parts = replica.rows(MEMBERS).map(|row| (row.integer("part").unwrap(), of(row)));
    heads.chain(parts).collect()
}

fn check_rows(world: &World, expected: &[(i64, &[&str])]) {
    let rows = rows(world);
    let rows: Vec<(i64, Vec<&str>)> =
        rows.iter().map(|(part, texts)| (*part, texts.iter().map(String::as_str).collect())).collect();
    let expected: Vec<(i64, Vec<&str>)> =
        expected.iter().map(|(part, texts)| (*part, texts.to_vec())).collect();
    assert_eq!(rows, expected);
}

/// The members that the host has been told of, by the end of their IPv4 addresses.
fn told(policy: &Policy) -> BTreeSet<String> {
    let ids = policy.ports.keys().filter_map(|id| id.as_str().strip_prefix("g/member/10.0.0."));
    ids.map(|id| id.trim_end_matches("/32/").to_owned()).collect()
}

fn set(members: &[&str]) -> BTreeSet<String> {
    members.iter().map(ToString::to_string).collect()
}

#[test]
fn a_member_stays_where_it_is_and_a_row_without_one_goes() {
    let mut world = world(1..=5);
    check_rows(&world, &[(0, &["1", "2"]), (1, &["3", "4"]), (2, &["5"])]);
    assert_eq!(told(&world.hosts[0].policy), set(&["1", "2", "3", "4", "5"]));
    let mut becomes = |members: &[u8], rows: &[(i64, &[&str])]| {
        world.write(policy(members.iter().copied()));
        world.run();
        check_rows(&world, rows);
        let expected = members.iter().map(ToString::to_string).collect();
        assert_eq!(told(&world.hosts[0].policy), expected);
    };
    becomes(&[1, 3, 4, 5], &[(0, &["1"]), (1, &["3", "4"]), (2, &["5"])]);
    becomes(&[1, 5], &[(0, &["1"]), (2, &["5"])]);
    becomes(&[1, 5, 6, 7, 8], &[(0, &["1", "6"]), (1, &["8"]), (2, &["5", "7"])]);
    becomes(&[], &[(0, &[])]);
}

#[test]
fn a_group_goes_with_all_of_its_rows() {
    let mut world = world(1..=5);
    world.write(Policy::default());
    world.run();
    check_rows(&world, &[]);
    assert_eq!(world.hosts[0].policy, Policy::default());
}

#[test]
fn a_row_with_too_many_is_made_smaller_and_nobody_is_told() {
    let mut world = World::new(&["h"]);
    let wanted = policy(1..=5);
    world.write(wanted.clone());
    world.run();
    check_rows(&world, &[(0, &["1", "2", "3", "4", "5"])]);
    let (before, deltas) = (world.hosts[0].policy.clone(), world.hosts[0].deltas.len());
    let mut writer = crate::Writer::holding(world.scribe.writer.held().clone());
    writer.room = 2;
    writer.apply(&Policy::diff(&Policy::default(), &wanted), super::world::bound_to);
    writer.compare_all();
    let batch = writer.batch(usize::MAX).unwrap();
    assert_eq!((batch.rows, batch.objects().count()), (3, 0), "the policy is the same");
    world.scribe.writer = writer;
    assert!(!world.scribe.writer.is_written(&batch));
    world.scribe.writer.failed(batch.clone());
    assert_eq!(world.scribe.write(&mut world.server, world.now, usize::MAX), 1);
    world.run();
    assert!(world.scribe.writer.is_written(&batch));
    check_rows(&world, &[(0, &["1", "2"]), (1, &["3", "4"]), (2, &["5"])]);
    assert_eq!(world.hosts[0].policy, before);
    let told = &world.hosts[0].deltas[deltas..];
    assert!(told.iter().all(PolicyDelta::is_empty), "{told:?}");
}

fn row(part: i64) -> Vec<Condition> {
    vec![Condition::equal("security_group", "g"), Condition::equal("part", part)]
}

fn mutate(part: i64, mutator: Mutator, member: u8) -> Operation {
    let mutate = match part {
        0 => Mutate::table(SECURITY_GROUP).filter(Condition::equal("id", "g")),
        part => row(part).into_iter().fold(Mutate::table(MEMBERS), Mutate::filter),
    };
    mutate.mutate("members_ipv4", mutator, Value::set([format!("10.0.0.{member}")])).into()
}

#[test]
fn who_stands_in_two_rows_is_one_member_and_goes_from_both() {
    let mut world = world(1..=4);
    world.transact(&Transaction::new(DATABASE).with(mutate(1, Mutator::Insert, 1)));
    world.run();
    check_rows(&world, &[(0, &["1", "2"]), (1, &["1", "3", "4"])]);
    assert_eq!(told(&world.hosts[0].policy), set(&["1", "2", "3", "4"]));
    world.transact(&Transaction::new(DATABASE).with(mutate(0, Mutator::Delete, 1)));
    world.run();
    assert_eq!(told(&world.hosts[0].policy), set(&["1", "2", "3", "4"]));
    world.transact(&Transaction::new(DATABASE).with(mutate(0, Mutator::Insert, 1)));
    world.run();
    world.write(policy([2, 3, 4]));
    world.run();
    check_rows(&world, &[(0, &["2"]), (1, &["3", "4"])]);
    assert_eq!(told(&world.hosts[0].policy), set(&["2", "3", "4"]));
}

#[test]
fn who_stands_in_two_rows_of_which_one_has_too_many_stays_in_the_other() {
    let mut world = world(1..=4);
    for member in [3, 4] {
        world.transact(&Transaction::new(DATABASE).with(mutate(0, Mutator::Insert, member)));
    }
    world.run();
    check_rows(&world, &[(0, &["1", "2", "3", "4"]), (1, &["3", "4"])]);
    world.write(policy(1..=4));
    world.run();
    check_rows(&world, &[(0, &["1", "2"]), (1, &["3", "4"])]);
    assert_eq!(told(&world.hosts[0].policy), set(&["1", "2", "3", "4"]));
}

#[test]
fn rows_of_no_group_are_nobodys_and_go() {
    let mut world = world(1..=2);
    let orphan = Insert::into(MEMBERS).set("security_group", "x").set("part", 1);
    world.transact(&Transaction::new(DATABASE).with(orphan.set("members_ipv4", Value::set(["10.0.0.9"]))));
    world.run();
    assert!(world.hosts[0].session.core.replica().rows(MEMBERS).next().is_none(), "it is not sent");
    world.write(policy(1..=2));
    world.run();
    check_rows(&world, &[(0, &["1", "2"])]);
}

/// By hand: rows of the group, the first its own.
#[derive(Clone, Debug)]
enum Step {
    Put(i64, u8),
    Take(i64, u8),
    Delete(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_i64, 1..6_u8).prop_map(|(row, member)| Step::Put(row, member)),
        2 => (0..4_i64, 1..6_u8).prop_map(|(row, member)| Step::Take(row, member)),
        1 => (0..4_i64).prop_map(Step::Delete),
    ]
}

/// The operation, for rows that are there, and what there is then.
fn operation(step: &Step, rows: &mut BTreeMap<i64, BTreeSet<u8>>) -> Operation {
    match step {
        Step::Put(part, member) if rows.contains_key(part) => {
            rows.entry(*part).or_default().insert(*member);
            mutate(*part, Mutator::Insert, *member)
        }
        Step::Put(part, member) => {
            rows.insert(*part, [*member].into());
            let insert = match part {
                0 => Insert::into(SECURITY_GROUP).set("id", "g"),
                part => Insert::into(MEMBERS).set("security_group", "g").set("part", *part),
            };
            insert.set("members_ipv4", Value::set([format!("10.0.0.{member}")])).into()
        }
        Step::Take(part, member) => {
            rows.get_mut(part).map(|row| row.remove(member));
            mutate(*part, Mutator::Delete, *member)
        }
        Step::Delete(part) => {
            rows.remove(part);
            match part {
                0 => Delete::from(SECURITY_GROUP).filter(Condition::equal("id", "g")).into(),
                part => row(*part).into_iter().fold(Delete::from(MEMBERS), Delete::filter).into(),
            }
        }
    }
}

proptest! {
    /// Whatever stands in which row, and whether the host loses its connection: it has the members of all rows while there is a group, and is told of each once.
    #[test]
    fn the_members_are_those_of_all_rows(transactions in prop::collection::vec((prop::collection::vec(step(), 1..6), 0..6_u8), 1..12)) {
        let mut world = world([]);
        let mut rows: BTreeMap<i64, BTreeSet<u8>> = [(0, BTreeSet::new())].into();
        // A port carries the group: it is wanted also while it is not there.
        for (steps, loses) in transactions {
            let mut transaction = Transaction::new(DATABASE);
            for step in &steps {
                transaction.push(operation(step, &mut rows));
            }
            let before = world.hosts[0].policy.clone();
            let deltas = world.hosts[0].deltas.len();
            if loses == 0 {
                let (now, World { hosts, server, .. }) = (world.now, &mut world);
                server.keep_transactions(0);
                hosts[0].session.lose(server, now);
            }
            world.transact(&transaction);
            world.run();
            let members: BTreeSet<String> = match rows.contains_key(&0) {
                true => rows.values().flatten().map(ToString::to_string).collect(),
                false => BTreeSet::new(),
            };
            prop_assert_eq!(told(&world.hosts[0].policy), members);
            let mut now = before;
            for delta in &world.hosts[0].deltas[deltas..] {
                for (id, port) in &delta.ports {
                    prop_assert_ne!(now.ports.get(id), port.as_ref(), "told twice: {}", id);
                }
                now.apply(delta.clone());
            }
        }
    }
}
