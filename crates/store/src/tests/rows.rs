//! Rows that somebody has written by hand.

use expect_test::{Expect, expect};
use ovsdb::{Condition, Insert, Mutate, Mutator, Operation, Transaction, Update, Value};
use policy::document::parse;
use serde_json::json;

use super::world::World;
use crate::schema::{DATABASE, PORT, SECURITY_GROUP};

/// A host with one port in one group.
fn world() -> World {
    let document = json!({
        "security_groups": [{"id": "g", "security_group_rules": [{"id": "r", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
            "port_range_min": 22, "port_range_max": 22}]}],
        "ports": [{"id": "p", "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": [{"ip_address": "10.0.0.1"}],
            "security_groups": ["g"], "binding:host_id": "h"}]});
    let mut world = World::new(&["h"]);
    world.write(parse(&[("p", &document.to_string())], None).policy);
    world.run();
    world
}

fn by_hand(world: &mut World, operation: impl Into<Operation>) {
    world.transact(&Transaction::new(DATABASE).with(operation));
    world.run();
}

fn faults(world: &World, expected: Expect) {
    let faults = world.hosts[0].follower.view().faults();
    expected
        .assert_eq(&faults.map(|fault| format!("{}: {}\n", fault.object, fault.reason)).collect::<String>());
}

fn rule_is(world: &mut World, text: &str) {
    let rules = Mutate::table(SECURITY_GROUP).filter(Condition::equal("id", "g")).set_key("rules", "r", text);
    by_hand(world, rules);
}

