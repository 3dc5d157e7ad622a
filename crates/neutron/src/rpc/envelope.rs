//! The envelope of oslo.messaging (`oslo_messaging/_drivers/common.py`, `amqpdriver.py` 18.3.1): a JSON document whose one field of note is
//! another JSON document, as text.
//!
//! A call is published with the topic as its routing key and is answered at the default exchange with `_reply_q` as the routing key. `_timeout` stays
//! null: with a number the server sends signs of life, and one for a call that failed never ended.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// The longest message that is read, in bytes: 256 MiB. A port takes 4 kB, so that is more than Neutron answers at once.
pub const MAX_MESSAGE: usize = 256 << 20;

/// `_RPC_ENVELOPE_VERSION`; another minor version may have more in it.
const MAJOR: &str = "2.";

/// A message that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum EnvelopeError {
    /// More than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// No JSON, or not what stands in its place.
    #[error("the {part} cannot be read: {reason}")]
    Unreadable {
        /// `envelope` or `message`.
        part: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// Another version of the envelope.
    #[error("the envelope is of version {0:?}, not of 2.0")]
    Version(String),
    /// A field of the message is missing, or is something else.
    #[error("the message's {field} is {found}, not {wanted}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// What a remote procedure takes. All calls are made as an administrator: without `_context_is_admin` a pull answers with an empty list, as if there were no policy.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<'a> {
    /// As `bulk_pull`.
    pub method: &'a str,
    /// By name.
    pub args: Value,
    /// Of the interface, as `1.1`.
    pub version: &'a str,
    /// What the answer is known by; none for a cast, which has no answer.
    pub answer: Option<Answer<'a>>,
    /// What no other message is called (`_unique_id`).
    pub unique_id: &'a str,
}

/// Where the answer of a call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// `_msg_id`: comes back with it.
    pub id: &'a str,
    /// `_reply_q`: the queue.
    pub queue: &'a str,
}

impl Call<'_> {
    /// The body of the message.
    pub fn encode(&self) -> String {
        let mut message = json!({
            "method": self.method,
            "args": self.args,
            "version": self.version,
            "_unique_id": self.unique_id,
            "_context_is_admin": true,
        });
        if let Some(Answer { id, queue }) = self.answer {
            message["_msg_id"] = id.into();
            message["_reply_q"] = queue.into();
            message["_timeout"] = Value::Null;
        }
        json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string()
    }
}

/// A message of the server.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// The answer to a call.
    Reply(Reply),
    /// Objects changed.
    Push(Push),
    /// Something else is called at our topics.
    Other {
        /// What.
        method: String,
    },
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// The call's [`Answer::id`].
    pub id: String,
    /// What came of it.
    pub result: Result<Value, Failure>,
    /// Whether it is the last message of the answer; one that is not is a sign of life.
    pub is_last: bool,
}

/// What the server raised.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{class}: {message}")]
pub struct Failure {
    /// The exception's class.
    pub class: String,
    /// Its module.
    pub module: String,
    /// Its text.
    pub message: String,
}

/// `ResourcesPushRpcCallback.push` 1.1 (`neutron/api/rpc/handlers/resources_rpc.py`).
#[derive(Clone, PartialEq, Debug)]
pub struct Push {
    /// Versioned objects, all of one type.
    pub resources: Vec<Value>,
    /// Whether they are gone; else they are new or changed.
    pub is_deleted: bool,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "oslo.version")]
    version: String,
    #[serde(rename = "oslo.message")]
    message: String,
}

impl Message {
    /// Reads the body of a message.
    ///
    /// # Errors
    /// It is none of oslo.messaging, or lacks what makes it one of ours; the error names the part.
    pub fn decode(body: &[u8]) -> Result<Self, EnvelopeError> {
        if body.len() > MAX_MESSAGE {
            return Err(EnvelopeError::TooLong(body.len()));
        }
        let unreadable = |part| {
            move |reason: serde_json::Error| EnvelopeError::Unreadable { part, reason: reason.to_string() }
        };
        let Envelope { version, message } = serde_json::from_slice(body).map_err(unreadable("envelope"))?;
        if !version.starts_with(MAJOR) {
            return Err(EnvelopeError::Version(version));
        }
        let mut message: Map<String, Value> =
            serde_json::from_str(&message).map_err(unreadable("message"))?;
        match message.get("method") {
            None => reply(message).map(Message::Reply),
            Some(Value::String(method)) if method == "push" => push(&mut message).map(Message::Push),
            Some(method) => Ok(Message::Other { method: text(Some(method), "method")? }),
        }
    }
}

fn reply(mut message: Map<String, Value>) -> Result<Reply, EnvelopeError> {
    let id = text(message.get("_msg_id"), "_msg_id")?;
    let is_last = message.get("ending").and_then(Value::as_bool).unwrap_or(true);
    let result = match message.remove("failure") {
        None | Some(Value::Null) => Ok(message.remove("result").unwrap_or_default()),
        Some(failure) => Err(Failure::read(&failure)),
    };
    Ok(Reply { id, result, is_last })
}

impl Failure {
    /// `serialize_remote_exception`: JSON as text. What is no such thing is a failure all the same.
    fn read(failure: &Value) -> Self {
        let said = failure.as_str().map_or_else(|| failure.to_string(), str::to_owned);
        let fields: Map<String, Value> = serde_json::from_str(&said).unwrap_or_default();
        let field = |name| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        Failure {
            class: field("class").unwrap_or_else(|| "failure".to_owned()),
            module: field("module").unwrap_or_default(),
            message: field("message").unwrap_or(said),
        }
    }
}

