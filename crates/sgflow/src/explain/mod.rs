//! `sgflow explain`: may this packet pass, which rule says so, and does the switch agree?

mod asked;
mod called;
mod switch;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use agent::api::{ClientError, ELSEWHERE};
use agent::config::{Config, FirewallDriver, SourceKind};
use agent::source::{Documents, Feed, Update};
use anyhow::{Context as _, bail};
use clap::Args;
use explain::answer::{Answer, answer};
use explain::question::Question;
use policy::evaluator::{Datapath, Evaluator, Settings};
use policy::{NetworkId, Policy, PortId};
use rust_openflow::Flow;
use serde_json::{Value, json};

use crate::apply::{print_refused, seconds};
use crate::exit::Exit;
use crate::options::SettingsOptions;
use crate::text::{folded, printable};

pub(crate) use asked::{PacketOptions, State};
pub(crate) use called::{Host, ID_IN_NAME, find_port};

use switch::{Looked, Switch};

/// What differs is looked at again after so long.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Say whether a packet may pass, which rule decides, the flows that it takes, and, if it is dropped, which rule comes nearest
///
/// The answer comes from the policy, and again from the switch: the packet is followed through the flows that the switch
/// holds, and the switch is asked for the same way (ofproto/trace). Nothing is sent and nothing is changed. Where the other end
/// is a port too, both are judged: the sender's egress, the receiver's ingress. On a bridge that Neutron's own openvswitch driver fills it is
/// that driver's flows.
///
/// Exit codes: 0 answered; 1 nothing could be answered; 2 answered, but something of the policy was refused; 3 answered from the
/// policy, and the switch was not there to be asked; 4 policy and switch disagree, also at a second look.
#[derive(Args, Debug)]
pub(crate) struct ExplainCommand {
    /// The port: its id, the beginning of its id (four characters or more), or the name of its interface
    port: String,

    #[command(flatten)]
    packet: PacketOptions,

    /// Answer from the policy alone
    #[arg(long)]
    policy_only: bool,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

/// What is said of one end.
struct Half {
    answer: Answer,
    /// What the datapath says; none if it was not asked.
    looked: Option<Looked>,
}

impl ExplainCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let is_given = self.settings.policy_given().is_some();
        let config = self.settings.config()?;
        let (policy, is_read) = policy_of(&config, is_given).await?;
        let host = Host { config: &config, within: Duration::from_secs_f64(self.timeout) };
        let port = host.port_called(&policy, &self.port).await?;
        let questions = self.packet.called(&policy, host).await?.questions(&policy, port.as_str())?;
        let asked = Asked { config: &config, policy: &policy, questions: &questions, timeout: self.timeout };
        let told = asked.told(!self.policy_only).await?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&told.json())?),
            false => print!("{}", told.text(&config)),
        }
        Ok(match told.agree() {
            Some(false) => Exit::Differs,
            _ if told.unasked.is_some() => Exit::TimedOut,
            _ if is_read && told.is_complete => Exit::Done,
            _ => Exit::Refused,
        })
    }
}

/// What a datapath is to the law under each driver. Flows judge SCTP by its own ports on every datapath.
pub(crate) fn judged_by(config: &Config) -> Settings {
    Settings {
        permitted_ethertypes: config.permitted_ethertypes.clone(),
        datapath: Datapath { tracks_sctp_ports: config.firewall_driver != FirewallDriver::OpenvSwitch },
    }
}

/// What is asked, and of whom.
pub(crate) struct Asked<'a> {
    pub(crate) config: &'a Config,
    pub(crate) policy: &'a Policy,
    pub(crate) questions: &'a [Question],
    /// How long switch and database may take, in seconds.
    pub(crate) timeout: f64,
}

impl Asked<'_> {
    /// What policy and datapath say. `looks` asks the datapath too, where there is one.
    pub(crate) async fn told(&self, looks: bool) -> anyhow::Result<Told> {
        let looks_at_all = looks && self.config.firewall_driver != FirewallDriver::Noop;
        let told = self.answered(looks_at_all).await?;
        if told.agree() != Some(false) {
            return Ok(told);
        }
        // A change that is under way looks like a fault.
        tokio::time::sleep(SECOND_LOOK).await;
        self.answered(looks_at_all).await
    }

    fn apart(&self) -> Option<Apart> {
        let [sender, receiver] = self.questions else { return None };
        let end = |question: &Question| {
            let port = self.policy.ports.get(&question.port)?;
            // Of a member on another host it is not known.
            let is_known = !["", ELSEWHERE].contains(&port.network_id.as_str());
            is_known.then(|| (port.id.clone(), port.network_id.clone()))
        };
        let ends = [end(sender)?, end(receiver)?];
        (ends[0].1 != ends[1].1).then_some(ends)
    }

    async fn answered(&self, looks_at_all: bool) -> anyhow::Result<Told> {
        let looked = match looks_at_all {
            true => Some(Switch::look(self.config, self.policy, self.timeout).await),
            false => None,
        };
        let (switch, unasked) = match looked {
            Some(Ok(switch)) => (Some(switch), None),
            Some(Err(reason)) => (None, Some(format!("{reason:#}"))),
            None => (None, None),
        };
        let (policy, is_complete) = switch.as_ref().map_or((self.policy, true), Switch::policy);
        let evaluator = Evaluator::new(policy, judged_by(self.config));
        let mut halves = Vec::new();
        for question in self.questions {
            let answer = answer(&evaluator, question)?;
            let looked = match &switch {
                Some(switch) => Some(switch.ask(question, &answer).await?),
                None => None,
            };
            halves.push(Half { answer, looked });
        }
        Ok(Told { apart: self.apart(), halves, unasked, is_complete })
    }
}

