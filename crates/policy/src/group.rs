//! Groups: of rules, and of addresses.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::{AddressGroupId, GroupId, Rule};

/// A security group: the rules for the ports that carry it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecurityGroup {
    /// Unique among security groups.
    pub id: GroupId,
    /// For people only; empty when the document gives none.
    pub name: String,
    /// Whether the group's rules track connections (the default).
    pub stateful: bool,
    /// Sorted by id.
    pub rules: Vec<Rule>,
}

/// A named set of addresses that rules refer to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressGroup {
    /// Unique among address groups.
    pub id: AddressGroupId,
    /// For people only; empty when the document gives none.
    pub name: String,
    /// Of both families; a rule uses those of its ethertype. Host bits are zero.
    pub addresses: BTreeSet<IpNet>,
}
