//! "Rules and connections" of the semantics page.

use std::net::IpAddr;

use crate::{Direction, Ethertype, GroupId, MacAddr, Port, PortProtocol, Remote, Rule, RuleId, Service};

use super::Evaluator;
use super::frame::{Detail, Fragment, Frame, IpPacket, Tuple};
use super::judgement::{DropReason, Judgement};
use super::tracking::{Connection, Tracking};

/// IP protocol number of SCTP.
const SCTP: u8 = PortProtocol::Sctp.number();
/// What ovs-fields(7) 3.1 gives as the protocol of later IPv6 fragments.
const IPV6_FRAGMENT: u8 = 44;

impl Evaluator {
    /// Judges an IP packet by the rules of the port.
    pub(super) fn judge_by_rules(
        &self,
        port: &Port,
        direction: Direction,
        frame: &Frame,
        packet: &IpPacket,
        tracking: &Tracking,
    ) -> Judgement {
        let remote_mac = match direction {
            Direction::Ingress => frame.eth_src,
            Direction::Egress => frame.eth_dst,
        };
        let own = Subject::of_packet(packet, direction, remote_mac);
        // "A stateless rule that matches accepts the frame without connection tracking. If a port has both kinds of
        // group, stateless rules are tried first."
        let stateless = self.matching(port, false, &own);
        if !stateless.is_empty() {
            return Judgement::by_rules(stateless, false, DropReason::NoRule);
        }
        // "… and group-addressed frames are judged packet by packet against the same rules."
        if frame.eth_dst.is_group() {
            return Judgement::by_rules(self.matching(port, true, &own), false, DropReason::NoRule);
        }
        match tracking {
            // "ICMP and ICMPv6 that conntrack calls invalid … except echo replies … are judged packet by packet
            // against the same rules. Any other invalid frame: dropped, `ct-invalid`."
            Tracking::Invalid if is_message(packet) => {
                Judgement::by_rules(self.matching(port, true, &own), false, DropReason::NoRule)
            }
            Tracking::Invalid => Judgement::drop(DropReason::CtInvalid),
            // "A *new* connection is accepted, and committed in that zone, when a stateful rule of one of the
            // port's groups matches its first packet. … No rule matches: dropped, `no-rule`."
            Tracking::New(tuple) => {
                let first = Connection { original: direction, tuple: *tuple, reply: false, related: false };
                let subject = self.subject_of_connection(&first, packet, remote_mac);
                Judgement::by_rules(self.matching(port, true, &subject), true, DropReason::NoRule)
            }
            // "Replies of, and ICMP errors related to, an accepted connection are accepted"; "Revocation is exact":
            // if a rule of now would admit the connection's first packet. "A connection keeps the direction of its
            // first packet for as long as conntrack holds it; a revoked one that a later policy admits passes
            // again."
            Tracking::Connection(connection) => {
                let subject = self.subject_of_connection(connection, packet, remote_mac);
                let by_its_own_port = self.has_no_ports(connection) && !connection.related;
                let otherwise = if by_its_own_port { DropReason::NoRule } else { DropReason::Revoked };
                Judgement::by_rules(self.matching(port, true, &subject), true, otherwise)
            }
        }
    }

    /// What the rules are asked about a connection: its first packet. The remote MAC, which tracking does not keep,
    /// is the frame's.
    pub(super) fn subject_of_connection(
        &self,
        connection: &Connection,
        packet: &IpPacket,
        remote_mac: MacAddr,
    ) -> Subject {
        let mut subject = Subject::of_tuple(&connection.tuple, connection.original, remote_mac);
        // "SCTP … Where the datapath tracks it without ports (userspace), each packet of a connection must besides
        // pass the rules by its own port: the destination port in the original direction, the source port in
        // replies."
        if self.has_no_ports(connection) {
            subject.port = match packet.tuple().detail {
                // An ICMP error is no packet of the connection, and has no port of its own to pass by.
                _ if connection.related => DestinationPort::Untracked,
                Detail::Ports { src, .. } if connection.reply => DestinationPort::Is(src),
                Detail::Ports { dst, .. } => DestinationPort::Is(dst),
                _ => DestinationPort::None,
            };
        }
        subject
    }

    fn has_no_ports(&self, connection: &Connection) -> bool {
        connection.tuple.protocol == SCTP && !self.settings.datapath.tracks_sctp_ports
    }

