//! What people are shown of a firewall: its ports and groups, as they are to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::{AddressGroup, AddressGroupId, Ethertype, GroupId, Policy, Port, PortId, SecurityGroup};

use crate::dialect::Dialect;
use crate::firewall::{FAMILIES, Firewall, Plug, RefusedRule};
use crate::sets::Remote;

impl<D: Dialect> Firewall<D> {
    /// A port of the policy, wherever it is.
    pub fn port(&self, id: &PortId) -> Option<&Arc<Port>> {
        self.sets.port(id)
    }

    /// All that it is to enforce. Its objects are shared.
    pub fn policy(&self) -> Policy {
        Policy {
            groups: self.groups().clone(),
            address_groups: self.address_groups().clone(),
            ports: self.sets.ports().clone(),
        }
    }

    /// How a port is plugged in here.
    pub fn plug_of(&self, id: &PortId) -> Option<&Plug> {
        self.plugs.get(id)
    }

    /// The security groups of the policy.
    pub fn groups(&self) -> &BTreeMap<GroupId, Arc<SecurityGroup>> {
        self.sets.groups()
    }

    /// The address groups of the policy.
    pub fn address_groups(&self) -> &BTreeMap<AddressGroupId, Arc<AddressGroup>> {
        self.sets.address_groups()
    }

    /// The local ports that are filtered by a group.
    pub fn carriers(&self, group: &GroupId) -> impl Iterator<Item = &PortId> {
        self.groups.get(group).into_iter().flat_map(|carried| &carried.ports)
    }

    /// The groups of local ports whose rules name a remote.
    pub fn named_by(&self, remote: &Remote) -> impl Iterator<Item = &GroupId> {
        self.naming.get(remote).into_iter().flatten()
    }

    /// The names of the sets that hold a remote's members, of IPv4 and of IPv6, where rules of local ports name it.
    pub fn sets_of(&self, remote: &Remote) -> impl Iterator<Item = &str> {
        FAMILIES.into_iter().filter_map(|ethertype| self.sets.set_of(remote, ethertype))
    }

    /// A remote's distinct members, of IPv4 and of IPv6. Costs those that count only with their MAC.
    pub fn member_counts(&self, remote: &Remote) -> [usize; 2] {
        let mut counts = self.sets.member_counts(remote);
        if let Remote::Group(group) = remote {
            for (net, _) in self.bound.get(group).into_iter().flat_map(BTreeMap::keys) {
                counts[usize::from(Ethertype::of(net) == Ethertype::Ipv6)] += 1;
            }
        }
        counts
    }

    /// Rules of a group that admit nothing because they cannot be said.
    pub fn refused_of(&self, group: &GroupId) -> impl Iterator<Item = RefusedRule> {
        let rules = self.refused.get(group).into_iter().flatten();
        rules.map(|(rule, reason)| RefusedRule { group: group.clone(), rule: rule.clone(), reason })
    }
}
