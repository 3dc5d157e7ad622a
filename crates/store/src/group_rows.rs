//! The rows of a security group: its row of Security_Group, and where it has more members than one row takes, rows of Members besides.
//!
//! What a change of a row costs a server is in proportion to the row, for each session once more, so a row is to be small. Which member stands in which row says
//! nothing: a group's members are those of all its rows, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ovsdb::{Atom, Change, Datum, Row, RowError, Uuid};
use policy::GroupId;

use crate::content::MemberText;
use crate::member_text::Family;
use crate::schema::{MEMBERS, SECURITY_GROUP};
use crate::sight::SetChange;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupRows {
    /// Of Security_Group. Without it there is no group, whatever else there is.
    pub(crate) head: Option<Arc<Row>>,
    /// Of Members.
    pub(crate) parts: BTreeMap<Uuid, Arc<Row>>,
}

impl GroupRows {
    /// The row of the group first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.head.iter().chain(self.parts.values())
    }

    /// Whether a member stands in one of the rows.
    pub(crate) fn holds(&self, family: Family, member: &Atom) -> bool {
        self.rows().any(|row| holds(row, family, member))
    }

    fn row(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.head.as_ref().filter(|head| head.uuid() == uuid).or_else(|| self.parts.get(&uuid))
    }

    /// The members of a family, each once.
    pub(crate) fn members(&self, family: Family) -> Result<Vec<&Atom>, RowError> {
        let mut all: Vec<&Atom> = Vec::new();
        for row in self.rows() {
            all.extend(row.datum(family.column())?.atoms());
        }
        // One row is a set.
        if !self.parts.is_empty() {
            all.sort_unstable();
            all.dedup();
        }
        Ok(all)
    }

    /// The members in words, each once.
    pub(crate) fn texts(&self) -> Result<Vec<MemberText>, RowError> {
        let mut all = Vec::new();
        for family in Family::BOTH {
            all.extend(texts(self.members(family)?).map(|text| (family, text)));
        }
        Ok(all)
    }

    /// How the members of a group change from here to `now`: what stands in another row has not changed. Costs what the rows' changes cost.
    pub(crate) fn members_until(&self, now: &Self) -> Result<SetChange, RowError> {
        let mut change = SetChange::default();
        for family in Family::BOTH {
            match (&self.head, &now.head) {
                (None, None) => {}
                (None, Some(_)) => change.added.extend(texts(now.members(family)?)),
                (Some(_), None) => change.removed.extend(texts(self.members(family)?)),
                (Some(_), Some(_)) => {
                    for member in self.touched(now, family)? {
                        let (was, is) = (self.holds(family, &member), now.holds(family, &member));
                        match (was, is) {
                            (true, false) => change.removed.extend(texts([&member])),
                            (false, true) => change.added.extend(texts([&member])),
                            _ => {}
                        }
                    }
                }
            }
        }
        Ok(change)
    }

    /// What came to a row or went from one, each once.
    fn touched(&self, now: &Self, family: Family) -> Result<BTreeSet<Atom>, RowError> {
        let nothing = Datum::Set(ovsdb::AtomSet::new());
        let uuids: BTreeSet<Uuid> = self.rows().chain(now.rows()).map(|row| row.uuid()).collect();
        let mut touched = BTreeSet::new();
        for uuid in uuids {
            let (old, new) = (self.row(uuid), now.row(uuid));
            if let (Some(old), Some(new)) = (old, new)
                && Arc::ptr_eq(old, new)
            {
                continue;
            }
            let of = |row: Option<&Arc<Row>>| row.map(|row| row.datum(family.column()).cloned()).transpose();
            let (old, new) =
                (of(old)?.unwrap_or_else(|| nothing.clone()), of(new)?.unwrap_or_else(|| nothing.clone()));
            let difference = old.difference(&new);
            touched.extend(difference.removed.atoms().chain(difference.added.atoms()).cloned());
        }
        Ok(touched)
    }
}

fn texts<'a>(atoms: impl IntoIterator<Item = &'a Atom>) -> impl Iterator<Item = String> {
    atoms.into_iter().filter_map(Atom::as_str).map(str::to_owned)
}

/// Whether a member stands in this row.
pub(crate) fn holds(row: &Row, family: Family, member: &Atom) -> bool {
    match row.datum(family.column()) {
        Ok(Datum::Set(held)) => held.contains(member),
        Ok(held) => held.atoms().any(|atom| atom == member),
        Err(_) => false,
    }
}

/// Of all groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllGroupRows(BTreeMap<GroupId, GroupRows>);

impl AllGroupRows {
    /// The groups whose rows a change is about: two where a row is another group's now.
    ///
    /// # Errors
    /// A row that does not say of which group it is: the session does not follow that column.
    pub(crate) fn touched_by(change: &Change) -> Result<BTreeSet<GroupId>, RowError> {
        let column = match &*change.table {
            SECURITY_GROUP => "id",
            MEMBERS => "security_group",
            _ => return Ok(BTreeSet::new()),
        };
        let rows = [change.old_row(), change.new_row()].into_iter().flatten();
        rows.map(|row| Ok(GroupId::from(row.string(column)?))).collect()
    }

    /// Takes a change of a row in; those of other tables are none.
    ///
    /// # Errors
    /// As [`AllGroupRows::touched_by`].
    pub(crate) fn see(&mut self, change: &Change) -> Result<(), RowError> {
        let is_head = &*change.table == SECURITY_GROUP;
        let column = if is_head { "id" } else { "security_group" };
        for id in Self::touched_by(change)? {
            let rows = self.0.entry(id.clone()).or_default();
            if !is_head {
                rows.parts.remove(&change.uuid);
            } else if rows.head.as_ref().is_some_and(|row| row.uuid() == change.uuid) {
                // Another row of the same id may have come in the same transaction.
                rows.head = None;
            }
            if let Some(new) = change.new_row()
                && new.string(column)? == id.as_str()
            {
                match is_head {
                    true => rows.head = Some(Arc::clone(new)),
                    false => _ = rows.parts.insert(change.uuid, Arc::clone(new)),
                }
            }
            if rows.head.is_none() && rows.parts.is_empty() {
                self.0.remove(&id);
            }
        }
        Ok(())
    }

    /// The rows of a group.
    pub(crate) fn get(&self, id: &GroupId) -> Option<&GroupRows> {
        self.0.get(id)
    }

    /// Whatever has a row, a group or not.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&GroupId, &GroupRows)> {
        self.0.iter()
    }

    /// The groups that there are.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&GroupId, &Arc<Row>)> {
        self.0.iter().filter_map(|(id, rows)| Some((id, rows.head.as_ref()?)))
    }
}
