//! A client for a program that asks a few things and ends.
//!
//! Nothing runs in the background: bytes move while one of the methods is awaited. So a client that sits idle
//! does not answer the server's echo, and is disconnected after a while; what lives longer is a
//! [`session`](crate::session).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use thiserror::Error;
use tokio::time::Instant;

use crate::connection::{Connection, ConnectionError, Incoming};
use crate::monitor::{Call, MonitorError, MonitorTable, Progress, Purpose, Subscription};
use crate::net::{ConnectError, Pump, open, why};
use crate::remote::{Remote, TlsConfig};
use crate::replica::Change;
use crate::schema::{DatabaseSchema, SchemaError};
use crate::time::Timestamp;
use crate::transaction::{Condition, TransactError, TransactReply, Transaction};
use crate::value::Uuid;
use crate::wire::value::shown;
use crate::wire::{Limits, RequestId, RpcError};

/// A connection to a database server.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ovsdb::{Client, ConnectOptions, Select, Transaction};
///
/// let remote = "unix:/var/run/openvswitch/db.sock".parse()?;
/// let mut client = Client::connect(&remote, &ConnectOptions::default()).await?;
/// let mut transaction = Transaction::new("Open_vSwitch");
/// let bridges = transaction.push(Select::from("Bridge").columns(["name"]));
/// let reply = client.transact(&transaction).await?;
/// for bridge in reply.rows(bridges).unwrap_or_default() {
///     println!("{}", bridge.string("name")?);
/// }
/// # Ok(()) }
/// ```
pub struct Client {
    pump: Pump,
    connection: Connection,
    began: Instant,
    answers: BTreeMap<RequestId, Result<Json, RpcError>>,
    /// Requests whose answer nobody wants any more.
    abandoned: BTreeSet<RequestId>,
    notifications: VecDeque<(String, Json)>,
    schemas: BTreeMap<String, Arc<DatabaseSchema>>,
    /// Why the connection is of no use any more.
    broken: Option<String>,
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Certificates, for `ssl:` remotes.
    pub tls: Option<TlsConfig>,
    /// How long the socket may take to connect, TLS included. Default 5 s.
    pub connect_timeout: Duration,
    /// Bounds on what the server may make us hold.
    pub limits: Limits,
}

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ClientError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection is gone.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The server refused the request.
    #[error("refused by the server: {0}")]
    Refused(#[from] RpcError),
    /// The server's schema cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The monitor cannot go on.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The server sent what the protocol does not allow.
    #[error("unreadable answer to {method}: {answer}")]
    Malformed {
        /// The request.
        method: &'static str,
        /// The answer, cut where it gets long.
        answer: String,
    },
}

/// A lock that came or went by itself: RFC 7047 §4.1.9 and §4.1.10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockEvent {
    /// The lock that was asked for is ours now.
    Locked(String),
    /// The lock was ours, and another client took it.
    Stolen(String),
}

/// A transaction that was sent and not answered yet.
#[derive(Debug)]
pub struct Submitted {
    id: RequestId,
    transaction: Transaction,
}

