//! The daemon: source and driver, and what is told of them.

use std::future::Future;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::driver::Driver;
use crate::engine::{Consequence, Report};
use crate::source::{DocumentsError, Update};

/// Keeps the datapath as the source says, until `shutdown`. The datapath stays as it is then.
pub async fn run<D: Driver>(
    driver: &mut D,
    mut updates: mpsc::Receiver<Result<Update, DocumentsError>>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut source_lives = true;
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            update = updates.recv(), if source_lives => match update {
                Some(Ok(update)) => {
                    tell_update(&update);
                    if let Some(delta) = update.delta {
                        driver.policy(delta);
                    }
                }
                Some(Err(reason)) => error!(%reason, "no policy to be read; the one in force stays"),
                None => {
                    error!("the policy source ended; the policy in force stays");
                    source_lives = false;
                }
            },
            report = driver.report() => tell(&report),
        }
    }
}

/// One line for each problem of a document.
fn tell_update(update: &Update) {
    for diagnostic in &update.diagnostics {
        error!(%diagnostic, "policy");
    }
    for object in &update.refused {
        warn!(%object, "refused: it stays as it was, or closed if it is new");
    }
    match &update.delta {
        Some(delta) => {
            let [groups, address_groups, ports] = update.counts;
            let changed = delta.groups.len() + delta.address_groups.len() + delta.ports.len();
            info!(groups, address_groups, ports, changed, "policy read");
        }
        None => error!("the documents were refused whole; the policy in force stays"),
    }
}

/// One line for a report.
pub fn tell(report: &Report) {
    match report {
        Report::Waiting(what) => warn!(%what, "waiting"),
        Report::Resumed => info!("what was waited for is there"),
        Report::Applied(sent) => info!(
            added = sent.added,
            modified = sent.modified,
            deleted = sent.deleted,
            bundles = sent.bundles,
            "applied"
        ),
        Report::Settled => {}
        Report::FlowRefused(refused) => match refused.consequence {
            Consequence::NothingApplied => error!("{refused}"),
            Consequence::PortClosed(_) | Consequence::LeftOut => warn!("{refused}"),
        },
        Report::RuleRefused(rule) => {
            warn!(group = %rule.group, rule = %rule.rule, reason = rule.reason, "a rule is refused: it admits nothing");
        }
        // Every device that is plugged in is closed until the switch has opened it.
        Report::Closed(closed) if closed.port.is_none() || closed.is_awaited() => {
            info!(interface = closed.interface, reason = %closed.reason, "closed");
        }
        Report::Closed(closed) => warn!("{closed}"),
        Report::NoPolicy(port) => warn!(%port, "closed: no policy knows the port"),
        Report::NoZone(port, reason) => error!(%port, %reason, "closed: no conntrack zone is left"),
        Report::SwitchLost(reason) => warn!(reason, "the connection to the switch is gone"),
        Report::DatabaseLost(reason) => warn!(reason, "the connection to the database is gone"),
        Report::WriteFailed(reason) => warn!(reason, "the database refused a change; trying again"),
        Report::RevalidationWaited { reason, time } => {
            let waited_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            warn!(reason, waited_ms, "the datapath's caches could not be asked; waited instead");
        }
        Report::FailModeChanged(fail_mode) => error!(
            fail_mode,
            "the bridge's fail_mode is not secure any more: ovs-vswitchd drops all of its flows with the change, and \
             forwards everything whenever it has none of ours, until they are put back"
        ),
        Report::Drifted(sent) => warn!(
            missing = sent.added,
            changed = sent.modified,
            unwanted = sent.deleted,
            "the switch's flows are not as they were left; putting them right"
        ),
        Report::ForeignFlows { count, example } => {
            warn!(
                count,
                example, "flows of others stand among or before ours; frames may go round the firewall"
            );
        }
    }
}
