//! How long to wait before the next attempt to connect: doubling, bounded, with jitter that comes from outside.

use std::time::Duration;

/// A number from 0 to 999, by chance, that spreads the attempts of many clients over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// Steps of a jitter.
    const STEPS: u16 = 1000;

    /// Any number, reduced to the range.
    pub const fn new(random: u64) -> Self {
        // The remainder is below 1,000; the bytes that are dropped are zero.
        let bytes = (random % Self::STEPS as u64).to_le_bytes();
        Self(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

/// The bounds of the wait between attempts to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffRange {
    /// Wait after the first failure.
    pub shortest: Duration,
    /// The wait doubles up to this.
    pub longest: Duration,
}

impl Default for BackoffRange {
    /// 0.5 s to 8 s.
    fn default() -> Self {
        Self { shortest: Duration::from_millis(500), longest: Duration::from_secs(8) }
    }
}

/// The wait that comes next.
#[derive(Debug, Clone)]
pub struct Backoff {
    range: BackoffRange,
    next: Duration,
}

impl Backoff {
    /// Begins with the shortest wait.
    pub const fn new(range: BackoffRange) -> Self {
        Self { range, next: range.shortest }
    }

    /// The wait after a failure: from half of the present step up to all of it. The next step is twice as long.
    pub fn after_failure(&mut self, jitter: Jitter) -> Duration {
        let step = self.next.min(self.range.longest);
        self.next = step.saturating_mul(2).min(self.range.longest);
        let half = step / 2;
        half + half * u32::from(jitter.0) / u32::from(Jitter::STEPS)
    }

    /// A connection was good: begin with the shortest wait again.
    pub const fn reset(&mut self) {
        self.next = self.range.shortest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let range = BackoffRange { shortest: Duration::from_secs(1), longest: Duration::from_secs(5) };
        let mut backoff = Backoff::new(range);
        let mut waits =
            || (0..5).map(|_| backoff.after_failure(Jitter::new(0)).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(), [500, 1000, 2000, 2500, 2500]);
        backoff.reset();
        assert_eq!(backoff.after_failure(Jitter::new(500)), Duration::from_millis(750));
    }

    proptest! {
        #[test]
        fn waits_stay_between_half_the_shortest_and_the_longest(
            shortest in 1_u64..10_000, more in 0_u64..100_000, randoms in prop::collection::vec(any::<u64>(), 1..30),
        ) {
            let range = BackoffRange {
                shortest: Duration::from_millis(shortest),
                longest: Duration::from_millis(shortest + more),
            };
            let mut backoff = Backoff::new(range);
            for random in randoms {
                let wait = backoff.after_failure(Jitter::new(random));
                prop_assert!(wait >= range.shortest / 2 && wait <= range.longest, "{wait:?}");
            }
        }
    }
}
