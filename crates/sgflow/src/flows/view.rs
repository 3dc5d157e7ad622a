//! Which flows are shown, and which stand together.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use explain::decode::{Decoded, Decoding, Subject, Writer, short};

use super::By;

/// Flows that stand together.
pub(super) struct Group<'a> {
    pub(super) title: String,
    pub(super) flows: Vec<&'a Decoded>,
}

/// How many flows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) flows: usize,
    pub(super) named: usize,
    pub(super) packets: u64,
    pub(super) sgflow: usize,
    pub(super) neutron: usize,
    pub(super) openvswitch: usize,
    pub(super) other: usize,
}

impl Counts {
    pub(super) fn of<'a>(flows: impl IntoIterator<Item = &'a Decoded>) -> Self {
        let mut counts = Counts::default();
        for flow in flows {
            counts.flows += 1;
            counts.named += usize::from(flow.is_named());
            counts.packets += flow.counters.map_or(0, |counters| counters.packets);
            *match flow.writer {
                Writer::Sgflow => &mut counts.sgflow,
                Writer::Neutron => &mut counts.neutron,
                Writer::Openvswitch => &mut counts.openvswitch,
                Writer::Other => &mut counts.other,
            } += 1;
        }
        counts
    }
}

/// The flows that concern a subject, or all, in the order of tables and priorities.
pub(super) fn chosen<'a>(decoding: &'a Decoding, subject: Option<&Subject>) -> Vec<&'a Decoded> {
    let is_chosen = |flow: &&Decoded| subject.is_none_or(|subject| flow.concerns.include(subject));
    let mut flows: Vec<&Decoded> = decoding.flows.iter().filter(is_chosen).collect();
    flows.sort_by_key(|flow| (flow.table, Reverse(flow.priority), flow.line));
    flows
}

/// The flows that stand together, in the order of what they stand by.
pub(super) fn groups<'a>(flows: &[&'a Decoded], decoding: &Decoding, by: By) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(bool, Key), Vec<&'a Decoded>> = BTreeMap::new();
    for flow in flows {
        let keys = keys(flow, by);
        if keys.is_empty() {
            groups.entry((true, Key::Text(String::new()))).or_default().push(flow);
        }
        for key in keys {
            groups.entry((false, key)).or_default().push(flow);
        }
    }
    let group = |((_, key), flows): ((bool, Key), Vec<&'a Decoded>)| Group {
        title: title(&key, &flows, decoding, by),
        flows,
    };
    groups.into_iter().map(group).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(u16),
    Text(String),
}

fn keys(flow: &Decoded, by: By) -> Vec<Key> {
    let concerns = &flow.concerns;
    match by {
        By::Table => vec![Key::Number(u16::from(flow.table))],
        By::Port => concerns.ports.iter().map(|port| Key::Number(*port)).collect(),
        By::Group => concerns.groups.iter().map(|group| Key::Text(group.clone())).collect(),
        By::Rule => {
            let text = |rule: &explain::decode::RuleName| match &rule.id {
                Some(id) => format!("rule {}: {}", short(id), rule.text),
                None => rule.text.clone(),
            };
            concerns.rules.iter().map(|rule| Key::Text(text(rule))).collect()
        }
    }
}

fn title(key: &Key, flows: &[&Decoded], decoding: &Decoding, by: By) -> String {
    let names = &decoding.names;
    match (by, key) {
        (By::Table, Key::Number(table)) => {
            let name = flows.iter().find_map(|flow| flow.table_name);
            format!("table {table}{}", name.map_or_else(String::new, |name| format!(" {name}")))
        }
        (_, Key::Number(ofport)) => port_title(*ofport, decoding),
        (By::Group, Key::Text(id)) if !id.is_empty() => match names.group(id) {
            name if name == *id => format!("group {id}"),
            name => format!("group {name} ({id})"),
        },
        (_, Key::Text(text)) if !text.is_empty() => text.clone(),
        (By::Port, _) => "no port in particular".to_owned(),
        (By::Group, _) => "no group in particular".to_owned(),
        (By::Rule | By::Table, _) => "no rule in particular".to_owned(),
    }
}

/// All that is known of a port.
fn port_title(ofport: u16, decoding: &Decoding) -> String {
    let Some(port) = decoding.names.ports.get(&ofport) else { return format!("port {ofport}") };
    let name = port.id.clone().or(port.interface.clone());
    let mut text = format!("port {}", name.unwrap_or_else(|| ofport.to_string()));
    let interface = port.interface.clone().filter(|_| port.id.is_some());
    let number = (!port.has_no_number).then(|| format!("OpenFlow port {ofport}"));
    let vlan = port.vlan.map(|vlan| format!("VLAN {vlan}"));
    let set = port.set.and_then(|set| decoding.names.set(set));
    let addresses = (!port.addresses.is_empty()).then(|| {
        let addresses: Vec<&str> = port.addresses.iter().map(String::as_str).collect();
        addresses.join(" ")
    });
    let role = match (port.leads_to_network, port.is_trusted) {
        (true, _) => Some("to the network".to_owned()),
        (_, true) => Some("trusted".to_owned()),
        _ => None,
    };
    for fact in [interface, number, vlan, set, addresses, role].into_iter().flatten() {
        text += &format!(", {fact}");
    }
    text
}
