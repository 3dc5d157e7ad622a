//! The engine against a world in memory: order of effects, restarts, failures.

mod beside_neutron;
mod handover;
mod judge;
mod observed;
mod simulation;
mod storm;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline::Zone;
use policy::Policy;
use world::World;

use super::{
    Consequence, DatabaseEvent, Event, Options, Report, Revalidation, Sent, Stage, SwitchEvent, Waiting,
};
use crate::host::{Closed, Configuration, InterfaceRow, RowChange};

/// Two ports of one group whose members may talk to each other.
const TWO_PORTS: &str = r#"
security_groups:
- {id: g, security_group_rules: [
    {id: e, direction: egress, ethertype: IPv4},
    {id: i, direction: ingress, ethertype: IPv4, remote_group_id: g}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [g]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [g]}
"#;

/// The same without the second port.
fn one_port() -> String {
    TWO_PORTS.lines().filter(|line| !line.contains("p-2")).collect::<Vec<_>>().join("\n")
}

/// A bridge on which both ports are plugged in and enforced.
fn enforced() -> World {
    let mut world = World::new(World::options());
    world.connect_database();
    world.plug(1, "p-1");
    world.plug(2, "p-2");
    world.document(TWO_PORTS);
    world.assert_converged();
    assert!(world.is_open(1) && world.is_open(2));
    world.take_log();
    world.reports.clear();
    world
}

#[test]
fn a_start_flushes_records_and_reserves_before_the_first_flow() {
    let mut world = World::new(World::options());
    world.connect_database();
    world.plug(1, "p-1");
    assert_eq!(world.take_log(), [""; 0], "without a policy the switch is left alone");
    assert_eq!(world.engine.waiting(), Some(&Waiting::Policy));
    world.document(&one_port());
    let log = world.take_log();
    let bundle = log.iter().position(|entry| entry.starts_with("bundle")).unwrap();
    assert_eq!(
        log[..bundle],
        ["connect", "flush [4097]", "write zone 4097", "write generation"],
        "and nothing before these"
    );
    assert_eq!(log[bundle + 1..], ["revalidate", "applied", "settled"], "nor what the bridge did before us");
    world.assert_converged();
}

#[test]
fn an_unchanged_restart_sends_nothing() {
    let mut world = enforced();
    world.restart();
    assert_eq!(world.take_log(), ["connect", "write generation", "applied", "settled"]);
    assert_eq!(world.engine.status().sent.flow_mods(), 0);
    world.assert_converged();
}

#[test]
fn what_comes_together_is_one_bundle() {
    let mut world = enforced();
    let before = world.engine.status().sent.bundles;
    world.plug(3, "p-3");
    world.take_log();
    let third = TWO_PORTS.to_owned()
        + "- {id: p-3, network_id: n, mac_address: \"fa:16:3e:00:00:03\", fixed_ips: [{ip_address: 10.0.0.3}], \
           security_groups: [g]}\n";
    world.document(&third);
    assert!(world.is_open(3));
    assert_eq!(
        world.engine.status().sent.bundles,
        before + 2,
        "one to close the unknown port, one to open it"
    );
    assert_eq!(world.reports.iter().filter(|r| matches!(r, Report::NoPolicy(_))).count(), 1);
}

#[test]
fn a_shrink_is_applied_only_after_revalidation() {
    let mut world = enforced();
    world.faults.hold_revalidation = true;
    world.document(&one_port());
    let log = world.take_log();
    assert_eq!(log.last().map(String::as_str), Some("revalidate"), "{log:?}");
    // What comes meanwhile waits for its turn.
    world.document(TWO_PORTS);
    assert_eq!(world.take_log(), [""; 0]);
    let revalidated = SwitchEvent::Revalidated(Revalidation::Confirmed);
    world.give(vec![Event::Switch(world.link, revalidated)]);
    let log = world.take_log();
    assert_eq!(
        log.first().map(String::as_str),
        Some("applied"),
        "the first change, before the second is begun"
    );
    assert_eq!(log.last().map(String::as_str), Some("settled"));
    world.assert_converged();
    assert!(world.is_open(2));
}

/// Each stage is told with the time of the first event that it follows from, and what follows from none with no stage.
#[test]
fn stages_are_told_with_the_time_of_the_first_event() {
    let mut world = enforced();
    world.stages.clear();
    let began = world.now;
    world.faults.hold_revalidation = true;
    world.document(&one_port());
    assert_eq!(world.stages, [Stage::Rendered, Stage::Acknowledged].map(|stage| (stage, began)));
    // The next change comes while the first is under way, and waits.
    world.now += Duration::from_secs(2);
    let second = world.now;
    world.document(TWO_PORTS);
    world.now += Duration::from_secs(1);
    world.stages.clear();
    world.give(vec![Event::Switch(world.link, SwitchEvent::Revalidated(Revalidation::Confirmed))]);
    assert_eq!(world.stages.first(), Some(&(Stage::Applied, began)));
    assert_eq!(world.stages[1..], Stage::ALL.map(|stage| (stage, second)));

    // What others have changed is put right; no event of ours began that.
    world.stages.clear();
    let flows = world.flows.clone();
    let told = world.others_change(BTreeMap::clear);
    world.give(told.into_iter().collect());
    assert_eq!((&world.flows, world.stages.len()), (&flows, 0));
    // A policy that changes nothing here takes no bundle.
    world.document(TWO_PORTS);
    assert_eq!(world.stages, []);
}

/// What is counted is what the switch holds, and what has happened.
#[test]
fn the_numbers_in_use_are_counted() {
    let mut world = enforced();
    let facts = world.engine.facts();
    let of_world = |world: &World| {
        let mut tables: BTreeMap<u8, u64> = BTreeMap::new();
        world.flows.keys().for_each(|key| *tables.entry(key.table).or_default() += 1);
        let name = |id: &u8| pipeline::LAYOUT.tables.iter().find(|table| table.id == *id).unwrap().name;
        tables.iter().map(|(id, count)| (name(id), *count)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(facts.flows_by_table, of_world(&world));
    assert_eq!(
        facts.ids,
        [("set", 1), ("remote", 1), ("zone", 2), ("generation", facts.ids["generation"])].into()
    );
    assert_eq!((facts.zones_flushed, facts.read_backs, facts.refused), (2, 1, 0));
    world.document(&one_port());
    let later = world.engine.facts();
    let held: BTreeMap<_, _> = later
        .flows_by_table
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(table, count)| (*table, *count))
        .collect();
    assert_eq!(held, of_world(&world));
    assert!(later.ids["generation"] > facts.ids["generation"], "a shrink takes a new one");
    world.give(vec![Event::Switch(world.link, SwitchEvent::Lost { reason: "x".into() })]);
    let later = world.engine.facts();
    assert_eq!((later.switch_losses, later.database_losses, later.read_backs), (1, 0, 1));
    assert_eq!(later.sent.bundles, world.engine.status().sent.bundles);
}

/// What was refused before is cached as a drop: a frame that the new policy admits would be lost after the report.
#[test]
fn growth_is_applied_only_after_revalidation() {
    let mut world = enforced();
    world.document(&one_port());
    world.take_log();
    world.faults.hold_revalidation = true;
    world.document(TWO_PORTS);
    assert_eq!(world.take_log().last().map(String::as_str), Some("revalidate"));
    world.give(vec![Event::Switch(world.link, SwitchEvent::Revalidated(Revalidation::Confirmed))]);
    assert_eq!(world.take_log(), ["applied", "settled"]);
}

#[test]
fn a_set_that_nobody_uses_goes_in_a_second_bundle() {
    let mut world = enforced();
    let flows_of_one_set = world.flows.len();
    let other = TWO_PORTS.replace("security_groups:\n- {id: g,", "security_groups:\n- {id: h}\n- {id: g,");
    let moved = other.replacen("10.0.0.2}], security_groups: [g]", "10.0.0.2}], security_groups: [h]", 1);
    world.document(&moved);
    world.take_log();
    world.document(&other);
    let log = world.take_log();
    let order: Vec<&str> = log.iter().map(|entry| entry.split(' ').next().unwrap()).collect();
    assert_eq!(order, ["bundle", "revalidate", "applied", "bundle", "settled"], "{log:?}");
    world.assert_converged();
    assert_eq!(world.flows.len(), flows_of_one_set);
}

/// A first stage that is cached goes by the set, and what comes next must not be admitted by it: not a new member of a group
/// that a rule of the set speaks of.
#[test]
fn what_comes_while_a_set_goes_out_of_use_waits_for_the_sweep() {
    let other = TWO_PORTS.replace("security_groups:\n- {id: g,", "security_groups:\n- {id: h}\n- {id: g,");
    let moved = other.replacen("10.0.0.2}], security_groups: [g]", "10.0.0.2}], security_groups: [h]", 1);
    let parsed = |text: &str| policy::document::parse(&[("test", text)], None).policy;
    let mut world = enforced();
    world.document(&moved);
    world.take_log();
    let [before, back, more] =
        [&moved, &other, &other.replace("10.0.0.2}", "10.0.0.2}, {ip_address: 10.0.0.9}")]
            .map(|text| parsed(text));
    let now = world.now;
    let mut bundles = Vec::new();
    for effect in world.engine.handle(now, vec![Event::Policy(Policy::diff(&before, &back))]) {
        bundles.extend(matches!(effect, super::Effect::Bundle(..)).then_some(effect));
    }
    assert_eq!(bundles.len(), 1, "the set of h goes out of use");
    assert!(world.engine.handle(now, vec![Event::Policy(Policy::diff(&back, &more))]).is_empty());
    let answer = world.perform(bundles.remove(0));
    world.policy = more;
    world.give(answer);
    let log = world.take_log();
    let order: Vec<&str> = log.iter().map(|entry| entry.split(' ').next().unwrap()).collect();
    assert_eq!(
        order,
        ["bundle", "revalidate", "applied", "bundle", "bundle", "revalidate", "applied", "settled"],
        "{log:?}"
    );
    world.assert_converged();
}

#[test]
fn a_lost_answer_is_settled_by_reading_back() {
    for applied in [true, false] {
        let mut world = enforced();
        world.faults.lose_bundle_answer = Some(applied);
        world.document(&one_port());
        assert!(world.reports.iter().any(|report| matches!(report, Report::SwitchLost(_))));
        world.pass_time(3);
        world.assert_converged();
        assert!(!world.is_open(2), "applied: {applied}");
        assert_eq!(world.take_log().last().map(String::as_str), Some("settled"));
    }
}

#[test]
fn a_bundle_that_comes_late_is_noticed() {
    let mut world = enforced();
    world.faults.late_bundle = true;
    world.document(&one_port());
    world.document(TWO_PORTS);
    world.pass_time(1);
    assert!(!world.is_open(2), "the bundle of the first document came after the read-back");
    world.pass_time(1);
    assert!(world.is_open(2));
    world.assert_converged();
}

#[test]
fn a_switch_that_lost_everything_gets_everything_back_in_one_bundle() {
    let mut world = enforced();
    let flows = std::mem::take(&mut world.flows);
    world.faults.switch_gone = true;
    world.cut();
    world.pass_time(5);
    assert!(matches!(world.engine.waiting(), Some(Waiting::Switch { .. })));
    let told = world.reports.iter().filter(|report| matches!(report, Report::Waiting(_))).count();
    assert_eq!(told, 1 + 1, "once that it was cut, once that nobody is there: {:?}", world.reports);
    world.faults.switch_gone = false;
    world.take_log();
    world.pass_time(1);
    assert_eq!(world.flows, flows);
    assert_eq!(
        world.take_log(),
        [
            "connect".to_owned(),
            format!("bundle {}", flows.len()),
            "revalidate".into(),
            "applied".into(),
            "settled".into()
        ]
    );
}

#[test]
fn flows_that_others_delete_are_put_back_at_once_and_no_others_are_touched() {
    let mut world = enforced();
    let flows = world.flows.clone();
    let told = world.others_change(BTreeMap::clear);
    world.give(told.into_iter().collect());
    assert_eq!(world.flows, flows);
    assert_eq!(
        world.take_log(),
        [format!("bundle {}", flows.len()), "revalidate".into(), "applied".into(), "settled".into()]
    );
    let missing = Sent { added: flows.len(), bundles: 1, ..Sent::default() };
    assert_eq!(world.reports[0], Report::Drifted(missing));
    // One of ours gone, and one of another's come.
    world.now += Duration::from_secs(5);
    let (table, output) =
        (pipeline::layout::deliver::TABLE, rust_openflow::Action::Output(rust_openflow::PortNo(1)));
    let foreign = rust_openflow::Flow::new(table, 65000, rust_openflow::Match::new(), vec![output]);
    world.reports.clear();
    let told = world.others_change(|held| {
        held.pop_first();
        held.insert(foreign.key(), foreign.clone());
    });
    world.give(told.into_iter().collect());
    assert_eq!(world.flows.remove(&foreign.key()).as_ref(), Some(&foreign));
    assert_eq!(world.flows, flows);
    let told = |world: &World| {
        world.reports.iter().filter(|report| matches!(report, Report::ForeignFlows { count: 1, .. })).count()
    };
    assert_eq!(told(&world), 1, "{:?}", world.reports);
    world.flows.insert(foreign.key(), foreign);
    world.now += Duration::from_secs(5);
    world.give(vec![Event::Switch(world.link, SwitchEvent::Drift)]);
    assert_eq!(told(&world), 1, "it was told");
}

#[test]
fn a_storm_of_changes_by_others_costs_one_read_back_at_once_and_one_a_second_later() {
    let mut world = enforced();
    let before = world.read_backs;
    for _ in 0..100 {
        let told = world.others_change(BTreeMap::clear);
        world.give(told.into_iter().collect());
        assert_eq!(world.read_backs, before + 1);
    }
    let since = world.now;
    world.pass_time(1);
    assert_eq!((world.read_backs, world.now - since), (before + 2, Duration::from_secs(1)));
    world.assert_converged();
    world.pass_time(5);
    assert_eq!(world.read_backs, before + 2);
}

#[test]
fn what_others_change_while_the_switch_is_read_is_looked_for_again() {
    let mut world = enforced();
    world.faults.hold_read_back = true;
    world.give(vec![Event::Switch(world.link, SwitchEvent::Drift)]);
    let read = world.flows.values().cloned().collect();
    let told = world.others_change(BTreeMap::clear);
    world.give(told.into_iter().collect());
    world.give(vec![Event::Switch(world.link, SwitchEvent::Flows(read))]);
    assert_eq!(world.take_log(), [""; 0], "neither applied nor settled");
    world.pass_time(1);
    world.assert_converged();
    assert_eq!(world.take_log().last().map(String::as_str), Some("settled"));
}

#[test]
fn what_another_put_among_our_flows_is_removed_and_its_connections_proven_again() {
    let mut world = enforced();
    let rule = world
        .flows
        .values()
        .find(|flow| {
            flow.table == pipeline::layout::ingress_policy::TABLE
                && pipeline::decode_cookie(flow.cookie)
                    .is_some_and(|(kind, _)| kind == pipeline::FlowKind::Rule)
                && flow.priority == 70
        })
        .unwrap()
        .clone();
    let mut forged = rule.clone();
    forged.priority = 77;
    forged.actions = vec![rust_openflow::Action::resubmit(pipeline::layout::ingress_commit::TABLE)];
    world.flows.insert(forged.key(), forged.clone());
    let marks = |world: &World| -> Vec<String> {
        let table = pipeline::layout::ingress_commit::TABLE;
        world
            .flows
            .values()
            .filter(|flow| flow.table == table && flow.priority == 100)
            .map(ToString::to_string)
            .collect()
    };
    let before = marks(&world);
    world.cut();
    world.pass_time(1);
    assert!(!world.flows.contains_key(&forged.key()));
    assert_ne!(marks(&world), before, "connections that it admitted carry the old mark");
    assert!(world.log.contains(&"revalidate".to_owned()));
    world.assert_converged();
}

#[test]
fn a_refused_port_is_closed_and_the_rest_applied() {
    let mut world = World::new(World::options());
    world.connect_database();
    world.plug(1, "p-1");
    world.plug(2, "p-2");
    world.faults.refused = vec![("dl_src=fa:16:3e:00:00:02".into(), "OFPBMC_BAD_PREREQ")];
    world.document(TWO_PORTS);
    assert!(world.is_open(1));
    assert!(!world.is_open(2));
    let refused: Vec<_> = world
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::FlowRefused(refused) => Some(refused),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].consequence, Consequence::PortClosed("p-2".into()));
    let told = refused[0].to_string();
    assert!(told.starts_with("the switch refused a flow with OFPBMC_BAD_PREREQ: cookie=0x5367"), "{told}");
    assert!(told.contains("dl_src=fa:16:3e:00:00:02") && told.ends_with(": port p-2 is closed"), "{told}");
    world.assert_converged();
    // When the port changes it is tried again.
    world.faults.refused.clear();
    let changed = TWO_PORTS.replace("10.0.0.2}", "10.0.0.22}");
    world.document(&changed);
    assert!(world.is_open(2));
    world.assert_converged();
}

