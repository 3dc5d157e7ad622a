//! What an Interface of the bridge is to the firewall: a local port, a way to the network, or closed.

use std::collections::BTreeSet;

use pipeline::{NetworkPort, OfPort, Vlan};
use policy::{MacAddr, PortId};
use thiserror::Error;

use super::rows::{InterfaceRow, PortRow, Tag};

/// VLAN 4095 is reserved (IEEE 802.1Q, table 9-2); Neutron's agent puts a port there to cut it off.
const DEAD_VLAN: u16 = 4095;

/// `type`s of Interface that lead to other bridges and hosts (ovs-vswitchd.conf.db(5), Interface).
const NETWORK_TYPES: [&str; 9] =
    ["patch", "vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan", "stt", "lisp"];

/// Interfaces that lead to the network although their `type` does not say so, by name.
pub type NetworkPorts = BTreeSet<String>;

/// What an Interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It carries the id of a port.
    Local {
        /// Which.
        port: PortId,
        /// Its OpenFlow port number.
        ofport: OfPort,
        /// Its network on this bridge.
        vlan: Vlan,
        /// The MAC that its plug says it has.
        mac: Option<MacAddr>,
    },
    /// It leads to the network.
    Network {
        /// Its OpenFlow port number.
        ofport: OfPort,
        /// Trunk, or access when its Port has a tag.
        attachment: NetworkPort,
    },
    /// No frame passes.
    Closed(Closed),
}

/// Why no frame passes an Interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Closed {
    /// ovs-vswitchd has not opened it (yet).
    #[error("the switch has not opened it{}", .error.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    NotOpened {
        /// Its words, when it has tried.
        error: Option<String>,
    },
    /// Tag 4095.
    #[error("its tag is 4095, the VLAN of ports that are cut off")]
    DeadVlan,
    /// Beside Neutron's agent, which gives each port that it knows a tag: without one it would be a trunk, or of the untagged network.
    #[error("it has no tag: Neutron's agent has not bound the port, or does not know it")]
    NoTag,
    /// A tag that is no VLAN.
    #[error("its tag {tag:?} is no VLAN (0 to 4094)")]
    BadTag {
        /// As it stands there.
        tag: String,
    },
    /// One of several interfaces of a Port.
    #[error("it is one of the interfaces of a bond; bonds on the integration bridge are not supported")]
    Bond,
    /// Two Interfaces carry the same port's id.
    #[error(
        "another interface has the same external_ids:iface-id {port}; both are closed until one of them goes"
    )]
    Duplicate {
        /// Whose id it is.
        port: PortId,
    },
    /// It carries no port's id and does not lead to the network by its type.
    #[error(
        "it has no external_ids:iface-id, and type {kind:?} does not say that it leads to the network; name it in \
         network_ports or set external_ids:sgflow-network=true if it does"
    )]
    Unknown {
        /// `type`, `system` when empty.
        kind: String,
    },
}

impl Role {
    /// The role of an Interface of `port`.
    ///
    /// An id of a port is decisive, whatever the type: the patch port of a Neutron trunk's subport carries one.
    /// Only an Interface that the switch has opened (`ofport` above 0) has a role: while a port is plugged anew
    /// the old row may stay a while without its device, and does not count as a second one.
    ///
    /// Where `ports_are_tagged`, a local port without a tag is not bound to its network yet, or nobody knows it.
    pub fn of(
        interface: &InterfaceRow,
        port: &PortRow,
        network_ports: &NetworkPorts,
        ports_are_tagged: bool,
    ) -> Self {
        let network = interface.network
            || network_ports.contains(&interface.name)
            || NETWORK_TYPES.contains(&interface.kind.as_str());
        if interface.iface_id.is_none() && !network {
            let kind = if interface.kind.is_empty() { "system" } else { interface.kind.as_str() };
            return Role::Closed(Closed::Unknown { kind: kind.to_owned() });
        }
        if port.interfaces.len() > 1 {
            return Role::Closed(Closed::Bond);
        }
        let Some(ofport) = interface.ofport else {
            return Role::Closed(Closed::NotOpened { error: interface.error.clone() });
        };
        let vlan = match vlan(&port.tag) {
            Ok(vlan) => vlan,
            Err(closed) => return Role::Closed(closed),
        };
        match (&interface.iface_id, &port.tag) {
            (Some(_), Tag::None) if ports_are_tagged => Role::Closed(Closed::NoTag),
            (Some(id), _) => Role::Local { port: id.clone(), ofport, vlan, mac: interface.attached_mac },
            (None, Tag::Column(_)) => Role::Network { ofport, attachment: NetworkPort::Access(vlan) },
            (None, Tag::None | Tag::OtherConfig(_)) => {
                Role::Network { ofport, attachment: NetworkPort::Trunk }
            }
        }
    }
}

