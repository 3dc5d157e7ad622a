//! What the numbers in flows stand for: read from the flows themselves, and from whatever else is at hand.

mod conjunction;
mod port;

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Name, is_ours, layout};
use policy::{Direction, Policy};
use rust_openflow::{Action, Field, Flow};

pub use conjunction::Conjunction;
pub use port::PortName;

use super::dump::NamedPort;
use super::look::{all, clauses, loads, number, outputs, small};
use super::words;

/// An interface of the bridge, as the database says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its OpenFlow port number.
    pub ofport: u16,
    /// Its name.
    pub name: String,
    /// `external_ids:iface-id`: whose it is.
    pub port_id: Option<String>,
}

/// What is known beside the flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// Names of groups, rules and addresses.
    pub policy: Option<&'a Policy>,
    /// The interfaces of the bridge, where the switch can be asked.
    pub interfaces: &'a [Interface],
    /// The interfaces that a dump names.
    pub named: Option<&'a BTreeMap<u16, NamedPort>>,
}

/// An exact set of security groups (`reg7`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetName {
    /// Ids of its groups.
    pub groups: Vec<String>,
    /// Those of them that are stateless.
    pub stateless: Vec<String>,
}

/// A group as the other end of rules (`conj_id`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RemoteName {
    /// Whether it is an address group.
    pub is_address_group: bool,
    /// Its id.
    pub group: String,
}

/// What a generation is stamped by, or was found to be in force for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GenerationName {
    /// Directions and sets whose commit flow stamps it.
    pub stamps: BTreeSet<(Direction, u32)>,
    /// Sets whose connections it lets go on.
    pub in_force: BTreeSet<u32>,
}

/// What the numbers in a bridge's flows stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Ports by OpenFlow number.
    pub ports: BTreeMap<u16, PortName>,
    /// Sets by `reg7`, of our flows.
    pub sets: BTreeMap<u32, SetName>,
    /// Remotes by `conj_id`, of our flows.
    pub remotes: BTreeMap<u32, RemoteName>,
    /// Generations by `ct_mark`, of our flows.
    pub generations: BTreeMap<u32, GenerationName>,
    /// Conjunctions of Neutron's own driver, by the first of their eight ids.
    pub conjunctions: BTreeMap<u32, Conjunction>,
    /// Remotes that rules of a set refer to, by direction; of our flows.
    pub(super) references: BTreeMap<(Direction, u32), BTreeSet<u32>>,
    /// Security groups and address groups by id: their names, if they have other ones.
    titles: BTreeMap<String, String>,
}

