//! A driver without its daemon: a change of the policy, put in force.

use std::time::Duration;

use agent::driver::Driver;
use agent::engine::Report;
use policy::PolicyDelta;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// How long a policy may take to be in force on a busy machine.
pub(crate) const IN_FORCE_WITHIN: Duration = Duration::from_secs(60);

/// Not as it should be; everything that the driver said.
#[derive(Debug, Error)]
pub enum NotInForce {
    /// It is not done.
    #[error("the policy is not in force in time; reports: {0:?}")]
    InTime(Vec<Report>),
    /// It left something out.
    #[error("something is refused: {0:?}")]
    Refused(Vec<Report>),
}

/// Returns when the driver has done all that there is to do.
///
/// # Errors
/// It is not done in time, or refuses a rule, a flow or a port.
pub(crate) fn put_in_force<D: Driver>(
    runtime: &Runtime,
    driver: &mut D,
    delta: PolicyDelta,
) -> Result<(), NotInForce> {
    driver.policy(delta);
    let mut reports = Vec::new();
    let settled = runtime.block_on(async {
        let all_reports = async {
            loop {
                match driver.report().await {
                    Report::Settled => return,
                    report => reports.push(report),
                }
            }
        };
        timeout(IN_FORCE_WITHIN, all_reports).await
    });
    let is_refusal = |report: &Report| {
        matches!(report, Report::FlowRefused(_) | Report::RuleRefused(_) | Report::NoZone(..))
    };
    match settled {
        Err(_) => Err(NotInForce::InTime(reports)),
        Ok(()) if reports.iter().any(is_refusal) => Err(NotInForce::Refused(reports)),
        Ok(()) => Ok(()),
    }
}
