//! The policy source that is the driver of Neutron's agent on this host: changes come by the API's socket, and each is answered when it is in
//! force.

use std::collections::BTreeMap;
use std::time::Duration;

use neutron::driver::{Change, DriverPolicy, Refused};
use policy::PortId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::api::{Applied, ChangeAnswer, ChangeRefused, ClosedPort, DriverState};
use crate::driver::Driver;
use crate::engine::{Fault, Health, SecurityEffect};
use crate::host::ClosedInterface;

/// How long a port that the agent has seen on the bridge may take to be told of by the database, which has told the agent already, and to be
/// opened by the switch.
const SIGHT: Duration = Duration::from_secs(1);

/// Whoever told of a change, and waits for it to be in force.
#[derive(Debug)]
struct Waiter {
    session: String,
    sequence: u64,
    refused: Vec<Refused>,
    expected: Vec<PortId>,
    asked_at: Instant,
    deadline: Instant,
    answer: oneshot::Sender<Result<ChangeAnswer, ChangeRefused>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct DriverCalls {
    /// Of this run of the daemon.
    daemon: String,
    policy: DriverPolicy,
    /// The last change that is in force, and those before it.
    applied: u64,
    waiters: Vec<Waiter>,
    /// What is refused at the moment, by object.
    faults: BTreeMap<String, Fault>,
}

impl DriverCalls {
    /// Nothing has been told. `daemon` is something that no other run of the daemon is called.
    pub(crate) fn new(daemon: String) -> Self {
        DriverCalls {
            daemon,
            policy: DriverPolicy::default(),
            applied: 0,
            waiters: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    /// What is held, and how far it is in force.
    pub(crate) fn state<D: Driver>(&mut self, driver: &D) -> DriverState {
        let health = driver.health();
        self.note_applied(&health);
        let held = self.policy.held();
        DriverState {
            daemon: self.daemon.clone(),
            session: held.map(|(session, _)| session.to_owned()),
            sequence: held.map_or(0, |(_, sequence)| sequence),
            applied: self.applied,
            waiting: health.waiting.map(|waiting| waiting.to_string()),
        }
    }

    /// The last change that was taken.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.policy.held().map(|(_, sequence)| sequence)
    }

    /// Objects that are refused.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.values()
    }

    /// Takes a change over; it is answered when it is in force, or `wait` is over, or at once if it does not follow.
    pub(crate) fn take<D: Driver>(
        &mut self,
        driver: &mut D,
        change: &Change,
        wait: Duration,
        answer: oneshot::Sender<Result<ChangeAnswer, ChangeRefused>>,
    ) {
        let is_first = self.policy.held().is_none();
        let taken = match self.policy.take(change, |port| driver.is_plugged(port)) {
            Ok(taken) => taken,
            Err(reason) => return self.refuse(&reason.to_string(), answer),
        };
        if change.sequence == 1 {
            // Who tells all again does not wait for what was told before.
            let waiters = std::mem::take(&mut self.waiters);
            waiters.into_iter().for_each(|waiter| self.refuse("another session has begun", waiter.answer));
            let (ports, members) = self.policy.counts();
            info!(session = change.session, ports, members, "Neutron's agent tells all it knows");
            self.applied = 0;
        }
        self.note_refused(change, &taken.refused);
        // The first one says that there is a policy, whatever it says.
        if is_first || !taken.delta.is_empty() {
            driver.policy(taken.delta);
        }
        let now = Instant::now();
        // Who does not listen any more is nobody to wait for.
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
        self.waiters.push(Waiter {
            session: change.session.clone(),
            sequence: change.sequence,
            refused: taken.refused,
            expected: change.expect.iter().map(|port| port.as_str().into()).collect(),
            asked_at: now,
            deadline: now + wait,
            answer,
        });
        self.answer(driver);
    }

    fn refuse(&self, reason: &str, answer: oneshot::Sender<Result<ChangeAnswer, ChangeRefused>>) {
        info!(reason, "a change of Neutron's agent is not taken: it is asked to tell all it knows");
        let (session, sequence) = self.policy.held().unzip();
        // Who asked may be gone.
        _ = answer.send(Err(ChangeRefused {
            reason: reason.to_owned(),
            session: session.map(str::to_owned),
            sequence: sequence.unwrap_or(0),
        }));
    }

