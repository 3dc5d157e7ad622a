//! What a change of a row says, in the words of the store.

use std::collections::BTreeMap;

use ovsdb::{Atom, Change, Datum, Row, RowError};
use policy::{AddressGroupId, GroupId, PortId};
use serde::{Deserialize, Serialize};

use crate::content::PortRow;
use crate::member_text::Family;
use crate::schema::{ADDRESS_GROUP, GLOBAL, PORT, SECURITY_GROUP};

/// Elements of a set column that came and went.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SetChange {
    /// Came.
    pub added: Vec<String>,
    /// Went.
    pub removed: Vec<String>,
}

impl SetChange {
    /// Of a column of a row.
    ///
    /// # Errors
    /// The column is not there or is no set of strings.
    pub(crate) fn of(change: &Change, column: &str) -> Result<Self, RowError> {
        let difference = change.column_difference(column).ok_or_else(|| RowError {
            table: change.table.clone(),
            column: column.to_owned(),
            reason: "not in this row (not monitored or not in the schema)".to_owned(),
        })?;
        let strings = |datum: &Datum| datum.atoms().filter_map(Atom::as_str).map(str::to_owned).collect();
        Ok(SetChange { added: strings(&difference.added), removed: strings(&difference.removed) })
    }

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

/// Reads changes of rows, which follow on each other.
#[derive(Clone, Copy, Debug)]
pub struct Sight;

impl Sight {
    /// What a change of a row says. Tables of others say nothing.
    ///
    /// # Errors
    /// A column is not there or not of its type: the session did not follow [`Sight::tables`].
    pub fn read(change: &Change) -> Result<Vec<Seen>, RowError> {
        let (old, new) = (change.old_row().map(AsRef::as_ref), change.new_row().map(AsRef::as_ref));
        match &*change.table {
            SECURITY_GROUP => by_id(old, new, "id", |id, old, new| read_group(id, change, old, new)),
            ADDRESS_GROUP => by_id(old, new, "id", |id, old, new| read_address_group(id, change, old, new)),
            PORT => by_id(old, new, "id", |id, _, new| {
                Ok(Seen::Port(id.into(), new.map(PortRow::read).transpose()?))
            }),
            GLOBAL => {
                let sequence = new.map(|row| row.integer("sequence")).transpose()?;
                Ok(sequence.into_iter().map(Seen::Sequence).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The tables and the columns of each that are read here.
    pub fn tables() -> [(&'static str, Vec<&'static str>); 4] {
        [
            (SECURITY_GROUP, vec!["id", "name", "stateful", "rules", "members_ipv4", "members_ipv6"]),
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

fn read_group(id: &str, change: &Change, old: Option<&Row>, new: Option<&Row>) -> Result<Seen, RowError> {
    let mut members = SetChange::default();
    for family in Family::BOTH {
        let SetChange { added, removed } = SetChange::of(change, family.column())?;
        members.added.extend(added);
        members.removed.extend(removed);
    }
    let head = match (old, new) {
        (Some(old), Some(new)) => {
            let is_same =
                ["name", "stateful", "rules"].iter().all(|column| old.datum(column) == new.datum(column));
            (!is_same).then(|| group_head(new)).transpose()?.map(Now::Is)
        }
        (_, Some(new)) => Some(Now::Is(group_head(new)?)),
        (_, None) => Some(Now::Gone),
    };
    Ok(Seen::Group { id: id.into(), head, members })
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
    let addresses = SetChange::of(change, "addresses")?;
    let before = old.map(|row| row.string("name")).transpose()?;
    let now = new.map(|row| row.string("name")).transpose()?;
    let name = (before != now).then(|| now.map_or(Now::Gone, |name| Now::Is(name.to_owned())));
    Ok(Seen::AddressGroup { id: id.into(), name, addresses })
}
