//! What a packet did, in a form that both a trace and an outcome can be brought to.

use std::collections::{BTreeMap, VecDeque};

use rust_openflow::{Flow, Match};
use verify::{Commit, Outcome, Output, Tables, Tag, Visit};

use super::probe::Probe;

/// Everything in order of its own: a trace goes on with tracked packets later than the interpreter does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Trail {
    /// Table, and priority and actions of the flow that was found.
    visits: Vec<(u8, Option<String>)>,
    /// OpenFlow port, VLAN id of the frame.
    outputs: Vec<(u32, Option<u16>)>,
    /// Zone and mark.
    commits: Vec<(u16, u32)>,
}

/// Effects of flows by how a trace names them.
pub(crate) struct Traced(BTreeMap<(u8, String), String>);

impl Traced {
    pub(crate) fn new(flows: &[Flow]) -> Self {
        Traced(flows.iter().map(|flow| ((flow.table, as_traced(flow)), effect(flow))).collect())
    }
}

impl Trail {
    /// Frames to ports that the switch does not have go nowhere.
    pub(crate) fn of_outcome(tables: &Tables, outcome: &Outcome, ports: &BTreeMap<u32, u32>) -> Self {
        let visit = |visit: &Visit| (visit.table, visit.flow.map(|id| effect(tables.flow(id))));
        let exists = |output: &&Output| ports.values().any(|port| *port == output.port.0);
        let sent = |output: &Output| (output.port.0, output.packet.tags().first().map(|tag| tag.vid()));
        let commit = |commit: &Commit| (commit.zone, commit.stamp.mark.map_or(0, |(value, _)| value));
        let mut trail = Trail {
            visits: outcome.visits.iter().map(visit).collect(),
            outputs: outcome.outputs.iter().filter(exists).map(sent).collect(),
            commits: outcome.commits.iter().map(commit).collect(),
        };
        trail.sort();
        trail
    }

    pub(crate) fn of_trace(text: &str, flows: &Traced, probe: &Probe, ports: &BTreeMap<u32, u32>) -> Self {
        let visit = |line: &str| {
            let (table, found) = visit(line)?;
            let effect = (found != "No match.").then(|| {
                let known = flows.0.get(&(table, found.to_owned())).cloned();
                known.unwrap_or_else(|| panic!("a flow that was not given: {line}"))
            });
            Some((table, effect))
        };
        let mut trail = Trail { visits: text.lines().filter_map(visit).collect(), ..Trail::default() };
        // The VLAN of the packet where each stage begins.
        let mut tags = VecDeque::from([probe.packet.tags().first().copied().map(Tag::vid)]);
        for actions in text.lines().filter_map(|line| line.strip_prefix("Datapath actions: ")) {
            let mut tag = tags.pop_front().expect("a stage for each recirculation");
            trail.follow(actions, &mut tag, &mut tags, ports);
        }
        trail.sort();
        trail
    }

    fn follow(
        &mut self,
        actions: &str,
        tag: &mut Option<u16>,
        stages: &mut VecDeque<Option<u16>>,
        ports: &BTreeMap<u32, u32>,
    ) {
        for action in split(actions) {
            let (name, arguments) = action.split_once('(').unwrap_or((action, ""));
            let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
            let argument = |key: &str| split(arguments).find_map(|argument| argument.strip_prefix(key));
            match name {
                "push_vlan" => *tag = argument("vid=").and_then(|vid| vid.parse().ok()),
                "pop_vlan" => *tag = None,
                "recirc" => stages.push_back(*tag),
                "clone" => self.follow(arguments, &mut tag.clone(), stages, ports),
                "ct" if split(arguments).any(|argument| argument == "commit") => {
                    let zone = argument("zone=").map_or(0, |zone| zone.parse().expect("a zone"));
                    let mark = argument("mark=").map_or(0, mark);
                    self.commits.push((zone, mark));
                }
                "ct" | "ct_clear" | "drop" => {}
                number => {
                    let port: u32 = number.parse().unwrap_or_else(|_| panic!("unknown action {action}"));
                    self.outputs.push((ports[&port], *tag));
                }
            }
        }
    }

    fn sort(&mut self) {
        self.visits.sort();
        self.outputs.sort_unstable();
        self.commits.sort_unstable();
    }
}

/// `124. ip,reg7=0x3, priority 100, cookie 0x5367030000000003`, `113. No match.`
fn visit(line: &str) -> Option<(u8, &str)> {
    let (table, found) = line.trim_start().split_once(". ")?;
    Some((table.parse().ok()?, found))
}

/// A flow in the words of a trace.
fn as_traced(flow: &Flow) -> String {
    let cookie = if flow.cookie == 0 { String::new() } else { format!(", cookie {:#x}", flow.cookie) };
    let comma = if flow.matches.is_empty() { "" } else { ", " };
    format!("{}{comma}priority {}{cookie}", flow.matches, flow.priority)
}

/// What matters of a flow that is found: of several that do the same at one priority the switch takes any.
fn effect(flow: &Flow) -> String {
    let anonymous = Flow::new(flow.table, flow.priority, Match::new(), flow.actions.clone());
    anonymous.canonical().to_string()
}

/// `0x6/0xffffffff`
fn mark(text: &str) -> u32 {
    let (value, _) = text.split_once('/').unwrap_or((text, ""));
    u32::from_str_radix(value.trim_start_matches("0x"), 16).expect("a mark in hex")
}

/// Parts between commas that stand outside parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    text.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .filter(|part| !part.is_empty())
}
