//! A store, somebody who writes, and hosts that follow: no socket, no clock.

use std::collections::BTreeSet;
use std::time::Duration;

use ovsdb::backoff::Jitter;
use ovsdb::server::{ConnectionId, MemoryServer};
use ovsdb::session::{Core, Effect, Token};
use ovsdb::{MonitorTable, Remote, SessionConfig, SessionEvent, Timestamp, Transaction};
use policy::{Policy, PolicyDelta, Port};

use crate::schema::{self, DATABASE};
use crate::{Follower, Held, Writer, prepare};

/// Time between two looks at everything.
const STEP: Duration = Duration::from_millis(10);

pub(super) fn remote() -> Remote {
    "unix:/there".parse().unwrap()
}

/// One client's session: bytes between a [`Core`] and the server.
pub(super) struct Session {
    pub(super) core: Core,
    connection: Option<ConnectionId>,
    /// Whether bytes get through.
    pub(super) is_cut: bool,
    /// Effects that are no socket's.
    pub(super) effects: Vec<Effect>,
}

impl Session {
    pub(super) fn new(tables: Vec<MonitorTable>, now: Timestamp) -> Self {
        let mut config = SessionConfig::new(remote(), DATABASE);
        config.monitors = tables;
        config.backoff.longest = Duration::from_secs(1);
        Session { core: Core::new(config, now), connection: None, is_cut: false, effects: Vec::new() }
    }

    /// Carries bytes and effects until nothing is left; gives back what the session told.
    pub(super) fn run(&mut self, server: &mut MemoryServer, now: Timestamp) -> Vec<SessionEvent> {
        let mut told = Vec::new();
        self.core.tick(now, Jitter::new(0));
        loop {
            told.extend(std::iter::from_fn(|| self.core.next_event()));
            let mut is_quiet = true;
            while let Some(effect) = self.core.next_effect() {
                is_quiet = false;
                match effect {
                    Effect::Connect(_) if self.is_cut => self.core.closed("cut", now),
                    Effect::Connect(_) => {
                        self.connection = Some(server.connect());
                        self.core.connected(now);
                    }
                    Effect::Close => {
                        if let Some(connection) = self.connection.take() {
                            server.disconnect(connection);
                        }
                    }
                    effect => self.effects.push(effect),
                }
            }
            if let Some(connection) = self.connection.filter(|_| !self.is_cut) {
                let sent = self.core.take_output();
                if !sent.is_empty() {
                    server.receive(connection, &sent, now);
                }
                let received = server.take_output(connection);
                is_quiet &= sent.is_empty() && received.is_empty();
                if !received.is_empty() {
                    self.core.receive(&received, now);
                }
            }
            if is_quiet {
                return told;
            }
        }
    }

    /// What was sent arrives; nothing comes back.
    pub(super) fn deliver(&mut self, server: &mut MemoryServer, now: Timestamp) {
        if let Some(connection) = self.connection {
            server.receive(connection, &self.core.take_output(), now);
        }
    }

    /// The connection is lost, with what was on its way.
    pub(super) fn lose(&mut self, server: &mut MemoryServer, now: Timestamp) {
        if let Some(connection) = self.connection.take() {
            server.disconnect(connection);
            self.core.closed("lost", now);
        }
    }
}

/// A host: what it follows, and the policy that it came to.
pub(super) struct Host {
    pub(super) session: Session,
    pub(super) follower: Follower,
    pub(super) policy: Policy,
    pub(super) deltas: Vec<PolicyDelta>,
    tokens: u64,
}

impl Host {
    pub(super) fn new(name: &str, now: Timestamp) -> Self {
        let follower = Follower::new(name);
        let session = Session::new(follower.tables(), now);
        Host { session, follower, policy: Policy::default(), deltas: Vec::new(), tokens: 0 }
    }

