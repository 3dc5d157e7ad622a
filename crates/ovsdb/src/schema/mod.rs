//! A database's schema: the `<database-schema>` of RFC 7047 §3.2.
//!
//! The schema decides how each value on the wire is read ([`ColumnType`]), and carries the constraints
//! that a server enforces (enumerations, ranges, references, indexes). It is parsed from what
//! `get_schema` answers, or from a `.ovsschema` file.

mod column_type;
mod parse;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use column_type::{BaseType, ColumnType, Constraint, MaxElements, RefStrength};
pub use parse::SchemaError;
pub(crate) use parse::is_id;

/// A database: its name, version and tables.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSchema {
    /// Name, the `<db-name>` of every request.
    pub name: Arc<str>,
    /// `x.y.z`; ovsdb-server lets it be omitted (ovsdb-server(7) 3.1, "3.2 Schema Format").
    pub version: Option<String>,
    /// Checksum that OVS writes into its schema files; not part of RFC 7047, kept as it came.
    pub cksum: Option<String>,
    /// Tables by name.
    pub tables: BTreeMap<Arc<str>, Arc<TableSchema>>,
}

/// A table: its columns and what holds for its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    /// Name.
    pub name: Arc<str>,
    /// Columns by name, without the implicit `_uuid` and `_version`.
    pub columns: BTreeMap<Arc<str>, ColumnSchema>,
    /// Most rows the table may hold; `None`: any number.
    pub max_rows: Option<u64>,
    /// Whether a row stays although no row refers to it. RFC 7047 §3.2: in a schema where no table is
    /// marked as root, every table is; that rule is already applied here.
    pub is_root: bool,
    /// Sets of columns whose values, taken together, no two rows share.
    pub indexes: Vec<Vec<Arc<str>>>,
}

/// A column: its type and whether it can change.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSchema {
    /// Name.
    pub name: Arc<str>,
    /// Type of its values.
    pub column_type: ColumnType,
    /// Whether the value need not survive a restart of the server.
    pub ephemeral: bool,
    /// Whether the value can change after insertion.
    pub mutable: bool,
}

impl DatabaseSchema {
    /// Reads the JSON of a `<database-schema>`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its path ("table Port, column tag, …").
    pub fn from_json(json: &serde_json::Value) -> Result<Self, SchemaError> {
        parse::database(json)
    }

    /// Reads the text of a `.ovsschema` file.
    ///
    /// # Errors
    /// Text that is no JSON, or JSON that is no schema.
    pub fn from_text(text: &str) -> Result<Self, SchemaError> {
        let json = serde_json::from_str(text).map_err(|error| SchemaError::not_json(&error))?;
        Self::from_json(&json)
    }

    /// The table called `name`.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }
}

impl TableSchema {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.get(name)
    }
}
