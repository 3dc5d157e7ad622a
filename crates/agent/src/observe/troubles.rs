//! What cannot be seen that shall be: told by whoever looks, and asked for by who says how the agent is.

use std::sync::{Arc, Mutex, PoisonError};

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubles(Arc<Mutex<Vec<(String, String)>>>);

impl Troubles {
    /// From now on these, of objects and reasons.
    pub(super) fn set(&self, all: Vec<(String, String)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