    /// A fault lasts until its object is told of again, and is as it should be.
    fn note_refused(&mut self, change: &Change, refused: &[Refused]) {
        if change.sequence == 1 {
            self.faults.clear();
        }
        let groups = change.rules.keys().chain(change.members.keys());
        for group in groups {
            let (of_group, member) = (format!(" of security group {group}"), format!(" of {group}"));
            self.faults.retain(|object, _| !object.ends_with(&of_group) && !object.ends_with(&member));
        }
        for port in change.ports.keys() {
            self.faults.remove(&format!("port {port}"));
        }
        for Refused { object, field, reason } in refused {
            warn!(%object, %field, %reason, "refused: it stays as it was, or closed if it is new");
            let fault = Fault {
                object: object.clone(),
                reason: format!("{field}: {reason}"),
                effect: SecurityEffect::Kept,
            };
            self.faults.insert(object.clone(), fault);
        }
    }

    /// Whether everything that was taken is in force.
    fn note_applied(&mut self, health: &Health) -> bool {
        let is_in_force = health.settled && health.waiting.is_none();
        if is_in_force {
            self.applied = self.policy.held().map_or(0, |(_, sequence)| sequence);
        }
        is_in_force
    }

    /// When somebody is to be answered who has not been yet, if nothing happens before.
    pub(crate) fn next_answer(&self) -> Option<Instant> {
        let sight = |waiter: &Waiter| {
            Some(waiter.asked_at + SIGHT).filter(|at| !waiter.expected.is_empty() && *at > Instant::now())
        };
        self.waiters.iter().flat_map(|waiter| [Some(waiter.deadline), sight(waiter)]).flatten().min()
    }

    /// Answers whose change is in force, and who has waited long enough; forgets ports that were pulled out before they were told of.
    pub(crate) fn answer<D: Driver>(&mut self, driver: &mut D) {
        let gone = self.policy.forget_pulled_out(|port| driver.is_plugged(port));
        if !gone.is_empty() {
            driver.policy(gone);
        }
        if self.waiters.is_empty() {
            return;
        }
        let health = driver.health();
        let is_in_force = self.note_applied(&health);
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiters) {
            let (closed, absent) = closed_and_absent(driver, &health.faults, &waiter.expected);
            let is_seen = absent.is_empty() || now >= waiter.asked_at + SIGHT;
            if !(is_in_force && is_seen) && now < waiter.deadline {
                self.waiters.push(waiter);
                continue;
            }
            let Waiter { session, sequence, refused, answer, .. } = waiter;
            let daemon = self.daemon.clone();
            let state = if is_in_force { Applied::Applied } else { Applied::Pending };
            let waiting = health.waiting.as_ref().map(ToString::to_string);
            // Who asked may be gone.
            _ = answer.send(Ok(ChangeAnswer {
                daemon,
                session,
                sequence,
                state,
                waiting,
                refused,
                absent,
                closed,
            }));
        }
    }
}

/// Of ports that are expected on the bridge: those that are there and closed, and those that are not there.
fn closed_and_absent<D: Driver>(
    driver: &D,
    faults: &[Fault],
    expected: &[PortId],
) -> (Vec<ClosedPort>, Vec<String>) {
    if expected.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let interfaces = driver.closed();
    let (mut closed, mut absent) = (Vec::new(), Vec::new());
    for port in expected {
        let of_port = |fault: &&Fault| {
            fault.effect == SecurityEffect::Closed
                && fault.object.strip_prefix("port ") == Some(port.as_str())
        };
        let interface = interfaces.iter().find(|interface| interface.port.as_ref() == Some(port));
        if interface.is_some_and(ClosedInterface::is_awaited) {
            absent.push(port.to_string());
        } else if let Some(interface) = interface {
            closed.push(ClosedPort { port: port.to_string(), reason: interface.reason.to_string() });
        } else if let Some(fault) = faults.iter().find(of_port) {
            closed.push(ClosedPort { port: port.to_string(), reason: fault.reason.clone() });
        } else if !driver.is_plugged(port) {
            absent.push(port.to_string());
        }
    }
    (closed, absent)
}
