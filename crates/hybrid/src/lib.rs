//! What hosts filter by that run the hybrid bridge: policy and local ports in; out come sets of addresses, chains of iptables or of
//! nftables, and the elements of the tables of nftables that depend on ports.
//!
//! A rule with a remote is one rule in the kernel and one set of addresses, however many members the remote has ([`Sets`]). A rule of a
//! group is one rule, however many local ports the group has; a port is a few jumps and elements ([`Firewall`]). Everything is said
//! change by change.
#![forbid(unsafe_code)]

mod admission;
pub mod admitted;
pub mod bridge;
mod cover;
mod device;
mod dialect;
pub mod drops;
mod firewall;
pub mod iptables;
mod look;
pub mod mark;
mod members;
mod name;
mod names;
pub mod nft;
pub mod samples;
mod sets;

pub use admission::{Admission, Detail, FirstPacket};
pub use device::Devices;
pub use dialect::{ChainOf, Dialect, GroupRules, PortChains, Said};
pub use firewall::{Changes, Firewall, Plug, RefusedRule};
pub use name::{digest, set_name};
pub use sets::{Remote, SetOp, Sets};
