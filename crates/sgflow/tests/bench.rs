//! `sgflow bench` measures what it says; how much that is, is for docs/benchmarks.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod common;

use std::collections::BTreeMap;

use common::{sgflow, stderr, stdout};
use serde_json::Value;

#[test]
fn a_small_scenario_is_measured_and_costs_what_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let mut bench = sgflow();
    bench.args(["bench", "--scenario", "default-3-9", "--times", "2", "--json"]).arg(&json);
    bench.arg("--plots").arg(directory.path());
    let output = bench.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("| from nothing "), "{}", stdout(&output));
    let plot = std::fs::read_to_string(directory.path().join("from-nothing.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("default-3-9"), "{plot}");
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let figures = &figures[0];
    assert_eq!(figures["scenario"], "default-3-9");
    let steps: BTreeMap<&str, &Vec<Value>> = figures["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), step["costs"].as_array().unwrap()))
        .collect();
    let flow_mods = |step: &str| -> Vec<u64> {
        steps[step].iter().map(|cost| cost["flow_mods"].as_u64().unwrap()).collect()
    };
    let flows = figures["flows"].as_u64().unwrap();
    assert_eq!(flow_mods("from nothing"), [flows, flows]);
    assert_eq!(flow_mods("restart, unchanged"), [0, 0]);
    assert_eq!(flow_mods("+1 member"), [4, 4]);
    assert!(flow_mods("-1 member").iter().all(|count| (4..=20).contains(count)));
    assert!(flow_mods("+1 port").iter().all(|count| (1..=40).contains(count)));
    assert_eq!(figures["floor"].as_array().unwrap().len(), 2);
    assert!(figures["agent_peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    for cost in steps["from nothing"] {
        let part = |name: &str| cost[name].as_f64().unwrap();
        assert!(part("agent_cpu") > 0.0 && part("switch_cpu") > 0.0, "{cost}");
        assert!(
            0.0 < part("taken") && part("taken") <= part("applied") && part("applied") <= part("settled"),
            "{cost}"
        );
        assert!(cost["bytes"].as_u64().unwrap() > 50 * flows, "{cost}");
    }
}

#[test]
fn a_scenario_that_there_is_not_is_refused() {
    let output = sgflow().args(["bench", "--scenario", "default-500"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("not SHAPE-PORTS-MEMBERS: default-500"), "{}", stderr(&output));
}

/// What `sgflow bench --datapath` measures of one kind of traffic: a line a table.
fn measure_packets(traffic: &str, more: &[&str]) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("figures.json");
    let mut bench = sgflow();
    bench.args(["bench", "--datapath", "--times", "1", "--traffic", traffic, "--json"]).arg(&json).args(more);
    let output = bench.output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("| sgflow | "), "{}", stdout(&output));
    let text = std::fs::read_to_string(&json).expect("figures");
    serde_json::from_str(&text).expect("a list of figures")
}

#[test]
fn packets_cost_the_same_under_the_same_table_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let exported = measure_packets("in-turn", &["--export", directory.path().to_str().unwrap()]);
    let cost = &exported[0]["costs"][0];
    assert_eq!(cost["tried"], cost["admitted"], "{cost}");
    assert!(cost["switch_cpu"].as_f64().unwrap() > 0.0 && cost["wall"].as_f64().unwrap() > 0.0, "{cost}");
    let file = directory.path().join("sgflow.flows");
    let both = measure_packets("mixed6", &["--table", &format!("again={}", file.display())]);
    assert_eq!((&both[0]["table"], &both[1]["table"]), (&"sgflow".into(), &"again".into()));
    assert_eq!(both[0]["flows"], both[1]["flows"]);
    let of = |figures: &Value, part: &str| figures["costs"][0][part].as_u64().unwrap();
    for part in ["tried", "admitted", "megaflows"] {
        // Without the same prefixes there would be more megaflows.
        assert_eq!(of(&both[0], part), of(&both[1], part), "{part}");
    }
    assert!(0 < of(&both[0], "admitted") && of(&both[0], "admitted") < of(&both[0], "tried"));
}

#[test]
fn a_table_that_admits_otherwise_is_not_measured() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open.flows");
    std::fs::write(&open, "priority=0 actions=normal\n").unwrap();
    let table = format!("open={}", open.display());
    let output = sgflow()
        .args(["bench", "--datapath", "--times", "1", "--traffic", "scan", "--table", &table])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("open admits 8192 connections, 8186 of them otherwise than sgflow"),
        "{}",
        stderr(&output)
    );
}

