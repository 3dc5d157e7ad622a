//! What a server tells of its databases: the `_Server` database of ovsdb-server(5).

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::row::{Row, RowError};
use crate::schema::{DatabaseSchema, SchemaError};

/// Name of the database that every server since Open vSwitch 2.9 has.
pub(crate) const SERVER_DATABASE: &str = "_Server";
/// Its table.
pub(crate) const DATABASE_TABLE: &str = "Database";

/// What a server tells of one of its databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// How the database is kept.
    pub model: StorageModel,
    /// Whether the server is in contact with a majority of its cluster, or a relay with its source. A relay says
    /// so for 30 s after it lost its source (ovsdb-server 3.1.0). Always true for a standalone database.
    pub connected: bool,
    /// Whether the server leads the cluster. Always true for a standalone database, and false for a relay.
    pub leader: bool,
}

/// The `model` of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageModel {
    /// `standalone`: in a file of this server's own.
    Standalone,
    /// `clustered`: in a Raft cluster that this server is a member of.
    Clustered,
    /// `relay`: in another server, of which this one has a copy.
    Relay,
}

impl StorageModel {
    /// The model's name in the `_Server` database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Clustered => "clustered",
            Self::Relay => "relay",
        }
    }
}

impl DatabaseStatus {
    /// A database that the server alone has.
    pub const STANDALONE: Self = Self { model: StorageModel::Standalone, connected: true, leader: true };

    /// Reads a row of the table `Database`. A model that is not known counts as standalone: nothing is asked of
    /// such a server.
    pub(crate) fn read(row: &Row) -> Result<Self, RowError> {
        let model = match row.string("model")? {
            "clustered" => StorageModel::Clustered,
            "relay" => StorageModel::Relay,
            _ => StorageModel::Standalone,
        };
        Ok(Self { model, connected: row.boolean("connected")?, leader: row.boolean("leader")? })
    }
}

/// The part of `_Server`'s schema that is read here (ovsdb-server(5) 3.1, DB schema 1.2.0). Without the column
/// `schema`, which is large, and `index`, which changes with each transaction.
pub(crate) fn server_schema_json() -> Json {
    json!({"name": SERVER_DATABASE, "version": "1.2.0", "tables": {DATABASE_TABLE: {"columns": {
        "name": {"type": "string"},
        "model": {"type": {"key": {"type": "string", "enum": ["set", ["standalone", "clustered", "relay"]]}}},
        "connected": {"type": "boolean"},
        "leader": {"type": "boolean"}}}}})
}

/// The same, read.
pub(crate) fn server_schema() -> Result<Arc<DatabaseSchema>, SchemaError> {
    DatabaseSchema::from_json(&server_schema_json()).map(Arc::new)
}
