//! Whom a flow concerns: ports, groups and rules, so that flows can be looked up and grouped by them.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::layout::{self, register};
use pipeline::{FlowKind, decode_cookie};
use policy::Direction;
use rust_openflow::{Field, Flow};

use super::Writer;
use super::look::{clauses, loaded, number, outputs, small};
use super::names::{Conjunction, Names, direction_of, short};
use super::rules::RuleName;
use super::words;

/// Whom a flow concerns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Concerns {
    /// Ports, by OpenFlow number: those that the flow names, whose set it is of, or whose rules it is a member for.
    pub ports: BTreeSet<u16>,
    /// Ids of security groups and address groups.
    pub groups: BTreeSet<String>,
    /// Rules.
    pub rules: BTreeSet<RuleName>,
}

/// Ports that have a clause of a remote or conjunction, by direction.
pub(super) type Users = BTreeMap<(Direction, u32), BTreeSet<u16>>;

/// Which ports use which remotes, of our flows.
pub(super) fn users(names: &Names) -> Users {
    let mut users = Users::new();
    for ((direction, set), remotes) in &names.references {
        for remote in remotes {
            users.entry((*direction, *remote)).or_default().extend(names.ports_of_set(*set));
        }
    }
    users
}

/// Ports and groups that a flow concerns.
pub(super) fn of(flow: &Flow, writer: Writer, names: &Names, users: &Users) -> Concerns {
    let mut concerns = Concerns::default();
    let small_number = |number: u128| u16::try_from(number).ok();
    concerns.ports.extend(small(&flow.matches, Field::InPort));
    concerns.ports.extend(small(&flow.matches, Field::Reg(5)));
    concerns.ports.extend(loaded(&flow.actions, Field::Reg(5)).into_iter().filter_map(small_number));
    concerns.ports.extend(outputs(&flow.actions));
    match writer {
        Writer::Sgflow => of_ours(&mut concerns, flow, names, users),
        Writer::Neutron => of_neutrons(&mut concerns, flow, names),
        Writer::Openvswitch | Writer::Other => {}
    }
    concerns
}

fn of_ours(concerns: &mut Concerns, flow: &Flow, names: &Names, users: &Users) {
    let by_cookie = match decode_cookie(flow.cookie) {
        Some((FlowKind::Set | FlowKind::Rule, set)) => u32::try_from(set).ok(),
        _ => None,
    };
    let sets = loaded(&flow.actions, register::SET).into_iter().filter_map(|set| u32::try_from(set).ok());
    for set in sets.chain(number(&flow.matches, register::SET)).chain(by_cookie) {
        // A copy of a broadcast for each port is not a flow of all others with these groups.
        if flow.table < layout::deliver::TABLE || flow.table >= layout::ingress_base::TABLE {
            concerns.ports.extend(names.ports_of_set(set));
        }
        concerns.groups.extend(names.sets.get(&set).into_iter().flat_map(|set| set.groups.iter().cloned()));
    }
    if flow.table == layout::classify::TABLE {
        concerns.ports = small(&flow.matches, Field::InPort).into_iter().collect();
    }
    let ended = number(&flow.matches, Field::ConjId);
    for remote in clauses(&flow.actions).into_iter().map(|(id, _)| id).chain(ended) {
        concerns.groups.extend(names.remotes.get(&remote).map(|remote| remote.group.clone()));
        if number(&flow.matches, register::SET).is_some() {
            continue;
        }
        let directions = match direction_of(flow.table) {
            Some(direction) => vec![direction],
            None => vec![Direction::Ingress, Direction::Egress],
        };
        let users = directions.into_iter().filter_map(|direction| users.get(&(direction, remote)));
        concerns.ports.extend(users.flatten());
    }
}

