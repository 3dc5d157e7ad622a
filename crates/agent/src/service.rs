//! The service manager's view of the daemon (sd_notify(3), systemd 252): ready, its state in a line, and a watchdog.
//!
//! Ready is said when the policy is in force, or when it is known what is waited for: a host boots on without its
//! database, and its ports stay closed or as they were. Without a service manager nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use crate::api::{Condition, Status};

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Service {
    ready: bool,
    said: String,
    /// Half the time after which the service manager takes the daemon for stuck.
    watchdog: Option<Interval>,
}

impl Service {
    /// Reads from the environment whether there is a service manager, and whether it watches.
    pub(crate) fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|after: Duration| {
            let mut interval = interval((after / 2).max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { watchdog, ..Self::default() }
    }

    /// The daemon's loop goes round. Cancel safe.
    pub(crate) async fn watch(&mut self) {
        match &mut self.watchdog {
            Some(interval) => {
                interval.tick().await;
                notify(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }

    /// Says how the daemon is, if that is news.
    pub(crate) fn tell(&mut self, status: &Status) {
        let text = status.to_string();
        let line = text.lines().next().unwrap_or_default();
        let ready = self.ready || status.condition != Condition::Converging;
        if line == self.said && ready == self.ready {
            return;
        }
        let state = NotifyState::Status(line);
        match ready && !self.ready {
            true => notify(&[state, NotifyState::Ready]),
            false => notify(&[state]),
        }
        line.clone_into(&mut self.said);
        self.ready = ready;
    }

    /// The daemon ends.
    pub(crate) fn ending() {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(states: &[NotifyState]) {
    if let Err(reason) = sd_notify::notify(states) {
        warn!(%reason, "the service manager cannot be told");
    }
}
