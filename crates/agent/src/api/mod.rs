//! The daemon's local API: HTTP over a Unix socket, for the commands of this host.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] as JSON |
//!
//! Who may ask: root, the daemon's own user, and the members of group [`GROUP`] (the peer's credentials, unix(7)
//! `SO_PEERCRED`). The daemon's loop answers between two pieces of work; a client that is slow, silent or one of too many
//! costs a place among `server::CLIENTS` for a bounded time and nothing else.

mod client;
mod peer;
mod server;
mod status;

use tokio::sync::oneshot;

pub use client::{ClientError, status};
pub use peer::GROUP;
pub use server::{Server, ServerError};
pub use status::{Condition, FaultDocument, Status, Totals};

/// Something that a client wants to know, for the daemon's loop to answer.
#[derive(Debug)]
pub enum Request {
    /// How the daemon is.
    Status(oneshot::Sender<Status>),
}
