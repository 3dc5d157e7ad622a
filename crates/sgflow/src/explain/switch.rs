//! What the datapath itself says: the flows that it holds, and its own trace of the packet.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use agent::apply::look;
use agent::audit::joints;
use agent::config::{Config, FirewallDriver};
use agent::driver::{Driver as _, Hybrid};
use agent::engine::{Fault, SecurityEffect, concerns_us};
use agent::unixctl::{Control, vswitchd_socket};
use explain::answer::{Answer, RuleWords};
use explain::decode::Writer;
use explain::path::{Detour, Fate, Path, Place, follow, neutron};
use explain::question::Question;
use pipeline::is_ours;
use policy::evaluator::DropReason;
use policy::{Direction, MacAddr, Policy, PortId};
use rust_openflow::Flow;
use serde_json::{Value, json};

use crate::held::{Held, enforceable, rundir};
use crate::options::hybrid_setup;
use crate::text::printable;
use crate::verify::flow_text;

/// Slots of Neutron's driver that no rule is asked for ([`explain::decode::Decoded::slot`]).
const UNJUDGED: [&str; 2] = ["replies", "related"];
/// Tables of its agent that frames come through before they are known to be for a port.
const BEFORE_NEUTRONS: [u8; 4] = [0, 58, 59, 60];
/// So many columns for the names of tables: those of ours.
const TABLE: usize = 20;
/// How long ovs-vswitchd may take for a trace.
const TRACE: Duration = Duration::from_secs(10);

/// What enforces the policy on this host, read once.
pub(super) enum Switch {
    /// Flows of the bridge.
    Flows(Box<Flows>),
    /// On a host with hybrid bridges.
    Kernel(Box<Kernel>),
}

/// What the kernel of a host with hybrid bridges holds.
pub(super) struct Kernel {
    /// What is not as the policy wants.
    differences: Vec<String>,
    /// Ports that an interface says it is.
    plugged: BTreeSet<PortId>,
    /// What is wrong with objects.
    faults: Vec<Fault>,
    policy: Policy,
    is_complete: bool,
}

/// See [`Switch`].
pub(super) struct Flows {
    held: Held,
    bridge: String,
    rundir: PathBuf,
}

/// A way through flows.
pub(super) struct Way {
    /// The way.
    path: Path,
    /// What each step of it is for.
    purposes: Vec<String>,
    /// The rules of the flow that decided, by id.
    rules: Vec<String>,
    /// Where the switch goes another.
    detour: Option<Detour>,
    /// Why the switch was not asked for a trace.
    untraced: Option<String>,
    /// Whether the flows do with the packet what the policy says.
    agrees: bool,
    /// The table of each step, with its name.
    tables: Vec<String>,
    /// Neutron's own driver filters here, and not we.
    is_neutrons: bool,
    /// A flow of others that may let the packet pass, as ovs-ofctl prints it.
    bypass: Option<String>,
}

/// What the datapath says of a packet at a port.
pub(super) enum Looked {
    /// The port is not on this host.
    Elsewhere,
    /// The way through the flows.
    Way(Box<Way>),
    /// Its interface is closed, and why.
    Closed(String),
    /// What in the kernel is not as the policy wants.
    Kernel(Vec<String>),
}

impl Switch {
    /// Reads what is there, and changes nothing.
    pub(super) async fn look(config: &Config, policy: &Policy, timeout: f64) -> anyhow::Result<Self> {
        let delta = Policy::diff(&Policy::default(), policy);
        let timeout = Duration::from_secs_f64(timeout);
        if config.firewall_driver != FirewallDriver::OpenvSwitch {
            let has_nftables = config.firewall_driver == FirewallDriver::Nftables;
            let mut driver = Hybrid::looking(hybrid_setup(config), has_nftables)?;
            let applied = look(&mut driver, delta, timeout).await?;
            let (policy, is_complete) = enforceable(policy, &applied.refused);
            let kernel = Kernel {
                differences: driver.planned(),
                plugged: driver.plugged().unwrap_or_default(),
                faults: driver.health().faults,
                policy,
                is_complete,
            };
            return Ok(Switch::Kernel(Box::new(kernel)));
        }
        let held = Held::read(config, policy, timeout).await?;
        let bridge = config.integration_bridge.clone();
        Ok(Switch::Flows(Box::new(Flows { held, bridge, rundir: rundir(config) })))
    }

