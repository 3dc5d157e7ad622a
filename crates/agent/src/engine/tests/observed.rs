//! Flows that only look: they come and go beside the engine.

use std::time::Duration;

use pipeline::{DropReason, Hook, Observed, OfPort, Onwards, Owner, layout};
use rust_openflow::Action;

use super::enforced;
use crate::engine::{Event, Report, SwitchEvent, concerns_us};

fn observers() -> [Observed; 3] {
    [
        Observed::Drops(DropReason::NoRule),
        Observed::PortDrops(OfPort(1), Owner::NOBODY, DropReason::NoRule),
        Observed::Admitted(Some(OfPort(1)), Onwards::Output),
    ]
}

#[test]
fn what_only_looks_is_left_alone() {
    let mut world = enforced();
    let flows = world.flows.clone();
    assert!(observers().iter().all(|observed| !concerns_us(&observed.flow(), Hook::Bridge)), "no drift");
    world.flows.extend(observers().map(|observed| (observed.flow().key(), observed.flow())));
    let observed = world.flows.clone();
    world.take_log();
    world.give(vec![Event::Switch(world.link, SwitchEvent::Drift)]);
    world.cut();
    world.pass_time(1);
    assert_eq!(world.flows, observed);
    assert_eq!(observed.len(), flows.len() + observers().len());
    assert!(world.reports.iter().all(|report| !matches!(report, Report::Drifted(_))), "{:?}", world.reports);
    assert!(!world.log.iter().any(|line| line.starts_with("bundle")), "{:?}", world.log);
}

#[test]
fn what_only_pretends_to_look_is_removed() {
    let mut world = enforced();
    let flows = world.flows.clone();
    for observed in observers() {
        let mut opens = observed.flow();
        opens.actions.push(Action::resubmit(layout::output::TABLE));
        world.now += Duration::from_secs(5);
        let told = world.others_change(|held| _ = held.insert(opens.key(), opens.clone()));
        assert!(concerns_us(&opens, Hook::Bridge), "{opens}");
        world.give(told.into_iter().collect());
        assert_eq!(world.flows, flows, "{opens}");
        world.flows.insert(opens.key(), opens.clone());
        world.now += Duration::from_secs(5);
        world.give(vec![Event::Switch(world.link, SwitchEvent::Drift)]);
        assert_eq!(world.flows, flows, "read back: {opens}");
    }
}
