//! Who is a member of a remote.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use policy::{MacAddr, Port};

/// The prefixes of a remote's members, and how many bring each.
#[derive(Debug, Default)]
pub(crate) struct Members {
    nets: BTreeMap<IpNet, u32>,
    /// How many prefixes have a length, IPv4's and IPv6's.
    lengths: [BTreeMap<u8, u32>; 2],
}

impl Members {
    /// One more brings this prefix; whether it is the first.
    pub(crate) fn add(&mut self, net: IpNet) -> bool {
        let count = self.nets.entry(net).or_default();
        *count += 1;
        let is_first = *count == 1;
        if is_first {
            *self.lengths_of(net).entry(net.prefix_len()).or_default() += 1;
        }
        is_first
    }

    /// One of those that brought this prefix does not any more; whether it was the last.
    pub(crate) fn remove(&mut self, net: IpNet) -> bool {
        let count = self.nets.get_mut(&net).expect("only what was brought is taken away");
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.nets.remove(&net);
        let lengths = self.lengths_of(net);
        let length = lengths.get_mut(&net.prefix_len()).expect("it was counted when it came");
        *length -= 1;
        if *length == 0 {
            lengths.remove(&net.prefix_len());
        }
        true
    }

    /// How many there are of IPv4 and of IPv6. Costs the lengths that occur.
    pub(crate) fn counts(&self) -> [usize; 2] {
        self.lengths.each_ref().map(|lengths| lengths.values().map(|count| *count as usize).sum())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    pub(crate) fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.nets.keys().copied()
    }

    /// Whether an address is a member's: one search for each length of prefix that occurs.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.lengths[usize::from(ip.is_ipv6())].keys().any(|length| {
            // The length was taken from a prefix of the same family.
            IpNet::new(ip, *length).is_ok_and(|net| self.nets.contains_key(&net.trunc()))
        })
    }

    fn lengths_of(&mut self, net: IpNet) -> &mut BTreeMap<u8, u32> {
        &mut self.lengths[usize::from(net.addr().is_ipv6())]
    }
}

/// "A member whose prefix is shorter than /8 (IPv4) or /16 (IPv6) … counts only for frames whose remote MAC … is that member's MAC"
/// (semantics, "members of a security group"). A set of addresses cannot say that, and would open the group to the world.
fn is_bound(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() < 8,
        IpNet::V6(net) => net.prefix_len() < 16,
    }
}

/// The members that a port brings to its groups, by address alone.
pub(crate) fn free_members(port: &Port) -> BTreeSet<IpNet> {
    let own = port.fixed_ips.iter().map(|ip| IpNet::from(*ip));
    own.chain(port.allowed_address_pairs.iter().map(|pair| pair.ip).filter(|net| !is_bound(net))).collect()
}

/// Those that count only with their MAC.
pub(crate) fn bound_members(port: &Port) -> BTreeSet<(IpNet, MacAddr)> {
    let pairs = port.allowed_address_pairs.iter().filter(|pair| is_bound(&pair.ip));
    pairs.map(|pair| (pair.ip, pair.mac.unwrap_or(port.mac))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_members_as_long_as_one_brings_it() {
        let mut members = Members::default();
        let (net, one): (IpNet, IpNet) = ("10.0.0.0/24".parse().unwrap(), "10.0.0.7/32".parse().unwrap());
        assert!(members.add(net) && members.add(one) && !members.add(one));
        assert!(
            members.contains("10.0.0.9".parse().unwrap()) && !members.contains("10.0.1.9".parse().unwrap())
        );
        assert!(!members.contains("fd00::1".parse().unwrap()));
        assert!(members.remove(net));
        assert!(
            !members.contains("10.0.0.9".parse().unwrap()) && members.contains("10.0.0.7".parse().unwrap())
        );
        assert!(!members.remove(one) && members.remove(one) && members.is_empty());
        assert!(!members.contains("10.0.0.7".parse().unwrap()));
    }
}
