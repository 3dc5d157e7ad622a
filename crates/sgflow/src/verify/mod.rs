//! `sgflow verify`: is the switch exactly the policy?

mod text;

pub(crate) use self::text::flow_text;

use std::time::{Duration, Instant};

use agent::apply::look;
use agent::audit::{Audit, Deviation, Finding, Way, audit};
use agent::config::{Config, FirewallDriver};
use agent::daemon;
use agent::driver::{Found, Hybrid, OpenvSwitch};
use agent::engine::Report;
use anyhow::bail;
use clap::Args;
use pipeline::is_enforcing;
use policy::Policy;
use serde_json::{Value, json};

use self::text::{text_of, word_for};
use crate::apply::{converge, exit_of, seconds};
use crate::exit::Exit;
use crate::explain::read_for;
use crate::options::{SettingsOptions, hybrid_setup, setup};

/// What differs is looked at again after so long: a change that is under way looks like a fault.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Prove that the switch is exactly the policy, or name what is not: flows that are missing, altered or not wanted,
/// each with a packet and its way through the tables
///
/// The policy is that of --policy, else what the running agent is to enforce, else the settings' document. Reads the switch
/// back and compares all flows with those that the policy comes to; then proves, without the code that made the flows,
/// that for every port, direction and state of connection tracking just those packets pass that the policy admits. What
/// differs is read again after 2 s, since an agent may be at work.
///
/// Exit codes: 0 the switch is the policy; 1 nothing could be verified; 2 it is, but for objects that were refused; 3
/// switch or database not there within the timeout; 4 the switch is not the policy.
#[derive(Args, Debug)]
pub(crate) struct VerifyCommand {
    /// Make the switch as the policy says if it is not, and verify again. Not while an agent runs: it does that itself
    #[arg(long)]
    fix: bool,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    timeout: f64,

    /// Show each flow that is wrong, and not just ten of them
    #[arg(long)]
    all: bool,

    /// Print what was found as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl VerifyCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let (fix, as_json, shows_all) = (self.fix, self.json, self.all);
        let timeout = Duration::from_secs_f64(self.timeout);
        let is_given = self.settings.policy_given().is_some();
        let config = self.settings.config()?;
        if config.firewall_driver == FirewallDriver::Noop {
            bail!("firewall_driver {}: there is nothing to verify", config.firewall_driver);
        }
        let (feed, update) = read_for(&config, is_given).await?;
        let (Some(policy), Some(_)) = (feed.policy(), &update.delta) else {
            eprintln!("the document was refused whole: there is no policy to verify");
            return Ok(Exit::Refused);
        };
        let verifier = Verifier { config: &config, policy, timeout, as_json, shows_all };
        let verified = match config.firewall_driver {
            FirewallDriver::IptablesHybrid | FirewallDriver::Nftables => verifier.verify_kernel(fix).await,
            FirewallDriver::OpenvSwitch | FirewallDriver::Noop => verifier.verify(fix).await,
        };
        match verified {
            Ok(Exit::Done) if !update.diagnostics.is_empty() => Ok(Exit::Refused),
            Ok(exit) => Ok(exit),
            Err(error) => {
                let exit = exit_of(error.downcast_ref());
                eprintln!("{error:#}");
                Ok(exit)
            }
        }
    }
}

struct Verifier<'a> {
    config: &'a Config,
    policy: &'a Policy,
    timeout: Duration,
    as_json: bool,
    shows_all: bool,
}

/// What was found, and about what.
struct Look {
    audit: Audit,
    found: Found,
    took: Duration,
    is_complete: bool,
}

