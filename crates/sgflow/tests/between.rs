//! "At no instant, on the way from the old to the new policy, is a frame accepted that both refuse, or refused that both
//! accept" (semantics, "Change"): frames of both kinds are sent without a pause while policies change.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::traffic::{BY_ANYBODY, BY_GROUP, BY_PREFIX, bombard, ends, policy};
use common::{apply, document, ovs, stderr};

/// How many changes there are in a test, one policy after the other in a circle; `SGFLOW_CHANGES` says another number.
const CHANGES: usize = 90;

fn change_under_traffic(policies: &[String]) {
    let changes = std::env::var("SGFLOW_CHANGES").map_or(CHANGES, |text| text.parse().expect("a number"));
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    let enforce = |policy: &str| {
        let output = apply(&ovs, &document(&ovs, policy), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    enforce(&policies[0]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| bombard(&sender, &receiver, &is_over));
        for policy in policies.iter().cycle().skip(1).take(changes) {
            if traffic.is_finished() {
                break;
            }
            enforce(policy);
        }
        is_over.store(true, Ordering::Relaxed);
        let sent = traffic.join().expect("what was sent is judged alike all the time");
        println!("{changes} changes, {sent} frames");
        assert!(sent > 5 * changes, "{sent} frames are no proof");
    });
}

#[test]
fn on_the_way_from_rule_to_rule_nothing_is_judged_otherwise() {
    change_under_traffic(&[policy(BY_ANYBODY, true), policy(BY_PREFIX, true), policy(BY_GROUP, true)]);
}

#[test]
fn on_the_way_from_set_to_set_nothing_is_judged_otherwise() {
    let one = policy(BY_ANYBODY, true);
    let other = one
        .replace("security_groups: [out]", "security_groups: [out, more]")
        .replace("security_groups: [in]", "security_groups: [in, more]");
    assert_ne!(one, other);
    change_under_traffic(&[one, other]);
}

#[test]
fn on_the_way_from_a_group_that_goes_nothing_is_judged_otherwise() {
    let one = policy(BY_ANYBODY, true);
    let other = one
        .replace("{id: out,", "{id: out-2,")
        .replace("[out]", "[out-2]")
        .replace("{id: in,", "{id: in-2,")
        .replace("[in]", "[in-2]");
    change_under_traffic(&[one, other]);
}

#[test]
fn on_the_way_to_stateless_and_back_nothing_is_judged_otherwise() {
    change_under_traffic(&[policy(BY_ANYBODY, true), policy(BY_ANYBODY, false)]);
}
