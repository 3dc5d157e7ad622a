//! `sgflow bench` measures what it says; how much that is, is for docs/benchmarks.

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
