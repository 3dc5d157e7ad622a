//! Conjunctions of Neutron's own driver.
//!
//! A rule with a remote group is a conjunction there. Of each (security group, remote, direction, ethertype) the driver has
//! eight ids in a row, the first a multiple of eight: two for each of four priorities, the even one for packets of known
//! connections, the odd one for new ones (neutron/agent/linux/openvswitch_firewall, 29.0: firewall.py `ConjIdMap`, rules.py
//! `flow_priority_offset`, `substitute_conjunction_actions`). Clause 1 is an address on a network, clause 2 the rest of the
//! rule at a port. The flows do not say which groups they are; their members do, to whoever has the policy.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy::{AddressGroupId, Direction, Ethertype, Member, Policy, Remote};
use rust_openflow::{Field, Flow};

use super::{RemoteName, direction_of};
use crate::decode::look::{clauses, number, small};
use crate::decode::words::{self, Wanted};

/// Ids of one (security group, remote, direction, ethertype).
const BLOCK: u32 = 8;

/// What the flows tell of one (security group, remote, direction, ethertype).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conjunction {
    /// Whether its rules are for what ports receive, or send.
    pub direction: Option<Direction>,
    /// Of which family its packets are.
    pub ethertype: Option<Ethertype>,
    /// Addresses of the remote.
    pub members: BTreeSet<IpNet>,
    /// Local ports that have the rules.
    pub ports: BTreeSet<u16>,
    /// What the rules are about.
    pub services: BTreeSet<String>,
    /// The remote group, where a policy tells it.
    pub remote: Option<RemoteName>,
}

impl Conjunction {
    /// The first of the ids that one of them belongs to.
    #[must_use]
    pub fn base(id: u32) -> u32 {
        id - id % BLOCK
    }

    /// Finds the group whose members these are, if there is only one of which a rule could be.
    pub(super) fn recognise(&mut self, policy: &Policy) {
        let mut candidates = BTreeSet::new();
        for rule in policy.groups.values().flat_map(|group| &group.rules) {
            if Some(rule.direction) != self.direction || Some(rule.ethertype) != self.ethertype {
                continue;
            }
            let remote = match &rule.remote {
                Remote::Group(group) => RemoteName { is_address_group: false, group: group.to_string() },
                Remote::AddressGroup(group) => {
                    RemoteName { is_address_group: true, group: group.to_string() }
                }
                Remote::Any | Remote::Prefix(_) => continue,
            };
            if self.members == members(policy, &remote, rule.ethertype) {
                candidates.insert(remote);
            }
        }
        let is_one = candidates.len() == 1;
        self.remote = candidates.pop_first().filter(|_| is_one);
    }
}

fn members(policy: &Policy, remote: &RemoteName, ethertype: Ethertype) -> BTreeSet<IpNet> {
    let nets: BTreeSet<IpNet> = if remote.is_address_group {
        let group = policy.address_groups.get(&AddressGroupId::from(remote.group.as_str()));
        group.map(|group| group.addresses.clone()).unwrap_or_default()
    } else {
        let is_member = |port: &&std::sync::Arc<policy::Port>| {
            port.security_groups.iter().any(|group| group.as_str() == remote.group)
        };
        policy
            .ports
            .values()
            .filter(is_member)
            .flat_map(|port| Member::of(port))
            .map(|member| member.net)
            .collect()
    };
    nets.into_iter().map(|net| net.trunc()).filter(|net| Ethertype::of(net) == ethertype).collect()
}

/// What a flow tells of the conjunctions that it is of.
pub(super) fn learn(conjunctions: &mut BTreeMap<u32, Conjunction>, flow: &Flow) {
    let wanted = Wanted::of(&flow.matches);
    let port = small(&flow.matches, Field::Reg(5));
    let accepted = number(&flow.matches, Field::ConjId).map(|id| (id, 0));
    for (id, clause) in clauses(&flow.actions).into_iter().chain(accepted) {
        let conjunction = conjunctions.entry(Conjunction::base(id)).or_default();
        conjunction.direction = direction_of(flow.table);
        conjunction.ethertype = wanted.ethertype;
        conjunction.ports.extend(port);
        match clause {
            1 => {
                let fields = [Field::Ipv4Src, Field::Ipv4Dst, Field::Ipv6Src, Field::Ipv6Dst];
                let net = fields.iter().find_map(|field| words::net(&flow.matches, *field));
                // Of all addresses nothing is matched but the MAC that they are bound to.
                let all = wanted.ethertype.map(|ethertype| match ethertype {
                    Ethertype::Ipv4 => IpNet::V4(Ipv4Net::default()),
                    Ethertype::Ipv6 => IpNet::V6(Ipv6Net::default()),
                });
                conjunction.members.extend(net.or(all));
            }
            2 => _ = conjunction.services.insert(wanted.text()),
            _ => {}
        }
    }
}
