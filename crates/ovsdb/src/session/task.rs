//! The session on tokio: the task that drives the [`Core`], its handle and its events.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::queue::{DEFAULT_BOUND, EventQueue};
use super::{Core, Effect, SessionConfig, SessionEvent, SetConditionsError, Token, Traffic};
use crate::backoff::Jitter;
use crate::net::{ConnectError, Io, Pump, open, why};
use crate::remote::Remote;
use crate::replica::Replica;
use crate::schema::DatabaseSchema;
use crate::time::Timestamp;
use crate::transaction::{Condition, TransactError, TransactReply, Transaction};

/// Starts a session on the current tokio runtime. It ends when the last handle is dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ovsdb::session::{self, SessionConfig, SessionEvent};
/// use ovsdb::MonitorTable;
///
/// let remote = "unix:/var/run/openvswitch/db.sock".parse()?;
/// let config = SessionConfig::new(remote, "Open_vSwitch").monitor(MonitorTable::new("Bridge", ["name"]));
/// let (handle, mut events) = session::spawn(config);
/// handle.lock("sgflow").await;
/// while let Some(event) = events.recv().await {
///     if let SessionEvent::Update(changes) = event {
///         for row in changes.iter().filter_map(|change| change.new_row()) {
///             println!("bridge {}", row.string("name")?);
///         }
///     }
/// }
/// # Ok(()) }
/// ```
pub fn spawn(config: SessionConfig) -> (SessionHandle, SessionEvents) {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let shared = Arc::new(Shared { state: Mutex::new(SharedState::new()), changed: Notify::new() });
    let task = Task::new(config, Ending(shared.clone()));
    tokio::spawn(task.run(commands));
    (SessionHandle { commands: sender }, SessionEvents { shared })
}

/// Commands that wait for the task; senders wait beyond that.
const COMMANDS: usize = 64;

/// Bytes that the server has not taken, beyond which commands wait.
const MAX_BACKLOG: usize = 64 << 20;

/// To command a session; cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    commands: mpsc::Sender<Command>,
}

/// What the session tells, in order. A reader that falls far behind (16,384 changes) gets them merged: what
/// a row was in between is lost, what it is now is not.
#[derive(Debug)]
pub struct SessionEvents {
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Command {
    Transact(Transaction, oneshot::Sender<Result<TransactReply, TransactError>>),
    SetConditions(String, Vec<Condition>, oneshot::Sender<Result<(), SetConditionsError>>),
    Lock { name: String, steal: bool },
    Unlock(String),
    Replica(oneshot::Sender<Replica>),
    Schema(oneshot::Sender<Option<Arc<DatabaseSchema>>>),
    Traffic(oneshot::Sender<Traffic>),
    Remote(oneshot::Sender<Option<Remote>>),
}

/// The events on their way from the task to the reader.
#[derive(Debug)]
struct Shared {
    state: Mutex<SharedState>,
    changed: Notify,
}

#[derive(Debug)]
struct SharedState {
    queue: EventQueue,
    has_ended: bool,
}

impl SharedState {
    const fn new() -> Self {
        Self { queue: EventQueue::new(DEFAULT_BOUND), has_ended: false }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, SharedState> {
        // A queue is whole between any two of its operations, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the reader that the session has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_one();
    }
}

impl SessionEvents {
    /// The next event; `None` when the session has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(event) = state.queue.pop() {
                    return Some(event);
                }
                if state.has_ended {
                    return None;
                }
            }
            self.shared.changed.notified().await;
        }
    }

    /// The next event if there is one already. When a transaction is answered, the changes that it made are
    /// here already (ovsdb-server(7) 3.1, 4.1.5).
    pub fn try_recv(&mut self) -> Option<SessionEvent> {
        self.shared.lock().queue.pop()
    }
}

impl SessionHandle {
    /// Runs a transaction.
    ///
    /// # Errors
    /// See [`TransactError`]; [`TransactError::NotConnected`] at once if there is no connection.
    pub async fn transact(&self, transaction: Transaction) -> Result<TransactReply, TransactError> {
        let (sender, reply) = oneshot::channel();
        if !self.send(Command::Transact(transaction, sender)).await {
            return Err(TransactError::NotConnected);
        }
        reply.await.unwrap_or_else(|_| Err(TransactError::Lost("the session has ended".into())))
    }

    /// Asks for a lock, now and after each reconnect. [`SessionEvent::Locked`] says when it is ours. The name is
    /// an identifier: a letter or underscore, then letters, digits and underscores.
    pub async fn lock(&self, name: impl Into<String>) {
        self.send(Command::Lock { name: name.into(), steal: false }).await;
    }

    /// As `lock`, but takes the lock from whoever holds it, once.
    pub async fn steal(&self, name: impl Into<String>) {
        self.send(Command::Lock { name: name.into(), steal: true }).await;
    }

    /// Gives a lock back, or asks for it no more.
    pub async fn unlock(&self, name: impl Into<String>) {
        self.send(Command::Unlock(name.into())).await;
    }

    /// Follows other rows of a monitored table. The changes are in the queue of events before this returns;
    /// without a connection the conditions are kept for the next one. While the monitor of a new connection is being
    /// started this returns at once, and the changes follow that start.
    ///
    /// # Errors
    /// A table that is not followed, or conditions that do not fit the schema or that the server refuses.
    pub async fn set_conditions(
        &self,
        table: impl Into<String>,
        conditions: Vec<Condition>,
    ) -> Result<(), SetConditionsError> {
        let (sender, reply) = oneshot::channel();
        self.send(Command::SetConditions(table.into(), conditions, sender)).await;
        reply.await.unwrap_or(Err(SetConditionsError::Ended))
    }

