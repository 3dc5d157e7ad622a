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

/// The MACs of a port: its own, if that is known, and every pair's.
pub(crate) fn macs(port: &Port) -> BTreeSet<MacAddr> {
    let own = Some(port.mac).filter(|mac| *mac != MacAddr::UNKNOWN);
    let allowed = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
    own.into_iter().chain(allowed).collect()
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

#[cfg(test)]
mod tests {
    use policy::{PortId, document};

    use super::*;

    /// "A member whose prefix is shorter than /8 (IPv4) or /16 (IPv6) never opens the group to the world: it counts only for
    /// frames whose remote MAC … is that member's MAC" (semantics, "Objects").
    #[test]
    fn a_member_is_bound_to_its_mac_where_its_prefix_is_short() {
        for (net, is_bound) in [
            ("0.0.0.0/0", true),
            ("10.0.0.0/7", true),
            ("10.0.0.0/8", false),
            ("10.0.0.0/32", false),
            ("::/0", true),
            ("2000::/8", true),
            ("2000::/15", true),
            ("2000::/16", false),
        ] {
            let text = format!(
                "ports: [{{id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01', allowed_address_pairs: [\
                 {{ip_address: '{net}'}}, {{ip_address: '{net}', mac_address: 'fa:16:3e:00:00:99'}}]}}]"
            );
            let parsed = document::parse(&[("policy.yaml", &text)], None);
            assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
            let macs: Vec<_> =
                members(&parsed.policy.ports[&PortId::from("p")]).iter().map(|m| m.mac).collect();
            let bound = ["fa:16:3e:00:00:01", "fa:16:3e:00:00:99"].map(|mac| mac.parse().ok());
            assert_eq!(macs, if is_bound { bound.to_vec() } else { vec![None] }, "{net}");
        }
    }
}
