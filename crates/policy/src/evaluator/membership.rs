//! Who is a member of a group, and whose pairs a port has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{AddressGroupId, Ethertype, GroupId, MacAddr, Policy, Port};

/// The members of every group of a policy, for look-up by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Membership {
    groups: BTreeMap<GroupId, Members>,
    address_groups: BTreeMap<AddressGroupId, PrefixSet>,
}

/// The members of one security group.
#[derive(Clone, Debug, Default)]
struct Members {
    anywhere: PrefixSet,
    /// Prefixes too short to count without the member's MAC.
    with_mac: BTreeMap<MacAddr, Vec<IpNet>>,
}

/// How near somebody is to the members of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// One of them.
    Within,
    /// In a member that counts with another MAC only.
    WithAnotherMac,
    /// None of them.
    Outside,
}

impl Membership {
    /// "members of a security group = for every port with that group, on any host: its fixed IPs and the
    /// `ip_address` of its allowed address pairs; trusted ports and ports of other networks count too" (semantics,
    /// "Objects").
    pub(super) fn new(policy: &Policy) -> Self {
        let mut membership = Self::default();
        for port in policy.ports.values() {
            for group in &port.security_groups {
                let members = membership.groups.entry(group.clone()).or_default();
                for ip in &port.fixed_ips {
                    members.add(IpNet::from(*ip), port.mac);
                }
                for pair in &port.allowed_address_pairs {
                    members.add(pair.ip, pair.mac.unwrap_or(port.mac));
                }
            }
        }
        for (id, group) in &policy.address_groups {
            membership.address_groups.insert(id.clone(), group.addresses.iter().copied().collect());
        }
        membership
    }

    /// Whether a remote end is a member of the security group.
    pub(super) fn in_group(&self, group: &GroupId, ip: IpAddr, mac: MacAddr) -> bool {
        let Some(members) = self.groups.get(group) else { return false };
        members.anywhere.contains(ip)
            || members
                .with_mac
                .get(&mac)
                .is_some_and(|prefixes| prefixes.iter().any(|prefix| prefix.contains(&ip)))
    }

    /// How near a remote end is to the members of the security group.
    pub(super) fn reach(&self, group: &GroupId, ip: IpAddr, mac: MacAddr) -> Reach {
        let is_wide =
            |members: &Members| members.with_mac.values().flatten().any(|prefix| prefix.contains(&ip));
        match self.in_group(group, ip, mac) {
            true => Reach::Within,
            false if self.groups.get(group).is_some_and(is_wide) => Reach::WithAnotherMac,
            false => Reach::Outside,
        }
    }

    /// Whether the security group has a member of the family.
    pub(super) fn has_member(&self, group: &GroupId, ethertype: Ethertype) -> bool {
        let is_of = |prefix: &IpNet| Ethertype::of(prefix) == ethertype;
        self.groups.get(group).is_some_and(|members| {
            let lengths = match ethertype {
                Ethertype::Ipv4 => &members.anywhere.lengths_v4,
                Ethertype::Ipv6 => &members.anywhere.lengths_v6,
            };
            !lengths.is_empty() || members.with_mac.values().flatten().any(is_of)
        })
    }

    /// Whether an address is in the address group.
    pub(super) fn in_address_group(&self, group: &AddressGroupId, ip: IpAddr) -> bool {
        self.address_groups.get(group).is_some_and(|addresses| addresses.contains(ip))
    }
}

impl Members {
    /// "A member whose prefix is shorter than /8 (IPv4) or /16 (IPv6) never opens the group to the world: it counts
    /// only for frames whose remote MAC … is that member's MAC".
    fn add(&mut self, prefix: IpNet, mac: MacAddr) {
        let shortest = if prefix.addr().is_ipv4() { 8 } else { 16 };
        match prefix.prefix_len() < shortest {
            true => self.with_mac.entry(mac).or_default().push(prefix),
            false => self.anywhere.add(prefix),
        }
    }
}

/// Prefixes of both families. A look-up costs one search for every prefix length that occurs, however many
/// prefixes there are.
#[derive(Clone, Debug, Default)]
struct PrefixSet {
    prefixes: BTreeSet<IpNet>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl PrefixSet {
    fn add(&mut self, prefix: IpNet) {
        let lengths = if prefix.addr().is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
        lengths.insert(prefix.prefix_len());
        self.prefixes.insert(prefix.trunc());
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let lengths = if ip.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().any(|length| {
            // The length was taken from a prefix of the same family.
            IpNet::new(ip, *length).is_ok_and(|prefix| self.prefixes.contains(&prefix.trunc()))
        })
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let mut set = Self::default();
        prefixes.into_iter().for_each(|prefix| set.add(prefix));
        set
    }
}

/// Whether the MAC is one of the port's: "A port's MACs are mac_address and every pair's MAC" (semantics,
/// "egress").
pub(super) fn has_mac(port: &Port, mac: MacAddr) -> bool {
    port.mac == mac || port.allowed_address_pairs.iter().any(|pair| pair.mac == Some(mac))
}

/// Whether (MAC, IP) lies in a pair of the port: "(mac_address, each fixed IP), each allowed address pair, and for
/// IPv6 also each MAC's EUI-64 link-local address" (semantics, "egress").
pub(super) fn has_pair(port: &Port, mac: MacAddr, ip: IpAddr) -> bool {
    let fixed = mac == port.mac && port.fixed_ips.contains(&ip);
    let allowed = || {
        let mut pairs = port.allowed_address_pairs.iter();
        pairs.any(|pair| pair.mac.unwrap_or(port.mac) == mac && pair.ip.contains(&ip))
    };
    let link_local = || has_mac(port, mac) && ip == IpAddr::V6(mac.link_local());
    fixed || allowed() || link_local()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few bits vary, so that prefixes overlap and addresses hit.
        let v4 = (0u32..16, 26u8..=32).prop_map(|(low, length)| {
            IpNet::new(IpAddr::from((0x0a00_0000 | low << 1).to_be_bytes()), length).unwrap()
        });
        let v6 = (0u128..16, 120u8..=128).prop_map(|(low, length)| {
            IpNet::new(IpAddr::from((0xfd << 120 | low << 2).to_be_bytes()), length).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn a_prefix_set_holds_what_one_of_its_prefixes_holds(
            prefixes in proptest::collection::vec(prefix(), 0..6),
            probe in prefix(),
        ) {
            let set: PrefixSet = prefixes.iter().copied().collect();
            let ip = probe.addr();
            prop_assert_eq!(set.contains(ip), prefixes.iter().any(|prefix| prefix.contains(&ip)));
        }
    }
}
