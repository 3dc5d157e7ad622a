//! The copy of the monitored rows, and what changed in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::row::Row;
use crate::value::{ColumnDifference, Uuid};

/// One row that appeared, changed or went. Rows are shared with the replica, not copied.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Table of the row.
    pub table: Arc<str>,
    /// The row.
    pub uuid: Uuid,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a row. "Appeared" and "went" are about the monitored rows: a row that begins to match a
/// condition appears.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// It was not there.
    Inserted {
        /// The row.
        new: Arc<Row>,
    },
    /// Its monitored columns are others than before.
    Modified {
        /// The row before.
        old: Arc<Row>,
        /// The row now.
        new: Arc<Row>,
    },
    /// It is there no more.
    Deleted {
        /// The row before.
        old: Arc<Row>,
    },
}

/// The monitored rows: table → identity → row, ordered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replica {
    tables: BTreeMap<Arc<str>, BTreeMap<Uuid, Arc<Row>>>,
}

impl Change {
    /// The row as it is now; `None` if it went.
    pub const fn new_row(&self) -> Option<&Arc<Row>> {
        match &self.kind {
            ChangeKind::Inserted { new } | ChangeKind::Modified { new, .. } => Some(new),
            ChangeKind::Deleted { .. } => None,
        }
    }

    /// The row as it was; `None` if it was not there.
    pub const fn old_row(&self) -> Option<&Arc<Row>> {
        match &self.kind {
            ChangeKind::Deleted { old } | ChangeKind::Modified { old, .. } => Some(old),
            ChangeKind::Inserted { .. } => None,
        }
    }

    /// What went from a column and what came to it: all of it where the row appeared or went. `None`: the row has
    /// no such column. The time is that of what differs, and not of all that the column holds, unless the server
    /// sent the whole row anew after a reconnect.
    ///
    /// ```
    /// # fn follow(change: &ovsdb::Change) {
    /// if let Some(difference) = change.column_difference("members") {
    ///     for member in difference.added.atoms().filter_map(ovsdb::Atom::as_str) {
    ///         println!("{member} has come");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn column_difference(&self, column: &str) -> Option<ColumnDifference> {
        let (old, new) = match &self.kind {
            ChangeKind::Inserted { new } => {
                let new = new.datum(column).ok()?;
                (&new.nothing(), new)
            }
            ChangeKind::Modified { old, new } => (old.datum(column).ok()?, new.datum(column).ok()?),
            ChangeKind::Deleted { old } => {
                let old = old.datum(column).ok()?;
                (old, &old.nothing())
            }
        };
        Some(old.difference(new))
    }

    /// The change from `old` to `new`; `None` if there is none.
    pub(crate) fn between(
        table: &Arc<str>,
        uuid: Uuid,
        old: Option<Arc<Row>>,
        new: Option<Arc<Row>>,
    ) -> Option<Self> {
        let kind = match (old, new) {
            (None, Some(new)) => ChangeKind::Inserted { new },
            (Some(old), None) => ChangeKind::Deleted { old },
            (Some(old), Some(new)) if old != new => ChangeKind::Modified { old, new },
            _ => return None,
        };
        Some(Self { table: table.clone(), uuid, kind })
    }
}

impl Replica {
    /// Without rows.
    pub const fn new() -> Self {
        Self { tables: BTreeMap::new() }
    }

    /// The row of that identity.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables.get(table)?.get(&uuid)
    }

    /// The rows of a table, ordered by identity.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = &Arc<Row>> {
        self.tables.get(table).into_iter().flat_map(BTreeMap::values)
    }

    /// The names of the tables that have rows.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tables.keys()
    }

    /// Number of rows in all tables.
    pub fn len(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// No row.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Makes the changes; a copy that follows all changes from the beginning is equal to the session's own.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            self.put(&change.table, change.uuid, change.new_row().cloned());
        }
    }

    /// Sets or removes a row; gives back what was there.
    pub(crate) fn put(&mut self, table: &Arc<str>, uuid: Uuid, row: Option<Arc<Row>>) -> Option<Arc<Row>> {
        if let Some(row) = row {
            return self.tables.entry(table.clone()).or_default().insert(uuid, row);
        }
        let rows = self.tables.get_mut(table)?;
        let old = rows.remove(&uuid);
        if rows.is_empty() {
            self.tables.remove(table);
        }
        old
    }
}
