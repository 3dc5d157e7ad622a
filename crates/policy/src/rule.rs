//! Security-group rules: what may pass, which way, and from or to whom.

use std::fmt;

use ipnet::IpNet;

use crate::{AddressGroupId, GroupId, RuleId};

/// One rule of a security group. Rules only allow; what no rule allows is dropped.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// Unique in its group; in a document, among all rules of all groups.
    pub id: RuleId,
    /// Which way the first packet of the connection goes, seen from the port.
    pub direction: Direction,
    /// The family of the frames that the rule speaks of.
    pub ethertype: Ethertype,
    /// Protocol, and ports or type and code.
    pub service: Service,
    /// The other end: source on ingress, destination on egress. A prefix is always of the rule's ethertype.
    pub remote: Remote,
}

/// The way of a frame, seen from the port (not from the switch).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Towards the port.
    Ingress,
    /// From the port.
    Egress,
}

impl Direction {
    /// The other way.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// The family that a rule speaks of, named as in the API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ethertype {
    /// Ethertype 0x0800.
    Ipv4,
    /// Ethertype 0x86dd.
    Ipv6,
}

impl Ethertype {
    /// The number on the wire (IANA, IEEE 802 Numbers).
    pub const fn number(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0800,
            Self::Ipv6 => 0x86dd,
        }
    }

    /// The family of a prefix.
    pub const fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }

    /// The protocol number of this family's ICMP: 1 or 58.
    pub const fn icmp(self) -> u8 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 58,
        }
    }
}

impl fmt::Display for Ethertype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// What a rule lets pass, apart from the other end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// Every protocol.
    Any,
    /// A protocol with ports, by destination port.
    Ports {
        /// The protocol.
        protocol: PortProtocol,
        /// The destination ports; none means every port, port 0 included.
        range: Option<PortRange>,
    },
    /// ICMP in an IPv4 rule, ICMPv6 in an IPv6 rule.
    Icmp {
        /// None means every type.
        icmp_type: Option<u8>,
        /// None means every code; never given without a type.
        code: Option<u8>,
    },
    /// Any other protocol, by its IP protocol number: never 0, a protocol with ports, or the ICMP of the rule's
    /// ethertype (1 in an IPv6 rule and 58 in an IPv4 rule stand here: a number means itself).
    Protocol(u8),
}

/// Protocols whose first four octets are source and destination port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortProtocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
    /// RFC 4340.
    Dccp,
    /// RFC 3828.
    UdpLite,
}

impl PortProtocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp, Self::UdpLite];

    /// The IP protocol number (IANA, Assigned Internet Protocol Numbers).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Dccp => 33,
            Self::Sctp => 132,
            Self::UdpLite => 136,
        }
    }

    /// The protocol of that number, if it has ports.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dccp => "dccp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        })
    }
}

/// Ports from `min` to `max`, both included; `min` is never above `max` in a validated policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortRange {
    /// The lowest port.
    pub min: u16,
    /// The highest port.
    pub max: u16,
}

impl PortRange {
    /// Whether the port lies in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }
}

/// The other end of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Remote {
    /// Every address.
    Any,
    /// The addresses of a prefix, its host bits zero.
    Prefix(IpNet),
    /// The members of a security group; the group need not be defined, its members are the ports that carry it.
    Group(GroupId),
    /// The addresses of an address group, which is defined.
    AddressGroup(AddressGroupId),
}
