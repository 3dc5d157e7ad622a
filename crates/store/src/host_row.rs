//! What an agent says of itself in the store.

use std::collections::BTreeMap;

use ovsdb::{Insert, Operation, Row, RowError, Update, Uuid, Value};

use serde::{Deserialize, Serialize};

use crate::schema::HOST;

/// A row of table Host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HostRow {
    /// Everything that was written before this number was given out is in force there.
    pub applied: i64,
    /// What the agent refuses, by object, and why. Bounded: see [`HostRow::refuse`].
    pub refused: BTreeMap<String, String>,
    /// Of the agent.
    pub version: String,
    /// How often it wrote to be sure that its server is not behind ([`crate::Follower::wants_proof`]).
    pub connects: i64,
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
            connects: row.integer("connects")?,
        })
    }

    /// Writes it: into the row that is there, or a new one of this name.
    pub fn write(&self, name: &str, row: Option<Uuid>) -> Operation {
        let refused =
            || Value::map(self.refused.iter().map(|(object, reason)| (object.as_str(), reason.as_str())));
        match row {
            Some(row) => Update::table(HOST)
                .filter(row)
                .set("applied", self.applied)
                .set("refused", refused())
                .set("version", self.version.as_str())
                .set("connects", self.connects)
                .into(),
            None => Insert::into(HOST)
                .set("name", name)
                .set("applied", self.applied)
                .set("refused", refused())
                .set("version", self.version.as_str())
                .set("connects", self.connects)
                .into(),
        }
    }
}
