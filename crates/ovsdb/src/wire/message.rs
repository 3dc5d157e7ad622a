//! JSON-RPC 1.0 messages, as RFC 7047 §4 uses them.

use std::fmt;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::value::shown;

/// The `id` that we give a request: a number that counts up within a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One message in either direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants a response with the same `id`, which is any JSON but null.
    Request {
        /// Name of the method.
        method: String,
        /// `params`; an array, or null where the peer sends none.
        params: Value,
        /// `id`, chosen by the sender.
        id: Value,
    },
    /// Wants no response: its `id` is null.
    Notification {
        /// Name of the method.
        method: String,
        /// `params`.
        params: Value,
    },
    /// Answers the request with the same `id`.
    Response {
        /// `result`, or the `error` member where that is not null.
        outcome: Result<Value, RpcError>,
        /// `id` of the request.
        id: Value,
    },
}

/// The `error` member of a response or of one operation: RFC 7047 §3.1, `<error>`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct RpcError {
    /// Short name, such as "constraint violation" or "unknown method".
    pub error: String,
    /// Text for people.
    pub details: Option<String>,
    /// The part of a request that could not be parsed; ovsdb-server's addition (ovsdb-server(7) 3.1, "3.1").
    pub syntax: Option<String>,
}

/// JSON that is no JSON-RPC message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a JSON-RPC message: {0}")]
pub struct MessageError(pub String);

impl Message {
    /// Parses the text of one object.
    ///
    /// # Errors
    /// Text that is no JSON, or an object that is neither request, notification nor response.
    pub fn parse(text: &[u8]) -> Result<Self, MessageError> {
        let json: Value = serde_json::from_slice(text).map_err(|error| MessageError(error.to_string()))?;
        let Value::Object(mut object) = json else { return Err(MessageError("not an object".into())) };
        let id = object.remove("id").unwrap_or(Value::Null);
        match object.remove("method") {
            Some(Value::String(method)) => {
                let params = object.remove("params").unwrap_or(Value::Null);
                Ok(if id.is_null() {
                    Self::Notification { method, params }
                } else {
                    Self::Request { method, params, id }
                })
            }
            Some(other) => Err(MessageError(format!("\"method\" is {}", shown(&other)))),
            None => Self::response(object, id),
        }
    }

    fn response(mut object: Map<String, Value>, id: Value) -> Result<Self, MessageError> {
        let outcome = match (object.remove("result"), object.remove("error")) {
            (_, Some(error)) if !error.is_null() => Err(RpcError::from_json(&error)),
            (Some(result), _) => Ok(result),
            _ => return Err(MessageError("neither \"method\", \"result\" nor \"error\"".into())),
        };
        if id.is_null() {
            return Err(MessageError(format!("a response to nothing: {outcome:?}")));
        }
        Ok(Self::Response { outcome, id })
    }

    /// Appends the message's text to `output`.
    pub fn write(&self, output: &mut Vec<u8>) {
        let json = match self {
            Self::Request { method, params, id } => json!({"method": method, "params": params, "id": id}),
            Self::Notification { method, params } => json!({"method": method, "params": params, "id": null}),
            Self::Response { outcome: Ok(result), id } => json!({"result": result, "error": null, "id": id}),
            Self::Response { outcome: Err(error), id } => {
                json!({"result": null, "error": error.to_json(), "id": id})
            }
        };
        serde_json::to_writer(output, &json)
            .expect("a JSON value with string keys always serialises into a Vec");
    }
}

impl RpcError {
    /// An error with a name and a text.
    pub fn new(error: impl Into<String>, details: impl Into<String>) -> Self {
        Self { error: error.into(), details: Some(details.into()), syntax: None }
    }

    /// Reads an `<error>`. ovsdb-server answers some requests with a bare string ("unknown method" in old
    /// versions, "canceled" by RFC 7047 §4.1.4), so that is taken as the name; any other JSON is kept as details.
    pub fn from_json(json: &Value) -> Self {
        let member = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        match (json, member("error")) {
            (Value::String(name), _) => Self { error: name.clone(), details: None, syntax: None },
            (_, Some(error)) => Self { error, details: member("details"), syntax: member("syntax") },
            _ => Self::new("unreadable error", shown(json)),
        }
    }

    /// Writes the `<error>`.
    pub fn to_json(&self) -> Value {
        let mut object = Map::from_iter([("error".to_owned(), Value::from(self.error.as_str()))]);
        for (name, text) in [("details", &self.details), ("syntax", &self.syntax)] {
            if let Some(text) = text {
                object.insert(name.to_owned(), Value::from(text.as_str()));
            }
        }
        Value::Object(object)
    }

    /// Whether the peer does not know the method that was called.
    pub fn is_unknown_method(&self) -> bool {
        self.error == "unknown method"
    }

    /// Whether the peer does not have the database that was named.
    pub fn is_unknown_database(&self) -> bool {
        self.error == "unknown database"
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if let Some(details) = &self.details {
            write!(f, ": {details}")?;
        }
        if let Some(syntax) = &self.syntax {
            write!(f, " (in {syntax})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_are_read_to_their_last_bit() {
        // Found by fuzzing: serde_json reads faster, and one bit off, unless it is told not to.
        let text = br#"{"id":0,"result":-92233720368547758080.0}"#;
        let Ok(Message::Response { outcome: Ok(result), .. }) = Message::parse(text) else { panic!() };
        assert_eq!(result.as_f64(), Some(-92_233_720_368_547_758_080.0));
        for real in ["1.0715086071862673e301", "9.2233720368547756e-201", "-9.223372036854776e+19"] {
            let json: Value = serde_json::from_str(real).unwrap();
            assert_eq!(json.as_f64(), real.parse().ok(), "{real}");
        }
    }
}
