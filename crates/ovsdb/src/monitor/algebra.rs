//! The algebra of updates: what `update2` and `update3` send instead of values.
//!
//! Source: ovsdb-server(7) 3.1, 4.1.14. For a column of type `t`:
//!
//! - holds at most one element: `difference(a, b) = b`;
//! - set: `difference(a, b)` = the elements that are in one of the two only;
//! - map: the pairs whose key is in one of the two only, and, for keys in both with different values,
//!   the pair of `b`.
//!
//! Laws (tested below):
//!
//! 1. `apply(a, difference(a, b)) = b`.
//! 2. `difference(a, a)` is empty, for sets and maps; and for sets `difference(a, b) = difference(b, a)`.
//! 3. The size of a set's or map's difference is bounded by the change, not by the value. So is the time that
//!    it takes to apply it (see [`AtomSet`]).

use crate::schema::ColumnType;
use crate::value::{AtomMap, AtomSet, Datum};

/// What a server sends when a column changes from `old` to `new`.
pub(crate) fn difference(old: &Datum, new: &Datum, column: &ColumnType) -> Datum {
    if column.holds_at_most_one() {
        return new.clone();
    }
    match (old, new) {
        (Datum::Set(old), Datum::Set(new)) => {
            let (gone, come) = old.difference(new);
            Datum::Set(gone.iter().chain(come.iter()).cloned().collect())
        }
        (Datum::Map(old), Datum::Map(new)) => Datum::Map(map_difference(old, new)),
        _ => new.clone(),
    }
}

/// The value after `difference` was sent for a column that held `old`. `None` if the result does not fit the
/// column's type: then the difference belongs to another value than `old`.
pub(crate) fn apply(old: &Datum, difference: Datum, column: &ColumnType) -> Option<Datum> {
    let new = match (old, difference) {
        (Datum::Set(old), Datum::Set(difference)) if !column.holds_at_most_one() => {
            return column.shape_set(toggle(old, &difference));
        }
        (Datum::Map(old), Datum::Map(difference)) if !column.holds_at_most_one() => {
            Datum::Map(patch(old, &difference))
        }
        (_, Datum::Set(new)) => return column.shape_set(new),
        (_, new) => new,
    };
    column.allows_count(new.len()).then_some(new)
}

fn map_difference(old: &AtomMap, new: &AtomMap) -> AtomMap {
    let (gone, come) = old.difference(new);
    // Where a value changed, the new pair holds, for it is the last.
    gone.iter().chain(come.iter()).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn toggle(old: &AtomSet, difference: &AtomSet) -> AtomSet {
    let mut new = old.clone();
    for atom in difference.iter() {
        if !new.remove(atom) {
            new.insert(atom.clone());
        }
    }
    new
}

/// A pair that is there as it is goes; a pair with another value is changed; a pair that is not there comes.
fn patch(old: &AtomMap, difference: &AtomMap) -> AtomMap {
    let mut new = old.clone();
    for (key, value) in difference.iter() {
        if new.get(key) == Some(value) {
            new.remove(key);
        } else {
            new.insert(key.clone(), value.clone());
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::schema::{BaseType, MaxElements};
    use crate::value::{Atom, AtomType};
    use crate::wire::value::{NO_NAMES, datum_from_json, datum_of_any_count, datum_to_json};

    fn column(is_map: bool, min: u32, max: MaxElements) -> ColumnType {
        let value = is_map.then(|| BaseType::plain(AtomType::Integer));
        ColumnType { key: BaseType::plain(AtomType::Integer), value, min, max }
    }

    /// A column type, and two values of it.
    fn column_and_two_values() -> impl Strategy<Value = (ColumnType, Datum, Datum)> {
        let max = prop_oneof![
            Just(MaxElements::Bounded(1)),
            Just(MaxElements::Bounded(5)),
            Just(MaxElements::Unlimited)
        ];
        let column = (any::<bool>(), 0_u32..2, max).prop_map(|(is_map, min, max)| column(is_map, min, max));
        column.prop_flat_map(|column| (Just(column.clone()), value_of(&column), value_of(&column)))
    }

    fn value_of(column: &ColumnType) -> BoxedStrategy<Datum> {
        let least = usize::try_from(column.min).unwrap();
        let most = match column.max {
            MaxElements::Bounded(max) => usize::try_from(max).unwrap(),
            MaxElements::Unlimited => 8,
        };
        let atom = || (0_i64..12).prop_map(Atom::Integer);
        if column.is_map() {
            prop::collection::btree_map(atom(), atom(), least..=most)
                .prop_map(|pairs| Datum::Map(pairs.into_iter().collect()))
                .boxed()
        } else {
            let column = column.clone();
            prop::collection::btree_set(atom(), least..=most)
                .prop_map(move |atoms| column.shape_set(atoms.into_iter().collect()).unwrap())
                .boxed()
        }
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_new_value((column, old, new) in column_and_two_values()) {
            prop_assert_eq!(apply(&old, difference(&old, &new, &column), &column), Some(new));
        }

        #[test]
        fn the_same_over_the_wire((column, old, new) in column_and_two_values()) {
            let sent = datum_to_json(&difference(&old, &new, &column));
            let received = datum_of_any_count(&sent, &column, NO_NAMES).unwrap();
            prop_assert_eq!(apply(&old, received, &column), Some(new.clone()));
            prop_assert_eq!(datum_from_json(&datum_to_json(&new), &column, NO_NAMES), Ok(new));
        }

        #[test]
        fn a_difference_is_no_larger_than_the_change((column, old, new) in column_and_two_values()) {
            prop_assume!(!column.holds_at_most_one());
            prop_assert!(difference(&old, &old, &column).is_empty());
            if !column.is_map() {
                prop_assert_eq!(difference(&old, &new, &column), difference(&new, &old, &column));
            }
            prop_assert!(difference(&old, &new, &column).len() <= old.len() + new.len());
        }

        #[test]
        fn any_difference_applied_to_any_value_fits_the_type_or_is_refused(
            (column, old, _) in column_and_two_values(),
            atoms in prop::collection::btree_set(0_i64..12, 0..8),
        ) {
            let atoms: AtomSet = atoms.into_iter().map(Atom::Integer).collect();
            let difference = if column.is_map() {
                Datum::Map(atoms.iter().map(|atom| (atom.clone(), atom.clone())).collect())
            } else {
                Datum::Set(atoms)
            };
            if let Some(new) = apply(&old, difference, &column) {
                prop_assert_eq!(column.violation(&new), None);
            }
        }
    }

    #[test]
    fn the_manual_page_by_example() {
        let map = column(true, 0, MaxElements::Unlimited);
        let read = |json| datum_from_json(&json, &map, NO_NAMES).unwrap();
        let old = read(json!(["map", [[1, 10], [2, 20], [3, 30]]]));
        let new = read(json!(["map", [[1, 10], [2, 21], [4, 40]]]));
        assert_eq!(difference(&old, &new, &map), read(json!(["map", [[2, 21], [3, 30], [4, 40]]])));
    }
}
