//! The policy source that is the shared store: what concerns this host of it, as it changes.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ovsdb::session::{self, SessionEvents, SessionHandle, SetConditionsError, Traffic};
use ovsdb::{OperationIndex, Remote, ServerPolicy, SessionConfig, SessionEvent, TlsConfig, TransactError};
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

/// Something that concerns the store has happened.
#[derive(Debug)]
pub struct Happened(Input);

#[derive(Debug)]
enum Input {
    Event(SessionEvent),
    Answer(Option<Answer>),
    /// It is time to write again.
    Time,
    /// There may be something to go on with.
    Begun,
}

/// How often it is looked whether the driver knows by now what is plugged in.
const LOOK: Duration = Duration::from_millis(200);

/// What a server says who does not let somebody write (ovsdb-server(7), 4.1.3; a server or a connection that is read-only).
const NO_RIGHT: [&str; 2] = ["permission error", "not allowed"];

/// How long to wait before what a server did not take is written again.
const RETRY: Duration = Duration::from_secs(2);

/// A relay answers one host after the other: while hundreds begin at once it says nothing for minutes to those that it has not come to, and who gave
/// up would ask for the same once more. A machine that has died is noticed by the kernel.
const PROBE_INTERVAL: Duration = Duration::from_secs(180);

/// The answer to something that was asked of the server.
#[derive(Debug)]
enum Answer {
    Conditions(Result<(), SetConditionsError>),
    /// With the connection that it is to prove, if it is.
    Written(HostRow, Result<(), TransactError>, Option<u64>),
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
    asked: BTreeSet<PortId>,
    /// Ports that are in sight no more since the last commit.
    departed: Vec<PortId>,
    /// Rows have come.
    has_seen: bool,
    /// What is plugged in was looked at.
    knows_plugs: bool,
    /// What the store has of this host, as far as this agent has written it.
    row: Option<HostRow>,
    wanted_row: HostRow,
    is_writing: bool,
    write_after: Option<Instant>,
    /// When it is looked what is plugged in.
    look_at: Option<Instant>,
    /// Why the store is not there, or does not do what is asked of it.
    faults: BTreeMap<&'static str, String>,
}

