//! `OFPT_ERROR` (OpenFlow 1.4 §7.5.4).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::NICIRA;
use crate::error::DecodeError;
use crate::wire::Reader;

use super::error_names::{EXPERIMENTER, STANDARD};
use super::{Header, Message};

/// The type that says that an experimenter id follows.
const TYPE_EXPERIMENTER: u16 = 0xffff;
const HELLO_FAILED: u16 = 0;

/// What is wrong, as the switch says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OfError {
    /// An error of the specification.
    Standard {
        /// `OFPET_*`.
        kind: u16,
        /// The code of that type.
        code: u16,
    },
    /// An error of an experimenter.
    Experimenter {
        /// Whose.
        id: u32,
        /// Which.
        code: u16,
    },
}

impl OfError {
    /// The name that ovs-ofctl gives the error, such as `OFPBMC_BAD_PREREQ`; `None` if there is none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            OfError::Standard { kind: HELLO_FAILED, code: 0 } => Some("OFPHFC_INCOMPATIBLE"),
            OfError::Standard { kind, code } => {
                let found = STANDARD.binary_search_by_key(&(kind, code), |(kind, code, _)| (*kind, *code));
                found.ok().map(|index| STANDARD[index].2)
            }
            OfError::Experimenter { id, code } => {
                EXPERIMENTER.iter().find(|row| (row.0, row.1) == (id, code)).map(|(.., name)| *name)
            }
        }
    }
}

/// The name, or the numbers of a nameless error.
impl fmt::Display for OfError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => out.write_str(name),
            (None, OfError::Standard { kind, code }) => write!(out, "error type {kind} code {code}"),
            (None, OfError::Experimenter { id, code }) => write!(out, "experimenter {id:#x} error {code}"),
        }
    }
}

impl std::error::Error for OfError {}

/// An error, with the beginning of the message that it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorMessage {
    /// What is wrong.
    pub error: OfError,
    /// At least the first 64 bytes of the offending message; of a failed hello, a text.
    pub data: Bytes,
}

impl ErrorMessage {
    /// The header of the offending message, if the switch sent that much of it.
    #[must_use]
    pub fn offending_header(&self) -> Option<Header> {
        match self.error {
            OfError::Standard { kind: HELLO_FAILED, .. } => None,
            _ => Header::peek(&self.data),
        }
    }

    /// The offending message itself, if the switch sent all of it.
    #[must_use]
    pub fn offending_message(&self) -> Option<Message> {
        let length = usize::from(self.offending_header()?.length);
        let whole = self.data.get(..length)?;
        Message::decode(&self.data.slice_ref(whole)).ok().map(|(_, message)| message)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self.error {
            OfError::Standard { kind, code } => {
                out.put_u16(kind);
                out.put_u16(code);
            }
            OfError::Experimenter { id, code } => {
                out.put_u16(TYPE_EXPERIMENTER);
                out.put_u16(code);
                out.put_u32(id);
            }
        }
        out.put_slice(&self.data);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, code) = (reader.u16()?, reader.u16()?);
        let error = match kind {
            TYPE_EXPERIMENTER => OfError::Experimenter { id: reader.u32()?, code },
            _ => OfError::Standard { kind, code },
        };
        Ok(ErrorMessage { error, data: Bytes::copy_from_slice(reader.rest()) })
    }
}

impl OfError {
    /// An error of the Nicira experimenter.
    #[must_use]
    pub fn nicira(code: u16) -> Self {
        OfError::Experimenter { id: NICIRA, code }
    }
}
