//! What hosts filter by that run the hybrid bridge: policy and local ports in; out come sets of addresses, chains of iptables, and the
//! elements of a table of the bridge family.
//!
//! A rule with a remote is one rule in the kernel and one set of addresses, however many members the remote has ([`Sets`]). A rule of a
//! group is one rule, however many local ports the group has; a port is a few jumps and elements ([`Firewall`]). Everything is said
//! change by change.
#![forbid(unsafe_code)]

mod admission;
pub mod bridge;
mod cover;
mod device;
mod firewall;
pub mod iptables;
pub mod mark;
mod members;
mod name;
mod sets;

pub use admission::{Detail, FirstPacket};
pub use device::Devices;
pub use firewall::{Changes, Firewall, Plug, RefusedRule};
pub use name::{digest, set_name};
pub use sets::{Remote, SetOp, Sets};
