//! A host with hybrid bridges and two ports on it.

use std::path::PathBuf;
use std::process::Command;

use lab::{FailMode, HybridHost, HybridSpec, Ovs};
use serde_json::Value;

use super::{Agent, document, eventually, ovs, sgflow, socket, status, stderr, stdout};

/// See the module's documentation.
pub struct HybridPair {
    pub host: HybridHost,
    pub ovs: Ovs,
    kind: &'static str,
}

impl HybridPair {
    /// A host with p-1 and p-2, under the driver `nftables`, or that with one kind of iptables.
    pub fn start(kind: &'static str, policy: &str) -> Self {
        let specs = [HybridSpec::new("p-1", 10), HybridSpec::new("p-2", 10)];
        let host = HybridHost::start(&specs).expect("a host");
        let ovs = ovs();
        ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
        drop(
            ovs.add_dummy_ports("br-int", specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"),
        );
        document(&ovs, policy);
        HybridPair { host, ovs, kind }
    }

    /// An agent that enforces it.
    pub fn agent(&self, more: &[&str]) -> Agent {
        let agent = self.agent_with(more, &[]);
        eventually("converged", || stdout(&status(&self.ovs, &[])).starts_with("converged"));
        agent
    }

    /// One that perhaps cannot, with more of an environment.
    pub fn agent_with(&self, more: &[&str], environment: &[(&str, &str)]) -> Agent {
        let driver = match self.kind {
            "nftables" => vec!["--driver", "nftables"],
            iptables => vec!["--driver", "iptables_hybrid", "--iptables-variant", iptables],
        };
        let arguments = [&driver[..], more].concat();
        Agent::start_on_host_with(&self.ovs, self.host.netns(), &arguments, environment)
    }

    /// From p-1.
    pub fn send(&self, frames: &[Vec<u8>]) {
        frames.iter().for_each(|frame| self.host.send_from_vm("p-1", frame).expect("sent"));
    }

    /// What `sgflow drops` says.
    pub fn drops(&self, more: &[&str]) -> Value {
        let mut command = sgflow();
        command.args(["drops", "--json", "--api-socket"]).arg(socket(&self.ovs)).args(more);
        let output = command.output().expect("sgflow runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What a shell says in the host's namespace.
    pub fn run(&self, command: &str) -> String {
        let lock = self.ovs.rundir().join("xtables.lock");
        let run = || {
            Command::new("sh").args(["-c", command]).env("XTABLES_LOCKFILE", lock).output().expect("a shell")
        };
        let output = self.host.netns().enter(run).expect("the host's namespace");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    }

    /// The mark of frames of a device, which has its zone.
    pub fn mark(&self, device: &str) -> String {
        let all = self.run("nft list map bridge sgflow marks");
        let found =
            all.split_once(&format!("\"{device}\" : ")).unwrap_or_else(|| panic!("{device} in {all}"));
        found.1.split([',', ' ']).next().expect("a mark").to_owned()
    }

    /// Of the agent's own log.
    pub fn log_path(&self) -> PathBuf {
        self.ovs.rundir().join("agent.log")
    }
}
