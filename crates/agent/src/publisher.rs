//! `role = "publisher"`: what Neutron says of the whole cloud, written to the policy store; hosts need not ask Neutron then.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::time::Duration;

use neutron::rpc::{State, Update};
use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{ServerPolicy, SessionConfig, SessionEvent, TransactError, Transaction};
use policy::{Policy, PolicyDelta, PortId};
use store::{Publication, prepare, schema};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::api::{Changes, Condition, Drift, FaultDocument, Request, SourceStatus, Status, Totals};
use crate::config;
use crate::engine::{Facts, Fault, SecurityEffect};
use crate::metrics::{Latency, Snapshot};
use crate::service::Service;
use crate::source::Freshness;

/// What `firewall_driver` is said to be.
const NAME: &str = "publisher";
/// Where its policy comes from.
const SOURCE: &str = "neutron-rpc";

/// How long to wait before a store that did not let itself be prepared is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How often the lock is looked after; so long at least somebody has who has taken it, to write something.
const LOOK: Duration = Duration::from_secs(10);

/// For how long Neutron may be away before another publisher is let at it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a transaction of ours.
#[derive(Debug)]
enum Done {
    Prepared(Result<(), TransactError>),
    Written(Result<(), TransactError>),
}

/// See the module's documentation.
struct Publisher<F> {
    handle: SessionHandle,
    events: SessionEvents,
    publication: Publication,
    /// Asks Neutron for everything, and what it says then.
    follow: F,
    updates: Option<mpsc::Receiver<Update>>,
    /// The term for which everything was asked for, until it has come.
    awaited: Option<u64>,
    policy: Policy,
    hosts: BTreeMap<PortId, BTreeSet<String>>,
    said: Option<Update>,
    freshness: Freshness,
    under_way: JoinSet<Done>,
    /// When the store is to be prepared, if it is not by then; none while that is under way.
    prepare_at: Option<Instant>,
    began: Instant,
    /// When the lock is to be looked after.
    look_at: Instant,
    /// Since when the lock is ours, and of no use.
    useless_since: Option<Instant>,
    /// The lock was taken away.
    was_robbed: bool,
    /// Why the store is not there, or does not take something.
    store_fault: Option<String>,
    /// What was logged of that since there was a connection: all members are tried again and again.
    logged: BTreeSet<String>,
    write_fault: Option<String>,
}

/// Follows Neutron while it has the store's lock, stands by while another has, until `shutdown`. `name` is what no other run of a publisher is called;
/// `follow` begins to follow Neutron from nothing.
pub async fn run(
    store: &config::Store,
    name: String,
    follow: impl FnMut() -> mpsc::Receiver<Update>,
    mut requests: mpsc::Receiver<Request>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut publisher = Publisher::begin(store, name, follow).await;
    let mut service = Service::new();
    let mut api_lives = true;
    loop {
        tokio::select! {
            () = &mut shutdown => return Service::ending(),
            () = service.watch() => {}
            request = requests.recv(), if api_lives => match request {
                // Who asked may be gone.
                Some(Request::Status(answer)) => _ = answer.send(publisher.status()),
                Some(Request::Metrics(answer)) => _ = answer.send(publisher.snapshot()),
                // Nobody tells a publisher of changes: the answer's end says so.
                Some(_) => {}
                None => api_lives = false,
            },
            lives = publisher.step() => {
                if !lives {
                    error!("the session with the policy store has ended");
                    return;
                }
                service.tell(&publisher.status());
            }
        }
    }
}

impl<F: FnMut() -> mpsc::Receiver<Update>> Publisher<F> {
    async fn begin(store: &config::Store, name: String, follow: F) -> Self {
        let first = store.remotes.first().cloned();
        let remote = first.unwrap_or(ovsdb::Remote::Unix(std::path::PathBuf::new()));
        let session = SessionConfig {
            remotes: store.remotes.clone(),
            tls: store.tls.clone(),
            server: ServerPolicy::Leader,
            schema: Some(schema::schema()),
            monitors: Publication::tables(),
            ..SessionConfig::new(remote, schema::DATABASE)
        };
        let (handle, events) = session::spawn(session);
        handle.lock(schema::PUBLISHER_LOCK).await;
        Publisher {
            handle,
            events,
            publication: Publication::new(name),
            follow,
            updates: None,
            awaited: None,
            policy: Policy::default(),
            hosts: BTreeMap::new(),
            said: None,
            freshness: Freshness::default(),
            under_way: JoinSet::new(),
            prepare_at: Some(Instant::now()),
            began: Instant::now(),
            look_at: Instant::now() + LOOK,
            useless_since: None,
            was_robbed: false,
            store_fault: Some("not connected yet".to_owned()),
            logged: BTreeSet::new(),
            write_fault: None,
        }
    }

