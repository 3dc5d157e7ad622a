//! What the firewall drops, as it was told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent::api::{ClientError, DropSample, Drops};

use super::rates::per_second;

/// So many samples are kept, the newest.
const SAMPLES: usize = 1000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct DropsSeen {
    /// Told last, without its samples.
    told: Option<(Duration, Drops)>,
    reasons: BTreeMap<String, Count>,
    ports: BTreeMap<String, BTreeMap<String, Count>>,
    samples: VecDeque<DropSample>,
    /// Why nothing is told.
    pub(super) untold: Option<String>,
}

/// How many packets, and how many of them by the second of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) per_second: f64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.packets += other.packets;
        self.per_second += other.per_second;
    }
}

impl DropsSeen {
    /// The number of the newest sample.
    pub(super) fn newest(&self) -> u64 {
        self.samples.back().map_or(0, |sample| sample.number)
    }

    /// What the daemon says, or why it does not.
    pub(super) fn take(&mut self, at: Duration, answer: Result<Drops, ClientError>) {
        let mut drops = match answer {
            Ok(drops) => drops,
            Err(ClientError::Refused { code, .. }) if code.as_u16() == 404 => {
                *self = DropsSeen {
                    untold: Some("this agent does not tell of drops".into()),
                    ..DropsSeen::default()
                };
                return;
            }
            Err(reason) => {
                self.untold = Some(reason.to_string());
                return;
            }
        };
        self.untold = None;
        let is_anew = |told: &Drops| told.since != drops.since || drops.sampled < told.sampled;
        if self.told.as_ref().is_some_and(|(_, told)| is_anew(told)) {
            // Another run of the daemon, with numbers of its own: it was asked for what is after one of the other's.
            *self = DropsSeen::default();
            drops.samples.clear();
        }
        self.count(at, &drops);
        let newest = self.newest();
        self.samples.extend(std::mem::take(&mut drops.samples).into_iter().filter(|new| new.number > newest));
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.told = Some((at, drops));
    }

    fn count(&mut self, at: Duration, drops: &Drops) {
        let before = self.told.as_ref().map(|(before, _)| at.saturating_sub(*before));
        // What is new since the last answer; of the first one nobody knows when it was.
        let count = |known: Option<Count>, packets: u64| {
            let known = known.map_or(0, |known| known.packets);
            let per_second = before.map_or(0.0, |time| per_second(packets.saturating_sub(known), time));
            Count { packets, per_second }
        };
        let reasons = drops
            .reasons
            .iter()
            .map(|of| (of.reason.clone(), count(self.reasons.get(&of.reason).copied(), of.packets)));
        let reasons = reasons.collect();
        let mut ports: BTreeMap<String, BTreeMap<String, Count>> = BTreeMap::new();
        for of in &drops.ports {
            let known = self.ports.get(&of.port).and_then(|reasons| reasons.get(&of.reason)).copied();
            ports.entry(of.port.clone()).or_default().insert(of.reason.clone(), count(known, of.packets));
        }
        (self.reasons, self.ports) = (reasons, ports);
    }

    /// Of the bridge by reason, most first.
    pub(super) fn reasons(&self) -> Vec<(&str, Count)> {
        by_count(&self.reasons)
    }

    /// Of a port by reason, most first.
    pub(super) fn of_port(&self, port: &str) -> Vec<(&str, Count)> {
        self.ports.get(port).map(by_count).unwrap_or_default()
    }

    /// Of a port in sum, if any are known.
    pub(super) fn sum_of_port(&self, port: &str) -> Option<Count> {
        self.ports.get(port).map(|reasons| sum(reasons.values()))
    }

    /// Of the bridge in sum.
    pub(super) fn sum(&self) -> Count {
        sum(self.reasons.values())
    }

    /// Samples, newest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = &DropSample> {
        self.samples.iter().rev()
    }

    /// What was told last, its samples apart.
    pub(super) fn told(&self) -> Option<&Drops> {
        self.told.as_ref().map(|(_, drops)| drops)
    }
}

fn sum<'a>(counts: impl Iterator<Item = &'a Count>) -> Count {
    counts.fold(Count::default(), |mut sum, count| {
        sum += *count;
        sum
    })
}

fn by_count(counts: &BTreeMap<String, Count>) -> Vec<(&str, Count)> {
    let mut counts: Vec<(&str, Count)> = counts
        .iter()
        .filter(|(_, count)| count.packets > 0)
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.packets));
    counts
}

#[cfg(test)]
mod tests {
    use agent::api::{PortDrops, ReasonDrops};

    use super::*;

    fn drops(since: &str, packets: u64, samples: &[u64]) -> Drops {
        let sample = |number: &u64| DropSample {
            number: *number,
            time: "2026-11-29T05:20:01.120Z".into(),
            port: None,
            interface: None,
            direction: None,
            reason: "no-rule".into(),
            packet: "tcp 10.0.0.9:40000 -> 10.0.0.1:22".into(),
        };
        Drops {
            since: since.into(),
            reasons: vec![ReasonDrops { reason: "no-rule".into(), packets, bytes: 0 }],
            ports: vec![PortDrops { port: "p-1".into(), reason: "no-rule".into(), packets, bytes: 0 }],
            samples: samples.iter().map(sample).collect(),
            ..Drops::default()
        }
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn counts_and_samples_follow_the_answers() {
        let mut seen = DropsSeen::default();
        seen.take(second(0), Ok(drops("a", 10, &[1, 2])));
        assert_eq!(seen.sum(), Count { packets: 10, per_second: 0.0 });
        seen.take(second(2), Ok(drops("a", 30, &[2, 3])));
        assert_eq!(seen.sum_of_port("p-1"), Some(Count { packets: 30, per_second: 10.0 }));
        assert_eq!(seen.samples().map(|sample| sample.number).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(seen.newest(), 3);
        seen.take(second(3), Ok(drops("b", 4, &[4])));
        assert_eq!(seen.sum(), Count { packets: 4, per_second: 0.0 });
        assert_eq!(seen.newest(), 0, "all samples of the new run are asked for");
        seen.take(second(4), Ok(drops("b", 4, &[1])));
        assert_eq!(seen.newest(), 1);
    }

    #[test]
    fn no_more_samples_are_kept_than_are_told() {
        let mut seen = DropsSeen::default();
        for at in 0..4 {
            let numbers: Vec<u64> = (at * 500 + 1..=at * 500 + 500).collect();
            seen.take(second(at), Ok(drops("a", 1, &numbers)));
        }
        assert_eq!((seen.samples().count(), seen.newest()), (SAMPLES, 2000));
    }

    #[test]
    fn an_agent_that_knows_no_drops_is_none_that_fails() {
        let mut seen = DropsSeen::default();
        let refused = ClientError::Refused {
            path: "/s".into(),
            code: "404".parse().expect("a code"),
            text: String::new(),
        };
        seen.take(second(0), Err(refused));
        assert_eq!(seen.untold.as_deref(), Some("this agent does not tell of drops"));
        assert!(seen.told().is_none());
    }
}
