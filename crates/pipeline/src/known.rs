//! What a switch already holds: ids and generations, read from our own flows, so that a restart numbers nothing anew.

use std::collections::BTreeMap;

use policy::Direction;
use rust_openflow::{Action, Field, Flow, Match};

use crate::cookie::is_ours;
use crate::layout::{egress_commit, ingress_commit, register};
use crate::names::Name;
use crate::numbers::{Generation, RemoteId, SetId};
use crate::remote::RemoteKey;
use crate::sets::SetKey;

/// Ids of sets and remotes, and the generations in force.
#[derive(Clone, Default, Debug)]
pub struct Known {
    pub(crate) sets: BTreeMap<SetKey, SetId>,
    pub(crate) remotes: BTreeMap<RemoteKey, RemoteId>,
    pub(crate) generations: BTreeMap<(SetId, Direction), Generation>,
}

impl Known {
    /// Reads a dump of the bridge; foreign flows are passed over.
    pub fn read<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Known {
        let mut known = Known::default();
        for flow in flows.into_iter().filter(|flow| is_ours(flow.cookie)) {
            match Name::of(flow) {
                Some(Name::Set(id, groups, stateless)) => {
                    let groups = groups.into_iter().collect();
                    known.sets.insert(SetKey { groups, stateless: stateless.into_iter().collect() }, id);
                }
                Some(Name::Group(id, group)) => {
                    known.remotes.insert(RemoteKey::Group(group), id);
                }
                Some(Name::AddressGroup(id, group)) => {
                    known.remotes.insert(RemoteKey::AddressGroup(group), id);
                }
                Some(Name::Port(..)) => {}
                None => known.generations.extend(generation(flow.table, &flow.matches, &flow.actions)),
            }
        }
        known
    }

    /// The highest generation in force, or number of a set: the counter, which gives both, must be above it even where
    /// OVSDB lost its high-water mark.
    pub fn highest_generation(&self) -> Option<Generation> {
        let sets = self.sets.values().map(|id| Generation(id.0));
        self.generations.values().copied().chain(sets).max()
    }
}

/// The generation that a commit flow stamps.
pub(crate) fn generation(
    table: u8,
    matches: &Match,
    actions: &[Action],
) -> Option<((SetId, Direction), Generation)> {
    let direction = match table {
        egress_commit::TABLE => Direction::Egress,
        ingress_commit::TABLE => Direction::Ingress,
        _ => return None,
    };
    let (set, _) = matches.get(register::SET)?;
    let mark = actions.iter().find_map(|action| match action {
        Action::Ct(ct) => ct.exec.iter().find_map(|nested| match nested {
            Action::SetField { field: Field::CtMark, value, .. } => Some(*value),
            _ => None,
        }),
        _ => None,
    })?;
    Some(((SetId(u32::try_from(set).ok()?), direction), Generation(u32::try_from(mark).ok()?)))
}