    /// Waits for something to happen, and does what follows from it. False when the session has ended. Cancel safe.
    async fn step(&mut self) -> bool {
        self.go_on();
        let mut again = self.began + self.publication.next_time();
        if let Some(at) = self.prepare_at.filter(|_| self.must_prepare()) {
            again = again.max(at);
        }
        let is_due = self.publication.leads() && again > Instant::now();
        tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => self.event(&event),
                None => return false,
            },
            Some(done) = self.under_way.join_next() => {
                // What a transaction changed was told before its answer.
                while let Some(event) = self.events.try_recv() {
                    self.event(&event);
                }
                if let Ok(done) = done {
                    self.done(done);
                }
            }
            update = next(&mut self.updates) => match update {
                Some(update) => self.update(update),
                None => {
                    error!("what follows Neutron has ended; it is begun anew");
                    self.updates = None;
                    self.publication.ask_again();
                }
            },
            () = sleep_until(again), if is_due => {}
            () = sleep_until(self.look_at) => self.look_after_the_lock(),
        }
        true
    }

    fn event(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Connected => {
                info!("connected to the leader of the policy store");
                self.store_fault = None;
                self.logged.clear();
            }
            SessionEvent::Disconnected { reason } => {
                if self.logged.insert(reason.clone()) {
                    warn!(reason, "no connection to the leader of the policy store");
                }
                self.store_fault = Some(reason.clone());
            }
            SessionEvent::Locked(_) => {
                info!("this publisher writes the policy store");
                self.was_robbed = false;
            }
            SessionEvent::Stolen(_) => {
                warn!("somebody has taken the lock of the policy store");
                self.was_robbed = true;
                self.look_at = Instant::now() + LOOK;
            }
            SessionEvent::Update(_) => {}
        }
        if let Err(reason) = self.publication.event(event) {
            error!(%reason, "a row of the policy store cannot be read");
            self.store_fault = Some(reason.to_string());
        }
    }

    /// A lock that is not used is given back, and one that was taken by somebody who does not use it is taken back.
    fn look_after_the_lock(&mut self) {
        let now = Instant::now();
        self.look_at = now + LOOK;
        let is_of_use = self.said.as_ref().is_some_and(|said| said.state != State::Disconnected);
        if self.publication.leads() && !is_of_use {
            let since = *self.useless_since.get_or_insert(now);
            if now.duration_since(since) >= PATIENCE {
                warn!("without Neutron this publisher gives the lock back: another may have it");
                self.useless_since = None;
                self.publication.unlocked();
                let handle = self.handle.clone();
                tokio::spawn(async move {
                    handle.unlock(schema::PUBLISHER_LOCK).await;
                    // Whoever waits has it by then.
                    handle.lock(schema::PUBLISHER_LOCK).await;
                });
            }
        } else {
            self.useless_since = None;
        }
        let is_robbed = self.was_robbed && !self.publication.leads() && self.publication.wrote_last();
        if is_robbed && self.store_fault.is_none() {
            error!("who has taken the lock of the policy store writes nothing; it is taken back");
            self.was_robbed = false;
            let handle = self.handle.clone();
            tokio::spawn(async move { handle.steal(schema::PUBLISHER_LOCK).await });
        }
    }

    /// What Neutron says.
    fn update(&mut self, mut update: Update) {
        for (port, hosts) in std::mem::take(&mut update.hosts) {
            let hosts: BTreeSet<String> = hosts.into_iter().collect();
            self.publication.bind(&port, &hosts);
            self.hosts.insert(port, hosts);
        }
        let is_behind = update.state != State::Following;
        self.freshness.is_behind(is_behind, std::time::Instant::now());
        self.freshness.heard();
        if let Some(delta) = update.delta.take() {
            self.freshness.changed();
            self.policy(delta);
        }
        for refused in &update.refused {
            let is_news = self.said.as_ref().is_none_or(|said| !said.refused.contains(refused));
            if is_news {
                warn!(%refused, "refused: it stays as it was, or closed if it is new");
            }
        }
        self.said = Some(update);
    }

    fn policy(&mut self, delta: PolicyDelta) {
        let term = self.awaited.take();
        let delta = match term {
            // From one that begins anew: all of it.
            Some(_) => {
                let mut whole = Policy::default();
                whole.apply(delta);
                Policy::diff(&self.policy, &whole)
            }
            None => delta,
        };
        let hosts = &self.hosts;
        self.publication.policy(&delta, |port| {
            let bound = || port.host.iter().cloned().collect();
            hosts.get(&port.id).cloned().unwrap_or_else(bound)
        });
        for (port, _) in delta.ports.iter().filter(|(_, port)| port.is_none()) {
            self.hosts.remove(port);
        }
        self.policy.apply(delta);
        if let Some(term) = term {
            let Policy { groups, address_groups, ports } = &self.policy;
            info!(
                groups = groups.len(),
                address_groups = address_groups.len(),
                ports = ports.len(),
                "Neutron's policy is known"
            );
            self.publication.verified(term);
        }
    }

    fn done(&mut self, done: Done) {
        let outcome = match done {
            Done::Prepared(outcome) => {
                self.prepare_at = Some(Instant::now() + RETRY);
                outcome
            }
            Done::Written(outcome) => {
                self.publication.outcome(self.began.elapsed(), &outcome);
                outcome
            }
        };
        let fault = outcome.err().map(|reason| reason.to_string());
        if let Some(reason) = fault.as_ref().filter(|reason| self.write_fault.as_ref() != Some(reason)) {
            warn!(reason, "the policy store did not take a change; trying again");
        }
        self.write_fault = fault;
    }

    /// What is to be done now.
    fn go_on(&mut self) {
        if let Some(term) = self.publication.new_term() {
            self.awaited = Some(term);
            self.updates = Some((self.follow)());
        }
        if self.must_prepare() && self.prepare_at.take_if(|at| *at <= Instant::now()).is_some() {
            // The roles are made with the row Global, or were.
            if let Some(transaction) = prepare(None, None) {
                let handle = self.handle.clone();
                self.under_way.spawn(async move { Done::Prepared(transact(&handle, transaction).await) });
            }
        }
        if let Some(transaction) = self.publication.next(self.began.elapsed()) {
            let handle = self.handle.clone();
            self.under_way.spawn(async move { Done::Written(transact(&handle, transaction).await) });
        }
    }

    fn must_prepare(&self) -> bool {
        self.publication.leads() && !self.publication.is_prepared()
    }

    fn status(&self) -> Status {
        let fault = |object: &str, reason: &str| {
            FaultDocument::from(Fault {
                object: object.to_owned(),
                reason: reason.to_owned(),
                effect: SecurityEffect::Kept,
            })
        };
        let of_store = self.store_fault.iter().map(|reason| fault("policy store", reason));
        let of_writing = self.write_fault.iter().map(|reason| fault("a change of the policy store", reason));
        let of_source = self.said.iter().flat_map(|said| &said.faults);
        let refused = self.said.iter().flat_map(|said| &said.refused);
        let faults: Vec<FaultDocument> = of_store
            .chain(of_writing)
            .chain(of_source.map(|of| fault(&of.object, &of.reason)))
            .chain(refused.map(|of| fault(&of.object, &format!("{}: {}", of.field, of.reason))))
            .collect();
        let follows = self.said.as_ref().is_some_and(|said| said.state == State::Following);
        let (condition, waiting) = match (self.store_fault.is_some(), self.publication.leads()) {
            (true, _) => (Condition::Disconnected, Some("the leader of the policy store".to_owned())),
            (false, false) => (Condition::Converged, Some("the lock: another publisher writes".to_owned())),
            (false, true) if !follows => (Condition::Converging, Some("Neutron".to_owned())),
            (false, true) if !self.publication.is_idle() => (Condition::Converging, None),
            (false, true) if faults.is_empty() => (Condition::Converged, None),
            (false, true) => (Condition::Degraded, None),
        };
        let [sets, _, ports] = self.publication.counts();
        let written = usize::try_from(self.publication.written()).unwrap_or(usize::MAX);
        let enforced = Totals { ports, sets, flows: 0, flow_mods: written };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let refused = self.said.as_ref().map_or(0, |said| said.refused.len());
        Status {
            version,
            firewall_driver: NAME.to_owned(),
            condition,
            waiting,
            faults,
            enforced,
            refused,
            changes: Changes::default(),
            drift: Drift::default(),
            source: SourceStatus::of(SOURCE, self.freshness.numbers(None, std::time::Instant::now())),
            kernel_sets: None,
            ids: BTreeMap::new(),
        }
    }

    /// What a scrape tells of a publisher: it has no datapath.
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            status: self.status(),
            facts: Facts::default(),
            fills: Vec::new(),
            latency: Latency::default(),
            source: self.freshness.numbers(None, std::time::Instant::now()),
            drift: 0,
            drops: None,
        }
    }
}

async fn transact(handle: &SessionHandle, transaction: Transaction) -> Result<(), TransactError> {
    handle.transact(transaction).await.map(|_| ())
}

async fn next(updates: &mut Option<mpsc::Receiver<Update>>) -> Option<Update> {
    match updates {
        Some(updates) => updates.recv().await,
        None => pending().await,
    }
}
