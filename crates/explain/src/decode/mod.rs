//! Flows decoded: who wrote each, what it is for, and names for the numbers in it.
//!
//! ```text
//!  text ─► Dump ──► lines ─┐
//!  switch ───────► lines ──┼──► Names ──► Decoded, one a flow
//!  policy, interfaces ─────┘
//! ```
//!
//! A flow counts as *named* when its table has a name, its slot there says what it is for, and every register, mark,
//! conjunction, port and table in its match and its actions stands for something that is known. It is looked up in
//! `flows/pipeline.toml` for flows of ours, and written down in `neutron` for those of Neutron's agent and its own
//! openvswitch firewall driver. Where something is not known it is told ([`Decoded::unnamed`]), never guessed.

mod concerns;
mod dump;
mod look;
mod names;
mod neutron;
mod ours;
mod rules;
pub(crate) mod tables;
mod terms;
mod words;

use std::collections::BTreeSet;

use pipeline::{is_ours, layout};
use rust_openflow::{Flow, FlowStats};

pub use concerns::{Concerns, Subject, subjects};
pub use dump::{Dump, Line, NamedPort, Unread};
pub use names::{
    Conjunction, GenerationName, Interface, Names, PortName, RemoteName, SetName, Sources, short,
};
pub use rules::RuleName;
pub use terms::Term;

/// Who wrote a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Writer {
    /// sgflow.
    Sgflow,
    /// Neutron's agent, or its own openvswitch firewall driver.
    Neutron,
    /// ovs-vswitchd, for itself.
    Openvswitch,
    /// Somebody else.
    Other,
}

impl Writer {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Writer::Sgflow => "sgflow",
            Writer::Neutron => "neutron",
            Writer::Openvswitch => "openvswitch",
            Writer::Other => "other",
        }
    }
}

/// A flow with what it means.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The line it stood in, from 1; of a switch, its place.
    pub line: usize,
    /// As it stood there.
    pub text: String,
    /// Its table.
    pub table: u8,
    /// What its writer calls the table.
    pub table_name: Option<&'static str>,
    /// OpenFlow priority.
    pub priority: u16,
    /// Its cookie, where the dump shows it.
    pub cookie: Option<u64>,
    /// Kind and object of a cookie of ours; of Neutron's, that it is of a start of its agent.
    pub cookie_means: Option<(&'static str, Option<String>)>,
    /// Packets, bytes, age, where the dump shows them.
    pub counters: Option<FlowStats>,
    /// Who wrote it.
    pub writer: Writer,
    /// What its writer calls its place in the table.
    pub slot: Option<&'static str>,
    /// What it is for.
    pub purpose: Option<String>,
    /// Its match, piece by piece.
    pub matches: Vec<Term>,
    /// Its actions, one by one.
    pub actions: Vec<Term>,
    /// Whom it concerns.
    pub concerns: Concerns,
    /// What of it nothing says anything of.
    pub unnamed: Vec<String>,
}

impl Decoded {
    /// Whether all of it has a name, see the module's documentation.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.purpose.is_some() && self.table_name.is_some() && self.unnamed.is_empty()
    }
}

/// The flows of one bridge, decoded.
#[derive(Clone, Debug, Default)]
pub struct Decoding {
    /// What the numbers stand for.
    pub names: Names,
    /// The flows, in the order given.
    pub flows: Vec<Decoded>,
}

impl Decoding {
    /// Every rule that a flow is of.
    #[must_use]
    pub fn rules(&self) -> BTreeSet<RuleName> {
        self.flows.iter().flat_map(|flow| flow.concerns.rules.iter().cloned()).collect()
    }
}

