//! More comes than the switch takes.

use std::time::Duration;

use policy::Policy;

use super::{TWO_PORTS, enforced, one_port};
use crate::engine::{Event, Revalidation, SwitchEvent};

/// As many changes as a minute brings at 10,000 a second would be, but for a tenth: what waits is as much as differs, and what
/// comes of it is one bundle.
#[test]
fn what_comes_while_the_switch_stalls_is_kept_once_an_object() {
    let mut world = enforced();
    world.faults.hold_revalidation = true;
    world.document(&one_port());
    world.take_log();
    let parsed = |text: &str| policy::document::parse(&[("test", text)], None).policy;
    let without_rule: String = TWO_PORTS.replace("{id: i, direction", "{id: j, direction");
    let policies = [one_port(), without_rule, TWO_PORTS.to_owned()].map(|text| parsed(&text));
    let mut before = world.policy.clone();
    for policy in policies.iter().cycle().take(60_000) {
        let delta = Policy::diff(&before, policy);
        assert!(world.engine.handle(world.now, vec![Event::Policy(delta)]).is_empty(), "the switch is busy");
        before = policy.clone();
    }
    assert_eq!(world.engine.inbox.changed.len(), 2, "one group and one port");
    world.policy = before;
    let link = world.link;
    world.give(vec![Event::Switch(link, SwitchEvent::Revalidated(Revalidation::Confirmed))]);
    let log = world.take_log();
    let bundles = log.iter().filter(|entry| entry.starts_with("bundle")).count();
    assert_eq!(bundles, 1, "{log:?}");
    assert_eq!(log.last().map(String::as_str), Some("settled"));
    world.assert_converged();
    assert!(world.is_open(2));
}

/// A switch that does not answer for a minute costs nothing but the minute: nothing is sent to it twice.
#[test]
fn a_switch_that_stalls_is_waited_for() {
    let mut world = enforced();
    world.faults.hold_revalidation = true;
    world.document(&one_port());
    world.take_log();
    world.now += Duration::from_secs(60);
    world.give(vec![Event::Tick]);
    assert_eq!(world.take_log(), [""; 0]);
    let link = world.link;
    world.give(vec![Event::Switch(link, SwitchEvent::Revalidated(Revalidation::Confirmed))]);
    assert_eq!(world.take_log(), ["applied", "settled"]);
}
