//! Ports of a host with hybrid bridges, by the devices that they have there.

use std::collections::{BTreeMap, BTreeSet};

use hybrid::Devices;
use ovsdb::Uuid;
use policy::PortId;

use super::rows::RowChange;
use super::view::HostView;

/// A port that came, went, or has other devices; none where it is closed for what it is.
pub type PlugChange = (PortId, Option<Devices>);

/// Which ports are plugged into the integration bridge by a hybrid bridge, whatever the switch makes of it: the filter stands before it.
#[derive(Debug)]
pub struct HybridPorts {
    view: HostView,
    /// The port and the name of interfaces that say they are a port's.
    claims: BTreeMap<Uuid, (PortId, String)>,
    by_port: BTreeMap<PortId, BTreeSet<Uuid>>,
    told: BTreeMap<PortId, Devices>,
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

    /// Whether the bridge is there.
    pub fn has_bridge(&self) -> bool {
        self.view.bridge().is_some()
    }

    /// Ports that are plugged in otherwise than by a hybrid bridge, and by what: nothing that stands on such bridges can filter them.
    pub fn elsewhere(&self) -> impl Iterator<Item = (&PortId, &str)> {
        let others = self.claims.values().filter(|(_, name)| Devices::of_interface(name).is_none());
        others.map(|(port, name)| (port, name.as_str()))
    }

    /// A port that has two of them is told of as the first: each of both is closed but for that.
    fn settle(&mut self, port: PortId) -> Option<PlugChange> {
        let interfaces = self.by_port.get(&port).into_iter().flatten();
        let devices = interfaces.filter_map(|interface| self.claims.get(interface));
        let devices = devices.filter_map(|(_, name)| Devices::of_interface(name)).min();
        let before = match devices.clone() {
            Some(devices) => self.told.insert(port.clone(), devices),
            None => self.told.remove(&port),
        };
        (before != devices).then_some((port, devices))
    }
}
