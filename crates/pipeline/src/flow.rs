//! Flows as the renderer speaks of them, and the few actions it uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_openflow::{
    Action, Ct, CtZone, FRAG_ANY, FRAG_LATER, Field, Flow, FlowKey, Match, PortNo, Subfield,
};

use crate::cookie::cookie;
use crate::layout::{self, DropReason, FlowKind, register};

/// Which part of a datagram a packet is: value and mask of `ip_frag`, as ovs-ofctl reads its words (ovs-fields(7), "ip_frag"). A mask
/// of less would mean the same of every packet there is, and not come back from a text: who restarts a switch by its own script
/// would give it other flows.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// The only one: `no`.
    Whole,
    /// One of several: `yes`.
    Any,
    /// The first of several: `first`.
    First,
    /// Any but the first: `later`.
    Later,
    /// The first, or the only one: `not_later`.
    NotLater,
}

impl Part {
    /// With this part of a datagram alone.
    pub(crate) fn of(self, matches: Match) -> Match {
        let (value, mask) = match self {
            Part::Whole => (0, FRAG_ANY | FRAG_LATER),
            Part::Any => (FRAG_ANY, FRAG_ANY),
            Part::First => (FRAG_ANY, FRAG_ANY | FRAG_LATER),
            Part::Later => (FRAG_ANY | FRAG_LATER, FRAG_ANY | FRAG_LATER),
            Part::NotLater => (0, FRAG_LATER),
        };
        matches.with_mask(Field::IpFrag, value, mask)
    }
}

/// What stands at a [`FlowKey`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowBody {
    /// What [`crate::cookie()`] made.
    pub cookie: u64,
    /// The actions, in order. Clones share them: a body is kept as wanted, as held and as sent.
    pub actions: Arc<[Action]>,
}

/// One change of the flow tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlowOp {
    /// The flow shall stand there, whatever stood at its key before.
    Set(Flow),
    /// Nothing shall stand there.
    Remove(FlowKey),
}

/// Changes of flows between two commits; the last word on a key counts.
#[derive(Default, Debug)]
pub(crate) struct Journal {
    ops: BTreeMap<FlowKey, Option<FlowBody>>,
}

impl Journal {
    pub(crate) fn set(&mut self, flow: Flow) {
        let body = FlowBody { cookie: flow.cookie, actions: flow.actions.into() };
        let key = FlowKey { table: flow.table, priority: flow.priority, matches: flow.matches };
        self.ops.insert(key, Some(body));
    }

    pub(crate) fn remove(&mut self, key: FlowKey) {
        self.ops.insert(key, None);
    }

    /// `new` takes the place of `old`; flows in both are not mentioned.
    pub(crate) fn replace(&mut self, old: Vec<Flow>, new: Vec<Flow>) {
        let mut gone: BTreeMap<FlowKey, Flow> = old.into_iter().map(|flow| (flow.key(), flow)).collect();
        for flow in new {
            if gone.remove(&flow.key()).as_ref() != Some(&flow) {
                self.set(flow);
            }
        }
        for key in gone.into_keys() {
            self.remove(key);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<FlowOp> {
        std::mem::take(&mut self.ops)
            .into_iter()
            .map(|(key, body)| match body {
                Some(body) => FlowOp::Set(flow_at(key, body)),
                None => FlowOp::Remove(key),
            })
            .collect()
    }
}

pub(crate) fn flow_at(key: FlowKey, body: FlowBody) -> Flow {
    Flow::new(key.table, key.priority, key.matches, body.actions.to_vec()).with_cookie(body.cookie)
}

/// A flow of `kind` about `object`.
pub(crate) fn flow(
    (kind, object): (FlowKind, u64),
    table: u8,
    priority: u16,
    matches: Match,
    actions: Vec<Action>,
) -> Flow {
    Flow::new(table, priority, matches, actions).with_cookie(cookie(kind, object))
}

/// Loads a whole register.
pub(crate) fn load(field: Field, value: impl Into<u128>) -> Action {
    Action::set_field(field, value)
}

/// Goes on in `table` and comes back.
pub(crate) fn resubmit(table: u8) -> Action {
    Action::resubmit(table)
}

/// Ends the packet's way, counted under `reason`.
pub(crate) fn drop_as(reason: DropReason) -> Vec<Action> {
    vec![load(register::REASON, reason as u8), resubmit(layout::drop::TABLE)]
}

/// Tracks the packet in the port's zone and goes on in `table` with what conntrack says.
pub(crate) fn track(table: u8) -> Action {
    Action::Ct(Ct { table: Some(table), ..ct_in_port_zone() })
}

/// Does `actions` to a copy of the packet that the datapath makes, so that what conntrack keeps of it, or adds to it, is no
/// business of the actions behind (see [`commit_and_go_on`]).
///
/// ovs-vswitchd 3.1 makes that copy only where the list itself holds an action that it cannot undo, and looks into no
/// `resubmit` (ofproto/ofproto-dpif-xlate.c: `reversible_actions`). A truncated output to TABLE is such an action and does
/// nothing (`xlate_output_trunc_action`: "output_trunc does not support port"); 14 bytes are the least it takes.
pub(crate) fn on_a_copy(mut actions: Vec<Action>) -> Action {
    actions.push(Action::OutputTrunc { port: PortNo::TABLE, max_len: 14 });
    Action::Clone(actions)
}

/// Commits the connection in the port's zone with `mark`, and goes on in `table` with what conntrack says.
///
/// What stands behind a `ct` in a list of actions befalls whatever packets come out of it. Open vSwitch 3.1 in userspace adds
/// parts of other datagrams to them, those that it kept in vain, as invalid (`lib/ipf.c`: `ipf_send_expired_frags`): only a
/// table can tell them from the packet that went in (integration/tests/held_fragments.rs).
pub(crate) fn commit_and_go_on(mark: u32, table: u8) -> Action {
    Action::Ct(Ct {
        commit: true,
        exec: vec![load(Field::CtMark, mark)],
        table: Some(table),
        ..ct_in_port_zone()
    })
}

/// Commits the connection in the port's zone with `mark`. Behind it the packet goes nowhere but through conntrack again.
pub(crate) fn commit(mark: u32) -> Action {
    Action::Ct(Ct { commit: true, exec: vec![load(Field::CtMark, mark)], ..ct_in_port_zone() })
}

fn ct_in_port_zone() -> Ct {
    let zone = Subfield { field: register::ZONE, offset: 0, bits: 16 };
    Ct { zone: CtZone::Field(zone), ..Ct::default() }
}
