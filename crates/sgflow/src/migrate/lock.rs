//! Only one of us at a time.

use std::time::Duration;

use agent::config::Config;
use agent::engine::Engine;
use anyhow::bail;
use ovsdb::session::{self, SessionHandle};
use ovsdb::{SessionConfig, SessionEvent};
use tokio::time::timeout;

use super::database::DATABASE;

/// One that was killed has let go of its lock by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// A lock in the switch's database, beside the agent's (RFC 7047 §4.1.8): it goes with the process that holds it, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _session: SessionHandle,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// Another one has it, or the database does not answer.
    pub(super) async fn take(config: &Config) -> anyhow::Result<Self> {
        let remote = config.ovsdb.remote.clone();
        let (handle, mut events) = session::spawn(SessionConfig {
            tls: config.ovsdb.tls.clone(),
            ..SessionConfig::new(remote, DATABASE)
        });
        let name = format!("{}_migrate", Engine::lock_name(&config.integration_bridge));
        handle.lock(name.as_str()).await;
        let locked = async {
            while let Some(event) = events.recv().await {
                if matches!(event, SessionEvent::Locked(locked) if locked == name) {
                    return true;
                }
            }
            false
        };
        if timeout(PATIENCE, locked).await != Ok(true) {
            bail!(
                "another sgflow migrate is at work on {}, or the database does not answer",
                config.integration_bridge
            );
        }
        // Somebody has to listen.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Ok(Lock { _session: handle })
    }
}