    /// The policy as far as the datapath can have it, and whether it can have all of it.
    pub(super) fn policy(&self) -> (&Policy, bool) {
        match self {
            Switch::Kernel(kernel) => (&kernel.policy, kernel.is_complete),
            Switch::Flows(flows) => (&flows.held.policy, flows.held.is_complete),
        }
    }

    /// What it makes of the packet.
    pub(super) async fn ask(&self, question: &Question, answer: &Answer) -> anyhow::Result<Looked> {
        match self {
            Switch::Kernel(kernel) => Ok(kernel.ask(question)),
            Switch::Flows(flows) => flows.ask(question, answer).await,
        }
    }
}

impl Kernel {
    fn ask(&self, question: &Question) -> Looked {
        if !self.plugged.contains(&question.port) {
            return Looked::Elsewhere;
        }
        // The driver looks at nothing of a port that does not go through its bridge.
        let object = format!("port {}", question.port);
        let open =
            self.faults.iter().filter(|fault| fault.object == object && fault.effect == SecurityEffect::Open);
        let open = open.map(|fault| format!("{object} is open: {}", fault.reason));
        Looked::Kernel(open.chain(self.differences.iter().cloned()).collect())
    }
}

impl Flows {
    async fn ask(&self, question: &Question, answer: &Answer) -> anyhow::Result<Looked> {
        let Some(port) = self.held.found.ports.iter().find(|port| port.id == question.port) else {
            let closed = self.held.closed.iter().find(|closed| closed.port.as_ref() == Some(&question.port));
            return Ok(closed.map_or(Looked::Elsewhere, |closed| Looked::Closed(closed.to_string())));
        };
        let (frame, tracking) = question.frame(&self.held.policy)?;
        let is_neutrons = self.held.readable.is_neutrons();
        let path = if is_neutrons {
            let known = self.held.policy.ports.get(&question.port);
            let pairs = known.iter().flat_map(|port| &port.allowed_address_pairs);
            let macs: Vec<MacAddr> =
                pairs.filter_map(|pair| pair.mac).chain(known.iter().map(|port| port.mac)).collect();
            let found = neutron::Found { port, macs: &macs };
            neutron::follow(&self.held.tables, &found, question.direction, &frame, &tracking)
        } else {
            let place = Place { tables: &self.held.tables, joints: joints(self.held.found.hook), port };
            follow(place, question.direction, &frame, &tracking)
        };
        let rules: Vec<String> =
            self.held.readable.rules_of(&path).into_iter().filter_map(|rule| rule.id).collect();
        let is_one_of = |rule: &RuleWords| rules.contains(&rule.rule);
        // What Neutron's driver lets pass without asking rules: it marks the connection when no rule admits it any more.
        let last = path.steps.last().and_then(|step| self.held.readable.of(step.flow.as_ref()?));
        let is_unjudged = is_neutrons && last.is_some_and(|flow| UNJUDGED.contains(&flow.slot.unwrap_or("")));
        let is_as_told = match &path.fate {
            Fate::Passes if is_unjudged => {
                answer.accepted || answer.reason == DropReason::Revoked.to_string()
            }
            Fate::Passes => {
                answer.accepted && (answer.rules.is_empty() || answer.rules.iter().any(is_one_of))
            }
            // It says no reasons.
            Fate::Lost if is_neutrons => !answer.accepted,
            Fate::Dropped(reason) => !answer.accepted && *reason == answer.reason,
            // What is for another station goes to the network, and not to the port.
            Fate::Lost => answer.reason == DropReason::NotForPort.to_string(),
            Fate::Broken(_) => false,
        };
        let bypass = self.bypass(&path, question.direction).map(ToString::to_string);
        let agrees = is_as_told && bypass.is_none();
        let (detour, untraced) = match self.trace(&path).await {
            _ if path.steps.is_empty() => (None, Some("there is no way to trace".to_owned())),
            Ok(detour) => (detour, None),
            Err(reason) => (None, Some(format!("{reason:#}"))),
        };
        let purposes = path.steps.iter().map(|step| self.purpose(step.flow.as_ref())).collect();
        let tables = path.steps.iter().map(|step| self.held.readable.table(step.table)).collect();
        Ok(Looked::Way(Box::new(Way {
            path,
            purposes,
            rules,
            detour,
            untraced,
            agrees,
            tables,
            is_neutrons,
            bypass,
        })))
    }

