//! What a change of a row says, in the words of the store.

use std::collections::BTreeMap;

use ovsdb::{Atom, Change, Datum, Row, RowError};
use policy::{AddressGroupId, GroupId, PortId};
use serde::{Deserialize, Serialize};

use crate::content::PortRow;
use crate::group_rows::{AllGroupRows, GroupRows};
use crate::schema::{ADDRESS_GROUP, GLOBAL, MEMBERS, PORT, SECURITY_GROUP};

/// Elements of a set column that came and went.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SetChange {
    /// Came.
    pub added: Vec<String>,
    /// Went.
    pub removed: Vec<String>,
}

impl SetChange {
    /// Each element, and whether it is there now: first what went.
    pub(crate) fn elements(self) -> impl Iterator<Item = (String, bool)> {
        let removed = self.removed.into_iter().map(|text| (text, false));
        removed.chain(self.added.into_iter().map(|text| (text, true)))
    }

    /// Nothing came, nothing went.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// The part of a security group that is no member.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupHead {
    /// For people.
    pub name: String,
    /// Whether its rules track connections.
    pub stateful: bool,
    /// Rules in words, by id.
    pub rules: BTreeMap<String, String>,
}

/// What something is now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Now<T> {
    /// The row is out of sight.
    Gone,
    /// As it is.
    Is(T),
}

/// A row that came into sight, changed, or went out of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Seen {
    /// A security group.
    Group {
        /// Which.
        id: GroupId,
        /// What it is now, if that is something else.
        head: Option<Now<GroupHead>>,
        /// Members, in words.
        members: SetChange,
    },
    /// An address group.
    AddressGroup {
        /// Which.
        id: AddressGroupId,
        /// Its name, if that is something else.
        name: Option<Now<String>>,
        /// Addresses, in words.
        addresses: SetChange,
    },
    /// A port: what it is now.
    Port(PortId, Option<PortRow>),
    /// The number that hosts answer.
    Sequence(i64),
}

/// Reads changes of rows, which follow on each other. It keeps the rows of groups, which it shares with the session: a group may have several.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    groups: AllGroupRows,
}

impl Sight {
    /// What an update says, whose changes come into sight together: a member that is in another row of its group than before is not told of. Tables
    /// of others say nothing.
    ///
    /// # Errors
    /// A column is not there or not of its type: the session did not follow [`Sight::tables`].
    pub fn read(&mut self, changes: &[Change]) -> Result<Vec<Seen>, RowError> {
        let mut seen = Vec::new();
        let mut before: BTreeMap<GroupId, GroupRows> = BTreeMap::new();
        for change in changes {
            for id in AllGroupRows::touched_by(change)? {
                let rows = || self.groups.get(&id).cloned().unwrap_or_default();
                before.entry(id.clone()).or_insert_with(rows);
            }
            self.groups.see(change)?;
            seen.extend(read_other(change)?);
        }
        let nothing = GroupRows::default();
        for (id, before) in before {
            seen.extend(read_group(&id, &before, self.groups.get(&id).unwrap_or(&nothing))?);
        }
        Ok(seen)
    }

    /// The tables and the columns of each that are read here.
    pub fn tables() -> [(&'static str, Vec<&'static str>); 5] {
        [
            (SECURITY_GROUP, vec!["id", "name", "stateful", "rules", "members_ipv4", "members_ipv6"]),
            (MEMBERS, vec!["security_group", "members_ipv4", "members_ipv6"]),
            (ADDRESS_GROUP, vec!["id", "name", "addresses"]),
            (
                PORT,
                vec![
                    "id",
                    "mac_address",
                    "fixed_ips",
                    "allowed_address_pairs",
                    "security_groups",
                    "port_security_enabled",
                    "device_owner",
                ],
            ),
            (GLOBAL, vec!["sequence"]),
        ]
    }
}

/// What a change of a row says that is no group's.
fn read_other(change: &Change) -> Result<Vec<Seen>, RowError> {
    let (old, new) = (change.old_row().map(AsRef::as_ref), change.new_row().map(AsRef::as_ref));
    match &*change.table {
        ADDRESS_GROUP => by_id(old, new, "id", |id, old, new| read_address_group(id, change, old, new)),
        PORT => {
            by_id(old, new, "id", |id, _, new| Ok(Seen::Port(id.into(), new.map(PortRow::read).transpose()?)))
        }
        GLOBAL => {
            let sequence = new.map(|row| row.integer("sequence")).transpose()?;
            Ok(sequence.into_iter().map(Seen::Sequence).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// A row whose name is another now is two: one that went, one that came.
fn by_id(
    old: Option<&Row>,
    new: Option<&Row>,
    column: &str,
    read: impl Fn(&str, Option<&Row>, Option<&Row>) -> Result<Seen, RowError>,
) -> Result<Vec<Seen>, RowError> {
    let before = old.map(|row| row.string(column)).transpose()?;
    let now = new.map(|row| row.string(column)).transpose()?;
    match (before, now) {
        (Some(before), Some(now)) if before != now => {
            Ok(vec![read(before, old, None)?, read(now, None, new)?])
        }
        (_, Some(id)) | (Some(id), None) => Ok(vec![read(id, old, new)?]),
        (None, None) => Ok(Vec::new()),
    }
}

/// None of rows without a group, and of a group of which nothing is another.
fn read_group(id: &GroupId, before: &GroupRows, now: &GroupRows) -> Result<Option<Seen>, RowError> {
    let members = before.members_until(now)?;
    let head = match (&before.head, &now.head) {
        (None, None) => None,
        (Some(_), None) => Some(Now::Gone),
        (None, Some(new)) => Some(Now::Is(group_head(new)?)),
        (Some(old), Some(new)) => {
            let is_same =
                ["name", "stateful", "rules"].iter().all(|column| old.datum(column) == new.datum(column));
            (!is_same).then(|| group_head(new)).transpose()?.map(Now::Is)
        }
    };
    let is_news = head.is_some() || !members.is_empty();
    Ok(is_news.then(|| Seen::Group { id: id.clone(), head, members }))
}

pub(crate) fn group_head(row: &Row) -> Result<GroupHead, RowError> {
    let rules = row.map("rules")?;
    Ok(GroupHead {
        name: row.string("name")?.to_owned(),
        stateful: row.optional_boolean("stateful")?.unwrap_or(true),
        rules: rules.iter().map(|(id, text)| (id.to_owned(), text.to_owned())).collect(),
    })
}

fn read_address_group(
    id: &str,
    change: &Change,
    old: Option<&Row>,
    new: Option<&Row>,
) -> Result<Seen, RowError> {
    let addresses = addresses_change(change)?;
    let before = old.map(|row| row.string("name")).transpose()?;
    let now = new.map(|row| row.string("name")).transpose()?;
    let name = (before != now).then(|| now.map_or(Now::Gone, |name| Now::Is(name.to_owned())));
    Ok(Seen::AddressGroup { id: id.into(), name, addresses })
}

fn addresses_change(change: &Change) -> Result<SetChange, RowError> {
    let column = "addresses";
    let difference = change.column_difference(column).ok_or_else(|| RowError {
        table: change.table.clone(),
        column: column.to_owned(),
        reason: "not in this row (not monitored or not in the schema)".to_owned(),
    })?;
    let strings = |datum: &Datum| datum.atoms().filter_map(Atom::as_str).map(str::to_owned).collect();
    Ok(SetChange { added: strings(&difference.added), removed: strings(&difference.removed) })
}