#[test]
fn a_refused_member_is_left_out_and_tried_again_with_the_next_connection() {
    let mut world = World::new(World::options());
    world.connect_database();
    world.plug(1, "p-1");
    world.faults.refused = vec![("ct_nw_src=10.0.0.2".into(), "OFPFMFC_TABLE_FULL")];
    world.document(TWO_PORTS);
    assert!(world.is_open(1));
    let member =
        |world: &World| world.flows.values().any(|flow| flow.to_string().contains("ct_nw_src=10.0.0.2"));
    assert!(!member(&world));
    assert!(world.reports.iter().any(|report| matches!(
        report,
        Report::FlowRefused(refused) if refused.consequence == Consequence::LeftOut
    )));
    world.assert_converged();
    world.faults.refused.clear();
    world.cut();
    world.pass_time(1);
    assert!(member(&world));
    world.assert_converged();
}

#[test]
fn without_its_static_flows_nothing_is_applied_and_it_is_tried_again() {
    let mut world = World::new(World::options());
    world.connect_database();
    world.plug(1, "p-1");
    world.faults.refused = vec![("priority=65000 ".into(), "OFPFMFC_TABLE_FULL")];
    world.document(&one_port());
    assert_eq!(world.flows.len(), 0, "{:?}", world.reports);
    assert_eq!(world.engine.waiting(), Some(&Waiting::StaticFlows));
    world.faults.refused.clear();
    world.pass_time(1);
    assert!(world.is_open(1));
    assert_eq!(world.engine.waiting(), None);
}

