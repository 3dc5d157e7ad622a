//! The shared policy store: an OVSDB database of our own schema, from which each host takes what concerns it.
//!
//! ```text
//!  writer:   PolicyDelta ──► Content ──► Operations ──► ovsdb-server
//!  a host:   ovsdb-server ──► Sight (rows in words) ──► View ──► PolicyDelta
//!                 ▲                                       │
//!                 └──────────── Wants (conditions) ───────┘
//! ```
//!
//! A security group is one row: its rules, and its members' addresses as set columns, so that who follows the group gets a member that came
//! as one element. Members of a group that has many are in further rows: a change costs each session what the row costs. A host follows the ports that are bound to it, the groups that these carry, and the groups that the rules of those name.
//!
//! Pure: rows come in as values, changes and operations go out.
#![forbid(unsafe_code)]

mod content;
mod follower;
mod group_rows;
mod host_row;
mod member_text;
mod memory;
mod placement;
mod publication;
mod roles;
pub mod schema;
mod sight;
mod view;
mod wants;
mod write;
mod write_group;

#[cfg(test)]
mod tests;

pub use content::PortRow;
pub use follower::Follower;
pub use host_row::HostRow;
pub use memory::Memory;
pub use publication::Publication;
pub use roles::{HOST_ROLE, ask, prepare};
pub use sight::{GroupHead, Now, Seen, SetChange, Sight};
pub use view::{Fault, View};
pub use wants::Wants;
pub use write::{Batch, Held, Writer};
