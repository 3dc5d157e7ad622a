//! Whether a row satisfies a condition: RFC 7047 §5.1 `<condition>`, with the extensions of ovsdb-server(7).
//!
//! Needed where no server judges for us: by the in-memory server, and by a monitor on a server that is too
//! old to take conditions.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::schema::{BaseType, ColumnType, MaxElements, TableSchema};
use crate::transaction::Function;
use crate::value::{Atom, AtomType, Datum, Uuid};
use crate::wire::value::{Names, datum_from_json, datum_of_any_count, shown};

/// A condition read against the table's schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Matcher {
    Always(bool),
    Uuid { function: Function, uuids: Vec<Uuid> },
    Column { column: Arc<str>, function: Function, value: Datum },
}

impl Matcher {
    /// Reads a `<condition>`; the error says what is wrong with it.
    pub(crate) fn read(json: &Json, table: &TableSchema, names: Names<'_>) -> Result<Self, String> {
        if let Some(truth) = json.as_bool() {
            return Ok(Self::Always(truth));
        }
        let Some([Json::String(name), Json::String(function), value]) = json.as_array().map(Vec::as_slice)
        else {
            return Err(format!("{} is not [column, function, value]", shown(json)));
        };
        let function = Function::from_name(function).ok_or_else(|| format!("no function {function:?}"))?;
        if name == "_uuid" {
            return read_uuid(function, value, names);
        }
        let (column, schema) = table
            .columns
            .get_key_value(name.as_str())
            .ok_or_else(|| format!("table {}: no column {name:?} in the schema", table.name))?;
        let value = read_argument(function, value, &schema.column_type, names)
            .map_err(|reason| format!("table {}, column {name}: {reason}", table.name))?;
        Ok(Self::Column { column: column.clone(), function, value })
    }

    /// Reads a `where` list; absent means none.
    pub(crate) fn read_all(
        json: Option<&Json>,
        table: &TableSchema,
        names: Names<'_>,
    ) -> Result<Vec<Self>, String> {
        let Some(json) = json else { return Ok(Vec::new()) };
        let list = json.as_array().ok_or_else(|| format!("\"where\" is {}, not a list", shown(json)))?;
        list.iter().map(|condition| Self::read(condition, table, names)).collect()
    }

    /// Whether a row with these columns satisfies the condition. A row without the column does not.
    pub(crate) fn matches(&self, uuid: Uuid, columns: &BTreeMap<Arc<str>, Datum>) -> bool {
        match self {
            Self::Always(truth) => *truth,
            Self::Uuid { function, uuids } => match function {
                Function::Equal => *uuids == [uuid],
                Function::NotEqual => *uuids != [uuid],
                Function::Includes => uuids.iter().all(|&wanted| wanted == uuid),
                _ => !uuids.contains(&uuid),
            },
            Self::Column { column, function, value } => {
                columns.get(column).is_some_and(|datum| compare(datum, *function, value))
            }
        }
    }

    /// The column that is looked at, unless it is `_uuid`.
    pub(crate) const fn column(&self) -> Option<&Arc<str>> {
        if let Self::Column { column, .. } = self { Some(column) } else { None }
    }
}

fn read_uuid(function: Function, value: &Json, names: Names<'_>) -> Result<Matcher, String> {
    let uuid_set =
        ColumnType { key: BaseType::plain(AtomType::Uuid), value: None, min: 0, max: MaxElements::Unlimited };
    if is_ordering(function) {
        return Err(format!("{} does not apply to a uuid", function.name()));
    }
    let datum = datum_of_any_count(value, &uuid_set, names).map_err(|reason| format!("_uuid: {reason}"))?;
    let uuids: Vec<Uuid> = datum.atoms().filter_map(Atom::as_uuid).collect();
    if uuids.len() != 1 && matches!(function, Function::Equal | Function::NotEqual) {
        return Err(format!("_uuid: {} is not one uuid", shown(value)));
    }
    Ok(Matcher::Uuid { function, uuids })
}

fn read_argument(
    function: Function,
    value: &Json,
    column: &ColumnType,
    names: Names<'_>,
) -> Result<Datum, String> {
    if is_ordering(function) {
        let is_number = matches!(column.key.atom_type, AtomType::Integer | AtomType::Real);
        if !is_number || column.is_map() || !column.holds_at_most_one() {
            return Err(format!("{} does not apply to {column}", function.name()));
        }
        let number = ColumnType { min: 1, ..column.clone() };
        return datum_from_json(value, &number, names);
    }
    match function {
        Function::Includes | Function::Excludes => datum_of_any_count(value, column, names),
        _ => datum_from_json(value, column, names),
    }
}

const fn is_ordering(function: Function) -> bool {
    matches!(function, Function::Less | Function::LessOrEqual | Function::GreaterOrEqual | Function::Greater)
}

