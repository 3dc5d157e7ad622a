//! What the datapath is told, by the second and of late.

use std::collections::VecDeque;
use std::time::Duration;

use agent::api::{Changes, LatencyBucket, StageLatency};

/// Of late: how long changes took is told of so much time.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// So many seconds are kept for the picture.
const SECONDS: usize = 512;

/// Answers of the last minute, and what happened in each second of the last minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    marks: VecDeque<Mark>,
    flow_mods: VecDeque<u64>,
}

#[derive(Debug)]
struct Mark {
    at: Duration,
    changes: Changes,
}

/// How long changes took to come to a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// The stage's name.
    pub(super) stage: String,
    /// How many changes these are.
    pub(super) count: u64,
    /// Half of them took no longer, in microseconds; null above all bounds.
    pub(super) half_us: Option<u64>,
    /// Of a hundred 99 took no longer.
    pub(super) most_us: Option<u64>,
}

impl History {
    /// What the daemon has counted by now.
    pub(super) fn take(&mut self, at: Duration, changes: &Changes) {
        if self.marks.back().is_some_and(|last| told(changes) < told(&last.changes)) {
            // It counts from its own begin.
            *self = History::default();
        }
        if let Some(last) = self.marks.back() {
            let rate = per_second(told(changes) - told(&last.changes), at.saturating_sub(last.at));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate to draw")]
            self.flow_mods.push_back(rate.round() as u64);
        }
        self.marks.push_back(Mark { at, changes: changes.clone() });
        while self.marks.get(1).is_some_and(|mark| at.saturating_sub(mark.at) >= WINDOW) {
            self.marks.pop_front();
        }
        while self.flow_mods.len() > SECONDS {
            self.flow_mods.pop_front();
        }
    }

    /// Flow-mods and bundles a second, as of the last two answers.
    pub(super) fn rates(&self) -> Option<(f64, f64)> {
        let mut last = self.marks.iter().rev();
        let (now, before) = (last.next()?, last.next()?);
        let time = now.at.saturating_sub(before.at);
        let rate =
            |of: fn(&Changes) -> u64| per_second(of(&now.changes).saturating_sub(of(&before.changes)), time);
        Some((rate(told), rate(|changes| changes.bundles)))
    }

    /// Flow-mods of each second, oldest first.
    pub(super) fn flow_mods(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
        self.flow_mods.iter().copied()
    }

    /// How long changes took, by stage: those of the last minute, or where there are none those since the daemon began; and which.
    pub(super) fn times(&self) -> (Vec<Times>, bool) {
        let Some(now) = self.marks.back() else { return (Vec::new(), false) };
        let before = self.marks.front().filter(|before| before.at < now.at);
        let recent: Vec<Times> = before
            .map(|before| {
                now.changes.latency.iter().map(|stage| times(stage, before.of(&stage.stage))).collect()
            })
            .unwrap_or_default();
        match recent.iter().any(|times| times.count > 0) {
            true => (recent, true),
            false => (now.changes.latency.iter().map(|stage| times(stage, None)).collect(), false),
        }
    }
}

impl Mark {
    fn of(&self, stage: &str) -> Option<&StageLatency> {
        self.changes.latency.iter().find(|latency| latency.stage == stage)
    }
}

/// Flow-mods.
fn told(changes: &Changes) -> u64 {
    changes.added + changes.modified + changes.deleted
}

/// So many in a time.
#[allow(clippy::cast_precision_loss, reason = "a rate to look at")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

fn times(now: &StageLatency, before: Option<&StageLatency>) -> Times {
    let counted = |bucket: &LatencyBucket| {
        let known = before.into_iter().flat_map(|before| &before.buckets);
        let known = known.filter(|known| known.most_us == bucket.most_us).map(|known| known.count).sum();
        bucket.count.saturating_sub(known)
    };
    let buckets: Vec<(Option<u64>, u64)> =
        now.buckets.iter().map(|bucket| (bucket.most_us, counted(bucket))).collect();
    let count: u64 = buckets.iter().map(|(_, count)| count).sum();
    let within = |percent: u64| {
        let mut left = (count * percent).div_ceil(100);
        let bucket = buckets.iter().find(|(_, count)| {
            left = left.saturating_sub(*count);
            left == 0
        });
        bucket.and_then(|(end, _)| *end)
    };
    Times { stage: now.stage.clone(), count, half_us: within(50), most_us: within(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(added: u64, counts: [u64; 3]) -> Changes {
        let ends = [Some(1_000), Some(10_000), None];
        let buckets = ends.into_iter().zip(counts).map(|(most_us, count)| LatencyBucket { most_us, count });
        let buckets = buckets.collect();
        let applied =
            StageLatency { stage: "applied".into(), count: counts.iter().sum(), sum_us: 0, buckets };
        Changes { added, bundles: added / 10, latency: vec![applied], ..Changes::default() }
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn rates_are_of_the_time_between_two_answers() {
        let mut history = History::default();
        assert_eq!(history.rates(), None);
        history.take(second(0), &changes(1000, [0; 3]));
        assert_eq!(history.rates(), None, "what was told before is in no second");
        history.take(second(2), &changes(1200, [0; 3]));
        assert_eq!(history.rates(), Some((100.0, 10.0)));
        history.take(second(3), &changes(1200, [0; 3]));
        assert_eq!(history.flow_mods().collect::<Vec<_>>(), [100, 0]);
    }

    #[test]
    fn a_daemon_that_begins_anew_counts_from_its_begin() {
        let mut history = History::default();
        history.take(second(0), &changes(1000, [5, 0, 0]));
        history.take(second(1), &changes(90, [1, 0, 0]));
        assert_eq!(history.rates(), None);
        let (times, is_recent) = history.times();
        assert_eq!((times[0].count, is_recent), (1, false));
    }

    #[test]
    fn times_are_those_of_the_last_minute_if_there_are_any() {
        let mut history = History::default();
        history.take(second(0), &changes(0, [100, 0, 0]));
        let before =
            Times { stage: "applied".into(), count: 100, half_us: Some(1_000), most_us: Some(1_000) };
        assert_eq!(history.times(), (vec![before.clone()], false));
        history.take(second(1), &changes(0, [101, 98, 1]));
        let since = Times { half_us: Some(10_000), most_us: Some(10_000), ..before.clone() };
        assert_eq!(history.times(), (vec![since], true));
        history.take(second(2), &changes(0, [101, 98, 3]));
        assert_eq!(history.times().0[0].most_us, None, "two of 102 took longer than there is a bound for");
        for at in 3..64 {
            history.take(second(at), &changes(0, [101, 98, 3]));
        }
        assert!(!history.times().1, "the last change is more than a minute ago");
    }
}
