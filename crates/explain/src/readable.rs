//! The flows of a switch, each to be found with what it means.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::layout;
use policy::Direction;
use rust_openflow::{Flow, FlowKey};

use crate::decode::{Decoded, Decoding, Line, RuleName, Sources, Writer, decode, tables};
use crate::path::Path;

/// The tables in which rules judge; the last two are those of Neutron's own driver, `RULES_EGRESS_TABLE` and `RULES_INGRESS_TABLE`.
const OF_RULES: [u8; 6] = [
    layout::egress_packet::TABLE,
    layout::egress_policy::TABLE,
    layout::ingress_packet::TABLE,
    layout::ingress_policy::TABLE,
    72,
    82,
];
/// `BASE_EGRESS_TABLE`, in which a firewall of Neutron's has a flow always, and its agent has none without one.
const OF_FIREWALL: u8 = 71;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Readable {
    decoding: Decoding,
    by_key: BTreeMap<FlowKey, usize>,
    is_neutrons: bool,
}

impl Readable {
    /// Of flows as they were read, with what else is known.
    pub fn new(flows: &[Flow], sources: Sources<'_>) -> Self {
        let line = |(index, flow): (usize, &Flow)| Line {
            number: index + 1,
            text: flow.to_string(),
            flow: flow.clone(),
            counters: None,
            has_cookie: true,
            is_internal: false,
        };
        let lines: Vec<Line> = flows.iter().enumerate().map(line).collect();
        let by_key = flows.iter().enumerate().map(|(index, flow)| (flow.key(), index)).collect();
        let decoding = decode(&lines, sources);
        let is_firewall = |flow: &Decoded| flow.writer == Writer::Neutron && flow.table == OF_FIREWALL;
        let is_neutrons = decoding.flows.iter().any(is_firewall)
            && !decoding.flows.iter().any(|flow| flow.writer == Writer::Sgflow);
        Readable { decoding, by_key, is_neutrons }
    }

    /// Whether it is Neutron's own driver that filters with these flows, and we have none.
    pub fn is_neutrons(&self) -> bool {
        self.is_neutrons
    }

    /// `110 deliver`: a table, by the name that whoever filters here gives it.
    pub fn table(&self, table: u8) -> String {
        let name = if self.is_neutrons { tables::neutron(table) } else { tables::ours(table) };
        name.map_or_else(|| table.to_string(), |name| format!("{table} {name}"))
    }

    /// What a flow means.
    pub fn of(&self, flow: &Flow) -> Option<&Decoded> {
        self.decoding.flows.get(*self.by_key.get(&flow.key())?)
    }

    /// The conntrack zone of the port at this OpenFlow port.
    pub fn zone_of(&self, ofport: u16) -> Option<u16> {
        self.decoding.names.ports.get(&ofport).and_then(|port| port.zone)
    }

    /// The way of the first packet of connections that carry this `ct_mark`, seen from the port: generations are of one direction each.
    pub fn direction_of(&self, mark: u32) -> Option<Direction> {
        let generation = self.decoding.names.generations.get(&mark)?;
        generation.stamps.iter().map(|(direction, _)| *direction).next()
    }

    /// Whether connections with this `ct_mark` go on without being judged again.
    pub fn is_in_force(&self, mark: u32) -> bool {
        self.decoding.names.generations.get(&mark).is_some_and(|generation| !generation.in_force.is_empty())
    }

    /// The rules of the flow that decided about a packet; empty if none did. Of a remote group, whichever rule of the remote it may
    /// have been: the switch keeps nothing nearer.
    pub fn rules_of(&self, path: &Path) -> BTreeSet<RuleName> {
        let judged = path.steps.iter().rev().find(|step| OF_RULES.contains(&step.table));
        let decided = judged.and_then(|step| step.flow.as_ref()).and_then(|flow| self.of(flow));
        decided.map(|flow| flow.concerns.rules.clone()).unwrap_or_default()
    }
}
