//! Values of settings that are one of a few words, or a number of a kind.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What enforces the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallDriver {
    /// Flows on an Open vSwitch integration bridge.
    OpenvSwitch,
    /// iptables and ipsets on hosts with hybrid bridges.
    IptablesHybrid,
    /// nftables alone on hosts with hybrid bridges.
    Nftables,
    /// Nothing: the policy is read and checked, no datapath is touched.
    Noop,
}

/// A driver that there is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("firewall_driver {0:?} is unknown; known are openvswitch, iptables_hybrid, nftables and noop")]
pub struct DriverError(String);

impl FromStr for FirewallDriver {
    type Err = DriverError;

    fn from_str(text: &str) -> Result<Self, DriverError> {
        match text {
            "openvswitch" => Ok(FirewallDriver::OpenvSwitch),
            "noop" => Ok(FirewallDriver::Noop),
            "iptables_hybrid" => Ok(FirewallDriver::IptablesHybrid),
            "nftables" => Ok(FirewallDriver::Nftables),
            _ => Err(DriverError(text.to_owned())),
        }
    }
}

impl fmt::Display for FirewallDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FirewallDriver::OpenvSwitch => "openvswitch",
            FirewallDriver::IptablesHybrid => "iptables_hybrid",
            FirewallDriver::Nftables => "nftables",
            FirewallDriver::Noop => "noop",
        })
    }
}

/// What the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// It enforces the policy on this host.
    #[default]
    Host,
    /// It writes to the policy store what Neutron says of the whole cloud, and touches no datapath.
    Publisher,
}

/// A role that there is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("role {0:?} is unknown; known are host and publisher")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "host" => Ok(Role::Host),
            "publisher" => Ok(Role::Publisher),
            _ => Err(RoleError(text.to_owned())),
        }
    }
}

/// Where the policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// One document or a directory of them.
    File,
    /// The driver `sgflow` of Neutron's agent on this host, by the API's socket.
    NeutronDriver,
    /// The shared policy store.
    Store,
    /// neutron-server, over the message queue.
    NeutronRpc,
}

/// A source that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("policy source {0:?} is not in this version; file, neutron-driver, neutron-rpc and store are")]
pub struct SourceError(String);

impl FromStr for SourceKind {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text {
            "file" => Ok(SourceKind::File),
            "neutron-driver" => Ok(SourceKind::NeutronDriver),
            "store" => Ok(SourceKind::Store),
            "neutron-rpc" => Ok(SourceKind::NeutronRpc),
            _ => Err(SourceError(text.to_owned())),
        }
    }
}

/// An ethertype as people write it: `0x88cc`, `35020`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EthertypeNumber(pub u16);

/// Text that is no ethertype to be permitted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EthertypeError {
    /// No ethertype at all.
    #[error("{0:?} is no ethertype: a number from 0x0600 to 0xffff, e.g. 0x88cc")]
    NotOne(String),
    /// What the law judges by itself, or what would lead into another network.
    #[error("{0:#06x} cannot be permitted: {1}")]
    NotOthers(u16, &'static str),
}

/// "Other ethertypes" are those that the law does not speak of (semantics, egress 0 to 5).
const NOT_OTHERS: [(u16, &str); 6] = [
    (0x0800, "IPv4 goes by the rules of the security groups"),
    (0x86dd, "IPv6 goes by the rules of the security groups"),
    (0x0806, "ARP is checked for its sender and passes"),
    (0x8035, "RARP passes"),
    (0x8100, "a VLAN tag could lead into another network"),
    (0x88a8, "a VLAN tag could lead into another network"),
];

impl FromStr for EthertypeNumber {
    type Err = EthertypeError;

    fn from_str(text: &str) -> Result<Self, EthertypeError> {
        let lower = text.trim().to_ascii_lowercase();
        let number = match lower.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => lower.parse(),
        };
        match number {
            // Below 0x0600 the field is a length (IEEE 802.3, 3.2.6).
            Ok(number) if number >= 0x0600 => match NOT_OTHERS.iter().find(|(other, _)| *other == number) {
                Some((_, reason)) => Err(EthertypeError::NotOthers(number, reason)),
                None => Ok(EthertypeNumber(number)),
            },
            _ => Err(EthertypeError::NotOne(text.to_owned())),
        }
    }
}
