//! How long it takes from an event to the datapath.

use std::time::Duration;

use crate::engine::Stage;

/// Upper ends of what is counted together, in microseconds: from what a change of one flow takes to what is no change any more but an outage.
const BUCKETS_US: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Histograms by stage.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    stages: [Histogram; 3],
}

/// How many changes took how long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Of each bucket, and of what is above them all.
    counts: [u64; BUCKETS_US.len() + 1],
    sum: Duration,
}

impl Latency {
    /// A change has come to this stage, so long after it was received.
    pub(crate) fn observe(&mut self, stage: Stage, time: Duration) {
        self.stages[stage as usize].observe(time);
    }

    /// Each stage with its histogram.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (Stage, &Histogram)> {
        Stage::ALL.into_iter().zip(&self.stages)
    }
}

impl Histogram {
    fn observe(&mut self, time: Duration) {
        let bucket = BUCKETS_US.partition_point(|end| Duration::from_micros(*end) < time);
        self.counts[bucket] += 1;
        self.sum += time;
    }

    /// The upper end of each bucket in microseconds, and how many are in it and in no bucket below; the last has no end.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let ends = BUCKETS_US.into_iter().map(Some).chain([None]);
        ends.zip(self.counts)
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    pub(crate) fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_below_the_end_that_it_does_not_pass() {
        let mut latency = Latency::default();
        for time_us in [0, 500, 501, 30_000_000, 30_000_001] {
            latency.observe(Stage::Applied, Duration::from_micros(time_us));
        }
        let (stage, histogram) = latency.stages().last().expect("stages");
        assert_eq!((stage, histogram.count()), (Stage::Applied, 5));
        assert_eq!(histogram.sum(), Duration::from_micros(60_001_002));
        let counted: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Some(500), 2), (Some(1_000), 1), (Some(30_000_000), 1), (None, 1)]);
        assert!(latency.stages().take(2).all(|(_, other)| other.count() == 0));
    }
}
