//! Neutron's words.
//!
//! - [`driver`]: what neutron-openvswitch-agent tells its firewall driver, as a change of the policy.
//! - [`rpc`]: what neutron-server tells and answers over the message queue, for the whole cloud, as changes of the policy.
//!
//! Pure: what comes in are values, what goes out is a [`policy::PolicyDelta`] and what was refused.
#![forbid(unsafe_code)]

pub mod driver;
mod edit;
mod refused;
pub mod rpc;

pub use refused::Refused;
