//! Calls that are to be made, and those that wait for their answers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rpc::envelope::{Answer, Call};
use crate::rpc::object::Kind;

/// How long an answer is waited for: oslo.messaging's `rpc_response_timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Answers that are waited for at a time: a server that is slow is not asked for more.
const IN_FLIGHT: usize = 4;

/// Ports in one answer: 0.7 MB and about a second of the server (1,500 ports took 2 s).
pub(super) const CHUNK: usize = 200;

/// After the first failure it is tried again so much later, then twice that.
const BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// To be taken for an agent that is alive; the UTC time, as text, is added when it is sent.
    Report,
    /// All of a kind.
    All(Kind),
    /// Which ports there are.
    PortIds,
    /// These ports.
    Ports(Vec<String>),
    /// What something else names.
    One(Kind, String),
}

impl Ask {
    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Ask::Report => "report_state".to_owned(),
            Ask::All(kind) | Ask::One(kind, _) => format!("bulk_pull of {}", kind.name()),
            Ask::PortIds | Ask::Ports(_) => "bulk_pull of Port".to_owned(),
        }
    }

    /// Topic, method, version and arguments.
    fn call(&self, report: &Value) -> (&'static str, &'static str, &'static str, Value) {
        let (kind, filter) = match self {
            Ask::Report => return ("q-reports-plugin", "report_state", "1.0", report.clone()),
            Ask::All(kind) => (*kind, Value::Null),
            Ask::PortIds => (Kind::Port, json!({"fields": ["id"]})),
            Ask::Ports(ids) => (Kind::Port, json!({"id": ids})),
            Ask::One(kind, id) => (*kind, json!({"id": [id]})),
        };
        let args = json!({"resource_type": kind.name(), "version": kind.version(), "filter_kwargs": filter});
        ("q-plugin", "bulk_pull", "1.1", args)
    }
}

/// A call on its way.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) ask: Ask,
    /// Failures before.
    pub(super) failures: u32,
    pub(super) at: Duration,
}

#[derive(Clone, Debug)]
struct Queued {
    ask: Ask,
    failures: u32,
    not_before: Duration,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    seed: String,
    counter: u64,
    queued: VecDeque<Queued>,
    sent: BTreeMap<String, Sent>,
}

impl Calls {
    pub(super) fn new(seed: String) -> Self {
        Calls { seed, counter: 0, queued: VecDeque::new(), sent: BTreeMap::new() }
    }

    pub(super) fn ask(&mut self, ask: Ask, not_before: Duration) {
        self.queued.push_back(Queued { ask, failures: 0, not_before });
    }

    /// Before all others.
    pub(super) fn ask_first(&mut self, ask: Ask) {
        self.queued.push_front(Queued { ask, failures: 0, not_before: Duration::ZERO });
    }

    /// Asks again what failed, later each time.
    pub(super) fn ask_again(&mut self, failed: Sent, now: Duration) {
        let pause = BACKOFF.saturating_mul(1 << failed.failures.min(16)).min(LONGEST_BACKOFF);
        let failures = failed.failures.saturating_add(1);
        self.queued.push_back(Queued { ask: failed.ask, failures, not_before: now + pause });
    }

    /// Asks nothing of the kind that is asked for by a resync any more.
    pub(super) fn forget(&mut self, is_of_no_use: impl Fn(&Ask) -> bool) {
        self.queued.retain(|queued| !is_of_no_use(&queued.ask));
        self.sent.retain(|_, sent| !is_of_no_use(&sent.ask));
    }

    pub(super) fn answered(&mut self, id: &str) -> Option<Sent> {
        self.sent.remove(id)
    }

    /// Those whose answers are not waited for any more.
    pub(super) fn expired(&mut self, now: Duration) -> Vec<Sent> {
        let late: Vec<String> =
            self.sent.iter().filter(|(_, sent)| sent.at + TIMEOUT <= now).map(|(id, _)| id.clone()).collect();
        late.iter().filter_map(|id| self.sent.remove(id)).collect()
    }

    /// Takes the next that is to be sent: its topic, id and body.
    pub(super) fn next(
        &mut self,
        queue: &str,
        report: &Value,
        now: Duration,
    ) -> Option<(&'static str, String, String)> {
        if self.sent.len() >= IN_FLIGHT {
            return None;
        }
        let index = self.queued.iter().position(|queued| queued.not_before <= now)?;
        let Queued { ask, failures, .. } = self.queued.remove(index)?;
        let (id, unique) = (self.name(), self.name());
        let (topic, method, version, args) = ask.call(report);
        let answer = Some(Answer { id: &id, queue });
        let body = Call { method, args, version, answer, unique_id: &unique }.encode();
        self.sent.insert(id.clone(), Sent { ask, failures, at: now });
        Some((topic, id, body))
    }

    /// What no other message is called, as far as the seed is nobody else's.
    fn name(&mut self) -> String {
        self.counter += 1;
        format!("{}{:08x}", self.seed, self.counter)
    }

    /// When there is something to do.
    pub(super) fn wakeup(&self) -> Option<Duration> {
        let late = self.sent.values().map(|sent| sent.at + TIMEOUT).min();
        let has_room = self.sent.len() < IN_FLIGHT;
        let queued = self.queued.iter().map(|queued| queued.not_before).min().filter(|_| has_room);
        late.into_iter().chain(queued).min()
    }
}
