//! The agent as an operator runs it: a process of its own, known by what it logs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::Ovs;

use super::BRIDGE;

const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What the agent logs when the policy given so far is in the switch and in its caches.
const APPLIED: &str = " applied ";

pub(crate) struct AgentProcess {
    log: PathBuf,
}

impl AgentProcess {
    /// Starts `sgflow agent` with the document; it ends with the lab.
    pub(crate) fn start(ovs: &mut Ovs, document: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe().context("finding this program")?);
        command.arg("agent").arg("--policy").arg(document).args([
            "--bridge",
            BRIDGE,
            "--ovsdb",
            &ovs.db_remote(),
        ]);
        // The demo is the same on every machine, whatever is configured there.
        command.args(["--config", "/dev/null"]);
        command.arg("--api-socket").arg(ovs.rundir().join("sgflow.sock"));
        let log = ovs.rundir().join("agent.out");
        ovs.start_daemon("agent", command)?;
        Ok(AgentProcess { log })
    }

    /// How often it has said so far that everything is applied.
    pub(crate) fn applied(&self) -> anyhow::Result<usize> {
        Ok(self.output()?.matches(APPLIED).count())
    }

    /// Waits until it has said so more than `before` times.
    pub(crate) fn wait_for_applied(&self, before: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.applied()? <= before {
            if Instant::now() > deadline {
                bail!("the agent did not converge in {PATIENCE:?}; it said:\n{}", self.output()?);
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn output(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))
    }
}
