//! Of what no rule admits: the rules that come nearest to it, and what they differ in.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{
    AddressGroupId, Direction, Ethertype, GroupId, Policy, Port, PortId, PortRange, Remote, Rule, RuleId,
    SecurityGroup, Service,
};

use super::Evaluator;
use super::frame::{Frame, IpPacket, Payload};
use super::judgement::{DropReason, Verdict};
use super::membership::Reach;
use super::rules::{DestinationPort, Subject};
use super::tracking::Tracking;

/// A rule that does not admit a frame, and everything in which it differs from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Miss {
    /// The group of the rule.
    pub group: GroupId,
    /// The rule.
    pub rule: RuleId,
    /// What keeps it from admitting the frame; never empty.
    pub differences: Vec<Gap>,
}

/// What keeps a rule from admitting a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// The rule is of the other family; the frame's is here.
    Ethertype(Ethertype),
    /// The rule is of another protocol; the frame's number is here.
    Protocol(u8),
    /// The destination port is none of the rule's; none is a part of a datagram that shows no port.
    Port(Option<u16>),
    /// The ICMP type is another; none is a part that shows none.
    IcmpType(Option<u8>),
    /// The ICMP code is another.
    IcmpCode(u8),
    /// The other end is not where the rule says; its address is here.
    Remote(IpAddr),
    /// The group that the rule names has no member of this family.
    NoMember(IpAddr),
    /// The other end lies in a member so wide that it counts only with its own MAC.
    MemberMac(IpAddr),
}

/// How far a rule is from a frame: fewer and lesser gaps come first, then the nearer port or prefix, then the rule's order.
type Distance = (usize, u32, u32);

impl Evaluator {
    /// The rules of the port's groups that come nearest to admitting a frame that is dropped for want of a rule, the nearest
    /// first: those with the fewest differences; of these, where the other end alone differs before where the service does;
    /// of these, whose prefix or port is nearer. Rules of the other direction are left out. Empty for any other verdict.
    pub fn misses(
        &self,
        port: &PortId,
        direction: Direction,
        frame: &Frame,
        tracking: &Tracking,
    ) -> Vec<Miss> {
        let verdict = self.judge(port, direction, frame, tracking).verdict;
        let (Verdict::Drop(DropReason::NoRule | DropReason::Revoked), Payload::Ip(packet)) =
            (verdict, &frame.payload)
        else {
            return Vec::new();
        };
        let Some(port) = self.policy.ports.get(port) else { return Vec::new() };
        let mut misses: Vec<(Distance, Miss)> = Vec::new();
        for (stateful, subject) in self.subjects(direction, frame, packet, tracking) {
            misses.extend(self.misses_of(port, stateful, &subject));
        }
        misses.sort_by_key(|(distance, _)| *distance);
        misses.into_iter().map(|(_, miss)| miss).collect()
    }

    /// What each kind of group is asked about; the state of groups first.
    fn subjects(
        &self,
        direction: Direction,
        frame: &Frame,
        packet: &IpPacket,
        tracking: &Tracking,
    ) -> [(bool, Subject); 2] {
        let remote_mac = match direction {
            Direction::Ingress => frame.eth_src,
            Direction::Egress => frame.eth_dst,
        };
        let own = || Subject::of_packet(packet, direction, remote_mac);
        let tracked = match tracking {
            _ if frame.eth_dst.is_group() => None,
            Tracking::New(tuple) => Some(Subject::of_tuple(tuple, direction, remote_mac)),
            Tracking::Connection(connection) => {
                Some(self.subject_of_connection(connection, packet, remote_mac))
            }
            Tracking::Invalid => None,
        };
        [(true, tracked.unwrap_or_else(own)), (false, own())]
    }

    fn misses_of(&self, port: &Port, stateful: bool, subject: &Subject) -> Vec<(Distance, Miss)> {
        let groups = port.security_groups.iter().filter_map(|id| self.policy.groups.get(id));
        let rules = groups
            .filter(|group| group.stateful == stateful)
            .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
            .filter(|(_, rule)| rule.direction == subject.direction);
        let miss = |(group, rule): (&Arc<SecurityGroup>, &Rule)| {
            let differences = self.gaps(rule, subject);
            let distance = self.distance(rule, &differences);
            (distance, Miss { group: group.id.clone(), rule: rule.id.clone(), differences })
        };
        rules.map(miss).filter(|(_, miss)| !miss.differences.is_empty()).collect()
    }

