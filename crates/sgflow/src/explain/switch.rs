//! What the datapath itself says: the flows that it holds, and its own trace of the packet.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use agent::audit::joints;
use agent::config::{Config, FirewallDriver};
use agent::driver::Hybrid;
use agent::unixctl::{Control, vswitchd_socket};
use explain::answer::{Answer, RuleWords};
use explain::path::{Detour, Fate, Path, Place, follow};
use explain::question::Question;
use policy::Policy;
use rust_openflow::Flow;
use serde_json::{Value, json};

use crate::apply::converge;
use crate::held::{Held, rundir};
use crate::options::hybrid_setup;
use crate::verify::{flow_text, table_name};

/// How long ovs-vswitchd may take for a trace.
const TRACE: Duration = Duration::from_secs(10);

/// What enforces the policy on this host, read once.
pub(super) enum Switch {
    /// Flows of the bridge.
    Flows(Box<Flows>),
    /// On a host with hybrid bridges: what in the kernel is not as the policy wants.
    Kernel(Vec<String>),
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
            converge(&mut driver, delta, timeout).await?;
            return Ok(Switch::Kernel(driver.planned()));
        }
        let held = Held::read(config, policy, timeout).await?;
        let bridge = config.integration_bridge.clone();
        Ok(Switch::Flows(Box::new(Flows { held, bridge, rundir: rundir(config) })))
    }

    /// What it makes of the packet.
    pub(super) async fn ask(
        &mut self,
        policy: &Policy,
        question: &Question,
        answer: &Answer,
    ) -> anyhow::Result<Looked> {
        match self {
            Switch::Kernel(differences) => Ok(Looked::Kernel(differences.clone())),
            Switch::Flows(flows) => flows.ask(policy, question, answer).await,
        }
    }
}

impl Flows {
    async fn ask(&self, policy: &Policy, question: &Question, answer: &Answer) -> anyhow::Result<Looked> {
        let Some(port) = self.held.found.ports.iter().find(|port| port.id == question.port) else {
            return Ok(Looked::Elsewhere);
        };
        let (frame, tracking) = question.frame(policy)?;
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
            Fate::Lost | Fate::Broken(_) => false,
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
    /// Whether there is nothing to be alarmed about.
    pub(super) fn agrees(&self) -> bool {
        match self {
            Looked::Elsewhere => true,
            Looked::Way { detour, agrees, .. } => *agrees && detour.is_none(),
            Looked::Kernel(differences) => differences.is_empty(),
        }
    }

    /// Lines for people. `of` is what was asked.
    pub(super) fn text(&self, of: &str, answer: &Answer) -> String {
        let mut text = String::new();
        let end = format!("{} {}", answer.port, answer.direction);
        match self {
            Looked::Elsewhere => _ = writeln!(text, "  {of}: {end}: the port is not on this host"),
            Looked::Kernel(differences) if differences.is_empty() => {
                _ = writeln!(text, "  {of}: the kernel holds exactly this policy");
            }
            Looked::Kernel(differences) => {
                _ = writeln!(
                    text,
                    "  ALARM: {of}: the kernel does not hold this policy: {} differences",
                    differences.len()
                );
                differences.iter().for_each(|difference| _ = writeln!(text, "    {difference}"));
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
                    _ = writeln!(text, "    {:20} {purpose}", table_name(step.table));
                }
            }
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        match self {
            Looked::Elsewhere => json!({"local": false}),
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
                    "agrees": self.agrees(),
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
