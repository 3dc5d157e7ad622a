//! `sgflow apply`: converge once.

use std::time::Duration;

use agent::apply::{Applied, ApplyError, apply};
use agent::config::{Config, FirewallDriver};
use agent::daemon;
use agent::driver::{Driver, Hybrid, Noop, OpenvSwitch};
use agent::engine::{Report, Status};
use agent::source::{Documents, Feed, Update};
use clap::Args;
use policy::PolicyDelta;
use serde_json::json;

use crate::exit::Exit;
use crate::options::{SettingsOptions, hybrid_setup, setup};

/// Make the bridge as the policy says, once, and return when it is: in its tables and in its caches
///
/// Exit codes: 0 applied; 1 nothing done (no such file, an unsafe bridge, an agent that holds the bridge); 2 applied
/// but for what was refused, all of it listed on stderr, interfaces of ports that are closed for what they are
/// included; 3 switch, database or an interface of a port not there within the timeout.
///
/// An object that is refused admits nothing: there is no earlier document in which it could stand as it was. A port
/// that is refused is closed, also when the bridge has flows for it.
#[derive(Args, Debug)]
pub(crate) struct ApplyCommand {
    /// Print the flow changes as ovs-ofctl takes them in a bundle, and send nothing
    #[arg(long)]
    dry_run: bool,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    timeout: f64,

    /// Print the summary as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0 to 1e9".to_owned()),
    }
}

impl ApplyCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let (dry_run, json) = (self.dry_run, self.json);
        let timeout = Duration::from_secs_f64(self.timeout);
        let config = self.settings.config()?;
        let documents = Documents::read(&config.policy_path)?;
        let update = Feed::default().take(&documents);
        print_refused(&update);
        let Some(delta) = update.delta else {
            eprintln!("the document was refused whole; nothing was changed");
            return Ok(Exit::Refused);
        };
        let outcome = match config.firewall_driver {
            FirewallDriver::Noop => converge(&mut Noop::default(), delta, timeout).await,
            FirewallDriver::IptablesHybrid | FirewallDriver::Nftables if dry_run => {
                let has_nftables = config.firewall_driver == FirewallDriver::Nftables;
                let mut driver = Hybrid::looking(hybrid_setup(&config), has_nftables)?;
                let outcome = converge(&mut driver, delta, timeout).await;
                for line in driver.planned() {
                    println!("{line}");
                }
                outcome
            }
            FirewallDriver::IptablesHybrid => {
                converge(&mut Hybrid::new(hybrid_setup(&config))?, delta, timeout).await
            }
            FirewallDriver::Nftables => {
                converge(&mut Hybrid::with_nftables(hybrid_setup(&config))?, delta, timeout).await
            }
            FirewallDriver::OpenvSwitch => {
                let mut driver = OpenvSwitch::new(setup(&config, dry_run))?;
                let outcome = converge(&mut driver, delta, timeout).await;
                for flow_mod in driver.planned() {
                    println!("{flow_mod}");
                }
                outcome
            }
        };
        let (applied, status) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("{error}");
                return Ok(exit_of(Some(&error)));
            }
        };
        applied.refused.iter().chain(&applied.notes).for_each(daemon::tell);
        let summary = Summary { config: &config, status, dry_run, refused: &applied.refused };
        if json {
            println!("{}", summary.json(&update.diagnostics));
        } else {
            eprintln!("{}", summary.text());
        }
        let refused = !update.diagnostics.is_empty() || !applied.refused.is_empty();
        Ok(if refused { Exit::Refused } else { Exit::Done })
    }
}

/// How a command ends that could not converge.
pub(crate) fn exit_of(error: Option<&ApplyError>) -> Exit {
    match error {
        Some(ApplyError::TimedOut { .. }) => Exit::TimedOut,
        Some(ApplyError::FlowRefused(_)) => Exit::Refused,
        Some(ApplyError::Locked(_) | ApplyError::FailMode(_)) | None => Exit::Failed,
    }
}

pub(crate) async fn converge<D: Driver>(
    driver: &mut D,
    delta: PolicyDelta,
    within: Duration,
) -> Result<(Applied, Status), ApplyError> {
    let applied = apply(driver, delta, within).await?;
    Ok((applied, driver.status()))
}

/// Everything that is wrong with the documents, at once.
pub(crate) fn print_refused(update: &Update) {
    for diagnostic in &update.diagnostics {
        eprintln!("{diagnostic}");
    }
    for object in &update.refused {
        eprintln!("refused: {object}");
    }
}

struct Summary<'a> {
    config: &'a Config,
    status: Status,
    dry_run: bool,
    refused: &'a [Report],
}

impl Summary<'_> {
    fn text(&self) -> String {
        let Status { ports, ports_without_policy, sets, flows, sent } = self.status;
        let verb = if self.dry_run { "would send" } else { "sent" };
        let closed = match ports_without_policy {
            0 => String::new(),
            number => format!(" ({number} of them closed: no policy knows them)"),
        };
        format!(
            "{}: {verb} {} flow-mods ({} added, {} modified, {} deleted) in {} bundles; {flows} flows for {ports} \
             ports{closed} with {sets} sets of security groups",
            self.config.integration_bridge,
            sent.flow_mods(),
            sent.added,
            sent.modified,
            sent.deleted,
            sent.bundles,
        )
    }

    fn json(&self, diagnostics: &[policy::document::Diagnostic]) -> serde_json::Value {
        let Status { ports, ports_without_policy, sets, flows, sent } = self.status;
        let diagnostics: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        let refused: Vec<String> = self.refused.iter().map(refusal_text).collect();
        json!({
            "bridge": self.config.integration_bridge,
            "dry_run": self.dry_run,
            "sent": {
                "added": sent.added,
                "modified": sent.modified,
                "deleted": sent.deleted,
                "flow_mods": sent.flow_mods(),
                "bundles": sent.bundles,
            },
            "ports": ports,
            "ports_without_policy": ports_without_policy,
            "sets": sets,
            "flows": flows,
            "diagnostics": diagnostics,
            "refused": refused,
        })
    }
}

fn refusal_text(report: &Report) -> String {
    match report {
        Report::FlowRefused(refused) => refused.to_string(),
        Report::RuleRefused(rule) => {
            format!("rule {} of security group {}: {}", rule.rule, rule.group, rule.reason)
        }
        Report::NoZone(port, reason) => format!("port {port}: {reason}"),
        Report::Closed(closed) => closed.to_string(),
        other => format!("{other:?}"),
    }
}
