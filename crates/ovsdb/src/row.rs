//! A row and typed access to its columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::value::{Atom, AtomMap, Datum, Uuid};

/// A row of a table, with the columns that were monitored or selected.
///
/// ```
/// # use ovsdb::{Datum, Row, RowError, Uuid};
/// # fn tag_of(row: &Row) -> Result<(), RowError> {
/// let name: &str = row.string("name")?;
/// let tag: Option<i64> = row.optional_integer("tag")?;
/// let port_id: Option<&str> = row.map("external_ids")?.get("iface-id");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    table: Arc<str>,
    uuid: Uuid,
    columns: BTreeMap<Arc<str>, Datum>,
}

/// A column that is not there or not of the type asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("table {table}, column {column}: {reason}")]
pub struct RowError {
    /// Table of the row.
    pub table: Arc<str>,
    /// Column asked for.
    pub column: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A map column of strings to strings, such as `external_ids`.
#[derive(Debug, Clone, Copy)]
pub struct StringMap<'a>(&'a AtomMap);

impl Row {
    /// A row of `table` with the given columns.
    pub const fn new(table: Arc<str>, uuid: Uuid, columns: BTreeMap<Arc<str>, Datum>) -> Self {
        Self { table, uuid, columns }
    }

    /// Name of the table.
    pub const fn table(&self) -> &Arc<str> {
        &self.table
    }

    /// The row's identity. Zero in the result of a `select` that did not ask for `_uuid`.
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The columns, by name.
    pub const fn columns(&self) -> &BTreeMap<Arc<str>, Datum> {
        &self.columns
    }

    /// The value of a column, whatever its type.
    ///
    /// # Errors
    /// The row has no such column: it was not monitored or selected, or the schema lacks it.
    pub fn datum(&self, column: &str) -> Result<&Datum, RowError> {
        self.columns
            .get(column)
            .ok_or_else(|| self.error(column, "not in this row (not monitored or not in the schema)"))
    }

    /// A string column.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn string(&self, column: &str) -> Result<&str, RowError> {
        self.scalar(column, "a string", Atom::as_str)
    }

    /// An integer column.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn integer(&self, column: &str) -> Result<i64, RowError> {
        self.scalar(column, "an integer", Atom::as_integer)
    }

    /// A real column.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn real(&self, column: &str) -> Result<f64, RowError> {
        self.scalar(column, "a real", Atom::as_real)
    }

    /// A boolean column.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn boolean(&self, column: &str) -> Result<bool, RowError> {
        self.scalar(column, "a boolean", Atom::as_boolean)
    }

    /// A uuid column.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn reference(&self, column: &str) -> Result<Uuid, RowError> {
        self.scalar(column, "a uuid", Atom::as_uuid)
    }

    /// A column of at most one string.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn optional_string(&self, column: &str) -> Result<Option<&str>, RowError> {
        self.optional(column, "at most one string", Atom::as_str)
    }

    /// A column of at most one integer.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn optional_integer(&self, column: &str) -> Result<Option<i64>, RowError> {
        self.optional(column, "at most one integer", Atom::as_integer)
    }

    /// A column of at most one boolean.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn optional_boolean(&self, column: &str) -> Result<Option<bool>, RowError> {
        self.optional(column, "at most one boolean", Atom::as_boolean)
    }

    /// A column of at most one uuid.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn optional_reference(&self, column: &str) -> Result<Option<Uuid>, RowError> {
        self.optional(column, "at most one uuid", Atom::as_uuid)
    }

    /// The strings of a column of any count, in order.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn strings(&self, column: &str) -> Result<Vec<&str>, RowError> {
        self.all(column, "strings", Atom::as_str)
    }

    /// The integers of a column of any count, in order.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn integers(&self, column: &str) -> Result<Vec<i64>, RowError> {
        self.all(column, "integers", Atom::as_integer)
    }

    /// The uuids of a column of any count, in order.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn uuids(&self, column: &str) -> Result<Vec<Uuid>, RowError> {
        self.all(column, "uuids", Atom::as_uuid)
    }

    /// A map of strings to strings.
    ///
    /// # Errors
    /// No such column, or of another type.
    pub fn map(&self, column: &str) -> Result<StringMap<'_>, RowError> {
        let datum = self.datum(column)?;
        let is_text = |(key, value): (&Atom, &Atom)| key.as_str().is_some() && value.as_str().is_some();
        match datum.as_map() {
            Some(pairs) if pairs.iter().all(is_text) => Ok(StringMap(pairs)),
            _ => Err(self.wrong_type(column, datum, "a map of strings to strings")),
        }
    }

    fn scalar<'a, T>(
        &'a self,
        column: &str,
        wanted: &str,
        read: impl Fn(&'a Atom) -> Option<T>,
    ) -> Result<T, RowError> {
        match self.datum(column)? {
            Datum::Scalar(atom) => {
                read(atom).ok_or_else(|| self.wrong_type(column, &Datum::Scalar(atom.clone()), wanted))
            }
            other => Err(self.wrong_type(column, other, wanted)),
        }
    }

    fn optional<'a, T>(
        &'a self,
        column: &str,
        wanted: &str,
        read: impl Fn(&'a Atom) -> Option<T>,
    ) -> Result<Option<T>, RowError> {
        match self.datum(column)? {
            Datum::Optional(None) => Ok(None),
            datum @ (Datum::Optional(Some(atom)) | Datum::Scalar(atom)) => {
                read(atom).map(Some).ok_or_else(|| self.wrong_type(column, datum, wanted))
            }
            other => Err(self.wrong_type(column, other, wanted)),
        }
    }

    fn all<'a, T>(
        &'a self,
        column: &str,
        wanted: &str,
        read: impl Fn(&'a Atom) -> Option<T>,
    ) -> Result<Vec<T>, RowError> {
        let datum = self.datum(column)?;
        let values: Option<Vec<T>> = datum.atoms().map(read).collect();
        match values {
            Some(values) if datum.as_map().is_none() => Ok(values),
            _ => Err(self.wrong_type(column, datum, wanted)),
        }
    }

    fn wrong_type(&self, column: &str, found: &Datum, wanted: &str) -> RowError {
        self.error(column, &format!("wanted {wanted}, found {}: {found}", found.shape()))
    }

    fn error(&self, column: &str, reason: &str) -> RowError {
        RowError { table: self.table.clone(), column: column.into(), reason: reason.into() }
    }
}

