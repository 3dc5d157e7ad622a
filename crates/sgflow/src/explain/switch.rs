//! What the datapath itself says: the flows that it holds, and its own trace of the packet.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use agent::audit::joints;
use agent::config::{Config, FirewallDriver};
use agent::driver::{Driver as _, Hybrid};
use agent::engine::{Fault, SecurityEffect};
use agent::unixctl::{Control, vswitchd_socket};
use explain::answer::{Answer, RuleWords};
use explain::path::{Detour, Fate, Path, Place, follow};
use explain::question::Question;
use policy::evaluator::DropReason;
use policy::{Policy, PortId};
use rust_openflow::Flow;
use serde_json::{Value, json};

use crate::apply::converge;
use crate::held::{Held, enforceable, rundir};
use crate::options::hybrid_setup;
use crate::text::printable;
use crate::verify::{flow_text, table_name};

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

/// What the datapath says of a packet at a port.
pub(super) enum Looked {
    /// The port is not on this host.
    Elsewhere,
    /// The way through the flows.
    Way {
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
    },
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
            let (applied, _) = converge(&mut driver, delta, timeout).await?;
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
        let place = Place { tables: &self.held.tables, joints: joints(self.held.found.hook), port };
        let path = follow(place, question.direction, &frame, &tracking);
        let rules: Vec<String> =
            self.held.readable.rules_of(&path).into_iter().filter_map(|rule| rule.id).collect();
        let is_one_of = |rule: &RuleWords| rules.contains(&rule.rule);
        let agrees = match &path.fate {
            Fate::Passes => {
                answer.accepted && (answer.rules.is_empty() || answer.rules.iter().any(is_one_of))
            }
            Fate::Dropped(reason) => !answer.accepted && *reason == answer.reason,
            // What is for another station goes to the network, and not to the port.
            Fate::Lost => answer.reason == DropReason::NotForPort.to_string(),
            Fate::Broken(_) => false,
        };
        let (detour, untraced) = match self.trace(&path).await {
            Ok(detour) => (detour, None),
            Err(reason) => (None, Some(format!("{reason:#}"))),
        };
        let purposes = path.steps.iter().map(|step| self.purpose(step.flow.as_ref())).collect();
        Ok(Looked::Way { path, purposes, rules, detour, untraced, agrees })
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
            Looked::Way { detour, agrees, .. } => Some(*agrees && detour.is_none()),
            Looked::Kernel(differences) => Some(differences.is_empty()),
        }
    }

    /// The flow of each step; nothing where no way was followed.
    pub(super) fn flows(&self) -> Vec<Option<Flow>> {
        match self {
            Looked::Way { path, .. } => path.steps.iter().map(|step| step.flow.clone()).collect(),
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
            Looked::Way { path, purposes, detour, untraced, agrees, .. } => {
                let fate = fate_text(&path.fate);
                let word = if *agrees { "the flows agree" } else { "ALARM: the flows disagree" };
                _ = write!(text, "  {of}: {end}: {word}: {fate}");
                match (detour, untraced) {
                    (Some(detour), _) => {
                        _ = writeln!(
                            text,
                            "\n  ALARM: {of}: the switch goes another way in table {}",
                            table_name(detour.table)
                        );
                        _ = writeln!(text, "    expected {}", detour.expected);
                        _ = writeln!(text, "    traced   {}", detour.traced);
                    }
                    (None, Some(reason)) => _ = writeln!(text, "; not traced: {reason}"),
                    (None, None) => _ = writeln!(text, "; so does the switch's own trace"),
                }
                for (step, purpose) in path.steps.iter().zip(purposes) {
                    _ = writeln!(text, "    {:20} {}", table_name(step.table), printable(purpose));
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
            Looked::Way { path, purposes, rules, detour, untraced, .. } => {
                let steps = path.steps.iter().zip(purposes).map(|(step, purpose)| {
                    json!({
                        "purpose": purpose,
                        "table": step.table,
                        "name": table_name(step.table).split_once(' ').map(|(_, name)| name.to_owned()),
                        "flow": step.flow.as_ref().map(ToString::to_string),
                    })
                });
                json!({
                    "local": true,
                    "agrees": self.agrees(answer),
                    "fate": path.fate,
                    "rules": rules,
                    "steps": steps.collect::<Vec<_>>(),
                    "detour": detour,
                    "not_traced": untraced,
                })
            }
        }
    }
}

fn fate_text(fate: &Fate) -> String {
    match fate {
        Fate::Passes => "accepted".to_owned(),
        Fate::Dropped(reason) => format!("dropped ({reason})"),
        Fate::Lost => "it ends without a reason".to_owned(),
        Fate::Broken(reason) => format!("they have no single result: {reason}"),
    }
}
