//! Monitors: following tables.

pub(crate) mod algebra;
mod followed;
mod method;
mod subscription;
mod table;

pub use method::MonitorMethod;
pub use subscription::{Call, MonitorError, Progress, Purpose, Subscription};
pub use table::MonitorTable;
