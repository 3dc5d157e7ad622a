//! Which rows: the `<condition>` of RFC 7047 §5.1.

use serde_json::{Value as Json, json};

use super::Value;
use crate::value::Uuid;
use crate::wire::value::uuid_to_json;

/// A test on one column of a row, or a constant.
///
/// The conditions of one *operation* must all hold (RFC 7047 §5.2.2); of the conditions of a *monitor* one
/// is enough (ovsdb-server(7) 3.1, 4.1.12).
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// `[column, function, value]`
    Column {
        /// Column, `_uuid` included.
        column: String,
        /// Comparison.
        function: Function,
        /// What it is compared with.
        value: Value,
    },
    /// `true` or `false`: every row or none (ovsdb-server(7) 3.1, "5.1 Notation"; in monitors only).
    Always(bool),
}

/// `<function>` of RFC 7047 §5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `<`, for integers and reals.
    Less,
    /// `<=`, for integers and reals.
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`, for integers and reals.
    GreaterOrEqual,
    /// `>`, for integers and reals.
    Greater,
    /// `includes`: the column holds every element of the value.
    Includes,
    /// `excludes`: the column holds no element of the value.
    Excludes,
}

impl Function {
    const ALL: [Self; 8] = [
        Self::Less,
        Self::LessOrEqual,
        Self::Equal,
        Self::NotEqual,
        Self::GreaterOrEqual,
        Self::Greater,
        Self::Includes,
        Self::Excludes,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }

    /// The function called `name` on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }
}

impl Condition {
    /// A test on a column.
    pub fn new(column: impl Into<String>, function: Function, value: impl Into<Value>) -> Self {
        Self::Column { column: column.into(), function, value: value.into() }
    }

    /// The column equals the value.
    pub fn equal(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(column, Function::Equal, value)
    }

    /// The column holds every element of the value.
    pub fn includes(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(column, Function::Includes, value)
    }

    /// The row with this identity.
    pub fn uuid(uuid: Uuid) -> Self {
        Self::equal("_uuid", uuid)
    }

    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Column { column, function, value } => json!([column, function.name(), value.as_json()]),
            Self::Always(truth) => Json::from(*truth),
        }
    }
}

impl From<Uuid> for Condition {
    fn from(uuid: Uuid) -> Self {
        Self::uuid(uuid)
    }
}

/// The JSON of a list of conditions.
pub(crate) fn where_json(conditions: &[Condition]) -> Json {
    conditions.iter().map(Condition::to_json).collect()
}

impl From<Uuid> for Value {
    fn from(uuid: Uuid) -> Self {
        Self::from_json_unchecked(uuid_to_json(uuid))
    }
}
