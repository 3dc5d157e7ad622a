//! What was refused.

use std::fmt;

use policy::document::Diagnostic;
use serde::Serialize;

/// An object that was refused whole; it stays as it was, or closed if it is new (semantics, "Change").
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refused {
    /// Which, as `port <id>` or `rule <id> of security group <id>`.
    pub object: String,
    /// What of it.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl Refused {
    pub(crate) fn new(object: String, field: &str, reason: impl fmt::Display) -> Self {
        Refused { object, field: field.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.field, self.reason)
    }
}

impl From<Diagnostic> for Refused {
    fn from(diagnostic: Diagnostic) -> Self {
        let Diagnostic { object, field, reason, .. } = diagnostic;
        Refused { object, field, reason }
    }
}
