//! The server's objects, followed: events in, calls and updates out.
//!
//! ```text
//! Connected ─► report ─► groups, address groups ─► ids of ports ─► ports, 200 at a time ─► followed by pushes
//!                 ▲              │ empty: asked again                                            │
//!                 └─ every 30 s  └──────────────── again 75 s later, then every hour ◄───────────┘
//! ```
//!
//! Nothing is told before everything was pulled once. From then on each push is told of at once, and what is pulled again corrects what was missed. An object never goes back to
//! an older revision, and one that was deleted does not come back. When the connection is lost the policy stays as it is.

mod calls;
mod enforced;
mod known;
mod report;
mod resync;
#[cfg(test)]
mod tests;
mod tombstones;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::{Policy, PolicyDelta, PortId};
use serde_json::Value;

use super::envelope::{Message, Push, Reply};
use super::object::{self, Kind};
use crate::Refused;
use calls::{Ask, CHUNK, Calls, Sent};
use enforced::{Enforced, Name};
use known::{Known, LAG, Lacking, Told};
use resync::{EMPTY_PAUSE, REFERENTS, Resync, Stage};

pub use calls::TIMEOUT;

/// So often everything is pulled again although nothing is known to be missed: a push is a cast, which may be lost.
const AUDIT: Duration = Duration::from_secs(3600);

/// So often what something names is asked for before it is taken for missing.
const SEEK: u32 = 3;

/// So often ports that were named before are asked for again when none of them is in the answer: for two minutes, as with any empty answer.
const EMPTY_CHUNKS: u32 = 7;

/// So many of these are asked for at a time.
const SOUGHT: usize = 256;

/// Who we are, and what is expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// As `sgflow publisher`; with `host`, what the server knows us by.
    pub agent_type: String,
    /// As `sgflow-publisher`.
    pub binary: String,
    /// The host.
    pub host: String,
    /// What the names of messages begin with; another for each mirror and each run.
    pub seed: String,
    /// Whether a policy is in force that was not told by this mirror: then an answer without any group or port is doubted even at the start.
    pub expected_nonempty: bool,
}

/// The time of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Since any one moment; never goes back.
    pub monotonic: Duration,
    /// Since 1970 in UTC: the server is told of it.
    pub utc: Duration,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// There is a connection, and everything that is pushed from now on will come as a [`Event::Message`]: the queues are bound and consumed.
    Connected {
        /// Where answers come.
        reply_queue: String,
    },
    /// The connection is gone, or could not be had, for this reason.
    Lost(String),
    /// The body of a message from any of our queues.
    Message(&'a [u8]),
    /// A call with this id went nowhere, for this reason.
    Unsent {
        /// As in [`Effect::Call`].
        id: String,
        /// For people.
        reason: String,
    },
    /// It is time, as [`Mirror::wakeup`] said.
    Time,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Publish a call to [`super::EXCHANGE`], to expire after [`TIMEOUT`].
    Call {
        /// The routing key.
        topic: &'static str,
        /// The id, for [`Event::Unsent`].
        id: String,
        /// The body.
        body: String,
    },
    /// Tell of this.
    Update(Update),
}

/// How far the mirror follows the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// There is no connection.
    Disconnected,
    /// Everything is being pulled.
    Pulling,
    /// The policy is the server's, as far as it is not refused.
    Following,
}

/// What is wrong with the source as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// What is concerned, as `RabbitMQ` or `bulk_pull of Port`.
    pub object: String,
    /// What is wrong.
    pub reason: String,
}

/// News.
#[derive(Clone, PartialEq, Debug)]
pub struct Update {
    /// How the policy changes. The first one is all of it, even if that is nothing.
    pub delta: Option<PolicyDelta>,
    /// The hosts of each port for which they are others than before, or that is new: where it is active first, then where else it is bound.
    pub hosts: Vec<(PortId, Vec<String>)>,
    /// All that is refused at the moment; it stays as it was, or closed if it is new.
    pub refused: Vec<Refused>,
    /// All that is wrong with the source at the moment.
    pub faults: Vec<Fault>,
    /// How far the server is followed.
    pub state: State,
}

