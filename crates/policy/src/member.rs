//! Members of a security group, without the ports that they are addresses of.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::{AddressPair, GroupId, MacAddr, NetworkId, Port, PortId};

/// An address or prefix by which somebody belongs to a security group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// Address or prefix, host bits zero.
    pub net: IpNet,
    /// The MAC of whoever has it. None where nothing goes by it.
    pub mac: Option<MacAddr>,
}

/// In the ids of ports that stand for members, and in no port's own: those are UUIDs, or a person's choice.
const MARK: &str = "/member/";

impl Member {
    /// By what a port is a member of each of its groups: "its fixed IPs and the `ip_address` of its allowed address pairs" (semantics,
    /// "Objects"), each with its MAC only where that counts.
    pub fn of(port: &Port) -> BTreeSet<Member> {
        let fixed = port.fixed_ips.iter().map(|ip| (IpNet::from(*ip), port.mac));
        let pairs = port.allowed_address_pairs.iter().map(|pair| (pair.ip, pair.mac.unwrap_or(port.mac)));
        let member = |(net, mac)| Member { net, mac: is_wide(&net).then_some(mac) };
        fixed.chain(pairs).map(member).collect()
    }

    /// The port elsewhere that stands for it: it carries `group`, and has this one address. A host that holds it in the place of the real
    /// port judges the same.
    pub fn port(&self, group: &GroupId) -> Port {
        Port {
            id: self.port_id(group),
            network_id: NetworkId::from(""),
            mac: self.mac.unwrap_or(MacAddr::UNKNOWN),
            fixed_ips: BTreeSet::new(),
            allowed_address_pairs: [AddressPair { ip: self.net, mac: None }].into(),
            security_groups: [group.clone()].into(),
            port_security_enabled: true,
            device_owner: String::new(),
            host: None,
        }
    }

    /// The id of [`Member::port`].
    pub fn port_id(&self, group: &GroupId) -> PortId {
        let mac = self.mac.map(|mac| mac.to_string()).unwrap_or_default();
        PortId::from(format!("{group}{MARK}{}/{mac}", self.net))
    }
}

/// "A member whose prefix is shorter than /8 (IPv4) or /16 (IPv6) … counts only for frames whose remote MAC … is that member's MAC"
/// (semantics, "Objects").
fn is_wide(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() < 8,
        IpNet::V6(net) => net.prefix_len() < 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 2]);

    fn port(fixed_ips: &[&str], pairs: &[(&str, Option<MacAddr>)]) -> Port {
        let pair = |(ip, mac): &(&str, _)| AddressPair { ip: ip.parse().unwrap(), mac: *mac };
        Port {
            id: "p".into(),
            network_id: "n".into(),
            mac: OWN,
            fixed_ips: fixed_ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            allowed_address_pairs: pairs.iter().map(pair).collect(),
            security_groups: ["a".into(), "b".into()].into(),
            port_security_enabled: true,
            device_owner: "compute:nova".to_owned(),
            host: Some("h".to_owned()),
        }
    }

    fn member(net: &str, mac: Option<MacAddr>) -> Member {
        Member { net: net.parse().unwrap(), mac }
    }

    #[test]
    fn fixed_addresses_and_pairs_are_members_without_a_mac() {
        let port = port(&["10.0.0.1", "fd00::1"], &[("10.1.0.0/16", None), ("fd00:1::/64", Some(OTHER))]);
        let members = ["10.0.0.1/32", "10.1.0.0/16", "fd00:1::/64", "fd00::1/128"];
        assert_eq!(Member::of(&port), members.map(|net| member(net, None)).into());
    }

    #[test]
    fn one_address_from_two_sources_is_one_member() {
        let port = port(&["10.0.0.1"], &[("10.0.0.1/32", Some(OTHER))]);
        assert_eq!(Member::of(&port), [member("10.0.0.1/32", None)].into());
    }

    #[test]
    fn shorter_than_8_or_16_a_prefix_is_a_member_by_its_mac() {
        let pairs = [
            ("10.0.0.0/8", Some(OTHER)),
            ("10.0.0.0/7", Some(OTHER)),
            ("0.0.0.0/0", None),
            ("fd00::/16", Some(OTHER)),
            ("fc00::/15", Some(OTHER)),
            ("::/0", None),
        ];
        let members = [
            member("10.0.0.0/8", None),
            member("10.0.0.0/7", Some(OTHER)),
            member("0.0.0.0/0", Some(OWN)),
            member("fd00::/16", None),
            member("fc00::/15", Some(OTHER)),
            member("::/0", Some(OWN)),
        ];
        assert_eq!(Member::of(&port(&[], &pairs)), members.into());
    }

    #[test]
    fn the_port_of_a_member_is_that_member_of_that_group_and_is_nowhere() {
        for member in [member("10.0.0.1/32", None), member("fc00::/15", Some(OTHER))] {
            let port = member.port(&"g".into());
            assert_eq!(Member::of(&port), [member].into());
            assert_eq!(port.security_groups, ["g".into()].into());
            assert_eq!((port.host, port.fixed_ips.len()), (None, 0));
        }
    }

    #[test]
    fn each_member_of_each_group_has_an_id_of_its_own() {
        let members = [
            member("10.0.0.0/7", Some(OTHER)),
            member("10.0.0.0/7", Some(OWN)),
            member("10.0.0.0/8", None),
            member("fd00::/16", None),
        ];
        let ids = |group: &str| members.map(|member| member.port_id(&group.into()));
        let all: BTreeSet<PortId> = ids("g").into_iter().chain(ids("h")).collect();
        assert_eq!(all.len(), 8, "{all:?}");
        assert_eq!(member("10.0.0.1/32", None).port_id(&"g".into()), "g/member/10.0.0.1/32/".into());
    }
}
