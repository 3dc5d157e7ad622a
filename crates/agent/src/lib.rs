//! The engine (pure) and the shell around it: sources, drivers, connections to switch and database.
//!
//! - [`engine`]: what is to be done, given what happened. No clock, socket or file.
//! - [`host`]: the host as its database tells it: bridge, plugs, conntrack zones. Pure too.
//! - [`source`]: where the policy comes from.
//! - [`driver`]: what enforces it: connections, and the engine between them.
//! - [`metrics`]: what is counted, for Prometheus; [`http`]: how an address is served that is reached over TCP.
//! - [`mirror`]: members of remotes as the kernel's sets, beside a driver.
//! - [`observe`]: what is dropped and what is logged, beside a driver.
//! - [`daemon`] and [`apply`]: source and driver put together, for good or for once.
//! - [`api`]: the socket at which the commands of this host ask the daemon.
//! - [`audit`]: what a switch holds, proved against the policy.
//! - [`fleet`]: many hosts of the shared store in one process, for benchmarks and tests.
//! - [`publisher`]: what Neutron says, written to the shared store.
//! - [`config`]: the settings; [`bindings`] and [`render`]: the same without a switch.
#![forbid(unsafe_code)]

pub mod api;
pub mod apply;
pub mod audit;
pub mod bindings;
pub mod config;
pub mod daemon;
pub mod driver;
pub mod engine;
pub mod fleet;
pub mod host;
pub mod http;
pub mod metrics;
pub mod mirror;
pub mod observe;
pub mod publisher;
pub mod render;
mod service;
pub mod source;
pub mod unixctl;
