//! What a security-group log is to tell of, whatever driver writes it.

use std::fs;
use std::path::{Path, PathBuf};

use lab::Ovs;
use serde_json::Value;

use super::traffic::{datagram, refused};

/// Port, event, destination port.
pub type Told = (String, String, u64);

/// Options, and lines.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str, u64)]);

/// Options, and what the log tells of then when [`frames`] were sent under [`SERVICES`](super::traffic::SERVICES).
pub const CASES: [Case<'_>; 4] = [
    (&["--security-log-events", "drop"], &[("p-2", "drop", 54)]),
    (&["--security-log-ports", "p-2"], &[("p-2", "accept", 53), ("p-2", "accept", 514), ("p-2", "drop", 54)]),
    (
        &["--security-log-groups", "sg-out", "--security-log-events", "accept"],
        &[("p-1", "accept", 53), ("p-1", "accept", 514), ("p-1", "accept", 54)],
    ),
    (&["--security-log-rules", "log"], &[("p-2", "accept", 514)]),
];

/// From p-1 to each service of p-2, and to none.
pub fn frames() -> [Vec<u8>; 3] {
    [datagram([10, 0, 0, 1], 4000, 53), datagram([10, 0, 0, 1], 4000, 514), refused(4000)]
}

/// Where tests have it written.
pub fn log_path(ovs: &Ovs) -> PathBuf {
    ovs.rundir().join("security.jsonl")
}

/// Its lines.
pub fn logged(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What it tells of, sorted.
pub fn told(path: &Path) -> Vec<Told> {
    let told = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        (text("port"), text("event"), line["dst_port"].as_u64().unwrap_or(0))
    };
    let mut all: Vec<Told> = logged(path).iter().map(told).collect();
    all.sort();
    all
}

/// As [`told`] gives it.
pub fn wanted(told: &[(&str, &str, u64)]) -> Vec<Told> {
    let mut all: Vec<Told> =
        told.iter().map(|(port, event, number)| ((*port).into(), (*event).into(), *number)).collect();
    all.sort();
    all
}
