//! The `<atom>` of RFC 7047 §5.1 and its types.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::Uuid;

/// One value of one of the five atomic types of RFC 7047 §3.1.
///
/// The order (type first, then value) is what keeps sets and maps of atoms in one canonical form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// `integer`: a signed 64-bit number.
    Integer(i64),
    /// `real`: a finite double.
    Real(Real),
    /// `boolean`.
    Boolean(bool),
    /// `string`: UTF-8. Shared, because a value lives in the replica and in the events about it.
    String(Arc<str>),
    /// `uuid`: the identity of a row.
    Uuid(Uuid),
}

/// The type of an [`Atom`], as named in a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomType {
    /// `integer`
    Integer,
    /// `real`
    Real,
    /// `boolean`
    Boolean,
    /// `string`
    String,
    /// `uuid`
    Uuid,
}

impl AtomType {
    /// The type's name in a schema (RFC 7047 §3.2, `<atomic-type>`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    /// The type called `name` in a schema.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Integer, Self::Real, Self::Boolean, Self::String, Self::Uuid]
            .into_iter()
            .find(|candidate| candidate.name() == name)
    }

    /// The default value of RFC 7047 §5.2.1: 0, 0.0, false, "" or the zero UUID.
    pub fn default_atom(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(Real(0.0)),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String("".into()),
            Self::Uuid => Atom::Uuid(Uuid::ZERO),
        }
    }
}

impl fmt::Display for AtomType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Atom {
    /// The atom's type.
    pub const fn atom_type(&self) -> AtomType {
        match self {
            Self::Integer(_) => AtomType::Integer,
            Self::Real(_) => AtomType::Real,
            Self::Boolean(_) => AtomType::Boolean,
            Self::String(_) => AtomType::String,
            Self::Uuid(_) => AtomType::Uuid,
        }
    }

    /// The number, if this is an integer.
    pub const fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// The number, if this is a real.
    pub const fn as_real(&self) -> Option<f64> {
        if let Self::Real(value) = self { Some(value.get()) } else { None }
    }

    /// The truth value, if this is a boolean.
    pub const fn as_boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The identity, if this is a uuid.
    pub const fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(value) = self { Some(*value) } else { None }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{}", value.get()),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::String(value) => write!(f, "{value:?}"),
            Self::Uuid(value) => write!(f, "{value}"),
        }
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i64> for Atom {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<Real> for Atom {
    fn from(value: Real) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Atom {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for Atom {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl From<Arc<str>> for Atom {
    fn from(value: Arc<str>) -> Self {
        Self::String(value)
    }
}

impl From<Uuid> for Atom {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

/// A finite double with one zero, so that it has a total order and can be a set member.
#[derive(Debug, Clone, Copy)]
pub struct Real(f64);

impl Real {
    /// `value`, unless it is infinite or not a number: JSON has no such number. Minus zero becomes zero.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(if value == 0.0 { 0.0 } else { value }))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_have_one_zero_and_no_nan() {
        assert_eq!(Real::new(-0.0), Real::new(0.0));
        assert_eq!(Real::new(f64::NAN), None);
        assert_eq!(Real::new(f64::INFINITY), None);
        assert!(Real::new(-1.5) < Real::new(2.0));
    }

    #[test]
    fn type_names_are_those_of_the_rfc() {
        for name in ["integer", "real", "boolean", "string", "uuid"] {
            assert_eq!(AtomType::from_name(name).map(AtomType::name), Some(name));
        }
        assert_eq!(AtomType::from_name("float"), None);
    }
}
