//! A switch's flow tables, made ready for look-ups.

use std::collections::{BTreeMap, BTreeSet};

use rust_openflow::{Action, Field, Flow, PortNo};

use crate::error::{Fault, RefusedFlow};
use crate::packet::Packet;
use crate::prerequisites;

/// ovs-actions(7), "conjunction": "2 to 64" clauses.
const CLAUSES: std::ops::RangeInclusive<u8> = 2..=64;

/// A flow of some [`Tables`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub(crate) usize);

/// Flow tables that can be followed: every flow in them is one that the switch takes, and none has an action that the
/// interpreter does not know; or those of a switch on which others write, too.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    flows: Vec<Flow>,
    /// Those that cannot be followed.
    unfollowed: BTreeMap<FlowId, Fault>,
    /// By table; the highest priority first.
    tables: BTreeMap<u8, Vec<Entry>>,
}

/// A flow as look-ups need it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) flow: FlowId,
    pub(crate) priority: u16,
    pub(crate) terms: Vec<(Field, u128, u128)>,
    /// The clauses that it stands for; none if it is a flow of its own.
    pub(crate) clauses: Vec<Clause>,
}

/// A part of a conjunctive match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Clause {
    pub(crate) conjunction: u32,
    /// From 1.
    pub(crate) number: u8,
    pub(crate) of: u8,
}

impl Tables {
    /// Takes flows in.
    ///
    /// # Errors
    /// The first flow that the switch would refuse or that cannot be followed.
    pub fn new(flows: impl IntoIterator<Item = Flow>) -> Result<Self, RefusedFlow> {
        let mut tables = Tables::default();
        let mut keys = BTreeSet::new();
        let mut conjunctions = BTreeMap::new();
        for flow in flows {
            let refused = |fault| RefusedFlow { flow: flow.to_string(), fault };
            check(&flow).map_err(refused)?;
            if !keys.insert(flow.key()) {
                return Err(refused(Fault::Duplicate));
            }
            let clauses = clauses(&flow).map_err(refused)?;
            for clause in &clauses {
                let key = (flow.table, flow.priority, clause.conjunction);
                if *conjunctions.entry(key).or_insert(clause.of) != clause.of {
                    return Err(refused(Fault::Conjunction));
                }
            }
            tables.add(flow, clauses);
        }
        tables.sort();
        Ok(tables)
    }

    /// Takes in all that a switch holds, whosever it is. A packet that finds a flow which cannot be followed, or one of which it is not known
    /// whether it matches, has no result ([`crate::RunError::Unfollowed`]).
    #[must_use]
    pub fn of_switch(flows: impl IntoIterator<Item = Flow>) -> Self {
        let mut tables = Tables::default();
        for flow in flows {
            let (fault, clauses) = match (check_of_switch(&flow), clauses(&flow)) {
                (Ok(()), Ok(clauses)) => (None, clauses),
                (Err(fault), _) | (_, Err(fault)) => (Some(fault), Vec::new()),
            };
            let id = tables.add(flow, clauses);
            if let Some(fault) = fault {
                tables.unfollowed.insert(id, fault);
            }
        }
        tables.sort();
        tables
    }

    fn add(&mut self, flow: Flow, clauses: Vec<Clause>) -> FlowId {
        let id = FlowId(self.flows.len());
        let terms = flow.matches.iter().collect();
        let entry = Entry { flow: id, priority: flow.priority, terms, clauses };
        self.tables.entry(flow.table).or_default().push(entry);
        self.flows.push(flow);
        id
    }

    fn sort(&mut self) {
        for entries in self.tables.values_mut() {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.priority));
        }
    }

    /// Why a flow of these tables cannot be followed.
    pub(crate) fn fault(&self, id: FlowId) -> Option<Fault> {
        self.unfollowed.get(&id).copied()
    }

    /// A flow of these tables.
    ///
    /// # Panics
    /// If it is one of other tables.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> &Flow {
        &self.flows[id.0]
    }

    /// All flows, in the order in which they were given.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The flows of a table, the highest priority first.
    pub(crate) fn entries(&self, table: u8) -> &[Entry] {
        self.tables.get(&table).map_or(&[], Vec::as_slice)
    }
}

