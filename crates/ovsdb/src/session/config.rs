//! What a session is to do.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::BackoffRange;
use crate::monitor::MonitorTable;
use crate::remote::{Remote, TlsConfig};
use crate::schema::DatabaseSchema;
use crate::wire::Limits;

/// Which servers a session stays with, by what they tell of the database (`_Server`, ovsdb-server(5)). A server
/// older than that (Open vSwitch 2.9), or whose database is standalone, is taken by each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerPolicy {
    /// Any server: what it tells is not asked for.
    #[default]
    Any,
    /// A member of a cluster while it is in contact with the majority, a relay while it is with its source.
    /// From another one nothing can be written, and what is read may be old.
    Connected,
    /// The leader of the cluster; no relay. It sees its own writes first, and answers them soonest.
    Leader,
}

/// The configuration of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Where the server is; several (the members of a cluster) are tried in turn, in this order, beginning with
    /// the first: a herd of clients wants them in as many orders. Between two of them there is no wait; there
    /// is one, by `backoff`, when all have been tried.
    pub remotes: Vec<Remote>,
    /// Certificates, for `ssl:` remotes.
    pub tls: Option<TlsConfig>,
    /// Name of the database.
    pub database: String,
    /// Which servers to stay with. Default [`ServerPolicy::Any`].
    pub server: ServerPolicy,
    /// The database's schema, if it is known beforehand: it is not asked for then, which saves a round trip and its
    /// few kilobytes at each connect. Where the server refuses to have the tables followed, its own is asked for,
    /// to tell what it lacks. A column of another type than this one says ends the connection with the first
    /// value that does not fit. `None`: the server's is asked for.
    pub schema: Option<Arc<DatabaseSchema>>,
    /// The tables to follow. None at all: the session serves transactions and locks only.
    pub monitors: Vec<MonitorTable>,
    /// After this much silence an echo is sent, and after as much again without any byte the connection is
    /// given up. Zero: never. Default 5 s, as in ovsdb-server(1).
    pub probe_interval: Duration,
    /// Shortest and longest wait between rounds of attempts to connect. Default 0.5 s and 8 s.
    pub backoff: BackoffRange,
    /// How long the socket may take to connect, TLS included. What comes after is bounded by `probe_interval`.
    /// Default 5 s.
    pub connect_timeout: Duration,
    /// Bounds on what the server may make us hold.
    pub limits: Limits,
}

impl SessionConfig {
    /// One server, one database, no table followed, default times and limits.
    pub fn new(remote: Remote, database: impl Into<String>) -> Self {
        Self {
            remotes: vec![remote],
            tls: None,
            database: database.into(),
            server: ServerPolicy::Any,
            schema: None,
            monitors: Vec::new(),
            probe_interval: Duration::from_secs(5),
            backoff: BackoffRange::default(),
            connect_timeout: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }

    /// Follows a table too.
    #[must_use]
    pub fn monitor(mut self, table: MonitorTable) -> Self {
        self.monitors.push(table);
        self
    }
}
