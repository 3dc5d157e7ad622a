//! Where the policy comes from.

mod documents;
mod file;

pub use documents::{Documents, DocumentsError};
pub use file::{Reading, watch};
