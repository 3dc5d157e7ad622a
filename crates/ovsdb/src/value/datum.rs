//! The value of one column of one row: the `<value>` of RFC 7047 §5.1, shaped by the column's type.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Atom;

/// A column's value.
///
/// On the wire a set of one element and a scalar look alike; here the variant is decided by the
/// column's type alone (`min`, `max`, `value` of RFC 7047 §3.2 `<type>`), so that equal values are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// Exactly one atom (`min` 1, `max` 1).
    Scalar(Atom),
    /// At most one atom (`min` 0, `max` 1).
    Optional(Option<Atom>),
    /// A set of atoms (`max` above 1).
    Set(BTreeSet<Atom>),
    /// A map, whatever its `min` and `max`.
    Map(BTreeMap<Atom, Atom>),
}

impl Datum {
    /// The atoms of a scalar, optional or set, in order; nothing for a map.
    pub fn atoms(&self) -> Box<dyn Iterator<Item = &Atom> + '_> {
        match self {
            Self::Scalar(atom) => Box::new(std::iter::once(atom)),
            Self::Optional(atom) => Box::new(atom.iter()),
            Self::Set(atoms) => Box::new(atoms.iter()),
            Self::Map(_) => Box::new(std::iter::empty()),
        }
    }

    /// The pairs of a map; `None` for anything else.
    pub const fn as_map(&self) -> Option<&BTreeMap<Atom, Atom>> {
        if let Self::Map(pairs) = self { Some(pairs) } else { None }
    }

    /// Number of atoms or pairs.
    pub fn len(&self) -> usize {
        match self {
            Self::Scalar(_) => 1,
            Self::Optional(atom) => usize::from(atom.is_some()),
            Self::Set(atoms) => atoms.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// No atom and no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What this value is, for messages: "a scalar", "an optional value", "a set" or "a map".
    pub const fn shape(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "a scalar",
            Self::Optional(_) => "an optional value",
            Self::Set(_) => "a set",
            Self::Map(_) => "a map",
        }
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(atom) => write!(f, "{atom}"),
            Self::Optional(Some(atom)) => write!(f, "{atom}"),
            Self::Optional(None) => f.write_str("[]"),
            Self::Set(atoms) => f.debug_list().entries(atoms).finish(),
            Self::Map(pairs) => f.debug_map().entries(pairs).finish(),
        }
    }
}
