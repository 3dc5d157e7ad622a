#![forbid(unsafe_code)]
//! What the firewall is asked to do, and what that means.
//!
//! - The model ([`Policy`] and what it holds): security groups, rules, address groups and ports with the field
//!   names and values of the OpenStack Networking API v2.0, validated. Whoever holds a [`Policy`] holds no
//!   malformed object.
//! - [`document`]: YAML and JSON in, a policy and every problem by file, line, object and field out.
//! - [`rule_text`]: a rule in words.
//! - [`evaluator`]: the semantics page as a pure function, with a model of connection tracking and of a host to try
//!   sequences of frames on.

pub mod document;
pub mod evaluator;
mod group;
mod ids;
mod mac;
mod member;
mod policy;
mod port;
mod rule;
pub mod rule_text;

pub use group::{AddressGroup, SecurityGroup};
pub use ids::{AddressGroupId, GroupId, NetworkId, PortId, RuleId};
pub use mac::{MacAddr, MacError};
pub use member::Member;
pub use policy::{Policy, PolicyDelta};
pub use port::{AddressPair, Port};
pub use rule::{Direction, Ethertype, PortProtocol, PortRange, Remote, Rule, Service};
