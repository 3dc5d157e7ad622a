//! `sgflow flows`: what stands in the switch, in words.

mod json;
mod source;
mod text;
mod view;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use explain::decode::{Decoding, Sources, Subject, decode, subjects};

use crate::apply::seconds;
use crate::exit::Exit;
use crate::options::SettingsOptions;
use source::{Known, Taken};

pub(crate) use source::interfaces;

/// The flows of the switch, or of a saved dump, decoded: what each is for, with names for its tables, registers, marks,
/// conjunctions and cookies, and its counters
///
/// Reads sgflow's flows and those of Neutron's own openvswitch driver and agent. Without `--from-dump` the switch and its
/// database are asked, and sgflow's agent for the policy that it enforces, if it answers and no other is given; nothing is
/// changed. With it no switch, no daemon and no right is needed.
///
/// Exit codes: 0 all was decoded; 1 nothing was: no such file, port, group or rule, or no flow in the file; 2 all but some lines, or some
/// objects of the policy, that could not be read; 3 switch or database not there, or no answer within the timeout.
#[derive(Args, Debug)]
pub(crate) struct FlowsCommand {
    /// Only flows that concern this: a port's id, interface or OpenFlow number, a security group's or address group's id
    /// or name, or a rule's id; the beginning is enough where only one begins so
    #[arg(value_name = "PORT|GROUP|RULE")]
    subject: Option<String>,

    /// A saved dump, as ovs-ofctl dump-flows or ovs-appctl bridge/dump-flows prints it, with or without --names and
    /// --no-stats; - is the standard input
    #[arg(long, value_name = "FILE")]
    from_dump: Option<PathBuf>,

    /// What flows stand together by
    #[arg(long, value_enum, default_value_t = By::Table)]
    by: By,

    /// Only what each flow is for, without its match and its actions
    #[arg(long, conflicts_with = "json")]
    brief: bool,

    /// Seconds to wait for the database and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON (docs/flows-command.md has the fields)
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

/// What flows stand together by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum By {
    /// The OpenFlow table
    Table,
    /// The port they concern; a flow of several ports stands with each
    Port,
    /// The security group or address group; a flow of several stands with each
    Group,
    /// The rule; a flow of several stands with each
    Rule,
}

impl FlowsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let timeout = Duration::from_secs_f64(self.timeout);
        let taken = match &self.from_dump {
            Some(path) => source::from_dump(path, self.settings.policy_given())?,
            None => {
                let given = self.settings.policy_given().is_some();
                let config = self.settings.config()?;
                match tokio::time::timeout(timeout, source::from_switch(&config)).await {
                    Ok(Err(error)) if source::is_away(&error) => {
                        eprintln!("sgflow: {error:#}");
                        return Ok(Exit::TimedOut);
                    }
                    Ok(taken) => {
                        let taken = taken?;
                        Taken { known: source::known_here(&config, given).await?, ..taken }
                    }
                    Err(_) => {
                        eprintln!(
                            "{}: no answer from the switch or its database within {} s",
                            config.integration_bridge, self.timeout
                        );
                        return Ok(Exit::TimedOut);
                    }
                }
            }
        };
        let sources = Sources {
            policy: taken.known.policy.as_ref(),
            interfaces: &taken.interfaces,
            named: Some(&taken.dump.interfaces),
        };
        let decoding = decode(&taken.dump.flows, sources);
        let subject = self.subject.as_deref().map(|word| find(word, &decoding, &taken)).transpose()?;
        let output = match self.json {
            true => format!("{}\n", json::of(&taken, &decoding, subject.as_ref())),
            false => {
                let page = text::Page { columns: crate::text::columns(), by: self.by, is_brief: self.brief };
                page.of(&taken, &decoding, subject.as_ref())
            }
        };
        print!("{output}");
        let is_complete = taken.dump.unread.is_empty() && !taken.known.is_partial;
        Ok(if is_complete { Exit::Done } else { Exit::Refused })
    }
}

/// Whom a word means.
fn find(word: &str, decoding: &Decoding, taken: &Taken) -> anyhow::Result<Subject> {
    let rules: BTreeSet<_> = decoding.rules();
    let mut found = subjects(word, &decoding.names, &rules);
    if found.len() > 1 {
        let words: Vec<String> = found.iter().map(|subject| subject.words(&decoding.names)).collect();
        bail!("{word} may be {}: say more of its id", words.join(", or "));
    }
    let hint = match &taken.known {
        Known { policy: Some(_), .. } => String::new(),
        Known { unasked: None, .. } => "; groups by name and rules are known with --policy".to_owned(),
        Known { unasked: Some(reason), .. } => {
            format!("; groups by name and rules are known with --policy, or from the agent: {reason}")
        }
    };
    found
        .pop_first()
        .with_context(|| format!("{}: there is no port, group or rule {word}{hint}", taken.place))
}