#[test]
fn a_replugged_port_gets_another_flushed_zone() {
    let mut world = enforced();
    assert_eq!((world.zone(1), world.zone(2)), (Some(Zone(4097)), Some(Zone(4098))));
    world.unplug(1);
    assert!(!world.is_open(1));
    world.take_log();
    world.plug(3, "p-1");
    assert_eq!(world.zone(3), Some(Zone(4099)));
    let log = world.take_log();
    assert_eq!(log[..2], ["flush [4099]", "write zone 4099"]);
    assert!(world.is_open(3));
}

#[test]
fn another_port_at_the_same_interface_gets_another_flushed_zone() {
    let renamed = || TWO_PORTS.replace("{id: p-1,", "{id: p-3,");
    let is_in_zone = |world: &World, zone: &str| {
        world.flows.values().any(|flow| {
            flow.table == pipeline::layout::classify::TABLE
                && flow.to_string().contains(&format!("{zone}->reg8"))
        })
    };
    let mut world = enforced();
    assert!(is_in_zone(&world, "0x1001"));
    world.document(&renamed());
    world.take_log();
    world.set_interface(1, |row| row.iface_id = Some("p-3".into()));
    assert_eq!(world.take_log()[..2], ["flush [4099]", "write zone 4099"]);
    assert!(world.is_open(1) && is_in_zone(&world, "0x1003") && !is_in_zone(&world, "0x1001"));
    // While no agent was there; the zone is the other port's by what is recorded.
    world
        .interfaces
        .values_mut()
        .filter(|row| row.name == "tap1")
        .for_each(|row| row.iface_id = Some("p-1".into()));
    world.restart();
    world.document(TWO_PORTS);
    assert!(world.is_open(1) && !is_in_zone(&world, "0x1003"));
    let zone = world.zone(1).unwrap();
    assert!(world.log.contains(&format!("flush [{zone}]")), "{:?}", world.log);
    assert_eq!(world.interfaces.values().next().unwrap().zone_port, Some("p-1".into()));
    // Nobody knows whose it was: it may stay, but nothing in it.
    world.interfaces.values_mut().for_each(|row| row.zone_port = None);
    world.restart();
    assert!(world.log.contains(&format!("flush [{zone}, 4098]")), "{:?}", world.log);
    assert_eq!(world.zone(1), Some(zone));
    world.assert_converged();
}

