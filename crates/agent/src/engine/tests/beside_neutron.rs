//! Beside Neutron's agent, which lets go of frames in table 60, and whose driver keeps our hook alive under the agent's cookie.

use std::time::Duration;

use pipeline::Hook;
use rust_openflow::{Action, Flow, FlowKey, Match};

use super::super::{DatabaseEvent, Event, Options, Report};
use super::TWO_PORTS;
use super::world::World;

fn hook() -> FlowKey {
    FlowKey { table: 60, priority: 65000, matches: Match::new() }
}

fn options() -> Options {
    Options { hook: Hook::Transient, ..World::options() }
}

/// A bridge with flows of Neutron's agent, and two ports that are enforced.
fn enforced() -> World {
    let mut world = World::new(options());
    let theirs = [
        Flow::new(0, 65535, Match::new().with(rust_openflow::Field::VlanVid, 4095u16), Vec::new()),
        Flow::new(0, 0, Match::new(), vec![Action::resubmit(60)]),
        Flow::new(60, 1, Match::new(), vec![Action::Output(rust_openflow::PortNo::NORMAL)]),
    ];
    world.flows.extend(theirs.map(|flow| (flow.key(), flow.with_cookie(0x7e57))));
    world.connect_database();
    world.plug(1, "p-1");
    world.plug(2, "p-2");
    world.document(TWO_PORTS);
    assert!(!world.is_open(1), "it is not bound to a network");
    world.tag(1, 10);
    world.tag(2, 10);
    assert!(world.is_open(1) && world.is_open(2));
    world.take_log();
    assert!(!world.reports.iter().any(|report| matches!(report, Report::ForeignFlows { .. })));
    world.reports.clear();
    world
}

#[test]
fn the_hook_stands_where_the_agent_lets_go_of_frames_and_its_flows_stay() {
    let world = enforced();
    assert!(world.flows.contains_key(&hook()));
    assert!(!world.flows.values().any(|flow| flow.table == 0 && pipeline::is_ours(flow.cookie)));
    assert_eq!(world.flows.values().filter(|flow| flow.cookie == 0x7e57).count(), 3);
}

#[test]
fn under_the_agents_cookie_it_is_the_hook_all_the_same() {
    let mut world = enforced();
    let told = world.others_change(|flows| {
        let flow = flows.get_mut(&hook()).unwrap();
        flow.cookie = 0x7e58;
    });
    world.give(told.into_iter().collect());
    assert_eq!(world.take_log(), ["applied", "settled"], "nothing is sent");
    world.restart_with(options());
    assert!(!world.take_log().iter().any(|step| step.starts_with("bundle")), "nor after a restart");
    assert_eq!(world.flows[&hook()].cookie, 0x7e58);
}

/// Whether the switch has flows of a take-over.
fn is_taking_over(world: &World) -> bool {
    world.flows.keys().any(|key| key.table == pipeline::layout::egress_takeover::TABLE)
}

#[test]
fn a_takeover_is_begun_once_however_often_the_switch_is_read_from_scratch() {
    let mut world = World::new(options());
    let theirs = Flow::new(72, 70, Match::new(), vec![Action::Output(rust_openflow::PortNo::NORMAL)]);
    world.flows.insert(theirs.key(), theirs.with_cookie(0x7e57));
    world.connect_database();
    world.plug(1, "p-1");
    world.tag(1, 10);
    world.document(TWO_PORTS);
    assert!(is_taking_over(&world));
    let again = |world: &mut World| {
        world.give(vec![Event::Database(DatabaseEvent::Lost { reason: "gone".into() })]);
        world.connect_database();
    };
    let ends = world.now + World::options().takeover_timeout;
    again(&mut world);
    assert!(is_taking_over(&world), "it goes on");
    world.now = ends;
    world.give(Vec::new());
    assert!(!is_taking_over(&world), "no later than it was to be over");
    assert!(world.reports.contains(&Report::TakenOver));
    again(&mut world);
    assert!(!is_taking_over(&world));
    // Nor by another one of us, as long as Neutron's flows stand below our hook.
    world.restart_with(options());
    assert!(!is_taking_over(&world));
}

#[test]
fn when_it_goes_it_is_put_back_at_once() {
    let mut world = enforced();
    world.others_delete(|flow| flow.key() == hook());
    assert!(pipeline::is_ours(world.flows[&hook()].cookie));
    world.now += Duration::from_secs(5);
    // The switch was restarted, and the agent has put in what it does at its start.
    let told = world.others_change(|flows| {
        flows.retain(|_, flow| flow.cookie == 0x7e57);
    });
    world.give(told.into_iter().collect());
    assert!(world.flows.contains_key(&hook()) && world.is_open(1));
}
