//! JSON → schema, by the grammar of RFC 7047 §3.2.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    BaseType, ColumnSchema, ColumnType, Constraint, DatabaseSchema, MaxElements, RefStrength, TableSchema,
};
use crate::value::{Atom, AtomType, Real};
use crate::wire::value::atom_from_json;

/// JSON that is no schema.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("schema: {place}: {reason}")]
pub struct SchemaError {
    /// Where: "database", "table Port", "table Port, column tag".
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

impl SchemaError {
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        Self { place: "text".into(), reason: format!("not JSON: {error}") }
    }

    fn at(place: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self { place: place.to_string(), reason: reason.into() }
    }
}

pub(super) fn database(json: &Value) -> Result<DatabaseSchema, SchemaError> {
    let wrong = |reason: &str| SchemaError::at("database", reason);
    let object = json.as_object().ok_or_else(|| wrong("not an object"))?;
    let name = string(object, "name").ok_or_else(|| wrong("no string member \"name\""))?;
    let text = |member: &str| match object.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(&format!("{member:?} is not a string"))),
    };
    let tables =
        object.get("tables").and_then(Value::as_object).ok_or_else(|| wrong("no object \"tables\""))?;
    let mut parsed =
        tables.iter().map(|(name, json)| table(name, json)).collect::<Result<Vec<TableSchema>, _>>()?;
    check_references(&parsed)?;
    // RFC 7047 §3.2: "if no table has isRoot true, then every table is in the root set".
    if parsed.iter().all(|table| !table.is_root) {
        parsed.iter_mut().for_each(|table| table.is_root = true);
    }
    Ok(DatabaseSchema {
        name: name.into(),
        version: text("version")?,
        cksum: text("cksum")?,
        tables: parsed.into_iter().map(|table| (table.name.clone(), Arc::new(table))).collect(),
    })
}

fn check_references(tables: &[TableSchema]) -> Result<(), SchemaError> {
    for table in tables {
        for column in table.columns.values() {
            let bases = [Some(&column.column_type.key), column.column_type.value.as_ref()];
            for (target, _) in bases.into_iter().flatten().filter_map(BaseType::reference) {
                if !tables.iter().any(|candidate| candidate.name == *target) {
                    let place = format!("table {}, column {}", table.name, column.name);
                    return Err(SchemaError::at(
                        place,
                        format!("refers to table {target}, which does not exist"),
                    ));
                }
            }
        }
    }
    Ok(())
}

fn table(name: &str, json: &Value) -> Result<TableSchema, SchemaError> {
    let wrong = |reason: String| SchemaError::at(format!("table {name}"), reason);
    check_id(name).map_err(wrong)?;
    let object = json.as_object().ok_or_else(|| wrong("not an object".into()))?;
    let columns_json = object
        .get("columns")
        .and_then(Value::as_object)
        .ok_or_else(|| wrong("no object \"columns\"".into()))?;
    let columns = columns_json
        .iter()
        .map(|(column_name, json)| {
            let parsed = column(column_name, json)
                .map_err(|reason| SchemaError::at(format!("table {name}, column {column_name}"), reason))?;
            Ok((parsed.name.clone(), parsed))
        })
        .collect::<Result<BTreeMap<_, _>, SchemaError>>()?;
    let max_rows = match object.get("maxRows") {
        None => None,
        Some(json) => {
            Some(json.as_u64().filter(|&n| n > 0).ok_or_else(|| wrong("\"maxRows\" is no count".into()))?)
        }
    };
    let indexes = indexes(object, &columns).map_err(wrong)?;
    let is_root = boolean(object, "isRoot", false).map_err(wrong)?;
    Ok(TableSchema { name: name.into(), columns, max_rows, is_root, indexes })
}

fn indexes(
    object: &Map<String, Value>,
    columns: &BTreeMap<Arc<str>, ColumnSchema>,
) -> Result<Vec<Vec<Arc<str>>>, String> {
    let Some(json) = object.get("indexes") else { return Ok(Vec::new()) };
    let sets = json.as_array().ok_or("\"indexes\" is not an array")?;
    let index = |set: &Value| -> Result<Vec<Arc<str>>, String> {
        let names =
            set.as_array().filter(|set| !set.is_empty()).ok_or("an index is not a list of columns")?;
        let known = |name: &Value| {
            let name = name.as_str().ok_or("an index names a column by something else than a string")?;
            let found = columns.get_key_value(name).map(|(name, _)| name.clone());
            found.ok_or_else(|| format!("an index names column {name:?}, which does not exist"))
        };
        names.iter().map(known).collect()
    };
    sets.iter().map(index).collect()
}