#[test]
fn a_zone_that_others_overwrite_is_written_again_and_duplicates_are_resolved() {
    let mut world = enforced();
    world.set_interface(1, |row| row.zone = Some(Zone(9999)));
    assert_eq!(world.zone(1), Some(Zone(4097)));
    // The rows of a switch that was set up by hand: both in one zone.
    world.interfaces.values_mut().for_each(|row| row.zone = Some(Zone(5000)));
    world.restart();
    assert_eq!(world.zone(1), Some(Zone(5000)), "the lower row keeps it");
    let second = world.zone(2).unwrap();
    assert!(second != Zone(5000) && world.log.contains(&format!("flush [{second}]")));
    world.assert_converged();
}

#[test]
fn a_zone_that_somebody_else_gave_is_flushed_before_it_is_used() {
    let mut world = enforced();
    let row = InterfaceRow {
        name: "tap3".into(),
        ofport: Some(pipeline::OfPort(3)),
        iface_id: Some("p-3".into()),
        zone: Some(Zone(6000)),
        ..InterfaceRow::default()
    };
    world.plug_interface(3, row);
    assert_eq!(world.take_log()[0], "flush [6000]");
    assert_eq!(world.zone(3), Some(Zone(6000)));
}

#[test]
fn without_a_mark_the_connections_of_all_zones_are_forgotten() {
    let mut world = enforced();
    world.bridge.as_mut().unwrap().generation = None;
    world.restart();
    let log = world.take_log();
    assert_eq!(log[..2], ["connect", "flush [4097, 4098]"]);
    let mark: u32 = world.bridge.as_ref().unwrap().generation.as_ref().unwrap().parse().unwrap();
    assert!(mark > 4096, "above what flows still stamp: {mark}");
    assert_eq!(world.engine.status().sent.flow_mods(), 0);
}

