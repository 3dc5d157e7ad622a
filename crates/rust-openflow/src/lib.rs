//! OpenFlow 1.4 with the Nicira extensions of Open vSwitch 3.1: what `ovs-vswitchd` says on the wire, and
//! what `ovs-ofctl` prints, as values.
//!
//! ```text
//!  Field ── Match ──┐
//!                   ├── Flow ── FlowMod ── Message ── Connection ── Client (feature `tokio`)
//!  Subfield ─ Action┘
//! ```
//!
//! Everything but `client` is sans-IO: bytes and the present time come in as arguments, bytes and events go
//! out. A field or an action that this crate does not know is kept as bytes and sent back unchanged.
//!
//! ```
//! use rust_openflow::Flow;
//!
//! let flow: Flow = "table=60,priority=95,ip,reg7=0x3,ct_state=+est+trk actions=resubmit(,71)".parse()?;
//! assert_eq!(flow.to_string(), "table=60, priority=95,ct_state=+est+trk,ip,reg7=0x3 actions=resubmit(,71)");
//! # Ok::<(), rust_openflow::ParseError>(())
//! ```
#![forbid(unsafe_code)]

mod action;
#[cfg(feature = "tokio")]
pub mod client;
mod codec;
pub mod connection;
mod error;
mod field;
mod flow;
mod flow_match;
pub mod message;
mod port;
mod text;
mod wire;

pub use action::{Action, Controller, Ct, CtZone, RawAction, Subfield};
pub use error::{DecodeError, EncodeError, FieldError, ParseError};
pub use field::{Field, Format, OxmHeader};
pub use flow::{Flow, FlowFlags, FlowKey, FlowOptions, FlowStats};
pub use flow_match::{
    CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_SNAT, CT_TRK, FRAG_ANY, FRAG_LATER, Match, RawOxm,
};
pub use message::{FlowEntry, FlowFilter, FlowMod, FlowModCommand, Message, OfError};
pub use port::PortNo;