fn column(name: &str, json: &Value) -> Result<ColumnSchema, String> {
    check_id(name)?;
    let object = json.as_object().ok_or("not an object")?;
    let column_type = column_type(object.get("type").ok_or("no member \"type\"")?)?;
    Ok(ColumnSchema {
        name: name.into(),
        column_type,
        ephemeral: boolean(object, "ephemeral", false)?,
        mutable: boolean(object, "mutable", true)?,
    })
}

fn column_type(json: &Value) -> Result<ColumnType, String> {
    let Some(object) = json.as_object() else {
        return Ok(ColumnType { key: base_type(json)?, value: None, min: 1, max: MaxElements::Bounded(1) });
    };
    let min = match object.get("min").map(Value::as_u64) {
        None | Some(Some(1)) => 1,
        Some(Some(0)) => 0,
        Some(_) => return Err("\"min\" is neither 0 nor 1".into()),
    };
    let max = match object.get("max") {
        None => MaxElements::Bounded(1),
        Some(Value::String(text)) if text == "unlimited" => MaxElements::Unlimited,
        Some(json) => {
            let max = json.as_u64().and_then(|max| u32::try_from(max).ok()).filter(|&max| max > 0);
            MaxElements::Bounded(max.ok_or("\"max\" is neither a positive count nor \"unlimited\"")?)
        }
    };
    let key = base_type(object.get("key").ok_or("no member \"key\" in \"type\"")?)?;
    let value = object.get("value").map(base_type).transpose()?;
    Ok(ColumnType { key, value, min, max })
}

fn base_type(json: &Value) -> Result<BaseType, String> {
    if let Some(name) = json.as_str() {
        return Ok(BaseType::plain(atomic_type(name)?));
    }
    let object = json.as_object().ok_or("a base type is neither a string nor an object")?;
    let atom_type = atomic_type(string(object, "type").ok_or("no string member \"type\" in a base type")?)?;
    let allowed = object.get("enum").map(|json| enumeration(json, atom_type)).transpose()?;
    Ok(BaseType { atom_type, allowed, constraint: constraint(object, atom_type)? })
}

fn constraint(object: &Map<String, Value>, atom_type: AtomType) -> Result<Constraint, String> {
    let (lower, upper) = match atom_type {
        AtomType::Integer => ("minInteger", "maxInteger"),
        AtomType::Real => ("minReal", "maxReal"),
        AtomType::String => ("minLength", "maxLength"),
        AtomType::Uuid => return reference(object),
        AtomType::Boolean => return Ok(Constraint::None),
    };
    if !object.contains_key(lower) && !object.contains_key(upper) {
        return Ok(Constraint::None);
    }
    let bad = |name: &str| format!("{name:?} is no {atom_type} bound");
    Ok(match atom_type {
        AtomType::Integer => {
            let bound = |name: &str| object.get(name).map(|json| json.as_i64().ok_or(bad(name))).transpose();
            Constraint::Integer { min: bound(lower)?, max: bound(upper)? }
        }
        AtomType::Real => {
            let real = |json: &Value| json.as_f64().and_then(Real::new);
            let bound = |name: &str| object.get(name).map(|json| real(json).ok_or(bad(name))).transpose();
            Constraint::Real { min: bound(lower)?, max: bound(upper)? }
        }
        _ => {
            let bound = |name: &str| object.get(name).map(|json| json.as_u64().ok_or(bad(name))).transpose();
            Constraint::String { min_length: bound(lower)?, max_length: bound(upper)? }
        }
    })
}

fn reference(object: &Map<String, Value>) -> Result<Constraint, String> {
    let Some(target) = object.get("refTable") else { return Ok(Constraint::None) };
    let table = target.as_str().ok_or("\"refTable\" is not a string")?.into();
    let strength = match object.get("refType").map(Value::as_str) {
        None | Some(Some("strong")) => RefStrength::Strong,
        Some(Some("weak")) => RefStrength::Weak,
        Some(_) => return Err("\"refType\" is neither \"strong\" nor \"weak\"".into()),
    };
    Ok(Constraint::Reference { table, strength })
}