#[derive(Clone, Debug)]
struct Connection {
    since: Duration,
    reply_queue: String,
    /// Whether a report was answered, or given up.
    reported: bool,
    /// When everything is to be pulled again since servers may not know of us yet.
    resync_at: Vec<Duration>,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Mirror {
    options: Options,
    known: Known,
    enforced: Enforced,
    calls: Calls,
    connection: Option<Connection>,
    resync: Option<Resync>,
    /// When everything is to be pulled again.
    resync_at: Option<Duration>,
    report_at: Duration,
    has_started: bool,
    /// Whether all was pulled once.
    is_complete: bool,
    has_told_policy: bool,
    /// What was asked for, or found nowhere, since the last resync.
    sought: BTreeSet<Name>,
    unfound: BTreeSet<Name>,
    faults: BTreeMap<String, String>,
    /// Objects that could not even be put into the API's words, by name.
    unreadable: BTreeMap<String, Refused>,
    told: (Vec<Refused>, Vec<Fault>, State),
}

impl Mirror {
    /// Nothing is known, and there is no connection.
    pub fn new(options: Options) -> Self {
        Mirror {
            calls: Calls::new(options.seed.clone()),
            options,
            known: Known::default(),
            enforced: Enforced::default(),
            connection: None,
            resync: None,
            resync_at: None,
            report_at: Duration::ZERO,
            has_started: false,
            is_complete: false,
            has_told_policy: false,
            sought: BTreeSet::new(),
            unfound: BTreeSet::new(),
            faults: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            told: (Vec::new(), Vec::new(), State::Disconnected),
        }
    }

    /// The policy as it was told; empty before everything was pulled once.
    pub fn policy(&self) -> &Policy {
        &self.enforced.policy
    }

    /// Hosts that a port of the policy is bound to: where it is active first.
    pub fn hosts(&self, port: &PortId) -> Vec<&str> {
        self.enforced.hosts.get(port).into_iter().flatten().map(String::as_str).collect()
    }

    /// How far the server is followed.
    pub fn state(&self) -> State {
        match (&self.connection, self.is_complete && self.resync.is_none()) {
            (None, _) => State::Disconnected,
            (Some(Connection { reported: true, .. }), true) => State::Following,
            _ => State::Pulling,
        }
    }

    /// When [`Event::Time`] is due.
    pub fn wakeup(&self) -> Option<Duration> {
        self.connection.as_ref()?;
        // One that is under way ends first.
        let resync_at = self.resync_at.filter(|_| self.resync.is_none());
        [Some(self.report_at), resync_at, self.calls.wakeup()].into_iter().flatten().min()
    }

    /// Takes an event in. Costs as much as what it brings, but for a resync.
    pub fn handle(&mut self, event: Event<'_>, now: Now) -> Vec<Effect> {
        let at = now.monotonic;
        match event {
            Event::Connected { reply_queue } => self.connected(reply_queue, at),
            Event::Lost(reason) => self.lost(reason),
            Event::Message(body) => self.message(body, at),
            Event::Unsent { id, reason } => {
                if let Some(sent) = self.calls.answered(&id) {
                    self.failed(sent, &reason, at);
                }
            }
            Event::Time => {}
        }
        self.look_at_the_time(at);
        let mut effects = Vec::new();
        effects.extend(self.update(at).map(Effect::Update));
        self.send(now, &mut effects);
        effects
    }

    fn connected(&mut self, reply_queue: String, now: Duration) {
        self.disconnect();
        self.faults.remove(BROKER);
        self.connection =
            Some(Connection { since: now, reply_queue, reported: false, resync_at: Vec::new() });
        self.report(now);
    }

    fn lost(&mut self, reason: String) {
        self.disconnect();
        self.faults.insert(BROKER.to_owned(), reason);
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.calls.forget(|_| true);
        (self.resync, self.resync_at) = (None, None);
        self.sought.clear();
        self.faults.clear();
    }

    fn report(&mut self, now: Duration) {
        self.calls.ask_first(Ask::Report);
        self.report_at = now + report::INTERVAL;
    }

