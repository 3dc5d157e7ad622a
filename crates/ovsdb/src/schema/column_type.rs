//! The type of a column: `<type>` and `<base-type>` of RFC 7047 §3.2.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::value::{Atom, AtomMap, AtomSet, AtomType, Datum, Real};

/// A column's type: what its atoms are and how many it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// Type of the elements, or of a map's keys.
    pub key: BaseType,
    /// Type of a map's values; `None`: not a map.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements.
    pub max: MaxElements,
}

/// The `max` of a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxElements {
    /// At most that many, at least 1.
    Bounded(u32),
    /// `"unlimited"`
    Unlimited,
}

/// The type of an atom within a column, with its constraints.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseType {
    /// Atomic type.
    pub atom_type: AtomType,
    /// If present, the only values allowed.
    pub allowed: Option<BTreeSet<Atom>>,
    /// Further constraint.
    pub constraint: Constraint,
}

/// A constraint on an atom, by type. Bounds are inclusive; `None` is no bound.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// None.
    None,
    /// `minInteger`, `maxInteger`
    Integer {
        /// Smallest value.
        min: Option<i64>,
        /// Largest value.
        max: Option<i64>,
    },
    /// `minReal`, `maxReal`
    Real {
        /// Smallest value.
        min: Option<Real>,
        /// Largest value.
        max: Option<Real>,
    },
    /// `minLength`, `maxLength`, in characters.
    String {
        /// Shortest length.
        min_length: Option<u64>,
        /// Longest length.
        max_length: Option<u64>,
    },
    /// `refTable`, `refType`: the atom is the identity of a row of that table.
    Reference {
        /// Table referred to.
        table: Arc<str>,
        /// What happens when that row goes.
        strength: RefStrength,
    },
}

/// `refType` of RFC 7047 §3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefStrength {
    /// The row referred to must exist, and is kept by the reference.
    Strong,
    /// The reference vanishes with the row it refers to.
    Weak,
}

impl ColumnType {
    /// Whether values are [`Datum::Map`].
    pub const fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Whether a value holds at most one element. Such a column's difference in `update2` is its new
    /// value (ovsdb-server(7) 3.1, 4.1.14: "columns with single value").
    pub const fn holds_at_most_one(&self) -> bool {
        matches!(self.max, MaxElements::Bounded(1))
    }

    /// The value a column has when none is given (RFC 7047 §5.2.1).
    pub fn default_datum(&self) -> Datum {
        let default = || self.key.atom_type.default_atom();
        match (&self.value, self.min, self.holds_at_most_one()) {
            (Some(value), 1, _) => Datum::Map(AtomMap::from([(default(), value.atom_type.default_atom())])),
            (Some(_), _, _) => Datum::Map(AtomMap::new()),
            (None, 1, true) => Datum::Scalar(default()),
            (None, _, true) => Datum::Optional(None),
            (None, 1, false) => Datum::Set(AtomSet::from([default()])),
            (None, _, false) => Datum::Set(AtomSet::new()),
        }
    }

    /// A set of `atoms` in the shape of this type; `None` if the count does not fit, or for a map type.
    pub fn shape_set(&self, atoms: AtomSet) -> Option<Datum> {
        if self.is_map() || !self.allows_count(atoms.len()) {
            return None;
        }
        if !self.holds_at_most_one() {
            return Some(Datum::Set(atoms));
        }
        let atom = atoms.iter().next().cloned();
        if self.min == 0 { Some(Datum::Optional(atom)) } else { atom.map(Datum::Scalar) }
    }

    /// Whether `count` elements are no fewer than `min` and no more than `max`.
    pub fn allows_count(&self, count: usize) -> bool {
        let enough = u32::try_from(count).map_or(true, |count| count >= self.min);
        let few_enough = match self.max {
            MaxElements::Unlimited => true,
            MaxElements::Bounded(max) => u32::try_from(count).is_ok_and(|count| count <= max),
        };
        enough && few_enough
    }

    /// Why `datum` breaks this type's constraints, if it does: count, enumeration, range or length.
    /// References are judged by whoever has the rows.
    pub fn violation(&self, datum: &Datum) -> Option<String> {
        if !self.allows_count(datum.len()) {
            return Some(format!("{} elements do not fit {self}", datum.len()));
        }
        let keys = datum.atoms().find_map(|atom| self.key.violation(atom));
        keys.or_else(|| {
            let value_type = self.value.as_ref()?;
            datum
                .as_map()?
                .iter()
                .find_map(|(key, value)| self.key.violation(key).or_else(|| value_type.violation(value)))
        })
    }
}

impl BaseType {
    /// A type without constraint.
    pub const fn plain(atom_type: AtomType) -> Self {
        Self { atom_type, allowed: None, constraint: Constraint::None }
    }

    /// Why `atom` breaks the constraints, if it does.
    pub fn violation(&self, atom: &Atom) -> Option<String> {
        if atom.atom_type() != self.atom_type {
            return Some(format!("{atom} is not of type {}", self.atom_type));
        }
        if let Some(allowed) = &self.allowed {
            return (!allowed.contains(atom)).then(|| format!("{atom} is not one of {allowed:?}"));
        }
        let fits = match (&self.constraint, atom) {
            (Constraint::Integer { min, max }, Atom::Integer(value)) => {
                within(value, min.as_ref(), max.as_ref())
            }
            (Constraint::Real { min, max }, Atom::Real(value)) => within(value, min.as_ref(), max.as_ref()),
            (Constraint::String { min_length, max_length }, Atom::String(text)) => {
                let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
                within(&length, min_length.as_ref(), max_length.as_ref())
            }
            _ => true,
        };
        (!fits).then(|| format!("{atom} is out of range"))
    }

    /// The table that an atom of this type refers to, and how.
    pub fn reference(&self) -> Option<(&Arc<str>, RefStrength)> {
        if let Constraint::Reference { table, strength } = &self.constraint {
            Some((table, *strength))
        } else {
            None
        }
    }
}

fn within<T: Ord>(value: &T, min: Option<&T>, max: Option<&T>) -> bool {
    min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "map of {}-{}", self.key.atom_type, value.atom_type)?,
            None if self.holds_at_most_one() && self.min == 1 => return write!(f, "{}", self.key.atom_type),
            None => write!(f, "set of {}", self.key.atom_type)?,
        }
        match self.max {
            MaxElements::Unlimited => write!(f, " ({} or more)", self.min),
            MaxElements::Bounded(max) => write!(f, " ({} to {max})", self.min),
        }
    }
}
