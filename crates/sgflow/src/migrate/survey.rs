//! How the ports of this host are plugged in, as the database, the devices and the kernel's rules say: there is no other record of a move, so that one
//! that broke off is seen for what it is.

use std::collections::{BTreeMap, BTreeSet};

use agent::config::Config;
use agent::driver::{InForce, in_force};
use hybrid::Devices;
use policy::{Policy, PortId};

use super::database::{self, Bridge, Plugged};
use super::links::{self, Links};
use crate::options::hybrid_setup;

/// By which device a port is plugged into the integration bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// `qvo…`: through its own bridge.
    Hybrid,
    /// `tap…`: the guest's device itself.
    Switch,
    /// Both, so that it is closed at both.
    Both,
}

/// A port with devices as the hybrid bridge has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) port: PortId,
    pub(super) devices: Devices,
    pub(super) place: Place,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) bridge: Bridge,
    pub(super) links: Links,
    pub(super) in_force: InForce,
    pub(super) ports: Vec<Found>,
}

impl Survey {
    /// Looks.
    ///
    /// # Errors
    /// The database, the kernel or ip(8) does not answer.
    pub(super) async fn take(config: &Config) -> anyhow::Result<Self> {
        let bridge = database::read(config).await?;
        let links = links::read()?;
        let in_force = in_force(&hybrid_setup(config))?;
        let ports = ports(&bridge.plugged);
        Ok(Survey { bridge, links, in_force, ports })
    }

    /// The interface of this name, if it is a port's.
    pub(super) fn plugged(&self, name: &str) -> Option<&Plugged> {
        self.bridge.plugged.iter().find(|plugged| plugged.name == name)
    }

    /// Ports that are filtered on bridges of their own, for the drivers that do that.
    pub(super) fn hybrid(&self) -> BTreeMap<PortId, Devices> {
        let hybrid = self.ports.iter().filter(|found| found.place != Place::Switch);
        hybrid.map(|found| (found.port.clone(), found.devices.clone())).collect()
    }

    /// What is left of a port's own bridge, or of its rules, although it is plugged in by the guest's device.
    pub(super) fn has_leftovers(&self, found: &Found) -> bool {
        let Found { devices, .. } = found;
        let plumbing = [devices.bridge(), devices.inner(), devices.outer()];
        plumbing.iter().any(|device| self.links.contains_key(device))
            || self.in_force.zones.contains_key(devices.end())
    }

    /// The guest's device is not where its port is plugged in, or down.
    pub(super) fn is_astray(&self, found: &Found) -> bool {
        let Some(tap) = self.links.get(&found.devices.tap()) else { return false };
        let master = (found.place == Place::Hybrid).then(|| found.devices.bridge());
        found.place == Place::Both || !tap.is_up || master.is_some() && tap.master != master
    }

    /// The guest was behind a bridge of its own, or is.
    pub(super) fn was_hybrid(&self, found: &Found) -> bool {
        let by = self.plugged(&found.devices.tap());
        found.place != Place::Switch || by.is_some_and(|plugged| plugged.was_hybrid)
    }

    /// Devices of bridges of ports that are not plugged in at all, and whose guest is gone.
    pub(super) fn strays(&self) -> Vec<Devices> {
        let ends: BTreeSet<&str> = self
            .links
            .keys()
            .filter_map(|name| ["qbr", "qvb", "qvo"].iter().find_map(|begin| name.strip_prefix(begin)))
            .collect();
        let devices = ends.into_iter().filter_map(|end| Devices::of_interface(&format!("qvo{end}")));
        devices.filter(|devices| self.is_stray(devices)).collect()
    }

    fn is_stray(&self, devices: &Devices) -> bool {
        let is_used = self.ports.iter().any(|found| found.devices == *devices)
            || self.links.contains_key(&devices.tap())
            || self.bridge.interfaces.contains_key(&devices.outer());
        // What is called so and is no bridge was made by somebody else.
        let is_ours = self.links.get(&devices.bridge()).is_none_or(|bridge| bridge.is_bridge);
        !is_used && is_ours && self.others_on_bridge(devices).is_empty()
    }