/// Notifications that may wait for someone who wants them.
const MAX_NOTIFICATIONS: usize = 65_536;

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { tls: None, connect_timeout: Duration::from_secs(5), limits: Limits::default() }
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn connect(remote: &Remote, options: &ConnectOptions) -> Result<Self, ClientError> {
        let opening = open(remote.clone(), options.tls.clone());
        let stream =
            tokio::time::timeout(options.connect_timeout, opening).await.map_err(|_| ConnectError {
                remote: remote.clone(),
                reason: format!("no connection within {:?}", options.connect_timeout),
            })??;
        Ok(Self {
            pump: Pump::new(stream),
            connection: Connection::new(options.limits, Duration::ZERO, Timestamp::default()),
            began: Instant::now(),
            answers: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            notifications: VecDeque::new(),
            schemas: BTreeMap::new(),
            broken: None,
        })
    }

    /// The names of the server's databases (RFC 7047 §4.1.1).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_dbs(&mut self) -> Result<Vec<String>, ClientError> {
        let result = self.call("list_dbs", json!([])).await?;
        let names = result.as_array().and_then(|names| {
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        names.ok_or_else(|| malformed("list_dbs", &result))
    }

    /// The schema of a database (RFC 7047 §4.1.2), asked for once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn schema(&mut self, database: &str) -> Result<Arc<DatabaseSchema>, ClientError> {
        if let Some(schema) = self.schemas.get(database) {
            return Ok(schema.clone());
        }
        let json = self.call("get_schema", json!([database])).await?;
        let schema = Arc::new(DatabaseSchema::from_json(&json)?);
        self.schemas.insert(database.to_owned(), schema.clone());
        Ok(schema)
    }

    /// The identity of the running server process (ovsdb-server(7) 4.1.17).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn server_id(&mut self) -> Result<Uuid, ClientError> {
        let result = self.call("get_server_id", json!([])).await?;
        let uuid = result.as_str().and_then(|text| text.parse().ok());
        uuid.ok_or_else(|| malformed("get_server_id", &result))
    }

    /// A round trip to the server (RFC 7047 §4.1.11).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn echo(&mut self) -> Result<(), ClientError> {
        self.call("echo", json!([])).await.map(drop)
    }

    /// Whether the server keeps the connection when its databases change (ovsdb-server(7) 4.1.18).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_db_change_aware(&mut self, aware: bool) -> Result<(), ClientError> {
        self.call("set_db_change_aware", json!([aware])).await.map(drop)
    }

    /// Converts a database to another schema of the same name (ovsdb-server(7), 4.1.19): what the schema has no place for is lost, what it has
    /// more is made. Other clients are told, or disconnected, and read it anew.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn convert(&mut self, database: &str, schema: &Json) -> Result<(), ClientError> {
        self.call("convert", json!([database, schema])).await?;
        self.schemas.remove(database);
        Ok(())
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// See [`TransactError`].
    pub async fn transact(&mut self, transaction: &Transaction) -> Result<TransactReply, TransactError> {
        let submitted = self.submit(transaction).await?;
        self.reply(submitted).await
    }

    /// Sends a transaction without waiting for its answer; several can be on their way.
    ///
    /// # Errors
    /// The schema, which is needed to read selected rows, cannot be had.
    pub async fn submit(&mut self, transaction: &Transaction) -> Result<Submitted, TransactError> {
        if transaction.selects() {
            self.schema(transaction.database()).await.map_err(|error| match error {
                ClientError::Refused(error) => TransactError::Refused(error),
                ClientError::Lost(_) => TransactError::NotConnected,
                error => TransactError::Malformed(error.to_string()),
            })?;
        }
        if self.broken.is_some() {
            return Err(TransactError::NotConnected);
        }
        let id = self.connection.request("transact", transaction.params());
        Ok(Submitted { id, transaction: transaction.clone() })
    }

    /// Waits for the answer to a transaction that was submitted.
    ///
    /// # Errors
    /// See [`TransactError`].
    pub async fn reply(&mut self, submitted: Submitted) -> Result<TransactReply, TransactError> {
        let Submitted { id, transaction } = submitted;
        let outcome = self.answer(id).await.map_err(TransactError::Lost)?;
        let schema = self.schemas.get(transaction.database()).map(Arc::as_ref);
        TransactReply::read(outcome, &transaction, schema)
    }

    /// Asks the server to give up a transaction (RFC 7047 §4.1.4), and gives its outcome: its reply if it was
    /// done before.
    ///
    /// # Errors
    /// [`TransactError::Refused`] with "canceled", where the server does as the RFC says. ovsdb-server 3.1.0 gives
    /// it up without a word; then [`TransactError::Lost`].
    pub async fn cancel(&mut self, submitted: Submitted) -> Result<TransactReply, TransactError> {
        self.connection.notify("cancel", json!([submitted.id.0]));
        // Requests are taken in order: after the answer to this one, the server has seen the cancellation.
        let echo = self.connection.request("echo", json!([]));
        self.answer(echo).await.map_err(TransactError::Lost)?.map_err(TransactError::Refused)?;
        if self.answers.contains_key(&submitted.id) {
            return self.reply(submitted).await;
        }
        self.abandoned.insert(submitted.id);
        Err(TransactError::Lost("canceled, and the server did not answer".into()))
    }

    /// Asks for a lock (RFC 7047 §4.1.8), whose name is an identifier. True: it is ours; false:
    /// [`LockEvent::Locked`] will tell.
    ///
    /// # Errors
    /// See [`ClientError`]; a lock that was asked for already is refused.
    pub async fn lock(&mut self, name: &str) -> Result<bool, ClientError> {
        let result = self.call("lock", json!([name])).await?;
        result.get("locked").and_then(Json::as_bool).ok_or_else(|| malformed("lock", &result))
    }

    /// Takes a lock from whoever holds it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn steal(&mut self, name: &str) -> Result<(), ClientError> {
        self.call("steal", json!([name])).await.map(drop)
    }

    /// Gives a lock back, or asks for it no more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn unlock(&mut self, name: &str) -> Result<(), ClientError> {
        self.call("unlock", json!([name])).await.map(drop)
    }

    /// Waits for a lock to come or go. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError::Lost`].
    pub async fn next_lock_event(&mut self) -> Result<LockEvent, ClientError> {
        loop {
            let is_lock = |(method, _): &(String, Json)| method == "locked" || method == "stolen";
            if let Some(place) = self.notifications.iter().position(is_lock) {
                let Some((method, params)) = self.notifications.remove(place) else { continue };
                let name = params.get(0).and_then(Json::as_str).unwrap_or_default().to_owned();
                return Ok(if method == "locked" {
                    LockEvent::Locked(name)
                } else {
                    LockEvent::Stolen(name)
                });
            }
            self.read().await.map_err(ClientError::Lost)?;
        }
    }

    /// Follows tables of a database. The subscription holds the rows; its changes come by
    /// [`Client::next_changes`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn monitor(
        &mut self,
        database: &str,
        tables: Vec<MonitorTable>,
    ) -> Result<Subscription, ClientError> {
        // A subscription can move from one client to another, so its number is unique among all of them.
        static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);
        let number = SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed);
        let mut subscription = Subscription::new(number, database, tables);
        self.resume(&mut subscription).await?;
        Ok(subscription)
    }

    /// Goes on with a subscription whose connection was lost; gives what changed since.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resume(&mut self, subscription: &mut Subscription) -> Result<Vec<Change>, ClientError> {
        subscription.disconnected();
        let schema = self.schema(subscription.database()).await?;
        let mut call = subscription.start(&schema)?;
        loop {
            let id = self.connection.request(call.method, call.params);
            let outcome = self.answer(id).await.map_err(ClientError::Lost)?;
            match subscription.answered(call.purpose, outcome)? {
                Progress::Fallback(older) => call = older,
                Progress::Synced(changes) => return Ok(changes),
                Progress::Conditions(_) | Progress::Nothing => return Ok(Vec::new()),
            }
        }
    }

    /// Waits for rows of the subscription to change. Cancel safe.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next_changes(
        &mut self,
        subscription: &mut Subscription,
    ) -> Result<Vec<Change>, ClientError> {
        loop {
            if let Some(changes) = self.waiting_changes(subscription)? {
                return Ok(changes);
            }
            self.read().await.map_err(ClientError::Lost)?;
        }
    }

    /// Follows other rows of a table; gives the changes that this leads to, and what else waited.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_conditions(
        &mut self,
        subscription: &mut Subscription,
        table: &str,
        conditions: Vec<Condition>,
    ) -> Result<Vec<Change>, ClientError> {
        let mut all = Vec::new();
        for Call { method, params, purpose } in subscription.set_conditions(table, conditions)? {
            let id = self.connection.request(method, params);
            let outcome = self.answer(id).await.map_err(ClientError::Lost)?;
            // An update that came before the answer must not seem to come after it; one of a monitor that starts
            // is only for what the answer holds.
            if purpose == Purpose::Conditions {
                self.take_waiting(subscription, &mut all)?;
            }
            let progress = subscription.answered(purpose, outcome)?;
            self.take_waiting(subscription, &mut all)?;
            match progress {
                Progress::Synced(changes) => all.extend(changes),
                Progress::Conditions(outcome) => outcome?,
                Progress::Fallback(_) | Progress::Nothing => {}
            }
        }
        Ok(all)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel_monitor(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        let Call { method, params, .. } = subscription.cancel_call();
        self.call(method, params).await.map(drop)
    }

    /// All changes that have come already.
    fn take_waiting(
        &mut self,
        subscription: &mut Subscription,
        all: &mut Vec<Change>,
    ) -> Result<(), MonitorError> {
        while let Some(changes) = self.waiting_changes(subscription)? {
            all.extend(changes);
        }
        Ok(())
    }

    /// The changes that have come already, if any.
    fn waiting_changes(
        &mut self,
        subscription: &mut Subscription,
    ) -> Result<Option<Vec<Change>>, MonitorError> {
        let mut place = 0;
        while let Some((method, params)) = self.notifications.get(place) {
            if let Some(changes) = subscription.notified(method, params)? {
                self.notifications.remove(place);
                if !changes.is_empty() {
                    return Ok(Some(changes));
                }
            } else {
                place += 1;
            }
        }
        Ok(None)
    }

    async fn call(&mut self, method: &'static str, params: Json) -> Result<Json, ClientError> {
        let id = self.connection.request(method, params);
        Ok(self.answer(id).await.map_err(ClientError::Lost)??)
    }

    /// Waits for the answer to a request; the error says why the connection is gone.
    async fn answer(&mut self, id: RequestId) -> Result<Result<Json, RpcError>, String> {
        loop {
            if let Some(outcome) = self.answers.remove(&id) {
                return Ok(outcome);
            }
            self.read().await?;
        }
    }

    /// Writes what there is to be written, and sorts what comes in.
    async fn read(&mut self) -> Result<(), String> {
        if let Some(reason) = &self.broken {
            return Err(reason.clone());
        }
        let outcome = self.read_some().await;
        if let Err(reason) = &outcome {
            self.broken = Some(reason.clone());
        }
        outcome
    }

    async fn read_some(&mut self) -> Result<(), String> {
        self.pump.queue(self.connection.take_output());
        let bytes = self.pump.read().await.map_err(|error| why(&error))?;
        if bytes.is_empty() {
            return Err("the server closed the connection".into());
        }
        let received = self.connection.receive(bytes, Timestamp(self.began.elapsed()));
        while let Some(incoming) = self.connection.next_incoming() {
            match incoming {
                Incoming::Response { id, .. } if self.abandoned.remove(&id) => {}
                Incoming::Response { id, outcome } => drop(self.answers.insert(id, outcome)),
                Incoming::Notification { method, params } => self.notifications.push_back((method, params)),
            }
        }
        if self.notifications.len() > MAX_NOTIFICATIONS {
            return Err(format!("more than {MAX_NOTIFICATIONS} notifications that nobody took"));
        }
        received.map_err(|error: ConnectionError| error.to_string())
    }
}

fn malformed(method: &'static str, answer: &Json) -> ClientError {
    ClientError::Malformed { method, answer: shown(answer) }
}