impl Names {
    /// Reads flows of one bridge.
    #[must_use]
    pub fn read<'a>(flows: impl Iterator<Item = &'a Flow> + Clone, sources: Sources<'_>) -> Self {
        let mut names = Names { titles: titles(sources.policy), ..Names::default() };
        for (number, named) in sources.named.into_iter().flatten() {
            let port = names.ports.entry(*number).or_default();
            port.interface = Some(named.name.clone());
            port.has_no_number = !named.has_number;
        }
        for interface in sources.interfaces {
            let port = names.ports.entry(interface.ofport).or_default();
            port.interface = Some(interface.name.clone());
            port.id.clone_from(&interface.port_id);
        }
        for flow in flows.clone() {
            names.learn(flow);
        }
        for port in names.ports.values_mut() {
            port.recognise(sources.policy);
        }
        if let Some(policy) = sources.policy {
            for conjunction in names.conjunctions.values_mut() {
                conjunction.recognise(policy);
            }
        }
        names
    }

    fn learn(&mut self, flow: &Flow) {
        match Name::of(flow) {
            Some(Name::Set(id, groups, stateless)) => {
                let texts = |groups: Vec<policy::GroupId>| groups.into_iter().map(String::from).collect();
                self.sets.insert(id.0, SetName { groups: texts(groups), stateless: texts(stateless) });
            }
            Some(Name::Group(id, group)) => {
                self.remotes.insert(id.0, RemoteName { is_address_group: false, group: group.into() });
            }
            Some(Name::AddressGroup(id, group)) => {
                self.remotes.insert(id.0, RemoteName { is_address_group: true, group: group.into() });
            }
            Some(Name::Port(ofport, port)) => {
                self.ports.entry(ofport.0).or_default().id = Some(port.into());
            }
            None => self.learn_from_rest(flow),
        }
    }

    fn learn_from_rest(&mut self, flow: &Flow) {
        match flow.table {
            layout::classify::TABLE => self.learn_sender(flow),
            layout::egress_base::TABLE | layout::egress_source::TABLE => self.learn_address(flow),
            layout::deliver::TABLE => self.learn_receiver(flow),
            layout::network::TABLE | layout::trunk::TABLE => self.learn_ways_out(flow),
            layout::transient::TABLE | 0 | 71 | 73 | 81 | 82 | 72 | 94 if !is_ours(flow.cookie) => {
                port::learn_from_neutron(&mut self.ports, flow);
                conjunction::learn(&mut self.conjunctions, flow);
            }
            _ => self.learn_generation(flow),
        }
        self.learn_reference(flow);
    }

    /// Table `classify`: who sends by which port of the bridge.
    fn learn_sender(&mut self, flow: &Flow) {
        let Some(ofport) = small(&flow.matches, Field::InPort) else { return };
        let register = |field| loads(&flow.actions, field).and_then(|value| u16::try_from(value).ok());
        let port = self.ports.entry(ofport).or_default();
        port.vlan = register(layout::register::VLAN).or(port.vlan);
        port.zone = register(layout::register::ZONE);
        port.set = loads(&flow.actions, layout::register::SET).and_then(|set| u32::try_from(set).ok());
        // Of ports to the network alone the tag is looked at.
        let is_to_network = flow.matches.get(Field::VlanTci).is_some();
        port.leads_to_network |= is_to_network;
        port.is_trusted |= !is_to_network && port.zone.is_none();
    }

    fn learn_address(&mut self, flow: &Flow) {
        let Some(ofport) = small(&flow.matches, Field::InPort) else { return };
        let port = self.ports.entry(ofport).or_default();
        port.macs.extend(words::mac(&flow.matches, Field::EthSrc));
        if flow.priority == layout::egress_source::PAIR {
            port.addresses.extend(words::source(&flow.matches).filter(|address| address != "0.0.0.0"));
        }
    }

    /// Table `deliver`: a MAC, and the ports that it is at.
    fn learn_receiver(&mut self, flow: &Flow) {
        let Some(mac) = words::mac(&flow.matches, Field::EthDst) else { return };
        for ofport in outputs(&flow.actions) {
            let port = self.ports.entry(ofport).or_default();
            port.macs.insert(mac.clone());
            port.is_trusted = true;
        }
    }

    fn learn_ways_out(&mut self, flow: &Flow) {
        let is_trunk = flow.table == layout::trunk::TABLE;
        for ofport in outputs(&flow.actions) {
            let port = self.ports.entry(ofport).or_default();
            port.leads_to_network |= is_trunk;
            port.is_trusted |= !is_trunk;
        }
    }

    fn learn_generation(&mut self, flow: &Flow) {
        let Some(set) = number(&flow.matches, layout::register::SET) else { return };
        let Some(direction) = direction_of(flow.table) else { return };
        let is_commit = [layout::egress_commit::TABLE, layout::ingress_commit::TABLE].contains(&flow.table);
        if is_commit && let Some(mark) = stamp(&flow.actions) {
            self.generations.entry(mark).or_default().stamps.insert((direction, set));
        }
        let is_state = [layout::egress_state::TABLE, layout::ingress_state::TABLE].contains(&flow.table);
        if is_state && let Some(mark) = number(&flow.matches, Field::CtMark) {
            self.generations.entry(mark).or_default().in_force.insert(set);
        }
    }

    fn learn_reference(&mut self, flow: &Flow) {
        let (Some(set), Some(direction)) =
            (number(&flow.matches, layout::register::SET), direction_of(flow.table))
        else {
            return;
        };
        let remotes = clauses(&flow.actions).into_iter().map(|(id, _)| id);
        self.references.entry((direction, set)).or_default().extend(remotes);
    }

    /// A group by its name, if that is known, and else by its id, which is cut where it is a UUID.
    #[must_use]
    pub fn group(&self, id: &str) -> String {
        self.titles.get(id).cloned().unwrap_or_else(|| short(id).to_owned())
    }

    /// `set 3 (database, ssh)`; `None` where nothing says what the set is.
    #[must_use]
    pub fn set(&self, set: u32) -> Option<String> {
        let name = self.sets.get(&set)?;
        let groups: Vec<String> = name
            .groups
            .iter()
            .map(|group| match name.stateless.contains(group) {
                true => format!("{} stateless", self.group(group)),
                false => self.group(group),
            })
            .collect();
        Some(format!(
            "set {set} ({})",
            if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") }
        ))
    }

    /// `remote 2 (web)`; `None` where nothing says what the remote is.
    #[must_use]
    pub fn remote(&self, remote: u32) -> Option<String> {
        self.remotes.get(&remote).map(|name| format!("remote {remote} ({})", self.group(&name.group)))
    }

    /// `web-1`, or what else the port is known by; `None` where nothing is known of it.
    #[must_use]
    pub fn port(&self, ofport: u16) -> Option<String> {
        self.ports.get(&ofport).and_then(|port| port.label(ofport))
    }

    /// Ports whose frames are judged by a set's rules.
    pub(super) fn ports_of_set(&self, set: u32) -> impl Iterator<Item = u16> + '_ {
        self.ports.iter().filter(move |(_, port)| port.set == Some(set)).map(|(ofport, _)| *ofport)
    }
}

/// The generation that an action list stamps connections with; 0 is none.
pub(super) fn stamp(actions: &[Action]) -> Option<u32> {
    let marked = all(actions).into_iter().find_map(|action| match action {
        Action::SetField { field: Field::CtMark, value, .. } => u32::try_from(*value).ok(),
        _ => None,
    });
    marked.filter(|mark| *mark != 0)
}

/// Whose rules a table of ours, or of Neutron's, holds.
pub(super) fn direction_of(table: u8) -> Option<Direction> {
    use layout as tables;
    match table {
        tables::egress_base::TABLE..=tables::egress_takeover::TABLE | 71..=73 => Some(Direction::Egress),
        tables::ingress_base::TABLE..=tables::ingress_commit::TABLE | 81 | 82 => Some(Direction::Ingress),
        tables::ingress_service::TABLE | tables::ingress_takeover::TABLE => Some(Direction::Ingress),
        _ => None,
    }
}

/// The first part of a UUID; any other id whole. A prefix is enough to ask for it.
#[must_use]
pub fn short(id: &str) -> &str {
    const UUID: usize = 36;
    let is_uuid = id.len() == UUID && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_uuid { &id[..8] } else { id }
}

fn titles(policy: Option<&Policy>) -> BTreeMap<String, String> {
    let Some(policy) = policy else { return BTreeMap::new() };
    let groups = policy.groups.values().map(|group| (group.id.to_string(), group.name.clone()));
    let address_groups =
        policy.address_groups.values().map(|group| (group.id.to_string(), group.name.clone()));
    groups.chain(address_groups).filter(|(_, name)| !name.is_empty()).collect()
}
