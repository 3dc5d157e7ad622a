//! The session as a state machine: no socket, no clock, no chance.
//!
//! ```text
//!   Waiting ──tick──► Connecting ──connected──► Server ──► Schema ──► Monitor ──► Live
//!      ▲                  │                       │           │          │         │
//!      └──────tick────── Lost ◄── closed, broken, silent, refused, not the server wanted
//! ```
//!
//! "Server" asks what the server tells of itself, where the configuration wants to know ([`ServerPolicy`]);
//! "Schema" is left out where the configuration has it.
//!
//! Whoever drives it feeds bytes, moments and wishes, and carries out the [`Effect`]s.

mod locks;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use thiserror::Error;

use self::locks::Lock;
use super::assumed::mismatch;
use super::member::Member;
use super::{ServerPolicy, SessionConfig, SessionEvent};
use crate::backoff::{Backoff, Jitter};
use crate::connection::{Connection, Incoming};
use crate::monitor::{Call, MonitorError, Progress, Purpose, Subscription};
use crate::remote::Remote;
use crate::replica::{Change, Replica};
use crate::schema::DatabaseSchema;
use crate::time::Timestamp;
use crate::transaction::{Condition, TransactError, TransactReply, Transaction};
use crate::wire::{RequestId, RpcError};

/// Names a wish, so that its outcome can be matched to it. Chosen by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Open a socket; then call [`Core::connected`] or [`Core::closed`].
    Connect(Remote),
    /// Close the socket, or stop opening it.
    Close,
    /// A transaction has its outcome.
    Transacted(Token, Result<TransactReply, TransactError>),
    /// A change of conditions has its outcome.
    ConditionsSet(Token, Result<(), SetConditionsError>),
}

/// Conditions that were not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetConditionsError {
    /// The session does not follow that table, or the schema does not fit.
    #[error(transparent)]
    Invalid(#[from] MonitorError),
    /// The server refused them.
    #[error("conditions refused: {0}")]
    Refused(RpcError),
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// Bytes that a session exchanged with its servers since it began, over all connections: those of the protocol,
/// without what TLS, TCP and IP add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// From the servers.
    pub received: u64,
    /// To the servers; those that still wait for the socket are counted.
    pub sent: u64,
}

/// The state of a session.
#[derive(Debug)]
pub struct Core {
    config: SessionConfig,
    /// Index into `config.remotes` of the next attempt.
    next_remote: usize,
    /// Attempts in this round of the remotes. When it is all of them, the backoff is waited for.
    tried: usize,
    backoff: Backoff,
    state: State,
    /// Since when the session is live, and the wait that came before.
    live_since: Option<Timestamp>,
    last_wait: Duration,
    schema: Option<Arc<DatabaseSchema>>,
    subscription: Subscription,
    locks: BTreeMap<String, Lock>,
    traffic: Traffic,
    events: VecDeque<SessionEvent>,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
enum State {
    Waiting {
        until: Timestamp,
    },
    Connecting {
        remote: Remote,
        until: Timestamp,
    },
    Connected(Box<Link>),
    /// The connection is gone; the next tick decides how long to wait.
    Lost,
}

/// A connection, and what its requests were for.
#[derive(Debug)]
struct Link {
    remote: Remote,
    connection: Connection,
    /// What the server tells of itself, if that is to be known and the server is not too old to tell.
    member: Option<Member>,
    pending: BTreeMap<RequestId, Pending>,
    is_live: bool,
}

#[derive(Debug)]
enum Pending {
    Member(Purpose),
    Schema,
    /// The schema, after the monitor was refused under the assumed one.
    Refused(RpcError),
    Monitor(Purpose, Option<Token>),
    Transact(Token, Transaction),
    Lock(String),
    Unlock,
}

impl Core {
    /// A session that connects at its first [`Core::tick`].
    pub fn new(config: SessionConfig, now: Timestamp) -> Self {
        Self {
            next_remote: 0,
            tried: 0,
            backoff: Backoff::new(config.backoff),
            state: State::Waiting { until: now },
            live_since: None,
            last_wait: Duration::ZERO,
            schema: None,
            subscription: Subscription::new(0, config.database.clone(), config.monitors.clone()),
            locks: BTreeMap::new(),
            traffic: Traffic::default(),
            events: VecDeque::new(),
            effects: VecDeque::new(),
            config,
        }
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next thing to tell. To be drained before the effects: changes come before the answer to the
    /// transaction that made them (ovsdb-server(7) 3.1, 4.1.5).
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Bytes for the socket; they are taken out.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.link().map(|link| link.connection.take_output()).unwrap_or_default();
        self.traffic.sent += output.len() as u64;
        output
    }

    /// The server that the session is live on.
    pub fn remote(&self) -> Option<&Remote> {
        if let State::Connected(link) = &self.state { link.is_live.then_some(&link.remote) } else { None }
    }

