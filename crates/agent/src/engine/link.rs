//! The connection to the switch, as far as the engine cares.

use std::time::Duration;

use super::LinkId;

/// Wait after the first failure; doubles.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait: ovs-vswitchd that comes back has an empty table, so every port is closed meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum State {
    #[default]
    Down,
    Connecting,
    /// Connected; what the switch holds is being read.
    Reading,
    /// Connected and read.
    Up,
}

/// One connection after the other.
#[derive(Debug, Default)]
pub(super) struct Link {
    id: LinkId,
    state: State,
    failures: u32,
    retry_at: Duration,
    reason: Option<String>,
}

impl Link {
    pub(super) fn id(&self) -> LinkId {
        self.id
    }

    /// Whether `id` is this connection, and not an earlier one.
    pub(super) fn is(&self, id: LinkId) -> bool {
        self.id == id && self.state != State::Down
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// When the next attempt is due.
    pub(super) fn retry_at(&self) -> Duration {
        self.retry_at
    }

    /// Why there is no connection, once that is known.
    pub(super) fn reason(&self) -> Option<&String> {
        self.reason.as_ref()
    }

    /// Begins the next attempt.
    pub(super) fn connect(&mut self) -> LinkId {
        self.id.0 += 1;
        self.state = State::Connecting;
        self.id
    }

    pub(super) fn connected(&mut self) {
        self.state = State::Reading;
    }

    pub(super) fn read_back(&mut self) {
        self.state = State::Up;
        self.failures = 0;
        self.reason = None;
    }

    pub(super) fn down(&mut self) {
        self.state = State::Down;
    }

    /// The attempt, or the connection, failed.
    pub(super) fn failed(&mut self, reason: String, now: Duration) {
        let wait = SHORTEST_WAIT * 2u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + wait.min(LONGEST_WAIT);
        self.reason = Some(reason);
    }

    /// Something changed for the better: no more waiting.
    pub(super) fn retry_now(&mut self) {
        self.failures = 0;
        self.retry_at = Duration::ZERO;
        self.reason = None;
    }
}