#[test]
fn a_port_whose_zone_cannot_be_recorded_stays_closed_and_the_rest_goes_on() {
    let mut world = enforced();
    world.faults.write_refused = true;
    world.plug(3, "p-3");
    let third = TWO_PORTS.to_owned()
        + "- {id: p-3, network_id: n, mac_address: \"fa:16:3e:00:00:03\", fixed_ips: [{ip_address: 10.0.0.3}], \
           security_groups: [g]}\n";
    world.document(&third);
    assert!(!world.is_open(3));
    assert!(
        world.flows.values().any(|flow| flow.to_string().contains("10.0.0.3")),
        "it is a member all the same"
    );
    assert_ne!(world.take_log().last().map(String::as_str), Some("settled"), "something is left to do");
    world.faults.write_refused = false;
    world.pass_time(2);
    assert!(world.is_open(3));
    assert_eq!(world.take_log().last().map(String::as_str), Some("settled"));
}

#[test]
fn a_port_that_two_interfaces_claim_is_closed_until_one_goes() {
    let mut world = enforced();
    world.plug(5, "p-1");
    assert!(!world.is_open(1) && !world.is_open(5));
    let closed = world.reports.iter().filter(|report| {
        matches!(
            report, Report::Closed(closed) if matches!(closed.reason, Closed::Duplicate { .. })
        )
    });
    assert_eq!(closed.count(), 2);
    world.unplug(1);
    assert!(world.is_open(5));
    // The device of the old one is gone already: it does not count.
    world.plug_interface(
        6,
        InterfaceRow {
            name: "tap6".into(),
            iface_id: Some("p-1".into()),
            error: Some("no such device".into()),
            ..InterfaceRow::default()
        },
    );
    assert!(world.is_open(5));
    world.assert_converged();
}

