#![forbid(unsafe_code)]
//! What the tests against real systems share.

mod firewall;
mod wire;

pub use firewall::{BRIDGE, Firewall, FirewallError, Sighting};
pub use wire::flows_rewritten_otherwise;
