//! Security groups and address groups as this host has them.

use std::collections::BTreeMap;
use std::fmt;

use policy::{AddressGroup, SecurityGroup};
use serde::{Deserialize, Serialize};

/// The answer to `GET /v1/groups`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupPage {
    /// Security groups in the order of their ids, then address groups.
    pub groups: Vec<GroupEntry>,
    /// What `after` is to be to go on; null behind the last one.
    pub next: Option<String>,
}

/// Which kind of group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupKind {
    /// Of rules, whose members are the ports that carry it.
    SecurityGroup,
    /// Of addresses.
    AddressGroup,
}

impl GroupKind {
    /// As faults name an object of this kind, before its id.
    pub fn words(self) -> &'static str {
        match self {
            GroupKind::SecurityGroup => "security group",
            GroupKind::AddressGroup => "address group",
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GroupKind::SecurityGroup => "security-group",
            GroupKind::AddressGroup => "address-group",
        })
    }
}

/// A group of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// Its kind.
    pub kind: GroupKind,
    /// Its id.
    pub id: String,
    /// Its name; empty where the policy gives none.
    pub name: String,
    /// Whether its rules track connections; null of an address group.
    pub stateful: Option<bool>,
    /// How many rules it has.
    pub rules: usize,
    /// Its distinct members of IPv4; null while they are not counted, as the bridge has not been read.
    pub members_ipv4: Option<usize>,
    /// The same of IPv6.
    pub members_ipv6: Option<usize>,
    /// The ports of this host that are filtered by it.
    pub local_ports: Vec<String>,
    /// The number by which rules name it as their remote (`conj_id`), with `openvswitch`; null if none of a local port does.
    pub conjunction_id: Option<u32>,
    /// The sets of groups (`reg7`) whose rules name it as their remote, with `openvswitch`.
    pub remote_of_sets: Vec<u32>,
    /// The groups of local ports whose rules name it as their remote, with `iptables_hybrid` and `nftables`.
    pub remote_of_groups: Vec<String>,
    /// The kernel's sets that hold its members: ipsets, or sets of nftables.
    pub kernel_sets: Vec<SetFill>,
    /// What the policy's source says of it and is refused, and rules that the driver cannot enforce, by object, with the reason.
    pub refused: BTreeMap<String, String>,
}

/// How full a set of the kernel is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetFill {
    /// Its name.
    pub name: String,
    /// How many elements it is to hold.
    pub members: usize,
    /// How many it has room for (`maxelem`); null where there is no limit, or it is not known.
    pub max_members: Option<u32>,
}

impl SetFill {
    /// How full it is, in thousandths; 0 where there is no limit.
    pub fn permille(&self) -> u64 {
        let room = self.max_members.map_or(0, u64::from);
        (1000 * self.members as u64).checked_div(room).unwrap_or(0)
    }
}

impl GroupEntry {
    fn new(kind: GroupKind, id: &str, name: &str) -> Self {
        GroupEntry {
            kind,
            id: id.to_owned(),
            name: name.to_owned(),
            stateful: None,
            rules: 0,
            members_ipv4: None,
            members_ipv6: None,
            local_ports: Vec::new(),
            conjunction_id: None,
            remote_of_sets: Vec::new(),
            remote_of_groups: Vec::new(),
            kernel_sets: Vec::new(),
            refused: BTreeMap::new(),
        }
    }

    /// With what the policy says of a security group.
    pub fn of_security_group(group: &SecurityGroup) -> Self {
        GroupEntry {
            stateful: Some(group.stateful),
            rules: group.rules.len(),
            ..Self::new(GroupKind::SecurityGroup, group.id.as_str(), &group.name)
        }
    }

    /// With what the policy says of an address group.
    pub fn of_address_group(group: &AddressGroup) -> Self {
        Self::new(GroupKind::AddressGroup, group.id.as_str(), &group.name)
    }

    /// What `after` is to be to go on behind this group.
    pub fn cursor(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }

    /// Takes over of what a source refuses what concerns this group.
    pub fn take_refused(&mut self, refused: &BTreeMap<String, String>) {
        let object = format!("{} {}", self.kind.words(), self.id);
        let of_group = format!(" of {object}");
        let concerned = refused.iter().filter(|(of, _)| **of == object || of.ends_with(&of_group));
        self.refused.extend(concerned.map(|(of, reason)| (of.clone(), reason.clone())));
    }
}

/// Where a page of groups begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupCursor {
    /// At the first one.
    Begin,
    /// Behind this security group.
    SecurityGroup(String),
    /// Behind all security groups, and this address group.
    AddressGroup(String),
}

impl GroupCursor {
    /// Of `after` in a query; none if it is nothing that a page gave.
    pub fn of(after: Option<&str>) -> Option<Self> {
        let Some(after) = after else { return Some(GroupCursor::Begin) };
        match after.split_once('/')? {
            ("security-group", id) => Some(GroupCursor::SecurityGroup(id.to_owned())),
            ("address-group", id) => Some(GroupCursor::AddressGroup(id.to_owned())),
            _ => None,
        }
    }
}
