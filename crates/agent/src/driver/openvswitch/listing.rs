//! Ports and groups as the engine has them.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::RemoteKey;
use policy::{GroupId, PortId};

use super::super::listing;
use super::OpenvSwitch;
use crate::api::{GroupEntry, GroupKind, GroupPage, PortEntry, PortPage, PortState, Question};
use crate::engine::{Engine, PortStanding};
use crate::host::{ClosedInterface, Spot};

impl OpenvSwitch {
    /// Costs what there are local ports.
    pub(super) fn port_page(&self, question: &Question<PortPage>) -> PortPage {
        let engine = &self.engine;
        let closed: BTreeMap<PortId, ClosedInterface> =
            engine.closed().into_iter().filter_map(|closed| Some((closed.port.clone()?, closed))).collect();
        let ids: BTreeSet<&PortId> = engine.spots().map(|(port, _)| port).chain(closed.keys()).collect();
        let all = ids.into_iter().map(|id| match engine.spot(id) {
            Some(spot) => at_spot(engine, id, &spot),
            None => closed_port(engine, id, closed.get(id)),
        });
        let is_it = |port: &PortEntry, name: &str| port.interface.as_deref() == Some(name);
        let mut page = listing::ports(&question.query, all, is_it);
        for port in &mut page.ports {
            port.refused = question.refused.get(&format!("port {}", port.id)).cloned();
        }
        page
    }

    /// Costs what there are local ports, and groups in the page.
    pub(super) fn group_page(&self, question: &Question<GroupPage>) -> GroupPage {
        let engine = &self.engine;
        let policy = engine.policy();
        let mut carriers: BTreeMap<&GroupId, Vec<String>> = BTreeMap::new();
        for (id, _) in engine.spots() {
            let port = policy.ports.get(id).filter(|port| !port.is_trusted());
            for group in port.iter().flat_map(|port| &port.security_groups) {
                carriers.entry(group).or_default().push(id.to_string());
            }
        }
        listing::groups(&question.query, &policy.groups, &policy.address_groups, |entry| {
            let group = GroupId::from(entry.id.as_str());
            entry.take_refused(&question.refused);
            let key = match entry.kind {
                GroupKind::AddressGroup => RemoteKey::AddressGroup(entry.id.as_str().into()),
                GroupKind::SecurityGroup => {
                    entry.local_ports = carriers.get(&group).cloned().unwrap_or_default();
                    for (rule, reason) in engine.refused_rules(&group) {
                        let object = format!("rule {rule} of security group {group}");
                        entry.refused.insert(object, reason.to_owned());
                    }
                    RemoteKey::Group(group)
                }
            };
            take_remote(engine, entry, &key);
        })
    }
}

fn at_spot(engine: &Engine, id: &PortId, spot: &Spot) -> PortEntry {
    let (state, set, reason) = match engine.standing(id) {
        PortStanding::Filtered(set) => (PortState::Filtered, Some(set.0), None),
        PortStanding::Trusted => (PortState::Trusted, None, None),
        PortStanding::Closed(reason) => (PortState::Closed, None, Some(reason.to_owned())),
        PortStanding::Refused => {
            (PortState::Refused, None, Some("the switch refuses a flow of it".to_owned()))
        }
        PortStanding::Pending => {
            let waiting = engine.waiting().map(|waiting| format!("waiting for {waiting}"));
            let reason = waiting.unwrap_or_else(|| "the bridge has not been read yet".to_owned());
            (PortState::Pending, None, Some(reason))
        }
    };
    let mut entry = PortEntry {
        interface: engine.interface_name(spot).map(str::to_owned),
        ofport: Some(spot.ofport.0),
        vlan: Some(spot.vlan.0),
        zone: engine.zone(spot).map(|zone| zone.0),
        set,
        reason,
        ..PortEntry::new(id.as_str(), state)
    };
    if let Some(port) = engine.policy().ports.get(id) {
        entry.take_policy(port);
    }
    entry
}

fn closed_port(engine: &Engine, id: &PortId, closed: Option<&ClosedInterface>) -> PortEntry {
    let mut entry = PortEntry {
        interface: closed.map(|closed| closed.interface.clone()),
        reason: closed.map(|closed| closed.reason.to_string()),
        ..PortEntry::new(id.as_str(), PortState::Closed)
    };
    if let Some(port) = engine.policy().ports.get(id) {
        entry.take_policy(port);
    }
    entry
}

fn take_remote(engine: &Engine, entry: &mut GroupEntry, key: &RemoteKey) {
    let Some(remote) = engine.remote(key) else { return };
    [entry.members_ipv4, entry.members_ipv6] = remote.members.map(Some);
    entry.conjunction_id = remote.id.map(|id| id.0);
    entry.remote_of_sets = remote.sets.iter().map(|set| set.0).collect();
}