/// Decodes the flows of one bridge with what the flows themselves and `sources` say.
#[must_use]
pub fn decode(lines: &[Line], sources: Sources<'_>) -> Decoding {
    let placed = || lines.iter().filter(|line| !line.is_internal);
    let names = Names::read(placed().map(|line| &line.flow), sources);
    let users = concerns::users(&names);
    let neutrons: BTreeSet<u64> = placed()
        .filter(|line| line.has_cookie && line.flow.cookie != 0 && !belongs_to_us(line))
        .filter(|line| neutron::meaning(&line.flow, &names).is_some())
        .map(|line| line.flow.cookie)
        .collect();
    let mut by_remote = rules::ByRemote::new();
    let mut flows: Vec<(Decoded, &Flow)> = Vec::with_capacity(lines.len());
    for line in lines {
        let mut decoded = decode_line(line, &names, &neutrons);
        decoded.concerns = concerns::of(&line.flow, decoded.writer, &names, &users);
        decoded.concerns.rules =
            rules::of_flow(&line.flow, decoded.writer, &names, sources.policy, &mut by_remote);
        flows.push((decoded, &line.flow));
    }
    let finish = |(mut decoded, flow): (Decoded, &Flow)| {
        if decoded.concerns.rules.is_empty() {
            decoded.concerns.rules = rules::of_remotes(flow, decoded.writer, &by_remote);
        }
        decoded
    };
    let flows = flows.into_iter().map(finish).collect();
    Decoding { names, flows }
}

/// By its cookie; by its table where cookies are not shown; and the hook is ours, whosever cookie it has.
fn belongs_to_us(line: &Line) -> bool {
    let flow = &line.flow;
    let is_first = (flow.table, flow.priority) == (layout::hook::TABLE, layout::hook::ALL);
    let has_our_place = flow.table >= layout::classify::TABLE || is_first;
    is_ours(flow.cookie) || ours::is_hook_of_driver(flow) || !line.has_cookie && has_our_place
}

fn decode_line(line: &Line, names: &Names, neutrons: &BTreeSet<u64>) -> Decoded {
    let flow = &line.flow;
    let mut decoded = Decoded {
        line: line.number,
        text: line.text.clone(),
        table: flow.table,
        table_name: None,
        priority: flow.priority,
        cookie: line.has_cookie.then_some(flow.cookie),
        cookie_means: None,
        counters: line.counters,
        writer: Writer::Other,
        slot: None,
        purpose: None,
        matches: Vec::new(),
        actions: Vec::new(),
        concerns: Concerns::default(),
        unnamed: Vec::new(),
    };
    if line.is_internal {
        decoded.writer = Writer::Openvswitch;
        decoded.table_name = tables::name(flow.table);
        decoded.purpose = Some("what ovs-vswitchd needs itself, and shows to nobody else".to_owned());
        return decoded;
    }
    if belongs_to_us(line) {
        decoded.writer = Writer::Sgflow;
        decoded.table_name = tables::ours(flow.table);
        decoded.cookie_means = ours::cookie(flow, names);
        if let Some(meaning) = ours::meaning(flow, names) {
            decoded.slot = Some(meaning.slot);
            decoded.purpose = meaning.purpose;
        }
    } else if let Some(meaning) = neutron::meaning(flow, names) {
        decoded.writer = Writer::Neutron;
        decoded.table_name = tables::neutron(flow.table);
        decoded.slot = Some(meaning.slot);
        decoded.purpose = Some(meaning.purpose);
    } else if line.has_cookie && neutrons.contains(&flow.cookie) {
        decoded.writer = Writer::Neutron;
        decoded.table_name = tables::neutron(flow.table);
    }
    if decoded.writer == Writer::Neutron && line.has_cookie {
        // Each start of the agent takes one by chance, for all that it writes (ovs_lib.py: `OVSBridge.set_agent_uuid_stamp`).
        decoded.cookie_means = Some(("agent", None));
    }
    let mut terms = terms::Terms { names, writer: decoded.writer, unnamed: Vec::new() };
    decoded.matches = terms.of_match(flow);
    decoded.actions = terms.of_actions(&flow.actions);
    decoded.unnamed = terms.unnamed;
    decoded
}