/// Whether a peer is installed; says so if not, as its test is of no use then.
fn installed(peer: &str) -> bool {
    let output = sgflow().args(["bench", "--peer", peer, "--times", "0"]).output().expect("sgflow runs");
    let there = !stderr(&output).contains("is not installed");
    if !there {
        eprintln!("skipped: {} (make peers installs it)", stderr(&output).trim());
    }
    there
}

/// Figures of a peer in a scenario of three ports and nine members, and how many flows it had after each step.
fn measure(peer: &str) -> (Value, BTreeMap<String, u64>) {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("figures.json");
    let mut bench = sgflow();
    bench.args(["bench", "--scenario", "default-3-9", "--times", "1", "--peer", peer]);
    bench.args(["--peer-patience", "120", "--json"]).arg(&json).arg("--plots").arg(directory.path());
    let output = bench.output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = std::fs::read_to_string(&json).expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    let peer = figures[0]["peers"][0].clone();
    let word = |name: &str| peer[name].as_str().expect("a word").to_owned();
    let name = format!("{} {}", word("name"), word("version"));
    assert!(stdout(&output).contains(&format!("default-3-9, {name}: once")), "{}", stdout(&output));
    let plot = std::fs::read_to_string(directory.path().join("one-member.svg")).expect("a plot");
    assert!(plot.contains(&format!("{name} and ovs-vswitchd")), "{plot}");
    assert!(peer.get("given_up").is_none(), "{peer}");
    let flows = peer["steps"].as_array().expect("steps").iter().map(|step| {
        let cost = &step["costs"][0];
        for part in ["agent_cpu", "switch_cpu", "taken"] {
            assert!(cost[part].as_f64() > Some(0.0), "{part}: {step}");
        }
        (step["name"].as_str().expect("a name").to_owned(), cost["flows"].as_u64().expect("a number"))
    });
    let flows = flows.collect();
    (peer, flows)
}

/// Changes that are taken back leave the flows that were there before, and are not nothing.
fn goes_and_comes_back(flows: &BTreeMap<String, u64>) {
    let before = flows["from nothing"];
    for there in ["+1 member", "+1 rule", "a port joins a group"] {
        assert!(flows[there] > before, "{there}: {flows:?}");
    }
    for back in ["restart, unchanged", "-1 member", "-1 rule", "and leaves it"] {
        assert_eq!(flows[back], before, "{back}: {flows:?}");
    }
}

#[test]
fn packets_are_measured_under_the_flows_of_neutron() {
    if !installed("neutron") {
        return;
    }
    let both = measure_packets("mixed", &["--peer", "neutron"]);
    assert!(both[1]["table"].as_str().unwrap().starts_with("Neutron "), "{}", both[1]);
    // That both admit the same is checked by the program itself.
    let megaflows = |figures: &Value| figures["costs"][0]["megaflows"].as_u64().unwrap();
    assert!(megaflows(&both[0]) <= megaflows(&both[1]), "{both:?}");
}

#[test]
fn neutron_is_measured_with_its_own_driver() {
    if !installed("neutron") {
        return;
    }
    let (peer, flows) = measure("neutron");
    goes_and_comes_back(&flows);
    // A member with two addresses, each in a flow for new connections and one for established ones.
    assert_eq!(flows["+1 member"], flows["from nothing"] + 4, "{flows:?}");
    for step in peer["steps"].as_array().unwrap() {
        assert!(step["costs"][0]["flow_mods"].as_u64().unwrap() > 0, "{step}");
    }
}

#[test]
fn ovn_is_measured_with_its_own_daemons() {
    if !installed("ovn") {
        return;
    }
    let (peer, flows) = measure("ovn");
    goes_and_comes_back(&flows);
    for step in peer["steps"].as_array().unwrap() {
        assert!(step["costs"][0]["central_cpu"].as_f64().unwrap() > 0.0, "{step}");
    }
}

#[test]
fn a_peer_that_takes_too_long_is_given_up() {
    if !installed("neutron") {
        return;
    }
    let mut bench = sgflow();
    bench.args([
        "bench",
        "--scenario",
        "default-3-9",
        "--times",
        "1",
        "--peer",
        "neutron",
        "--peer-patience",
        "0",
    ]);
    let output = bench.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = "from nothing: given up, and what follows it.";
    assert!(stdout(&output).contains(said), "{}", stdout(&output));
}

#[test]
fn a_peer_that_is_not_installed_is_an_error_that_says_what_to_install() {
    let output =
        sgflow().args(["bench", "--peer", "neutron", "--python", "/nonexistent/python"]).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("Neutron is not installed: run `make peers`"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}