impl Entry {
    /// Whether the packet matches, `conj_id` being `conjunction`.
    pub(crate) fn holds(&self, packet: &Packet, conjunction: u32) -> bool {
        self.terms.iter().all(|(field, value, mask)| {
            let seen = match field {
                Field::ConjId => u128::from(conjunction),
                field => packet.get(*field),
            };
            seen & mask == *value
        })
    }
}

/// Why a flow has no place in any [`Tables`].
pub(crate) fn check(flow: &Flow) -> Result<(), Fault> {
    if flow.matches.raw().next().is_some() {
        return Err(Fault::UnknownField);
    }
    if let Some(field) = prerequisites::missing(&flow.matches) {
        return Err(Fault::Prerequisite(field));
    }
    check_actions(flow, &flow.actions)
}

/// The same of a flow that others may have written: what becomes of a frame behind `NORMAL` is the bridge's learning, and no matter of tables; how many
/// frames pass a meter, which queue they wait in and what their DSCP says decides nothing of where they go.
fn check_of_switch(flow: &Flow) -> Result<(), Fault> {
    let is_known = |action: &&Action| {
        matches!(
            action,
            Action::Output(PortNo::NORMAL)
                | Action::Goto(_)
                | Action::Meter(_)
                | Action::SetQueue(_)
                | Action::PopQueue
                | Action::SetField { field: Field::IpDscp, .. }
        )
    };
    let actions = flow.actions.iter().filter(|action| !is_known(action)).cloned().collect();
    check(&Flow { actions, ..flow.clone() })
}

fn check_actions(flow: &Flow, actions: &[Action]) -> Result<(), Fault> {
    for action in actions {
        match action {
            Action::Output(port) => known_port(*port)?,
            Action::OutputTrunc { port, .. } if does_nothing_truncated(*port) => {}
            Action::Resubmit { port: None, table: _, ct: false }
            | Action::OutputReg(_)
            | Action::Controller(_)
            | Action::CtClear
            | Action::Conjunction { .. }
            | Action::Note(_)
            | Action::PushVlan(0x8100 | 0x88a8)
            | Action::PopVlan => {}
            Action::SetField { field, .. } => known_target(*field)?,
            Action::Load { dst, .. } | Action::Move { dst, .. } => known_target(dst.field)?,
            Action::Clone(nested) => check_actions(flow, nested)?,
            Action::Ct(ct) => {
                if !prerequisites::is_ip(&flow.matches) {
                    return Err(Fault::CtWithoutIp);
                }
                let stamps = |action: &Action| {
                    matches!(action, Action::SetField { field: Field::CtMark | Field::CtLabel, .. })
                };
                if ct.force
                    || ct.alg != 0
                    || !ct.exec.iter().all(stamps)
                    || (!ct.commit && !ct.exec.is_empty())
                {
                    return Err(Fault::Action);
                }
            }
            _ => return Err(Fault::Action),
        }
    }
    Ok(())
}

/// Where no truncated output goes (ofproto/ofproto-dpif-xlate.c 3.1, `xlate_output_trunc_action`). What remains of it is that
/// a `clone` around it is one of the datapath.
fn does_nothing_truncated(port: PortNo) -> bool {
    matches!(port, PortNo::TABLE | PortNo::NORMAL | PortNo::FLOOD | PortNo::ALL | PortNo::CONTROLLER)
}

/// Ordinary ports, and those reserved ones that need no knowledge of the bridge.
fn known_port(port: PortNo) -> Result<(), Fault> {
    let is_known = port < PortNo::MAX || [PortNo::IN_PORT, PortNo::CONTROLLER, PortNo::LOCAL].contains(&port);
    if is_known { Ok(()) } else { Err(Fault::Action) }
}

