//! The flows of a set of security groups that do not depend on single rules: its generations in force.

use policy::Ethertype;
use rust_openflow::{CT_INV, CT_NEW, CT_REL, CT_TRK, Field, Flow, Match};

use crate::flow::{Part, commit, commit_and_go_on, flow, load, resubmit, track};
use crate::layout::{
    FlowKind, deliver, egress_commit, egress_ip, egress_packet, egress_policy, egress_state, fragments,
    ingress_base, ingress_commit, ingress_packet, ingress_policy, ingress_state, next, output, register,
};
use crate::names::Name;
use crate::numbers::{Generation, SetId};
use crate::sets::SetKey;
use crate::static_flows::MODE_STATELESS;

/// What the flows of a set are made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SetView {
    pub(crate) id: SetId,
    pub(crate) key: SetKey,
    pub(crate) egress: Generation,
    pub(crate) ingress: Generation,
    /// Some rule of a stateless group speaks of this direction.
    pub(crate) stateless_egress: bool,
    pub(crate) stateless_ingress: bool,
}

pub(crate) fn set_flows(view: &SetView) -> Vec<Flow> {
    let about = (FlowKind::Set, u64::from(view.id.0));
    let set = || Match::new().with(register::SET, view.id);
    let mut flows = vec![Name::set(view.id, &view.key).flow()];
    let mut add =
        |table, priority, matches, actions| flows.push(flow(about, table, priority, matches, actions));
    for generation in [view.egress, view.ingress] {
        let current =
            || set().with_mask(Field::CtState, CT_TRK, CT_TRK | CT_INV).with(Field::CtMark, generation);
        add(egress_state::TABLE, egress_state::CURRENT, current(), vec![resubmit(deliver::TABLE)]);
        add(ingress_state::TABLE, ingress_state::CURRENT, current(), vec![resubmit(output::TABLE)]);
        add(fragments::TABLE, fragments::CURRENT, current(), vec![resubmit(next::TABLE)]);
    }
    let halves = [
        (view.egress, egress_commit::TABLE, egress_policy::TABLE),
        (view.ingress, ingress_commit::TABLE, ingress_policy::TABLE),
    ];
    for (generation, commit_table, policy_table) in halves {
        for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
            // A `ct` action stands only in a flow that matches IPv4 or IPv6.
            let ip = || set().with(Field::EthType, ethertype.number());
            add(commit_table, egress_commit::COMMIT, ip(), vec![commit_and_go_on(generation.0, next::TABLE)]);
            let later = |state, mask| Part::Later.of(ip().with_mask(Field::CtState, state, mask));
            let with_the_first = || vec![commit(generation.0), track(fragments::TABLE)];
            let new = later(CT_NEW | CT_TRK, CT_NEW | CT_TRK);
            add(policy_table, egress_policy::FRAGMENT, new, with_the_first());
            // `ct_tp_src` and `ct_tp_dst` of a later fragment are 0 (lib/flow.c, 3.1: `miniflow_extract`).
            let known = later(CT_TRK, CT_TRK | CT_NEW | CT_REL | CT_INV);
            add(policy_table, egress_policy::PART, known, with_the_first());
        }
    }
    let ask = |table| vec![load(register::MODE, MODE_STATELESS), resubmit(table)];
    if view.stateless_egress {
        add(egress_ip::TABLE, egress_ip::STATELESS, set(), ask(egress_packet::TABLE));
    }
    if view.stateless_ingress {
        for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
            let ip = set().with(Field::EthType, ethertype.number());
            add(ingress_base::TABLE, ingress_base::STATELESS, ip, ask(ingress_packet::TABLE));
        }
    }
    flows
}
