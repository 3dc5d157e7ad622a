//! One connection to a server, without its socket.
//!
//! Bytes that arrived go in; events come out: answers, matched to requests by id, and notifications. Requests
//! are pipelined. The echo of RFC 7047 §4.1.11 is answered here, and sent when the peer is silent.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value as Json, json};
use thiserror::Error;

use crate::time::Timestamp;
use crate::wire::{Framer, FramingError, Limits, Message, MessageError, RequestId, RpcError};

/// Something that a connection received.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The answer to a request.
    Response {
        /// Which request.
        id: RequestId,
        /// Result or error.
        outcome: Result<Json, RpcError>,
    },
    /// A notification: an update, `locked`, `stolen`, …
    Notification {
        /// Name of the method.
        method: String,
        /// `params`.
        params: Json,
    },
}

/// A connection that must be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// The stream cannot be cut into messages.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// A message cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The answer to a request that we never made, or that was answered before.
    #[error("an answer to request {0}, which is not waiting for one")]
    UnexpectedResponse(String),
    /// No byte came for two probe intervals.
    #[error("no answer to an echo within {0:?}")]
    Silent(Duration),
}

/// The state of a connection.
#[derive(Debug)]
pub struct Connection {
    framer: Framer,
    output: Vec<u8>,
    incoming: VecDeque<Incoming>,
    next_id: u64,
    /// Requests without an answer yet; the echo is not among them.
    waiting: BTreeSet<RequestId>,
    probe: Probe,
}

/// When the peer was last heard of.
#[derive(Debug)]
struct Probe {
    interval: Duration,
    last_heard: Timestamp,
    /// An echo has been sent since.
    is_probing: bool,
}

/// The `id` of our echo requests; no request of ours has a string for an id.
const ECHO_ID: &str = "echo";

impl Connection {
    /// A connection that has just come about. A zero `probe_interval` means no echo is ever sent.
    pub const fn new(limits: Limits, probe_interval: Duration, now: Timestamp) -> Self {
        Self {
            framer: Framer::new(limits),
            output: Vec::new(),
            incoming: VecDeque::new(),
            next_id: 0,
            waiting: BTreeSet::new(),
            probe: Probe { interval: probe_interval, last_heard: now, is_probing: false },
        }
    }