#[test]
fn a_rule_that_is_none_stays_as_it_was() {
    let mut world = world();
    let before = world.hosts[0].policy.clone();
    rule_is(&mut world, "ingress IPv4 tcp 22 form 10.0.0.0/8");
    faults(
        &world,
        expect![[r#"
            rule r of security group g: "ingress IPv4 tcp 22 form 10.0.0.0/8": expected from or to before "form 10.0.0.0/8"
        "#]],
    );
    assert_eq!(world.hosts[0].policy, before);
    rule_is(&mut world, "ingress IPv4 tcp 70000 from 10.0.0.0/8");
    faults(
        &world,
        expect![[r#"
            rule r of security group g: port_range_min: expected a number from 0 to 65535, found 70000
            rule r of security group g: port_range_max: expected a number from 0 to 65535, found 70000
        "#]],
    );
    assert_eq!(world.hosts[0].policy, before);
    rule_is(&mut world, "ingress IPv4 from address-group a");
    faults(
        &world,
        expect![[r#"
        rule r of security group g: remote_address_group_id: address group a is not defined
    "#]],
    );
    assert_eq!(world.hosts[0].policy, before);
    rule_is(&mut world, "ingress IPv4 udp");
    faults(&world, expect![""]);
    assert_ne!(world.hosts[0].policy, before);
}

#[test]
fn a_port_of_a_group_that_is_not_there_stays_as_it_was_until_it_is() {
    let mut world = world();
    let before = world.hosts[0].policy.clone();
    by_hand(
        &mut world,
        Update::table(PORT)
            .filter(Condition::equal("id", "p"))
            .set("security_groups", Value::set(["g", "h"])),
    );
    faults(
        &world,
        expect![[r#"
        port p: security_groups: security group h is not defined
    "#]],
    );
    assert_eq!(world.hosts[0].policy, before);
    by_hand(&mut world, Insert::into(SECURITY_GROUP).set("id", "h").set("stateful", true));
    faults(&world, expect![""]);
    assert_eq!(world.hosts[0].policy.ports[&"p".into()].security_groups.len(), 2);
}

#[test]
fn a_port_that_is_refused_keeps_its_rules_and_whom_they_admit() {
    let mut world = world();
    rule_is(&mut world, "ingress IPv4 from own group");
    let before = world.hosts[0].policy.clone();
    assert!(before.ports.contains_key(&"g/member/10.0.0.1/32/".into()));
    by_hand(
        &mut world,
        Update::table(PORT).filter(Condition::equal("id", "p")).set("security_groups", Value::set(["h"])),
    );
    world.run();
    assert_eq!(world.hosts[0].policy, before);
    // Its rules go on to be followed.
    rule_is(&mut world, "ingress IPv4 udp");
    let rules = &world.hosts[0].policy.groups[&"g".into()].rules;
    let udp = policy::Service::Ports { protocol: policy::PortProtocol::Udp, range: None };
    assert_eq!(rules.iter().map(|rule| rule.service).collect::<Vec<_>>(), [udp]);
}

#[test]
fn a_group_that_goes_before_its_port_stays() {
    let mut world = world();
    let before = world.hosts[0].policy.groups.clone();
    by_hand(&mut world, ovsdb::Delete::from(SECURITY_GROUP).filter(Condition::equal("id", "g")));
    assert_eq!(world.hosts[0].policy.groups, before);
    by_hand(&mut world, ovsdb::Delete::from(PORT).filter(Condition::equal("id", "p")));
    assert!(world.hosts[0].policy.groups.is_empty());
}

#[test]
fn members_that_are_none_are_named_until_they_go() {
    let mut world = world();
    rule_is(&mut world, "ingress IPv4 from group g");
    let members = |mutator, text: &str| {
        Mutate::table(SECURITY_GROUP).filter(Condition::equal("id", "g")).mutate(
            "members_ipv4",
            mutator,
            Value::set([text]),
        )
    };
    for text in ["10.0.0.7/32", "nobody", "10.0.0.8"] {
        by_hand(&mut world, members(Mutator::Insert, text));
    }
    faults(
        &world,
        expect![[r#"
            member 10.0.0.7/32 of security group g: "10.0.0.7/32" is to be written "10.0.0.7"
            member nobody of security group g: "nobody" is neither an address nor a prefix
        "#]],
    );
    let ids: Vec<String> = world.hosts[0].policy.ports.keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["g/member/10.0.0.1/32/", "g/member/10.0.0.8/32/", "p"]);
    for text in ["10.0.0.7/32", "nobody"] {
        by_hand(&mut world, members(Mutator::Delete, text));
    }
    faults(&world, expect![""]);
}

#[test]
fn nothing_is_taken_of_a_store_that_is_not_finished() {
    let mut world = world();
    let policy = world.policy.clone();
    let mut other = World::new(&["h"]);
    other.write_by(policy.clone(), 1);
    // One row a transaction: the port comes last, and with it the number.
    other.run();
    assert_eq!(other.hosts[0].deltas.len(), 1);
    let unfinished = World::new(&["h"]);
    assert_eq!(unfinished.hosts[0].deltas, []);
    world.write(policy::Policy::default());
    world.run();
    assert!(world.hosts[0].policy.ports.is_empty(), "an empty policy is one");
}

/// The port of the host, made anew.
fn port_made_anew() -> Transaction {
    let insert = Insert::into(PORT)
        .set("id", "p")
        .set("network_id", "n")
        .set("mac_address", "fa:16:3e:00:00:01")
        .set("fixed_ips", Value::set(["10.0.0.1"]))
        .set("security_groups", Value::set(["g"]))
        .set("hosts", Value::set(["h"]));
    let delete = ovsdb::Delete::from(PORT).filter(Condition::equal("id", "p"));
    Transaction::new(DATABASE).with(delete).with(insert)
}

#[test]
fn a_row_that_is_made_anew_is_the_same_port() {
    // Rows are told of in the order of their random names: often enough to see both orders.
    for _ in 0..20 {
        let mut world = world();
        let before = world.hosts[0].policy.clone();
        world.transact(&port_made_anew());
        world.run();
        assert_eq!(world.hosts[0].policy, before);
        // And while the host is away, from a server that sends everything.
        let (now, World { hosts, server, .. }) = (world.now, &mut world);
        hosts[0].session.lose(server, now);
        server.transact(&port_made_anew()).unwrap();
        server.keep_transactions(0);
        world.run();
        world.run();
        assert_eq!(world.hosts[0].policy, before);
    }
}

#[test]
fn a_rule_that_is_refused_keeps_whom_it_names() {
    let mut world = world();
    by_hand(
        &mut world,
        Insert::into(SECURITY_GROUP).set("id", "h").set("members_ipv4", Value::set(["10.0.0.9"])),
    );
    rule_is(&mut world, "ingress IPv4 tcp 22 from group h");
    let before = world.hosts[0].policy.clone();
    assert!(before.ports.contains_key(&"h/member/10.0.0.9/32/".into()), "{before:?}");
    rule_is(&mut world, "ingress IPv4 tcp 22 form group h");
    world.run();
    assert_eq!(world.hosts[0].policy, before);
    rule_is(&mut world, "ingress IPv4 tcp 22");
    world.run();
    assert!(!world.hosts[0].policy.groups.contains_key(&"h".into()));
}

/// Of a host, one event after the other; no connection is lost.
fn step_by_step(world: &mut World, mut check: impl FnMut(&policy::Policy)) {
    let (now, World { hosts, server, .. }) = (world.now, world);
    let host = &mut hosts[0];
    for event in host.session.run(server, now) {
        host.follower.event(&event).unwrap();
        if let Some(delta) = host.follower.commit() {
            host.policy.apply(delta);
        }
        check(&host.policy);
    }
}

#[test]
fn a_group_that_is_wanted_again_while_its_rows_are_given_back_stays() {
    let mut world = world();
    let member = Value::set(["10.0.0.9"]);
    by_hand(&mut world, Insert::into(SECURITY_GROUP).set("id", "h").set("members_ipv4", member));
    rule_is(&mut world, "ingress IPv4 from group h");
    let has_member = |policy: &policy::Policy| {
        assert!(policy.ports.contains_key(&"h/member/10.0.0.9/32/".into()), "{policy:?}");
    };
    has_member(&world.hosts[0].policy);
    let rule = |text: &str| {
        let rules = Mutate::table(SECURITY_GROUP).filter(Condition::equal("id", "g"));
        Transaction::new(DATABASE).with(rules.set_key("rules", "r", text))
    };
    world.transact(&rule("ingress IPv4"));
    step_by_step(&mut world, has_member);
    let conditions = world.hosts[0].follower.next_conditions().unwrap();
    for (table, conditions) in conditions {
        world.hosts[0].session.core.set_conditions(ovsdb::session::Token(1), table, conditions);
    }
    // The rule is back before the server has heard of that.
    world.transact(&rule("ingress IPv4 from group h"));
    let (now, World { hosts, server, .. }) = (world.now, &mut world);
    hosts[0].session.deliver(server, now);
    step_by_step(&mut world, has_member);
    world.hosts[0].follower.answer();
    world.hosts[0].session.effects.clear();
    world.run();
    has_member(&world.hosts[0].policy);
}

/// So that a session goes on where it was although its conditions changed: `Followed::goes_on_from` of `ovsdb`. It begins anew only where a
/// port was asked for and nothing has come since: where ports are bound is looked at and not told, which is less for each host.
#[test]
fn what_conditions_choose_rows_by_never_changes_but_for_where_ports_are_bound() {
    let mut world = world();
    rule_is(&mut world, "ingress IPv4 from group g");
    world.hosts[0].follower.ask_for(["q".into()].into());
    let schema = ovsdb::DatabaseSchema::from_text(crate::schema::TEXT).unwrap();
    let conditions = world.hosts[0].follower.view().wants().conditions();
    let mut changing = Vec::new();
    for (table, conditions) in &conditions {
        for condition in conditions {
            let Condition::Column { column, .. } = condition else { continue };
            if schema.table(table).unwrap().column(column).unwrap().mutable {
                changing.push((*table, column.as_str()));
            }
        }
    }
    assert_eq!(changing, [(PORT, "hosts")]);
}