    /// A flow that whoever filters here has not written, and that does something with the packet: it may send copies that no table judges. What is
    /// for the port is followed from where it is delivered, and others may have sent it there before.
    fn bypass(&self, path: &Path, direction: Direction) -> Option<&Flow> {
        let Held { found, readable, tables, .. } = &self.held;
        let is_strange = |flow: &&Flow| {
            let is_others = match readable.is_neutrons() {
                true => readable.of(flow).is_none_or(|known| known.writer == Writer::Other),
                false => !is_ours(flow.cookie),
            };
            is_others && !flow.actions.is_empty()
        };
        let may_come_before = |flow: &&Flow| match readable.is_neutrons() {
            true => BEFORE_NEUTRONS.contains(&flow.table),
            false => concerns_us(flow, found.hook),
        };
        let on_the_way = path.steps.iter().filter_map(|step| step.flow.as_ref()).find(is_strange);
        let on_this_way =
            on_the_way.and_then(|flow| tables.flows().iter().find(|held| held.key() == flow.key()));
        let before = || tables.flows().iter().filter(may_come_before).find(is_strange);
        on_this_way.or_else(|| if direction == Direction::Ingress { before() } else { None })
    }

    fn purpose(&self, flow: Option<&Flow>) -> String {
        let Some(flow) = flow else { return "no flow: dropped".to_owned() };
        let purpose = self.held.readable.of(flow).and_then(|decoded| decoded.purpose.clone());
        purpose.unwrap_or_else(|| flow_text(flow))
    }

    /// The first step that the switch takes otherwise.
    async fn trace(&self, path: &Path) -> anyhow::Result<Option<Detour>> {
        let mut control = Control::connect(vswitchd_socket(&self.rundir).await?).await?;
        for stretch in path.stretches() {
            let [packet, action] = stretch.question();
            let question = [self.bridge.as_str(), &packet, &action];
            let trace = control.ask_about("ofproto/trace-packet-out", &question, TRACE).await?;
            if let Some(detour) = stretch.compare(&self.held.tables, &trace) {
                return Ok(Some(detour));
            }
        }
        Ok(None)
    }
}

impl Looked {
    /// Whether the datapath does what the policy says; none where the port is not on this host. A closed port does not, unless what is
    /// asked about is dropped anyhow.
    pub(super) fn agrees(&self, answer: &Answer) -> Option<bool> {
        match self {
            Looked::Elsewhere => None,
            Looked::Closed(_) => Some(!answer.accepted),
            Looked::Way(way) => match (&way.path.fate, &way.bypass) {
                // It is not known what they do.
                (Fate::Broken(_), None) if way.is_neutrons => None,
                _ => Some(way.agrees && way.detour.is_none()),
            },
            Looked::Kernel(differences) => Some(differences.is_empty()),
        }
    }

    /// The flow of each step; nothing where no way was followed.
    pub(super) fn flows(&self) -> Vec<Option<Flow>> {
        match self {
            Looked::Way(way) => way.path.steps.iter().map(|step| step.flow.clone()).collect(),
            Looked::Elsewhere | Looked::Closed(_) | Looked::Kernel(_) => Vec::new(),
        }
    }

