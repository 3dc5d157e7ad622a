//! Transactions: typed builders for every operation of RFC 7047 §5.2, and what the server answers.
//!
//! ```
//! use ovsdb::{Condition, Insert, Mutate, Mutator, NamedRow, Transaction, Value};
//!
//! let port = NamedRow::new("port");
//! let mut transaction = Transaction::new("Open_vSwitch");
//! let inserted = transaction.push(Insert::into("Port").set("name", "tap1").named(&port));
//! transaction.push(
//!     Mutate::table("Bridge")
//!         .filter(Condition::equal("name", "br-int"))
//!         .mutate("ports", Mutator::Insert, Value::set([&port])),
//! );
//! // let reply = client.transact(&transaction).await?;
//! // let uuid = reply.inserted(inserted);
//! # let _ = inserted;
//! ```

mod condition;
mod operation;
mod reply;
mod value;

use serde_json::Value as Json;

pub(crate) use condition::where_json;
pub use condition::{Condition, Function};
pub use operation::{Delete, Insert, Mutate, Mutator, Operation, Select, Update, Wait};
pub use reply::{OperationResult, TransactError, TransactReply};
pub use value::{NamedRow, Value};

/// Operations that take effect together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    database: String,
    operations: Vec<Operation>,
}

/// The place of an operation in its transaction, by which its result is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationIndex(pub usize);

impl Transaction {
    /// No operation yet, on the database of that name.
    pub fn new(database: impl Into<String>) -> Self {
        Self { database: database.into(), operations: Vec::new() }
    }

    /// Adds an operation at the end.
    pub fn push(&mut self, operation: impl Into<Operation>) -> OperationIndex {
        self.operations.push(operation.into());
        OperationIndex(self.operations.len() - 1)
    }

    /// Adds an operation at the end, for transactions written as one expression.
    #[must_use]
    pub fn with(mut self, operation: impl Into<Operation>) -> Self {
        self.push(operation);
        self
    }

    /// Name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The operations, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether the reply holds rows, for which the schema is needed.
    pub fn selects(&self) -> bool {
        self.operations.iter().any(|operation| matches!(operation, Operation::Select(_)))
    }

    /// `params` of the `transact` request (RFC 7047 §4.1.3).
    pub fn params(&self) -> Json {
        let database = std::iter::once(Json::from(self.database.as_str()));
        database.chain(self.operations.iter().map(Operation::to_json)).collect()
    }
}