    fn look_at_the_time(&mut self, now: Duration) {
        for sent in self.calls.expired(now) {
            self.failed(sent, &format!("no answer within {} s", TIMEOUT.as_secs()), now);
        }
        if self.connection.is_none() {
            return;
        }
        if self.report_at <= now {
            // One that is not answered yet is asked for again when it is late.
            self.calls.forget(|ask| *ask == Ask::Report);
            self.report(now);
        }
        if self.resync_at.is_some_and(|at| at <= now) && self.resync.is_none() {
            self.begin_resync(now);
        }
    }

    fn begin_resync(&mut self, now: Duration) {
        self.resync_at = None;
        self.unfound.clear();
        self.unreadable.clear();
        self.faults.remove(MESSAGE);
        self.calls.forget(|ask| !matches!(ask, Ask::Report | Ask::One(..)));
        self.resync = Some(Resync::new(now));
        REFERENTS.iter().for_each(|kind| self.calls.ask(Ask::All(*kind), now));
    }

    fn message(&mut self, body: &[u8], now: Duration) {
        match Message::decode(body) {
            Ok(Message::Reply(reply)) => self.reply(reply, now),
            Ok(Message::Push(push)) => self.push(push, now),
            // Nobody calls us.
            Ok(Message::Other { .. }) => {}
            Err(reason) => self.complain(MESSAGE, reason.to_string()),
        }
    }

    fn complain(&mut self, object: &str, reason: String) {
        self.faults.insert(object.to_owned(), reason);
    }

    fn push(&mut self, Push { resources, is_deleted }: Push, now: Duration) {
        for resource in &resources {
            if is_deleted {
                match object::identity(resource) {
                    Ok((kind, id, _)) => self.known.delete(kind, &id, now),
                    Err(refused) => self.refuse(refused),
                }
            } else if let Some(group) = self.take(resource, Told::Pushed(now), now, now) {
                // A rule of a group that is not known: its push is to come, or was missed.
                self.seek((Kind::SecurityGroup, group), now);
            }
        }
    }

    /// Takes an object over; see [`Known::take`].
    fn take(&mut self, primitive: &Value, told: Told, sent: Duration, now: Duration) -> Option<String> {
        match object::read(primitive) {
            Ok(object) => {
                if !self.unreadable.is_empty() {
                    self.unreadable.remove(&format!("{} {}", object.body.kind().words(), object.id));
                }
                self.known.take(object, told, self.lacking(sent, now))
            }
            Err(refused) => {
                self.refuse(refused);
                None
            }
        }
    }

    fn refuse(&mut self, refused: Refused) {
        self.unreadable.insert(refused.object.clone(), refused);
    }

    fn lacking(&self, sent: Duration, now: Duration) -> Lacking {
        let since = self.connection.as_ref().map_or(now, |connection| connection.since);
        Lacking { sent, since, now }
    }

    fn seek(&mut self, name: Name, now: Duration) {
        if self.sought.len() < SOUGHT && self.sought.insert(name.clone()) {
            self.calls.ask(Ask::One(name.0, name.1), now);
        }
    }

    fn reply(&mut self, Reply { id, result, is_last }: Reply, now: Duration) {
        // One that is not known was given up, or is of a connection before.
        let Some(sent) = is_last.then(|| self.calls.answered(&id)).flatten() else { return };
        let value = match result {
            Ok(value) => value,
            Err(failure) => return self.failed(sent, &failure.to_string(), now),
        };
        if sent.ask == Ask::Report {
            self.faults.remove(&sent.ask.words());
            return self.reported(value.as_str() == Some("alive"), now);
        }
        match value {
            Value::Array(primitives) => {
                self.faults.remove(&sent.ask.words());
                self.pulled(&sent, &primitives, now);
            }
            other => {
                let found = super::envelope::kind(Some(&other));
                self.failed(sent, &format!("the answer is {found}, not a list"), now);
            }
        }
    }

    /// A call failed, was not answered, or went nowhere.
    fn failed(&mut self, sent: Sent, reason: &str, now: Duration) {
        self.complain(&sent.ask.words(), reason.to_owned());
        match &sent.ask {
            // Without it there may be no pushes, but the pulls are worth having.
            Ask::Report => self.reported(true, now),
            Ask::One(kind, id) if sent.failures + 1 >= SEEK => {
                let name = (*kind, id.clone());
                self.sought.remove(&name);
                self.unfound.insert(name);
            }
            _ => self.calls.ask_again(sent, now),
        }
    }