    /// The monitored rows as of now; `None` when the session has ended.
    pub async fn replica(&self) -> Option<Replica> {
        let (sender, reply) = oneshot::channel();
        self.send(Command::Replica(sender)).await;
        reply.await.ok()
    }

    /// The server that the session is live on.
    pub async fn remote(&self) -> Option<Remote> {
        let (sender, reply) = oneshot::channel();
        self.send(Command::Remote(sender)).await;
        reply.await.ok().flatten()
    }

    /// The bytes exchanged with its servers since the session began; `None` when it has ended.
    pub async fn traffic(&self) -> Option<Traffic> {
        let (sender, reply) = oneshot::channel();
        self.send(Command::Traffic(sender)).await;
        reply.await.ok()
    }

    /// The schema of the server last connected to; the one of the configuration, if it has one.
    pub async fn schema(&self) -> Option<Arc<DatabaseSchema>> {
        let (sender, reply) = oneshot::channel();
        self.send(Command::Schema(sender)).await;
        reply.await.ok().flatten()
    }

    /// False if the session has ended; then the command, with what waits for its reply, is dropped.
    async fn send(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }
}

/// An attempt to open a socket.
type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Io>, ConnectError>> + Send>>;

enum Socket {
    None,
    Opening(Opening),
    Open(Box<Pump>),
}

/// Something that happened to the socket.
enum SocketEvent<'a> {
    Opened(Box<dyn Io>),
    Received(&'a [u8]),
    Closed(String),
}

struct Task {
    core: Core,
    config: SessionConfig,
    began: Instant,
    socket: Socket,
    next_token: u64,
    transacting: BTreeMap<Token, oneshot::Sender<Result<TransactReply, TransactError>>>,
    setting: BTreeMap<Token, oneshot::Sender<Result<(), SetConditionsError>>>,
    events: Ending,
}

impl Task {
    fn new(config: SessionConfig, events: Ending) -> Self {
        Self {
            core: Core::new(config.clone(), Timestamp::default()),
            config,
            began: Instant::now(),
            socket: Socket::None,
            next_token: 0,
            transacting: BTreeMap::new(),
            setting: BTreeMap::new(),
            events,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            self.drain();
            let deadline = self.core.next_deadline().map(|Timestamp(since)| self.began + since);
            let takes_commands = self.socket.backlog() < MAX_BACKLOG;
            tokio::select! {
                command = commands.recv(), if takes_commands => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                event = self.socket.next() => {
                    let now = Timestamp(self.began.elapsed());
                    match event {
                        SocketEvent::Received(bytes) => self.core.receive(bytes, now),
                        SocketEvent::Opened(stream) => {
                            self.socket = Socket::Open(Box::new(Pump::new(stream)));
                            self.core.connected(now);
                        }
                        SocketEvent::Closed(reason) => {
                            self.socket = Socket::None;
                            self.core.closed(reason, now);
                        }
                    }
                }
                () = sleep_until(deadline) => {
                    let jitter = Jitter::new(RandomState::new().hash_one(()));
                    self.core.tick(Timestamp(self.began.elapsed()), jitter);
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let token = Token(self.next_token);
        self.next_token += 1;
        match command {
            Command::Transact(transaction, reply) => {
                self.transacting.insert(token, reply);
                self.core.transact(token, transaction);
            }
            Command::SetConditions(table, conditions, reply) => {
                self.setting.insert(token, reply);
                self.core.set_conditions(token, &table, conditions);
            }
            Command::Lock { name, steal } => self.core.lock(&name, steal),
            Command::Unlock(name) => self.core.unlock(&name),
            // Who asked may have gone since; then nobody misses the answer.
            Command::Replica(reply) => drop(reply.send(self.core.replica().clone())),
            Command::Schema(reply) => drop(reply.send(self.core.schema().cloned())),
            Command::Traffic(reply) => drop(reply.send(self.core.traffic())),
            Command::Remote(reply) => drop(reply.send(self.core.remote().cloned())),
        }
    }

    /// Tells the events, then carries out the effects, then queues what is to be sent.
    fn drain(&mut self) {
        let mut has_news = false;
        while let Some(event) = self.core.next_event() {
            self.events.0.lock().queue.push(event);
            has_news = true;
        }
        if has_news {
            self.events.0.changed.notify_one();
        }
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Connect(remote) => {
                    self.socket = Socket::Opening(Box::pin(open(remote, self.config.tls.clone())));
                }
                Effect::Close => self.socket = Socket::None,
                Effect::Transacted(token, outcome) => {
                    if let Some(reply) = self.transacting.remove(&token) {
                        drop(reply.send(outcome));
                    }
                }
                Effect::ConditionsSet(token, outcome) => {
                    if let Some(reply) = self.setting.remove(&token) {
                        drop(reply.send(outcome));
                    }
                }
            }
        }
        if let Socket::Open(pump) = &mut self.socket {
            pump.queue(self.core.take_output());
        }
    }
}

impl Socket {
    fn backlog(&self) -> usize {
        if let Self::Open(pump) = self { pump.backlog() } else { 0 }
    }

    async fn next(&mut self) -> SocketEvent<'_> {
        match self {
            Self::None => std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(stream) => SocketEvent::Opened(stream),
                Err(error) => SocketEvent::Closed(error.to_string()),
            },
            Self::Open(pump) => match pump.read().await {
                Ok([]) => SocketEvent::Closed("the server closed the connection".into()),
                Ok(bytes) => SocketEvent::Received(bytes),
                Err(error) => SocketEvent::Closed(why(&error)),
            },
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
