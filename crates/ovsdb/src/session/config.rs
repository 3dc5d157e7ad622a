//! What a session is to do.

use std::time::Duration;

use crate::monitor::MonitorTable;
use crate::remote::Remote;
use crate::wire::Limits;

/// The configuration of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Where the server is; several (the members of a cluster) are tried in turn.
    pub remotes: Vec<Remote>,
    /// Certificates, for `ssl:` remotes.
    pub tls: Option<TlsConfig>,
    /// Name of the database.
    pub database: String,
    /// The tables to follow. None at all: the session serves transactions and locks only.
    pub monitors: Vec<MonitorTable>,
    /// After this much silence an echo is sent, and after as much again without any byte the connection is
    /// given up. Zero: never. Default 5 s, as in ovsdb-server(1).
    pub probe_interval: Duration,
    /// Shortest and longest wait between attempts to connect. Default 0.5 s and 8 s.
    pub backoff: BackoffRange,
    /// How long an attempt to connect may take, until the database's schema and first rows are there: no
    /// limit on bytes, only on silence, is set by `probe_interval`; this one bounds the connection alone.
    pub connect_timeout: Duration,
    /// Bounds on what the server may make us hold.
    pub limits: Limits,
}

/// The bounds of the wait between attempts to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffRange {
    /// Wait after the first failure.
    pub shortest: Duration,
    /// The wait doubles up to this.
    pub longest: Duration,
}

/// PEM files for `ssl:` remotes, as `--ca-cert`, `--certificate` and `--private-key` of ovsdb-server(1). They
/// are read at each connect, so that renewed certificates are taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates of the authorities that the server's certificate must come from.
    pub ca: std::path::PathBuf,
    /// Our own certificate chain.
    pub cert: std::path::PathBuf,
    /// Its private key.
    pub key: std::path::PathBuf,
}

impl SessionConfig {
    /// One server, one database, no table followed, default times and limits.
    pub fn new(remote: Remote, database: impl Into<String>) -> Self {
        Self {
            remotes: vec![remote],
            tls: None,
            database: database.into(),
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

impl Default for BackoffRange {
    fn default() -> Self {
        Self { shortest: Duration::from_millis(500), longest: Duration::from_secs(8) }
    }
}