#[test]
fn an_ofport_that_changes_hands_is_never_both_ports() {
    let mut world = enforced();
    world.set_interface(1, |row| row.ofport = None);
    assert!(!world.is_open(1));
    world.set_interface(2, |row| row.ofport = Some(pipeline::OfPort(1)));
    assert!(world.is_open(1) && !world.is_open(2));
    assert!(world.flows.values().all(|flow| {
        let text = flow.to_string();
        !(text.contains("in_port=1,") && text.contains("fa:16:3e:00:00:01"))
    }));
    world.assert_converged();
}

#[test]
fn an_unsafe_bridge_is_refused_or_made_safe() {
    let mut world = World::new(World::options());
    world.bridge.as_mut().unwrap().fail_mode = None;
    world.connect_database();
    world.plug(1, "p-1");
    world.document(&one_port());
    assert_eq!(world.take_log(), [""; 0]);
    let waiting = world.engine.waiting().unwrap().to_string();
    assert!(waiting.starts_with("fail_mode secure on bridge br-int: it is standalone"), "{waiting}");
    world.restart_with(Options { set_fail_mode: true, ..World::options() });
    assert_eq!(world.take_log()[0], "write fail_mode");
    assert!(world.is_open(1));
}

#[test]
fn a_fail_mode_that_changes_under_way_is_told_and_the_flows_that_it_costs_are_put_back() {
    let mut world = enforced();
    let flows = world.flows.clone();
    world.set_fail_mode("standalone");
    assert_eq!(world.reports[0], Report::FailModeChanged("standalone".into()));
    assert!(matches!(world.reports[1], Report::Drifted(_)), "{:?}", world.reports);
    assert_eq!((&world.flows, world.engine.waiting()), (&flows, None));
    world.document(&one_port());
    assert!(!world.is_open(2));
    // Neither a new connection nor a new session makes us leave the guests to a bridge that forwards everything.
    world.cut();
    world.flows.clear();
    world.pass_time(1);
    assert!(world.is_open(1));
    world.give(vec![Event::Database(DatabaseEvent::Lost { reason: "gone".into() })]);
    world.flows.clear();
    world.connect_database();
    assert!(world.is_open(1));
    let told = |report: &&Report| matches!(report, Report::FailModeChanged(_));
    assert!(world.reports.iter().filter(told).count() <= 2, "{:?}", world.reports);
    world.now += Duration::from_secs(5);
    world.set_fail_mode("secure");
    world.assert_converged();
}

