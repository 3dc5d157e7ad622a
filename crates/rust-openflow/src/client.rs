//! A connection over a socket, for programs on tokio.
//!
//! Two tasks move the bytes, one a direction, so that a switch that answers while we write can never block us
//! both.

mod error;
mod io;
mod target;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::connection::{Answer, BundleId, BundleRefusal, Connection, ConnectionConfig, Event};
use crate::error::EncodeError;
use crate::message::{
    CtFlush, Features, FlowEntry, FlowFilter, FlowMod, FlowMonitor, FlowUpdate, FragMode, Message,
    MeterConfig, MeterMod, PacketOut, PortDesc, SwitchConfig, Xid,
};

pub use error::{BundleError, BundleOutcome, ClientError, FailedFlow};
pub use target::Target;

/// Output that waits before bundles are held back.
const OUTPUT_HIGH_WATER: usize = 256 * 1024;
/// News that wait for [`EventStream::next`] before the eldest are dropped.
const MAX_EVENTS: usize = 65_536;
/// How long connecting may take, hello included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to a connection; clones share it. The connection closes when the last handle and the stream are
/// dropped.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    _tasks: Arc<io::Tasks>,
}

/// What the switch says unasked.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Shared>,
    _tasks: Arc<io::Tasks>,
}

/// One item of an [`EventStream`].
#[derive(Debug, PartialEq)]
pub enum News {
    /// Something happened.
    Event(Event),
    /// So many events were dropped here, as nobody took them in time.
    Missed(u64),
}

type Promise<T> = oneshot::Sender<Result<T, ClientError>>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is output, or the connection is lost.
    output: Notify,
    /// Output went out, or the connection is lost.
    space: Notify,
    /// There is news, or the connection is lost.
    news: Notify,
    /// Somebody waits for an answer.
    asked: Notify,
    /// [`ConnectionConfig::rest`].
    rest: Duration,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    answers: HashMap<Xid, Promise<Answer>>,
    bundles: HashMap<BundleId, oneshot::Sender<BundleFate>>,
    news: VecDeque<Event>,
    missed: u64,
    /// Bytes handed to the transport.
    written: u64,
    lost: Option<ClientError>,
}

impl State {
    fn waits_for_answers(&self) -> bool {
        !self.answers.is_empty() || !self.bundles.is_empty()
    }
}

/// What became of a bundle.
#[derive(Debug)]
enum BundleFate {
    Known(Result<(), BundleRefusal>),
    /// The connection was lost; whether after the request to commit.
    Lost {
        committing: bool,
        error: ClientError,
    },
}

impl Shared {
    fn new(config: ConnectionConfig) -> Self {
        let rest = config.rest;
        let state = State {
            connection: Connection::new(config, Duration::ZERO),
            answers: HashMap::new(),
            bundles: HashMap::new(),
            news: VecDeque::new(),
            missed: 0,
            written: 0,
            lost: None,
        };
        Shared {
            state: Mutex::new(state),
            output: Notify::new(),
            space: Notify::new(),
            news: Notify::new(),
            asked: Notify::new(),
            rest,
        }
    }

    /// The state is consistent between calls, so that a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what happened since the last call; whether a packet was among it.
    fn deliver(&self, state: &mut State) -> bool {
        let mut has_packet = false;
        while let Some(event) = state.connection.poll_event() {
            match event {
                Event::Answer { xid, answer } => {
                    if let Some(promise) = state.answers.remove(&xid) {
                        // Whoever asked may have stopped waiting.
                        promise.send(answer.map_err(ClientError::from)).ok();
                    }
                }
                Event::Bundle { id, result } => {
                    if let Some(promise) = state.bundles.remove(&id) {
                        promise.send(BundleFate::Known(result)).ok();
                    }
                }
                event => {
                    if state.news.len() == MAX_EVENTS {
                        state.news.pop_front();
                        state.missed += 1;
                    }
                    has_packet |= matches!(event, Event::PacketIn(_));
                    state.news.push_back(event);
                }
            }
        }
        self.news.notify_one();
        self.output.notify_one();
        has_packet
    }

    /// The connection is over: everyone who waits is told why.
    fn lose(&self, error: &ClientError) {
        let mut state = self.lock();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(error.clone());
        for (_, promise) in state.answers.drain() {
            promise.send(Err(error.clone())).ok();
        }
        let bundles: Vec<_> = state.bundles.drain().collect();
        for (id, promise) in bundles {
            let committing = state.connection.bundle_is_committing(id) == Some(true);
            promise.send(BundleFate::Lost { committing, error: error.clone() }).ok();
        }
        drop(state);
        self.output.notify_one();
        self.space.notify_waiters();
        self.news.notify_one();
    }
}

