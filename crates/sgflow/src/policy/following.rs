//! The rows of the store as they change, and why it is not there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use agent::config::Store;
use anyhow::Context as _;
use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{Change, MonitorTable, Remote, ServerPolicy, SessionConfig, SessionEvent};
use store::schema;
use tokio::time::timeout;
use tracing::warn;

/// A server that takes in a large transaction says nothing for as long as that takes it.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// What was waited for was not there in time.
#[derive(Debug)]
pub(super) struct Late(pub(super) String);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Late {}

/// A session with the store.
#[derive(Debug)]
pub(super) struct Following {
    /// To write.
    pub(super) handle: SessionHandle,
    events: SessionEvents,
    attempts: Attempts,
}

/// How the session fares with each of its servers, which it tries in turn.
#[derive(Debug, Default)]
struct Attempts {
    remotes: Vec<Remote>,
    begun: usize,
    is_live: bool,
    reasons: BTreeMap<usize, String>,
}

impl Following {
    /// Begins to follow tables of the store.
    pub(super) fn begin(store: &Store, monitors: Vec<MonitorTable>) -> anyhow::Result<Self> {
        let first = store.remotes.first().context("no server of the policy store is named")?;
        let config = SessionConfig {
            remotes: store.remotes.clone(),
            tls: store.tls.clone(),
            server: ServerPolicy::Connected,
            schema: Some(schema::schema()),
            monitors,
            probe_interval: PROBE_INTERVAL,
            ..SessionConfig::new(first.clone(), schema::DATABASE)
        };
        let (handle, events) = session::spawn(config);
        let attempts = Attempts { remotes: store.remotes.clone(), ..Attempts::default() };
        Ok(Following { handle, events, attempts })
    }

    /// The next rows that change; the first time, and after the connection was lost, all that is not known yet, which may be nothing.
    pub(super) async fn changes(&mut self, within: Duration) -> Result<Vec<Change>, Late> {
        let next = async {
            loop {
                match self.events.recv().await {
                    Some(SessionEvent::Update(changes)) => return changes,
                    Some(event) => self.attempts.note(&event),
                    None => std::future::pending().await,
                }
            }
        };
        match timeout(within, next).await {
            Ok(changes) => Ok(changes),
            Err(_) => Err(Late(self.attempts.to_string())),
        }
    }

    /// The rows that have changed already.
    pub(super) fn changes_now(&mut self) -> Vec<Change> {
        let mut all = Vec::new();
        while let Some(event) = self.events.try_recv() {
            match event {
                SessionEvent::Update(changes) => all.extend(changes),
                event => self.attempts.note(&event),
            }
        }
        all
    }

    /// Why there is no connection, if there is none.
    pub(super) fn trouble(&self) -> Option<String> {
        (!self.attempts.is_live).then(|| self.attempts.to_string())
    }
}

impl Attempts {
    fn note(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Connected => {
                self.begun += 1;
                self.is_live = true;
                self.reasons.clear();
            }
            SessionEvent::Disconnected { reason } => {
                if std::mem::take(&mut self.is_live) {
                    warn!(reason, "the connection to the policy store was lost; it is tried again");
                } else {
                    self.begun += 1;
                }
                let place = self.begun.saturating_sub(1) % self.remotes.len().max(1);
                self.reasons.insert(place, reason.clone());
            }
            SessionEvent::Update(_) | SessionEvent::Locked(_) | SessionEvent::Stolen(_) => {}
        }
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_live {
            return f.write_str("the policy store is there, but what was waited for did not come in time");
        }
        f.write_str("no connection to the policy store in time")?;
        for (place, remote) in self.remotes.iter().enumerate() {
            let remote = remote.to_string();
            match self.reasons.get(&place) {
                Some(reason) if reason.contains(&remote) => write!(f, "\n  {reason}")?,
                Some(reason) => write!(f, "\n  {remote}: {reason}")?,
                None => write!(f, "\n  {remote}: no answer yet")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_own_reason() {
        let remotes: Vec<Remote> =
            ["unix:/a", "unix:/b", "unix:/c"].iter().map(|remote| remote.parse().unwrap()).collect();
        let mut attempts = Attempts { remotes, ..Attempts::default() };
        let failed = |reason: &str| SessionEvent::Disconnected { reason: reason.to_owned() };
        attempts.note(&failed("no such file"));
        attempts.note(&SessionEvent::Connected);
        attempts.note(&failed("closed"));
        attempts.note(&failed("unix:/c is not the leader"));
        assert_eq!(
            attempts.to_string(),
            "no connection to the policy store in time\n  unix:/a: no answer yet\n  unix:/b: closed\n  \
             unix:/c is not the leader"
        );
    }
}
