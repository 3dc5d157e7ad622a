//! The agent is another program than the one that wrote the switch's flows: it sends what it renders otherwise, and nothing else,
//! and no frame sees it.

mod common;

use std::fs;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use common::traffic::{BY_GROUP, Over, bombard, ends, policy};
use common::{Agent, document, flows, is_exact, ovs};
use rust_openflow::{Action, Field, Flow};

/// What another version might have made of one of our flows, so that the same packets pass; and how many flow-mods that is away
/// from ours: to add, to modify and to delete.
fn of_another_version(flow: &Flow) -> (Vec<Flow>, [usize; 3]) {
    let mut other = flow.clone();
    match flow.table {
        // The tables of the rules: all one step higher.
        104 | 106 | 121 | 123 => {
            other.priority += 1;
            (vec![other], [1, 0, 1])
        }
        // With an action that does nothing.
        110 => {
            let nothing = Action::parse_list("set_field:0->reg15").expect("an action");
            other.actions.splice(0..0, nothing);
            (vec![other], [0, 1, 0])
        }
        // Twice, once for packets that there are not.
        102 => {
            other.matches = other.matches.with(Field::Reg(15), 0xfeed_u32);
            (vec![flow.clone(), other], [0, 0, 1])
        }
        // Multicast is not ours to test here: it was not.
        112 => (Vec::new(), [1, 0, 0]),
        _ => (vec![other], [0, 0, 0]),
    }
}

#[test]
fn an_upgrade_that_renders_otherwise_sends_the_difference_and_costs_no_frame() {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, &policy(BY_GROUP, true));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    drop(agent);
    let ours = flows(&ovs);
    let mut theirs = String::new();
    let mut apart = [0; 3];
    for line in &ours {
        let (others, [added, modified, deleted]) = of_another_version(&line.parse().expect("a flow"));
        theirs.extend(others.iter().map(|flow| format!("{flow}\n")));
        apart = [apart[0] + added, apart[1] + modified, apart[2] + deleted];
    }
    assert!(apart.iter().all(|count| *count > 0), "{apart:?}");
    // What is not ours among the rules may have admitted what they do not: of both sets the connections are proven again, by
    // another generation, which three flows recognise and one a family commits.
    apart = [apart[0] + 2 * 3, apart[1] + 2 * 2, apart[2] + 2 * 3];
    let file = ovs.rundir().join("other-version.flows");
    fs::write(&file, theirs).expect("a file");
    let replace = ["-O", "OpenFlow14", "--bundle", "replace-flows", "br-int", &file.display().to_string()];
    ovs.ofctl(&replace).expect("the switch of another version");

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| bombard(&sender, &receiver, &is_over));
        let over = Over(&is_over);
        thread::sleep(Duration::from_millis(300));
        let agent = Agent::start(&ovs);
        let [added, modified, deleted] = apart;
        agent.wait_for(&format!("applied added={added} modified={modified} deleted={deleted} bundles=1"), 1);
        thread::sleep(Duration::from_millis(300));
        drop(over);
        traffic.join().expect("not one frame is lost or leaked");
        is_exact(&ovs);
    });
}