    /// Lines for people. `of` is what was asked.
    pub(super) fn text(&self, of: &str, answer: &Answer) -> String {
        let mut text = String::new();
        let end = format!("{} {}", answer.port, answer.direction);
        match self {
            Looked::Elsewhere => _ = writeln!(text, "  {of}: {end}: the port is not on this host"),
            Looked::Closed(reason) => {
                _ = writeln!(text, "  ALARM: {of}: {end}: the port is closed: {reason}")
            }
            Looked::Kernel(differences) if differences.is_empty() => {
                _ = writeln!(text, "  {of}: the kernel holds exactly this policy");
            }
            Looked::Kernel(differences) => {
                _ = writeln!(
                    text,
                    "  ALARM: {of}: the kernel does not hold this policy: {} differences",
                    differences.len()
                );
                differences.iter().for_each(|line| _ = writeln!(text, "    {}", printable(line)));
            }
            Looked::Way(way) => {
                let Way { path, purposes, detour, untraced, agrees, tables, is_neutrons, bypass, .. } =
                    &**way;
                let fate = match &path.fate {
                    Fate::Lost if *is_neutrons => "dropped".to_owned(),
                    Fate::Passes if *is_neutrons && *agrees && !answer.accepted => {
                        "accepted, until they mark the connection as revoked".to_owned()
                    }
                    fate => fate_text(fate),
                };
                let whose = if *is_neutrons { "flows of Neutron's own driver" } else { "flows" };
                let (word, verb) = match (self.agrees(answer), agrees) {
                    (None, _) => ("the", "are not followed"),
                    (_, true) => ("the", "agree"),
                    (_, false) => ("ALARM: the", "disagree"),
                };
                if let Some(flow) = bypass {
                    _ = writeln!(text, "  ALARM: {of}: {end}: a flow of others may let it pass: {flow}");
                }
                _ = write!(text, "  {of}: {end}: {word} {whose} {verb}: {fate}");
                match (detour, untraced) {
                    (Some(detour), _) => {
                        _ = writeln!(
                            text,
                            "\n  ALARM: {of}: the switch goes another way in table {}",
                            named(tables, detour.table)
                        );
                        _ = writeln!(text, "    expected {}", detour.expected);
                        _ = writeln!(text, "    traced   {}", detour.traced);
                    }
                    (None, Some(reason)) => _ = writeln!(text, "; not traced: {reason}"),
                    (None, None) => _ = writeln!(text, "; so does the switch's own trace"),
                }
                let width = tables.iter().map(String::len).max().unwrap_or(0).max(TABLE);
                for (table, purpose) in tables.iter().zip(purposes) {
                    _ = writeln!(text, "    {table:width$} {}", printable(purpose));
                }
            }
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self, answer: &Answer) -> Value {
        match self {
            Looked::Elsewhere => json!({"local": false}),
            Looked::Closed(reason) => json!({"local": true, "closed": reason}),
            Looked::Kernel(differences) => {
                json!({"local": true, "agrees": differences.is_empty(), "differences": differences})
            }
            Looked::Way(way) => {
                let Way { path, purposes, rules, detour, untraced, tables, is_neutrons, bypass, .. } = &**way;
                let steps = path.steps.iter().zip(purposes).zip(tables).map(|((step, purpose), table)| {
                    json!({
                        "purpose": purpose,
                        "table": step.table,
                        "name": table.split_once(' ').map(|(_, name)| name),
                        "flow": step.flow.as_ref().map(ToString::to_string),
                    })
                });
                json!({
                    "local": true,
                    "writer": if *is_neutrons { Writer::Neutron } else { Writer::Sgflow }.name(),
                    "agrees": self.agrees(answer),
                    "fate": path.fate,
                    "rules": rules,
                    "steps": steps.collect::<Vec<_>>(),
                    "bypass": bypass,
                    "detour": detour,
                    "not_traced": untraced,
                })
            }
        }
    }
}

/// A table of the way, by its name.
fn named(tables: &[String], number: u8) -> String {
    let begin = number.to_string();
    let is_it = |table: &&String| table.split(' ').next() == Some(begin.as_str());
    tables.iter().find(is_it).cloned().unwrap_or(begin)
}

fn fate_text(fate: &Fate) -> String {
    match fate {
        Fate::Passes => "accepted".to_owned(),
        Fate::Dropped(reason) => format!("dropped ({reason})"),
        Fate::Lost => "it ends without a reason".to_owned(),
        Fate::Broken(reason) => format!("nobody can say what they do: {reason}"),
    }
}
