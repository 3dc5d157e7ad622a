//! How far the policy is what its source says.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::metrics::SourceNumbers;

/// Neutron's agent asks every two seconds; after so many nobody is there who would tell.
const SILENCE: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// Since when the policy is not what the source says.
    behind_since: Option<Instant>,
    heard: Option<SystemTime>,
    changed: Option<SystemTime>,
    written: Option<SystemTime>,
    /// When somebody was heard of who has to ask again and again.
    asked_at: Option<Instant>,
}

impl Freshness {
    /// The source was heard of.
    pub(crate) fn heard(&mut self) {
        self.heard = Some(SystemTime::now());
    }

    /// It was heard of, by somebody who asks every two seconds as long as he is there.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.heard();
        self.asked_at = Some(now);
    }

    /// It has changed the policy.
    pub(crate) fn changed(&mut self) {
        self.heard();
        self.changed = self.heard;
    }

    /// When the newest document was written.
    pub(crate) fn written(&mut self, time: Option<SystemTime>) {
        self.written = time;
    }

    /// From now on the policy is, or is not, what the source says.
    pub(crate) fn is_behind(&mut self, is_behind: bool, now: Instant) {
        match is_behind {
            true => _ = self.behind_since.get_or_insert(now),
            false => self.behind_since = None,
        }
    }

    /// In numbers.
    pub(crate) fn numbers(&self, sequence: Option<u64>, now: Instant) -> SourceNumbers {
        let silent = self.asked_at.map(|at| now.saturating_duration_since(at)).filter(|time| *time > SILENCE);
        let behind = self.behind_since.map(|since| now.saturating_duration_since(since));
        SourceNumbers {
            lag_s: behind.or(silent).unwrap_or_default().as_secs(),
            heard: self.heard.and_then(unix),
            changed: self.changed.and_then(unix),
            written: self.written.and_then(unix),
            sequence,
        }
    }
}

/// Seconds of Unix.
pub(crate) fn unix(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds after a beginning.
    fn at(began: Instant, after_s: u64) -> Instant {
        began + Duration::from_secs(after_s)
    }

    #[test]
    fn who_is_behind_is_so_since_it_was_first_seen() {
        let began = Instant::now();
        let mut freshness = Freshness::default();
        assert_eq!(freshness.numbers(None, began), SourceNumbers::default());
        freshness.is_behind(true, began);
        freshness.is_behind(true, at(began, 5));
        assert_eq!(freshness.numbers(None, at(began, 6)).lag_s, 6);
        freshness.is_behind(false, at(began, 7));
        let numbers = freshness.numbers(Some(7), at(began, 8));
        assert_eq!(numbers, SourceNumbers { sequence: Some(7), ..SourceNumbers::default() });
    }

    #[test]
    fn who_has_to_ask_and_does_not_is_away() {
        let began = Instant::now();
        let mut freshness = Freshness::default();
        freshness.asked(began);
        assert_eq!(freshness.numbers(None, at(began, 9)).lag_s, 0);
        assert_eq!(freshness.numbers(None, at(began, 12)).lag_s, 12);
        freshness.asked(at(began, 12));
        assert_eq!(freshness.numbers(None, at(began, 13)).lag_s, 0);
    }
}
