//! The daemon: source and driver, and what is told of them.

mod record;

use std::collections::BTreeMap;
use std::future::{Future, pending};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::api::{Question, Request};
use crate::driver::Driver;
use crate::engine::{Consequence, Fault, Report};
use crate::service::Service;
use crate::source::{DocumentsError, DriverCalls, Happened, RpcUpdate, Store, Update};

use record::Record;

/// Where the policy comes from.
#[derive(Debug)]
pub enum Source {
    /// Documents, as they are read.
    Documents(mpsc::Receiver<Result<Update, DocumentsError>>),
    /// The driver of Neutron's agent, by the API. What no other run of the daemon is called.
    NeutronDriver(String),
    /// The shared policy store.
    Store(Box<Store>),
    /// neutron-server, as it is followed.
    NeutronRpc(mpsc::Receiver<RpcUpdate>),
}

/// Keeps the datapath as the source says, and answers `requests`, until `shutdown`. The datapath stays as it is then.
pub async fn run<D: Driver>(
    driver: &mut D,
    source: Source,
    mut requests: mpsc::Receiver<Request>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut record = Record::of(&source);
    let (mut updates, mut calls, mut store, mut rpc) = match source {
        Source::Documents(updates) => (Some(updates), None, None, None),
        Source::NeutronDriver(daemon) => (None, Some(DriverCalls::new(daemon)), None, None),
        Source::Store(store) => (None, None, Some(store), None),
        Source::NeutronRpc(updates) => (None, None, None, Some(updates)),
    };
    let mut api_lives = true;
    let mut has_policy = false;
    let mut service = Service::new();
    loop {
        tokio::select! {
            () = &mut shutdown => {
                Service::ending();
                return;
            }
            () = service.watch() => {}
            update = next(&mut updates) => match update {
                Some(update) => take_documents(update, driver, &mut record),
                None => {
                    error!("the policy source ended; the policy in force stays");
                    record.ended();
                    updates = None;
                }
            },
            update = next(&mut rpc) => match update {
                Some(update) => {
                    tell_rpc_update(&update);
                    record.followed(&update);
                    if let Some(delta) = update.delta {
                        driver.policy(delta);
                    }
                    service.tell(&record.status(driver, calls.as_ref(), store.as_deref()));
                }
                None => {
                    error!("the policy source ended; the policy in force stays");
                    record.ended();
                    rpc = None;
                }
            },
            request = requests.recv(), if api_lives => match request {
                Some(request) => take_request(request, driver, &mut record, calls.as_mut(), store.as_deref()),
                None => api_lives = false,
            },
            happened = happened_to(&mut store) => {
                record.heard();
                let is_news = store.as_mut().is_some_and(|store| store.take(happened));
                let is_changed = advance(store.as_deref_mut(), driver, &mut has_policy);
                record.store(store.as_deref(), is_changed);
                if is_news || is_changed {
                    service.tell(&record.status(driver, calls.as_ref(), store.as_deref()));
                }
            }
            () = until(calls.as_ref().and_then(DriverCalls::next_answer)) => answer(calls.as_mut(), driver),
            report = driver.report() => {
                if record.is_only_counted(&report) {
                    continue;
                }
                match &report {
                    // There it is plugged in first, and told of then.
                    Report::NoPolicy(port) if calls.is_some() => {
                        info!(%port, "closed: Neutron's agent has not told of the port yet");
                    }
                    report => tell(report),
                }
                if let (Report::NoPolicy(port), Some(store)) = (&report, &mut store) {
                    store.look_for(port.clone(), |port| driver.is_plugged(port));
                }
                let is_changed = advance(store.as_deref_mut(), driver, &mut has_policy);
                record.store(store.as_deref(), is_changed);
                if matches!(report, Report::Settled | Report::Waiting(_) | Report::Resumed) {
                    service.tell(&record.status(driver, calls.as_ref(), store.as_deref()));
                }
                answer(calls.as_mut(), driver);
            }
        }
    }
}

/// New documents, or why there are none.
fn take_documents<D: Driver>(update: Result<Update, DocumentsError>, driver: &mut D, record: &mut Record) {
    match update {
        Ok(update) => {
            tell_update(&update);
            record.read(&update);
            if let Some(delta) = update.delta {
                driver.policy(delta);
            }
        }
        Err(reason) => {
            error!(%reason, "no policy to be read; the one in force stays");
            record.unreadable(&reason);
        }
    }
}

