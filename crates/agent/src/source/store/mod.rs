//! The policy source that is the shared store: what concerns this host of it, as it changes.

mod journal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ovsdb::session::{self, SessionEvents, SessionHandle, SetConditionsError};
use ovsdb::{
    ChangeKind, Remote, ServerPolicy, SessionConfig, SessionEvent, TlsConfig, TransactError, Transaction,
    Uuid,
};
use policy::{PolicyDelta, PortId};
use store::{Follower, HostRow, Memory, Seen, schema};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use self::journal::Journal;
use crate::engine::{Fault, SecurityEffect};

/// Where the store is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSetup {
    /// The members of the cluster, or its relays.
    pub remotes: Vec<Remote>,
    /// Certificates, for `ssl:`.
    pub tls: Option<TlsConfig>,
    /// This host by its name in the policy.
    pub host: String,
    /// Where to keep what was seen; none: nowhere, a host that begins without the store is closed until it is there.
    pub cache: Option<PathBuf>,
}

/// What the store comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The policy changes; the first time, also when nothing does.
    Policy(PolicyDelta),
    /// There is something else to say of the source's condition.
    Condition,
}

/// How long to wait before what a server did not take is written again.
const RETRY: Duration = Duration::from_secs(2);

/// The answer to something that was asked of the server.
#[derive(Debug)]
enum Answer {
    Conditions(Result<(), SetConditionsError>),
    Written(Result<(), TransactError>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Store {
    setup: StoreSetup,
    handle: SessionHandle,
    events: SessionEvents,
    follower: Follower,
    journal: Option<Journal>,
    /// What was seen since the last commit.
    seen: Vec<Seen>,
    /// What is known from before, and was not told of yet.
    recalled: Option<PolicyDelta>,
    under_way: JoinSet<Answer>,
    asked: std::collections::BTreeSet<PortId>,
    /// What the store has of this host.
    row: Option<(Uuid, HostRow)>,
    wanted_row: HostRow,
    is_writing: bool,
    write_after: Option<Instant>,
    /// Why the store is not there, or does not do what is asked of it.
    faults: BTreeMap<&'static str, String>,
}

/// Names of faults.
const CONNECTION: &str = "policy store";
const ROW: &str = "row Host of the policy store";
const CACHE: &str = "store cache";

impl Store {
    /// Begins to follow the store.
    pub fn begin(setup: StoreSetup) -> Self {
        let mut faults = BTreeMap::new();
        let opened = setup.cache.as_ref().map(|path| Journal::open(path, &setup.host));
        let (journal, memory) = match opened {
            Some(Ok((journal, memory))) => (Some(journal), memory),
            Some(Err(error)) => {
                error!(%error, "what was seen of the store is not kept");
                faults.insert(CACHE, error.to_string());
                (None, Memory::default())
            }
            None => (None, Memory::default()),
        };
        let is_remembered = memory != Memory::default();
        let (follower, delta) = Follower::remembering(&setup.host, memory);
        if is_remembered {
            let [groups, address_groups, ports] = follower.view().counts();
            info!(groups, address_groups, ports, "the policy as it was last seen, until the store is there");
        }
        faults.insert(CONNECTION, "not connected yet".to_owned());
        let (handle, events) = session::spawn(session_config(&setup, &follower));
        let wanted_row = HostRow { version: env!("CARGO_PKG_VERSION").to_owned(), ..HostRow::default() };
        Store {
            handle,
            events,
            follower,
            journal,
            seen: Vec::new(),
            recalled: is_remembered.then_some(delta),
            under_way: JoinSet::new(),
            asked: std::collections::BTreeSet::new(),
            row: None,
            wanted_row,
            is_writing: false,
            write_after: None,
            faults,
            setup,
        }
    }

    /// The next thing that the store says. Cancel safe.
    pub async fn next(&mut self) -> Told {
        if let Some(delta) = self.recalled.take() {
            return Told::Policy(delta);
        }
        loop {
            if let Some(delta) = self.commit() {
                return Told::Policy(delta);
            }
            self.ask();
            let retry = self.write_after;
            let told = tokio::select! {
                event = self.events.recv() => event.map(|event| self.take(&event)),
                Some(answer) = self.under_way.join_next() => {
                    // What came before the answer is looked at before it.
                    let events = std::iter::from_fn(|| self.events.try_recv()).collect::<Vec<_>>();
                    let told = events.iter().filter(|event| self.take(event)).count() > 0;
                    let answered = answer.ok().is_some_and(|answer| self.answered(answer));
                    Some(told || answered)
                }
                () = until(retry) => {
                    self.write_after = None;
                    Some(false)
                }
            };
            match told {
                Some(true) => {
                    if let Some(delta) = self.commit() {
                        return Told::Policy(delta);
                    }
                    return Told::Condition;
                }
                Some(false) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// A port is plugged in that the policy does not know: perhaps the store does not say that it is here.
    pub fn look_for(&mut self, port: PortId) {
        if self.asked.insert(port) {
            self.follower.ask_for(self.asked.clone());
        }
    }

    /// Everything that was told of is in force. Ports that are not plugged in any more are not looked for any more.
    pub fn in_force(&mut self, is_plugged: impl Fn(&PortId) -> bool) {
        self.wanted_row.applied = self.follower.view().committed();
        let before = self.asked.len();
        self.asked.retain(is_plugged);
        if self.asked.len() < before {
            self.follower.ask_for(self.asked.clone());
        }
        self.ask();
    }

    /// What is wrong with the store, and with what is in it.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        let kept = |object: &str, reason: &str| Fault {
            object: object.to_owned(),
            reason: reason.to_owned(),
            effect: SecurityEffect::Kept,
        };
        let of_source = self.faults.iter().map(move |(object, reason)| kept(object, reason));
        of_source.chain(self.follower.view().faults().map(move |fault| kept(&fault.object, &fault.reason)))
    }

    /// Whether there is something to say of it.
    fn take(&mut self, event: &SessionEvent) -> bool {
        match event {
            SessionEvent::Connected => {
                info!("connected to the policy store");
                self.faults.remove(CONNECTION);
            }
            SessionEvent::Disconnected { reason } => {
                warn!(reason, "no connection to the policy store; the policy in force stays");
                self.faults.insert(CONNECTION, reason.clone());
            }
            _ => {}
        }
        let is_condition = matches!(event, SessionEvent::Connected | SessionEvent::Disconnected { .. });
        self.note_own_row(event);
        match self.follower.event(event) {
            Ok(seen) => self.seen.extend(seen.into_iter().filter(|seen| !matches!(seen, Seen::Host(..)))),
            Err(error) => {
                error!(%error, "a row of the policy store cannot be read; the policy in force stays");
                self.faults.insert(CONNECTION, error.to_string());
                return true;
            }
        }
        is_condition
    }

    /// What the store has of this host, and where.
    fn note_own_row(&mut self, event: &SessionEvent) {
        let SessionEvent::Update(changes) = event else { return };
        for change in changes.iter().filter(|change| &*change.table == schema::HOST) {
            self.row = match (&change.kind, change.new_row().map(|row| HostRow::read(row))) {
                (ChangeKind::Deleted { .. }, _) | (_, None) => None,
                (_, Some(Ok(row))) => Some((change.uuid, row)),
                (_, Some(Err(_))) => self.row.take(),
            };
        }
    }

    fn answered(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Conditions(Ok(())) => {
                self.follower.answer();
                false
            }
            Answer::Conditions(Err(reason)) => {
                error!(%reason, "the policy store refuses what this host is to see of it");
                self.faults.insert(CONNECTION, reason.to_string());
                true
            }
            Answer::Written(outcome) => {
                self.is_writing = false;
                let before = self.faults.remove(ROW);
                match outcome {
                    Ok(()) => before.is_some(),
                    Err(reason) => {
                        let reason = reason.to_string();
                        if before.as_ref() != Some(&reason) {
                            warn!(reason, "the policy store does not take what this host says of itself");
                        }
                        self.write_after = Some(Instant::now() + RETRY);
                        let is_new = before.as_ref() != Some(&reason);
                        self.faults.insert(ROW, reason);
                        is_new
                    }
                }
            }
        }
    }

    fn commit(&mut self) -> Option<PolicyDelta> {
        let delta = self.follower.commit()?;
        let seen = std::mem::take(&mut self.seen);
        let is_of_policy = |seen: &&Seen| !matches!(seen, Seen::Sequence(_));
        if let Some(journal) = &mut self.journal
            && seen.iter().any(|seen| is_of_policy(&seen))
            && let Err(error) = journal.add(&seen)
        {
            error!(%error, "what was seen of the store is not kept any more");
            self.faults.insert(CACHE, error.to_string());
            self.journal = None;
        }
        let faults = self.follower.view().faults();
        self.wanted_row.refuse(faults.map(|fault| (fault.object.clone(), fault.reason.clone())));
        Some(delta)
    }

    /// Asks the server for what is to be asked of it.
    fn ask(&mut self) {
        if let Some(conditions) = self.follower.next_conditions() {
            let handle = self.handle.clone();
            self.under_way.spawn(async move {
                for (table, conditions) in conditions {
                    if let Err(error) = handle.set_conditions(table, conditions).await {
                        return Answer::Conditions(Err(error));
                    }
                }
                Answer::Conditions(Ok(()))
            });
        }
        let is_wanted = self.row.as_ref().map(|(_, row)| row) != Some(&self.wanted_row);
        let may_write = self.follower.is_connected() && !self.is_writing && self.write_after.is_none();
        // A host that has never had a policy from the store has nothing to say.
        if may_write && is_wanted && self.follower.view().committed() > 0 {
            self.is_writing = true;
            let (handle, operation) = (
                self.handle.clone(),
                self.wanted_row.write(&self.setup.host, self.row.as_ref().map(|(uuid, _)| *uuid)),
            );
            self.under_way.spawn(async move {
                let transaction = Transaction::new(schema::DATABASE).with(operation);
                Answer::Written(handle.transact(transaction).await.map(|_| ()))
            });
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Hosts begin with different members, each with its own.
fn session_config(setup: &StoreSetup, follower: &Follower) -> SessionConfig {
    let mut remotes = setup.remotes.clone();
    let place = crc32fast::hash(setup.host.as_bytes()) as usize % remotes.len().max(1);
    remotes.rotate_left(place);
    let first = remotes.first().cloned().unwrap_or(Remote::Unix(PathBuf::new()));
    SessionConfig {
        remotes,
        tls: setup.tls.clone(),
        server: ServerPolicy::Connected,
        schema: Some(schema::schema()),
        monitors: follower.tables(),
        ..SessionConfig::new(first, schema::DATABASE)
    }
}
