//! The driver that enforces nothing: policies are read and checked, no datapath is touched.

use std::collections::{BTreeSet, VecDeque};

use policy::{PolicyDelta, PortId};

use super::Driver;
use crate::engine::{Health, Report, Sent, Status};
use crate::host::ClosedInterface;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Noop {
    reports: VecDeque<Report>,
}

impl Driver for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    fn policy(&mut self, _delta: PolicyDelta) {
        // Two reports at most: nobody needs to hear twice that nothing was done.
        self.reports = [Report::Applied(Sent::default()), Report::Settled].into();
    }

    async fn report(&mut self) -> Report {
        match self.reports.pop_front() {
            Some(report) => report,
            None => std::future::pending().await,
        }
    }

    fn is_plugged(&self, _port: &PortId) -> bool {
        true
    }

    /// None is known of.
    fn plugged(&self) -> Option<BTreeSet<PortId>> {
        Some(BTreeSet::new())
    }

    fn closed(&self) -> Vec<ClosedInterface> {
        Vec::new()
    }

    fn health(&self) -> Health {
        Health { settled: true, ..Health::default() }
    }

    fn status(&self) -> Status {
        Status::default()
    }
}
