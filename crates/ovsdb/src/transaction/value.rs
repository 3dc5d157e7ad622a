//! A value given to an operation. Its type is not checked here: the server has the schema.

use serde_json::{Value as Json, json};

use crate::value::{Atom, Datum, Real};
use crate::wire::value::{atom_to_json, datum_to_json};

/// The `<value>` of an operation or condition (RFC 7047 §5.1): what a [`Datum`] can be, and also a row
/// that the same transaction inserts under a name.
///
/// ```
/// use ovsdb::{NamedRow, Value};
/// let tag = Value::from(10);
/// let none = Value::set::<i64>([]);
/// let ids = Value::map([("iface-id", "p-1"), ("vm-id", "vm-1")]);
/// let port = NamedRow::new("port1");
/// let ports = Value::set([&port]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Value(Json);

/// A row that a transaction inserts, for use by its other operations: `uuid-name` of RFC 7047 §5.2.1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedRow(String);

impl Value {
    /// A set of atoms or of named rows; empty for "no value" of an optional column.
    pub fn set<T: Into<Self>>(elements: impl IntoIterator<Item = T>) -> Self {
        let elements: Vec<Json> = elements.into_iter().map(|element| element.into().0).collect();
        Self(json!(["set", elements]))
    }

    /// A map of atoms or named rows.
    pub fn map<K: Into<Self>, V: Into<Self>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs: Vec<Json> =
            pairs.into_iter().map(|(key, value)| json!([key.into().0, value.into().0])).collect();
        Self(json!(["map", pairs]))
    }

    pub(crate) const fn from_json_unchecked(json: Json) -> Self {
        Self(json)
    }

    pub(crate) const fn as_json(&self) -> &Json {
        &self.0
    }
}

impl NamedRow {
    /// A name: a letter or underscore, then letters, digits and underscores (RFC 7047 §3.1 `<id>`), unique
    /// within the transaction. The server refuses others.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&NamedRow> for Value {
    fn from(row: &NamedRow) -> Self {
        Self(json!(["named-uuid", row.0]))
    }
}

impl From<NamedRow> for Value {
    fn from(row: NamedRow) -> Self {
        Self::from(&row)
    }
}

impl From<&Datum> for Value {
    fn from(datum: &Datum) -> Self {
        Self(datum_to_json(datum))
    }
}

impl From<Datum> for Value {
    fn from(datum: Datum) -> Self {
        Self::from(&datum)
    }
}

impl From<Atom> for Value {
    fn from(atom: Atom) -> Self {
        Self(atom_to_json(&atom))
    }
}

impl From<Real> for Value {
    fn from(real: Real) -> Self {
        Self::from(Atom::Real(real))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(value.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self(text.as_str().into())
    }
}