    /// If we were not alive to the server, its pushes may not have been in our versions.
    fn reported(&mut self, was_alive: bool, now: Duration) {
        let Some(connection) = &mut self.connection else { return };
        let is_first = !std::mem::replace(&mut connection.reported, true);
        self.has_started = true;
        if is_first || !was_alive {
            let again = if was_alive { &report::AGAIN[2..] } else { &report::AGAIN[..] };
            connection.resync_at = again.iter().map(|after| now + *after).collect();
            self.resync_no_later_than(now);
        }
    }

    fn resync_no_later_than(&mut self, at: Duration) {
        self.resync_at = Some(self.resync_at.map_or(at, |before| before.min(at)));
    }

    fn pulled(&mut self, sent: &Sent, primitives: &[Value], now: Duration) {
        match &sent.ask {
            Ask::Report => {}
            Ask::All(kind) => {
                if self.is_believed(*kind, primitives.is_empty(), &sent.ask, now) {
                    let present = self.take_all(primitives, sent.at, now);
                    self.drop_missing(*kind, None, &present, sent.at, now);
                    self.stage_is_done(now);
                }
            }
            Ask::PortIds => {
                let is_implausible = !primitives.is_empty() && self.known.count(Kind::SecurityGroup) == 0;
                // A port has a group of its project's, the default one at least, unless it says otherwise.
                if is_implausible
                    && !self.is_believed(Kind::SecurityGroup, true, &Ask::All(Kind::SecurityGroup), now)
                {
                    if let Some(resync) = &mut self.resync {
                        resync.stage = Stage::Referents(1);
                    }
                } else if self.is_believed(Kind::Port, primitives.is_empty(), &sent.ask, now) {
                    self.port_ids(primitives, sent.at, now);
                }
            }
            Ask::Ports(ids) => {
                let may_be_there = |id: &String| !self.known.tombstones.is_deleted(Kind::Port, id);
                if primitives.is_empty() && sent.failures < EMPTY_CHUNKS && ids.iter().any(may_be_there) {
                    return self.failed(sent.clone(), "the answer is empty, which is not believed yet", now);
                }
                let present = self.take_all(primitives, sent.at, now);
                self.drop_missing(Kind::Port, Some(ids), &present, sent.at, now);
                self.stage_is_done(now);
            }
            Ask::One(kind, id) => {
                let name = (*kind, id.clone());
                self.sought.remove(&name);
                if !self.take_all(primitives, sent.at, now).contains(id) {
                    self.unfound.insert(name);
                }
            }
        }
    }

    /// Whether an answer is taken for what it says; if not, it is asked for again.
    fn is_believed(&mut self, kind: Kind, is_empty: bool, ask: &Ask, now: Duration) -> bool {
        let fault = format!("{}s", kind.words());
        let Some(resync) = &mut self.resync else { return false };
        let held = self.known.count(kind);
        let is_start = self.options.expected_nonempty && !self.is_complete;
        let nothing_yet = is_start && kind == Kind::SecurityGroup;
        let contradicts = kind == Kind::SecurityGroup && resync.stage == Stage::PortIds;
        if !is_empty {
            resync.trust(kind);
        }
        if !is_empty || !(held > 0 || nothing_yet || contradicts) {
            self.faults.remove(&fault);
            return true;
        }
        let Some(count) = resync.doubt(kind) else {
            self.faults.remove(&fault);
            return true;
        };
        let asked = format!("Neutron names none, which is not believed yet ({count} times in a row)");
        self.complain(&fault, asked);
        self.calls.ask(ask.clone(), now + EMPTY_PAUSE);
        false
    }

    /// Takes what an answer has; the ids in it, also of what cannot be read.
    fn take_all(&mut self, primitives: &[Value], sent: Duration, now: Duration) -> BTreeSet<String> {
        let mut present = BTreeSet::new();
        for primitive in primitives {
            present.extend(object::identity(primitive).map(|(_, id, _)| id));
            // A rule comes inside its group here.
            _ = self.take(primitive, Told::Pulled { sent }, sent, now);
        }
        present
    }

