//! What the bridge holds, read once, for commands that only look.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::apply::look;
use agent::audit::without;
use agent::config::Config;
use agent::daemon;
use agent::driver::{Driver as _, Found, OpenvSwitch};
use agent::engine::Report;
use agent::host::ClosedInterface;
use explain::decode::Sources;
use explain::readable::Readable;
use ovsdb::Remote;
use policy::Policy;
use rust_openflow::Flow;
use verify::Tables;

use crate::options::setup;

/// Where the sockets of a host are when the database is reached over the network.
const DEFAULT_RUNDIR: &str = "/var/run/openvswitch";

/// See the module's documentation.
pub(crate) struct Held {
    /// Flows, local ports, and what would make the flows those of the policy.
    pub(crate) found: Found,
    /// The flows in canonical form, to be followed.
    pub(crate) tables: Tables,
    /// The same, to be read.
    pub(crate) readable: Readable,
    /// The policy without the rules that the switch cannot have, which admit nothing.
    pub(crate) policy: Policy,
    /// Whether there are none of these.
    pub(crate) is_complete: bool,
    /// The interfaces that say they are a port's, and are closed for what they are.
    pub(crate) closed: Vec<ClosedInterface>,
}

impl Held {
    /// Reads the bridge, beside a policy that is not made to be in force.
    pub(crate) async fn read(config: &Config, policy: &Policy, within: Duration) -> anyhow::Result<Self> {
        let mut driver = OpenvSwitch::new(setup(config, true))?;
        let delta = Policy::diff(&Policy::default(), policy);
        let applied = look(&mut driver, delta, within).await?;
        let (policy, is_complete) = enforceable(policy, &applied.refused);
        let found = driver.found();
        let policy = found.as_plugged(policy);
        let held = found.held.iter().cloned().map(Flow::canonical);
        let tables = Tables::of_switch(held);
        let readable = Readable::new(tables.flows(), Sources { policy: Some(&policy), ..Sources::default() });
        Ok(Held { found, tables, readable, policy, is_complete, closed: driver.closed() })
    }
}

/// The policy without the rules that a driver refuses, which it tells of, and whether it refuses nothing.
pub(crate) fn enforceable(policy: &Policy, refused: &[Report]) -> (Policy, bool) {
    refused.iter().for_each(daemon::tell);
    let rules = refused.iter().filter_map(|report| match report {
        Report::RuleRefused(rule) => Some(rule.clone()),
        _ => None,
    });
    (without(policy, &rules.collect::<Vec<_>>()), refused.is_empty())
}

/// Where the sockets of ovs-vswitchd are.
pub(crate) fn rundir(config: &Config) -> PathBuf {
    match &config.ovsdb.remote {
        Remote::Unix(path) => path.parent().unwrap_or(Path::new("")).to_owned(),
        Remote::Tcp(_) | Remote::Ssl(_) => PathBuf::from(DEFAULT_RUNDIR),
    }
}
