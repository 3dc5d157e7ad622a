//! Ports of the bridge.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::layout;
use policy::{Member, Policy, Port, PortId};
use rust_openflow::{Field, Flow};

use super::short;
use crate::decode::look::{loads, onwards, outputs, small};
use crate::decode::words;

/// What is known of a port of the bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortName {
    /// Its id, as Neutron has it.
    pub id: Option<String>,
    /// The name of its interface.
    pub interface: Option<String>,
    /// The MACs that it may send with.
    pub macs: BTreeSet<String>,
    /// The addresses that it may send from.
    pub addresses: BTreeSet<String>,
    /// VLAN of its network on this bridge.
    pub vlan: Option<u16>,
    /// Its set of groups, of our flows.
    pub set: Option<u32>,
    /// Its conntrack zone, of our flows.
    pub zone: Option<u16>,
    /// Its security groups, where a policy tells them.
    pub groups: BTreeSet<String>,
    /// Whether nothing is filtered.
    pub is_trusted: bool,
    /// Whether it leads to other hosts.
    pub leads_to_network: bool,
    /// Whether the number that it goes by was made up by whoever read the dump.
    pub has_no_number: bool,
}

impl PortName {
    /// By what people call it: its id, unless that is a UUID and the interface is known; its interface; its address; or
    /// what it is for. `None` where nothing is known.
    #[must_use]
    pub fn label(&self, ofport: u16) -> Option<String> {
        let id = self.id.as_deref();
        let plain = id.filter(|id| short(id) == *id);
        let named = plain.or(self.interface.as_deref()).or(id.map(short));
        if let Some(named) = named {
            return Some(named.to_owned());
        }
        let known = self.macs.first().map(|mac| format!("port {ofport} ({mac})"));
        let role = match (self.leads_to_network, self.is_trusted) {
            (true, _) => Some(format!("network port {ofport}")),
            (_, true) => Some(format!("trusted port {ofport}")),
            _ => None,
        };
        known.or(role)
    }

    /// Finds the port in a policy: by its id, by an interface that Neutron named after it, or by its MAC.
    pub(super) fn recognise(&mut self, policy: Option<&Policy>) {
        let Some(policy) = policy else { return };
        let known = match &self.id {
            Some(id) => policy.ports.get(&PortId::from(id.as_str())),
            None => only(policy.ports.values().filter(|port| self.is_named_after(port)))
                .or_else(|| only(policy.ports.values().filter(|port| self.has_its_address(port)))),
        };
        if let Some(port) = known {
            self.id = Some(port.id.to_string());
            self.groups = port.security_groups.iter().map(ToString::to_string).collect();
            self.is_trusted |= port.is_trusted();
        }
    }

    /// Interfaces are `tap`, `qvo` or `vhu` and eleven letters of the id (nova/network/model.py: `NIC_NAME_LEN` is 14).
    fn is_named_after(&self, port: &Port) -> bool {
        let tail = self.interface.as_deref().and_then(|name| name.get(3..));
        tail.is_some_and(|tail| tail.len() == 11 && port.id.as_str().starts_with(tail))
    }

    fn has_its_address(&self, port: &Port) -> bool {
        let nets = Member::of(port);
        self.macs.contains(&port.mac.to_string())
            && (self.addresses.is_empty()
                || nets.iter().any(|member| self.addresses.contains(&member.net.addr().to_string())))
    }
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// What flows of Neutron's own driver tell of ports: `reg5` is the port, `reg6` its VLAN.
pub(super) fn learn_from_neutron(ports: &mut BTreeMap<u16, PortName>, flow: &Flow) {
    let register = |field| loads(&flow.actions, field).and_then(|value| u16::try_from(value).ok());
    let from = small(&flow.matches, Field::InPort);
    let loaded = register(layout::register::OFPORT);
    match (flow.table, from, loaded) {
        (0, Some(ofport), _) => {
            let port = ports.entry(ofport).or_default();
            // Anti-spoofing of its own tables is for ports of guests; VLANs are changed for the network.
            port.leads_to_network |= flow.priority == 3 || flow.actions.is_empty();
        }
        (60, Some(ofport), Some(_)) => {
            let port = ports.entry(ofport).or_default();
            port.vlan = register(layout::register::VLAN);
            port.is_trusted |= onwards(&flow.actions).contains(&73);
        }
        (60 | 73, None, Some(ofport)) => {
            ports.entry(ofport).or_default().macs.extend(words::mac(&flow.matches, Field::EthDst));
        }
        (71, Some(ofport), _) => {
            let port = ports.entry(ofport).or_default();
            port.macs.extend(words::mac(&flow.matches, Field::EthSrc));
            port.addresses.extend(words::source(&flow.matches).filter(|address| address != "0.0.0.0"));
        }
        // Of `explicitly_egress_direct`.
        (94, None, _) if flow.priority == 12 => {
            for ofport in outputs(&flow.actions) {
                ports.entry(ofport).or_default().macs.extend(words::mac(&flow.matches, Field::EthDst));
            }
        }
        (94, None, _) if flow.priority == 10 => {
            for ofport in outputs(&flow.actions) {
                ports.entry(ofport).or_default().leads_to_network = true;
            }
        }
        _ => {}
    }
}
