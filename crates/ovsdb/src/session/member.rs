//! Whether a server is one to stay with: what it tells of the database in `_Server` (ovsdb-server(5)).

use serde_json::Value as Json;

use super::ServerPolicy;
use crate::monitor::{Call, MonitorError, MonitorTable, Progress, Purpose, Subscription};
use crate::remote::Remote;
use crate::status::{DATABASE_TABLE, DatabaseStatus, SERVER_DATABASE, StorageModel, server_schema};
use crate::transaction::Condition;
use crate::wire::RpcError;

/// Follows the row of one database on one connection. `_Server` is each server's own, so that nothing of it is
/// taken to the next connection.
#[derive(Debug)]
pub(super) struct Member {
    subscription: Subscription,
}

/// Tells its monitor from the session's own, on the same connection.
const NUMBER: u64 = 1;

impl Member {
    /// The call begins it.
    pub(super) fn new(database: &str) -> Result<(Self, Call), String> {
        let table = MonitorTable::new(DATABASE_TABLE, ["model", "connected", "leader"])
            .matching(Condition::equal("name", database));
        let mut subscription = Subscription::new(NUMBER, SERVER_DATABASE, vec![table]);
        let schema = server_schema().map_err(|error| error.to_string())?;
        let call = subscription.start(&schema).map_err(|error| error.to_string())?;
        Ok((Self { subscription }, call))
    }

    pub(super) fn answered(
        &mut self,
        purpose: Purpose,
        outcome: Result<Json, RpcError>,
    ) -> Result<Progress, MonitorError> {
        self.subscription.answered(purpose, outcome)
    }

    /// Takes a notification; true if it was about `_Server`.
    pub(super) fn notified(&mut self, method: &str, params: &Json) -> Result<bool, MonitorError> {
        self.subscription.notified(method, params).map(|changes| changes.is_some())
    }

    /// Why the server at `remote` is to be left, if it is.
    pub(super) fn verdict(
        &self,
        policy: ServerPolicy,
        remote: &Remote,
        database: &str,
    ) -> Result<(), String> {
        let mut rows = self.subscription.replica().rows(DATABASE_TABLE);
        let row = rows.next().ok_or_else(|| format!("{remote} has no database {database}"))?;
        let status = DatabaseStatus::read(row).map_err(|error| error.to_string())?;
        let flaw = match status {
            DatabaseStatus { model: StorageModel::Standalone, .. } => return Ok(()),
            DatabaseStatus { model: StorageModel::Clustered, connected: false, .. } => {
                "is cut off from its cluster"
            }
            DatabaseStatus { model: StorageModel::Relay, connected: false, .. } => {
                "is a relay that is cut off from its source"
            }
            DatabaseStatus { leader: true, .. } => return Ok(()),
            _ if policy != ServerPolicy::Leader => return Ok(()),
            DatabaseStatus { model: StorageModel::Relay, .. } => "is a relay, not the cluster's leader",
            _ => "is not the cluster's leader",
        };
        Err(format!("{remote} {flaw}"))
    }
}
