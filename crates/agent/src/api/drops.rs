//! What the firewall drops.

use serde::{Deserialize, Serialize};

/// The answer to `GET /v1/drops`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drops {
    /// From when on it is counted at the latest, in UTC (RFC 3339).
    pub since: String,
    /// Of the whole bridge, by reason.
    pub reasons: Vec<ReasonDrops>,
    /// Of each port and reason, from its first sample on.
    pub ports: Vec<PortDrops>,
    /// The last of them, oldest first.
    pub samples: Vec<DropSample>,
    /// How many dropped packets were sampled.
    pub sampled: u64,
    /// How many were not, as there were too many at a time.
    pub limited: u64,
    /// Why there are no samples, if so.
    pub not_sampled: Option<String>,
}

/// Packets dropped for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReasonDrops {
    /// By its name in `docs/pipeline.md`.
    pub reason: String,
    /// How many.
    pub packets: u64,
    /// Of so many bytes.
    pub bytes: u64,
}

/// Packets of a port dropped for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortDrops {
    /// The port.
    pub port: String,
    /// As of [`ReasonDrops`].
    pub reason: String,
    /// How many.
    pub packets: u64,
    /// Of so many bytes.
    pub bytes: u64,
}

/// One packet that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DropSample {
    /// Its number, which grows.
    pub number: u64,
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// Whose it was, if that is known.
    pub port: Option<String>,
    /// `ingress` to the port or `egress` from it, if that is known.
    pub direction: Option<String>,
    /// As of [`ReasonDrops`].
    pub reason: String,
    /// The packet in words.
    pub packet: String,
}
