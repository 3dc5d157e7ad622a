//! Where the policy comes from.

mod documents;
mod feed;
mod file;

pub use documents::{Documents, DocumentsError};
pub use feed::{Feed, Update, updates};
pub use file::{Reading, watch};
