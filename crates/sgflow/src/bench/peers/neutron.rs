//! Neutron's firewall drivers for Open vSwitch and for hybrid bridges, in a Python process of its own (`neutron_driver.py`).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use std::{env, ffi, io, os};

use agent::driver::Variant;
use anyhow::{Context as _, Result, bail, ensure};
use lab::{Ovs, process};
use policy::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Clocks, Enforcer, PeerCost, TookTooLong, until_idle};
use crate::bench::document;
use crate::bench::host::{BRIDGE, Host};
use crate::bench::hybrid::kernel;
use crate::bench::scenario::Scenario;

const SCRIPT: &str = include_str!("neutron_driver.py");
const NAME: &str = "neutron";

/// Its version.
pub(super) fn version(python: &Path) -> Result<String> {
    let missing =
        "Neutron is not installed: run `make peers`, or name a Python that can import it by --python";
    let mut command = Command::new(python);
    command.args(["-c", "import importlib.metadata, neutron; print(importlib.metadata.version('neutron'))"]);
    super::version_of(&mut command, missing)
}

/// Has it enforce a policy on the ports of a switch, and end; its flows stay.
pub(super) fn leave_flows(ovs: &Ovs, python: &Path, policy: &Policy) -> Result<()> {
    let (script, document) = (ovs.rundir().join("neutron_driver.py"), ovs.rundir().join("policy.json"));
    fs::write(&script, SCRIPT)?;
    fs::write(&document, document::of(policy).to_string())?;
    let mut command = Command::new(python);
    command.arg(script).arg("--rundir").arg(ovs.rundir()).arg("--policy").arg(document);
    command.args(["--db", &ovs.db_remote(), "--bridge", BRIDGE]);
    process::run(command, Some(ovs.netns()))?;
    Ok(())
}

/// The answer to `load`.
#[derive(Deserialize, PartialEq, Debug)]
struct Loaded {
    /// Ports that the change concerns.
    ports: usize,
}

/// The answer to `apply`.
#[derive(Deserialize, PartialEq, Debug)]
struct Applied {
    /// Of the driver for Open vSwitch.
    flow_mods: Option<usize>,
    /// Of the driver for hybrid bridges.
    programs: Option<usize>,
    /// Until the driver returned, in seconds.
    taken: f64,
}

/// Which driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Driver {
    OpenvSwitch,
    /// With one kind of iptables.
    IptablesHybrid(Variant),
}

impl Driver {
    /// As Neutron's configuration has it.
    fn name(self) -> &'static str {
        match self {
            Driver::OpenvSwitch => "openvswitch",
            Driver::IptablesHybrid(_) => "iptables_hybrid",
        }
    }
}

/// The driver at work on a switch of its own.
pub(super) struct Neutron {
    host: Host,
    driver: Driver,
    python: PathBuf,
    patience: Duration,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Neutron {
    /// Starts it on a switch without flows, in a network namespace without rules.
    pub(super) fn start(
        scenario: &Scenario,
        driver: Driver,
        python: &Path,
        patience: Duration,
    ) -> Result<Self> {
        let mut host = match driver {
            Driver::OpenvSwitch => Host::start(scenario)?,
            Driver::IptablesHybrid(_) => Host::start_hybrid(scenario)?,
        };
        fs::write(script_of(&host), SCRIPT)?;
        if let Driver::IptablesHybrid(variant) = driver {
            link_tools(&tools_of(&host), variant)?;
        }
        let (commands, answers) = begin(&mut host, driver, python)?;
        Ok(Neutron { host, driver, python: python.to_owned(), patience, commands, answers })
    }

    fn policy_file(&self) -> PathBuf {
        self.host.ovs.rundir().join("policy.json")
    }

    /// Has it enforce what the file says. To read that is not in the figures.
    fn enforce(&mut self) -> Result<PeerCost> {
        let load = format!("load {}", self.policy_file().display());
        let Loaded { ports } = self.ask(&load)?;
        ensure!(ports > 0, "the agent would do nothing about this change");
        until_idle(self.patience, || self.clocks())?;
        let before = self.clocks()?;
        let Applied { flow_mods, programs, taken } = self.ask("apply")?;
        let cost = self.clocks()?.cost_since(&before);
        let flows = match self.driver {
            Driver::OpenvSwitch => self.host.flows()?,
            Driver::IptablesHybrid(variant) => kernel::held(self.host.ovs.netns(), variant)?.rules,
        };
        Ok(PeerCost { flow_mods, programs, taken, flows, ..cost })
    }

    fn clocks(&self) -> Result<Clocks> {
        let agent = process::cpu_of_tree(self.host.ovs.daemon_pid(NAME)?)?;
        Ok(Clocks { central: Duration::ZERO, agent, switch: self.host.switch_cpu()? })
    }

    fn ask<A: DeserializeOwned>(&mut self, command: &str) -> Result<A> {
        writeln!(self.commands, "{command}").context("the driver has ended")?;
        match self.answers.recv_timeout(self.patience) {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("{command}: {line}")),
            Err(RecvTimeoutError::Timeout) => Err(TookTooLong.into()),
            Err(RecvTimeoutError::Disconnected) => {
                let said = fs::read_to_string(self.host.ovs.rundir().join(format!("{NAME}.out")))?;
                bail!("{command}: the driver has ended: {said}")
            }
        }
    }
}