/// Names of faults.
const CONNECTION: &str = "policy store";
/// Before the first word of the connection.
const NOT_YET: &str = "not connected yet";
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
                setup.cache.iter().for_each(|path| Journal::give_up(path));
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
        faults.insert(CONNECTION, NOT_YET.to_owned());
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
            asked: BTreeSet::new(),
            departed: Vec::new(),
            has_seen: false,
            knows_plugs: false,
            row: None,
            wanted_row,
            is_writing: false,
            write_after: None,
            look_at: None,
            faults,
            setup,
        }
    }

    /// Waits until something happens, for [`Store::take`]. Cancel safe.
    pub async fn wait(&mut self) -> Happened {
        if self.recalled.is_some() {
            return Happened(Input::Begun);
        }
        // Kept over calls: whoever asks for the status every moment ends each of them.
        let look_at = self.awaits_plugs().then(|| *self.look_at.get_or_insert_with(|| Instant::now() + LOOK));
        let retry = self.write_after;
        Happened(tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => Input::Event(event),
                None => std::future::pending().await,
            },
            Some(answer) = self.under_way.join_next() => Input::Answer(answer.ok()),
            () = until(retry) => Input::Time,
            () = until(look_at) => Input::Begun,
        })
    }

    /// Takes in what has happened. Whether there is something new to say of the source's condition.
    pub fn take(&mut self, Happened(input): Happened) -> bool {
        match input {
            Input::Event(event) => self.event(&event),
            Input::Answer(answer) => {
                // What came before the answer is looked at before it.
                let mut is_news = false;
                while let Some(event) = self.events.try_recv() {
                    is_news |= self.event(&event);
                }
                is_news | answer.is_some_and(|answer| self.answered(answer))
            }
            Input::Time => {
                self.write_after = None;
                false
            }
            Input::Begun => {
                self.look_at = None;
                false
            }
        }
    }

    /// How the policy changes, if it does: the first time, also when nothing does. `plugged` says which ports are plugged in here, once that is
    /// known: the store may not say of one of them that it is here (during a live migration, or because nobody tells), and before the
    /// store was asked for those too, nothing is closed.
    pub fn advance(&mut self, plugged: impl Fn() -> Option<BTreeSet<PortId>>) -> Option<PolicyDelta> {
        if let Some(delta) = self.recalled.take() {
            return Some(delta);
        }
        if self.awaits_plugs() {
            let plugged = plugged()?;
            let departed = std::mem::take(&mut self.departed);
            let mut asked: BTreeSet<_> = self.asked.intersection(&plugged).cloned().collect();
            match std::mem::replace(&mut self.knows_plugs, true) {
                true => asked.extend(departed.into_iter().filter(|port| plugged.contains(port))),
                false => {
                    asked.extend(plugged.into_iter().filter(|port| !self.follower.view().has_port(port)))
                }
            }
            self.look_for_these(asked);
        }
        let delta = self.commit();
        self.ask();
        delta
    }

    /// Whether nothing can be said before it is known what is plugged in.
    fn awaits_plugs(&self) -> bool {
        self.has_seen && (!self.knows_plugs || !self.departed.is_empty())
    }

    /// A port is plugged in that the policy does not know: perhaps the store does not say that it is here. What was pulled out since the last time is not
    /// looked for any more: here, and not at each change, as that would look at all ports.
    pub fn look_for(&mut self, port: PortId, is_plugged: impl Fn(&PortId) -> bool) {
        let mut asked: BTreeSet<_> = self.asked.iter().filter(|port| is_plugged(port)).cloned().collect();
        asked.insert(port);
        self.look_for_these(asked);
    }

    /// Everything that was told of is in force, but for what the datapath does not take.
    pub fn in_force(&mut self, refused: &[Fault]) {
        self.wanted_row.applied = self.follower.view().committed();
        let of_rows = self.follower.view().faults().map(|fault| (fault.object.clone(), fault.reason.clone()));
        let of_datapath = refused.iter().map(|fault| (fault.object.clone(), fault.reason.clone()));
        self.wanted_row.refuse(of_rows.chain(of_datapath));
        self.ask();
    }

    fn look_for_these(&mut self, ports: BTreeSet<PortId>) {
        if self.asked != ports {
            self.asked.clone_from(&ports);
            self.follower.ask_for(ports);
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

    /// Whether the store says, or may say, something that is not in the policy yet.
    pub fn is_behind(&self) -> bool {
        let view = self.follower.view();
        self.faults.contains_key(CONNECTION) || view.sequence() != view.committed()
    }

    /// The number of the last change that is in the policy; none before the first.
    pub fn sequence(&self) -> Option<u64> {
        u64::try_from(self.follower.view().committed()).ok().filter(|sequence| *sequence > 0)
    }

    /// How many objects of it are refused.
    pub fn refused_count(&self) -> usize {
        self.follower.view().faults().count()
    }

    /// What was said to the store's servers and by them so far; none when the session has ended.
    pub async fn traffic(&self) -> Option<Traffic> {
        self.handle.traffic().await
    }

    /// Whether there is something to say of it.
    fn event(&mut self, event: &SessionEvent) -> bool {
        match event {
            SessionEvent::Connected => {
                info!("connected to the policy store");
                self.write_after = None;
                self.faults.remove(CONNECTION);
            }
            SessionEvent::Disconnected { reason } => {
                let before = self.faults.insert(CONNECTION, reason.clone());
                // Once, also when a server after the other is tried.
                if self.follower.is_connected() || before.as_deref() == Some(NOT_YET) {
                    warn!(reason, "no connection to the policy store; the policy in force stays");
                }
            }
            _ => {}
        }
        self.has_seen |= matches!(event, SessionEvent::Update(_));
        let is_condition = matches!(event, SessionEvent::Connected | SessionEvent::Disconnected { .. });
        match self.follower.event(event) {
            Ok(seen) => {
                self.departed.extend(seen.iter().filter_map(|seen| match seen {
                    Seen::Port(port, None) => Some(port.clone()),
                    _ => None,
                }));
                self.seen.extend(seen);
            }
            Err(error) => {
                error!(%error, "a row of the policy store cannot be read; the policy in force stays");
                self.faults.insert(CONNECTION, error.to_string());
                return true;
            }
        }
        is_condition
    }

    fn answered(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Conditions(Ok(())) => {
                self.follower.answer();
                false
            }
            Answer::Conditions(Err(reason)) => {
                self.follower.refused();
                error!(%reason, "the policy store refuses what this host is to see of it");
                self.faults.insert(CONNECTION, reason.to_string());
                true
            }
            Answer::Written(row, outcome, proof) => {
                self.is_writing = false;
                // A host that may not write goes on with what it sees: it would never have a proof.
                let may_not = matches!(&outcome, Err(TransactError::Operation { error, .. }) if NO_RIGHT.contains(&error.error.as_str()));
                if let Some(connection) = proof.filter(|_| outcome.is_ok() || may_not) {
                    self.follower.proved(connection);
                }
                let before = self.faults.remove(ROW);
                match outcome {
                    Ok(()) => {
                        self.row = Some(row);
                        before.is_some()
                    }
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
            self.setup.cache.iter().for_each(|path| Journal::give_up(path));
        }
        Some(delta)
    }

    /// Asks the server for what is to be asked of it.
    fn ask(&mut self) {
        if let Some(conditions) = self.follower.next_conditions() {
            let handle = self.handle.clone();
            self.under_way.spawn(async move {
                // One after the other would be a round trip each.
                let set = |(table, conditions)| {
                    let handle = handle.clone();
                    async move { handle.set_conditions(table, conditions).await }
                };
                let mut tables: JoinSet<_> = conditions.into_iter().map(set).collect();
                while let Some(outcome) = tables.join_next().await {
                    if let Err(error) = outcome.unwrap_or(Err(SetConditionsError::Ended)) {
                        return Answer::Conditions(Err(error));
                    }
                }
                Answer::Conditions(Ok(()))
            });
        }
        let is_wanted = self.row.as_ref() != Some(&self.wanted_row);
        let may_write = self.follower.is_connected() && !self.is_writing && self.write_after.is_none();
        let proof = self.follower.wants_proof();
        // A host that has never had a policy from the store has nothing to say.
        let has_news = is_wanted && self.follower.view().committed() > 0;
        if may_write && (has_news || proof.is_some()) {
            self.is_writing = true;
            let (handle, row, name) = (self.handle.clone(), self.wanted_row.clone(), self.setup.host.clone());
            self.under_way.spawn(async move {
                let outcome = write(&handle, &row, &name).await;
                Answer::Written(row, outcome, proof)
            });
        }
    }
}

/// Writes the host's row, which may not be there yet.
async fn write(handle: &SessionHandle, row: &HostRow, name: &str) -> Result<(), TransactError> {
    let reply = handle.transact(row.update(name)).await?;
    if reply.count(OperationIndex(0)) == Some(0) {
        handle.transact(row.insert(name)).await?;
    }
    Ok(())
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
        probe_interval: PROBE_INTERVAL,
        ..SessionConfig::new(first, schema::DATABASE)
    }
}
