//! A replica kept alive over reconnects.

mod config;
mod event;
#[cfg(feature = "tokio")]
mod task;

pub use config::{BackoffRange, SessionConfig, TlsConfig};
pub use event::SessionEvent;
#[cfg(feature = "tokio")]
pub use task::{SessionEvents, SessionHandle, SetConditionsError, spawn};
