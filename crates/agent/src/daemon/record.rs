//! What the loop knows of the source and has counted, and what is said of it.

use std::time::{Instant, SystemTime};

use neutron::rpc::State;
use policy::document::Diagnostic;

use super::Source;
use crate::api::{Changes, Condition, Drift, SourceStatus, Status, Totals, rfc3339};
use crate::driver::Driver;
use crate::engine::{self, Fault, Report, SecurityEffect};
use crate::metrics::{FULLEST, Latency, Snapshot, SourceNumbers};
use crate::source::{DocumentsError, DriverCalls, Freshness, RpcUpdate, Store, Update, unix};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// As `policy.source` in the settings.
    kind: &'static str,
    /// What is wrong with the policy as it was read or told last, of sources that do not remember it themselves.
    faults: Vec<Fault>,
    /// How many objects these refuse.
    refused: usize,
    freshness: Freshness,
    /// Flows, rules and elements that were put right, and when last in seconds of Unix.
    drift: (u64, Option<u64>),
    latency: Latency,
}

impl Record {
    /// Nothing was heard of this source yet.
    pub(super) fn of(source: &Source) -> Self {
        let kind = match source {
            Source::Documents(_) => "file",
            Source::NeutronDriver(_) => "neutron-driver",
            Source::Store(_) => "store",
            Source::NeutronRpc(_) => "neutron-rpc",
        };
        let mut record = Record { kind, ..Record::default() };
        // Until it is known what the source says.
        let is_told = matches!(source, Source::NeutronDriver(_));
        record.freshness.is_behind(!is_told, Instant::now());
        record
    }

    /// Documents were read.
    pub(super) fn read(&mut self, update: &Update) {
        self.faults = match &update.delta {
            Some(_) => update.diagnostics.iter().map(of_diagnostic).collect(),
            None => vec![kept("policy documents", "refused whole".to_owned())],
        };
        self.refused = update.refused.len();
        self.freshness.written(update.written);
        self.freshness.is_behind(update.delta.is_none(), Instant::now());
        match &update.delta {
            Some(_) => self.freshness.changed(),
            None => self.freshness.heard(),
        }
    }

    /// Documents could not be read.
    pub(super) fn unreadable(&mut self, reason: &DocumentsError) {
        self.faults = vec![kept("policy documents", reason.to_string())];
        self.freshness.is_behind(true, Instant::now());
    }

    /// neutron-server was followed.
    pub(super) fn followed(&mut self, update: &RpcUpdate) {
        let of_source = update.faults.iter().map(|fault| kept(&fault.object, fault.reason.clone()));
        let refused = update.refused.iter();
        let refused =
            refused.map(|refused| kept(&refused.object, format!("{}: {}", refused.field, refused.reason)));
        self.faults = of_source.chain(refused).collect();
        self.refused = update.refused.len();
        self.freshness.is_behind(update.state != State::Following, Instant::now());
        match &update.delta {
            Some(_) => self.freshness.changed(),
            None => self.freshness.heard(),
        }
    }

    /// The store was heard of.
    pub(super) fn heard(&mut self) {
        self.freshness.heard();
    }

    /// The store was looked at, and has perhaps changed the policy.
    pub(super) fn store(&mut self, store: Option<&Store>, is_changed: bool) {
        let Some(store) = store else { return };
        self.freshness.is_behind(store.is_behind(), Instant::now());
        if is_changed {
            self.freshness.changed();
        }
    }

    /// Neutron's agent has asked what is held.
    pub(super) fn asked(&mut self) {
        self.freshness.asked(Instant::now());
    }

    /// Neutron's agent has told something.
    pub(super) fn told(&mut self) {
        self.freshness.asked(Instant::now());
        self.freshness.changed();
    }

    /// Nobody tells any more.
    pub(super) fn ended(&mut self) {
        self.faults.push(kept("policy source", "it ended".to_owned()));
        self.freshness.is_behind(true, Instant::now());
    }

    /// Counts what is to be counted of a report; whether there is nothing else to it.
    pub(super) fn is_only_counted(&mut self, report: &Report) -> bool {
        match report {
            Report::Stage(stage, time) => {
                self.latency.observe(*stage, *time);
                true
            }
            Report::Drifted(sent) => {
                self.drift = (self.drift.0 + sent.flow_mods() as u64, unix(SystemTime::now()));
                false
            }
            _ => false,
        }
    }

    /// What is wrong with the policy, wherever it comes from.
    pub(super) fn faults(&self, calls: Option<&DriverCalls>, store: Option<&Store>) -> Vec<Fault> {
        let of_calls = calls.into_iter().flat_map(DriverCalls::faults);
        let of_store = store.into_iter().flat_map(Store::faults);
        self.faults.iter().chain(of_calls).cloned().chain(of_store).collect()
    }

    /// How the daemon is. Costs what is wrong, and nothing that grows with the policy.
    pub(super) fn status<D: Driver>(
        &self,
        driver: &D,
        calls: Option<&DriverCalls>,
        store: Option<&Store>,
    ) -> Status {
        let of_policy = self.faults(calls, store);
        let health = driver.health();
        let facts = driver.facts();
        let engine::Status { ports, sets, flows, sent, .. } = driver.status();
        let of_calls = calls.map_or(0, |calls| calls.faults().count());
        let of_store = store.map_or(0, Store::refused_count);
        let (mended, last) = (self.drift.0 + facts.sets_mended, self.drift.1.max(facts.sets_mended_at));
        let condition = Condition::of(&health, of_policy.is_empty());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            firewall_driver: driver.name().to_owned(),
            condition,
            waiting: health.waiting.as_ref().map(ToString::to_string),
            faults: of_policy.into_iter().chain(health.faults).map(Into::into).collect(),
            enforced: Totals { ports, sets, flows, flow_mods: sent.flow_mods() },
            refused: self.refused + of_calls + of_store + facts.refused,
            changes: Changes::of(&facts, &self.latency),
            drift: Drift { mended, last: last.map(rfc3339) },
            source: SourceStatus::of(self.kind, self.numbers(calls, store)),
            kernel_sets: driver.kernel_sets(),
            ids: facts.ids.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
        }
    }

    /// What a scrape tells.
    pub(super) fn snapshot<D: Driver>(
        &self,
        driver: &D,
        calls: Option<&DriverCalls>,
        store: Option<&Store>,
    ) -> Snapshot {
        let status = self.status(driver, calls, store);
        Snapshot {
            drift: status.drift.mended,
            drops: None,
            status,
            facts: driver.facts(),
            fills: driver.fullest_sets(FULLEST),
            latency: self.latency.clone(),
            source: self.numbers(calls, store),
        }
    }

    fn numbers(&self, calls: Option<&DriverCalls>, store: Option<&Store>) -> SourceNumbers {
        let sequence = calls.and_then(DriverCalls::sequence).or_else(|| store.and_then(Store::sequence));
        self.freshness.numbers(sequence, Instant::now())
    }
}

fn of_diagnostic(diagnostic: &Diagnostic) -> Fault {
    let Diagnostic { file, line, object, field, reason } = diagnostic;
    kept(object, format!("{field}: {reason} ({file}:{line})"))
}

/// "what the object governed stays as it was, or closed if it is new" (semantics, "Change").
fn kept(object: &str, reason: String) -> Fault {
    Fault { object: object.to_owned(), reason, effect: SecurityEffect::Kept }
}
