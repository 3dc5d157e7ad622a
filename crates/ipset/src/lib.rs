//! The kernel's sets of addresses, as ipset(8) makes them, over netlink: no library of C, no program.
//!
//! Sets are of type `hash:net`, which holds addresses and prefixes of one family. The wire is that of the kernel's
//! `include/uapi/linux/netfilter/ipset/ip_set.h`, protocol 6, which every kernel since 2.6.39 speaks (`net/netfilter/ipset/ip_set_core.c`:
//! `protocol_min_failed`).
//!
//! What a user of such sets has to know:
//!
//! - a set holds no more than its `maxelem` elements, 65,536 unless it is said otherwise, and that cannot be changed: a larger set is
//!   made beside it and [`Ipset::swap`]ped;
//! - `0.0.0.0/0` and `::/0` are no elements of `hash:net`; their halves are;
//! - a set that a rule refers to cannot be destroyed, but swapped and flushed.
#![forbid(unsafe_code)]

mod error;
mod kernel;
mod set;
mod wire;

pub use error::Error;
pub use kernel::Ipset;
pub use set::{Entry, Family, Header, Net, NetError, Set, SetName, SetNameError, Spec};
