//! Values: what a column of a row holds. The JSON forms stand in `wire::value`.

mod atom;
mod datum;
mod uuid;

pub use atom::{Atom, AtomType, Real};
pub use datum::Datum;
pub use uuid::{Uuid, UuidError};
