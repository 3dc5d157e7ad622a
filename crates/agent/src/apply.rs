//! One convergence, then the end: what `sgflow apply` does, with the same driver as the daemon.

use std::time::Duration;

use policy::PolicyDelta;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::driver::Driver;
use crate::engine::{Consequence, FlowRefused, Report, Waiting};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was refused on the way: flows by the switch, rules by the driver, ports for want of a zone.
    pub refused: Vec<Report>,
    /// What is worth a word besides.
    pub notes: Vec<Report>,
}

/// Not applied. What the switch holds is as it was, or partly new after a timeout.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// Another sgflow has the bridge.
    #[error("not applied: another sgflow (the agent?) holds the database lock {0} for this bridge")]
    Locked(String),
    /// The bridge is not safe.
    #[error("refused: waiting for {0}")]
    FailMode(Waiting),
    /// The switch refused a flow without which nothing works.
    #[error("{0}")]
    FlowRefused(FlowRefused),
    /// Not within the time given.
    #[error("not applied within {} s: still waiting for {}", .after.as_secs_f32(), .waiting.as_deref().unwrap_or("an answer"))]
    TimedOut {
        /// The time given.
        after: Duration,
        /// What was waited for in the end.
        waiting: Option<String>,
    },
}

/// Gives the driver its first policy and returns when it is in force, caches included, and nothing is left to do.
pub async fn apply<D: Driver>(
    driver: &mut D,
    policy: PolicyDelta,
    within: Duration,
) -> Result<Applied, ApplyError> {
    let deadline = Instant::now() + within;
    let mut applied = Applied::default();
    let mut waiting = None;
    driver.policy(policy);
    loop {
        let Ok(report) = timeout_at(deadline, driver.report()).await else {
            return Err(ApplyError::TimedOut { after: within, waiting });
        };
        match report {
            Report::Settled => return Ok(applied),
            Report::Waiting(Waiting::Lock { name }) => return Err(ApplyError::Locked(name)),
            Report::Waiting(unsafe_bridge @ Waiting::FailMode { .. }) => {
                return Err(ApplyError::FailMode(unsafe_bridge));
            }
            Report::FlowRefused(flow) if flow.consequence == Consequence::NothingApplied => {
                return Err(ApplyError::FlowRefused(flow));
            }
            Report::Waiting(what) => waiting = Some(what.to_string()),
            Report::Resumed => waiting = None,
            Report::Applied(_) => {}
            report @ (Report::FlowRefused(_) | Report::RuleRefused(_) | Report::NoZone(..)) => {
                applied.refused.push(report);
            }
            report => applied.notes.push(report),
        }
    }
}
