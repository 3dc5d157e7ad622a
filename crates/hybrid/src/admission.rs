//! Whether a connection would be admitted as the policy is now: what its first packet would be told.

use std::net::IpAddr;

use policy::{Direction, Ethertype, Rule, Service};

use crate::dialect::Dialect;
use crate::firewall::{Firewall, bucket};
use crate::sets::Remote;

/// What tells a connection's first packet from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstPacket {
    /// Which way it went, seen from the port.
    pub direction: Direction,
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// What else rules ask for.
    pub detail: Detail,
}

/// What rules ask for besides the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// The destination port.
    Port(u16),
    /// Type and code.
    Icmp(u8, u8),
    /// Nothing.
    None,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Admission {
    /// No rule admits it.
    Refused,
    /// A rule does by a member that counts only with its MAC, which each packet has to show: what the tracker keeps of a connection has no
    /// MAC.
    ByMac,
    /// A rule does by addresses alone.
    Free,
}

impl<D: Dialect> Firewall<D> {
    /// Whether a stateful rule of the port of a zone would admit a connection that began so. Connections of zones that are no port's of
    /// ours are nothing to us, and said to be admitted.
    pub fn admits(&self, zone: u16, first: &FirstPacket) -> Admission {
        let Some(port) = self.port_of(zone) else { return Admission::Free };
        let groups = self.groups_of.get(port).into_iter().flatten();
        let stateful = groups.filter_map(|id| self.sets.group(id)).filter(|group| group.stateful);
        let rules = stateful.flat_map(|group| &group.rules);
        rules.map(|rule| self.admits_by(rule, first)).max().unwrap_or(Admission::Refused)
    }

    /// Some member counts only with its MAC.
    pub fn asks_for_macs(&self) -> bool {
        !self.bound.is_empty()
    }

    fn port_of(&self, zone: u16) -> Option<&policy::PortId> {
        let ports = self.buckets.get(&bucket(zone))?;
        ports.get(&zone)
    }

    fn admits_by(&self, rule: &Rule, first: &FirstPacket) -> Admission {
        let ethertype = if first.source.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
        let remote = match first.direction {
            Direction::Ingress => first.source,
            Direction::Egress => first.destination,
        };
        let is_of_rule = (rule.direction, rule.ethertype) == (first.direction, ethertype)
            && D::why_not(rule).is_none()
            && is_of(rule.service, ethertype, first);
        if is_of_rule { self.admits_remote(&rule.remote, remote) } else { Admission::Refused }
    }

    fn admits_remote(&self, remote: &policy::Remote, ip: IpAddr) -> Admission {
        let bound = match remote {
            policy::Remote::Group(group) => self.bound.get(group),
            policy::Remote::Any | policy::Remote::Prefix(_) | policy::Remote::AddressGroup(_) => None,
        };
        let is_free = match remote {
            policy::Remote::Any => true,
            policy::Remote::Prefix(net) => net.contains(&ip),
            policy::Remote::Group(_) | policy::Remote::AddressGroup(_) => Remote::of(remote)
                .and_then(|remote| self.sets.members(&remote))
                .is_some_and(|members| members.contains(ip)),
        };
        let is_bound = bound.is_some_and(|bound| bound.keys().any(|(net, _)| net.contains(&ip)));
        match (is_free, is_bound) {
            (true, _) => Admission::Free,
            (false, true) => Admission::ByMac,
            (false, false) => Admission::Refused,
        }
    }
}

fn is_of(service: Service, ethertype: Ethertype, first: &FirstPacket) -> bool {
    match service {
        Service::Any => true,
        Service::Ports { protocol, range } => {
            protocol.number() == first.protocol
                && range
                    .is_none_or(|range| matches!(first.detail, Detail::Port(port) if range.contains(port)))
        }
        Service::Icmp { icmp_type, code } => {
            let shown = match first.detail {
                Detail::Icmp(icmp_type, code) => Some((icmp_type, code)),
                Detail::Port(_) | Detail::None => None,
            };
            first.protocol == ethertype.icmp()
                && icmp_type.is_none_or(|wanted| shown.is_some_and(|(icmp_type, _)| icmp_type == wanted))
                && code.is_none_or(|wanted| shown.is_some_and(|(_, code)| code == wanted))
        }
        Service::Protocol(number) => number == first.protocol,
    }
}
