//! What hosts filter by that run the hybrid bridge: policy and local ports in, contents of sets out.
//!
//! A rule with a remote is one rule in the kernel and one set of addresses, however many members the remote has: [`Sets`] says
//! which sets there are to be and what is in them, change by change.
#![forbid(unsafe_code)]

mod cover;
mod name;
mod sets;

pub use name::set_name;
pub use sets::{Remote, SetOp, Sets};
