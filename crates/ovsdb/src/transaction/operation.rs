//! The operations of RFC 7047 §5.2, one builder each.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::condition::{Condition, where_json};
use super::{NamedRow, Value};
use crate::value::Uuid;

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Insert a row.
    Insert(Insert),
    /// Read rows.
    Select(Select),
    /// Set columns of rows.
    Update(Update),
    /// Change columns of rows relative to their present value.
    Mutate(Mutate),
    /// Delete rows.
    Delete(Delete),
    /// Wait for rows to have, or not have, given values.
    Wait(Wait),
    /// Ask that the transaction be on disk before it is answered.
    Commit {
        /// Whether to wait for the disk.
        durable: bool,
    },
    /// Fail the transaction.
    Abort,
    /// A text for the server's log of transactions.
    Comment(String),
    /// Fail the transaction unless this client holds the lock.
    Assert {
        /// Name of the lock.
        lock: String,
    },
}

/// `insert` (RFC 7047 §5.2.1): the result is the new row's identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    pub(super) table: String,
    columns: Columns,
    name: Option<NamedRow>,
    uuid: Option<Uuid>,
}

/// `select` (RFC 7047 §5.2.2): the result is the rows that match.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    pub(super) table: String,
    conditions: Vec<Condition>,
    columns: Option<Vec<String>>,
}

/// `update` (RFC 7047 §5.2.3): the result is the number of rows that matched.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub(super) table: String,
    conditions: Vec<Condition>,
    columns: Columns,
}

/// `mutate` (RFC 7047 §5.2.4): the result is the number of rows that matched.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutate {
    pub(super) table: String,
    conditions: Vec<Condition>,
    mutations: Vec<(String, Mutator, Value)>,
}

/// `delete` (RFC 7047 §5.2.5): the result is the number of rows deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    pub(super) table: String,
    conditions: Vec<Condition>,
}

/// `wait` (RFC 7047 §5.2.6): the transaction stands still until the rows are, or are not, as given.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    pub(super) table: String,
    timeout: Option<Duration>,
    conditions: Vec<Condition>,
    columns: Vec<String>,
    until_equal: bool,
    rows: Vec<Columns>,
}

/// `<mutator>` of RFC 7047 §5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`, integers only.
    Remainder,
    /// `insert`: adds the elements or pairs; a pair whose key is present already is left as it is.
    Insert,
    /// `delete`: removes the elements or pairs; for a map a set of keys may be given instead.
    Delete,
}

/// Column names with values, in the order given.
type Columns = Vec<(String, Value)>;

impl Mutator {
    const ALL: [Self; 7] = [
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
        Self::Insert,
        Self::Delete,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Subtract => "-=",
            Self::Multiply => "*=",
            Self::Divide => "/=",
            Self::Remainder => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }

    /// The mutator called `name` on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutator| mutator.name() == name)
    }
}

impl Insert {
    /// A new row of `table` with default values.
    pub fn into(table: impl Into<String>) -> Self {
        Self { table: table.into(), columns: Vec::new(), name: None, uuid: None }
    }

    /// Gives a column its value.
    #[must_use]
    pub fn set(mut self, column: impl Into<String>, value: impl Into<Value>) -> Self {
        self.columns.push((column.into(), value.into()));
        self
    }

    /// Names the row, so that other operations of the transaction can refer to it.
    #[must_use]
    pub fn named(mut self, name: &NamedRow) -> Self {
        self.name = Some(name.clone());
        self
    }

    /// Chooses the row's identity (ovsdb-server(7) 3.1, "5.2.1 Insert": 2.13 and later).
    #[must_use]
    pub const fn with_uuid(mut self, uuid: Uuid) -> Self {
        self.uuid = Some(uuid);
        self
    }
}

impl Select {
    /// All rows of `table`.
    pub fn from(table: impl Into<String>) -> Self {
        Self { table: table.into(), conditions: Vec::new(), columns: None }
    }

    /// Only rows for which this holds too.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<Condition>) -> Self {
        self.conditions.push(condition.into());
        self
    }

    /// Only these columns; name `_uuid` to have the identity.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(C::into).collect());
        self
    }
}

impl Update {
    /// All rows of `table`.
    pub fn table(table: impl Into<String>) -> Self {
        Self { table: table.into(), conditions: Vec::new(), columns: Vec::new() }
    }

    /// Only rows for which this holds too.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<Condition>) -> Self {
        self.conditions.push(condition.into());
        self
    }

    /// Gives a column a new value.
    #[must_use]
    pub fn set(mut self, column: impl Into<String>, value: impl Into<Value>) -> Self {
        self.columns.push((column.into(), value.into()));
        self
    }
}

impl Mutate {
    /// All rows of `table`.
    pub fn table(table: impl Into<String>) -> Self {
        Self { table: table.into(), conditions: Vec::new(), mutations: Vec::new() }
    }