fn of_neutrons(concerns: &mut Concerns, flow: &Flow, names: &Names) {
    let is_member =
        number(&flow.matches, Field::ConjId).is_none() && small(&flow.matches, Field::Reg(5)).is_none();
    let ended = number(&flow.matches, Field::ConjId);
    for id in clauses(&flow.actions).into_iter().map(|(id, _)| id).chain(ended) {
        let Some(conjunction) = names.conjunctions.get(&Conjunction::base(id)) else { continue };
        concerns.groups.extend(conjunction.remote.as_ref().map(|remote| remote.group.clone()));
        if is_member {
            concerns.ports.extend(&conjunction.ports);
        }
    }
    // Where there is no more than a MAC: what is accepted, and limits.
    let macs =
        [Field::EthSrc, Field::EthDst].into_iter().filter_map(|field| words::mac(&flow.matches, field));
    for mac in macs {
        let has_it = |(_, port): &(&u16, &super::PortName)| port.macs.contains(&mac);
        concerns.ports.extend(names.ports.iter().filter(has_it).map(|(ofport, _)| *ofport));
    }
}

/// What somebody may ask for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// A port, by its OpenFlow number.
    Port(u16),
    /// A security group or address group, by its id.
    Group(String),
    /// A rule, by its id.
    Rule(String),
}

/// Whom a word may mean: an id or the beginning of one, the name of an interface or of a group, an OpenFlow port number
/// (`5`). What is so in full goes before what begins so.
#[must_use]
pub fn subjects(word: &str, names: &Names, rules: &BTreeSet<RuleName>) -> BTreeSet<Subject> {
    let groups: BTreeSet<&str> = names
        .sets
        .values()
        .flat_map(|set| set.groups.iter().map(String::as_str))
        .chain(names.remotes.values().map(|remote| remote.group.as_str()))
        .chain(
            names
                .conjunctions
                .values()
                .filter_map(|known| known.remote.as_ref())
                .map(|remote| remote.group.as_str()),
        )
        .chain(names.ports.values().flat_map(|port| port.groups.iter().map(String::as_str)))
        .collect();
    let find = |is: &dyn Fn(&str) -> bool| -> BTreeSet<Subject> {
        let ports = names
            .ports
            .iter()
            .filter(|(_, port)| [&port.id, &port.interface].into_iter().flatten().any(|name| is(name)));
        let ports = ports.map(|(ofport, _)| Subject::Port(*ofport));
        let groups = groups.iter().filter(|id| is(id) || is(&names.group(id)));
        let groups = groups.map(|id| Subject::Group((*id).to_owned()));
        let rules = rules.iter().filter_map(|rule| rule.id.as_ref()).filter(|id| is(id));
        ports.chain(groups).chain(rules.map(|id| Subject::Rule(id.clone()))).collect()
    };
    let whole = find(&|name| name == word);
    if !whole.is_empty() {
        return whole;
    }
    let number =
        word.parse().ok().filter(|number| names.ports.get(number).is_some_and(|port| !port.has_no_number));
    if let Some(ofport) = number {
        return BTreeSet::from([Subject::Port(ofport)]);
    }
    find(&|name| !word.is_empty() && name.starts_with(word))
}

impl Concerns {
    /// Whether a flow that concerns these is about the subject.
    #[must_use]
    pub fn include(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Port(ofport) => self.ports.contains(ofport),
            Subject::Group(group) => self.groups.contains(group),
            Subject::Rule(id) => self.rules.iter().any(|rule| rule.id.as_ref() == Some(id)),
        }
    }
}

impl Subject {
    /// What it is, in words.
    #[must_use]
    pub fn words(&self, names: &Names) -> String {
        match self {
            Subject::Port(ofport) => {
                format!("port {}", names.port(*ofport).unwrap_or_else(|| ofport.to_string()))
            }
            Subject::Group(group) if names.group(group) == short(group) => format!("group {group}"),
            Subject::Group(group) => format!("group {} ({group})", names.group(group)),
            Subject::Rule(id) => format!("rule {id}"),
        }
    }
}
