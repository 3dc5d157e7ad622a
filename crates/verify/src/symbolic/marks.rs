//! Marks by which packets pass unjudged, and the ports that share them.

use std::collections::{BTreeMap, BTreeSet};

use policy::GroupId;
use rust_openflow::Field;

use crate::tables::Tables;

use super::view::Source;

/// The set of groups of the port concerned.
pub(crate) const SET: Field = Field::Reg(7);

/// Which policy tables were made for.
#[derive(Clone, Copy)]
pub(crate) enum MadeFor {
    /// The one that they are compared with.
    ThisPolicy,
    /// One that is not told.
    Another,
}

/// Ports that share their marks, by what they have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sharers {
    /// The groups that the policy has for them.
    Groups(BTreeSet<GroupId>),
    /// What tables made of their groups, for another policy: the set by which their packets are tracked. There is one for
    /// each port, or something is wrong with the tables.
    Sets(BTreeSet<Option<Source>>),
}

/// Who stamps with a mark.
pub(crate) type StampedBy = BTreeMap<u32, BTreeSet<Sharers>>;

/// Marks that may let a packet pass unjudged.
pub(crate) struct Marks {
    /// Those that some flow looks for.
    looked_for: BTreeSet<u32>,
    stamped_by: StampedBy,
}

impl Marks {
    pub(crate) fn new(tables: &Tables, stamped_by: StampedBy) -> Self {
        let terms = tables.flows().iter().filter_map(|flow| flow.matches.get(Field::CtMark));
        let marks = terms.filter_map(|(value, _)| u32::try_from(value).ok());
        Marks { looked_for: marks.filter(|mark| *mark != 0).collect(), stamped_by }
    }

    /// Marks that nobody but these stamps with.
    pub(crate) fn of(&self, sharers: &Sharers) -> impl Iterator<Item = u32> {
        let others = move |mark: &&u32| {
            self.stamped_by.get(mark).is_none_or(|by| by.iter().all(|stamping| stamping == sharers))
        };
        self.looked_for.iter().filter(others).copied()
    }
}
