//! Monitors: following tables.

mod table;

pub use table::MonitorTable;
