//! What an agent says of itself in the store.

use std::collections::BTreeMap;

use ovsdb::{Condition, Insert, Mutate, Mutator, Row, RowError, Transaction, Update, Value};

use serde::{Deserialize, Serialize};

use crate::schema::{DATABASE, HOST};

/// A row of table Host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HostRow {
    /// Everything that was written before this number was given out is in force there.
    pub applied: i64,
    /// What the agent refuses, by object, and why. Bounded: see [`HostRow::refuse`].
    pub refused: BTreeMap<String, String>,
    /// Of the agent.
    pub version: String,
}

/// Of how many refused objects a host tells; of the rest it tells the number.
const TOLD: usize = 100;
/// Under which name.
const MORE: &str = "(more)";

impl HostRow {
    /// Tells of what is refused, of the first hundred by name.
    pub fn refuse(&mut self, refused: impl Iterator<Item = (String, String)>) {
        let mut refused = refused.collect::<BTreeMap<_, _>>();
        let first_left_out = refused.keys().nth(TOLD).cloned();
        let left_out = first_left_out.map(|first| refused.split_off(&first));
        self.refused = refused;
        self.refused
            .extend(left_out.map(|left_out| (MORE.to_owned(), format!("{} objects", left_out.len()))));
    }

    /// The row as it is in the store.
    ///
    /// # Errors
    /// A column is not there or of another type.
    pub fn read(row: &Row) -> Result<Self, RowError> {
        let refused = row.map("refused")?;
        Ok(HostRow {
            applied: row.integer("applied")?,
            refused: refused.iter().map(|(object, reason)| (object.to_owned(), reason.to_owned())).collect(),
            version: row.string("version")?.to_owned(),
        })
    }

    /// Writes it into the row of this name. Where there is none, no row is counted for the first operation: then [`HostRow::insert`] is to be
    /// made. A write changes something always, and so proves that the server is not behind another.
    pub fn update(&self, name: &str) -> Transaction {
        let columns = self.columns().into_iter();
        let update = Update::table(HOST).filter(Condition::equal("name", name));
        let again = Mutate::table(HOST).filter(Condition::equal("name", name));
        Transaction::new(DATABASE)
            .with(columns.fold(update, |update, (column, value)| update.set(column, value)))
            .with(again.mutate("writes", Mutator::Add, 1))
    }

    /// Makes the row.
    pub fn insert(&self, name: &str) -> Transaction {
        let columns = self.columns().into_iter();
        let insert = Insert::into(HOST).set("name", name);
        Transaction::new(DATABASE)
            .with(columns.fold(insert, |insert, (column, value)| insert.set(column, value)))
    }

    fn columns(&self) -> [(&'static str, Value); 3] {
        let refused = self.refused.iter().map(|(object, reason)| (object.as_str(), reason.as_str()));
        [
            ("applied", self.applied.into()),
            ("refused", Value::map(refused)),
            ("version", self.version.as_str().into()),
        ]
    }
}
