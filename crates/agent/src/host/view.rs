//! From rows to attachments: what is plugged into the bridge, and what each plug is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ovsdb::Uuid;
use pipeline::{NetworkPort, OfPort, Vlan, Zone};
use policy::{MacAddr, PortId};

use super::role::{Closed, NetworkPorts, Role};
use super::rows::{BridgeRow, Configuration, FlowTableRow, InterfaceRow, PortRow, RowChange, Tag};

/// Where a local port is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The row of its Interface, which keeps its zone.
    pub interface: Uuid,
    /// Its OpenFlow port number.
    pub ofport: OfPort,
    /// Its network on this bridge.
    pub vlan: Vlan,
    /// The MAC that its plug says it has (`external_ids:attached-mac`).
    pub mac: Option<MacAddr>,
}

/// Something plugged in, changed, or pulled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachmentChange {
    /// A local port: where it is now.
    Port(PortId, Option<Spot>),
    /// A port to the network: how it carries VLANs now.
    Network(OfPort, Option<NetworkPort>),
}

/// What the log says of an Interface that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedInterface {
    /// Name of the interface.
    pub interface: String,
    /// The port that it says it is.
    pub port: Option<PortId>,
    /// Why it is closed.
    pub reason: Closed,
}

impl ClosedInterface {
    fn new(row: &InterfaceRow, reason: Closed) -> Self {
        ClosedInterface { interface: row.name.clone(), port: row.iface_id.clone(), reason }
    }

    /// Whether it may open by itself: the switch has not tried yet, or Neutron's agent has not come to it.
    pub fn is_awaited(&self) -> bool {
        matches!(self.reason, Closed::NotOpened { error: None } | Closed::NoTag)
    }
}

impl fmt::Display for ClosedInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClosedInterface { interface, port, reason } = self;
        let port = port.iter().map(|port| format!(" of port {port}")).collect::<String>();
        write!(f, "interface {interface}{port} is closed: {reason}")
    }
}

/// What [`HostView::refresh`] found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostDelta {
    /// First what was pulled out, then what is there.
    pub attachments: Vec<AttachmentChange>,
    /// Interfaces that are closed now and were not, or for another reason.
    pub closed: Vec<ClosedInterface>,
}

/// The part of the database that concerns one bridge. The work of a change is that of the Interfaces it touches.
#[derive(Debug)]
pub struct HostView {
    bridge_name: String,
    network_ports: NetworkPorts,
    /// Whoever plugs ports in gives each of them a tag.
    ports_are_tagged: bool,
    configuration: Configuration,
    bridge: Option<(Uuid, BridgeRow)>,
    ports: BTreeMap<Uuid, PortRow>,
    interfaces: BTreeMap<Uuid, InterfaceRow>,
    flow_tables: BTreeMap<Uuid, FlowTableRow>,
    port_of: BTreeMap<Uuid, Uuid>,
    /// Interfaces to look at in the next [`HostView::refresh`].
    dirty: BTreeSet<Uuid>,
    roles: BTreeMap<Uuid, Role>,
    /// Interfaces that say they are this port; more than one closes them all.
    claims: BTreeMap<PortId, BTreeSet<Uuid>>,
    spots: BTreeMap<PortId, Spot>,
    networks: BTreeMap<OfPort, NetworkPort>,
    /// Why an interface is closed, as last told.
    told: BTreeMap<Uuid, Closed>,
}

