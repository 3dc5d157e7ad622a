//! The kernel's tracked connections, over netlink: no library of C, no program.
//!
//! The wire is that of the kernel's `include/uapi/linux/netfilter/nfnetlink_conntrack.h`. What of it the kernel does otherwise than
//! one may expect:
//!
//! - to delete without naming a connection deletes all of them: here only a [`Connection`] that was read can be deleted;
//! - a dump takes no heed of a zone before Linux 6.8, and of addresses only in part: what is asked for is picked out here;
//! - a TCP connection whose entry is deleted is picked up again by its next segment, as a new one in the middle, unless
//!   `net.netfilter.nf_conntrack_tcp_loose` is 0: to delete cuts nothing that would be let through as new.
#![forbid(unsafe_code)]

mod connection;
mod kernel;
mod wire;

pub use connection::{Connection, Ends, Status, Tuple};
pub use kernel::{Conntrack, Error, Event, Events};
