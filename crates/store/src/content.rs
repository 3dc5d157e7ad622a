//! A policy as rows.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{Row, RowError};
use policy::rule_text;
use policy::{AddressGroup, AddressGroupId, GroupId, Member, PolicyDelta, Port, PortId, SecurityGroup};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::member_text::{Family, write_member, write_net, write_pair};
use crate::sight::GroupHead;

/// The network of a port, to a host.
const UNTOLD: &str = "?";

/// A row of table Port.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortRow {
    /// Where it is bound: during a live migration in two places.
    pub hosts: BTreeSet<String>,
    /// Of the port.
    pub network_id: String,
    /// Of the port.
    pub mac_address: String,
    /// Addresses.
    pub fixed_ips: BTreeSet<String>,
    /// `ADDRESS` or `ADDRESS MAC`.
    pub allowed_address_pairs: BTreeSet<String>,
    /// Ids.
    pub security_groups: BTreeSet<String>,
    /// Whether it is filtered.
    pub port_security_enabled: bool,
    /// Who made it.
    pub device_owner: String,
}

impl PortRow {
    /// The row of a port that is bound to `hosts`.
    pub fn of(port: &Port, hosts: BTreeSet<String>) -> Self {
        PortRow {
            hosts,
            network_id: port.network_id.to_string(),
            mac_address: port.mac.to_string(),
            fixed_ips: port.fixed_ips.iter().map(ToString::to_string).collect(),
            allowed_address_pairs: port.allowed_address_pairs.iter().map(write_pair).collect(),
            security_groups: port.security_groups.iter().map(ToString::to_string).collect(),
            port_security_enabled: port.port_security_enabled,
            device_owner: port.device_owner.clone(),
        }
    }

    /// A host is not told where its ports are bound, and of which network they are: the switch knows by their VLAN, and each host is told less.
    pub(crate) fn read(row: &Row) -> Result<Self, RowError> {
        let strings = |column| -> Result<BTreeSet<String>, RowError> {
            Ok(row.strings(column)?.into_iter().map(str::to_owned).collect())
        };
        let has = |column| row.columns().contains_key(column);
        Ok(PortRow {
            hosts: if has("hosts") { strings("hosts")? } else { BTreeSet::new() },
            network_id: if has("network_id") {
                row.string("network_id")?.to_owned()
            } else {
                UNTOLD.to_owned()
            },
            mac_address: row.string("mac_address")?.to_owned(),
            fixed_ips: strings("fixed_ips")?,
            allowed_address_pairs: strings("allowed_address_pairs")?,
            security_groups: strings("security_groups")?,
            port_security_enabled: row.optional_boolean("port_security_enabled")?.unwrap_or(true),
            device_owner: row.string("device_owner")?.to_owned(),
        })
    }

    /// As a document has it, where it is looked whether it is a port.
    pub(crate) fn document(&self, id: &PortId) -> Value {
        let fixed_ip = |ip: &String| json!({"ip_address": ip});
        let pair = |text: &String| match text.split_once(' ') {
            Some((ip, mac)) => json!({"ip_address": ip, "mac_address": mac}),
            None => json!({"ip_address": text}),
        };
        let mut object = json!({
            "id": id.as_str(), "network_id": self.network_id, "mac_address": self.mac_address,
            "fixed_ips": self.fixed_ips.iter().map(fixed_ip).collect::<Value>(),
            "allowed_address_pairs": self.allowed_address_pairs.iter().map(pair).collect::<Value>(),
            "security_groups": self.security_groups.iter().map(String::as_str).collect::<Value>(),
            "port_security_enabled": self.port_security_enabled, "device_owner": self.device_owner,
        });
        if let Some(host) = self.hosts.first() {
            object["binding:host_id"] = Value::from(host.as_str());
        }
        object
    }
}

/// A member as an element of one of the two columns.
pub(crate) type MemberText = (Family, String);

/// A security group: what it says, and who is its member how many times.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupRow {
    /// None of a group that nobody defines.
    pub(crate) head: Option<GroupHead>,
    /// Two ports may have one address: it goes with the last.
    pub(crate) members: BTreeMap<MemberText, u32>,
}

