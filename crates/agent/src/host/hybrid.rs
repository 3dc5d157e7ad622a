//! Ports of a host with hybrid bridges, by the devices that they have there.

use std::collections::{BTreeMap, BTreeSet};

use hybrid::Devices;
use ovsdb::Uuid;
use pipeline::OfPort;
use policy::PortId;

use super::rows::RowChange;
use super::view::HostView;

/// How a port is plugged into the integration bridge.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plugging {
    /// By these of a hybrid bridge; none if by no such bridge.
    pub devices: Option<Devices>,
    /// By this interface, which is on no hybrid bridge: nothing that stands on such bridges can filter it.
    pub elsewhere: Option<String>,
}

impl Plugging {
    /// Not at all.
    fn is_none(&self) -> bool {
        *self == Plugging::default()
    }
}

/// How the integration bridge has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSight {
    /// The port.
    pub port: PortId,
    /// Its interface.
    pub interface: Option<String>,
    /// The number of that, when the switch has opened it.
    pub ofport: Option<OfPort>,
    /// The VLAN of its network there; 0 where it has none.
    pub vlan: Option<u16>,
}

/// A port that came, went, or is plugged in otherwise than before.
pub type PlugChange = (PortId, Plugging);

/// Which ports are plugged into the integration bridge by a hybrid bridge, whatever the switch makes of it: the filter stands before it.
#[derive(Debug)]
pub struct HybridPorts {
    view: HostView,
    /// The port and the name of interfaces that say they are a port's.
    claims: BTreeMap<Uuid, (PortId, String)>,
    by_port: BTreeMap<PortId, BTreeSet<Uuid>>,
    told: BTreeMap<PortId, Plugging>,
}

impl HybridPorts {
    /// Of the bridge with this view; nothing is known yet.
    pub fn new(view: HostView) -> Self {
        HybridPorts { view, claims: BTreeMap::new(), by_port: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Takes the rows of a transaction over, and says what they come to.
    pub fn change(&mut self, rows: Vec<RowChange>) -> Vec<PlugChange> {
        for row in rows {
            self.view.change(row);
        }
        let mut ports = BTreeSet::new();
        for interface in self.view.take_touched() {
            let row = self.view.interface(&interface).filter(|_| self.view.on_bridge(&interface));
            let claim = row.and_then(|row| Some((row.iface_id.clone()?, row.name.clone())));
            let before = match claim.clone() {
                Some(claim) => self.claims.insert(interface, claim),
                None => self.claims.remove(&interface),
            };
            if let Some((port, _)) = &before
                && let Some(interfaces) = self.by_port.get_mut(port)
            {
                interfaces.remove(&interface);
                if interfaces.is_empty() {
                    self.by_port.remove(port);
                }
            }
            if let Some((port, _)) = &claim {
                self.by_port.entry(port.clone()).or_default().insert(interface);
            }
            ports.extend(before.into_iter().chain(claim).map(|(port, _)| port));
        }
        ports.into_iter().filter_map(|port| self.settle(port)).collect()
    }

    /// Whether an interface of the bridge says that it is this port.
    pub fn is_plugged(&self, port: &PortId) -> bool {
        self.told.contains_key(port)
    }

    /// All of these.
    pub fn plugged(&self) -> impl Iterator<Item = &PortId> {
        self.told.keys()
    }

    /// All of these, as the integration bridge has them: each by the interface that it is told of by.
    pub fn sights(&self) -> impl Iterator<Item = PortSight> {
        self.told.iter().map(|(port, plugging)| {
            let devices = plugging.devices.as_ref().map(Devices::outer);
            let name = devices.or_else(|| plugging.elsewhere.clone());
            let claimed = self.by_port.get(port).into_iter().flatten();
            let id = claimed.copied().find(|id| self.claims.get(id).map(|(_, of)| of) == name.as_ref());
            let ofport = id.and_then(|id| self.view.interface(&id)?.ofport);
            let vlan = id.and_then(|id| self.view.tag(&id));
            PortSight { port: port.clone(), interface: name, ofport, vlan }
        })
    }

    /// Whether the bridge is there.
    pub fn has_bridge(&self) -> bool {
        self.view.bridge().is_some()
    }

    /// A port that has two interfaces of a kind is told of by the first of them.
    fn settle(&mut self, port: PortId) -> Option<PlugChange> {
        let mut now = Plugging::default();
        let interfaces = self.by_port.get(&port).into_iter().flatten();
        for (_, name) in interfaces.filter_map(|interface| self.claims.get(interface)) {
            match Devices::of_interface(name) {
                Some(devices) => now.devices = now.devices.into_iter().chain([devices]).min(),
                None => now.elsewhere = now.elsewhere.into_iter().chain([name.clone()]).min(),
            }
        }
        let before = match now.is_none() {
            false => self.told.insert(port.clone(), now.clone()),
            true => self.told.remove(&port),
        };
        (before.unwrap_or_default() != now).then_some((port, now))
    }
}
