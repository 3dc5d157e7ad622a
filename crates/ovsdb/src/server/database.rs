//! The rows of the in-memory server, and what became of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::schema::{DatabaseSchema, SchemaError, TableSchema};
use crate::value::{Datum, Uuid};

/// The columns of a row.
pub(super) type Columns = BTreeMap<Arc<str>, Datum>;

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) columns: Columns,
    /// `_version` of RFC 7047 §3.2: another one after each change.
    pub(super) version: Uuid,
}

/// A row that a transaction changed. One of the two is there at least.
#[derive(Debug, Clone)]
pub(super) struct RowChange {
    pub(super) table: Arc<str>,
    pub(super) uuid: Uuid,
    pub(super) old: Option<Arc<Record>>,
    pub(super) new: Option<Arc<Record>>,
}

/// Which of the server's databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseName {
    /// The one it was made for.
    Own,
    /// `_Server`, which clients only read.
    Server,
}

type Rows = BTreeMap<Uuid, Arc<Record>>;

/// A database: its schema, its rows, and its last transactions.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) schema_json: Json,
    pub(super) schema: Arc<DatabaseSchema>,
    tables: BTreeMap<Arc<str>, Arc<Rows>>,
    identities: Identities,
    /// The transactions that can be resumed from: identity, and what came with it.
    history: VecDeque<(Uuid, Vec<RowChange>)>,
    keep_transactions: usize,
    last_transaction: Uuid,
}

/// A copy of the database that a transaction works on. Tables are copied when they are first written.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) schema: Arc<DatabaseSchema>,
    tables: BTreeMap<Arc<str>, Arc<Rows>>,
    touched: BTreeSet<(Arc<str>, Uuid)>,
    pub(super) identities: Identities,
}

/// Row identities, counted and mixed: each one new, and the same ones in each run of a test.
#[derive(Debug, Clone)]
pub(super) struct Identities(u64);

impl Identities {
    pub(super) fn next(&mut self) -> Uuid {
        self.0 += 1;
        // splitmix64 (Steele, Lea, Flood 2014): a bijection, so that no identity comes twice.
        let mix = |number: u64| {
            let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            number ^ (number >> 31)
        };
        Uuid::from_u128(u128::from(mix(self.0)) << 64 | u128::from(self.0))
    }
}

impl Database {
    pub(super) fn new(schema_json: Json) -> Result<Self, SchemaError> {
        Ok(Self {
            schema: Arc::new(DatabaseSchema::from_json(&schema_json)?),
            schema_json,
            tables: BTreeMap::new(),
            identities: Identities(0),
            history: VecDeque::new(),
            keep_transactions: 0,
            last_transaction: Uuid::ZERO,
        })
    }

    pub(super) fn keep_transactions(&mut self, count: usize) {
        self.keep_transactions = count;
        self.forget_old();
    }

    pub(super) const fn last_transaction(&self) -> Uuid {
        self.last_transaction
    }

    pub(super) fn new_identity(&mut self) -> Uuid {
        self.identities.next()
    }

    pub(super) fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Arc<Record>)> {
        self.tables.get(table).into_iter().flat_map(|rows| rows.iter()).map(|(uuid, record)| (*uuid, record))
    }

    pub(super) fn draft(&self) -> Draft {
        Draft {
            schema: self.schema.clone(),
            tables: self.tables.clone(),
            touched: BTreeSet::new(),
            identities: self.identities.clone(),
        }
    }

    /// Puts a draft in force; gives what changed. A transaction that changed nothing leaves no trace.
    pub(super) fn commit(&mut self, mut draft: Draft) -> Vec<RowChange> {
        let transaction = draft.identities.next();
        let changes = draft.changes_from(self, transaction);
        self.identities = draft.identities;
        if changes.is_empty() {
            return changes;
        }
        self.tables = draft.tables;
        self.last_transaction = transaction;
        self.history.push_back((transaction, changes.clone()));
        self.forget_old();
        changes
    }

    /// What changed after a transaction: one change a row. `None`: the transaction is not known any more.
    pub(super) fn changes_since(&self, transaction: Uuid) -> Option<Vec<RowChange>> {
        let place = self.history.iter().position(|(identity, _)| *identity == transaction)?;
        let mut merged: BTreeMap<(Arc<str>, Uuid), RowChange> = BTreeMap::new();
        for change in self.history.iter().skip(place + 1).flat_map(|(_, changes)| changes) {
            merged
                .entry((change.table.clone(), change.uuid))
                .and_modify(|first| first.new = change.new.clone())
                .or_insert_with(|| change.clone());
        }
        Some(merged.into_values().collect())
    }

    fn forget_old(&mut self) {
        while self.history.len() > self.keep_transactions {
            self.history.pop_front();
        }
    }
}

impl Draft {
    pub(super) fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Arc<Record>)> {
        self.tables.get(table).into_iter().flat_map(|rows| rows.iter()).map(|(uuid, record)| (*uuid, record))
    }

    pub(super) fn has_row(&self, table: &str, uuid: Uuid) -> bool {
        self.tables.get(table).is_some_and(|rows| rows.contains_key(&uuid))
    }

    pub(super) fn count(&self, table: &str) -> usize {
        self.tables.get(table).map_or(0, |rows| rows.len())
    }

    pub(super) fn put(&mut self, table: &TableSchema, uuid: Uuid, columns: Columns) {
        let record = Arc::new(Record { columns, version: Uuid::ZERO });
        self.touched.insert((table.name.clone(), uuid));
        Arc::make_mut(self.tables.entry(table.name.clone()).or_default()).insert(uuid, record);
    }

    pub(super) fn remove(&mut self, table: &str, uuid: Uuid) {
        if let Some((name, rows)) = self.tables.iter_mut().find(|(name, _)| ***name == *table) {
            Arc::make_mut(rows).remove(&uuid);
            self.touched.insert((name.clone(), uuid));
        }
    }

    /// Whether the row was written or deleted by the transaction.
    pub(super) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    fn changes_from(&mut self, base: &Database, transaction: Uuid) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for (table, uuid) in std::mem::take(&mut self.touched) {
            let old = base.tables.get(&table).and_then(|rows| rows.get(&uuid)).cloned();
            let Some(rows) = self.tables.get_mut(&table) else { continue };
            let is_same = |new: &Arc<Record>| old.as_ref().is_some_and(|old| old.columns == new.columns);
            let new = match (rows.get(&uuid), &old) {
                (Some(new), Some(old)) if is_same(new) => {
                    // Written with the value it had: the version stays too.
                    let old = old.clone();
                    Arc::make_mut(rows).insert(uuid, old);
                    continue;
                }
                (Some(new), _) => {
                    let new = Arc::new(Record { columns: new.columns.clone(), version: transaction });
                    Arc::make_mut(rows).insert(uuid, new.clone());
                    Some(new)
                }
                (None, _) => None,
            };
            if old.is_some() || new.is_some() {
                changes.push(RowChange { table, uuid, old, new });
            }
        }
        changes
    }
}
