//! Bundles (OpenFlow 1.4 §7.3.9): messages that take effect together or not at all.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::wire::Reader;

use super::{Message, Xid};

/// `OFPBF_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BundleFlags {
    /// All of it or nothing.
    pub atomic: bool,
    /// In the order of the messages.
    pub ordered: bool,
}

impl BundleFlags {
    /// Both.
    pub const ATOMIC_ORDERED: BundleFlags = BundleFlags { atomic: true, ordered: true };

    fn code(self) -> u16 {
        u16::from(self.atomic) | u16::from(self.ordered) << 1
    }

    fn of(code: u16) -> Self {
        BundleFlags { atomic: code & 1 != 0, ordered: code & 2 != 0 }
    }
}

/// A bundle's life; each request has its reply (`OFPBCT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)] // the names say it
pub enum BundleStep {
    OpenRequest,
    OpenReply,
    CloseRequest,
    CloseReply,
    CommitRequest,
    CommitReply,
    DiscardRequest,
    DiscardReply,
}

impl BundleStep {
    /// In the order of their numbers.
    const ALL: [BundleStep; 8] = [
        Self::OpenRequest,
        Self::OpenReply,
        Self::CloseRequest,
        Self::CloseReply,
        Self::CommitRequest,
        Self::CommitReply,
        Self::DiscardRequest,
        Self::DiscardReply,
    ];
}

/// `OFPT_BUNDLE_CONTROL`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BundleControl {
    /// The bundle, a number of the controller's choice.
    pub bundle: u32,
    /// What to do, or what was done.
    pub step: BundleStep,
    /// The same flags in every message of the bundle.
    pub flags: BundleFlags,
}

impl BundleControl {
    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u32(self.bundle);
        let code = BundleStep::ALL.iter().position(|step| *step == self.step);
        out.put_u16(code.and_then(|code| u16::try_from(code).ok()).expect("every step is in ALL"));
        out.put_u16(self.flags.code());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bundle = reader.u32()?;
        let code = reader.u16()?;
        let bad = DecodeError::BadValue { what: "bundle control type", value: u64::from(code) };
        let step = *BundleStep::ALL.get(usize::from(code)).ok_or(bad)?;
        Ok(BundleControl { bundle, step, flags: BundleFlags::of(reader.u16()?) })
    }
}

/// `OFPT_BUNDLE_ADD_MESSAGE`.
#[derive(Clone, PartialEq, Debug)]
pub struct BundleAdd {
    /// The bundle.
    pub bundle: u32,
    /// The flags that it was opened with.
    pub flags: BundleFlags,
    /// The message; it gets the xid of the message around it, as the specification demands.
    pub message: Box<Message>,
}

impl BundleAdd {
    pub(super) fn encode(&self, xid: Xid, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(self.bundle);
        out.put_u16(0);
        out.put_u16(self.flags.code());
        self.message.encode(xid, out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, DecodeError> {
        let bundle = reader.u32()?;
        reader.u16()?;
        let flags = BundleFlags::of(reader.u16()?);
        let inner = body.slice(8..);
        // A bundle in a bundle is no message at all, and must not nest the decoder.
        if super::Header::peek(&inner).is_some_and(|header| header.kind == super::kind::BUNDLE_ADD_MESSAGE) {
            return Err(DecodeError::BadValue { what: "message in a bundle", value: 34 });
        }
        let (_, message) = Message::decode(&inner)?;
        Ok(BundleAdd { bundle, flags, message: Box::new(message) })
    }
}
