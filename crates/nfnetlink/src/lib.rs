//! Netfilter's netlink: what ipset, conntrack and nftables share.
//!
//! netlink(7); the kernel's `include/uapi/linux/netlink.h` and `include/uapi/linux/netfilter/nfnetlink.h`. A [`Request`] is a message
//! with its attributes, a [`Socket`] sends it, alone or with others of which all are done or none ([`Socket::transact`]), and waits
//! until the kernel has done it, and [`Messages`] and [`Attributes`] read what comes back. Nothing of this knows what the messages mean, but for
//! [`Log`], which reads packets that rules have sent to the kernel's log.
#![forbid(unsafe_code)]

mod attribute;
mod batch;
mod log;
mod message;
mod socket;

pub use attribute::{Attribute, Attributes};
pub use log::{Log, LogEnd, Logged};
pub use message::{Malformed, Message, Messages, Request, Subsystem};
pub use socket::{Error, Refusal, Socket, sent};
