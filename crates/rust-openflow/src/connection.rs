//! The controller's end of an OpenFlow connection, without its transport: bytes and the time come in, bytes
//! and events go out.
//!
//! ```text
//!  bytes ── receive ──► Connection ──► poll_event ── answers to requests, news from the switch
//!  requests ──────────►            ──► take_output ── bytes
//!  time ──── tick ────►
//! ```
//!
//! Requests are answered in events that carry the request's [`Xid`]. Echo requests are answered by
//! themselves.

mod bundle;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::message::{
    CtFlush, ErrorMessage, Features, FlowEntry, FlowFilter, FlowMonitor, FlowRemoved, FlowUpdate, FragMode,
    Framer, Header, Message, MeterConfig, MeterMod, OFP14_VERSION, OfError, PacketIn, PacketOut, Part,
    PortDesc, PortStatus, SwitchConfig, Xid,
};

pub use bundle::{BundleFailure, BundleId, BundleRefusal};

/// How a connection is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionConfig {
    /// Silence after which the switch is asked whether it is there.
    pub probe_after: Duration,
    /// Silence after which the connection is given up. A switch that commits a great bundle is silent for
    /// seconds.
    pub give_up_after: Duration,
    /// Time after which a request is given up, though the connection lives: Open vSwitch 3.1 does not answer
    /// a flow monitor with bad flags, for one.
    pub answer_within: Duration,
    /// Items that the answer to one request may have.
    pub max_reply_items: usize,
    /// After a packet came, a client that waits for no answer reads nothing for so long, so that what comes meanwhile is taken
    /// in at once: for a stream of samples, of which each would cost its reader a waking up. What waits is in the socket, which
    /// is to have room for it. Well below `probe_after`: a switch that is not read seems silent. Zero: everything is read as it comes.
    pub rest: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        ConnectionConfig {
            probe_after: Duration::from_secs(10),
            give_up_after: Duration::from_secs(60),
            answer_within: Duration::from_secs(120),
            max_reply_items: 20_000_000,
            rest: Duration::ZERO,
        }
    }
}

/// Why a connection is lost.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The switch does not speak OpenFlow 1.4.
    #[error(
        "the switch speaks OpenFlow versions {theirs:x?}, not 0x05 (1.4); see the bridge's 'protocols' column"
    )]
    Version {
        /// The `ofp_header.version` numbers that it offers.
        theirs: Vec<u8>,
    },
    /// The switch refused the hello.
    #[error("the switch refused the connection: {0}")]
    HelloRefused(String),
    /// The first message was no hello.
    #[error("the other end does not speak OpenFlow: its first message is of type {kind}")]
    NoHello {
        /// That message's type.
        kind: u8,
    },
    /// The stream cannot be cut into messages any more.
    #[error("the stream is lost: {0}")]
    Stream(#[from] DecodeError),
    /// The switch said nothing for too long.
    #[error("the switch has been silent for {silence:?}")]
    Silent {
        /// For how long.
        silence: Duration,
    },
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The versions are agreed on; requests go out from now on.
    Up,
    /// A request was answered.
    Answer {
        /// The request.
        xid: Xid,
        /// Its answer.
        answer: Result<Answer, RequestError>,
    },
    /// A bundle's fate.
    Bundle {
        /// The bundle.
        id: BundleId,
        /// `Ok`: all of it took effect. `Err`: none of it.
        result: Result<(), BundleRefusal>,
    },
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// A packet came.
    PacketIn(Box<PacketIn>),
    /// A flow expired or was removed.
    FlowRemoved(Box<FlowRemoved>),
    /// A flow monitor tells.
    FlowUpdates(Vec<FlowUpdate>),
    /// An error that belongs to no request that waits: of something sent without asking for an answer.
    StrayError {
        /// The xid it names.
        xid: Xid,
        /// The error.
        error: ErrorMessage,
    },
    /// A message that is nothing of the above, or whose bytes are wrong.
    Other {
        /// Its header.
        header: Header,
        /// What it is, or why it could not be read.
        message: Result<Box<Message>, DecodeError>,
    },
}

