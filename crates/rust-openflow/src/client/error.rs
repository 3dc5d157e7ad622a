//! What can go wrong between a program and its switch.

use std::fmt;

use crate::connection::{Answer, BundleRefusal, ConnectionError, RequestError};
use crate::error::{EncodeError, ParseError};
use crate::message::{FlowMod, OfError};

/// Characters of a flow that an error's text shows; the flow itself is in the error.
const MAX_SHOWN: usize = 400;

/// Why a call failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientError {
    /// The target's text is no target.
    #[error(transparent)]
    Target(ParseError),
    /// The transport could not be opened, or failed.
    #[error("{target}: {error}")]
    Io {
        /// Where the switch listens.
        target: String,
        /// The system's words.
        error: String,
    },
    /// The switch did not greet in time.
    #[error("{target}: no OpenFlow hello in time")]
    Timeout {
        /// Where the switch listens.
        target: String,
    },
    /// The switch closed the connection.
    #[error("{target}: the switch closed the connection")]
    ClosedBySwitch {
        /// Where the switch listens.
        target: String,
    },
    /// This side closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The switch refused the request, or its answer is no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request cannot be said in OpenFlow.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The switch broke the protocol.
    #[error("the switch broke the protocol: {0}")]
    Protocol(String),
}

impl ClientError {
    pub(super) fn unexpected(answer: &Answer) -> Self {
        let kind = match answer {
            Answer::Done => "done",
            Answer::Features(_) => "features",
            Answer::Config(_) => "configuration",
            Answer::Flows(_) => "flows",
            Answer::Ports(_) => "ports",
            Answer::Meters(_) => "meters",
            Answer::Updates(_) => "flow updates",
            Answer::Echo => "echo",
        };
        ClientError::Protocol(format!("an answer of another kind ({kind})"))
    }

    /// The switch's error, if it refused the request.
    #[must_use]
    pub fn of_error(&self) -> Option<OfError> {
        match self {
            ClientError::Request(error) => error.of_error(),
            _ => None,
        }
    }
}

/// A bundle had no effect, or nobody knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleError {
    /// The flow-mods that the switch refused, at most a thousand.
    pub failed: Vec<FailedFlow>,
    /// How many it refused.
    pub n_failed: usize,
    /// Whether anything may have changed.
    pub outcome: BundleOutcome,
    /// Why, where no flow-mod is to blame.
    pub reason: String,
}

/// Whether a bundle that failed may have changed anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BundleOutcome {
    /// Nothing changed.
    Refused,
    /// The answer to the commit never came: all of it took effect, or nothing. Read the flows back.
    Unknown,
}

/// A flow-mod that the switch refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedFlow {
    /// Its place in the bundle.
    pub index: usize,
    /// The flow-mod in ovs-ofctl's words.
    pub flow: String,
    /// Why.
    pub error: OfError,
}

impl BundleError {
    pub(super) fn refused(reason: String) -> Self {
        BundleError { failed: Vec::new(), n_failed: 0, outcome: BundleOutcome::Refused, reason }
    }

    pub(super) fn unknown(reason: String) -> Self {
        BundleError { outcome: BundleOutcome::Unknown, ..Self::refused(reason) }
    }

    pub(super) fn of_refusal(
        refusal: &BundleRefusal,
        count: usize,
        flow_mod: impl Fn(usize) -> FlowMod,
    ) -> Self {
        let text = |index: usize| (index < count).then(|| flow_mod(index).to_string());
        let failed = refusal.failed.iter().map(|failure| FailedFlow {
            index: failure.index,
            flow: text(failure.index).unwrap_or_default(),
            error: failure.error.error,
        });
        BundleError {
            failed: failed.collect(),
            n_failed: refusal.n_failed,
            outcome: BundleOutcome::Refused,
            reason: refusal.bundle_error.map(|error| error.to_string()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            BundleOutcome::Refused => out.write_str("the bundle was refused, nothing changed")?,
            BundleOutcome::Unknown => out.write_str("the bundle's outcome is unknown")?,
        }
        if !self.reason.is_empty() {
            write!(out, ": {}", self.reason)?;
        }
        for failed in self.failed.iter().take(3) {
            let flow: String = failed.flow.chars().take(MAX_SHOWN).collect();
            let more = if flow.len() < failed.flow.len() { "…" } else { "" };
            write!(out, "; {} for message {}: {flow}{more}", failed.error, failed.index)?;
        }
        if self.n_failed > 3 {
            write!(out, "; and {} more", self.n_failed - 3)?;
        }
        Ok(())
    }
}

impl std::error::Error for BundleError {}
