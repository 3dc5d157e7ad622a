//! What is sampled, of what is dropped and of what is admitted: in the words of nft(8), beside what enforces and never part of it.
//!
//! Samples go to the group [`GROUP`] of the kernel's log, where nobody but the agent listens.

use std::fmt::Write as _;

use crate::admitted::{self, Admitted};
use crate::bridge::Family;
use crate::drops::reasons;

/// The group of the kernel's log (NFLOG) to which samples go.
pub const GROUP: u16 = 21351;
/// The table of what only looks, of family `inet`.
pub const TABLE: &str = "sgflow-samples";
/// Begins the name of each chain of `table bridge sgflow` and `table inet sgflow` that may sample what is dropped; a reason follows.
pub const CHAIN: &str = "sample-";
/// What iptables reckons a limit in: the number of a second's parts (`XT_LIMIT_SCALE`).
pub(crate) const SCALE: u32 = 10_000;

/// What is sampled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// So many dropped packets of each reason a second.
    pub dropped: u32,
    /// First packets of connections that are admitted.
    pub admitted: Option<Admitted>,
}

impl Samples {
    /// Whether anything is.
    pub fn is_none(&self) -> bool {
        *self == Samples::default()
    }

    /// Makes the tables sample that and nothing else, whatever they did before, in the words of nft(8); of these families' drops.
    pub fn text(&self, families: &[Family]) -> String {
        // So that it is there to be deleted.
        let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
        for family in families {
            for (reason, _) in reasons(*family) {
                _ = writeln!(text, "flush chain {family} sgflow {CHAIN}{reason}");
                if self.dropped > 0 {
                    let sample = sample(self.dropped, reason);
                    _ = writeln!(text, "add rule {family} sgflow {CHAIN}{reason} {sample}");
                }
            }
        }
        if !self.is_none() {
            let admitted = self.admitted.as_ref().map(admitted::chain).unwrap_or_default();
            _ = writeln!(text, "table inet {TABLE} {{\n{admitted}}}");
        }
        text
    }
}

/// The statement that samples.
pub(crate) fn sample(rate: u32, prefix: &str) -> String {
    let burst = burst(rate);
    format!("limit rate {rate}/second burst {burst} packets log prefix \"{prefix}\" group {GROUP}")
}

pub(crate) fn burst(rate: u32) -> u32 {
    // As much as iptables takes (`xt_limit`).
    rate.saturating_mul(2).min(SCALE)
}