impl HostView {
    /// Of the bridge called `bridge_name`; nothing is known yet.
    pub fn new(bridge_name: &str, network_ports: NetworkPorts) -> Self {
        HostView {
            bridge_name: bridge_name.to_owned(),
            network_ports,
            ports_are_tagged: false,
            configuration: Configuration::default(),
            bridge: None,
            ports: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            flow_tables: BTreeMap::new(),
            port_of: BTreeMap::new(),
            dirty: BTreeSet::new(),
            roles: BTreeMap::new(),
            claims: BTreeMap::new(),
            spots: BTreeMap::new(),
            networks: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Beside Neutron's agent, which gives each port that it knows a tag.
    #[must_use]
    pub fn with_tagged_ports(mut self) -> Self {
        self.ports_are_tagged = true;
        self
    }

    /// The bridge, once it is there.
    pub fn bridge(&self) -> Option<&BridgeRow> {
        self.bridge.as_ref().map(|(_, row)| row)
    }

    /// How far ovs-vswitchd has come with what the database says.
    pub fn configuration(&self) -> Configuration {
        self.configuration
    }

    /// The row id of the bridge, once it is there.
    pub fn bridge_id(&self) -> Option<Uuid> {
        self.bridge.as_ref().map(|(id, _)| *id)
    }

    /// A row of table Flow_Table.
    pub fn flow_table(&self, id: &Uuid) -> Option<&FlowTableRow> {
        self.flow_tables.get(id)
    }

    /// A row of table Interface, of whatever bridge.
    pub fn interface(&self, id: &Uuid) -> Option<&InterfaceRow> {
        self.interfaces.get(id)
    }

    /// The VLAN that the Port of an interface has, 0 where it has none; none if that is no number.
    pub fn tag(&self, interface: &Uuid) -> Option<u16> {
        match &self.ports.get(self.port_of.get(interface)?)?.tag {
            Tag::None => Some(0),
            Tag::Column(tag) => Some(*tag),
            Tag::OtherConfig(text) => text.parse().ok(),
        }
    }

    /// The zone that the database has for an Interface.
    pub fn recorded_zone(&self, interface: &Uuid) -> Option<Zone> {
        self.interfaces.get(interface).and_then(|row| row.zone)
    }

    /// The port that the database says the zone of an Interface was given to.
    pub fn recorded_port(&self, interface: &Uuid) -> Option<&PortId> {
        self.interfaces.get(interface).and_then(|row| row.zone_port.as_ref())
    }

    /// Whether `interface` is plugged into our bridge.
    pub fn on_bridge(&self, interface: &Uuid) -> bool {
        let Some((_, bridge)) = &self.bridge else { return false };
        self.port_of.get(interface).is_some_and(|port| bridge.ports.contains(port))
    }

    /// Every local port and where it is.
    pub fn spots(&self) -> impl ExactSizeIterator<Item = (&PortId, &Spot)> {
        self.spots.iter()
    }

    /// Where a local port is.
    pub fn spot(&self, port: &PortId) -> Option<&Spot> {
        self.spots.get(port)
    }

    /// The local port that stands at `interface`.
    pub fn port_at(&self, interface: &Uuid) -> Option<PortId> {
        match self.roles.get(interface)? {
            Role::Local { port, .. } => {
                self.spots.get(port).filter(|spot| spot.interface == *interface).map(|_| port.clone())
            }
            Role::Network { .. } | Role::Closed(_) => None,
        }
    }

    /// The interfaces that say they are a port's, and are closed. One whose device is gone does not count while
    /// another one is the port's.
    pub fn closed(&self) -> impl Iterator<Item = ClosedInterface> {
        self.told.iter().filter_map(|(interface, reason)| {
            let row = self.interfaces.get(interface)?;
            let port = row.iface_id.as_ref()?;
            let replaced = matches!(reason, Closed::NotOpened { .. }) && self.spots.contains_key(port);
            (!replaced).then(|| ClosedInterface::new(row, reason.clone()))
        })
    }

    /// Every port to the network.
    pub fn networks(&self) -> impl Iterator<Item = (OfPort, NetworkPort)> {
        self.networks.iter().map(|(ofport, attachment)| (*ofport, *attachment))
    }

    /// Takes one row over. What follows from it is told by [`HostView::refresh`], after the last row of a
    /// transaction: in between the rows do not fit together.
    pub fn change(&mut self, change: RowChange) {
        match change {
            RowChange::Bridge(id, row) => self.change_bridge(id, row),
            RowChange::Port(id, row) => self.change_port(id, row),
            RowChange::Interface(id, row) => {
                self.dirty.insert(id);
                match row {
                    Some(row) => self.interfaces.insert(id, row),
                    None => self.interfaces.remove(&id),
                };
            }
            RowChange::FlowTable(id, Some(row)) => {
                self.flow_tables.insert(id, row);
            }
            RowChange::Configuration(configuration) => self.configuration = configuration,
            RowChange::FlowTable(id, None) => {
                self.flow_tables.remove(&id);
            }
        }
    }

    fn change_bridge(&mut self, id: Uuid, row: Option<BridgeRow>) {
        let named = row.filter(|row| row.name == self.bridge_name);
        let known = self.bridge.as_ref().map(|(id, _)| *id);
        if named.is_none() && known != Some(id) {
            return; // another bridge
        }
        let before = self.bridge.take().map(|(_, row)| row.ports).unwrap_or_default();
        self.bridge = named.map(|row| (id, row));
        let after = self.bridge.as_ref().map(|(_, row)| &row.ports);
        let none = BTreeSet::new();
        for port in before.symmetric_difference(after.unwrap_or(&none)) {
            if let Some(row) = self.ports.get(port) {
                self.dirty.extend(&row.interfaces);
            }
        }
    }

    fn change_port(&mut self, id: Uuid, row: Option<PortRow>) {
        let before = match row {
            Some(row) => {
                self.dirty.extend(&row.interfaces);
                self.ports.insert(id, row)
            }
            None => self.ports.remove(&id),
        };
        for interface in before.iter().flat_map(|row| &row.interfaces) {
            self.dirty.insert(*interface);
            if self.port_of.get(interface) == Some(&id) {
                self.port_of.remove(interface);
            }
        }
        for interface in self.ports.get(&id).iter().flat_map(|row| &row.interfaces) {
            self.port_of.insert(*interface, id);
        }
    }

    /// The interfaces that changes since the last call concern, for who judges them by himself and not with [`HostView::refresh`].
    pub fn take_touched(&mut self) -> BTreeSet<Uuid> {
        std::mem::take(&mut self.dirty)
    }

    /// What the changes since the last call come to.
    pub fn refresh(&mut self) -> HostDelta {
        let mut ports = BTreeSet::new();
        let mut networks = BTreeSet::new();
        let dirty = std::mem::take(&mut self.dirty);
        for interface in &dirty {
            let before = self.roles.remove(interface);
            let after = self.role(interface);
            if before != after {
                for role in before.iter().chain(&after) {
                    match role {
                        Role::Local { port, .. } => _ = ports.insert(port.clone()),
                        Role::Network { ofport, .. } => _ = networks.insert(*ofport),
                        Role::Closed(_) => {}
                    }
                }
            }
            if let Some(Role::Local { port, .. }) = &before {
                self.unclaim(port, interface);
            }
            if let Some(role) = after {
                if let Role::Local { port, .. } = &role {
                    self.claims.entry(port.clone()).or_default().insert(*interface);
                }
                self.roles.insert(*interface, role);
            }
        }
        let touched: BTreeSet<Uuid> =
            ports.iter().flat_map(|port| self.claims.get(port)).flatten().copied().chain(dirty).collect();
        let mut delta = HostDelta { attachments: Vec::new(), closed: self.newly_closed(&touched) };
        self.settle_ports(ports, &mut delta);
        self.settle_networks(&networks, &mut delta);
        delta.attachments.sort_by_key(|change| {
            !matches!(change, AttachmentChange::Port(_, None) | AttachmentChange::Network(_, None))
        });
        delta
    }

    fn role(&self, interface: &Uuid) -> Option<Role> {
        if !self.on_bridge(interface) {
            return None;
        }
        let port = self.ports.get(self.port_of.get(interface)?)?;
        Some(Role::of(self.interfaces.get(interface)?, port, &self.network_ports, self.ports_are_tagged))
    }

    fn unclaim(&mut self, port: &PortId, interface: &Uuid) {
        if let Some(claims) = self.claims.get_mut(port) {
            claims.remove(interface);
            if claims.is_empty() {
                self.claims.remove(port);
            }
        }
    }

    /// A port that two Interfaces claim is closed at both: which of them is the guest's, nobody can tell.
    fn settle_ports(&mut self, ports: BTreeSet<PortId>, delta: &mut HostDelta) {
        for id in ports {
            let claims = self.claims.get(&id);
            let spot = match claims.map(|claims| (claims.len(), claims.first())) {
                Some((1, Some(interface))) => match self.roles.get(interface) {
                    Some(Role::Local { ofport, vlan, mac, .. }) => {
                        Some(Spot { interface: *interface, ofport: *ofport, vlan: *vlan, mac: *mac })
                    }
                    Some(Role::Network { .. } | Role::Closed(_)) | None => None,
                },
                _ => None,
            };
            let before = match spot {
                Some(spot) => self.spots.insert(id.clone(), spot),
                None => self.spots.remove(&id),
            };
            if before != spot {
                delta.attachments.push(AttachmentChange::Port(id, spot));
            }
        }
    }

    fn settle_networks(&mut self, ofports: &BTreeSet<OfPort>, delta: &mut HostDelta) {
        let mut now: BTreeMap<OfPort, NetworkPort> = BTreeMap::new();
        if !ofports.is_empty() {
            for role in self.roles.values() {
                if let Role::Network { ofport, attachment } = role {
                    now.insert(*ofport, *attachment);
                }
            }
        }
        for ofport in ofports {
            let attachment = now.get(ofport).copied();
            let before = match attachment {
                Some(attachment) => self.networks.insert(*ofport, attachment),
                None => self.networks.remove(ofport),
            };
            if before != attachment {
                delta.attachments.push(AttachmentChange::Network(*ofport, attachment));
            }
        }
    }

    fn newly_closed(&mut self, interfaces: &BTreeSet<Uuid>) -> Vec<ClosedInterface> {
        let mut told = Vec::new();
        for interface in interfaces {
            let reason = match self.roles.get(interface) {
                Some(Role::Closed(reason)) => Some(reason.clone()),
                Some(Role::Local { port, .. }) => {
                    let others = self.claims.get(port).map_or(0, BTreeSet::len);
                    (others > 1).then(|| Closed::Duplicate { port: port.clone() })
                }
                Some(Role::Network { .. }) | None => None,
            };
            let before = match &reason {
                Some(reason) => self.told.insert(*interface, reason.clone()),
                None => self.told.remove(interface),
            };
            if let (Some(reason), Some(row)) = (reason, self.interfaces.get(interface)) {
                // Every bridge has a port of its own, by its name, and hardly any leads anywhere.
                let own = row.name == self.bridge_name && matches!(reason, Closed::Unknown { .. });
                if before.as_ref() != Some(&reason) && !own {
                    told.push(ClosedInterface::new(row, reason));
                }
            }
        }
        told
    }
}
