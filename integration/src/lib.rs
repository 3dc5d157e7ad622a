#![forbid(unsafe_code)]
//! What the tests against real systems share.

mod firewall;
mod hybrid_drivers;
mod hybrid_firewall;
mod hybrid_page;
mod in_force;
mod page;
mod page_firewall;
mod parts;
mod wire;

pub use firewall::{BRIDGE, Firewall};
pub use hybrid_drivers::{IptablesLegacy, IptablesNft, NftablesAlone};
pub use hybrid_firewall::{DriverError, HybridDriver, HybridFirewall, HybridSetup, Open, Switch};
pub use hybrid_page::{
    ABOUT_OPEN_VSWITCH, Difference, PageError, differences_on_hybrid, expected_on_hybrid, holds_on_hybrid,
};
pub use in_force::NotInForce;
pub use page::{as_delivered, datagrams, shown};
pub use page_firewall::{FirewallError, PageFirewall, Sighting};
pub use parts::joined_parts;
pub use wire::flows_rewritten_otherwise;
