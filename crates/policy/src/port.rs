//! Ports: the network cards that the policy speaks of, local or not.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{GroupId, MacAddr, NetworkId, PortId};

/// A port of a network, on this host or any other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Unique among ports; what a local Interface carries in `external_ids:iface-id`.
    pub id: PortId,
    /// The network of the port.
    pub network_id: NetworkId,
    /// Its own address (`mac_address`).
    pub mac: MacAddr,
    /// Its addresses (`fixed_ips[].ip_address`).
    pub fixed_ips: BTreeSet<IpAddr>,
    /// What it may use besides.
    pub allowed_address_pairs: BTreeSet<AddressPair>,
    /// The groups whose rules filter it and whose member it is; all defined.
    pub security_groups: BTreeSet<GroupId>,
    /// Whether it is filtered at all (the default).
    pub port_security_enabled: bool,
    /// Who made it, e.g. `compute:nova` or `network:dhcp`; empty when the document gives none.
    pub device_owner: String,
    /// The host it is bound to (`binding:host_id`), where known.
    pub host: Option<String>,
}

impl Port {
    /// Prefix of the device owners that are trusted: the network's own ports (routers, DHCP servers).
    pub const TRUSTED_OWNER: &'static str = "network:";

    /// Whether the port, where it is local, sends and receives everything (semantics, "Objects": "trusted when
    /// `port_security_enabled` is false or `device_owner` begins with `network:`").
    pub fn is_trusted(&self) -> bool {
        !self.port_security_enabled || self.device_owner.starts_with(Self::TRUSTED_OWNER)
    }
}

/// Addresses that a port may use besides its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressPair {
    /// Address or prefix, host bits zero.
    pub ip: IpNet,
    /// None means the port's own.
    pub mac: Option<MacAddr>,
}
