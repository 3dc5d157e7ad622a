//! The switch's side: is it enforced there?

use std::sync::Arc;
use std::time::Duration;

use agent::api::{self, ClientError, Condition};
use agent::audit::audit;
use agent::config::Config;
use agent::driver::{Found, OpenvSwitch};
use agent::engine::Report;
use anyhow::{bail, ensure};
use pipeline::RefusedRule;
use policy::{Policy, PolicyDelta, PortId};
use tokio::time::{Instant, sleep};

use super::database;
use crate::apply::converge;
use crate::options::setup;

/// How often it is looked again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who enforces at the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Enforcer {
    /// An agent.
    Agent,
    /// This command, step by step.
    Ourselves,
}

/// The switch and what is to be enforced there.
pub(super) struct Switch<'a> {
    pub(super) config: &'a Config,
    pub(super) policy: &'a Arc<Policy>,
    pub(super) enforcer: Enforcer,
    pub(super) timeout: Duration,
}

impl Switch<'_> {
    /// The policy, from nothing.
    pub(super) fn delta(&self) -> PolicyDelta {
        Policy::diff(&Policy::default(), self.policy)
    }

    /// Returns when all that is plugged in is enforced at the switch.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        if self.enforcer == Enforcer::Ourselves {
            let mut driver = OpenvSwitch::new(setup(self.config, false))?;
            converge(&mut driver, self.delta(), self.timeout).await?;
        }
        self.wait(|_| true, "the flows of the switch are not what the policy says").await.map(drop)
    }

    /// Returns when a port is open at an interface, and the flows of the switch are as they should be.
    pub(super) async fn wait_until_open(&self, port: &PortId, interface: &str) -> anyhow::Result<()> {
        let bridge = database::read(self.config).await?;
        let Some(plugged) = bridge.plugged.iter().find(|plugged| plugged.name == interface) else {
            bail!("interface {interface} is not on {}", self.config.integration_bridge);
        };
        if let (None, Some(error)) = (plugged.ofport, &plugged.error) {
            bail!("the switch cannot open {interface}: {error}");
        }
        if self.enforcer == Enforcer::Ourselves {
            let mut driver = OpenvSwitch::new(setup(self.config, false))?;
            converge(&mut driver, self.delta(), self.timeout).await?;
        }
        let is_open = |found: &Found| {
            found.ports.iter().any(|local| local.id == *port && Some(local.ofport) == plugged.ofport)
        };
        let what = format!("port {port} is not open at {interface}");
        self.wait(is_open, &what).await.map(drop)
    }

    /// Whether the switch is exactly the policy, proved as `sgflow verify` does.
    pub(super) async fn is_exact(&self) -> anyhow::Result<bool> {
        let (found, refused) = self.wait(|_| true, "the flows are not what the policy says").await?;
        Ok(audit(&found, self.policy, &refused, &self.config.permitted_ethertypes).is_exact())
    }

    async fn wait(
        &self,
        is_good: impl Fn(&Found) -> bool,
        what: &str,
    ) -> anyhow::Result<(Found, Vec<RefusedRule>)> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let (found, refused) = self.look().await?;
            if found.drift.is_empty() && is_good(&found) {
                return Ok((found, refused));
            }
            ensure!(Instant::now() < deadline, Late { what: what.to_owned(), after: self.timeout });
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> anyhow::Result<(Found, Vec<RefusedRule>)> {
        let mut driver = OpenvSwitch::new(setup(self.config, true))?;
        let (applied, _) = converge(&mut driver, self.delta(), self.timeout).await?;
        let rules = applied.refused.into_iter().filter_map(|report| match report {
            Report::RuleRefused(rule) => Some(rule),
            _ => None,
        });
        Ok((driver.found(), rules.collect()))
    }
}

/// Something did not come about in time.
#[derive(Debug)]
pub(super) struct Late {
    what: String,
    after: Duration,
}

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after {} s", self.what, self.after.as_secs_f32())
    }
}

impl std::error::Error for Late {}

/// Who enforces at the switch of this host; an error that says what to do if nobody does.
pub(super) async fn enforcer(config: &Config, apply: bool) -> anyhow::Result<Enforcer> {
    let status = match api::status(&config.api_socket).await {
        Ok(status) => status,
        Err(ClientError::Unreachable { .. }) if apply => return Ok(Enforcer::Ourselves),
        Err(error @ ClientError::Unreachable { .. }) => {
            bail!("{error}: start it with firewall_driver openvswitch, or give --apply")
        }
        Err(error) => return Err(error.into()),
    };
    ensure!(
        status.firewall_driver == "openvswitch",
        "the agent of this host enforces by {}: set firewall_driver to openvswitch and start it again; what {} has in \
         force stays until the last port is moved",
        status.firewall_driver,
        status.firewall_driver
    );
    ensure!(status.condition != Condition::Disconnected, "the agent of this host is disconnected: {status}");
    Ok(Enforcer::Agent)
}
