//! Atoms, values and rows in JSON: RFC 7047 §5.1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Number, Value, json};

use crate::schema::{ColumnType, TableSchema};
use crate::value::{Atom, AtomMap, AtomSet, AtomType, Datum, Real, Uuid};

/// How `["named-uuid", name]` is read: the identity given to that name, if the context knows one.
pub(crate) type Names<'a> = &'a dyn Fn(&str) -> Option<Uuid>;

/// Where no operation can have named a row: in everything that a server sends.
pub(crate) const NO_NAMES: Names<'static> = &|_| None;

/// Reads an `<atom>` of the given type.
pub(crate) fn atom_from_json(json: &Value, atom_type: AtomType) -> Result<Atom, String> {
    named_atom_from_json(json, atom_type, NO_NAMES)
}

fn named_atom_from_json(json: &Value, atom_type: AtomType, names: Names<'_>) -> Result<Atom, String> {
    let atom = match (atom_type, json) {
        (AtomType::Integer, Value::Number(number)) => number.as_i64().map(Atom::Integer),
        // A real that is whole is written without a fraction by ovsdb-server.
        (AtomType::Real, Value::Number(number)) => number.as_f64().and_then(Real::new).map(Atom::Real),
        (AtomType::Boolean, Value::Bool(value)) => Some(Atom::Boolean(*value)),
        (AtomType::String, Value::String(text)) => Some(Atom::String(text.as_str().into())),
        (AtomType::Uuid, Value::Array(pair)) => return uuid_from_pair(pair, names).map(Atom::Uuid),
        _ => None,
    };
    atom.ok_or_else(|| format!("{} is not of type {atom_type}", shown(json)))
}

fn uuid_from_pair(pair: &[Value], names: Names<'_>) -> Result<Uuid, String> {
    match pair {
        [Value::String(tag), Value::String(text)] if tag == "uuid" => {
            text.parse().map_err(|error: crate::value::UuidError| error.to_string())
        }
        [Value::String(tag), Value::String(name)] if tag == "named-uuid" => {
            names(name).ok_or_else(|| format!("no row is named {name:?}"))
        }
        _ => Err(format!("{} is neither [\"uuid\", …] nor [\"named-uuid\", …]", shown(&Value::from(pair)))),
    }
}

/// Reads a `<value>` of a column of the given type; its count must fit.
pub(crate) fn datum_from_json(json: &Value, column: &ColumnType, names: Names<'_>) -> Result<Datum, String> {
    let datum = datum_of_any_count(json, column, names)?;
    let count = datum.len();
    let shaped = match datum {
        Datum::Set(atoms) => column.shape_set(atoms),
        map if column.allows_count(count) => Some(map),
        _ => None,
    };
    shaped.ok_or_else(|| format!("{count} elements do not fit {column}"))
}

/// Reads a `<value>` whose count need not fit the column: the difference of two values, or the argument
/// of a condition. The result is a [`Datum::Set`] or a [`Datum::Map`].
pub(crate) fn datum_of_any_count(
    json: &Value,
    column: &ColumnType,
    names: Names<'_>,
) -> Result<Datum, String> {
    match &column.value {
        None => set_from_json(json, column.key.atom_type, names).map(Datum::Set),
        Some(value) => map_from_json(json, column.key.atom_type, value.atom_type, names).map(Datum::Map),
    }
}

fn set_from_json(json: &Value, atom_type: AtomType, names: Names<'_>) -> Result<AtomSet, String> {
    let Some(members) = tagged(json, "set") else {
        return named_atom_from_json(json, atom_type, names).map(|atom| AtomSet::from([atom]));
    };
    let atoms: Vec<Atom> = members
        .iter()
        .map(|member| named_atom_from_json(member, atom_type, names))
        .collect::<Result<_, _>>()?;
    let set: AtomSet = atoms.iter().cloned().collect();
    if set.len() != atoms.len() {
        return Err(format!("{} stands twice in a set", first_repeated(&atoms)));
    }
    Ok(set)
}

fn map_from_json(
    json: &Value,
    key_type: AtomType,
    value_type: AtomType,
    names: Names<'_>,
) -> Result<AtomMap, String> {
    let pairs = tagged(json, "map").ok_or_else(|| format!("{} is not a map", shown(json)))?;
    let mut map = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
            return Err(format!("{} is no pair of a map", shown(pair)));
        };
        let key = named_atom_from_json(key, key_type, names)?;
        let value = named_atom_from_json(value, value_type, names)?;
        map.push((key, value));
    }
    let keys: Vec<Atom> = map.iter().map(|(key, _)| key.clone()).collect();
    let map: AtomMap = map.into_iter().collect();
    if map.len() != keys.len() {
        return Err(format!("key {} stands twice in a map", first_repeated(&keys)));
    }
    Ok(map)
}

/// For the message.
fn first_repeated(atoms: &[Atom]) -> String {
    let mut seen = BTreeSet::new();
    atoms.iter().find(|atom| !seen.insert(*atom)).map(Atom::to_string).unwrap_or_default()
}

fn tagged<'a>(json: &'a Value, tag: &str) -> Option<&'a [Value]> {
    match json.as_array().map(Vec::as_slice) {
        Some([Value::String(found), Value::Array(members)]) if found == tag => Some(members),
        _ => None,
    }
}

/// Reads a `<row>`: its columns must be the table's. `_uuid` and `_version` are left to the caller.
pub(crate) fn columns_from_json(
    json: &Value,
    table: &TableSchema,
    names: Names<'_>,
) -> Result<BTreeMap<Arc<str>, Datum>, String> {
    let object =
        json.as_object().ok_or_else(|| format!("table {}: {} is no row", table.name, shown(json)))?;
    let mut columns = BTreeMap::new();
    for (name, json) in object.iter().filter(|(name, _)| !name.starts_with('_')) {
        let column = table
            .column(name)
            .ok_or_else(|| format!("table {}: no column {name:?} in the schema", table.name))?;
        let datum = datum_from_json(json, &column.column_type, names)
            .map_err(|reason| format!("table {}, column {name}: {reason}", table.name))?;
        columns.insert(column.name.clone(), datum);
    }
    Ok(columns)
}

/// Writes an `<atom>`.
pub(crate) fn atom_to_json(atom: &Atom) -> Value {
    match atom {
        Atom::Integer(value) => Value::from(*value),
        Atom::Real(value) => {
            Value::Number(Number::from_f64(value.get()).expect("a Real is finite, so JSON has it"))
        }
        Atom::Boolean(value) => Value::from(*value),
        Atom::String(text) => Value::from(&**text),
        Atom::Uuid(uuid) => uuid_to_json(*uuid),
    }
}

/// Writes `["uuid", …]`.
pub(crate) fn uuid_to_json(uuid: Uuid) -> Value {
    json!(["uuid", uuid.to_string()])
}

/// Writes a `<value>`. One-element sets are written as the atom alone, as ovsdb-server does.
pub(crate) fn datum_to_json(datum: &Datum) -> Value {
    match datum {
        Datum::Map(pairs) => {
            let pairs: Vec<Value> =
                pairs.iter().map(|(key, value)| json!([atom_to_json(key), atom_to_json(value)])).collect();
            json!(["map", pairs])
        }
        other => {
            let mut atoms: Vec<Value> = other.atoms().map(atom_to_json).collect();
            if atoms.len() == 1 { atoms.remove(0) } else { json!(["set", atoms]) }
        }
    }
}

/// JSON for a message, cut where it gets long.
pub(crate) fn shown(json: &Value) -> String {
    const LONGEST: usize = 120;
    let text = json.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
