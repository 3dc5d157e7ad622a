//! Addresses of ports: the (MAC, IP) pairs a port may send from, and the members that rules match.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use policy::{Ethertype, MacAddr, Port};
use rust_openflow::{Field, Match};

/// An address a remote holds; with a MAC when its prefix is so short that it would open the group to the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Member {
    pub(crate) net: IpNet,
    pub(crate) mac: Option<MacAddr>,
}

impl Member {
    pub(crate) fn ethertype(&self) -> Ethertype {
        Ethertype::of(&self.net)
    }
}

/// A (MAC, IP prefix) that a port may use as its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pair {
    pub(crate) mac: MacAddr,
    pub(crate) net: IpNet,
}

/// Members of the port's groups that the port brings along (semantics, "members of a security group").
pub(crate) fn members(port: &Port) -> BTreeSet<Member> {
    let own = port.fixed_ips.iter().map(|ip| Member { net: host(*ip), mac: None });
    let allowed = port.allowed_address_pairs.iter().map(|pair| {
        let world = match pair.ip {
            IpNet::V4(net) => net.prefix_len() < 8,
            IpNet::V6(net) => net.prefix_len() < 16,
        };
        Member { net: pair.ip, mac: world.then(|| pair.mac.unwrap_or(port.mac)) }
    });
    own.chain(allowed).collect()
}

/// The pairs of a port (semantics, "A frame that a filtered port sends").
pub(crate) fn pairs(port: &Port) -> BTreeSet<Pair> {
    let own = port.fixed_ips.iter().map(|ip| Pair { mac: port.mac, net: host(*ip) });
    let allowed = port
        .allowed_address_pairs
        .iter()
        .map(|pair| Pair { mac: pair.mac.unwrap_or(port.mac), net: pair.ip });
    let link_local =
        macs(port).into_iter().map(|mac| Pair { mac, net: host(IpAddr::V6(eui64_link_local(mac))) });
    own.chain(allowed).chain(link_local).collect()
}

/// The MACs of a port: its own and every pair's.
pub(crate) fn macs(port: &Port) -> BTreeSet<MacAddr> {
    let allowed = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
    std::iter::once(port.mac).chain(allowed).collect()
}

/// fe80::/64 with the modified EUI-64 interface identifier of the MAC (RFC 4291, appendix A).
fn eui64_link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let identifier = u64::from_be_bytes([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(identifier))
}

pub(crate) fn host(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}

/// Matches the prefix in the field of its family.
pub(crate) fn with_net(matches: Match, net: &IpNet, v4: Field, v6: Field) -> Match {
    match net {
        IpNet::V4(net) => matches.with_mask(v4, net.network().to_bits(), net.netmask().to_bits()),
        IpNet::V6(net) => matches.with_mask(v6, net.network().to_bits(), net.netmask().to_bits()),
    }
}

/// Matches an exact MAC.
pub(crate) fn with_mac(matches: Match, field: Field, mac: MacAddr) -> Match {
    matches.with(field, mac.to_u64())
}

/// Matches a group-addressed destination: the I/G bit (IEEE 802, clause 8.2).
pub(crate) fn group_addressed(matches: Match) -> Match {
    const GROUP_BIT: u64 = 1 << 40;
    matches.with_mask(Field::EthDst, GROUP_BIT, GROUP_BIT)
}
