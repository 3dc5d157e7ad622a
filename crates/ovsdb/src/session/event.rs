//! What a session tells.

use crate::replica::Change;

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// Connected, and the replica is the server's database of now. Exactly one [`SessionEvent::Update`]
    /// follows with all that differs from what was known before, empty if nothing does (none if the connection
    /// is lost before it is read).
    Connected,
    /// The connection is gone, and every lock with it. Attempts to connect again go on; locks that were asked
    /// for are asked for again. While no connection comes about, this is told once for each attempt that failed.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// Rows changed; one event holds what one transaction did, or several. What went comes first.
    Update(Vec<Change>),
    /// The lock is ours now.
    Locked(String),
    /// The lock was ours, and another client took it.
    Stolen(String),
}
