//! One writer that keeps the store as somebody else's policy is: it leads or stands by, and writes what is different.
//!
//! Several may run. Whoever holds the lock writes, and says so in each transaction (`assert`): a lock is of one server, so the session is with the
//! leader of the cluster alone, and what a leader that is none any more would take is not committed.
//!
//! Whoever stands by may know less than whoever led before has written already. So who has got the lock writes nothing before all of the policy was
//! asked for once more, after that: an object never goes back to what it was. Who has written last himself knows all that was written.

use std::collections::BTreeSet;
use std::time::Duration;

use ovsdb::{MonitorTable, RowError, SessionEvent, TransactError, Transaction};
use policy::{PolicyDelta, Port, PortId};

use crate::schema::PUBLISHER_LOCK;
use crate::write::{Batch, Held, Writer};

/// Rows of a transaction at most: more of them would keep a cluster from its heartbeats.
const ROWS: usize = 2_000;
/// Changes that come within so much time after a transaction become one: they come by the hundred.
const PACE: Duration = Duration::from_millis(20);
/// How long to wait after a transaction that was not committed.
const RETRY: Duration = Duration::from_millis(500);

/// See the module's documentation. Whoever drives it gives it what happens, and sends what [`Publication::next`] says; times are from any beginning.
#[derive(Clone, Debug)]
pub struct Publication {
    /// What no other run of a publisher is called.
    name: String,
    pub(crate) writer: Writer,
    /// All of the policy was told of once.
    is_whole: bool,
    /// Nobody else can have written what we do not know.
    is_verified: bool,
    /// How often the lock has become ours, and whether that was told of.
    terms: u64,
    has_begun: bool,
    is_connected: bool,
    leads: bool,
    under_way: Option<Batch>,
    not_before: Duration,
    written: u64,
}

impl Publication {
    /// `name` is what no other run of a publisher is called.
    pub fn new(name: String) -> Self {
        Publication {
            name,
            writer: Writer::default(),
            is_whole: false,
            is_verified: false,
            terms: 0,
            has_begun: false,
            is_connected: false,
            leads: false,
            under_way: None,
            not_before: Duration::ZERO,
            written: 0,
        }
    }

    /// The tables of the session; its lock is [`PUBLISHER_LOCK`].
    pub fn tables() -> Vec<MonitorTable> {
        Held::tables()
    }

    /// The policy changed. `hosts` says where a port is bound.
    pub fn policy(&mut self, delta: &PolicyDelta, hosts: impl Fn(&Port) -> BTreeSet<String>) {
        self.writer.apply(delta, hosts);
    }

    /// The lock has become ours since this was asked last, and somebody else may have written: all of the policy is to be asked for now. When it has been told of,
    /// [`Publication::verified`] is to be called with this number.
    pub fn new_term(&mut self) -> Option<u64> {
        std::mem::take(&mut self.has_begun).then_some(self.terms)
    }

    /// The policy is what it was at some moment after this term began, and has been told of.
    pub fn verified(&mut self, term: u64) {
        let is_this = self.leads && self.terms == term;
        self.is_verified |= is_this;
        self.is_whole |= is_this;
    }

    /// A port is bound to other hosts now.
    pub fn bind(&mut self, port: &PortId, hosts: &BTreeSet<String>) {
        self.writer.bind(port, hosts);
    }

    /// Something happened to the session.
    ///
    /// # Errors
    /// A row that cannot be read: the store is of another version.
    pub fn event(&mut self, event: &SessionEvent) -> Result<(), RowError> {
        match event {
            SessionEvent::Connected => self.is_connected = true,
            SessionEvent::Disconnected { .. } => {
                (self.is_connected, self.leads, self.is_verified) = (false, false, false);
            }
            SessionEvent::Locked(lock) if lock == PUBLISHER_LOCK => {
                self.leads = true;
                self.begin_term(self.wrote_last());
            }
            SessionEvent::Stolen(lock) if lock == PUBLISHER_LOCK => {
                (self.leads, self.is_verified) = (false, false);
            }
            SessionEvent::Locked(_) | SessionEvent::Stolen(_) => {}
            SessionEvent::Update(changes) => {
                let before = self.writer.held().publisher().map(str::to_owned);
                changes.iter().try_for_each(|change| self.writer.see(change))?;
                let now = self.writer.held().publisher();
                // Word of what the one before has written last may come after word of the lock.
                if self.leads && now != before.as_deref() && now != Some(&self.name) {
                    self.begin_term(false);
                }
            }
        }
        Ok(())
    }

    /// The lock was given back.
    pub fn unlocked(&mut self) {
        (self.leads, self.is_verified) = (false, false);
    }

    fn begin_term(&mut self, wrote_last: bool) {
        self.terms += 1;
        self.is_verified = self.is_whole && wrote_last;
        self.has_begun = !self.is_verified;
    }

    /// The transaction to be made now; its outcome goes to [`Publication::outcome`].
    pub fn next(&mut self, now: Duration) -> Option<Transaction> {
        let may = self.is_connected && self.leads && self.is_verified;
        if !may || self.under_way.is_some() || now < self.not_before {
            return None;
        }
        // Who leads leaves its name also when nothing differs: by that it is known.
        let is_to_be_marked = !self.wrote_last() && self.is_prepared();
        let batch = self.writer.batch(ROWS).or_else(|| is_to_be_marked.then(Batch::marking))?;
        let Some((transaction, _)) = batch.transaction(self.writer.held(), Some(&self.name), false) else {
            // Nobody has prepared the store.
            self.writer.failed(batch);
            return None;
        };
        self.under_way = Some(batch);
        Some(transaction)
    }

    /// What became of the transaction; the rows that it changed were told before.
    pub fn outcome(&mut self, now: Duration, outcome: &Result<(), TransactError>) {
        let Some(batch) = self.under_way.take() else { return };
        match outcome {
            Ok(()) => {
                self.written += 1;
                self.not_before = if batch.is_last { now + PACE } else { now };
            }
            Err(_) => {
                self.writer.failed(batch);
                self.not_before = now + RETRY;
            }
        }
    }

    /// When [`Publication::next`] is to be asked again, if nothing happens before.
    pub fn next_time(&self) -> Duration {
        self.not_before
    }

    /// Nobody says any more what Neutron's policy is: all of it is to be asked for once more.
    pub fn ask_again(&mut self) {
        self.begin_term(false);
    }

    /// Whether the store was written last by this one.
    pub fn wrote_last(&self) -> bool {
        self.writer.held().publisher() == Some(&self.name)
    }

    /// Whether it is this one that writes.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Whether there is a store that somebody has prepared.
    pub fn is_prepared(&self) -> bool {
        self.writer.held().global().is_some()
    }

    /// Whether nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.is_verified
    }

    /// How many transactions were made.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many security groups, address groups and ports are in the store.
    pub fn counts(&self) -> [usize; 3] {
        self.writer.held().counts()
    }
}
