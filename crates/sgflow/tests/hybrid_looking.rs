//! `sgflow explain`, `connections` and `diff` on hosts with hybrid bridges, under both drivers.

mod common;
mod documented;

use std::fs;
use std::process::Output;

use common::traffic::{BY_ANYBODY, datagram, policy};
use common::{Agent, document, eventually, ovs, sgflow, status, stderr, stdout};
use documented::is_printed_as;
use lab::{FailMode, HybridHost, HybridSpec, Ovs};

struct Host {
    _agent: Agent,
    host: HybridHost,
    ovs: Ovs,
    driver: &'static str,
}

impl Host {
    /// A host with ports p-1 and p-2, filtered, and a datagram from the one that came to the other.
    fn start(driver: &'static str) -> Self {
        let specs = [HybridSpec::new("p-1", 10), HybridSpec::new("p-2", 10)];
        let host = HybridHost::start(&specs).expect("a host");
        let ovs = ovs();
        ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
        drop(
            ovs.add_dummy_ports("br-int", specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"),
        );
        document(&ovs, &policy(BY_ANYBODY, true));
        let agent = Agent::start_on_host(&ovs, host.netns(), &["--driver", driver]);
        eventually("converged", || stdout(&status(&ovs, &[])).starts_with("converged"));
        host.send_from_vm("p-1", &datagram([10, 0, 0, 1], 4000, 53)).expect("sent");
        eventually("it came", || {
            host.take_emerged().expect("a look").vms.get("p-2").is_some_and(|frames| !frames.is_empty())
        });
        Host { _agent: agent, host, ovs, driver }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = sgflow();
        command.args(arguments).args(["--driver", self.driver]).arg("--ovsdb").arg(self.ovs.db_remote());
        command.arg("--policy").arg(self.ovs.rundir().join("policy.yaml"));
        command.env("XTABLES_LOCKFILE", self.ovs.rundir().join("xtables.lock"));
        self.host.netns().enter(|| command.output().expect("sgflow runs")).expect("the host's namespace")
    }

    fn says(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(arguments);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{}", stderr(&output));
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: no {part:?} in\n{text}");
        }
    }
}

fn is_looked_at(driver: &'static str) {
    let host = Host::start(driver);
    let holds = "the kernel holds exactly this policy";
    let asked = ["explain", "p-2", "--from", "p-1", "--proto", "udp", "--dport"];
    host.says(
        &[&asked[..], &["53"]].concat(),
        0,
        &["p-1 egress: accepted (rule): rule e of out", "rule i of in", holds],
    );
    host.says(
        &[&asked[..], &["54"]].concat(),
        0,
        &["p-2 ingress: dropped (no-rule)", "; the port is 54", holds],
    );
    let json = stdout(&host.run(&[&asked[..], &["53", "--json"]].concat()));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    is_printed_as("Explain", &json);
    is_printed_as("Kernel", &json["answers"][1]["switch"]);
    let connection =
        ["udp 10.0.0.1:4000 -> 10.0.0.2:53", "ingress: admitted", "rule i of in allows IPv4 udp/53"];
    host.says(&["connections", "p-2"], 0, &connection);
    host.says(&["connections", "p-1"], 0, &["egress: admitted", "rule e of out allows IPv4 udp/53"]);
    host.says(&["diff"], 0, &["nothing would change"]);

    let text = policy(BY_ANYBODY, true);
    // Beside the document that the agent reads: it is not to be put in force.
    let tighter = host.ovs.rundir().join("tighter.yaml");
    fs::write(
        &tighter,
        text.replace("port_range_min: 53, port_range_max: 53", "port_range_min: 52, port_range_max: 52"),
    )
    .expect("a document");
    let tighter = tighter.display().to_string();
    let cut = ["1 would be cut", "then WOULD BE CUT", "; the port is 53"];
    host.says(&["connections", "p-2", "--proposed", &tighter], 0, &cut);
}

#[test]
fn under_iptables() {
    is_looked_at("iptables_hybrid");
}

#[test]
fn under_nftables() {
    is_looked_at("nftables");
}
