//! A replica kept alive over reconnects.
//!
//! [`Core`] is the state machine; the feature `tokio` adds the task that drives it.

mod assumed;
mod config;
mod core;
mod event;
mod member;
#[cfg(feature = "tokio")]
mod queue;
#[cfg(feature = "tokio")]
mod task;

pub use self::core::{Core, Effect, SetConditionsError, Token, Traffic};
pub use config::{ServerPolicy, SessionConfig};
pub use event::SessionEvent;
#[cfg(feature = "tokio")]
pub use task::{SessionEvents, SessionHandle, spawn};
