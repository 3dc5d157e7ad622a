//! What hosts say of themselves in the store.

use std::collections::BTreeMap;

use ovsdb::{Change, MonitorTable, RowError, Uuid};
use store::{HostRow, schema};

/// The rows of hosts, and the row Global.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    names: BTreeMap<Uuid, String>,
    rows: BTreeMap<String, HostRow>,
    /// Row, revision, and the number that hosts answer.
    pub(super) global: Option<(Uuid, i64, i64)>,
}

impl Hosts {
    /// Tables to follow.
    pub(super) fn tables() -> Vec<MonitorTable> {
        let global = MonitorTable::new(schema::GLOBAL, ["revision", "sequence"]);
        vec![global, MonitorTable::new(schema::HOST, ["name", "applied", "refused", "version"])]
    }

    /// Takes a change in.
    pub(super) fn see(&mut self, change: &Change) -> Result<(), RowError> {
        match (&*change.table, change.new_row()) {
            (schema::GLOBAL, row) => {
                let read =
                    |row: &ovsdb::Row| Ok((row.uuid(), row.integer("revision")?, row.integer("sequence")?));
                self.global = row.map(|row| read(row)).transpose()?;
            }
            (schema::HOST, Some(row)) => {
                let name = row.string("name")?.to_owned();
                self.rows.insert(name.clone(), HostRow::read(row)?);
                self.names.insert(change.uuid, name);
            }
            (schema::HOST, None) => {
                if let Some(name) = self.names.remove(&change.uuid) {
                    // Another row of the same name may have come in the same transaction.
                    if !self.names.values().any(|other| *other == name) {
                        self.rows.remove(&name);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// By name.
    pub(super) fn rows(&self) -> &BTreeMap<String, HostRow> {
        &self.rows
    }

    /// Those that have not everything in force that was written before this number was given out.
    pub(super) fn behind(&self, number: i64) -> impl Iterator<Item = &str> {
        self.rows.iter().filter(move |(_, row)| row.applied < number).map(|(name, _)| name.as_str())
    }
}