impl Enforcer for Neutron {
    fn apply(&mut self, policy: &Policy) -> Result<PeerCost> {
        fs::write(self.policy_file(), document::of(policy).to_string())?;
        self.enforce()
    }

    fn restart(&mut self) -> Result<PeerCost> {
        self.host.ovs.stop_daemon(NAME);
        (self.commands, self.answers) = begin(&mut self.host, self.driver, &self.python)?;
        self.enforce()
    }
}

fn script_of(host: &Host) -> PathBuf {
    host.ovs.rundir().join("neutron_driver.py")
}

fn tools_of(host: &Host) -> PathBuf {
    host.ovs.rundir().join("tools")
}

fn tools_first(directory: &Path) -> Result<ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = [directory.to_owned()].into_iter().chain(env::split_paths(&path));
    env::join_paths(places).map_err(io::Error::other).context("a directory for PATH")
}

/// The names by which Neutron runs iptables mean this kind of it in `directory`.
fn link_tools(directory: &Path, variant: Variant) -> Result<()> {
    fs::create_dir(directory)?;
    let places = env::var_os("PATH").unwrap_or_default();
    for family in ["iptables", "ip6tables"] {
        for name in ["", "save", "restore"] {
            let tool = kernel::tool(variant, family, name);
            let found = env::split_paths(&places).map(|place| place.join(&tool)).find(|path| path.exists());
            let found = found.with_context(|| format!("{tool} is not here"))?;
            os::unix::fs::symlink(found, directory.join(kernel::tool(Variant::OfHost, family, name)))?;
        }
    }
    Ok(())
}

/// Starts the script; a thread reads what it answers, so that waiting for it can end.
fn begin(host: &mut Host, driver: Driver, python: &Path) -> Result<(ChildStdin, Receiver<String>)> {
    let mut command = Command::new(python);
    if let Driver::IptablesHybrid(_) = driver {
        command.env("PATH", tools_first(&tools_of(host))?);
    }
    command.arg(script_of(host)).arg("--rundir").arg(host.ovs.rundir());
    command.args(["--db", &host.ovs.db_remote(), "--bridge", BRIDGE, "--driver", driver.name()]);
    let (commands, said) = host.ovs.start_coprocess(NAME, command)?;
    let (told, answers) = channel();
    thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    Ok((commands, answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_script_writes_them() {
        let loaded: Loaded = serde_json::from_str(r#"{"ports": 2}"#).unwrap();
        assert_eq!(loaded, Loaded { ports: 2 });
        let text = r#"{"flow_mods": 142, "taken": 0.25}"#;
        let applied = Applied { flow_mods: Some(142), programs: None, taken: 0.25 };
        assert_eq!(serde_json::from_str::<Applied>(text).unwrap(), applied);
        let text = r#"{"programs": 4, "taken": 0.25}"#;
        let applied = Applied { flow_mods: None, programs: Some(4), taken: 0.25 };
        assert_eq!(serde_json::from_str::<Applied>(text).unwrap(), applied);
        assert!(serde_json::from_str::<Applied>(r#"{"ports": 2}"#).is_err());
    }
}
