//! The schema of the store, and the names in it.

use std::sync::{Arc, OnceLock};

use ovsdb::DatabaseSchema;

/// The schema as ovsdb-tool(1) takes it.
pub const TEXT: &str = include_str!("../sgflow.ovsschema");

/// The name of the database.
pub const DATABASE: &str = "sgflow";

/// The lock of whoever writes what Neutron says (RFC 7047, 4.1.8).
pub const PUBLISHER_LOCK: &str = "sgflow_publisher";

/// One row: how often the policy was written, and the number that hosts answer.
pub const GLOBAL: &str = "Global";
/// Security groups.
pub const SECURITY_GROUP: &str = "Security_Group";
/// Members of security groups that have more than one row takes.
pub const MEMBERS: &str = "Members";
/// Address groups.
pub const ADDRESS_GROUP: &str = "Address_Group";
/// Ports.
pub const PORT: &str = "Port";
/// What each agent says of itself.
pub const HOST: &str = "Host";

/// The schema, read.
pub fn schema() -> Arc<DatabaseSchema> {
    static SCHEMA: OnceLock<Arc<DatabaseSchema>> = OnceLock::new();
    let read = || Arc::new(DatabaseSchema::from_text(TEXT).expect("our own schema is a schema"));
    Arc::clone(SCHEMA.get_or_init(read))
}

/// The schema for `convert` of a clustered database: without columns that are not kept, which clusters do not have. ovsdb-tool and
/// ovsdb-client(1) leave that out by themselves; ovsdb-server 3.1.0 does not look, writes the schema to the cluster's log, says that all
/// went well, and goes on with the old one.
pub fn clustered() -> serde_json::Value {
    let mut schema: serde_json::Value = serde_json::from_str(TEXT).expect("our own schema is JSON");
    let tables = schema["tables"].as_object_mut().into_iter().flatten();
    let columns = tables.filter_map(|(_, table)| table["columns"].as_object_mut()).flatten();
    for (_, column) in columns {
        column.as_object_mut().and_then(|column| column.shift_remove("ephemeral"));
    }
    schema
}