#[test]
fn what_our_own_fail_mode_costs_is_waited_for() {
    let mut world = World::new(World::options());
    world.set_fail_mode("standalone");
    world.connect_database();
    world.plug(1, "p-1");
    world.document(&one_port());
    world.faults.slow_switch = true;
    world.restart_with(Options { set_fail_mode: true, ..World::options() });
    assert_eq!(world.take_log(), ["write fail_mode"]);
    assert_eq!(world.engine.waiting(), Some(&Waiting::Configuration));
    let taken = world.take_configuration();
    world.give(taken);
    assert_eq!(world.take_log()[0], "connect");
    assert!(world.is_open(1));
    // And under way: nothing is said to be applied before.
    world.now += Duration::from_secs(5);
    world.faults.slow_switch = false;
    world.reports.clear();
    world.set_fail_mode("standalone");
    let log = world.take_log();
    assert_eq!(log[0], "write fail_mode", "{log:?}");
    assert_eq!(log.last().map(String::as_str), Some("settled"));
    world.assert_converged();
}

#[test]
fn whoever_gives_a_restarted_switch_its_flows_back_is_not_disturbed() {
    let mut world = enforced();
    let before = world.flows.clone();
    world.take_log();
    world.switch_is_saved(true);
    assert_eq!(world.engine.waiting(), Some(&Waiting::Restoration));
    world.document(&one_port());
    world.pass_time(3);
    world.restart();
    assert_eq!(world.engine.waiting(), Some(&Waiting::Restoration), "another one of us waits too");
    world.set_policy(policy::document::parse(&[("test", TWO_PORTS)], None).policy);
    assert!(world.flows.is_empty(), "nothing was sent");
    assert_eq!(world.take_log(), Vec::<String>::new(), "not even a connection");
    world.switch_is_restored();
    assert_eq!(world.engine.status().sent.flow_mods(), 0);
    assert!(world.flows == before);
    world.assert_converged();
}

#[test]
fn a_wait_that_the_switch_does_not_ask_about_any_more_keeps_nobody() {
    let mut world = enforced();
    world.rows(vec![RowChange::Configuration(Configuration { restoring: true, ..Configuration::default() })]);
    assert_eq!(world.engine.waiting(), None);
    world.document(&one_port());
    assert!(!world.is_open(2));
    world.assert_converged();
}

#[test]
fn the_lock_is_waited_for_and_when_it_comes_back_the_switch_is_read_again() {
    let mut world = World::new(World::options());
    let rows =
        vec![Event::Database(DatabaseEvent::Connected), Event::Database(DatabaseEvent::Rows(Vec::new()))];
    world.give(rows);
    assert_eq!(world.engine.waiting(), None, "it may be on its way");
    world.pass_time(1);
    assert_eq!(world.engine.waiting(), Some(&Waiting::Lock { name: "sgflow_br_2dint".into() }));
    let mut world = enforced();
    world.give(vec![Event::Database(DatabaseEvent::Stolen)]);
    world.pass_time(2);
    world.document(&one_port());
    assert!(world.is_open(2), "it is not ours to change");
    world.give(vec![Event::Database(DatabaseEvent::Locked)]);
    assert!(!world.is_open(2));
    world.assert_converged();
}

