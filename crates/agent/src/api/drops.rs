//! What is dropped.

use serde::{Deserialize, Serialize};

/// What is asked of `GET /v1/drops`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropsQuery {
    /// Only what is dropped at this port: its id, the name of its interface, or the beginning of its id ([`super::port_called`]).
    pub port: Option<String>,
    /// Only samples with a greater number.
    pub after: Option<u64>,
    /// Who asks comes again and again, and adds up differences: what was read last will do. It cannot be asked for over HTTP.
    #[serde(skip)]
    pub is_scrape: bool,
}

/// The answer to `GET /v1/drops`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drops {
    /// Since when packets are counted, RFC 3339.
    pub since: String,
    /// What is dropped, by reason: all of it, or what is counted at the port that is asked for.
    pub reasons: Vec<ReasonDrops>,
    /// By port and reason: each from its first sample on.
    pub ports: Vec<PortDrops>,
    /// The latest samples, oldest first.
    pub samples: Vec<DropSample>,
    /// Dropped packets of all ports of which a sample came, since the agent began.
    pub sampled: u64,
    /// Dropped packets of all ports of which none came: more were dropped than are sampled.
    pub limited: u64,
    /// Why there are no samples; null if there are.
    pub not_sampled: Option<String>,
}

/// What is dropped for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonDrops {
    /// The reason, in the words of the law.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What is dropped at a port for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDrops {
    /// The port's id.
    pub port: String,
    /// The reason.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// A dropped packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropSample {
    /// Samples are numbered as they come.
    pub number: u64,
    /// When it came, RFC 3339.
    pub time: String,
    /// The port that sent it or was to receive it, if it is known.
    pub port: Option<String>,
    /// The interface of that port.
    pub interface: Option<String>,
    /// Whether the port was to receive it (`ingress`) or sent it (`egress`).
    pub direction: Option<String>,
    /// The reason.
    pub reason: String,
    /// The packet in a line: `tcp 10.0.0.9:40000 -> 10.0.0.5:22`.
    pub packet: String,
}
