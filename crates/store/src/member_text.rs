//! Members, addresses and address pairs as the elements of set columns.

use std::net::IpAddr;

use ipnet::IpNet;
use policy::{AddressPair, MacAddr, Member};

/// `10.0.0.5`, `10.0.0.0/24`; a prefix that counts only with its MAC: `0.0.0.0/0 fa:16:3e:00:00:01`.
pub(crate) fn write_member(member: &Member) -> String {
    with_mac(&member.net, member.mac)
}

/// As a member, with the MAC where it is not the port's.
pub(crate) fn write_pair(pair: &AddressPair) -> String {
    with_mac(&pair.ip, pair.mac)
}

/// An address alone, a prefix with its length.
pub(crate) fn write_net(net: &IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

fn with_mac(net: &IpNet, mac: Option<MacAddr>) -> String {
    match mac {
        Some(mac) => format!("{} {mac}", write_net(net)),
        None => write_net(net),
    }
}

/// One of two families: IPv4's members stand in a column of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Family {
    /// `members_ipv4`.
    V4,
    /// `members_ipv6`.
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Family::V4, Family::V6];

    pub(crate) const fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// Among [`Family::BOTH`].
    pub(crate) const fn place(self) -> usize {
        match self {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }

    pub(crate) const fn column(self) -> &'static str {
        match self {
            Family::V4 => "members_ipv4",
            Family::V6 => "members_ipv6",
        }
    }
}

/// A member, or what is wrong with the text. A text that is not the one that is written of it is refused: two texts of one address would
/// be two elements, and the member would go with the first of them.
pub(crate) fn read_member(text: &str) -> Result<Member, String> {
    let member = match text.split_once(' ') {
        Some((net, mac)) => {
            let mac = mac.parse::<MacAddr>().map_err(|reason| format!("{mac:?}: {reason}"))?;
            Member { net: net_of(net)?, mac: Some(mac) }
        }
        None => Member { net: net_of(text)?, mac: None },
    };
    must_be(&write_member(&member), text)?;
    Ok(member)
}

/// A prefix of an address group.
pub(crate) fn read_net(text: &str) -> Result<IpNet, String> {
    let net = net_of(text)?;
    must_be(&write_net(&net), text)?;
    Ok(net)
}

fn net_of(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| format!("{text:?} is neither an address nor a prefix"))
}

fn must_be(canonical: &str, text: &str) -> Result<(), String> {
    match canonical == text {
        true => Ok(()),
        false => Err(format!("{text:?} is to be written {canonical:?}")),
    }
}
