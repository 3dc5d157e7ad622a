//! The value of one column of one row: the `<value>` of RFC 7047 §5.1, shaped by the column's type.

use std::fmt;

use super::{Atom, AtomMap, AtomSet};

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
    Set(AtomSet),
    /// A map, whatever its `min` and `max`.
    Map(AtomMap),
}

/// What went from a column's value and what came to it: `new` is `old` without the one and with the other. Both are
/// sets, or maps where the column holds a map; a pair whose value changed went with the old value, and came with
/// the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDifference {
    /// What is there now, and was not.
    pub added: Datum,
    /// What was there, and is not.
    pub removed: Datum,
}

impl ColumnDifference {
    /// The value is what it was.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl Datum {
    /// What goes and what comes from this value to `new`, in a time as [`AtomSet::difference`] tells.
    pub fn difference(&self, new: &Self) -> ColumnDifference {
        let (removed, added) = match (self, new) {
            (Self::Map(old), Self::Map(new)) => {
                let (gone, come) = old.difference(new);
                (Self::Map(gone), Self::Map(come))
            }
            (Self::Set(old), Self::Set(new)) => {
                let (gone, come) = old.difference(new);
                (Self::Set(gone), Self::Set(come))
            }
            (Self::Map(_), _) | (_, Self::Map(_)) => (self.clone(), new.clone()),
            _ => {
                let (gone, come) = self.to_set().difference(&new.to_set());
                (Self::Set(gone), Self::Set(come))
            }
        };
        ColumnDifference { added, removed }
    }

    /// Nothing, of the same kind: a set or a map.
    pub(crate) const fn nothing(&self) -> Self {
        match self {
            Self::Map(_) => Self::Map(AtomMap::new()),
            _ => Self::Set(AtomSet::new()),
        }
    }

    /// The atoms as a set; none for a map.
    pub(crate) fn to_set(&self) -> AtomSet {
        if let Self::Set(atoms) = self { atoms.clone() } else { self.atoms().cloned().collect() }
    }

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
    pub const fn as_map(&self) -> Option<&AtomMap> {
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
            Self::Set(atoms) => write!(f, "{atoms:?}"),
            Self::Map(pairs) => write!(f, "{pairs:?}"),
        }
    }
}
