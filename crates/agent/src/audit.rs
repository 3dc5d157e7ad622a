//! Is the switch exactly the policy? What a dry run found, proved by means that share no code with the renderer.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use pipeline::{RefusedRule, is_ours, layout};
use policy::Policy;
use rust_openflow::{Action, Flow, FlowKey, Match};
use verify::audit::Subject;
use verify::symbolic::Joints;

pub use verify::audit::{Audit, Deviation, Evidence, Finding, Way};

use crate::driver::Found;
use crate::engine::{concerns_us, join};

/// Where the halves of a frame's way meet in our layout.
const JOINTS: Joints = Joints {
    hook: layout::hook::TABLE,
    deliver: layout::deliver::TABLE,
    ingress: layout::ingress_base::TABLE,
    output: layout::output::TABLE,
};

/// Compares what a switch was found to hold with `policy`, without the rules that cannot be enforced: they admit nothing.
///
/// Looked at are our flows, and those of others that stand among them. Whatever else the first table holds is taken
/// to let everything pass that is not caught by ours.
pub fn audit(
    found: &Found,
    policy: &Policy,
    refused: &[RefusedRule],
    permitted_ethertypes: &BTreeSet<u16>,
) -> Audit {
    let mut held: Vec<Flow> =
        found.held.iter().filter(|flow| concerns_us(flow)).cloned().map(Flow::canonical).collect();
    let mut wanted = wanted(&held, found);
    if found.held.iter().any(may_let_pass) {
        held.push(passage());
        wanted.push(passage());
    }
    verify::audit::audit(&Subject {
        held: &held,
        wanted: &wanted,
        joints: JOINTS,
        policy: &without(policy, refused),
        permitted_ethertypes,
        ports: &found.ports,
        threads: thread::available_parallelism().map_or(1, NonZero::get),
    })
}

/// What stands for the flows of others in the first table that ours come before.
pub fn passage() -> Flow {
    let onwards = Action::Resubmit { port: None, table: Some(JOINTS.deliver), ct: false };
    Flow::new(JOINTS.hook, 0, Match::new(), vec![onwards])
}

fn may_let_pass(flow: &Flow) -> bool {
    flow.table == JOINTS.hook && !concerns_us(flow) && !flow.actions.is_empty()
}

/// Our flows as they should be.
fn wanted(held: &[Flow], found: &Found) -> Vec<Flow> {
    let ours = held.iter().filter(|flow| is_ours(flow.cookie));
    let mut wanted: BTreeMap<FlowKey, Flow> = ours.map(|flow| (flow.key(), flow.clone())).collect();
    for change in found.drift.iter() {
        match change.new_value() {
            Some(body) => _ = wanted.insert(change.key().clone(), join(change.key(), body)),
            None => _ = wanted.remove(change.key()),
        }
    }
    wanted.into_values().collect()
}

fn without(policy: &Policy, refused: &[RefusedRule]) -> Policy {
    let mut policy = policy.clone();
    for rule in refused {
        if let Some(group) = policy.groups.get_mut(&rule.group) {
            Arc::make_mut(group).rules.retain(|other| other.id != rule.rule);
        }
    }
    policy
}
