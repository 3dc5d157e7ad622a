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
