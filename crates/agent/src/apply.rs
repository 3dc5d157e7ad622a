//! One convergence, then the end: what `sgflow apply` does, with the same driver as the daemon.

use std::time::Duration;

use policy::PolicyDelta;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::driver::Driver;
use crate::engine::{Consequence, FlowRefused, Report, Waiting};
use crate::host::ClosedInterface;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was refused: flows by the switch, rules by the driver, ports for want of a zone, and interfaces that say
    /// they are a port's and stay closed.
    pub refused: Vec<Report>,
    /// What is worth a word besides.
    pub notes: Vec<Report>,
}

/// Not done: policy that was to be applied is not, or what only looks has not seen all. What the switch holds is as it was, or partly new after a timeout.
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
    #[error("not done within {} s: still waiting for {}", .after.as_secs_f32(), .waiting.as_deref().unwrap_or("an answer"))]
    TimedOut {
        /// The time given.
        after: Duration,
        /// What was waited for in the end.
        waiting: Option<String>,
    },
}

/// Gives the driver its first policy and returns when it is in force, caches included, and nothing is left to do. An
/// interface of a port that the switch has not opened yet is waited for.
pub async fn apply<D: Driver>(
    driver: &mut D,
    policy: PolicyDelta,
    within: Duration,
) -> Result<Applied, ApplyError> {
    settle(driver, policy, within, true).await
}

/// The same of a driver that only looks: what is there is looked at as it is, and an interface that the switch has not opened, as one whose device
/// is gone stays, is closed.
///
/// # Errors
/// As [`apply`].
pub async fn look<D: Driver>(
    driver: &mut D,
    policy: PolicyDelta,
    within: Duration,
) -> Result<Applied, ApplyError> {
    settle(driver, policy, within, false).await
}

async fn settle<D: Driver>(
    driver: &mut D,
    policy: PolicyDelta,
    within: Duration,
    awaits_interfaces: bool,
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
            Report::Settled => {
                let (awaited, closed): (Vec<_>, Vec<_>) =
                    driver.closed().into_iter().partition(ClosedInterface::is_awaited);
                if awaited.is_empty() || !awaits_interfaces {
                    applied.refused.extend(closed.into_iter().map(Report::Closed));
                    return Ok(applied);
                }
                let names: Vec<&str> = awaited.iter().map(|closed| closed.interface.as_str()).collect();
                waiting = Some(format!("ovs-vswitchd to open {}", names.join(", ")));
            }
            Report::Waiting(Waiting::Lock { name }) => return Err(ApplyError::Locked(name)),
            Report::Waiting(unsafe_bridge @ Waiting::FailMode { .. }) => {
                return Err(ApplyError::FailMode(unsafe_bridge));
            }
            Report::FlowRefused(flow) if flow.consequence == Consequence::NothingApplied => {
                return Err(ApplyError::FlowRefused(flow));
            }
            Report::Waiting(what) => waiting = Some(what.to_string()),
            Report::Resumed => waiting = None,
            // Those of ports are looked at in the end.
            Report::Taken(_)
            | Report::Applied(_)
            | Report::Stage(..)
            | Report::Closed(ClosedInterface { port: Some(_), .. }) => {}
            report @ (Report::FlowRefused(_) | Report::RuleRefused(_) | Report::NoZone(..)) => {
                applied.refused.push(report);
            }
            report => applied.notes.push(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use policy::PortId;

    use super::*;
    use crate::engine::{Health, Status};
    use crate::host::Closed;

    /// Settles once for each entry, with these interfaces closed.
    struct Script {
        steps: VecDeque<Vec<ClosedInterface>>,
        now: Vec<ClosedInterface>,
    }

    impl Driver for Script {
        fn name(&self) -> &'static str {
            "script"
        }

        fn policy(&mut self, _delta: PolicyDelta) {}

        async fn report(&mut self) -> Report {
            match self.steps.pop_front() {
                Some(closed) => self.now = closed,
                None => std::future::pending().await,
            }
            Report::Settled
        }

        fn is_plugged(&self, _port: &PortId) -> bool {
            true
        }

        fn plugged(&self) -> Option<BTreeSet<PortId>> {
            None
        }

        fn closed(&self) -> Vec<ClosedInterface> {
            self.now.clone()
        }

        fn health(&self) -> Health {
            Health::default()
        }

        fn status(&self) -> Status {
            Status::default()
        }
    }

    fn tap(error: Option<&str>) -> ClosedInterface {
        let reason = Closed::NotOpened { error: error.map(str::to_owned) };
        ClosedInterface { interface: "tap1".into(), port: Some("p-1".into()), reason }
    }

    async fn outcome(steps: Vec<Vec<ClosedInterface>>) -> Result<Applied, ApplyError> {
        let mut driver = Script { steps: steps.into(), now: Vec::new() };
        apply(&mut driver, PolicyDelta::default(), Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn an_interface_that_is_not_opened_yet_is_waited_for() {
        assert_eq!(outcome(vec![vec![tap(None)], Vec::new()]).await, Ok(Applied::default()));
        let failed = tap(Some("no such device"));
        let applied = outcome(vec![vec![tap(None)], vec![failed.clone()]]).await.unwrap();
        assert_eq!(applied.refused, [Report::Closed(failed)]);
        let late = outcome(vec![vec![tap(None)]]).await.unwrap_err().to_string();
        assert_eq!(late, "not done within 1 s: still waiting for ovs-vswitchd to open tap1");
    }

    #[tokio::test]
    async fn who_only_looks_waits_for_no_interface() {
        let failed = tap(Some("no such device"));
        for (closed, refused) in [(tap(None), Vec::new()), (failed.clone(), vec![Report::Closed(failed)])] {
            let mut driver = Script { steps: [vec![closed]].into(), now: Vec::new() };
            let looked = look(&mut driver, PolicyDelta::default(), Duration::from_secs(1)).await.unwrap();
            assert_eq!(looked.refused, refused);
        }
    }
}