/// `enum` is a `<value>`: `["set", […]]`, or one atom alone.
fn enumeration(json: &Value, atom_type: AtomType) -> Result<BTreeSet<Atom>, String> {
    let members = match json.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::Array(members)]) if tag == "set" => members.as_slice(),
        _ => std::slice::from_ref(json),
    };
    let set =
        members.iter().map(|json| atom_from_json(json, atom_type)).collect::<Result<BTreeSet<_>, _>>()?;
    if set.is_empty() { Err("an \"enum\" without values".into()) } else { Ok(set) }
}

fn atomic_type(name: &str) -> Result<AtomType, String> {
    AtomType::from_name(name).ok_or_else(|| format!("{name:?} is no atomic type"))
}

/// RFC 7047 §3.2: names that begin with an underscore are reserved.
fn check_id(name: &str) -> Result<(), String> {
    if is_id(name) && !name.starts_with('_') { Ok(()) } else { Err(format!("{name:?} is no identifier")) }
}

/// RFC 7047 §3.1, `<id>`: a letter or underscore, then letters, digits and underscores.
pub(crate) fn is_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn string<'a>(object: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    object.get(member).and_then(Value::as_str)
}

fn boolean(object: &Map<String, Value>, member: &str, default: bool) -> Result<bool, String> {
    match object.get(member) {
        None => Ok(default),
        Some(json) => json.as_bool().ok_or_else(|| format!("{member:?} is not a boolean")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(column_type: &Value) -> String {
        let schema = json!({"name": "D", "tables": {"T": {"columns": {"c": {"type": column_type}}}}});
        database(&schema).unwrap_err().to_string()
    }

    #[test]
    fn types_keep_their_constraints() {
        let schema = json!({"name": "D", "tables": {"T": {"columns": {
            "level": {"type": {"key": {"type": "integer", "minInteger": -1, "maxInteger": 9}, "min": 0}},
            "word": {"type": {"key": {"type": "string", "minLength": 2, "maxLength": 3}}},
            "kind": {"type": {"key": {"type": "string", "enum": ["set", ["a", "b"]]}, "max": "unlimited"}},
            "peer": {"type": {"key": {"type": "uuid", "refTable": "T", "refType": "weak"}, "min": 0}}}}}});
        let table = database(&schema).unwrap().tables["T"].clone();
        let holds =
            |column: &str, atom: Atom| table.columns[column].column_type.key.violation(&atom).is_none();
        assert!(holds("level", Atom::Integer(-1)) && !holds("level", Atom::Integer(10)));
        assert!(!holds("level", "text".into()));
        assert!(holds("word", "äöü".into()) && !holds("word", "x".into()) && !holds("word", "long".into()));
        assert!(holds("kind", "a".into()) && !holds("kind", "c".into()));
        let reference = table.columns["peer"].column_type.key.reference();
        assert_eq!(reference, Some((&Arc::from("T"), RefStrength::Weak)));
        assert!(table.is_root, "where no table is marked as root, all are");
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let at = "schema: table T, column c: ";
        for (column_type, expected) in [
            (json!("float"), "\"float\" is no atomic type"),
            (json!({"min": 0}), "no member \"key\" in \"type\""),
            (json!({"key": "integer", "min": 2}), "\"min\" is neither 0 nor 1"),
            (json!({"key": "integer", "max": 0}), "\"max\" is neither a positive count nor \"unlimited\""),
            (json!({"key": {"type": "integer", "minInteger": "x"}}), "\"minInteger\" is no integer bound"),
            (json!({"key": {"type": "string", "enum": ["set", []]}}), "an \"enum\" without values"),
            (json!({"key": {"type": "string", "enum": 5}}), "5 is not of type string"),
            (json!({"key": {"type": "uuid", "refTable": "U"}}), "refers to table U, which does not exist"),
        ] {
            assert_eq!(reason(&column_type), format!("{at}{expected}"));
        }
        for (schema, expected) in [
            (json!([]), "schema: database: not an object"),
            (json!({"name": "D"}), "schema: database: no object \"tables\""),
            (json!({"name": "D", "tables": {"_T": {}}}), "schema: table _T: \"_T\" is no identifier"),
            (json!({"name": "D", "tables": {"T": {}}}), "schema: table T: no object \"columns\""),
            (
                json!({"name": "D", "tables": {"T": {"columns": {}, "indexes": [["c"]]}}}),
                "schema: table T: an index names column \"c\", which does not exist",
            ),
        ] {
            assert_eq!(database(&schema).unwrap_err().to_string(), expected);
        }
        assert!(
            DatabaseSchema::from_text("{").unwrap_err().to_string().starts_with("schema: text: not JSON")
        );
    }
}
