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

impl<D: Dialect> Firewall<D> {
    /// Whether a stateful rule of the port of a zone would admit a connection that began so. Connections of zones that are no port's of
    /// ours are nothing to us, and said to be admitted.
    ///
    /// A member that counts only with its MAC counts here with any: what the tracker keeps of a connection has no MAC.
    pub fn admits(&self, zone: u16, first: &FirstPacket) -> bool {
        let Some(port) = self.port_of(zone) else { return true };
        let groups = self.groups_of.get(port).into_iter().flatten();
        let mut stateful = groups.filter_map(|id| self.sets.group(id)).filter(|group| group.stateful);
        stateful.any(|group| group.rules.iter().any(|rule| self.matches(rule, first)))
    }

    fn port_of(&self, zone: u16) -> Option<&policy::PortId> {
        let ports = self.buckets.get(&bucket(zone))?;
        ports.get(&zone)
    }

    fn matches(&self, rule: &Rule, first: &FirstPacket) -> bool {
        let ethertype = if first.source.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
        let remote = match first.direction {
            Direction::Ingress => first.source,
            Direction::Egress => first.destination,
        };
        (rule.direction, rule.ethertype) == (first.direction, ethertype)
            && D::why_not(rule).is_none()
            && is_of(rule.service, ethertype, first)
            && self.is_remote(&rule.remote, remote)
    }

    fn is_remote(&self, remote: &policy::Remote, ip: IpAddr) -> bool {
        match remote {
            policy::Remote::Any => return true,
            policy::Remote::Prefix(net) => return net.contains(&ip),
            policy::Remote::Group(_) | policy::Remote::AddressGroup(_) => {}
        }
        let Some(remote) = Remote::of(remote) else { return false };
        let bound = match &remote {
            Remote::Group(group) => self.bound.get(group),
            Remote::AddressGroup(_) => None,
        };
        self.sets.members(&remote).is_some_and(|members| members.contains(ip))
            || bound.is_some_and(|bound| bound.keys().any(|(net, _)| net.contains(&ip)))
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
