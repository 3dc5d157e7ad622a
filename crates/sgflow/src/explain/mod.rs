//! `sgflow explain`: may this packet pass, which rule says so, and does the switch agree?

mod asked;
mod switch;

use std::fmt::Write as _;
use std::path::Path;

use agent::config::{Config, DEFAULT_POLICY_PATH, FirewallDriver, SourceKind};
use agent::source::{Documents, Feed};
use anyhow::{Context as _, bail};
use clap::Args;
use explain::answer::{Answer, answer};
use explain::question::Question;
use policy::Policy;
use policy::evaluator::{Datapath, Evaluator, Settings};
use serde_json::{Value, json};

use crate::apply::{print_refused, seconds};
use crate::exit::Exit;
use crate::options::SettingsOptions;

pub(crate) use asked::find_port;

use asked::PacketOptions;
use switch::{Looked, Switch};

/// Say whether a packet may pass, which rule decides, the flows that it takes, and, if it is dropped, which rule comes nearest
///
/// The answer comes from the policy, and again from the switch: the packet is followed through the flows that the switch
/// holds, and the switch is asked for the same way (ofproto/trace). Nothing is sent and nothing is changed. Where the other end
/// is a port too, both are judged: the sender's egress, the receiver's ingress.
///
/// Exit codes: 0 answered; 1 nothing could be answered; 2 answered from a document of which something was refused; 4 policy and
/// switch disagree.
#[derive(Args, Debug)]
pub(crate) struct ExplainCommand {
    /// The port: its id, the beginning of its id, or its interface by Neutron's name (tap…, qvo…)
    port: String,

    #[command(flatten)]
    packet: PacketOptions,

    #[command(flatten)]
    settings: SettingsOptions,

    /// Answer from the policy alone
    #[arg(long)]
    policy_only: bool,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is said of one end.
struct Half {
    answer: Answer,
    /// What the datapath says; none if it was not asked.
    looked: Option<Looked>,
}

impl ExplainCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = self.settings.config()?;
        let (policy, is_complete) = policy_of(&config).await?;
        let questions = self.packet.questions(&policy, &self.port)?;
        let settings = Settings {
            permitted_ethertypes: config.permitted_ethertypes.clone(),
            datapath: Datapath { tracks_sctp_ports: config.firewall_driver != FirewallDriver::OpenvSwitch },
        };
        let evaluator = Evaluator::new(&policy, settings);
        let mut halves = Vec::new();
        for question in &questions {
            halves.push(Half { answer: answer(&evaluator, question)?, looked: None });
        }
        let mut unasked = None;
        if !self.policy_only && config.firewall_driver != FirewallDriver::Noop {
            match Switch::look(&config, &policy, self.timeout).await {
                Ok(mut switch) => {
                    for (half, question) in halves.iter_mut().zip(&questions) {
                        half.looked = Some(switch.ask(&policy, question, &half.answer).await?);
                    }
                }
                Err(reason) => unasked = Some(format!("{reason:#}")),
            }
        }
        let told =
            Told { config: &config, questions: &questions, halves: &halves, unasked: unasked.as_deref() };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&told.json())?),
            false => print!("{}", told.text()),
        }
        Ok(match (told.agrees(), is_complete) {
            (false, _) => Exit::Differs,
            (true, false) => Exit::Refused,
            (true, true) => Exit::Done,
        })
    }
}

/// The policy to answer from, and whether nothing of it was refused: that of a document, where documents are its source or one is
/// given; else what the daemon is to enforce.
pub(crate) async fn policy_of(config: &Config) -> anyhow::Result<(Policy, bool)> {
    let documents = match config.policy_source == SourceKind::File
        || config.policy_path != Path::new(DEFAULT_POLICY_PATH)
    {
        true => Documents::read(&config.policy_path)?,
        false => {
            let asked = agent::api::policy(&config.api_socket).await;
            let document = asked
                .context("the policy is in no document, and the agent was asked for it (or --policy FILE)")?;
            let text = document.to_string();
            Documents { files: vec![(AGENTS.to_owned(), text.into())], written: None }
        }
    };
    let mut feed = Feed::default();
    let update = feed.take(&documents);
    print_refused(&update);
    match feed.policy() {
        Some(policy) if update.delta.is_some() => {
            Ok((policy.as_ref().clone(), update.diagnostics.is_empty()))
        }
        _ => bail!("the document was refused whole: there is no policy to answer from"),
    }
}

/// What the agent's policy is called where something is wrong with it.
const AGENTS: &str = "the agent's policy";

/// What is told.
struct Told<'a> {
    config: &'a Config,
    questions: &'a [Question],
    halves: &'a [Half],
    /// Why the datapath was not asked.
    unasked: Option<&'a str>,
}

impl Told<'_> {
    fn agrees(&self) -> bool {
        self.halves.iter().filter_map(|half| half.looked.as_ref()).all(Looked::agrees)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for half in self.halves {
            _ = writeln!(text, "{}", half.answer);
        }
        let packet = self.halves.first().map_or("", |half| half.answer.packet.as_str());
        let state = self.questions.first().map(|question| format!("{:?}", question.state).to_lowercase());
        _ = writeln!(text, "  packet: {packet}, {}", state.unwrap_or_default());
        let of = match self.config.firewall_driver {
            FirewallDriver::OpenvSwitch | FirewallDriver::Noop => self.config.integration_bridge.clone(),
            driver => driver.to_string(),
        };
        if let Some(reason) = self.unasked {
            _ = writeln!(text, "  {of}: not asked: {reason}");
        }
        for half in self.halves {
            if let Some(looked) = &half.looked {
                text += &looked.text(&of, &half.answer);
            }
        }
        text
    }

    fn json(&self) -> Value {
        let half = |half: &Half| {
            let mut value = serde_json::to_value(&half.answer).unwrap_or_default();
            value["switch"] = half.looked.as_ref().map_or(Value::Null, Looked::json);
            value
        };
        json!({
            "answers": self.halves.iter().map(half).collect::<Vec<_>>(),
            "agree": self.agrees(),
            "not_asked": self.unasked,
        })
    }
}