/// Answers, or has the driver answer.
fn take_request<D: Driver>(
    request: Request,
    driver: &mut D,
    record: &mut Record,
    calls: Option<&mut DriverCalls>,
    store: Option<&Store>,
) {
    match request {
        // Who asked may be gone, here and below.
        Request::Status(answer) => _ = answer.send(record.status(driver, calls.as_deref(), store)),
        Request::Metrics(answer) => _ = answer.send(record.snapshot(driver, calls.as_deref(), store)),
        Request::Ports(query, answer) => {
            let refused = by_object(record.faults(calls.as_deref(), store));
            driver.list_ports(Question { query, refused, answer });
        }
        Request::Groups(query, answer) => {
            let refused = by_object(record.faults(calls.as_deref(), store));
            driver.list_groups(Question { query, refused, answer });
        }
        Request::Drops(query, answer) => driver.tell_drops(query, answer),
        Request::Policy(answer) => driver.tell_policy(answer),
        Request::DriverState(answer) => {
            if let Some(calls) = calls {
                record.asked();
                _ = answer.send(calls.state(driver));
            }
        }
        Request::Change { change, wait, answer } => {
            if let Some(calls) = calls {
                record.told();
                calls.take(driver, &change, wait, answer);
            }
        }
    }
}

/// The next update, as long as there may be one.
async fn next<T>(updates: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match updates {
        Some(updates) => updates.recv().await,
        None => pending().await,
    }
}

async fn happened_to(store: &mut Option<Box<Store>>) -> Happened {
    match store {
        Some(store) => store.wait().await,
        None => pending().await,
    }
}

/// Goes on with what the store says now; whether the policy has changed.
fn advance<D: Driver>(store: Option<&mut Store>, driver: &mut D, has_policy: &mut bool) -> bool {
    let Some(store) = store else { return false };
    let mut is_changed = false;
    while let Some(delta) = store.advance(|| driver.plugged()) {
        if !*has_policy || !delta.is_empty() {
            (*has_policy, is_changed) = (true, true);
            driver.policy(delta);
        }
    }
    let health = driver.health();
    if health.settled && health.waiting.is_none() {
        store.in_force(&health.faults);
    }
    is_changed
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn answer<D: Driver>(calls: Option<&mut DriverCalls>, driver: &mut D) {
    if let Some(calls) = calls {
        calls.answer(driver);
    }
}

/// What is wrong with each object.
fn by_object(faults: Vec<Fault>) -> BTreeMap<String, String> {
    let mut objects: BTreeMap<String, String> = BTreeMap::new();
    for Fault { object, reason, .. } in faults {
        let known = objects.entry(object).or_default();
        if !known.is_empty() {
            known.push_str("; ");
        }
        known.push_str(&reason);
    }
    objects
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

/// One line for each thing that is wrong, and one for what changed.
fn tell_rpc_update(update: &RpcUpdate) {
    for fault in &update.faults {
        warn!(object = fault.object, reason = fault.reason, "neutron-server");
    }
    for refused in &update.refused {
        warn!(%refused, "refused: it stays as it was, or closed if it is new");
    }
    if let Some(delta) = &update.delta {
        let (groups, address_groups, ports) =
            (delta.groups.len(), delta.address_groups.len(), delta.ports.len());
        info!(groups, address_groups, ports, state = ?update.state, "neutron-server told of changes");
    }
}

/// One line for a report.
pub fn tell(report: &Report) {
    match report {
        Report::Waiting(what) => warn!(%what, "waiting"),
        Report::Resumed => info!("what was waited for is there"),
        Report::Taken(sent) => debug!(flow_mods = sent.flow_mods(), "the switch has taken a bundle"),
        Report::Applied(sent) => info!(
            added = sent.added,
            modified = sent.modified,
            deleted = sent.deleted,
            bundles = sent.bundles,
            "applied"
        ),
        Report::Settled | Report::Stage(..) => {}
        Report::TakenOver => info!("the take-over from Neutron's own driver is over"),
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
            "what the datapath holds is not as it was left; it is put right"
        ),
        Report::ForeignFlows { count, example } => {
            warn!(
                count,
                example, "flows of others stand among or before ours; frames may go round the firewall"
            );
        }
    }
}