    pub(super) fn run(&mut self, server: &mut MemoryServer, now: Timestamp) {
        loop {
            for event in self.session.run(server, now) {
                self.follower.event(&event).unwrap();
            }
            let answers = std::mem::take(&mut self.session.effects);
            for answer in answers {
                let Effect::ConditionsSet(Token(token), outcome) = answer else { continue };
                outcome.unwrap();
                if token == self.tokens {
                    self.follower.answer();
                }
            }
            if let Some(delta) = self.follower.commit() {
                self.policy.apply(delta.clone());
                self.deltas.push(delta);
            }
            if let Some(connection) = self.follower.wants_proof() {
                // This server is never behind.
                self.follower.proved(connection);
                continue;
            }
            let Some(conditions) = self.follower.next_conditions() else { return };
            for (table, conditions) in conditions {
                self.tokens += 1;
                self.session.core.set_conditions(Token(self.tokens), table, conditions);
            }
        }
    }
}

/// A writer with its session; it holds every column of every row.
pub(super) struct Scribe {
    pub(super) session: Session,
    pub(super) writer: Writer,
}

impl Scribe {
    fn new(now: Timestamp) -> Self {
        let session = Session::new(Held::tables(), now);
        Scribe { session, writer: Writer::default() }
    }

    fn run(&mut self, server: &mut MemoryServer, now: Timestamp) {
        for event in self.session.run(server, now) {
            let SessionEvent::Update(changes) = event else { continue };
            changes.iter().for_each(|change| self.writer.see(change).unwrap());
        }
    }

    /// Everything that is to be written, in transactions of at most so many rows.
    pub(super) fn write(&mut self, server: &mut MemoryServer, now: Timestamp, limit: usize) -> usize {
        let mut written = 0;
        self.run(server, now);
        while let Some(batch) = self.writer.batch(limit) {
            let (transaction, _) = batch.transaction(self.writer.held(), None, false).unwrap();
            self.session.core.transact(Token(0), transaction);
            self.run(server, now);
            let outcome = self.session.effects.pop().unwrap();
            let Effect::Transacted(_, outcome) = outcome else { panic!("{outcome:?}") };
            outcome.unwrap();
            written += 1;
        }
        written
    }
}

/// All of it.
pub(super) struct World {
    pub(super) server: MemoryServer,
    pub(super) now: Timestamp,
    pub(super) scribe: Scribe,
    pub(super) policy: Policy,
    pub(super) hosts: Vec<Host>,
}

impl World {
    pub(super) fn new(hosts: &[&str]) -> Self {
        let now = Timestamp::default();
        let mut server = MemoryServer::new(serde_json::from_str(schema::TEXT).unwrap()).unwrap();
        server.transact(&prepare(None, None).unwrap()).unwrap();
        server.keep_transactions(100);
        let hosts = hosts.iter().map(|name| Host::new(name, now)).collect();
        let mut world = World { server, now, scribe: Scribe::new(now), policy: Policy::default(), hosts };
        world.run();
        world
    }

    /// Writes what leads to another policy.
    pub(super) fn write(&mut self, policy: Policy) -> usize {
        self.write_by(policy, usize::MAX)
    }

    pub(super) fn write_by(&mut self, policy: Policy, limit: usize) -> usize {
        let delta = Policy::diff(&self.policy, &policy);
        self.policy = policy;
        self.scribe.writer.apply(&delta, bound_to);
        self.scribe.write(&mut self.server, self.now, limit)
    }

    /// By hand.
    pub(super) fn transact(&mut self, transaction: &Transaction) {
        self.server.transact(transaction).unwrap();
    }

    /// Until everybody has what there is.
    pub(super) fn run(&mut self) {
        for _ in 0..2000 {
            self.now = self.now.after(STEP);
            self.server.tick(self.now);
            self.scribe.run(&mut self.server, self.now);
            for host in &mut self.hosts {
                host.run(&mut self.server, self.now);
            }
            if self.hosts.iter().all(|host| host.follower.is_connected()) {
                return;
            }
        }
        panic!("somebody never connects");
    }
}

pub(super) fn bound_to(port: &Port) -> BTreeSet<String> {
    port.host.clone().into_iter().collect()
}