/// The answer to a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// What the switch is.
    Features(Features),
    /// How it is configured.
    Config(SwitchConfig),
    /// Flows, in the order of the switch.
    Flows(Vec<FlowEntry>),
    /// Ports.
    Ports(Vec<PortDesc>),
    /// Meters.
    Meters(Vec<MeterConfig>),
    /// The flows that were there when a flow monitor began.
    Updates(Vec<FlowUpdate>),
    /// An echo came back.
    Echo,
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// The switch refused it.
    #[error("{}", .0.error)]
    Refused(ErrorMessage),
    /// The answer could not be read.
    #[error("the answer cannot be read: {0}")]
    BadAnswer(#[from] DecodeError),
    /// The switch lives, but has not answered.
    #[error("no answer within {within:?}")]
    NoAnswer {
        /// How long it had.
        within: Duration,
    },
    /// The answer has more items than the connection's configuration lets it have.
    #[error("the answer has more than {limit} items")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl RequestError {
    /// The switch's error, if it is one.
    #[must_use]
    pub fn of_error(&self) -> Option<OfError> {
        match self {
            RequestError::Refused(message) => Some(message.error),
            _ => None,
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    waiting: Waiting,
    /// The last time that was known when it was asked, or when a part of its answer came.
    since: Duration,
}

/// What a request waits for.
#[derive(Debug)]
enum Waiting {
    /// For a single message.
    Message,
    /// For the rest of an answer in parts.
    Parts(Answer),
    /// For the barrier behind a request that has no answer of its own; an error may come first.
    Barrier { request: Xid, error: Option<ErrorMessage> },
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    framer: Framer,
    output: BytesMut,
    /// What was asked for before the versions were agreed on.
    held: BytesMut,
    up: bool,
    next_xid: u32,
    waiting: BTreeMap<Xid, Pending>,
    bundles: Vec<bundle::Bundle>,
    events: VecDeque<Event>,
    heard_at: Duration,
    /// The last time that was given.
    now: Duration,
    /// When the echo request that waits for its answer was sent.
    probed_at: Option<Duration>,
}

impl Connection {
    /// A connection whose transport has just been opened. `now` is the time since an origin of the caller's
    /// choice.
    #[must_use]
    pub fn new(config: ConnectionConfig, now: Duration) -> Self {
        let mut connection = Connection {
            config,
            framer: Framer::default(),
            output: BytesMut::new(),
            held: BytesMut::new(),
            up: false,
            next_xid: 1,
            waiting: BTreeMap::new(),
            bundles: Vec::new(),
            events: VecDeque::new(),
            heard_at: now,
            now,
            probed_at: None,
        };
        let xid = connection.take_xids(1);
        let hello = Message::Hello(vec![OFP14_VERSION]);
        hello.encode(xid, &mut connection.output).expect("a hello has a dozen bytes");
        connection
    }

    /// Bytes came in. An error is the end of the connection.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> Result<(), ConnectionError> {
        (self.now, self.heard_at) = (now, now);
        self.probed_at = None;
        self.framer.push(bytes);
        while let Some(message) = self.framer.next_message()? {
            self.message(&message)?;
        }
        Ok(())
    }

    /// Time passed: sends an echo request into a silence, and gives up after a longer one.
    pub fn tick(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.now = now;
        self.expire();
        let silence = now.saturating_sub(self.heard_at);
        if silence >= self.config.give_up_after {
            return Err(ConnectionError::Silent { silence });
        }
        if silence >= self.config.probe_after && self.probed_at.is_none() && self.up {
            self.probed_at = Some(now);
            let xid = self.take_xids(1);
            self.put(xid, &Message::EchoRequest(Bytes::new())).expect("an echo has no body");
        }
        Ok(())
    }

    /// When [`tick`](Self::tick) has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Duration {
        let after = if self.probed_at.is_some() || !self.up {
            self.config.give_up_after
        } else {
            self.config.probe_after
        };
        let patience = self.waiting.values().map(|pending| pending.since + self.config.answer_within).min();
        let probe = self.heard_at + after;
        patience.map_or(probe, |patience| patience.min(probe))
    }

    /// Gives up requests that were not answered in time.
    fn expire(&mut self) {
        let within = self.config.answer_within;
        let late = |pending: &Pending| self.now.saturating_sub(pending.since) >= within;
        let late: Vec<_> =
            self.waiting.iter().filter(|(_, pending)| late(pending)).map(|(xid, _)| *xid).collect();
        for xid in late {
            let request = match self.waiting.remove(&xid) {
                Some(Pending { waiting: Waiting::Barrier { request, .. }, .. }) => request,
                _ => xid,
            };
            self.answer(request, Err(RequestError::NoAnswer { within }));
        }
    }

    fn wait(&mut self, xid: Xid, waiting: Waiting) {
        self.waiting.insert(xid, Pending { waiting, since: self.now });
    }

    fn take_waiting(&mut self, xid: Xid) -> Option<Waiting> {
        self.waiting.remove(&xid).map(|pending| pending.waiting)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The bytes to send; the caller must send them in this order.
    pub fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    /// Bytes that wait to be sent. A caller that queues much looks here, and lets the transport catch up.
    #[must_use]
    pub fn output_length(&self) -> usize {
        self.output.len() + self.held.len()
    }

    /// Whether the versions are agreed on.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Asks for an answer once everything before is done.
    pub fn barrier(&mut self) -> Xid {
        self.ask(&Message::BarrierRequest, Waiting::Message)
    }

    /// Asks whether the switch is there.
    pub fn echo(&mut self) -> Xid {
        self.ask(&Message::EchoRequest(Bytes::from_static(b"?")), Waiting::Message)
    }

    /// Asks what the switch is.
    pub fn features(&mut self) -> Xid {
        self.ask(&Message::FeaturesRequest, Waiting::Message)
    }

    /// Asks how the switch is configured.
    pub fn get_config(&mut self) -> Xid {
        self.ask(&Message::GetConfigRequest, Waiting::Message)
    }

    /// Asks for flows.
    pub fn dump_flows(&mut self, filter: &FlowFilter) -> Xid {
        self.ask(&Message::FlowStatsRequest(filter.clone()), Waiting::Parts(Answer::Flows(Vec::new())))
    }

    /// Asks for all ports.
    pub fn port_desc(&mut self) -> Xid {
        self.ask(&Message::PortDescRequest, Waiting::Parts(Answer::Ports(Vec::new())))
    }

    /// Asks for all meters.
    pub fn meters(&mut self) -> Xid {
        self.ask(&Message::MeterConfigRequest, Waiting::Parts(Answer::Meters(Vec::new())))
    }

    /// Changes a meter.
    pub fn meter_mod(&mut self, meter_mod: &MeterMod) -> Result<Xid, EncodeError> {
        self.confirmed(&Message::MeterMod(meter_mod.clone()))
    }

    /// Starts a flow monitor; later changes come as [`Event::FlowUpdates`].
    pub fn monitor_flows(&mut self, monitor: &FlowMonitor) -> Xid {
        self.ask(&Message::FlowMonitorRequest(monitor.clone()), Waiting::Parts(Answer::Updates(Vec::new())))
    }

    /// Sets what flow tables see of fragments, and how much of a packet that matched nothing is sent here.
    pub fn set_config(&mut self, frags: FragMode, miss_send_len: u16) -> Xid {
        self.confirmed_fixed(&Message::SetConfig(SwitchConfig { frags, miss_send_len }))
    }

    /// Forgets the connections of a conntrack zone.
    pub fn ct_flush_zone(&mut self, zone: u16) -> Xid {
        self.confirmed_fixed(&Message::CtFlushZone(zone))
    }

    /// Forgets the connections that a tuple selects.
    pub fn ct_flush(&mut self, flush: &CtFlush) -> Xid {
        self.confirmed_fixed(&Message::CtFlush(flush.clone()))
    }

    /// Asks for packets in the form that carries userdata.
    pub fn set_packet_in2(&mut self) -> Xid {
        self.confirmed_fixed(&Message::SetPacketIn2)
    }

    /// Asks for the packets that are sent to controllers of this id, and for no others.
    pub fn set_controller_id(&mut self, id: u16) -> Xid {
        self.confirmed_fixed(&Message::SetControllerId(id))
    }

    /// Sends a packet through the switch.
    pub fn packet_out(&mut self, packet: &PacketOut) -> Result<Xid, EncodeError> {
        self.confirmed(&Message::PacketOut(packet.clone()))
    }

    /// Sends a message that has no answer of its own, and a barrier behind it, so that success is known as
    /// well as failure.
    pub fn confirmed(&mut self, message: &Message) -> Result<Xid, EncodeError> {
        let request = self.take_xids(2);
        let barrier = Xid(request.0 + 1);
        self.put(request, message)?;
        self.put(barrier, &Message::BarrierRequest)?;
        self.wait(barrier, Waiting::Barrier { request, error: None });
        Ok(request)
    }

    /// Sends a message and waits for nothing; an error comes as [`Event::StrayError`].
    pub fn send(&mut self, message: &Message) -> Result<Xid, EncodeError> {
        let xid = self.take_xids(1);
        self.put(xid, message)?;
        Ok(xid)
    }

    fn confirmed_fixed(&mut self, message: &Message) -> Xid {
        self.confirmed(message).expect("the message has a bounded size")
    }

    fn ask(&mut self, message: &Message, waiting: Waiting) -> Xid {
        let xid = self.take_xids(1);
        self.put(xid, message).expect("a request has the size of a match at most");
        self.wait(xid, waiting);
        xid
    }

    /// `count` transaction ids in a row, none of them 0, which the switch uses itself.
    fn take_xids(&mut self, count: u32) -> Xid {
        if self.next_xid.checked_add(count).is_none() {
            self.next_xid = 1;
        }
        let first = self.next_xid;
        self.next_xid += count;
        Xid(first)
    }

    fn put(&mut self, xid: Xid, message: &Message) -> Result<(), EncodeError> {
        let out = if self.up { &mut self.output } else { &mut self.held };
        message.encode(xid, out)
    }

    fn message(&mut self, bytes: &Bytes) -> Result<(), ConnectionError> {
        let decoded = Message::decode(bytes);
        // The framer gave out a whole header.
        let Some(header) = Header::peek(bytes) else { return Ok(()) };
        if !self.up {
            return self.greeting(header, decoded?.1);
        }
        match decoded {
            Ok((_, message)) => self.dispatch(header, message),
            Err(error) => match self.take_waiting(header.xid) {
                Some(_) => self.answer(header.xid, Err(RequestError::BadAnswer(error))),
                None => self.events.push_back(Event::Other { header, message: Err(error) }),
            },
        }
        Ok(())
    }

    /// The first message must be a hello that offers 1.4.
    fn greeting(&mut self, header: Header, message: Message) -> Result<(), ConnectionError> {
        match message {
            Message::Hello(theirs) if theirs.contains(&OFP14_VERSION) => {
                self.up = true;
                let held = self.held.split();
                self.output.extend_from_slice(&held);
                self.events.push_back(Event::Up);
                Ok(())
            }
            Message::Hello(theirs) => Err(ConnectionError::Version { theirs }),
            Message::Error(error) => {
                Err(ConnectionError::HelloRefused(String::from_utf8_lossy(&error.data).into_owned()))
            }
            _ => Err(ConnectionError::NoHello { kind: header.kind }),
        }
    }

    fn dispatch(&mut self, header: Header, message: Message) {
        let xid = header.xid;
        match message {
            Message::EchoRequest(data) => {
                let reply = Message::EchoReply(data).encode(xid, &mut self.output);
                reply.expect("the reply is as long as the request was");
            }
            Message::Error(error) => self.error(xid, error),
            Message::BarrierReply => self.barrier_reply(xid),
            Message::BundleControl(control) => self.bundle_reply(xid, control),
            Message::EchoReply(_) => {
                // The answer to a probe has no one waiting.
                if self.waiting.remove(&xid).is_some() {
                    self.answer(xid, Ok(Answer::Echo));
                }
            }
            Message::FeaturesReply(features) => self.single(header, Answer::Features(features)),
            Message::GetConfigReply(config) => self.single(header, Answer::Config(config)),
            Message::FlowStatsReply(part) => self.part(xid, part, |answer| match answer {
                Answer::Flows(flows) => Some(flows),
                _ => None,
            }),
            Message::PortDescReply(part) => self.part(xid, part, |answer| match answer {
                Answer::Ports(ports) => Some(ports),
                _ => None,
            }),
            Message::MeterConfigReply(part) => self.part(xid, part, |answer| match answer {
                Answer::Meters(meters) => Some(meters),
                _ => None,
            }),
            Message::FlowMonitorReply(part) if !self.waiting.contains_key(&xid) => {
                self.events.push_back(Event::FlowUpdates(part.items));
            }
            Message::FlowMonitorReply(part) => self.part(xid, part, |answer| match answer {
                Answer::Updates(updates) => Some(updates),
                _ => None,
            }),
            Message::PortStatus(status) => self.events.push_back(Event::PortStatus(status)),
            Message::PacketIn(packet) => self.events.push_back(Event::PacketIn(Box::new(packet))),
            Message::FlowRemoved(removed) => self.events.push_back(Event::FlowRemoved(Box::new(removed))),
            other => self.other(header, other),
        }
    }

    fn other(&mut self, header: Header, message: Message) {
        self.events.push_back(Event::Other { header, message: Ok(Box::new(message)) });
    }

    fn answer(&mut self, xid: Xid, answer: Result<Answer, RequestError>) {
        self.events.push_back(Event::Answer { xid, answer });
    }

    fn single(&mut self, header: Header, answer: Answer) {
        match self.take_waiting(header.xid) {
            Some(Waiting::Message) => self.answer(header.xid, Ok(answer)),
            _ => self.other(header, Message::Unknown { kind: header.kind, body: Bytes::new() }),
        }
    }

    fn barrier_reply(&mut self, xid: Xid) {
        match self.take_waiting(xid) {
            Some(Waiting::Barrier { request, error: None }) => self.answer(request, Ok(Answer::Done)),
            Some(Waiting::Barrier { request, error: Some(error) }) => {
                self.answer(request, Err(RequestError::Refused(error)));
            }
            Some(_) => self.answer(xid, Ok(Answer::Done)),
            None => {}
        }
    }

    /// Adds a part to the answer that it belongs to.
    fn part<T>(&mut self, xid: Xid, part: Part<T>, items: impl Fn(&mut Answer) -> Option<&mut Vec<T>>) {
        let limit = self.config.max_reply_items;
        let now = self.now;
        let Some(Pending { waiting: Waiting::Parts(answer), since }) = self.waiting.get_mut(&xid) else {
            return;
        };
        *since = now;
        let Some(items) = items(answer) else { return };
        if items.len() + part.items.len() > limit {
            self.waiting.remove(&xid);
            self.answer(xid, Err(RequestError::TooMany { limit }));
            return;
        }
        items.extend(part.items);
        if !part.more
            && let Some(Waiting::Parts(answer)) = self.take_waiting(xid)
        {
            self.answer(xid, Ok(answer));
        }
    }

    fn error(&mut self, xid: Xid, message: ErrorMessage) {
        if self.bundle_error(xid, &message) {
            return;
        }
        // The barrier behind a confirmed request has the next xid.
        let behind = self.waiting.get_mut(&Xid(xid.0.wrapping_add(1)));
        if let Some(Pending { waiting: Waiting::Barrier { request, error }, .. }) = behind
            && *request == xid
        {
            error.get_or_insert(message);
            return;
        }
        match self.take_waiting(xid) {
            Some(Waiting::Barrier { request, .. }) => {
                self.answer(request, Err(RequestError::Refused(message)))
            }
            Some(_) => self.answer(xid, Err(RequestError::Refused(message))),
            None => self.events.push_back(Event::StrayError { xid, error: message }),
        }
    }
}