/// Metadata and the Ethernet header: what can be written without changing the packet for the tracker.
fn known_target(field: Field) -> Result<(), Fault> {
    let is_known = matches!(
        field,
        Field::Reg(_)
            | Field::XReg(_)
            | Field::XXReg(_)
            | Field::Metadata
            | Field::PktMark
            | Field::InPort
            | Field::InPortNxm
            | Field::EthSrc
            | Field::EthDst
            | Field::VlanTci
            | Field::VlanVid
            | Field::VlanPcp
    );
    if is_known { Ok(()) } else { Err(Fault::Action) }
}

/// "A flow that has one or more conjunction actions may not have any other actions except for note actions"
/// (ovs-actions(7), "conjunction").
fn clauses(flow: &Flow) -> Result<Vec<Clause>, Fault> {
    let clauses: Vec<Clause> = flow
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Conjunction { id, clause, n_clauses } => {
                Some(Clause { conjunction: *id, number: *clause, of: *n_clauses })
            }
            _ => None,
        })
        .collect();
    let is_sound = |clause: &Clause| CLAUSES.contains(&clause.of) && (1..=clause.of).contains(&clause.number);
    let is_alone = |action: &Action| matches!(action, Action::Conjunction { .. } | Action::Note(_));
    let is_whole = clauses.iter().all(is_sound) && flow.actions.iter().all(is_alone);
    if clauses.is_empty() || is_whole { Ok(clauses) } else { Err(Fault::Conjunction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(flows: &[&str]) -> Option<Fault> {
        Tables::new(flows.iter().map(|flow| flow.parse().unwrap())).err().map(|refused| refused.fault)
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (flow, expected) in [
            ("priority=1 actions=NORMAL", Fault::Action),
            ("priority=1 actions=clone(FLOOD)", Fault::Action),
            ("priority=1,ip actions=set_field:10.0.0.1->ip_src", Fault::Action),
            ("priority=1 actions=ct(table=1)", Fault::CtWithoutIp),
            ("priority=1,ip actions=ct(commit,force)", Fault::Action),
            ("priority=1,ip actions=conjunction(1,1/2),output:1", Fault::Conjunction),
        ] {
            assert_eq!(fault(&[flow]), Some(expected), "{flow}");
        }
    }

    #[test]
    fn prerequisites_are_asked_for() {
        use rust_openflow::Match;
        let tracked = |state: u32, mask: u32| {
            Match::new()
                .with(Field::EthType, 0x0800u16)
                .with_mask(Field::CtState, state, mask)
                .with(Field::CtNwSrc, 1u8)
        };
        let ip = Match::new().with(Field::EthType, 0x0800u16);
        for (matches, missing) in [
            (Match::new().with(Field::TcpDst, 80u16), Some(Field::TcpDst)),
            (ip.clone().with(Field::TcpDst, 80u16), Some(Field::TcpDst)),
            (ip.clone().with(Field::IpProto, 6u8).with(Field::TcpDst, 80u16), None),
            (ip.clone().with(Field::IpProto, 6u8).with(Field::UdpDst, 80u16), Some(Field::UdpDst)),
            (ip.with(Field::Ipv6Src, 1u8), Some(Field::Ipv6Src)),
            (tracked(0x20, 0x20), Some(Field::CtNwSrc)),
            (tracked(0x20, 0x30), None),
            (tracked(0x01, 0x01), None),
        ] {
            let flow = Flow::new(0, 1, matches, Vec::new());
            assert_eq!(Tables::new([flow]).err().map(|r| r.fault), missing.map(Fault::Prerequisite));
        }
    }

    #[test]
    fn flows_must_go_together() {
        let same = ["priority=5,ip actions=output:1", "priority=5,ip actions=output:2"];
        assert_eq!(fault(&same), Some(Fault::Duplicate));
        let differently_long =
            ["priority=5,ip actions=conjunction(1,1/2)", "priority=5,ipv6 actions=conjunction(1,2/3)"];
        assert_eq!(fault(&differently_long), Some(Fault::Conjunction));
    }
}
