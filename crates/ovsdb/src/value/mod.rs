//! Values: what a column of a row holds. The JSON forms stand in `wire::value`.

mod atom;
mod chunks;
mod collection;
mod datum;
mod uuid;

pub use atom::{Atom, AtomType, Real};
pub use collection::{AtomMap, AtomSet};
pub use datum::{ColumnDifference, Datum};
pub use uuid::{Uuid, UuidError};
