//! The small in-memory database server that this crate is tested with; for the tests of its users too.
//!
//! One database, held in memory, that does what ovsdb-server does to its clients: transactions with all
//! operations and constraints, the three kinds of monitors, locks, echo. Beyond that it does what a test wants of
//! a server: it can be as old as one likes ([`MemoryServer::disable_method`]), resume or not
//! ([`MemoryServer::keep_transactions`]), say of itself what one likes ([`MemoryServer::set_status`]), and drop
//! its clients. It is pure; the feature `tokio` adds
//! a listener.

mod database;
mod dispatch;
mod execute;
mod follower;
mod integrity;
#[cfg(feature = "tokio")]
mod listener;
mod locks;
mod mutation;
mod status;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use self::database::{Database, DatabaseName};
use self::follower::Follower;
#[cfg(feature = "tokio")]
pub use self::listener::{Listener, ServerGuard};
use self::locks::Locks;
use crate::schema::SchemaError;
use crate::status::{DatabaseStatus, server_schema_json};
use crate::time::Timestamp;
use crate::transaction::{TransactError, TransactReply, Transaction};
use crate::value::Uuid;
use crate::wire::{Framer, Limits, Message};

/// A client of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// The state of the server.
#[derive(Debug)]
pub struct MemoryServer {
    database: Database,
    /// The `_Server` database, and whether the server is new enough to have it.
    status: Database,
    has_status: bool,
    server_id: Uuid,
    disabled: BTreeSet<String>,
    locks: Locks,
    next_connection: u64,
    clients: BTreeMap<ConnectionId, Peer>,
    /// Transactions whose `wait` does not hold yet, in the order in which they came.
    blocked: Vec<Blocked>,
    now: Timestamp,
}

/// A client, as the server knows it.
#[derive(Debug)]
struct Peer {
    framer: Framer,
    output: Vec<u8>,
    followers: Vec<Follower>,
    echo_replies: u64,
}

#[derive(Debug)]
struct Blocked {
    client: ConnectionId,
    /// `id` of the request.
    id: Json,
    name: DatabaseName,
    operations: Vec<Json>,
    since: Timestamp,
    deadline: Option<Timestamp>,
}

/// Longest request; nothing here needs more.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// Output that a client does not take, beyond which it is dropped.
const MAX_OUTPUT_BYTES: usize = 256 << 20;

impl MemoryServer {
    /// An empty database with the given `<database-schema>`.
    ///
    /// # Errors
    /// The schema cannot be read.
    pub fn new(schema: Json) -> Result<Self, SchemaError> {
        let mut database = Database::new(schema)?;
        let mut server = Self {
            server_id: database.new_identity(),
            status: Database::new(server_schema_json())?,
            has_status: true,
            database,
            disabled: BTreeSet::new(),
            locks: Locks::default(),
            next_connection: 0,
            clients: BTreeMap::new(),
            blocked: Vec::new(),
            now: Timestamp::default(),
        };
        server.set_status(DatabaseStatus::STANDALONE);
        Ok(server)
    }

    /// Answers the method with "unknown method", as a server does that is older than it.
    pub fn disable_method(&mut self, method: &str) {
        self.disabled.insert(method.to_owned());
    }

    /// Keeps that many transactions, so that `monitor_cond_since` can resume from them. At first none, as in a
    /// standalone ovsdb-server.
    pub fn keep_transactions(&mut self, count: usize) {
        self.database.keep_transactions(count);
    }

    /// Runs a transaction of nobody's: without locks, and without waiting.
    ///
    /// # Errors
    /// As for a client; a `wait` that does not hold is [`TransactError::Refused`].
    pub fn transact(&mut self, transaction: &Transaction) -> Result<TransactReply, TransactError> {
        let schema = self.database.schema.clone();
        let outcome = self.run_local(transaction);
        TransactReply::read(outcome, transaction, Some(&schema))
    }

    /// A client has connected.
    pub fn connect(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let limits = Limits { max_message_bytes: MAX_REQUEST_BYTES, ..Limits::default() };
        let peer =
            Peer { framer: Framer::new(limits), output: Vec::new(), followers: Vec::new(), echo_replies: 0 };
        self.clients.insert(id, peer);
        id
    }

    /// A client has gone, or is to go: its locks, monitors and waiting transactions go with it.
    pub fn disconnect(&mut self, client: ConnectionId) {
        self.clients.remove(&client);
        self.blocked.retain(|blocked| blocked.client != client);
        for (name, heir) in self.locks.release_all(client) {
            self.notify(heir, "locked", json!([name]));
        }
    }

    /// Whether the client is there still. If not, its socket is to be closed.
    pub fn is_connected(&self, client: ConnectionId) -> bool {
        self.clients.contains_key(&client)
    }

    /// The clients that are connected.
    pub fn clients(&self) -> impl Iterator<Item = ConnectionId> {
        self.clients.keys().copied()
    }

    /// Drops all clients.
    pub fn drop_clients(&mut self) {
        for client in self.clients().collect::<Vec<_>>() {
            self.disconnect(client);
        }
    }

    /// Sends an echo request to a client.
    pub fn probe(&mut self, client: ConnectionId) {
        self.send(
            client,
            &Message::Request { method: "echo".into(), params: json!(["probe"]), id: "echo".into() },
        );
    }

    /// How many of these the client has answered.
    pub fn echo_replies(&self, client: ConnectionId) -> u64 {
        self.clients.get(&client).map_or(0, |peer| peer.echo_replies)
    }

    /// Bytes came from a client. One who sends what is no message is dropped.
    pub fn receive(&mut self, client: ConnectionId, bytes: &[u8], now: Timestamp) {
        self.now = self.now.max(now);
        if let Some(peer) = self.clients.get_mut(&client) {
            peer.framer.push(bytes);
        }
        while let Some(peer) = self.clients.get_mut(&client) {
            let text = match peer.framer.next_message() {
                Ok(None) => return,
                Ok(Some(text)) => text,
                Err(_) => return self.disconnect(client),
            };
            match Message::parse(text) {
                Ok(message) => self.dispatch(client, message),
                Err(_) => return self.disconnect(client),
            }
        }
    }

    /// Bytes for a client; they are taken out.
    pub fn take_output(&mut self, client: ConnectionId) -> Vec<u8> {
        self.clients.get_mut(&client).map(|peer| std::mem::take(&mut peer.output)).unwrap_or_default()
    }

    /// When [`MemoryServer::tick`] is to be called next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.blocked.iter().filter_map(|blocked| blocked.deadline).min()
    }

    /// Lets time pass: a `wait` may time out.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.retry_blocked();
    }

    fn notify(&mut self, client: ConnectionId, method: &str, params: Json) {
        self.send(client, &Message::Notification { method: method.to_owned(), params });
    }

    fn send(&mut self, client: ConnectionId, message: &Message) {
        let Some(peer) = self.clients.get_mut(&client) else { return };
        message.write(&mut peer.output);
        if peer.output.len() > MAX_OUTPUT_BYTES {
            self.disconnect(client);
        }
    }
}
