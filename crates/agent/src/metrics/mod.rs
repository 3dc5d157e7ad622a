//! What the daemon counts, for Prometheus: `docs/operations/metrics.md` has every series.
//!
//! On the way of a change nothing is counted that takes longer on a larger host. A scrape asks the daemon's loop for a [`Snapshot`], as
//! `sgflow status` does, and makes text of it elsewhere.

mod exposition;
mod latency;
mod server;

use crate::api::{Drops, SetFill, Status};
use crate::engine::Facts;

pub(crate) use latency::Histogram;
pub use latency::Latency;
pub use server::serve;

/// All that a scrape tells.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How the daemon is.
    pub status: Status,
    /// What the driver counts.
    pub facts: Facts,
    /// The fullest of the kernel's sets, fullest first, no more than [`FULLEST`].
    pub fills: Vec<SetFill>,
    /// How long changes took.
    pub latency: Latency,
    /// How the source is, in numbers.
    pub source: SourceNumbers,
    /// Flows, rules and elements that others had changed and that were put right; sets, where nobody counted what was in them.
    pub drift: u64,
    /// What was dropped since the first scrape, if somebody counts it.
    pub drops: Option<Drops>,
}

/// So many of the kernel's sets have series of their own: as many hosts, each with as many sets as it has groups, would be too many.
pub const FULLEST: usize = 50;

/// How the source is, in numbers. Times are of Unix, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceNumbers {
    /// How long the policy has not been what the source says, in seconds; 0 if it is.
    pub lag_s: u64,
    /// When it was heard of last.
    pub heard: Option<u64>,
    /// When the policy changed last.
    pub changed: Option<u64>,
    /// When the newest document was written.
    pub written: Option<u64>,
    /// Of the last change that was taken.
    pub sequence: Option<u64>,
}
