//! Where the policy comes from.

mod documents;
mod driver_calls;
mod feed;
mod file;
mod freshness;
mod neutron_rpc;
mod store;

pub use documents::{Documents, DocumentsError};
pub(crate) use driver_calls::DriverCalls;
pub use feed::{Feed, Update, updates};
pub use file::{Reading, watch};
pub(crate) use freshness::{Freshness, unix};
pub use neutron_rpc::{Broker, Host, RpcOptions, RpcUpdate, Tls, TransportUrl, UrlError, follow};
pub use store::{Happened, Store, StoreSetup};
