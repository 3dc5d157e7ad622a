//! What was seen: counts by port and reason, the latest samples. Pure.

use std::collections::{BTreeMap, VecDeque};

use policy::evaluator::Frame;
use policy::{Direction, PortId};
use tokio::sync::oneshot;

use crate::api::{DropSample, Drops, DropsQuery, PortDrops, ReasonDrops, rfc3339};

/// So many samples are kept.
pub(super) const SAMPLES: usize = 1000;

/// A frame that a sample shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// The local port concerned.
    pub(super) port: Option<PortId>,
    /// The interface that it is plugged in by.
    pub(super) interface: Option<String>,
    /// Whether the port sent it or was to receive it.
    pub(super) direction: Option<Direction>,
    /// What became of it.
    pub(super) fate: Fate,
    /// The frame, as far as the sample goes.
    pub(super) frame: Frame,
    /// Bytes of the whole frame.
    pub(super) length: u32,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    /// Dropped, for a reason of the law.
    Dropped(&'static str),
    /// Admitted as the first of its connection.
    Admitted,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What the datapath has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of all ports, by reason.
    pub(super) reasons: BTreeMap<&'static str, Count>,
    /// By port and reason.
    pub(super) ports: BTreeMap<(PortId, &'static str), Count>,
    /// Since when, in seconds of Unix.
    pub(super) since: u64,
    /// Dropped packets that a sample could have been taken of, since the first was.
    pub(super) could_be_sampled: u64,
    /// First packets that were admitted where the log asks for them, since then.
    pub(super) could_be_logged: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) counts: Counts,
    samples: VecDeque<DropSample>,
    number: u64,
    sampled: u64,
    /// Why no samples are taken.
    pub(super) not_sampled: Option<String>,
    /// What was counted when the first scrape came.
    scraped: Option<BTreeMap<&'static str, Count>>,
}

impl Book {
    /// A dropped frame, at a time in seconds of Unix.
    pub(super) fn take(&mut self, seen: &Sighting, reason: &'static str, now: u64) {
        self.number += 1;
        self.sampled += 1;
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(DropSample {
            number: self.number,
            time: rfc3339(now),
            port: seen.port.as_ref().map(ToString::to_string),
            interface: seen.interface.clone(),
            direction: seen.direction.map(|direction| direction.to_string()),
            reason: reason.to_owned(),
            packet: seen.frame.to_string(),
        });
    }

    /// Dropped packets of which no sample came: the limit of samples, or a connection that was not there.
    pub(super) fn limited(&self) -> u64 {
        // What the switch counts is behind what it sends.
        self.counts.could_be_sampled.saturating_sub(self.sampled)
    }

    /// Answers, unless there is nothing to tell yet.
    pub(super) fn tell(&mut self, query: &DropsQuery, answer: oneshot::Sender<Drops>) {
        let drops = if query.is_scrape { self.scrape() } else { Some(self.answer(query)) };
        if let Some(drops) = drops {
            // Who asked may be gone.
            _ = answer.send(drops);
        }
    }

    /// For who adds up differences: what has come since the first time, since what the datapath counts outlives the agent, and what this one has of
    /// tables that are gone does not. None while nothing was counted.
    fn scrape(&mut self) -> Option<Drops> {
        if self.counts.since == 0 {
            return None;
        }
        let begun = self.scraped.get_or_insert_with(|| self.counts.reasons.clone());
        let since = |(reason, count): (&&'static str, &Count)| {
            let begun = begun.get(reason).copied().unwrap_or_default();
            ReasonDrops {
                reason: (*reason).to_owned(),
                packets: count.packets.saturating_sub(begun.packets),
                bytes: count.bytes.saturating_sub(begun.bytes),
            }
        };
        let reasons = self.counts.reasons.iter().map(since).collect();
        Some(Drops { reasons, sampled: self.sampled, ..Drops::default() })
    }

    /// What is asked for; the port by its id. Of one port the reasons are its own.
    pub(super) fn answer(&self, query: &DropsQuery) -> Drops {
        let is_its = |port: &str| query.port.as_deref().is_none_or(|wanted| wanted == port);
        let ports =
            self.counts.ports.iter().filter(|((port, _), count)| is_its(port.as_str()) && count.packets > 0);
        let reasons: BTreeMap<&str, Count> = match query.port {
            Some(_) => ports.clone().map(|((_, reason), count)| (*reason, *count)).collect(),
            None => self.counts.reasons.iter().map(|(reason, count)| (*reason, *count)).collect(),
        };
        let reasons = reasons.into_iter().filter(|(_, count)| count.packets > 0);
        let after = query.after.unwrap_or(0);
        let is_asked = |sample: &&DropSample| {
            sample.number > after && (query.port.is_none() || sample.port.as_deref().is_some_and(is_its))
        };
        let samples = self.samples.iter().filter(is_asked);
        Drops {
            since: rfc3339(self.counts.since),
            reasons: reasons
                .map(|(reason, count)| ReasonDrops {
                    reason: reason.to_owned(),
                    packets: count.packets,
                    bytes: count.bytes,
                })
                .collect(),
            ports: ports
                .map(|((port, reason), count)| PortDrops {
                    port: port.to_string(),
                    reason: (*reason).to_owned(),
                    packets: count.packets,
                    bytes: count.bytes,
                })
                .collect(),
            samples: samples.cloned().collect(),
            sampled: self.sampled,
            limited: self.limited(),
            not_sampled: self.not_sampled.clone(),
        }
    }
}
