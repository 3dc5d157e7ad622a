//! The server's `_Server` database: what it tells of itself (ovsdb-server(5)).

use std::sync::Arc;

use super::MemoryServer;
use super::database::{Columns, DatabaseName};
use crate::status::{DATABASE_TABLE, DatabaseStatus};
use crate::value::{Atom, Datum};

impl MemoryServer {
    /// Says this of the database from now on; those who follow `_Server` are told. At first
    /// [`DatabaseStatus::STANDALONE`].
    pub fn set_status(&mut self, status: DatabaseStatus) {
        let name = self.database.schema.name.clone();
        let database = &mut self.status;
        let Some(table) = database.schema.table(DATABASE_TABLE).cloned() else { return };
        let columns: Columns = [
            ("name", Atom::from(name)),
            ("model", status.model.name().into()),
            ("connected", status.connected.into()),
            ("leader", status.leader.into()),
        ]
        .into_iter()
        .map(|(name, atom)| (Arc::from(name), Datum::Scalar(atom)))
        .collect();
        let mut draft = database.draft();
        let present = database.rows(DATABASE_TABLE).next().map(|(uuid, _)| uuid);
        let uuid = present.unwrap_or_else(|| draft.identities.next());
        draft.put(&table, uuid, columns);
        let changes = database.commit(draft);
        self.tell(DatabaseName::Server, &changes);
    }

    /// Has no `_Server` database from now on, as a server before Open vSwitch 2.9. Monitors of it stay.
    pub fn forget_status(&mut self) {
        self.has_status = false;
    }
}
