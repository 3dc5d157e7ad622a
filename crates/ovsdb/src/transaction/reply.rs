//! What the server answers to a transaction: RFC 7047 §4.1.3.

use serde_json::Value as Json;
use thiserror::Error;

use super::{Operation, OperationIndex, Transaction};
use crate::row::Row;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::value::Uuid;
use crate::wire::RpcError;
use crate::wire::value::{NO_NAMES, columns_from_json, shown};

/// The results of a transaction that was committed, one an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactReply {
    results: Vec<OperationResult>,
}

/// The result of one operation.
#[derive(Debug, Clone, PartialEq)]
pub enum OperationResult {
    /// `insert`: the new row.
    Inserted(Uuid),
    /// `select`: the rows.
    Rows(Vec<Row>),
    /// `update`, `mutate`, `delete`: how many rows matched.
    Count(u64),
    /// `wait`, `commit`, `comment`, `assert`.
    Done,
}

/// A transaction that was not committed, or of which nobody knows.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TransactError {
    /// One operation failed, and so all did.
    #[error("{}: {error}", place(*.index, .operation, .table.as_deref()))]
    Operation {
        /// Which one.
        index: OperationIndex,
        /// Its name on the wire.
        operation: &'static str,
        /// Its table, if it has one.
        table: Option<String>,
        /// Why.
        error: RpcError,
    },
    /// Every operation was good, but the whole could not be committed: the extra last element of
    /// RFC 7047 §4.1.3, such as "referential integrity violation" or "constraint violation".
    #[error("commit failed: {0}")]
    Commit(RpcError),
    /// The request itself was refused: unknown database, no such operation, canceled.
    #[error("transaction refused: {0}")]
    Refused(RpcError),
    /// There is no connection. Nothing was sent: it is safe to try again.
    #[error("not connected to the database server")]
    NotConnected,
    /// The connection went before the answer came. The transaction may have been committed: read back.
    #[error("the connection was lost before the answer: {0}")]
    Lost(String),
    /// An answer that the protocol does not allow. The transaction may have been committed: read back.
    #[error("unreadable answer to a transaction: {0}")]
    Malformed(String),
}

fn place(index: OperationIndex, operation: &str, table: Option<&str>) -> String {
    let table = table.map(|table| format!(" on table {table}")).unwrap_or_default();
    format!("operation {} ({operation}{table})", index.0)
}

impl TransactReply {
    /// All results, in the order of the operations.
    pub fn results(&self) -> &[OperationResult] {
        &self.results
    }

    /// The row that an `insert` made; `None` if the operation was no insert.
    pub fn inserted(&self, index: OperationIndex) -> Option<Uuid> {
        if let Some(OperationResult::Inserted(uuid)) = self.results.get(index.0) { Some(*uuid) } else { None }
    }

    /// The rows that a `select` found; `None` if the operation was no select.
    pub fn rows(&self, index: OperationIndex) -> Option<&[Row]> {
        if let Some(OperationResult::Rows(rows)) = self.results.get(index.0) { Some(rows) } else { None }
    }

    /// How many rows an `update`, `mutate` or `delete` matched; `None` if the operation was none of these.
    pub fn count(&self, index: OperationIndex) -> Option<u64> {
        if let Some(OperationResult::Count(count)) = self.results.get(index.0) { Some(*count) } else { None }
    }

    /// Reads the answer to `transaction`. The schema is needed only where it selects rows.
    ///
    /// # Errors
    /// The transaction was not committed, or the answer cannot be read.
    pub fn read(
        outcome: Result<Json, RpcError>,
        transaction: &Transaction,
        schema: Option<&DatabaseSchema>,
    ) -> Result<Self, TransactError> {
        let json = outcome.map_err(TransactError::Refused)?;
        let results = json.as_array().ok_or_else(|| TransactError::Malformed(shown(&json)))?;
        let operations = transaction.operations();
        // The failed operation first: those after it are null, and those before it were undone.
        for (index, (result, operation)) in results.iter().zip(operations).enumerate() {
            if result.get("error").is_some_and(|error| !error.is_null()) {
                let (name, table) = operation.describe();
                return Err(TransactError::Operation {
                    index: OperationIndex(index),
                    operation: name,
                    table: table.map(str::to_owned),
                    error: RpcError::from_json(result),
                });
            }
        }
        if let Some(failure) = results.get(operations.len()) {
            return Err(TransactError::Commit(RpcError::from_json(failure)));
        }
        if results.len() != operations.len() {
            let counts = format!("{} results for {} operations", results.len(), operations.len());
            return Err(TransactError::Malformed(counts));
        }
        let results = results.iter().zip(operations).map(|(json, operation)| {
            OperationResult::read(json, operation, schema)
                .map_err(|reason| TransactError::Malformed(format!("{reason} in {}", shown(json))))
        });
        Ok(Self { results: results.collect::<Result<_, _>>()? })
    }
}

impl OperationResult {
    fn read(json: &Json, operation: &Operation, schema: Option<&DatabaseSchema>) -> Result<Self, String> {
        match operation {
            Operation::Insert(_) => match json.get("uuid").and_then(Json::as_array).map(Vec::as_slice) {
                Some([Json::String(tag), Json::String(text)]) if tag == "uuid" => {
                    text.parse().map(Self::Inserted).map_err(|_| "no uuid".into())
                }
                _ => Err("no uuid".into()),
            },
            Operation::Select(select) => {
                let table = schema.and_then(|schema| schema.table(&select.table));
                let table = table.ok_or_else(|| format!("no schema for table {}", select.table))?;
                let rows = json.get("rows").and_then(Json::as_array).ok_or("no rows")?;
                rows.iter().map(|row| selected_row(row, table)).collect::<Result<_, _>>().map(Self::Rows)
            }
            Operation::Update(_) | Operation::Mutate(_) | Operation::Delete(_) => {
                json.get("count").and_then(Json::as_u64).map(Self::Count).ok_or_else(|| "no count".into())
            }
            _ => Ok(Self::Done),
        }
    }
}

fn selected_row(json: &Json, table: &TableSchema) -> Result<Row, String> {
    let uuid = match json.get("_uuid") {
        None => Uuid::ZERO,
        Some(pair) => pair
            .get(1)
            .and_then(Json::as_str)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("table {}: _uuid is {}", table.name, shown(pair)))?,
    };
    Ok(Row::new(table.name.clone(), uuid, columns_from_json(json, table, NO_NAMES)?))
}
