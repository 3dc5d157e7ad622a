//! `sgflow support-bundle`: what is in it of a running agent, what of a host where there is nothing, and that no secret is.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use common::{Agent, POLICY, bridge, document, is_exact, ovs, sgflow, socket, stderr, stdout};
use flate2::read::GzDecoder;
use lab::{FailMode, Ovs};

const SECRET: &str = "correct-horse-battery-staple";

fn support_bundle(settings: &Path, output: &Path, more: &[&str]) -> Output {
    let mut command = sgflow();
    command.arg("support-bundle").arg("--config").arg(settings).arg("--output").arg(output).args(more);
    command.output().expect("sgflow runs")
}

/// The parts by name, without the directory that they are all in.
fn parts(bundle: &Path) -> BTreeMap<String, String> {
    let file = File::open(bundle).expect("a bundle");
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let parts = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let name = path.strip_prefix("sgflow-support").expect("in one directory").display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        (name, text)
    });
    parts.collect()
}

/// Settings with all that must not be told.
fn settings(ovs: &Ovs) -> std::path::PathBuf {
    let key = ovs.rundir().join("store.key");
    fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n")).expect("a key");
    let path = ovs.rundir().join("sgflow.toml");
    let text = format!(
        "# {SECRET}\n[ovsdb]\nconnection = \"{db}\"\n[policy]\nsource = \"neutron-rpc\"\n[security_log]\npath = \"{log}\"\n[api]\nsocket = \"{socket}\"\n\
         [store]\nconnection = \"ssl:store:6642\"\nca_certificate = \"/ca\"\ncertificate = \"/c\"\nprivate_key = \"{key}\"\n\
         [neutron]\ntransport_url = \"rabbit://neutron:{SECRET}@control-1,neutron:{SECRET}@control-2:5673/v\"\n",
        db = ovs.db_remote(),
        socket = socket(ovs).display(),
        key = key.display(),
        log = ovs.rundir().join("security.jsonl").display(),
    );
    fs::write(&path, text).expect("settings");
    path
}

#[test]
fn a_running_agent_is_all_in_it_and_no_secret() {
    let ovs = ovs();
    bridge(&ovs);
    ovs.add_bridge("br-other", FailMode::Secure).expect("another bridge");
    ovs.vsctl(&["set", "Interface", "tap1", &format!("options:psk={SECRET}")]).expect("a key of a tunnel");
    document(&ovs, POLICY);
    let log = ovs.rundir().join("security.jsonl");
    let _agent = Agent::start(&ovs);
    is_exact(&ovs);
    // Of a log that is long the end is enough.
    let lines: String =
        (0..2000).map(|number| format!("{{\"event\":\"drop\",\"number\":{number}}}\n")).collect();
    fs::write(&log, lines).expect("a log");
    let bundle = ovs.rundir().join("bundle.tar.gz");
    let output = support_bundle(&settings(&ovs), &bundle, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::metadata(&bundle).expect("a file").permissions().mode() & 0o7777, 0o600);

    let parts = parts(&bundle);
    let part = |name: &str| parts.get(name).unwrap_or_else(|| panic!("no {name} in:\n{}", stdout(&output)));
    assert!(stdout(&output).starts_with(part("MANIFEST")), "what is printed is the manifest");
    let status: serde_json::Value = serde_json::from_str(part("status.json")).expect("JSON");
    assert_eq!(status["condition"], "converged");
    assert!(
        part("settings.txt").contains("rabbit://control-1:5672,control-2:5673/v"),
        "{}",
        part("settings.txt")
    );
    let of_agent = |name: &str| serde_json::from_str::<serde_json::Value>(part(name)).expect("JSON");
    assert!(of_agent("drops.json")["reasons"].is_array());
    assert_eq!(
        (&of_agent("ports.json")[0]["id"], &of_agent("groups.json")[0]["id"]),
        (&"p-1".into(), &"g".into())
    );
    let tail: Vec<&str> = part("security-log.jsonl").lines().collect();
    assert_eq!(tail.len(), 500);
    assert_eq!(
        (tail[0], tail[499]),
        (r#"{"event":"drop","number":1500}"#, r#"{"event":"drop","number":1999}"#)
    );
    assert!(part("host.txt").contains("== /etc/os-release\n"));
    let rows = part("database.txt");
    assert!(rows.contains("ovs_version=") && rows.contains("iface-id"), "{rows}");
    assert!(!rows.contains("br-other"), "what is not ours:\n{rows}");
    // As many as ovs-ofctl sees, and each in its words.
    let flows = part("flows.txt");
    assert_eq!(flows.lines().count(), common::flows(&ovs).len() + common::observers(&ovs).len());
    assert!(flows.lines().all(|line| line.contains("n_packets=") && line.contains("actions=")), "{flows}");
    for (name, text) in &parts {
        assert!(!text.contains(SECRET), "a secret is in {name}:\n{text}");
    }

    // Nobody's file is written over.
    let again = support_bundle(&settings(&ovs), &bundle, &[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("exists"), "{}", stderr(&again));
}

#[test]
fn what_cannot_be_had_is_named_with_its_reason() {
    let mut ovs = ovs();
    ovs.stop_ovsdb();
    let bundle = ovs.rundir().join("bundle.tar.gz");
    let path = ovs.rundir().join("bad.toml");
    fs::write(&path, "[agnet]\n").expect("settings");
    let output = support_bundle(&path, &bundle, &["--ovsdb", &ovs.db_remote(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let listed = told["parts"].as_array().expect("a list");
    let missing = |name: &str| {
        let part = listed.iter().find(|part| part["name"] == name).expect("it is listed");
        part["missing"].as_str().map(str::to_owned)
    };
    assert!(missing("settings.txt").expect("why").contains("unknown field `agnet`"));
    assert!(missing("status.json").expect("why").contains("no sgflow agent answers"));
    for name in ["drops.json", "ports.json", "groups.json"] {
        assert!(missing(name).expect("why").contains("no sgflow agent answers"));
    }
    assert!(
        !listed.iter().any(|part| part["name"] == "security-log.jsonl"),
        "where there is no log none is missing"
    );
    assert!(missing("database.txt").is_some() && missing("flows.txt").is_some());
    assert_eq!(missing("host.txt"), None);
    let parts = parts(&bundle);
    assert!(parts["MANIFEST"].contains("missing flows.txt: "), "{}", parts["MANIFEST"]);
    assert!(!parts.contains_key("flows.txt"));
}