impl Verifier<'_> {
    async fn verify(&self, fix: bool) -> anyhow::Result<Exit> {
        let mut look = self.look().await?;
        if !look.audit.is_exact() && !fix {
            tokio::time::sleep(SECOND_LOOK).await;
            look = self.look().await?;
        }
        self.tell(&look);
        if fix && !look.audit.is_exact() {
            self.mend().await?;
            look = self.look().await?;
            self.tell(&look);
        }
        Ok(match (look.audit.is_exact(), look.is_complete) {
            (true, true) => Exit::Done,
            (true, false) => Exit::Refused,
            (false, _) => Exit::Differs,
        })
    }

    /// On a host with hybrid bridges: whether the kernel holds exactly what the driver would put there.
    async fn verify_kernel(&self, fix: bool) -> anyhow::Result<Exit> {
        let (mut differences, mut is_complete) = self.look_at_kernel().await?;
        if !differences.is_empty() && !fix {
            tokio::time::sleep(SECOND_LOOK).await;
            (differences, is_complete) = self.look_at_kernel().await?;
        }
        self.tell_of_kernel(&differences);
        if fix && !differences.is_empty() {
            let mut driver = match self.config.firewall_driver {
                FirewallDriver::Nftables => Hybrid::with_nftables(hybrid_setup(self.config))?,
                _ => Hybrid::new(hybrid_setup(self.config))?,
            };
            let delta = Policy::diff(&Policy::default(), self.policy);
            converge(&mut driver, delta, self.timeout).await?;
            (differences, is_complete) = self.look_at_kernel().await?;
            self.tell_of_kernel(&differences);
        }
        Ok(match (differences.is_empty(), is_complete) {
            (true, true) => Exit::Done,
            (true, false) => Exit::Refused,
            (false, _) => Exit::Differs,
        })
    }

    async fn look_at_kernel(&self) -> anyhow::Result<(Vec<String>, bool)> {
        let has_nftables = self.config.firewall_driver == FirewallDriver::Nftables;
        let mut driver = Hybrid::looking(hybrid_setup(self.config), has_nftables)?;
        let delta = Policy::diff(&Policy::default(), self.policy);
        let applied = look(&mut driver, delta, self.timeout).await?;
        applied.refused.iter().for_each(daemon::tell);
        Ok((driver.planned(), applied.refused.is_empty()))
    }

    fn tell_of_kernel(&self, differences: &[String]) {
        let driver = self.config.firewall_driver;
        if self.as_json {
            println!(
                "{}",
                json!({"driver": driver.to_string(), "exact": differences.is_empty(), "differences": differences})
            );
        } else if differences.is_empty() {
            println!("{driver}: the kernel is exactly the policy");
        } else {
            println!("{driver}: the kernel is not the policy: {} differences", differences.len());
            differences.iter().for_each(|difference| println!("  {difference}"));
        }
    }

    async fn look(&self) -> anyhow::Result<Look> {
        let mut driver = self.driver(true)?;
        let delta = Policy::diff(&Policy::default(), self.policy);
        let applied = look(&mut driver, delta, self.timeout).await?;
        let rules = applied.refused.iter().filter_map(|report| match report {
            Report::RuleRefused(rule) => Some(rule.clone()),
            _ => None,
        });
        let (found, began) = (driver.found(), Instant::now());
        let audit = audit(&found, self.policy, &rules.collect::<Vec<_>>(), &self.config.permitted_ethertypes);
        applied.refused.iter().for_each(daemon::tell);
        Ok(Look { audit, found, took: began.elapsed(), is_complete: applied.refused.is_empty() })
    }

    async fn mend(&self) -> anyhow::Result<()> {
        let mut driver = self.driver(false)?;
        let delta = Policy::diff(&Policy::default(), self.policy);
        let (_, status) = converge(&mut driver, delta, self.timeout).await?;
        eprintln!("{}: sent {} flow-mods", self.config.integration_bridge, status.sent.flow_mods());
        Ok(())
    }

    fn driver(&self, dry_run: bool) -> anyhow::Result<OpenvSwitch> {
        Ok(OpenvSwitch::new(setup(self.config, dry_run))?)
    }

    fn tell(&self, look: &Look) {
        let bridge = &self.config.integration_bridge;
        match self.as_json {
            true => println!("{}", json_of(bridge, look)),
            false => print!("{}", text_of(bridge, look, self.policy, self.shows_all)),
        }
    }
}

fn json_of(bridge: &str, look: &Look) -> Value {
    let Look { audit, found, took, is_complete } = look;
    let differences: Vec<String> = audit.unexplained.iter().map(ToString::to_string).collect();
    json!({
        "bridge": bridge,
        "exact": audit.is_exact(),
        "complete": is_complete,
        "flows": found.held.iter().filter(|flow| is_enforcing(flow)).count(),
        "ports": found.ports.len(),
        "seconds": took.as_secs_f64(),
        "findings": audit.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "differences": audit.differences,
        "unexplained": differences,
        "unproven": audit.unproven,
    })
}

fn finding_json(finding: &Finding) -> Value {
    let wanted = match &finding.deviation {
        Deviation::Altered { wanted, .. } | Deviation::Missing(wanted) => Some(wanted.to_string()),
        Deviation::Extra(_) => None,
    };
    let evidence = finding.evidence.as_ref().map(|evidence| {
        let way = |way: &Way| {
            let steps = way.steps.iter();
            let steps =
                steps.map(|(table, flow)| json!({"table": table, "flow": flow.as_ref().map(flow_text)}));
            json!({"steps": steps.collect::<Vec<_>>(), "broken": way.broken})
        };
        json!({
            "packet": evidence.packet.to_string(),
            "difference": evidence.difference.as_ref().map(ToString::to_string),
            "switch": way(&evidence.held),
            "policy": way(&evidence.wanted),
        })
    });
    json!({
        "kind": word_for(finding),
        "held": finding.deviation.held().map(ToString::to_string),
        "wanted": wanted,
        "unfollowed": finding.unfollowed.map(|fault| fault.to_string()),
        "evidence": evidence,
    })
}
