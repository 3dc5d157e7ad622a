//! Neutron's words.
//!
//! - [`driver`]: what neutron-openvswitch-agent tells its firewall driver, as a change of the policy.
//!
//! Pure: what comes in are values, what goes out is a [`policy::PolicyDelta`] and what was refused.
#![forbid(unsafe_code)]

pub mod driver;
