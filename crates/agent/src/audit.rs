//! Is the switch exactly the policy? What a dry run found, proved by means that share no code with the renderer.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use pipeline::{Hook, RefusedRule, is_ours, layout};
use policy::Policy;
use rust_openflow::{Action, Flow, FlowKey, Match};
use verify::audit::Subject;
use verify::symbolic::Joints;

pub use verify::audit::{Audit, Deviation, Evidence, Finding, Way};

use crate::driver::Found;
use crate::engine::{concerns_us, join};

/// Where the halves of a frame's way meet in our layout.
pub fn joints(hook: Hook) -> Joints {
    Joints {
        hook: hook.table(),
        deliver: layout::deliver::TABLE,
        ingress: layout::ingress_base::TABLE,
        output: layout::output::TABLE,
    }
}

/// Compares what a switch was found to hold with `policy`, without the rules that cannot be enforced: they admit nothing.
///
/// Looked at are our flows, and those of others that stand among them. Whatever else the table of the hook holds is taken
/// to let everything pass that is not caught by ours.
pub fn audit(
    found: &Found,
    policy: &Policy,
    refused: &[RefusedRule],
    permitted_ethertypes: &BTreeSet<u16>,
) -> Audit {
    let hook = found.hook;
    let held = judging(&found.held, hook);
    let wanted = wanted(&held, found);
    verify::audit::audit(&Subject {
        held: &held,
        wanted: &wanted,
        joints: joints(hook),
        policy: &found.as_plugged(without(policy, refused)),
        permitted_ethertypes,
        ports: &found.ports,
        threads: thread::available_parallelism().map_or(1, NonZero::get),
    })
}

/// The flows, of all that a bridge holds, by which frames go on their way through the firewall: ours, those of others that stand among them, and one that
/// stands for whatever else the table of the hook holds. What only looks is left out.
pub fn judging(held: &[Flow], hook: Hook) -> Vec<Flow> {
    let mut flows: Vec<Flow> =
        held.iter().filter(|flow| concerns_us(flow, hook)).cloned().map(Flow::canonical).collect();
    if held.iter().any(|flow| may_let_pass(flow, hook)) {
        flows.push(passage(hook));
    }
    flows
}

/// What stands for the flows of others in the table of the hook that ours come before.
fn passage(hook: Hook) -> Flow {
    let onwards = Action::Resubmit { port: None, table: Some(layout::deliver::TABLE), ct: false };
    Flow::new(hook.table(), 0, Match::new(), vec![onwards])
}

/// Whether this is not a flow of the switch but stands for those of others that ours come before.
pub fn is_passage(flow: &Flow) -> bool {
    [Hook::Bridge, Hook::Transient].into_iter().any(|hook| *flow == passage(hook))
}

fn may_let_pass(flow: &Flow, hook: Hook) -> bool {
    flow.table == hook.table() && !concerns_us(flow, hook) && !flow.actions.is_empty()
}

/// The same as they should be: ours, and the passage.
fn wanted(held: &[Flow], found: &Found) -> Vec<Flow> {
    let ours = held.iter().filter(|flow| is_ours(flow.cookie) || is_passage(flow));
    let mut wanted: BTreeMap<FlowKey, Flow> = ours.map(|flow| (flow.key(), flow.clone())).collect();
    for change in found.drift.iter() {
        match change.new_value() {
            Some(body) => _ = wanted.insert(change.key().clone(), join(change.key(), body)),
            None => _ = wanted.remove(change.key()),
        }
    }
    wanted.into_values().collect()
}

/// The policy without rules that the driver refuses: they admit nothing.
pub fn without(policy: &Policy, refused: &[RefusedRule]) -> Policy {
    let mut policy = policy.clone();
    for rule in refused {
        if let Some(group) = policy.groups.get_mut(&rule.group) {
            Arc::make_mut(group).rules.retain(|other| other.id != rule.rule);
        }
    }
    policy
}