impl<'a> StringMap<'a> {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(&Atom::from(key)).and_then(Atom::as_str)
    }

    /// The pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.iter().filter_map(|(key, value)| key.as_str().zip(value.as_str()))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::AtomSet;

    fn row() -> Row {
        let pairs = AtomMap::from([(Atom::from("iface-id"), Atom::from("p-1"))]);
        let columns = [
            ("name", Datum::Scalar("tap1".into())),
            ("tag", Datum::Optional(None)),
            ("ofport", Datum::Optional(Some(7.into()))),
            ("ports", Datum::Set(AtomSet::from([Uuid::from_u128(2).into(), Uuid::from_u128(1).into()]))),
            ("external_ids", Datum::Map(pairs)),
        ];
        let columns = columns.into_iter().map(|(name, datum)| (name.into(), datum)).collect();
        Row::new("Port".into(), Uuid::ZERO, columns)
    }

    #[test]
    fn columns_are_read_by_type() {
        let row = row();
        assert_eq!(row.string("name"), Ok("tap1"));
        assert_eq!(row.optional_integer("tag"), Ok(None));
        assert_eq!(row.optional_integer("ofport"), Ok(Some(7)));
        assert_eq!(row.uuids("ports"), Ok(vec![Uuid::from_u128(1), Uuid::from_u128(2)]));
        assert_eq!(row.strings("name"), Ok(vec!["tap1"]));
        let ids = row.map("external_ids").unwrap();
        assert_eq!((ids.get("iface-id"), ids.get("other"), ids.len()), (Some("p-1"), None, 1));
    }

    #[test]
    fn errors_name_table_column_and_reason() {
        let row = row();
        assert_eq!(
            row.string("tag").unwrap_err().to_string(),
            "table Port, column tag: wanted a string, found an optional value: []"
        );
        assert_eq!(
            row.integer("name").unwrap_err().to_string(),
            "table Port, column name: wanted an integer, found a scalar: \"tap1\""
        );
        assert_eq!(
            row.map("nonsense").unwrap_err().to_string(),
            "table Port, column nonsense: not in this row (not monitored or not in the schema)"
        );
        assert!(row.map("ports").is_err() && row.strings("external_ids").is_err());
    }
}
