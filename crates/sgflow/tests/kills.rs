//! The agent is killed at any instant, and the switch: nothing is lost that was admitted before and is after, nothing passes that was
//! not, and each time the switch ends up as the policy says.
//!
//! `SGFLOW_KILLS` says how often; docs/reliability.md has the figures of a long run.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::traffic::{BY_ANYBODY, BY_GROUP, BY_PREFIX, Over, bombard, ends, policy, until_heard};
use common::{Agent, document, eventually, ovs, plug, status, stderr, stdout, verify};
use lab::Ovs;

/// Between two changes of the policy: 50 a second.
const CHURN: Duration = Duration::from_millis(20);

fn kills(otherwise: usize) -> usize {
    std::env::var("SGFLOW_KILLS").map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Numbers that repeat with each run.
struct Chance(u64);

impl Chance {
    /// One below `bound` (Knuth's linear congruence).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the pair says to each other is judged alike by all of these: its rules change their shape now and then, and members, rules,
/// groups and ports around it each time.
fn churned(number: u64) -> String {
    let shape = [BY_ANYBODY, BY_PREFIX, BY_GROUP][usize::try_from(number / 10 % 3).expect("one of three")];
    let mut text = policy(shape, true);
    let port = 1000 + number % 7;
    let more = format!(
        "- {{id: churn, security_group_rules: [\n    \
           {{id: c1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: {port}, port_range_max: {port}}},\n    \
           {{id: c2, direction: ingress, ethertype: IPv4, remote_group_id: churn}},\n    \
           {{id: c3, direction: egress, ethertype: IPv4}}]}}\naddress_groups:"
    );
    text = text.replacen("address_groups:", &more, 1);
    // Those that are plugged in here at times are always known.
    for member in (3..20).filter(|member| (number >> (member % 5)) & 1 == 0 || *member < 9) {
        let groups = if (number + member).is_multiple_of(3) { "churn, in" } else { "churn" };
        writeln!(
            text,
            "- {{id: p-{member}, network_id: n, mac_address: \"fa:16:3e:00:00:{member:02x}\", \
             fixed_ips: [{{ip_address: 10.0.1.{member}}}], security_groups: [{groups}]}}"
        )
        .expect("a String takes any text");
    }
    text
}

/// The agent is no more, and another begins.
fn killed(mut agent: Agent, ovs: &Ovs) -> Agent {
    agent.child.kill().expect("it runs");
    agent.child.wait().expect("it ends");
    Agent::start(ovs)
}

/// Changes ports and policy until told to stop, not while it is held. The document is read when it has been quiet for 100 ms: so
/// one change in ten is one of the document, and the others plug other ports into two interfaces.
fn churn(ovs: &Ovs, hold: &Mutex<()>, is_over: &AtomicBool) -> u64 {
    let (next, path) = (ovs.rundir().join("next.yaml"), ovs.rundir().join("policy.yaml"));
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        let due = Instant::now() + CHURN;
        {
            let _held = hold.lock().unwrap_or_else(PoisonError::into_inner);
            if number % 10 == 0 {
                fs::write(&next, churned(number / 10)).expect("a document");
                fs::rename(&next, &path).expect("a document in its place");
            } else {
                let id = |offset| format!("external_ids:iface-id=p-{}", 3 + (number + offset) % 6);
                let words = [
                    "--no-wait",
                    "set",
                    "Interface",
                    "tap3",
                    &id(0),
                    "--",
                    "set",
                    "Interface",
                    "tap4",
                    &id(3),
                ];
                ovs.vsctl(&words).expect("ports change");
            }
        }
        number += 1;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    number
}

#[test]
fn an_agent_that_is_killed_under_churn_costs_no_frame_and_lets_none_through() {
    let kills = kills(6);
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    plug(&ovs, 3);
    plug(&ovs, 4);
    document(&ovs, &churned(0));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let (is_over, hold) = (AtomicBool::new(false), Mutex::new(()));
    let mut chance = Chance(2026);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| bombard(&sender, &receiver, &is_over));
        let changes = scope.spawn(|| churn(&ovs, &hold, &is_over));
        let mut agent = agent;
        let over = Over(&is_over);
        let mut in_its_start = 0;
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(chance.below(900)));
            agent = killed(agent, &ovs);
            if chance.below(2) == 0 {
                thread::sleep(Duration::from_millis(chance.below(120)));
                agent = killed(agent, &ovs);
                in_its_start += 1;
            }
            if traffic.is_finished() {
                break;
            }
            let held = hold.lock().unwrap_or_else(PoisonError::into_inner);
            eventually("converged", || stdout(&status(&ovs, &[])).starts_with("converged"));
            let exact = verify(&ovs, &[]);
            assert_eq!(exact.status.code(), Some(0), "{}{}", stdout(&exact), stderr(&exact));
            drop(held);
        }
        drop(over);
        let sent = traffic.join().expect("what was sent is judged alike all the time");
        let changes = changes.join().expect("the policy can be written");
        println!("{kills} kills and {in_its_start} in a start, {changes} changes, {sent} frames");
        assert!(sent > 100 * kills && changes > 2 * kills as u64, "{sent} frames, {changes} changes");
    });
}

#[test]
fn a_switch_that_is_killed_lets_nothing_through_until_it_is_filled() {
    let kills = kills(3);
    let mut ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, &policy(BY_GROUP, true));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let mut sent = 0;
    for _ in 0..kills {
        ovs.kill_vswitchd();
        ovs.start_vswitchd().expect("the switch starts again");
        sent += until_heard(&sender, &receiver);
        eventually("converged", || stdout(&status(&ovs, &[])).starts_with("converged"));
        let exact = verify(&ovs, &[]);
        assert_eq!(exact.status.code(), Some(0), "{}{}", stdout(&exact), stderr(&exact));
    }
    println!("{kills} kills, {sent} frames");
}