    fn drop_missing(
        &mut self,
        kind: Kind,
        asked: Option<&[String]>,
        present: &BTreeSet<String>,
        sent: Duration,
        now: Duration,
    ) {
        let lacking = self.lacking(sent, now);
        let spared = self.known.keep_only(kind, asked, present, lacking);
        if let Some(resync) = &mut self.resync {
            resync.spared |= spared;
        }
    }

    fn port_ids(&mut self, primitives: &[Value], sent: Duration, now: Duration) {
        let ids: BTreeSet<String> = primitives
            .iter()
            .filter_map(|primitive| object::identity(primitive).ok())
            .map(|(_, id, _)| id)
            .collect();
        self.drop_missing(Kind::Port, None, &ids, sent, now);
        let ids: Vec<String> = ids.into_iter().collect();
        let chunks: Vec<Ask> = ids.chunks(CHUNK).map(|chunk| Ask::Ports(chunk.to_vec())).collect();
        let Some(resync) = &mut self.resync else { return };
        resync.stage = Stage::Ports(chunks.len());
        match chunks.is_empty() {
            true => self.resynced(now),
            false => chunks.into_iter().for_each(|ask| self.calls.ask(ask, now)),
        }
    }

    /// One answer less to wait for.
    fn stage_is_done(&mut self, now: Duration) {
        let Some(resync) = &mut self.resync else { return };
        match resync.stage {
            Stage::Referents(2..) => resync.stage = Stage::Referents(1),
            Stage::Referents(_) => {
                resync.stage = Stage::PortIds;
                self.calls.ask(Ask::PortIds, now);
            }
            Stage::Ports(left @ 2..) => resync.stage = Stage::Ports(left - 1),
            Stage::Ports(_) => self.resynced(now),
            Stage::PortIds => {}
        }
    }

    fn resynced(&mut self, now: Duration) {
        let Some(resync) = self.resync.take() else { return };
        self.is_complete = true;
        let forgot = std::mem::take(&mut self.known.forgot_orphans)
            || self.known.tombstones.forgot_since(resync.began);
        self.resync_no_later_than(now + if resync.spared || forgot { LAG } else { AUDIT });
        let later = self.connection.iter().flat_map(|connection| &connection.resync_at);
        if let Some(at) = later.copied().filter(|at| *at > now).min() {
            self.resync_no_later_than(at);
        }
    }

    /// What is new, if anything is.
    fn update(&mut self, now: Duration) -> Option<Update> {
        let mut delta = None;
        let mut hosts = Vec::new();
        if self.is_complete {
            let step = self.enforced.follow(&mut self.known, &self.unfound);
            let is_first = !std::mem::replace(&mut self.has_told_policy, true);
            if is_first || !step.delta.is_empty() {
                delta = Some(step.delta);
            }
            hosts = step.hosts;
            if self.connection.is_some() {
                step.wanted.into_iter().for_each(|name| self.seek(name, now));
            }
        }
        let refused = self.enforced.refused.values().flatten().chain(self.unreadable.values());
        let refused: Vec<Refused> = refused.cloned().collect();
        let fault =
            |(object, reason): (&String, &String)| Fault { object: object.clone(), reason: reason.clone() };
        let faults: Vec<Fault> = self.faults.iter().map(fault).collect();
        let state = self.state();
        let told = (refused, faults, state);
        if delta.is_none() && hosts.is_empty() && told == self.told {
            return None;
        }
        self.told = told;
        let (refused, faults, state) = self.told.clone();
        Some(Update { delta, hosts, refused, faults, state })
    }

    fn send(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(Connection { reply_queue, .. }) = &self.connection else { return };
        let Options { agent_type, binary, host, .. } = &self.options;
        let report = report::arguments(agent_type, binary, host, !self.has_started, now.utc);
        while let Some((topic, id, body)) = self.calls.next(reply_queue, &report, now.monotonic) {
            effects.push(Effect::Call { topic, id, body });
        }
    }
}

/// Names of faults.
const BROKER: &str = "RabbitMQ";
const MESSAGE: &str = "a message";
