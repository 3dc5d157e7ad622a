//! What the database would have said, written down: the bindings of `sgflow render` and of the tests.
//!
//! A list, in JSON or YAML. An entry with a `port_id` is a local port, one with `uplink: true` leads to the network:
//!
//! ```yaml
//! - {port_id: p-1, interface: tap1, ofport: 1, tag: 10}
//! - {interface: eth1, ofport: 100, uplink: true}          # a trunk; with a tag, that network only
//! ```

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{NetworkPort, OfPort, Vlan, Zone};
use policy::PortId;
use serde::Deserialize;
use thiserror::Error;

use crate::host::FIRST_ZONE;

/// What is plugged into a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bindings {
    /// Local ports, in the order of their ids.
    pub locals: Vec<LocalBinding>,
    /// Ports to the network, in the order of their OpenFlow ports.
    pub uplinks: Vec<Uplink>,
}

/// A local port's plug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalBinding {
    /// Whose it is.
    pub port: PortId,
    /// Name of the interface.
    pub interface: String,
    /// Its OpenFlow port.
    pub ofport: OfPort,
    /// Its network on the bridge.
    pub vlan: Vlan,
    /// Its conntrack zone: as given, else numbered from [`FIRST_ZONE`] in the order of the port ids.
    pub zone: Zone,
}

/// A plug that leads to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name of the interface.
    pub interface: String,
    /// Its OpenFlow port.
    pub ofport: OfPort,
    /// Which VLANs it carries, and how.
    pub attachment: NetworkPort,
}

/// Bindings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BindingsError {
    /// No list of bindings; the reason names the line.
    #[error("bindings: {0}")]
    Syntax(String),
    /// Entries that make no sense, all of them.
    #[error("bindings: {}", .0.join("\nbindings: "))]
    Entries(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    port_id: Option<String>,
    interface: String,
    ofport: u16,
    tag: Option<u16>,
    #[serde(default)]
    uplink: bool,
    zone: Option<u16>,
}

impl Bindings {
    /// Reads a list of bindings. Every entry that makes no sense is named in the error.
    pub fn parse(text: &str) -> Result<Self, BindingsError> {
        let entries: Vec<Entry> =
            serde_saphyr::from_str(text).map_err(|error| BindingsError::Syntax(error.to_string()))?;
        let problems = check(&entries);
        if !problems.is_empty() {
            return Err(BindingsError::Entries(problems));
        }
        Ok(Self::from_entries(entries))
    }

    fn from_entries(entries: Vec<Entry>) -> Self {
        let given: BTreeSet<u16> = entries.iter().filter_map(|entry| entry.zone).collect();
        let mut free = (FIRST_ZONE..=u16::MAX).filter(|zone| !given.contains(zone));
        let mut locals = BTreeMap::new();
        let mut uplinks = BTreeMap::new();
        for entry in entries {
            match entry.port_id {
                Some(port) => _ = locals.insert(port, (entry.interface, entry.ofport, entry.tag, entry.zone)),
                None => _ = uplinks.insert(entry.ofport, (entry.interface, entry.tag)),
            }
        }
        let locals = locals.into_iter().filter_map(|(port, (interface, ofport, tag, zone))| {
            let zone = Zone(zone.or_else(|| free.next())?);
            let vlan = Vlan(tag.unwrap_or(0));
            Some(LocalBinding { port: port.into(), interface, ofport: OfPort(ofport), vlan, zone })
        });
        let uplinks = uplinks.into_iter().map(|(ofport, (interface, tag))| {
            let attachment = tag.map_or(NetworkPort::Trunk, |tag| NetworkPort::Access(Vlan(tag)));
            Uplink { interface, ofport: OfPort(ofport), attachment }
        });
        Bindings { locals: locals.collect(), uplinks: uplinks.collect() }
    }
}

/// Everything that is wrong with single entries and between them.
fn check(entries: &[Entry]) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut ports, mut ofports, mut zones) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for Entry { port_id, interface, ofport, tag, uplink, zone } in entries {
        let mut problem = |field: &str, reason: String| {
            problems.push(format!("interface {interface}: {field}: {reason}"));
        };
        match (port_id, uplink) {
            (Some(_), true) => problem("uplink", "a port of the policy is no uplink".into()),
            (None, false) => {
                problem("port_id", "missing; only an entry with uplink: true goes without".into())
            }
            _ => {}
        }
        if *ofport == 0 {
            problem("ofport", "0 is no port".into());
        }
        if tag.is_some_and(|tag| tag > 4094) {
            problem("tag", "no VLAN (0 to 4094)".into());
        }
        if port_id.as_ref().is_some_and(|port| !ports.insert(port)) {
            problem("port_id", "given twice".into());
        }
        if !ofports.insert(ofport) {
            problem("ofport", format!("{ofport} is given twice"));
        }
        if zone.is_some_and(|zone| !zones.insert(zone)) {
            problem("zone", "given twice".into());
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_are_read_alike() {
        let json = r#"[{"port_id": "p-2", "interface": "tap2", "ofport": 2, "tag": 10},
                       {"port_id": "p-1", "interface": "tap1", "ofport": 1},
                       {"interface": "eth1", "ofport": 100, "uplink": true},
                       {"interface": "eth2", "ofport": 101, "uplink": true, "tag": 7},
                       {"port_id": "p-3", "interface": "tap3", "ofport": 3, "zone": 4097}]"#;
        let yaml = "- {port_id: p-1, interface: tap1, ofport: 1}\n- {port_id: p-2, interface: tap2, ofport: 2, tag: 10}\n\
                    - {port_id: p-3, interface: tap3, ofport: 3, zone: 4097}\n\
                    - {interface: eth1, ofport: 100, uplink: true}\n- {interface: eth2, ofport: 101, uplink: true, tag: 7}\n";
        let bindings = Bindings::parse(json).unwrap();
        assert_eq!(Bindings::parse(yaml).unwrap(), bindings);
        let zones: Vec<_> = bindings.locals.iter().map(|b| (b.port.as_str(), b.vlan.0, b.zone.0)).collect();
        assert_eq!(zones, [("p-1", 0, 4098), ("p-2", 10, 4099), ("p-3", 0, 4097)]);
        let uplinks: Vec<_> = bindings.uplinks.iter().map(|u| (u.ofport.0, u.attachment)).collect();
        assert_eq!(uplinks, [(100, NetworkPort::Trunk), (101, NetworkPort::Access(Vlan(7)))]);
    }

    #[test]
    fn every_bad_entry_is_named() {
        let error = Bindings::parse(
            "- {interface: a, ofport: 0}\n- {interface: b, ofport: 1, tag: 4095, uplink: true}\n\
             - {interface: c, ofport: 1, port_id: p}\n- {interface: d, ofport: 2, port_id: p}\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "bindings: interface a: port_id: missing; only an entry with uplink: true goes without\n\
             bindings: interface a: ofport: 0 is no port\n\
             bindings: interface b: tag: no VLAN (0 to 4094)\n\
             bindings: interface c: ofport: 1 is given twice\n\
             bindings: interface d: port_id: given twice"
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let error =
            Bindings::parse("- {interface: a, ofport: 1, port_id: p, vlan: 7}").unwrap_err().to_string();
        assert!(error.contains("vlan"), "{error}");
    }
}
