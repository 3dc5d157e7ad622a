//! The mutators of RFC 7047 §5.1 on a column's value.

use serde_json::Value as Json;

use crate::schema::{ColumnSchema, ColumnType, MaxElements};
use crate::transaction::Mutator;
use crate::value::{Atom, AtomMap, AtomSet, Datum, Real};
use crate::wire::RpcError;
use crate::wire::value::{Names, datum_from_json, datum_of_any_count};

/// The value of `column` after the mutation.
pub(super) fn mutate(
    old: &Datum,
    mutator: Mutator,
    argument: &Json,
    column: &ColumnSchema,
    names: Names<'_>,
) -> Result<Datum, RpcError> {
    if !column.mutable {
        return Err(RpcError::new(
            "constraint violation",
            format!("Cannot mutate immutable column {}.", column.name),
        ));
    }
    let column_type = &column.column_type;
    let wrong = |reason: String| RpcError::new("syntax error", format!("column {}: {reason}", column.name));
    let new = match mutator {
        Mutator::Insert => {
            let argument = datum_of_any_count(argument, column_type, names).map_err(wrong)?;
            Some(insert(old, &argument))
        }
        Mutator::Delete => Some(delete(old, argument, column_type, names).map_err(wrong)?),
        _ => arithmetic(old, mutator, argument, column_type)
            .map_err(|(error, reason)| RpcError::new(error, format!("column {}: {reason}", column.name)))?,
    };
    let new = match new {
        Some(Datum::Set(atoms)) => column_type.shape_set(atoms),
        other => other,
    };
    let violation = |datum: &Datum| column_type.violation(datum);
    match new {
        Some(new) if violation(&new).is_none() => Ok(new),
        Some(new) => {
            let reason = violation(&new).unwrap_or_default();
            Err(RpcError::new("constraint violation", format!("column {}: {reason}", column.name)))
        }
        None => {
            let details = format!("column {}: the result does not fit {column_type}", column.name);
            Err(RpcError::new("constraint violation", details))
        }
    }
}

/// A pair whose key is there already is left as it is.
fn insert(old: &Datum, argument: &Datum) -> Datum {
    match (old, argument) {
        (Datum::Map(old), Datum::Map(more)) => {
            let mut pairs = old.clone();
            for (key, value) in more.iter().filter(|(key, _)| !old.contains_key(key)) {
                pairs.insert(key.clone(), value.clone());
            }
            Datum::Map(pairs)
        }
        _ => {
            let mut atoms = old.to_set();
            for atom in argument.atoms() {
                atoms.insert(atom.clone());
            }
            Datum::Set(atoms)
        }
    }
}

/// From a map, whole pairs are deleted, or all pairs with the keys of a set.
fn delete(old: &Datum, argument: &Json, column: &ColumnType, names: Names<'_>) -> Result<Datum, String> {
    let Datum::Map(pairs) = old else {
        let argument = datum_of_any_count(argument, column, names)?;
        let mut atoms = old.to_set();
        for atom in argument.atoms() {
            atoms.remove(atom);
        }
        return Ok(Datum::Set(atoms));
    };
    let keys = ColumnType { value: None, min: 0, max: MaxElements::Unlimited, ..column.clone() };
    let mut left: AtomMap = pairs.clone();
    if let Ok(Datum::Set(gone)) = datum_of_any_count(argument, &keys, names) {
        for key in gone.iter() {
            left.remove(key);
        }
    } else if let Datum::Map(gone) = datum_of_any_count(argument, column, names)? {
        for (key, _) in gone.iter().filter(|(key, value)| pairs.get(key) == Some(value)) {
            left.remove(key);
        }
    }
    Ok(Datum::Map(left))
}

/// Applies to each element. `None` where two results fall together, which RFC 7047 §5.1 calls a constraint
/// violation.
fn arithmetic(
    old: &Datum,
    mutator: Mutator,
    argument: &Json,
    column: &ColumnType,
) -> Result<Option<Datum>, (&'static str, String)> {
    let scalar = ColumnType { value: None, min: 1, max: MaxElements::Bounded(1), ..column.clone() };
    let argument =
        datum_from_json(argument, &scalar, &|_| None).map_err(|reason| ("syntax error", reason))?;
    let argument = argument.atoms().next().cloned().ok_or(("syntax error", "no argument".to_owned()))?;
    if column.is_map() {
        return Err(("syntax error", format!("{} does not apply to {column}", mutator.name())));
    }
    let mut results = AtomSet::new();
    for atom in old.atoms() {
        let result = match (atom, &argument) {
            (Atom::Integer(left), Atom::Integer(right)) => {
                integer(*left, mutator, *right).map(Atom::Integer)?
            }
            (Atom::Real(left), Atom::Real(right)) => {
                real(left.get(), mutator, right.get()).map(Atom::Real)?
            }
            _ => return Err(("syntax error", format!("{} does not apply to {column}", mutator.name()))),
        };
        if !results.insert(result) {
            return Ok(None);
        }
    }
    Ok(Some(Datum::Set(results)))
}

fn integer(left: i64, mutator: Mutator, right: i64) -> Result<i64, (&'static str, String)> {
    if right == 0 && matches!(mutator, Mutator::Divide | Mutator::Remainder) {
        return Err(("domain error", "Division by zero.".into()));
    }
    let result = match mutator {
        Mutator::Add => left.checked_add(right),
        Mutator::Subtract => left.checked_sub(right),
        Mutator::Multiply => left.checked_mul(right),
        Mutator::Divide => left.checked_div(right),
        _ => left.checked_rem(right),
    };
    result.ok_or_else(|| ("range error", "Result of mutation is out of range.".into()))
}

fn real(left: f64, mutator: Mutator, right: f64) -> Result<Real, (&'static str, String)> {
    let result = match mutator {
        Mutator::Add => left + right,
        Mutator::Subtract => left - right,
        Mutator::Multiply => left * right,
        Mutator::Divide if right == 0.0 => return Err(("domain error", "Division by zero.".into())),
        Mutator::Divide => left / right,
        _ => return Err(("syntax error", "%= does not apply to reals".into())),
    };
    Real::new(result).ok_or_else(|| ("range error", "Result of mutation is out of range.".into()))
}
