//! OVSDB, the Open vSwitch Database Management Protocol (RFC 7047), with the extensions of ovsdb-server(7).
//!
//! ```text
//!            bytes                 messages                     rows
//!  socket ──► wire::Framer ──► Connection ──► Subscription ──► Replica ──► Change
//!                                   ▲              ▲
//!                              Transaction     MonitorTable
//! ```
//!
//! All of that is pure: bytes and the time come in as values, bytes and events go out. The sockets stand
//! behind the feature `tokio`: `Client` for a program that asks a few things and ends, [`session`] for one
//! that follows a database over reconnects.
#![forbid(unsafe_code)]

pub mod backoff;
#[cfg(feature = "tokio")]
pub mod client;
pub mod connection;
mod matching;
pub mod monitor;
#[cfg(feature = "tokio")]
mod net;
pub mod remote;
pub mod replica;
pub mod row;
pub mod schema;
pub mod server;
pub mod session;
pub mod status;
pub mod time;
pub mod transaction;
pub mod value;
pub mod wire;

#[cfg(feature = "tokio")]
pub use client::{Client, ClientError, ConnectOptions};
pub use monitor::{MonitorError, MonitorTable, Subscription};
#[cfg(feature = "tokio")]
pub use net::ConnectError;
pub use remote::{HostPort, Remote, TlsConfig};
pub use replica::{Change, ChangeKind, Replica};
pub use row::{Row, RowError, StringMap};
pub use schema::DatabaseSchema;
pub use session::{ServerPolicy, SessionConfig, SessionEvent};
pub use status::{DatabaseStatus, StorageModel};
pub use time::Timestamp;
pub use transaction::{
    Condition, Delete, Function, Insert, Mutate, Mutator, NamedRow, Operation, OperationIndex,
    OperationResult, Select, TransactError, TransactReply, Transaction, Update, Value, Wait,
};
pub use value::{Atom, AtomMap, AtomSet, AtomType, ColumnDifference, Datum, Real, Uuid};
pub use wire::{Limits, RpcError};
