//! `sgflow bench --store` measures what it says; how much that is, is for docs/benchmarks.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod common;

use common::{sgflow, stderr, stdout};
use serde_json::Value;

/// A figure by its path, as a number.
fn number(of: &Value, path: &str) -> f64 {
    of.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {of}"))
}

#[test]
fn all_agents_get_what_concerns_them_and_no_byte_of_other_groups() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let mut bench = sgflow();
    bench.args(["bench", "--store", "--quick", "--json"]).arg(&json).arg("--plots").arg(directory.path());
    let output = bench.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let figures = &figures[0];
    let list = |name: &str| figures[name].as_array().unwrap().clone();
    // What each agent was told of, and how often, is looked at by the program itself.
    assert_eq!(list("starts").iter().map(|start| number(start, "/agents")).collect::<Vec<_>>(), [10.0, 20.0]);
    for start in list("starts") {
        assert!(number(&start, "/seconds") <= number(&start, "/answered"), "{start}");
        assert!(number(&start, "/received/p50") > 0.0 && number(&start, "/cpu/relays") > 0.0, "{start}");
    }
    let changes = list("changes");
    let interested: Vec<f64> = changes
        .iter()
        .filter(|change| change["agents"] == 20)
        .map(|change| number(change, "/interested"))
        .collect();
    assert_eq!(interested, [20.0, 20.0, 20.0, 10.0, 1.0, 20.0], "a rule is the last");
    for change in &changes {
        assert!((1.0..400.0).contains(&number(change, "/received/max")), "one element: {change}");
        assert!(number(change, "/latency/p50") <= number(change, "/latency/max"), "{change}");
        // An echo is sent after seconds of silence.
        assert!(number(change, "/received_by_others/max") < 200.0, "of other groups nothing: {change}");
    }
    let troubles: Vec<String> =
        list("troubles").iter().map(|trouble| trouble["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(troubles, ["the leader is killed", "a relay is killed", "all agents are restarted"]);
    let printed = stdout(&output);
    assert!(
        printed.contains("20 agents, 2 relays") && printed.contains("On paper, for 10000 hosts"),
        "{printed}"
    );
    for plot in ["store-one-member.svg", "store-growth.svg", "store-start.svg"] {
        let svg = std::fs::read_to_string(directory.path().join(plot)).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{plot}");
    }
}

#[test]
fn a_cloud_that_does_not_fit_is_refused() {
    let output = sgflow().args(["bench", "--store", "--quick", "--ports", "10"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there must be others"), "{}", stderr(&output));
}

#[test]
fn a_cluster_is_filled_in_one_transaction_and_in_several() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let mut bench = sgflow();
    bench.args(["bench", "--store", "--transactions", "--quick", "--json"]).arg(&json);
    let output = bench.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let of = |path: &str| [0, 1].map(|case| number(&figures[case], path));
    assert_eq!(of("/ports"), [200.0, 200.0]);
    // Two groups and two hundred ports, in fifties.
    assert_eq!(of("/transactions"), [1.0, 5.0]);
    assert!(of("/leader_cpu").iter().chain(&of("/other_cpu")).all(|cpu| *cpu > 0.0), "{figures}");
    assert!(of("/leader_memory").iter().all(|bytes| *bytes > 1e6), "{figures}");
}