    fn gaps(&self, rule: &Rule, subject: &Subject) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if rule.ethertype != subject.ethertype {
            gaps.push(Gap::Ethertype(subject.ethertype));
        }
        gaps.extend(service_gap(rule.service, subject));
        gaps.extend(self.remote_gap(rule, subject));
        gaps
    }

    fn remote_gap(&self, rule: &Rule, subject: &Subject) -> Option<Gap> {
        let (ip, mac) = (subject.remote, subject.remote_mac);
        // What is there of the other family is another difference, and is told of already.
        let empty = |has_member: bool| match has_member || rule.ethertype != subject.ethertype {
            true => Gap::Remote(ip),
            false => Gap::NoMember(ip),
        };
        match &rule.remote {
            Remote::Any => None,
            Remote::Prefix(prefix) => (!prefix.contains(&ip)).then_some(Gap::Remote(ip)),
            Remote::Group(group) => match self.members.reach(group, ip, mac) {
                Reach::Within => None,
                Reach::WithAnotherMac => Some(Gap::MemberMac(ip)),
                Reach::Outside => Some(empty(self.members.has_member(group, subject.ethertype))),
            },
            Remote::AddressGroup(group) => (!self.members.in_address_group(group, ip))
                .then(|| empty(has_address(&self.policy, group, subject.ethertype))),
        }
    }

    fn distance(&self, rule: &Rule, gaps: &[Gap]) -> Distance {
        let weight = gaps.iter().map(|gap| match gap {
            Gap::MemberMac(_) | Gap::Remote(_) | Gap::NoMember(_) => 1,
            Gap::IcmpCode(_) => 2,
            Gap::Port(_) | Gap::IcmpType(_) => 3,
            Gap::Protocol(_) => 4,
            Gap::Ethertype(_) => 5,
        });
        let apart = gaps.iter().map(|gap| match gap {
            Gap::Port(Some(port)) => ports_apart(rule.service, *port),
            Gap::Remote(ip) => self.prefixes_apart(&rule.remote, *ip),
            Gap::NoMember(_) => NOWHERE,
            _ => 0,
        });
        (gaps.len(), weight.sum(), apart.sum())
    }

    /// How far the address is from the nearest prefix of the remote.
    fn prefixes_apart(&self, remote: &Remote, ip: IpAddr) -> u32 {
        match remote {
            Remote::Prefix(prefix) => prefix_apart(prefix, ip),
            Remote::AddressGroup(id) => {
                let addresses =
                    self.policy.address_groups.get(id).into_iter().flat_map(|group| &group.addresses);
                addresses.map(|prefix| prefix_apart(prefix, ip)).min().unwrap_or(NOWHERE)
            }
            // Whoever names a group means who is in it, not what is near to that.
            Remote::Any | Remote::Group(_) => 0,
        }
    }
}

fn has_address(policy: &Policy, group: &AddressGroupId, ethertype: Ethertype) -> bool {
    let group = policy.address_groups.get(group);
    group.is_some_and(|group| group.addresses.iter().any(|prefix| Ethertype::of(prefix) == ethertype))
}

fn service_gap(service: Service, subject: &Subject) -> Option<Gap> {
    if subject.is_of(service) {
        return None;
    }
    let protocol = Gap::Protocol(subject.protocol);
    Some(match service {
        Service::Any => return None,
        Service::Ports { protocol: wanted, .. } if wanted.number() == subject.protocol => {
            match subject.port {
                DestinationPort::Is(port) => Gap::Port(Some(port)),
                DestinationPort::None | DestinationPort::Untracked => Gap::Port(None),
            }
        }
        Service::Icmp { icmp_type, .. } if subject.protocol == subject.ethertype.icmp() => match subject.icmp
        {
            Some((shown, code)) if icmp_type == Some(shown) => Gap::IcmpCode(code),
            shown => Gap::IcmpType(shown.map(|(icmp_type, _)| icmp_type)),
        },
        Service::Ports { .. } | Service::Icmp { .. } | Service::Protocol(_) => protocol,
    })
}

fn ports_apart(service: Service, port: u16) -> u32 {
    let Service::Ports { range: Some(PortRange { min, max }), .. } = service else { return 0 };
    u32::from(min.saturating_sub(port)) + u32::from(port.saturating_sub(max))
}

/// Farther than any prefix.
const NOWHERE: u32 = 1 << 20;

/// The more leading bits prefix and address share, the nearer; of two that share as many, the shorter prefix is nearer.
fn prefix_apart(prefix: &IpNet, ip: IpAddr) -> u32 {
    let shared = match (prefix.network(), ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => (net.to_bits() ^ ip.to_bits()).leading_zeros(),
        (IpAddr::V6(net), IpAddr::V6(ip)) => (net.to_bits() ^ ip.to_bits()).leading_zeros(),
        _ => 0,
    };
    ((128 - shared) << 8) + u32::from(prefix.prefix_len())
}