/// The VLAN that a tag means; 0 is the untagged network.
fn vlan(tag: &Tag) -> Result<Vlan, Closed> {
    let number = match tag {
        Tag::None => 0,
        Tag::Column(number) => *number,
        Tag::OtherConfig(text) => text.trim().parse().map_err(|_| Closed::BadTag { tag: text.clone() })?,
    };
    match number {
        0..DEAD_VLAN => Ok(Vlan(number)),
        DEAD_VLAN => Err(Closed::DeadVlan),
        _ => Err(Closed::BadTag { tag: number.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::Uuid;

    fn role(interface: InterfaceRow, tag: Tag) -> Role {
        let port = PortRow { name: "p".into(), interfaces: [Uuid::from_u128(1)].into(), tag };
        Role::of(&interface, &port, &["eth1".to_owned()].into(), false)
    }

    fn plugged(name: &str, kind: &str) -> InterfaceRow {
        InterfaceRow {
            name: name.into(),
            kind: kind.into(),
            ofport: Some(OfPort(5)),
            ..InterfaceRow::default()
        }
    }

    fn guest() -> InterfaceRow {
        InterfaceRow { iface_id: Some("p-1".into()), ..plugged("tap1", "") }
    }

    fn local(vlan: u16) -> Role {
        Role::Local { port: "p-1".into(), ofport: OfPort(5), vlan: Vlan(vlan), mac: None }
    }

    #[test]
    fn an_iface_id_makes_a_local_port_on_the_vlan_of_its_tag() {
        assert_eq!(role(guest(), Tag::None), local(0));
        assert_eq!(role(guest(), Tag::Column(10)), local(10));
        assert_eq!(role(guest(), Tag::OtherConfig("11".into())), local(11));
        let subport = InterfaceRow { kind: "patch".into(), ..guest() };
        assert_eq!(role(subport, Tag::Column(10)), local(10));
    }

    #[test]
    fn beside_neutron_a_port_without_a_tag_is_closed_and_a_way_to_the_network_is_not() {
        let role = |interface: InterfaceRow, tag: Tag| {
            let port = PortRow { name: "p".into(), interfaces: [Uuid::from_u128(1)].into(), tag };
            Role::of(&interface, &port, &NetworkPorts::new(), true)
        };
        assert_eq!(role(guest(), Tag::None), Role::Closed(Closed::NoTag));
        assert_eq!(role(guest(), Tag::Column(10)), local(10));
        let trunk = Role::Network { ofport: OfPort(5), attachment: NetworkPort::Trunk };
        assert_eq!(role(plugged("int-br-ex", "patch"), Tag::None), trunk);
    }

    #[test]
    fn a_dead_or_bad_tag_or_an_unopened_device_is_closed() {
        assert_eq!(role(guest(), Tag::Column(4095)), Role::Closed(Closed::DeadVlan));
        assert_eq!(role(guest(), Tag::OtherConfig("4095".into())), Role::Closed(Closed::DeadVlan));
        for tag in ["x", "", "4096", "-1"] {
            let closed = role(guest(), Tag::OtherConfig(tag.into()));
            assert_eq!(closed, Role::Closed(Closed::BadTag { tag: tag.into() }));
        }
        let error = Some("no such device".to_owned());
        let unopened = InterfaceRow { ofport: None, error: error.clone(), ..guest() };
        assert_eq!(role(unopened, Tag::None), Role::Closed(Closed::NotOpened { error }));
    }

    #[test]
    fn only_what_says_so_leads_to_the_network() {
        let trunk = Role::Network { ofport: OfPort(5), attachment: NetworkPort::Trunk };
        let access = Role::Network { ofport: OfPort(5), attachment: NetworkPort::Access(Vlan(7)) };
        assert_eq!(role(plugged("int-br-ex", "patch"), Tag::None), trunk);
        assert_eq!(role(plugged("vx0", "vxlan"), Tag::Column(7)), access);
        assert_eq!(role(plugged("eth1", ""), Tag::None), trunk);
        assert_eq!(role(InterfaceRow { network: true, ..plugged("eth2", "dpdk") }, Tag::None), trunk);
        for (name, kind) in [("eth2", "system"), ("eth2", ""), ("br-int", "internal")] {
            assert!(matches!(role(plugged(name, kind), Tag::None), Role::Closed(Closed::Unknown { .. })));
        }
    }

    #[test]
    fn a_bond_is_closed() {
        let interfaces = [Uuid::from_u128(1), Uuid::from_u128(2)].into();
        let port = PortRow { interfaces, ..PortRow::default() };
        assert_eq!(Role::of(&guest(), &port, &NetworkPorts::new(), false), Role::Closed(Closed::Bond));
    }
}
