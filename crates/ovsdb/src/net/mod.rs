//! Sockets, on tokio.

mod open;
mod pump;
mod tls;

pub use open::ConnectError;
pub(crate) use open::{Io, open};
pub(crate) use pump::Pump;
pub(crate) use tls::{server_config, why};