fn compare(datum: &Datum, function: Function, value: &Datum) -> bool {
    // ovsdb-server(7), "5.1 Notation": an ordering is false for an empty column.
    let ordering = || datum.atoms().next().zip(value.atoms().next()).map(|(left, right)| left.cmp(right));
    match function {
        Function::Equal => datum == value,
        Function::NotEqual => datum != value,
        Function::Less => ordering().is_some_and(Ordering::is_lt),
        Function::LessOrEqual => ordering().is_some_and(Ordering::is_le),
        Function::GreaterOrEqual => ordering().is_some_and(Ordering::is_ge),
        Function::Greater => ordering().is_some_and(Ordering::is_gt),
        Function::Includes => common(datum, value) == value.len(),
        Function::Excludes => common(datum, value) == 0,
    }
}

/// How many elements or pairs of `value` are in `datum`.
fn common(datum: &Datum, value: &Datum) -> usize {
    match (datum, value) {
        (Datum::Map(pairs), Datum::Map(wanted)) => {
            wanted.iter().filter(|(key, value)| pairs.get(key) == Some(*value)).count()
        }
        (Datum::Set(atoms), wanted) => wanted.atoms().filter(|atom| atoms.contains(atom)).count(),
        (single, wanted) => {
            wanted.atoms().filter(|atom| single.atoms().any(|present| present == *atom)).count()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::DatabaseSchema;
    use crate::wire::value::{NO_NAMES, columns_from_json};

    fn table() -> Arc<TableSchema> {
        let schema = json!({"name": "D", "tables": {"T": {"columns": {
            "name": {"type": "string"},
            "n": {"type": {"key": "integer", "min": 0, "max": 1}},
            "tags": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
            "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}});
        DatabaseSchema::from_json(&schema).unwrap().table("T").unwrap().clone()
    }

    fn check(condition: Json, expected: bool) {
        let table = table();
        let row = json!({"name": "a", "n": 5, "tags": ["set", ["x", "y"]], "ids": ["map", [["k", "v"]]]});
        let columns = columns_from_json(&row, &table, NO_NAMES).unwrap();
        let matcher = Matcher::read(&condition, &table, NO_NAMES).unwrap();
        assert_eq!(matcher.matches(Uuid::from_u128(1), &columns), expected, "{condition}");
    }

    #[test]
    fn every_function() {
        let one = ["uuid", "00000000-0000-0000-0000-000000000001"];
        check(json!(["_uuid", "==", one]), true);
        check(json!(["_uuid", "!=", one]), false);
        check(json!(["_uuid", "excludes", ["set", []]]), true);
        check(json!(["name", "==", "a"]), true);
        check(json!(["name", "!=", "a"]), false);
        check(json!(["name", "includes", "a"]), true);
        check(json!(["n", "<", 6]), true);
        check(json!(["n", "<=", 4]), false);
        check(json!(["n", ">=", 5]), true);
        check(json!(["n", ">", 5]), false);
        check(json!(["n", "==", ["set", []]]), false);
        check(json!(["tags", "includes", ["set", ["x", "y"]]]), true);
        check(json!(["tags", "includes", ["set", ["x", "z"]]]), false);
        check(json!(["tags", "excludes", ["set", ["z"]]]), true);
        check(json!(["tags", "==", ["set", ["y", "x"]]]), true);
        check(json!(["ids", "includes", ["map", [["k", "v"]]]]), true);
        check(json!(["ids", "includes", ["map", [["k", "w"]]]]), false);
        check(json!(["ids", "excludes", ["map", [["k", "w"]]]]), true);
        check(json!(true), true);
    }

    #[test]
    fn an_ordering_with_an_empty_column_is_false() {
        let table = table();
        let columns = columns_from_json(&json!({"n": ["set", []]}), &table, NO_NAMES).unwrap();
        for function in ["<", "<=", ">=", ">"] {
            let matcher = Matcher::read(&json!(["n", function, 1]), &table, NO_NAMES).unwrap();
            assert!(!matcher.matches(Uuid::ZERO, &columns), "{function}");
        }
    }

    #[test]
    fn what_does_not_fit_the_schema_is_refused() {
        let table = table();
        for (condition, reason) in [
            (json!(["none", "==", 1]), "table T: no column \"none\" in the schema"),
            (json!(["name", "<", "b"]), "table T, column name: < does not apply to string"),
            (json!(["n", "==", "b"]), "table T, column n: \"b\" is not of type integer"),
            (json!(["n", "~", 1]), "no function \"~\""),
            (json!(["n", "=="]), "[\"n\",\"==\"] is not [column, function, value]"),
            (json!(["_uuid", "<", ["uuid", "0"]]), "< does not apply to a uuid"),
        ] {
            assert_eq!(Matcher::read(&condition, &table, NO_NAMES), Err(reason.to_owned()));
        }
    }
}