    /// Only rows for which this holds too.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<Condition>) -> Self {
        self.conditions.push(condition.into());
        self
    }

    /// Applies a mutator to a column; several are applied in order.
    #[must_use]
    pub fn mutate(mut self, column: impl Into<String>, mutator: Mutator, value: impl Into<Value>) -> Self {
        self.mutations.push((column.into(), mutator, value.into()));
        self
    }

    /// Sets one key of a map column, whether or not it is there: the key is deleted, then inserted.
    #[must_use]
    pub fn set_key(self, column: &str, key: &str, value: &str) -> Self {
        self.mutate(column, Mutator::Delete, Value::set([key])).mutate(
            column,
            Mutator::Insert,
            Value::map([(key, value)]),
        )
    }
}

impl Delete {
    /// All rows of `table`.
    pub fn from(table: impl Into<String>) -> Self {
        Self { table: table.into(), conditions: Vec::new() }
    }

    /// Only rows for which this holds too.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<Condition>) -> Self {
        self.conditions.push(condition.into());
        self
    }
}

impl Wait {
    /// Waits until the rows of `table` are exactly those given by [`Wait::row`], without limit of time.
    pub fn until_equal(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            timeout: None,
            conditions: Vec::new(),
            columns: Vec::new(),
            until_equal: true,
            rows: Vec::new(),
        }
    }

    /// Waits until the rows of `table` are others than those given by [`Wait::row`], without limit of time.
    pub fn until_not_equal(table: impl Into<String>) -> Self {
        Self { until_equal: false, ..Self::until_equal(table) }
    }

    /// Gives up after this long, with the error "timed out"; zero: at once. Whole milliseconds.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Looks only at rows for which this holds too.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<Condition>) -> Self {
        self.conditions.push(condition.into());
        self
    }

    /// Compares these columns.
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = columns.into_iter().map(C::into).collect();
        self
    }

    /// One of the rows to compare with.
    #[must_use]
    pub fn row<C: Into<String>, V: Into<Value>>(mut self, columns: impl IntoIterator<Item = (C, V)>) -> Self {
        self.rows.push(columns.into_iter().map(|(column, value)| (column.into(), value.into())).collect());
        self
    }
}

impl Operation {
    /// The name on the wire, and the table if the operation has one.
    pub fn describe(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Insert(operation) => ("insert", Some(&operation.table)),
            Self::Select(operation) => ("select", Some(&operation.table)),
            Self::Update(operation) => ("update", Some(&operation.table)),
            Self::Mutate(operation) => ("mutate", Some(&operation.table)),
            Self::Delete(operation) => ("delete", Some(&operation.table)),
            Self::Wait(operation) => ("wait", Some(&operation.table)),
            Self::Commit { .. } => ("commit", None),
            Self::Abort => ("abort", None),
            Self::Comment(_) => ("comment", None),
            Self::Assert { .. } => ("assert", None),
        }
    }

    pub(super) fn to_json(&self) -> Json {
        let (op, table) = self.describe();
        let mut object = Map::from_iter([("op".to_owned(), Json::from(op))]);
        let mut put = |member: &str, json: Json| object.insert(member.to_owned(), json);
        if let Some(table) = table {
            put("table", table.into());
        }
        match self {
            Self::Insert(Insert { columns, name, uuid, .. }) => {
                put("row", row_json(columns));
                if let Some(name) = name {
                    put("uuid-name", name.as_str().into());
                }
                if let Some(uuid) = uuid {
                    put("uuid", uuid.to_string().into());
                }
            }
            Self::Select(Select { conditions, columns, .. }) => {
                put("where", where_json(conditions));
                if let Some(columns) = columns {
                    put("columns", columns.as_slice().into());
                }
            }
            Self::Update(Update { conditions, columns, .. }) => {
                put("where", where_json(conditions));
                put("row", row_json(columns));
            }
            Self::Mutate(Mutate { conditions, mutations, .. }) => {
                put("where", where_json(conditions));
                let mutation = |(column, mutator, value): &(String, Mutator, Value)| {
                    json!([column, mutator.name(), value.as_json()])
                };
                put("mutations", mutations.iter().map(mutation).collect());
            }
            Self::Delete(Delete { conditions, .. }) => {
                put("where", where_json(conditions));
            }
            Self::Wait(Wait { timeout, conditions, columns, until_equal, rows, .. }) => {
                if let Some(timeout) = timeout {
                    // Beyond what a peer's signed 64-bit integer holds is as good as no limit.
                    put("timeout", i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).into());
                }
                put("where", where_json(conditions));
                put("columns", columns.as_slice().into());
                put("until", if *until_equal { "==" } else { "!=" }.into());
                put("rows", rows.iter().map(|row| row_json(row)).collect());
            }
            Self::Commit { durable } => {
                put("durable", (*durable).into());
            }
            Self::Abort => {}
            Self::Comment(text) => {
                put("comment", text.as_str().into());
            }
            Self::Assert { lock } => {
                put("lock", lock.as_str().into());
            }
        }
        Json::Object(object)
    }
}

fn row_json(columns: &[(String, Value)]) -> Json {
    columns
        .iter()
        .map(|(column, value)| (column.clone(), value.as_json().clone()))
        .collect::<Map<_, _>>()
        .into()
}

macro_rules! into_operation {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Operation {
            fn from(operation: $kind) -> Self {
                Self::$kind(operation)
            }
        })*
    };
}

into_operation!(Insert, Select, Update, Mutate, Delete, Wait);