    /// The port's rules that match, of its stateful or of its stateless groups. "Rules only allow."
    fn matching(&self, port: &Port, stateful: bool, subject: &Subject) -> Vec<(GroupId, RuleId)> {
        let groups = port.security_groups.iter().filter_map(|id| self.policy.groups.get(id));
        groups
            .filter(|group| group.stateful == stateful)
            .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
            .filter(|(_, rule)| self.matches(rule, subject))
            .map(|(group, rule)| (group.id.clone(), rule.id.clone()))
            .collect()
    }

    fn matches(&self, rule: &Rule, subject: &Subject) -> bool {
        rule.direction == subject.direction
            && rule.ethertype == subject.ethertype
            && subject.is_of(rule.service)
            && self.is_remote(&rule.remote, subject)
    }

    /// "A rule with a remote group or address group with no member of its ethertype matches nothing."
    fn is_remote(&self, remote: &Remote, subject: &Subject) -> bool {
        match remote {
            Remote::Any => true,
            Remote::Prefix(prefix) => prefix.contains(&subject.remote),
            Remote::Group(group) => self.members.in_group(group, subject.remote, subject.remote_mac),
            Remote::AddressGroup(group) => self.members.in_address_group(group, subject.remote),
        }
    }
}

/// Whether an invalid packet is one of those ICMP messages that conntrack does not track: "types that are no queries,
/// queries with a code". A fragment is invalid for another reason: "below the tracker's minimum … they are
/// `ct-invalid`".
fn is_message(packet: &IpPacket) -> bool {
    let echo_reply = match packet.ethertype() {
        Ethertype::Ipv4 => 0,
        Ethertype::Ipv6 => 129,
    };
    // A switch cannot tell ICMPv6 that ends before its header from one of zeros, a type that is reserved: neither is a
    // message (docs/decisions/0005).
    let shown = packet.icmp().filter(|zeros| *zeros != (0, 0));
    packet.fragment == Fragment::No && shown.is_some_and(|(icmp_type, _)| icmp_type != echo_reply)
}

/// What rules are asked about: a packet, or the first packet of a connection.
pub(super) struct Subject {
    pub(super) direction: Direction,
    pub(super) ethertype: Ethertype,
    pub(super) protocol: u8,
    pub(super) port: DestinationPort,
    /// Type and code.
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) remote: IpAddr,
    pub(super) remote_mac: MacAddr,
}

/// The destination port, as far as it is known.
pub(super) enum DestinationPort {
    Is(u16),
    /// A later fragment has none.
    None,
    /// The datapath does not track it, and nothing else tells.
    Untracked,
}

impl Subject {
    pub(super) fn of_packet(packet: &IpPacket, direction: Direction, remote_mac: MacAddr) -> Self {
        let mut subject = Self::of_tuple(&packet.tuple(), direction, remote_mac);
        if packet.fragment == Fragment::Later && packet.ethertype() == Ethertype::Ipv6 {
            subject.protocol = IPV6_FRAGMENT;
        }
        subject
    }

    pub(super) fn of_tuple(tuple: &Tuple, direction: Direction, remote_mac: MacAddr) -> Self {
        let (port, icmp) = match tuple.detail {
            Detail::Ports { dst, .. } => (DestinationPort::Is(dst), None),
            Detail::Icmp { icmp_type, code } => (DestinationPort::None, Some((icmp_type, code))),
            Detail::None => (DestinationPort::None, None),
        };
        Self {
            direction,
            ethertype: if tuple.src.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 },
            protocol: tuple.protocol,
            port,
            icmp,
            // "egress, remote = destination"; "ingress, remote = source".
            remote: match direction {
                Direction::Ingress => tuple.src,
                Direction::Egress => tuple.dst,
            },
            remote_mac,
        }
    }

    /// Whether the rule's service is this one. "a stateless rule with ports does not match later fragments".
    pub(super) fn is_of(&self, service: Service) -> bool {
        match service {
            Service::Any => true,
            Service::Ports { protocol, range } => {
                protocol.number() == self.protocol
                    && range.is_none_or(|range| match self.port {
                        DestinationPort::Is(port) => range.contains(port),
                        DestinationPort::None => false,
                        DestinationPort::Untracked => true,
                    })
            }
            Service::Icmp { icmp_type, code } => {
                self.protocol == self.ethertype.icmp()
                    && icmp_type
                        .is_none_or(|wanted| self.icmp.is_some_and(|(icmp_type, _)| icmp_type == wanted))
                    && code.is_none_or(|wanted| self.icmp.is_some_and(|(_, code)| code == wanted))
            }
            Service::Protocol(number) => number == self.protocol,
        }
    }
}