impl Client {
    /// Connects to `unix:<path>` or `tcp:<host>[:<port>]`, and agrees on OpenFlow 1.4.
    pub async fn connect(target: &str) -> Result<(Client, EventStream), ClientError> {
        let target: Target = target.parse().map_err(ClientError::Target)?;
        Self::connect_with(&target, ConnectionConfig::default()).await
    }

    /// As [`connect`](Self::connect), kept in another way.
    pub async fn connect_with(
        target: &Target,
        config: ConnectionConfig,
    ) -> Result<(Client, EventStream), ClientError> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let shared = Arc::new(Shared::new(config));
            let tasks = Arc::new(io::start(target, &shared).await?);
            let mut events = EventStream { shared: Arc::clone(&shared), _tasks: Arc::clone(&tasks) };
            match events.next().await? {
                News::Event(Event::Up) => Ok((Client { shared, _tasks: tasks }, events)),
                other => Err(ClientError::Protocol(format!("{other:?} before the hello"))),
            }
        });
        connected.await.unwrap_or_else(|_| Err(ClientError::Timeout { target: target.to_string() }))
    }

    /// Bytes handed to the transport so far, all messages of this connection.
    pub fn bytes_written(&self) -> u64 {
        self.shared.lock().written
    }

    async fn ask(
        &self,
        request: impl FnOnce(&mut Connection) -> Result<Xid, EncodeError>,
    ) -> Result<Answer, ClientError> {
        let (promise, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if let Some(error) = &state.lost {
                return Err(error.clone());
            }
            let xid = request(&mut state.connection)?;
            state.answers.insert(xid, promise);
        }
        self.shared.output.notify_one();
        self.shared.asked.notify_one();
        answer.await.unwrap_or(Err(ClientError::Closed))
    }

    /// The flows that the filter selects, with their counters.
    pub async fn dump_flows(&self, filter: &FlowFilter) -> Result<Vec<FlowEntry>, ClientError> {
        match self.ask(|connection| Ok(connection.dump_flows(filter))).await? {
            Answer::Flows(flows) => Ok(flows),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// All ports.
    pub async fn port_desc(&self) -> Result<Vec<PortDesc>, ClientError> {
        match self.ask(|connection| Ok(connection.port_desc())).await? {
            Answer::Ports(ports) => Ok(ports),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// All meters.
    pub async fn meters(&self) -> Result<Vec<MeterConfig>, ClientError> {
        match self.ask(|connection| Ok(connection.meters())).await? {
            Answer::Meters(meters) => Ok(meters),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// Changes a meter.
    pub async fn meter_mod(&self, meter_mod: &MeterMod) -> Result<(), ClientError> {
        self.ask(|connection| connection.meter_mod(meter_mod)).await.map(drop)
    }

    /// What the switch is.
    pub async fn features(&self) -> Result<Features, ClientError> {
        match self.ask(|connection| Ok(connection.features())).await? {
            Answer::Features(features) => Ok(features),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// How the switch is configured.
    pub async fn get_config(&self) -> Result<SwitchConfig, ClientError> {
        match self.ask(|connection| Ok(connection.get_config())).await? {
            Answer::Config(config) => Ok(config),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// Starts a flow monitor; returns the flows that are there if it asks for them. What changes later comes
    /// in the [`EventStream`].
    pub async fn monitor_flows(&self, monitor: &FlowMonitor) -> Result<Vec<FlowUpdate>, ClientError> {
        match self.ask(|connection| Ok(connection.monitor_flows(monitor))).await? {
            Answer::Updates(updates) => Ok(updates),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// Returns once the switch has done everything that was asked before.
    pub async fn barrier(&self) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.barrier())).await.map(drop)
    }

    /// Returns once the switch has answered.
    pub async fn echo(&self) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.echo())).await.map(drop)
    }

    /// Sets what flow tables see of fragments. Asynchronous messages on a `.mgmt` connection need
    /// [`set_config_async`](Self::set_config_async).
    pub async fn set_config(&self, frags: FragMode) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.set_config(frags, 0))).await.map(drop)
    }

    /// As [`set_config`](Self::set_config), and lets the switch speak unasked: of ports, and of packets up to
    /// this many bytes.
    pub async fn set_config_async(&self, frags: FragMode, miss_send_len: u16) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.set_config(frags, miss_send_len))).await.map(drop)
    }

    /// Asks for packets in the form that carries userdata.
    pub async fn set_packet_in2(&self) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.set_packet_in2())).await.map(drop)
    }

    /// Asks for the packets that are sent to controllers of this id, and for no others.
    pub async fn set_controller_id(&self, id: u16) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.set_controller_id(id))).await.map(drop)
    }

    /// Forgets the connections of a conntrack zone.
    pub async fn ct_flush_zone(&self, zone: u16) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.ct_flush_zone(zone))).await.map(drop)
    }

    /// Forgets the connections that a tuple selects (Open vSwitch 3.1).
    pub async fn ct_flush(&self, flush: &CtFlush) -> Result<(), ClientError> {
        self.ask(|connection| Ok(connection.ct_flush(flush))).await.map(drop)
    }

    /// Sends a packet through the switch.
    pub async fn packet_out(&self, packet: &PacketOut) -> Result<(), ClientError> {
        self.ask(|connection| connection.packet_out(packet)).await.map(drop)
    }

    /// Sends any message that has no answer of its own, and returns once the switch has taken it.
    pub async fn confirmed(&self, message: &Message) -> Result<(), ClientError> {
        self.ask(|connection| connection.confirmed(message)).await.map(drop)
    }

    /// Makes all of the changes at once, in their order, or none of them.
    ///
    /// Memory is bounded whatever their number: the next ones are encoded as the switch takes those before.
    /// Dropping the future before the end drops the bundle, or if the switch was asked to commit already,
    /// leaves its fate unknown.
    pub async fn send_bundle(&self, flow_mods: &[FlowMod]) -> Result<(), BundleError> {
        self.send_bundle_of(flow_mods.len(), |index| flow_mods[index].clone()).await
    }

    /// As [`send_bundle`](Self::send_bundle), of `count` flow-mods that are made when their turn comes: `flow_mod` is called
    /// with each number below `count` in order, and once more with that of each that the switch refuses.
    pub async fn send_bundle_of(
        &self,
        count: usize,
        flow_mod: impl Fn(usize) -> FlowMod,
    ) -> Result<(), BundleError> {
        let Ok(size) = u32::try_from(count) else {
            return Err(BundleError::refused(format!("{count} flow-mods are too many")));
        };
        if size == 0 {
            return Ok(());
        }
        let (promise, fate) = oneshot::channel();
        let bundle = {
            let mut state = self.shared.lock();
            if let Some(error) = &state.lost {
                return Err(BundleError::refused(error.to_string()));
            }
            let id = state.connection.open_bundle(size);
            state.bundles.insert(id, promise);
            OpenBundle { shared: &self.shared, id }
        };
        self.shared.asked.notify_one();
        self.fill(&bundle, (0..count).map(&flow_mod)).await?;
        let fate = fate.await.unwrap_or(BundleFate::Lost { committing: true, error: ClientError::Closed });
        match fate {
            BundleFate::Known(Ok(())) => Ok(()),
            BundleFate::Known(Err(refusal)) => Err(BundleError::of_refusal(&refusal, count, &flow_mod)),
            BundleFate::Lost { committing: true, error } => Err(BundleError::unknown(error.to_string())),
            BundleFate::Lost { committing: false, error } => Err(BundleError::refused(error.to_string())),
        }
    }

    /// Adds the flow-mods as fast as the output drains, then asks to commit.
    async fn fill(
        &self,
        bundle: &OpenBundle<'_>,
        mut rest: impl Iterator<Item = FlowMod>,
    ) -> Result<(), BundleError> {
        let mut next = rest.next();
        loop {
            // Listens before it looks, so that space that appears in between is not missed.
            let space = self.shared.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if state.lost.is_some() {
                    // The fate says so.
                    return Ok(());
                }
                while state.connection.output_length() < OUTPUT_HIGH_WATER
                    && let Some(flow_mod) = next.take()
                {
                    let added = state.connection.add_to_bundle(bundle.id, flow_mod);
                    added.map_err(|error| BundleError::refused(error.to_string()))?;
                    next = rest.next();
                }
                if next.is_none() {
                    state.connection.commit_bundle(bundle.id);
                }
            }
            self.shared.output.notify_one();
            if next.is_none() {
                return Ok(());
            }
            space.await;
        }
    }
}

/// A bundle that is dropped if its future is, before it is asked to commit.
struct OpenBundle<'a> {
    shared: &'a Shared,
    id: BundleId,
}

impl Drop for OpenBundle<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.bundles.remove(&self.id);
        state.connection.discard_bundle(self.id);
        self.shared.output.notify_one();
    }
}

impl EventStream {
    /// What has come already, if anything has; nothing too once the connection is lost.
    pub fn waiting(&mut self) -> Option<News> {
        let mut state = self.shared.lock();
        match std::mem::take(&mut state.missed) {
            0 => state.news.pop_front().map(News::Event),
            missed => Some(News::Missed(missed)),
        }
    }

    /// The next thing that the switch says unasked; an error once the connection is lost and everything
    /// before was taken.
    pub async fn next(&mut self) -> Result<News, ClientError> {
        loop {
            {
                let mut state = self.shared.lock();
                if state.missed > 0 {
                    return Ok(News::Missed(std::mem::take(&mut state.missed)));
                }
                if let Some(event) = state.news.pop_front() {
                    return Ok(News::Event(event));
                }
                if let Some(error) = &state.lost {
                    return Err(error.clone());
                }
            }
            self.shared.news.notified().await;
        }
    }
}
