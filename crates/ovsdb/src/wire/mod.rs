//! What crosses the connection: JSON text cut into messages, messages, and values in JSON.

pub(crate) mod framing;
pub(crate) mod message;
pub(crate) mod value;

pub use framing::{Framer, FramingError, Limits};
pub use message::{Message, MessageError, RequestId, RpcError};