#[test]
fn policy_changes_wait_for_the_database() {
    let mut world = enforced();
    world.give(vec![Event::Database(DatabaseEvent::Lost { reason: "gone".into() })]);
    world.document(&one_port());
    assert!(world.is_open(2));
    assert_eq!(world.engine.waiting(), Some(&Waiting::Database { reason: Some("gone".into()) }));
    world.connect_database();
    assert!(!world.is_open(2));
    world.assert_converged();
    assert_eq!(world.engine.waiting(), None);
}

#[test]
fn a_bridge_that_goes_and_comes_is_filled_again() {
    let mut world = enforced();
    let bridge = world.bridge.clone();
    world.set_bridge(None);
    assert_eq!(world.engine.waiting(), Some(&Waiting::Bridge { name: "br-int".into() }));
    world.flows.clear();
    world.set_bridge(bridge);
    assert!(world.is_open(1) && world.is_open(2));
    world.assert_converged();
}

#[test]
fn a_port_without_a_zone_stays_closed_and_is_opened_when_one_is_free() {
    let mut world = enforced();
    for number in 4099..=u16::MAX {
        // Interfaces of another bridge.
        let row = InterfaceRow { zone: Some(Zone(number)), ..InterfaceRow::default() };
        world.interfaces.insert(ovsdb::Uuid::from_u128(100_000 + u128::from(number)), row);
    }
    world.restart();
    world.plug(3, "p-3");
    let third = TWO_PORTS.to_owned()
        + "- {id: p-3, network_id: n, mac_address: \"fa:16:3e:00:00:03\", fixed_ips: [{ip_address: 10.0.0.3}], \
           security_groups: [g]}\n";
    world.document(&third);
    assert!(world.is_open(1) && !world.is_open(3));
    let told = |report: &&Report| matches!(report, Report::NoZone(port, _) if port.as_str() == "p-3");
    assert_eq!(world.reports.iter().filter(told).count(), 1);
    world.unplug(2);
    assert!(world.is_open(3), "the zone of port 2 is free");
    world.assert_converged();
}

/// A number that is given out twice would let connections pass that are no more admitted.
#[test]
fn when_all_generations_were_used_nothing_is_applied_and_that_is_said() {
    let mut world = enforced();
    let mut bridge = world.bridge.clone().expect("a bridge");
    bridge.generation = Some((u32::MAX - 10).to_string());
    world.set_bridge(Some(bridge));
    world.restart();
    assert_eq!(world.engine.waiting(), None, "nothing needs one");
    let held = world.flows.clone();
    world.document(
        &TWO_PORTS
            .replace("ethertype: IPv4, remote_group_id: g", "ethertype: IPv4, remote_ip_prefix: 10.0.0.2"),
    );
    assert_eq!(world.engine.waiting(), Some(&Waiting::Generations));
    assert!(world.flows == held, "what was in force stays in force");
    world.document(TWO_PORTS);
    world.pass_time(5);
    assert_eq!(world.engine.waiting(), Some(&Waiting::Generations), "the way back would need one too");
    assert!(world.flows == held);
}

#[test]
fn answers_of_an_earlier_connection_are_ignored() {
    let mut world = enforced();
    let old = world.link;
    world.cut();
    world.pass_time(1);
    assert_ne!(world.link, old);
    world.give(vec![Event::Switch(old, SwitchEvent::Lost { reason: "late".into() })]);
    world.give(vec![Event::Switch(old, SwitchEvent::Flows(Vec::new()))]);
    world.assert_converged();
    assert!(world.is_open(1));
}

#[test]
fn the_wait_between_attempts_grows_and_is_bounded() {
    let mut world = enforced();
    world.faults.switch_gone = true;
    world.cut();
    let mut times = vec![world.now];
    for _ in 0..10 {
        world.pass_time(1);
        times.push(world.now);
    }
    let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        waits.is_sorted() && waits[9] == Duration::from_secs(2) && waits[0] < Duration::from_secs(1),
        "{waits:?}"
    );
}
