#![forbid(unsafe_code)]
//! What the tests against real systems share.

mod firewall;

pub use firewall::{BRIDGE, Firewall, FirewallError, Sighting};
