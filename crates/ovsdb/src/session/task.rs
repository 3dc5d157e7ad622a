//! The session on tokio.

use std::sync::Arc;

use thiserror::Error;

use super::{SessionConfig, SessionEvent};
use crate::replica::Replica;
use crate::schema::DatabaseSchema;
use crate::transaction::{Condition, TransactError, TransactReply, Transaction};
use crate::wire::RpcError;

/// Starts a session on the current tokio runtime.
pub fn spawn(_config: SessionConfig) -> (SessionHandle, SessionEvents) {
    (SessionHandle {}, SessionEvents {})
}

/// To command a session; cheap to clone. The session ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct SessionHandle {}

/// What the session tells, in order.
#[derive(Debug)]
pub struct SessionEvents {}

/// Conditions that were not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetConditionsError {
    /// The session does not follow that table.
    #[error("table {0} is not monitored")]
    NotMonitored(String),
    /// The server refused them.
    #[error("conditions refused: {0}")]
    Refused(RpcError),
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

impl SessionEvents {
    /// The next event; `None` when the session has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        None
    }

    /// The next event if there is one already. When a transaction is answered, the changes that it made are
    /// here already (ovsdb-server(7) 3.1, 4.1.5).
    pub fn try_recv(&mut self) -> Option<SessionEvent> {
        None
    }
}

impl SessionHandle {
    /// Runs a transaction.
    ///
    /// # Errors
    /// See [`TransactError`]; [`TransactError::NotConnected`] at once if there is no connection.
    pub async fn transact(&self, _transaction: Transaction) -> Result<TransactReply, TransactError> {
        Err(TransactError::NotConnected)
    }

    /// Asks for a lock, now and after each reconnect. [`SessionEvent::Locked`] says when it is ours.
    pub async fn lock(&self, _name: impl Into<String>) {}

    /// As `lock`, but takes the lock from whoever holds it.
    pub async fn steal(&self, _name: impl Into<String>) {}

    /// Gives a lock back, or asks for it no more.
    pub async fn unlock(&self, _name: impl Into<String>) {}

    /// Follows other rows of a monitored table. The changes come as an update before this returns.
    ///
    /// # Errors
    /// A table that is not followed, or conditions that the server refuses.
    pub async fn set_conditions(
        &self,
        _table: impl Into<String>,
        _conditions: Vec<Condition>,
    ) -> Result<(), SetConditionsError> {
        Err(SetConditionsError::Ended)
    }

    /// The monitored rows as of now; `None` when the session has ended.
    pub async fn replica(&self) -> Option<Replica> {
        None
    }

    /// The schema of the server last connected to.
    pub async fn schema(&self) -> Option<Arc<DatabaseSchema>> {
        None
    }
}