/// The rows that a policy comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Content {
    pub(crate) groups: BTreeMap<GroupId, GroupRow>,
    pub(crate) address_groups: BTreeMap<AddressGroupId, (String, BTreeSet<String>)>,
    pub(crate) ports: BTreeMap<PortId, PortRow>,
    /// Of each port, the groups and addresses that it brings to them.
    memberships: BTreeMap<PortId, (BTreeSet<GroupId>, BTreeSet<Member>)>,
}

/// What a change of the policy changes of the rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) heads: BTreeSet<GroupId>,
    pub(crate) members: BTreeSet<(GroupId, MemberText)>,
    /// Groups whose members stand in other rows.
    pub(crate) moved: BTreeSet<GroupId>,
    pub(crate) address_groups: BTreeSet<AddressGroupId>,
    pub(crate) ports: BTreeSet<PortId>,
}

impl Content {
    /// Takes in a change of the policy. Costs what the change costs.
    pub(crate) fn apply(
        &mut self,
        delta: &PolicyDelta,
        hosts: impl Fn(&Port) -> BTreeSet<String>,
    ) -> Touched {
        let mut touched = Touched::default();
        for (id, group) in &delta.groups {
            self.groups.entry(id.clone()).or_default().head = group.as_deref().map(head);
            self.forget_if_empty(id);
            touched.heads.insert(id.clone());
        }
        for (id, group) in &delta.address_groups {
            match group {
                Some(group) => _ = self.address_groups.insert(id.clone(), addresses(group)),
                None => _ = self.address_groups.remove(id),
            }
            touched.address_groups.insert(id.clone());
        }
        for (id, port) in &delta.ports {
            match port {
                Some(port) => _ = self.ports.insert(id.clone(), PortRow::of(port, hosts(port))),
                None => _ = self.ports.remove(id),
            }
            touched.ports.insert(id.clone());
            let now = port.as_ref().map(|port| (port.security_groups.clone(), Member::of(port)));
            self.change_membership(id, now, &mut touched);
        }
        touched
    }

    fn change_membership(
        &mut self,
        id: &PortId,
        now: Option<(BTreeSet<GroupId>, BTreeSet<Member>)>,
        touched: &mut Touched,
    ) {
        let before = match now.clone() {
            Some(now) => self.memberships.insert(id.clone(), now),
            None => self.memberships.remove(id),
        };
        if before == now {
            return;
        }
        // First what comes: what stays never goes.
        for (group, member) in pairs(now.as_ref()) {
            let members = &mut self.groups.entry(group.clone()).or_default().members;
            *members.entry(member.clone()).or_default() += 1;
            touched.members.insert((group.clone(), member));
        }
        for (group, member) in pairs(before.as_ref()) {
            let members = &mut self.groups.entry(group.clone()).or_default().members;
            if let Some(count) = members.get_mut(&member) {
                *count -= 1;
                if *count == 0 {
                    members.remove(&member);
                }
            }
            touched.members.insert((group.clone(), member));
            self.forget_if_empty(group);
        }
    }

    fn forget_if_empty(&mut self, id: &GroupId) {
        if self.groups.get(id).is_some_and(|group| group.head.is_none() && group.members.is_empty()) {
            self.groups.remove(id);
        }
    }
}

fn pairs(of: Option<&(BTreeSet<GroupId>, BTreeSet<Member>)>) -> impl Iterator<Item = (&GroupId, MemberText)> {
    let text = |member: &Member| (Family::of(&member.net), write_member(member));
    of.into_iter().flat_map(move |(groups, members)| {
        groups.iter().flat_map(move |group| members.iter().map(move |member| (group, text(member))))
    })
}

fn head(group: &SecurityGroup) -> GroupHead {
    GroupHead {
        name: group.name.clone(),
        stateful: group.stateful,
        rules: group
            .rules
            .iter()
            .map(|rule| (rule.id.to_string(), rule_text::write(rule, &group.id)))
            .collect(),
    }
}

fn addresses(group: &AddressGroup) -> (String, BTreeSet<String>) {
    (group.name.clone(), group.addresses.iter().map(write_net).collect())
}