    /// What stands on a port's bridge besides the two devices that belong there.
    fn others_on_bridge(&self, devices: &Devices) -> Vec<&str> {
        let (bridge, own) = (devices.bridge(), [devices.tap(), devices.inner()]);
        let on_bridge = self.links.iter().filter(|(_, link)| link.master.as_ref() == Some(&bridge));
        on_bridge.map(|(name, _)| name.as_str()).filter(|name| !own.iter().any(|own| own == name)).collect()
    }

    /// Why a port cannot be moved to the switch, or back.
    pub(super) fn obstacles(&self, found: &Found, policy: &Policy, back: bool) -> Vec<String> {
        let Found { port, devices, .. } = found;
        let mut obstacles = Vec::new();
        let mut obstacle = |is_so: bool, text: String| {
            if is_so {
                obstacles.push(text);
            }
        };
        let (tap, bridge) = (devices.tap(), devices.bridge());
        let link = self.links.get(&tap);
        obstacle(!policy.ports.contains_key(port), "no policy knows it: it would be closed".to_owned());
        let is_off = link.is_none();
        obstacle(
            is_off,
            format!(
                "device {tap} is not there: its guest does not run, and is plugged in by its binding when it does"
            ),
        );
        let master = link.and_then(|link| link.master.as_deref()).filter(|master| *master != bridge);
        // A device that the kernel's switch has taken has its datapath for a master.
        let master = master.filter(|master| !(found.place != Place::Hybrid && master.starts_with("ovs-")));
        obstacle(master.is_some(), format!("device {tap} is on {}", master.unwrap_or_default()));
        if let Some(false) = self.bridge.interfaces.get(&tap) {
            obstacle(true, format!("device {tap} is plugged into another bridge of the switch"));
        }
        let others = self.others_on_bridge(devices);
        obstacle(!others.is_empty(), format!("on {bridge} there is something else: {}", others.join(", ")));
        if let Some(link) = self.links.get(&bridge) {
            obstacle(!link.is_bridge, format!("device {bridge} is no bridge"));
        } else {
            let is_needed = !back && found.place == Place::Hybrid;
            obstacle(is_needed, format!("bridge {bridge} is not there"));
        }
        obstacles
    }

    /// Why no port can be moved.
    pub(super) fn obstacles_for_all(&self, config: &Config) -> Vec<String> {
        let mut obstacles = Vec::new();
        let name = &config.integration_bridge;
        if !self.bridge.is_secure {
            obstacles
                .push(format!("{name}: fail_mode is not secure: a port would be open before it is filtered"));
        }
        // One table of connections for both: a zone is to be one port's.
        let of_switch: BTreeSet<u16> =
            self.bridge.plugged.iter().filter_map(|plugged| plugged.zone).collect();
        let shared = self.in_force.zones.iter().find(|(_, zone)| of_switch.contains(zone));
        if let Some((end, zone)) = shared.filter(|_| self.bridge.datapath == "system") {
            obstacles.push(format!(
                "the rules for tap{end} and the switch use the same conntrack zone {zone}: start sgflow agent with \
                 iptables_hybrid once more, which gives others out"
            ));
        }
        obstacles
    }
}

fn ports(plugged: &[Plugged]) -> Vec<Found> {
    let mut ports: BTreeMap<(PortId, Devices), Place> = BTreeMap::new();
    for Plugged { port, name, .. } in plugged.iter().filter(|plugged| plugged.is_device) {
        let of_tap = || Devices::of_interface(&format!("qvo{}", name.strip_prefix("tap")?));
        let (devices, place) = match (Devices::of_interface(name), of_tap()) {
            (Some(devices), _) => (devices, Place::Hybrid),
            (None, Some(devices)) => (devices, Place::Switch),
            (None, None) => continue,
        };
        let both = ports.get(&(port.clone(), devices.clone())).map_or(place, |_| Place::Both);
        ports.insert((port.clone(), devices), both);
    }
    let found = |((port, devices), place)| Found { port, devices, place };
    ports.into_iter().map(found).collect()
}