/// The policy to answer from, and whether nothing of it was refused: that of the document that is given; else what the agent is to
/// enforce; where none answers and documents are its source, those.
pub(crate) async fn policy_of(config: &Config, is_given: bool) -> anyhow::Result<(Policy, bool)> {
    let (feed, update) = read_for(config, is_given).await?;
    policy_in(&feed, &update)
}

/// The same, as it was read. What is refused of a document that is given stays as the agent has it, as it would with the agent.
pub(crate) async fn read_for(config: &Config, is_given: bool) -> anyhow::Result<(Feed, Update)> {
    let documents = || Documents::read(&config.policy_path);
    let mut feed = Feed::default();
    let update = match of_agent(config).await {
        Ok(agents) if is_given => {
            let is_known = feed.take(&agents).delta.is_some();
            let update = feed.take(&documents()?);
            if is_known && !update.refused.is_empty() {
                eprintln!(
                    "what is refused stays as the running agent has it, or closed where that does not know it"
                );
            }
            update
        }
        Ok(agents) => feed.take(&agents),
        Err(_) if is_given || config.policy_source == SourceKind::File => feed.take(&documents()?),
        Err(reason) => {
            return Err(reason)
                .context("the policy is in no document, and the agent was asked for it (or --policy FILE)");
        }
    };
    print_refused(&update);
    Ok((feed, update))
}

/// What the agent is to enforce.
pub(crate) async fn of_agent(config: &Config) -> Result<Documents, ClientError> {
    let document = agent::api::policy(&config.api_socket).await?;
    Ok(Documents { files: vec![(AGENTS.to_owned(), document.to_string().into())], written: None })
}

/// The policy of documents, if they came after another policy.
pub(crate) fn policy_after(before: &Policy, path: &Path) -> anyhow::Result<(Policy, bool)> {
    let mut feed = Feed::over(before.clone());
    let update = feed.take(&Documents::read(path)?);
    print_refused(&update);
    policy_in(&feed, &update)
}

fn policy_in(feed: &Feed, update: &Update) -> anyhow::Result<(Policy, bool)> {
    match feed.policy() {
        Some(policy) if update.delta.is_some() => {
            Ok((policy.as_ref().clone(), update.diagnostics.is_empty()))
        }
        _ => bail!("the document was refused whole: there is no policy to answer from"),
    }
}

/// What the agent's policy is called where something is wrong with it.
const AGENTS: &str = "the agent's policy";

/// Two ports that no switch joins, and their networks; the sender's first.
type Apart = [(PortId, NetworkId); 2];

/// What is told.
pub(crate) struct Told {
    /// Where both ends are ports and on different networks.
    apart: Option<Apart>,
    halves: Vec<Half>,
    /// Why the datapath was not asked.
    unasked: Option<String>,
    /// Whether the datapath can have all of the policy.
    is_complete: bool,
}

impl Told {
    /// Whether the datapath does what the policy says at all ends that were looked at; none where there were none.
    fn agree(&self) -> Option<bool> {
        let agree = self.halves.iter().filter_map(|half| half.looked.as_ref()?.agrees(&half.answer));
        agree.reduce(|all, one| all && one)
    }

    /// Each answer is one line, however wide the terminal is: it is what is copied from there. The rest fits.
    fn text(&self, config: &Config) -> String {
        let answers = self.halves.iter().map(|half| format!("{}\n", printable(&half.answer.to_string())));
        answers.collect::<String>() + &folded(&self.reasons(config))
    }

    fn reasons(&self, config: &Config) -> String {
        let mut text = String::new();
        if let Some(Half { answer, .. }) = self.halves.first() {
            let state = format!("{:?}", answer.state).to_lowercase();
            _ = writeln!(text, "  packet: {}, {state}", answer.packet);
        }
        if let Some([(sender, its), (receiver, other)]) = &self.apart {
            let line =
                format!("{sender} is on network {its}, {receiver} on {other}: only a router joins them");
            _ = writeln!(text, "  {}", printable(&line));
        }
        let of = match config.firewall_driver {
            FirewallDriver::OpenvSwitch | FirewallDriver::Noop => config.integration_bridge.clone(),
            driver => driver.to_string(),
        };
        if let Some(reason) = &self.unasked {
            _ = writeln!(text, "  {of}: not asked: {reason}");
        }
        for half in &self.halves {
            if let Some(looked) = &half.looked {
                text += &looked.text(&of, &half.answer);
            }
        }
        text
    }

    /// The flows that the packet finds, of each answer in the order of its steps; a step without a flow has none.
    pub(crate) fn flows(&self) -> impl Iterator<Item = Vec<Option<Flow>>> {
        self.halves.iter().map(|half| half.looked.as_ref().map(Looked::flows).unwrap_or_default())
    }

    pub(crate) fn json(&self) -> Value {
        let half = |half: &Half| {
            let mut value = serde_json::to_value(&half.answer).unwrap_or_default();
            value["switch"] = half.looked.as_ref().map_or(Value::Null, |looked| looked.json(&half.answer));
            value
        };
        json!({
            "answers": self.halves.iter().map(half).collect::<Vec<_>>(),
            "agree": self.agree(),
            "not_asked": self.unasked,
            "networks": self.apart.as_ref().map(|ends| ends.each_ref().map(|(_, network)| network.as_str())),
        })
    }
}
