//! `sgflow bench --hybrid` measures what it says; how much that is, is for docs/benchmarks.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod common;

use std::collections::BTreeMap;

use common::{sgflow, stderr, stdout};
use serde_json::Value;

const PORTS: u64 = 3;

/// iptables_hybrid with one kind of iptables.
fn with_iptables(kind: &str) -> [&str; 4] {
    ["--driver", "iptables_hybrid", "--iptables", kind]
}

/// Figures of a scenario with one driver, and what is printed.
fn measure(scenario: &str, driver: &[&str], more: &[&str]) -> (Value, String) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let mut bench = sgflow();
    bench.args(["bench", "--hybrid", "--scenario", scenario, "--times", "1"]).args(driver);
    let output = bench.args(more).arg("--json").arg(&json).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    (figures[0].clone(), stdout(&output))
}

/// What each step cost the first time.
fn first(figures: &Value) -> BTreeMap<&str, &Value> {
    let steps = figures["steps"].as_array().unwrap().iter();
    steps.map(|step| (step["name"].as_str().unwrap(), &step["costs"][0])).collect()
}

fn held(figures: &Value, what: &str) -> u64 {
    figures["held"][what].as_u64().unwrap()
}

#[test]
fn a_member_costs_two_messages_and_no_program_with_either_iptables() {
    for iptables in ["nft", "legacy"] {
        let (figures, printed) = measure("default-3-9", &with_iptables(iptables), &[]);
        assert!(
            printed.contains(&format!("default-3-9, iptables_hybrid, iptables-{iptables}: ")),
            "{printed}"
        );
        let steps = first(&figures);
        let part = |step: &str, part: &str| steps[step][part].as_u64().unwrap();
        // Its addresses of both families, each in a set.
        assert_eq!(["changes", "messages", "programs"].map(|of| part("+1 member", of)), [2, 2, 0]);
        assert_eq!(["changes", "programs"].map(|of| part("-1 member", of)), [2, 0]);
        // One chain, which is of one family and one table.
        assert_eq!(["changes", "programs"].map(|of| part("+1 rule", of)), [1, 1]);
        // It asks each table of each family, and what the chains of each family have counted, and that is all.
        assert_eq!(["changes", "programs"].map(|of| part("restart, unchanged", of)), [0, 6]);
        assert!(part("from nothing", "changes") > held(&figures, "elements"), "{figures}");
        for (name, cost) in &steps {
            let seconds = |part: &str| cost[part].as_f64().unwrap();
            assert!(seconds("agent_cpu") > 0.0 && seconds("applied") > 0.0, "{name}: {cost}");
            let programs = cost["programs"].as_u64().unwrap();
            assert!(programs == 0 || seconds("programs_cpu") > 0.0, "{name}: {cost}");
        }
    }
}

#[test]
fn nftables_runs_no_program_for_a_change_and_loads_again_what_it_lists() {
    let (figures, printed) = measure("default-3-9", &["--driver", "nftables"], &[]);
    assert!(printed.contains("default-3-9, nftables: "), "{printed}");
    let steps = first(&figures);
    let programs = |step: &str| steps[step]["programs"].as_u64().unwrap();
    for step in ["+1 member", "-1 member", "+1 rule", "-1 rule", "a port joins a group", "+1 port", "-1 port"]
    {
        assert_eq!(programs(step), 0, "{step}");
        assert!(steps[step]["changes"].as_u64() > Some(0), "{step}");
    }
    assert_eq!(steps["restart, unchanged"]["changes"], 0);
    assert!(steps["nft -f of the same"]["programs_cpu"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn rules_are_as_many_whatever_the_number_of_members_and_more_with_each_port() {
    for driver in [&with_iptables("nft")[..], &["--driver", "nftables"]] {
        let rules = |scenario| held(&measure(scenario, driver, &[]).0, "rules");
        let few = rules("default-3-9");
        assert!(few > PORTS, "{few}");
        assert_eq!(rules("default-3-90"), few);
        assert!(rules("default-6-9") > few);
    }
}

#[test]
fn neutron_is_measured_with_its_driver_for_hybrid_bridges() {
    let none = sgflow().args(["bench", "--hybrid", "--peer", "neutron", "--times", "0"]).output().unwrap();
    if stderr(&none).contains("is not installed") {
        eprintln!("skipped: {} (make peers installs it)", stderr(&none).trim());
        return;
    }
    for iptables in ["nft", "legacy"] {
        let (figures, printed) = measure("default-3-9", &with_iptables(iptables), &["--peer", "neutron"]);
        let peer = &figures["peers"][0];
        let version = peer["version"].as_str().unwrap();
        assert!(printed.contains(&format!("default-3-9, Neutron {version}, iptables_hybrid")), "{printed}");
        let steps = first(peer);
        let rules = |step: &str| steps[step]["flows"].as_u64().unwrap();
        let programs = |step: &str| steps[step]["programs"].as_u64().unwrap();
        let before = rules("from nothing");
        // Rules of both families for each port.
        assert!(before > 40 * PORTS, "{peer}");
        assert_eq!((rules("+1 member"), rules("-1 member")), (before, before), "members are in sets");
        // In the chain of each port.
        assert_eq!((rules("+1 rule"), rules("-1 rule")), (before + PORTS, before));
        assert_eq!(rules("restart, unchanged"), before);
        // The two sets, and what there is of rules is read.
        assert!(programs("+1 member") >= 3, "{peer}");
    }
}

#[test]
fn ovn_has_nothing_for_hybrid_bridges() {
    let mut bench = sgflow();
    bench.args(["bench", "--hybrid", "--scenario", "default-1-1", "--times", "1", "--peer", "ovn"]);
    let output = bench.output().unwrap();
    if stderr(&output).contains("is not installed") {
        eprintln!("skipped: {} (make peers installs it)", stderr(&output).trim());
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("has no driver for hybrid bridges"), "{}", stderr(&output));
}