fn push(message: &mut Map<String, Value>) -> Result<Push, EnvelopeError> {
    let Some(Value::Object(args)) = message.get_mut("args") else {
        return Err(wrong(message.get("args"), "args", "an object"));
    };
    let is_deleted = match args.get("event_type").and_then(Value::as_str) {
        Some("deleted") => true,
        // Neutron 29 says "updated" of what it creates, too.
        Some("updated" | "created") => false,
        _ => return Err(wrong(args.get("event_type"), "event_type", "updated, created or deleted")),
    };
    match args.remove("resource_list") {
        Some(Value::Array(resources)) => Ok(Push { resources, is_deleted }),
        other => Err(wrong(other.as_ref(), "resource_list", "a list")),
    }
}

fn text(value: Option<&Value>, field: &'static str) -> Result<String, EnvelopeError> {
    value.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| wrong(value, field, "text"))
}

fn wrong(value: Option<&Value>, field: &'static str, wanted: &'static str) -> EnvelopeError {
    EnvelopeError::Field { field, found: kind(value), wanted }
}

/// What a value is, for people.
pub(super) fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "other text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn body(message: &Value) -> Vec<u8> {
        json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string().into_bytes()
    }

    /// A message as it was captured, without what the capture added.
    fn captured(text: &str) -> Vec<u8> {
        let sample: Value = serde_json::from_str(text).unwrap();
        sample["body"].to_string().into_bytes()
    }

    #[test]
    fn a_call_has_what_a_captured_one_has() {
        let sample: Value =
            serde_json::from_str(include_str!("../../tests/data/rpc/call_bulk_pull_Port.json")).unwrap();
        let sent = &sample["decoded_oslo.message"];
        let text = |name: &str| sent[name].as_str().unwrap();
        let call = Call {
            method: "bulk_pull",
            args: sent["args"].clone(),
            version: "1.1",
            answer: Some(Answer { id: text("_msg_id"), queue: text("_reply_q") }),
            unique_id: text("_unique_id"),
        };
        let ours: Value = serde_json::from_str(&call.encode()).unwrap();
        assert_eq!(ours["oslo.version"], "2.0");
        let ours: Map<String, Value> = serde_json::from_str(ours["oslo.message"].as_str().unwrap()).unwrap();
        for (name, value) in &ours {
            assert_eq!(value, &sent[name], "{name}");
        }
        let not_ours: Vec<&str> = sent
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .filter(|name| !ours.contains_key(*name) && !name.starts_with("_context"))
            .collect();
        assert!(not_ours.is_empty(), "{not_ours:?}");
    }

    #[test]
    fn a_cast_asks_for_no_answer() {
        let cast = Call { method: "m", args: json!({}), version: "1.0", answer: None, unique_id: "u" };
        let text = cast.encode();
        assert!(!text.contains("_msg_id") && !text.contains("_reply_q"), "{text}");
    }

    #[test]
    fn captured_answers_and_pushes_are_read() {
        let reply = captured(include_str!("../../tests/data/rpc/reply_to_call_report_state.json"));
        let Message::Reply(reply) = Message::decode(&reply).unwrap() else { panic!("no reply") };
        assert_eq!((reply.id.as_str(), reply.is_last), ("74d7affa2d37433e90dd0d23f31b1938", true));
        assert_eq!(reply.result, Ok("revived".into()));
        let push = captured(include_str!("../../tests/data/rpc/push_Port_deleted.json"));
        let Message::Push(push) = Message::decode(&push).unwrap() else { panic!("no push") };
        assert!(push.is_deleted && push.resources.len() == 1);
    }

    #[test]
    fn a_failure_says_what_was_raised() {
        let failure = json!({"class": "InvalidTargetVersion", "module": "oslo_versionedobjects.exception",
                             "message": "Invalid target version 9.9", "tb": [], "args": [], "kwargs": {}});
        let message = json!({"result": null, "failure": failure.to_string(), "ending": true, "_msg_id": "i"});
        let Message::Reply(reply) = Message::decode(&body(&message)).unwrap() else { panic!("no reply") };
        assert_eq!(reply.result.unwrap_err().to_string(), "InvalidTargetVersion: Invalid target version 9.9");
        for odd in [json!("gone"), json!({"class": 1})] {
            let message = json!({"failure": odd, "_msg_id": "i"});
            let Message::Reply(reply) = Message::decode(&body(&message)).unwrap() else { panic!("no reply") };
            assert!(reply.result.is_err());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good_push = json!({"method": "push", "args": {"resource_list": [], "event_type": "updated"}});
        let changed = |pointer: &str, value: Value| {
            let mut push = good_push.clone();
            *push.pointer_mut(pointer).unwrap() = value;
            push
        };
        assert!(Message::decode(&body(&good_push)).is_ok());
        let said = |body: &[u8]| Message::decode(body).unwrap_err().to_string() + "\n";
        let all = [
            said(b"AMQP"),
            said(br#"{"oslo.version": "2.0"}"#),
            said(br#"{"oslo.version": "3.0", "oslo.message": "{}"}"#),
            said(br#"{"oslo.version": "2.0", "oslo.message": "[]"}"#),
            said(&body(&json!({}))),
            said(&body(&json!({"method": 1}))),
            said(&body(&changed("/args", json!([])))),
            said(&body(&changed("/args/event_type", json!("moved")))),
            said(&body(&changed("/args/resource_list", json!({})))),
        ];
        expect![[r#"
            the envelope cannot be read: expected value at line 1 column 1
            the envelope cannot be read: missing field `oslo.message` at line 1 column 23
            the envelope is of version "3.0", not of 2.0
            the message cannot be read: invalid type: sequence, expected a map at line 1 column 0
            the message's _msg_id is missing, not text
            the message's method is a number, not text
            the message's args is a list, not an object
            the message's event_type is other text, not updated, created or deleted
            the message's resource_list is an object, not a list
        "#]]
        .assert_eq(&all.concat());
    }
}