    /// Queues a request.
    pub fn request(&mut self, method: &str, params: Json) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.insert(id);
        self.write(&Message::Request { method: method.to_owned(), params, id: id.0.into() });
        id
    }

    /// Queues a notification, such as `cancel`.
    pub fn notify(&mut self, method: &str, params: Json) {
        self.write(&Message::Notification { method: method.to_owned(), params });
    }

    /// Takes bytes from the socket.
    ///
    /// # Errors
    /// The connection is of no use any more. What was complete before can still be taken.
    pub fn receive(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), ConnectionError> {
        self.heard(now);
        self.framer.push(bytes);
        while let Some(text) = self.framer.next_message()? {
            let message = Message::parse(text)?;
            self.dispatch(message)?;
        }
        Ok(())
    }

    /// Counts as having heard of the peer: for a reader that stopped reading for a while by itself.
    pub const fn heard(&mut self, now: Timestamp) {
        self.probe.last_heard = now;
        self.probe.is_probing = false;
    }

    /// The next thing that was received.
    pub fn next_incoming(&mut self) -> Option<Incoming> {
        self.incoming.pop_front()
    }

    /// The bytes to be written to the socket; they are taken out.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether there are bytes to be written.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// When [`Connection::tick`] is to be called next; `None`: never.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let Probe { interval, last_heard, is_probing } = self.probe;
        let silence = if is_probing { interval.saturating_mul(2) } else { interval };
        (!interval.is_zero()).then(|| last_heard.after(silence))
    }

    /// Sends an echo after a silence of one interval.
    ///
    /// # Errors
    /// Two intervals went by without a byte: the peer is gone.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), ConnectionError> {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if self.probe.is_probing {
            return Err(ConnectionError::Silent(self.probe.interval));
        }
        self.probe.is_probing = true;
        self.write(&Message::Request { method: "echo".into(), params: json!([]), id: ECHO_ID.into() });
        Ok(())
    }

    fn dispatch(&mut self, message: Message) -> Result<(), ConnectionError> {
        match message {
            Message::Request { method, params, id } => {
                let outcome = match method.as_str() {
                    "echo" => Ok(params),
                    _ => Err(RpcError::new("unknown method", format!("a client does not serve {method:?}"))),
                };
                self.write(&Message::Response { outcome, id });
            }
            Message::Notification { method, params } => {
                self.incoming.push_back(Incoming::Notification { method, params });
            }
            Message::Response { id, .. } if id == ECHO_ID => {}
            Message::Response { outcome, id } => {
                let known = id.as_u64().map(RequestId).filter(|id| self.waiting.remove(id));
                let id = known.ok_or_else(|| ConnectionError::UnexpectedResponse(id.to_string()))?;
                self.incoming.push_back(Incoming::Response { id, outcome });
            }
        }
        Ok(())
    }

    fn write(&mut self, message: &Message) {
        message.write(&mut self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    fn connection() -> Connection {
        Connection::new(Limits::default(), INTERVAL, at(0))
    }

    fn text(output: Vec<u8>) -> String {
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let mut connection = connection();
        let first = connection.request("list_dbs", json!([]));
        let second = connection.request("get_schema", json!(["D"]));
        assert_eq!(
            text(connection.take_output()),
            r#"{"method":"list_dbs","params":[],"id":0}{"method":"get_schema","params":["D"],"id":1}"#
        );
        connection.receive(br#"{"id":1,"result":7,"error":null}{"id":0,"result":null,"err"#, at(1)).unwrap();
        assert_eq!(
            connection.next_incoming(),
            Some(Incoming::Response { id: second, outcome: Ok(7.into()) })
        );
        assert_eq!(connection.next_incoming(), None);
        connection.receive(br#"or":"canceled"}{"method":"locked","params":["l"],"id":null}"#, at(1)).unwrap();
        let canceled = RpcError { error: "canceled".into(), details: None, syntax: None };
        assert_eq!(
            connection.next_incoming(),
            Some(Incoming::Response { id: first, outcome: Err(canceled) })
        );
        let notification = Incoming::Notification { method: "locked".into(), params: json!(["l"]) };
        assert_eq!(connection.next_incoming(), Some(notification));
    }

    #[test]
    fn the_peers_echo_is_answered_with_its_params_and_other_requests_with_an_error() {
        let mut connection = connection();
        connection.receive(br#"{"method":"echo","params":[1,"x"],"id":"e"}"#, at(1)).unwrap();
        assert_eq!(text(connection.take_output()), r#"{"result":[1,"x"],"error":null,"id":"e"}"#);
        connection.receive(br#"{"method":"halt","params":[],"id":3}"#, at(1)).unwrap();
        assert!(text(connection.take_output()).contains("unknown method"));
    }

    #[test]
    fn silence_brings_an_echo_then_the_end() {
        let mut connection = connection();
        assert_eq!(connection.next_deadline(), Some(at(5)));
        connection.tick(at(4)).unwrap();
        assert!(!connection.has_output());
        connection.tick(at(5)).unwrap();
        assert_eq!(text(connection.take_output()), r#"{"method":"echo","params":[],"id":"echo"}"#);
        assert_eq!(connection.next_deadline(), Some(at(10)));
        connection.receive(br#"{"id":"echo","result":[],"error":null}"#, at(6)).unwrap();
        assert_eq!((connection.next_incoming(), connection.next_deadline()), (None, Some(at(11))));
        connection.tick(at(11)).unwrap();
        assert_eq!(connection.tick(at(16)), Err(ConnectionError::Silent(INTERVAL)));
    }

    #[test]
    fn a_zero_interval_means_no_echo() {
        let mut connection = Connection::new(Limits::default(), Duration::ZERO, at(0));
        assert_eq!(connection.next_deadline(), None);
        connection.tick(at(1_000_000)).unwrap();
        assert!(!connection.has_output());
    }

    #[test]
    fn what_is_no_message_ends_the_connection() {
        for bytes in [
            &b"x"[..],
            b"{]",
            b"{\"a\":1}",
            b"{\"id\":9,\"result\":1,\"error\":null}",
            b"{\"method\":1,\"id\":1}",
        ] {
            assert!(connection().receive(bytes, at(0)).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