    /// The bytes that went over its connections.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The rows.
    pub const fn replica(&self) -> &Replica {
        self.subscription.replica()
    }

    /// The schema of the server last connected to; the one of the configuration, if it has one.
    pub const fn schema(&self) -> Option<&Arc<DatabaseSchema>> {
        self.schema.as_ref()
    }

    /// When [`Core::tick`] is to be called next; `None`: not before something else happens.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Waiting { until } | State::Connecting { until, .. } => Some(*until),
            State::Connected(link) => link.connection.next_deadline(),
            State::Lost => Some(Timestamp::default()),
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Timestamp, jitter: Jitter) {
        if matches!(self.state, State::Lost) {
            self.state = State::Waiting { until: now.after(self.wait_after_failure(jitter)) };
        }
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.connect(now),
            State::Connecting { until, .. } if *until <= now => {
                let reason = format!("no connection within {:?}", self.config.connect_timeout);
                self.fail(reason, now);
            }
            State::Connected(link) => {
                if let Err(error) = link.connection.tick(now) {
                    self.fail(error.to_string(), now);
                }
            }
            _ => {}
        }
    }

    /// The socket is open.
    pub fn connected(&mut self, now: Timestamp) {
        let State::Connecting { remote, .. } = &self.state else { return };
        self.state = State::Connected(Box::new(Link {
            remote: remote.clone(),
            connection: Connection::new(self.config.limits, self.config.probe_interval, now),
            member: None,
            pending: BTreeMap::new(),
            is_live: false,
        }));
        let begun = match self.config.server {
            ServerPolicy::Any => self.open(now),
            ServerPolicy::Connected | ServerPolicy::Leader => self.ask_member(),
        };
        if let Err(reason) = begun {
            self.fail(reason, now);
        }
    }

    /// The socket could not be opened, or was closed by the peer.
    pub fn closed(&mut self, reason: impl Into<String>, now: Timestamp) {
        self.fail(reason.into(), now);
    }

    /// Bytes came from the socket.
    pub fn receive(&mut self, bytes: &[u8], now: Timestamp) {
        self.traffic.received += bytes.len() as u64;
        let Some(link) = self.link() else { return };
        let received = link.connection.receive(bytes, now);
        while let Some(incoming) = self.link().and_then(|link| link.connection.next_incoming()) {
            if let Err(reason) = self.handle(incoming, now) {
                return self.fail(reason, now);
            }
        }
        if let Err(error) = received {
            self.fail(error.to_string(), now);
        }
    }

    /// Runs a transaction; [`Effect::Transacted`] tells the outcome.
    pub fn transact(&mut self, token: Token, transaction: Transaction) {
        let Some(link) = self.live_link() else {
            return self.effects.push_back(Effect::Transacted(token, Err(TransactError::NotConnected)));
        };
        let id = link.connection.request("transact", transaction.params());
        link.pending.insert(id, Pending::Transact(token, transaction));
    }

    /// Follows other rows of a table; [`Effect::ConditionsSet`] tells the outcome, after the changes.
    /// Without a connection the conditions are taken for the next one.
    pub fn set_conditions(&mut self, token: Token, table: &str, conditions: Vec<Condition>) {
        match self.subscription.set_conditions(table, conditions) {
            Err(error) => self.effects.push_back(Effect::ConditionsSet(token, Err(error.into()))),
            Ok(calls) if calls.is_empty() => self.effects.push_back(Effect::ConditionsSet(token, Ok(()))),
            Ok(calls) => self.send_calls(calls, Some(token)),
        }
    }

    fn connect(&mut self, now: Timestamp) {
        let Some(remote) = self.config.remotes.get(self.next_remote).cloned() else {
            return self.fail("no remote is configured".into(), now);
        };
        self.next_remote = (self.next_remote + 1) % self.config.remotes.len();
        self.tried += 1;
        let until = now.after(self.config.connect_timeout);
        self.state = State::Connecting { remote: remote.clone(), until };
        self.effects.push_back(Effect::Connect(remote));
    }

    /// None while there is a remote that was not tried in this round.
    fn wait_after_failure(&mut self, jitter: Jitter) -> Duration {
        if self.tried < self.config.remotes.len() {
            return Duration::ZERO;
        }
        self.tried = 0;
        self.last_wait = self.backoff.after_failure(jitter);
        self.last_wait
    }

    fn fail(&mut self, reason: String, now: Timestamp) {
        let state = std::mem::replace(&mut self.state, State::Lost);
        match state {
            State::Lost => return,
            State::Connected(link) => self.abandon(*link, &reason),
            State::Waiting { .. } | State::Connecting { .. } => {}
        }
        self.effects.push_back(Effect::Close);
        self.subscription.disconnected();
        self.locks_lost();
        // A connection that lasted longer than the wait before it was a good one: a new round begins, in which its
        // server has been tried. Any shorter one is an attempt like others, or two servers that drop us at
        // once would have us back without end.
        let enough = self.last_wait.max(self.config.backoff.shortest);
        if self.live_since.take().is_some_and(|since| now.since(since) >= enough) {
            self.backoff.reset();
            self.tried = 1;
        }
        self.events.push_back(SessionEvent::Disconnected { reason });
    }

    fn abandon(&mut self, link: Link, reason: &str) {
        for pending in link.pending.into_values() {
            match pending {
                Pending::Transact(token, _) => {
                    let lost = Err(TransactError::Lost(reason.to_owned()));
                    self.effects.push_back(Effect::Transacted(token, lost));
                }
                // They are part of the next start.
                Pending::Monitor(_, Some(token)) => {
                    self.effects.push_back(Effect::ConditionsSet(token, Ok(())))
                }
                Pending::Monitor(_, None)
                | Pending::Member(_)
                | Pending::Schema
                | Pending::Refused(_)
                | Pending::Lock(_)
                | Pending::Unlock => {}
            }
        }
    }

    fn handle(&mut self, incoming: Incoming, now: Timestamp) -> Result<(), String> {
        match incoming {
            Incoming::Notification { method, params } => self.notified(&method, &params),
            Incoming::Response { id, outcome } => {
                let Some(pending) = self.link().and_then(|link| link.pending.remove(&id)) else {
                    return Ok(());
                };
                self.answered(id, pending, outcome, now)
            }
        }
    }

    fn answered(
        &mut self,
        id: RequestId,
        pending: Pending,
        outcome: Result<Json, RpcError>,
        now: Timestamp,
    ) -> Result<(), String> {
        match pending {
            Pending::Member(purpose) => self.member_answered(purpose, outcome, now),
            Pending::Schema => {
                let schema = self.read_schema(outcome)?;
                self.begin(schema, now)
            }
            Pending::Refused(error) => {
                let found = self.read_schema(outcome)?;
                Err(self.why_refused(&found, &error))
            }
            Pending::Monitor(purpose, token) => self.monitor_answered(purpose, token, outcome, now),
            Pending::Transact(token, transaction) => {
                let outcome = TransactReply::read(outcome, &transaction, self.schema.as_deref());
                self.effects.push_back(Effect::Transacted(token, outcome));
                Ok(())
            }
            Pending::Lock(name) => self.lock_answered(id, &name, outcome),
            Pending::Unlock => Ok(()),
        }
    }

    /// Asks what the server tells of itself.
    fn ask_member(&mut self) -> Result<(), String> {
        let (member, call) = Member::new(&self.config.database)?;
        let Some(link) = self.link() else { return Ok(()) };
        link.member = Some(member);
        link.send(call, Pending::Member);
        Ok(())
    }

    fn member_answered(
        &mut self,
        purpose: Purpose,
        outcome: Result<Json, RpcError>,
        now: Timestamp,
    ) -> Result<(), String> {
        let State::Connected(link) = &mut self.state else { return Ok(()) };
        let Some(member) = &mut link.member else { return Ok(()) };
        match member.answered(purpose, outcome) {
            // A server older than `_Server` is taken as it is.
            Err(MonitorError::Refused(error)) if error.is_unknown_database() => link.member = None,
            Err(error) => return Err(format!("{}: {error}", link.remote)),
            Ok(Progress::Fallback(call)) => {
                link.send(call, Pending::Member);
                return Ok(());
            }
            Ok(_) => member.verdict(self.config.server, &link.remote, &self.config.database)?,
        }
        self.open(now)
    }

    /// Follows the tables by the schema that is known, or asks for it.
    fn open(&mut self, now: Timestamp) -> Result<(), String> {
        if let Some(schema) = &self.config.schema {
            return self.begin(schema.clone(), now);
        }
        self.ask_for_schema(Pending::Schema);
        Ok(())
    }

    fn ask_for_schema(&mut self, pending: Pending) {
        let params = json!([self.config.database]);
        let Some(link) = self.link() else { return };
        let id = link.connection.request("get_schema", params);
        link.pending.insert(id, pending);
    }

    fn read_schema(&self, outcome: Result<Json, RpcError>) -> Result<Arc<DatabaseSchema>, String> {
        let json = outcome.map_err(|error| format!("no schema of {}: {error}", self.config.database))?;
        DatabaseSchema::from_json(&json).map(Arc::new).map_err(|error| error.to_string())
    }

    /// Why the monitor was refused with `error`: what the server's schema lacks of the assumed one.
    fn why_refused(&self, found: &DatabaseSchema, error: &RpcError) -> String {
        let assumed = self.config.schema.as_deref();
        let reason = assumed
            .and_then(|assumed| mismatch(&self.config.database, assumed, found, &self.config.monitors));
        reason.unwrap_or_else(|| MonitorError::Refused(error.clone()).to_string())
    }

    /// With the schema, the tables can be followed.
    fn begin(&mut self, schema: Arc<DatabaseSchema>, now: Timestamp) -> Result<(), String> {
        self.schema = Some(schema.clone());
        if self.config.monitors.is_empty() {
            self.go_live(Vec::new(), now);
            return Ok(());
        }
        let call = self.subscription.start(&schema).map_err(|error| error.to_string())?;
        self.send_calls(vec![call], None);
        Ok(())
    }

    fn monitor_answered(
        &mut self,
        purpose: Purpose,
        token: Option<Token>,
        outcome: Result<Json, RpcError>,
        now: Timestamp,
    ) -> Result<(), String> {
        let mut conditions = Ok(());
        let progress = match self.subscription.answered(purpose, outcome) {
            Ok(progress) => progress,
            Err(error) => {
                // They are part of the next start.
                self.effects.extend(token.map(|token| Effect::ConditionsSet(token, Ok(()))));
                return self.monitor_ended(error);
            }
        };
        match progress {
            Progress::Fallback(call) => {
                self.send_calls(vec![call], token);
                return Ok(());
            }
            Progress::Synced(changes) => self.synced(changes, now)?,
            Progress::Conditions(outcome) => conditions = outcome.map_err(SetConditionsError::Refused),
            Progress::Nothing => {}
        }
        if let Some(token) = token {
            self.effects.push_back(Effect::ConditionsSet(token, conditions));
        }
        Ok(())
    }

    fn monitor_ended(&mut self, error: MonitorError) -> Result<(), String> {
        match error {
            MonitorError::Refused(error) if self.config.schema.is_some() => {
                self.ask_for_schema(Pending::Refused(error));
                Ok(())
            }
            error => Err(error.to_string()),
        }
    }

    fn synced(&mut self, changes: Vec<Change>, now: Timestamp) -> Result<(), String> {
        if self.link().is_some_and(|link| link.is_live) {
            self.push_update(changes);
        } else {
            self.go_live(changes, now);
        }
        let calls = self.subscription.deferred_calls().map_err(|error| error.to_string())?;
        self.send_calls(calls, None);
        Ok(())
    }

    fn go_live(&mut self, changes: Vec<Change>, now: Timestamp) {
        if let Some(link) = self.link() {
            link.is_live = true;
        }
        self.live_since = Some(now);
        self.events.push_back(SessionEvent::Connected);
        self.events.push_back(SessionEvent::Update(changes));
        self.ask_for_locks();
    }

    fn push_update(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.events.push_back(SessionEvent::Update(changes));
        }
    }

    fn notified(&mut self, method: &str, params: &Json) -> Result<(), String> {
        let lock_name = || params.get(0).and_then(Json::as_str).unwrap_or_default();
        match method {
            "locked" => self.lock_is_ours(lock_name(), true),
            "stolen" => self.lock_is_ours(lock_name(), false),
            _ if self.member_notified(method, params)? => {}
            _ => {
                let changes =
                    self.subscription.notified(method, params).map_err(|error| error.to_string())?;
                self.push_update(changes.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// True if the notification was about the server; the error says why it is left.
    fn member_notified(&mut self, method: &str, params: &Json) -> Result<bool, String> {
        let State::Connected(link) = &mut self.state else { return Ok(false) };
        let Some(member) = &mut link.member else { return Ok(false) };
        let is_ours = member.notified(method, params).map_err(|error| format!("{}: {error}", link.remote))?;
        if is_ours {
            member.verdict(self.config.server, &link.remote, &self.config.database)?;
        }
        Ok(is_ours)
    }

    /// Sends the calls; the token belongs to the last of them.
    fn send_calls(&mut self, calls: Vec<Call>, token: Option<Token>) {
        let State::Connected(link) = &mut self.state else { return };
        let last = calls.len().saturating_sub(1);
        for (index, call) in calls.into_iter().enumerate() {
            link.send(call, |purpose| Pending::Monitor(purpose, token.filter(|_| index == last)));
        }
    }

    fn link(&mut self) -> Option<&mut Link> {
        if let State::Connected(link) = &mut self.state { Some(link) } else { None }
    }

    fn live_link(&mut self) -> Option<&mut Link> {
        self.link().filter(|link| link.is_live)
    }
}

impl Link {
    fn send(&mut self, Call { method, params, purpose }: Call, pending: impl FnOnce(Purpose) -> Pending) {
        let id = self.connection.request(method, params);
        self.pending.insert(id, pending(purpose));
    }
}
