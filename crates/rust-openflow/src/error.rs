//! What can be wrong with text, with bytes that came in, and with values that shall go out.

use crate::field::Field;
use crate::flow::FlowKey;

/// Text that ovs-ofctl's grammar does not allow, or that this crate does not know.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} '{text}': {reason}")]
pub struct ParseError {
    /// What was read: a field's, action's or key's name.
    pub what: String,
    /// The piece of text that is wrong.
    pub text: String,
    /// Why it is wrong.
    pub reason: String,
}

impl ParseError {
    pub(crate) fn new(what: impl Into<String>, text: impl Into<String>, reason: impl Into<String>) -> Self {
        ParseError { what: what.into(), text: text.into(), reason: reason.into() }
    }
}

/// A value that a field cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FieldError {
    /// The register does not exist.
    #[error("{0:?}: no such register")]
    NoSuchField(Field),
    /// The value, where the mask is one, needs more bits than the field has.
    #[error("{field:?}: value {value:#x} needs more than {bits} bits")]
    TooWide {
        /// The field.
        field: Field,
        /// The value given.
        value: u128,
        /// The bits the field has.
        bits: u16,
    },
    /// The field can only be matched whole.
    #[error("{field:?}: cannot be masked (mask {mask:#x})")]
    NotMaskable {
        /// The field.
        field: Field,
        /// The mask given.
        mask: u128,
    },
}

/// Bytes that are no OpenFlow, or break its limits.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// A structure ends before its last field.
    #[error("{what}: {need} bytes needed, {left} left")]
    Short {
        /// The structure.
        what: &'static str,
        /// Bytes that the next item needs.
        need: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length field contradicts the structure it belongs to.
    #[error("{what}: bad length {length}")]
    BadLength {
        /// The structure.
        what: &'static str,
        /// The length it gives.
        length: usize,
    },
    /// A field holds a value that the protocol does not have.
    #[error("{what}: bad value {value:#x}")]
    BadValue {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
    },
    /// Actions are nested deeper than any switch would execute.
    #[error("actions nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// A value that cannot be put into an OpenFlow 1.4 message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// The structure needs more bytes than its 16-bit length can say.
    #[error("{what}: {length} bytes, more than the {limit} an OpenFlow length can say")]
    TooLong {
        /// The structure.
        what: String,
        /// Bytes it would need.
        length: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A number does not fit where the protocol puts it.
    #[error("{what}: {value} is out of range")]
    OutOfRange {
        /// The field.
        what: &'static str,
        /// The value.
        value: u128,
    },
    /// A value does not fit its field.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// One of the above, in a flow-mod.
    #[error("flow '{key}': {error}")]
    InFlow {
        /// The flow's table, priority and match.
        key: Box<FlowKey>,
        /// What is wrong with it.
        error: Box<EncodeError>,
    },
}
