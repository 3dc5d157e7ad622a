//! `sgflow status`, and what the service manager is told: from an agent that waits to one that is degraded.

mod common;
mod documented;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use common::{Agent, POLICY, bridge, document, eventually, ovs, socket, status, stderr, stdout};
use documented::is_documented;
use lab::Ovs;
use serde_json::Value;

/// Waits until this is said with this exit code. On the way there the agent may say much else.
fn is_told(ovs: &Ovs, code: i32, part: &str) {
    eventually(&format!("exit {code} with {part:?}"), || {
        let output = status(ovs, &[]);
        output.status.code() == Some(code) && stdout(&output).contains(part)
    });
}

fn as_json(ovs: &Ovs) -> Value {
    serde_json::from_slice(&status(ovs, &["--json"]).stdout).expect("JSON")
}

#[test]
fn what_the_switch_was_told_is_counted_and_how_long_it_took() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let _agent = Agent::start(&ovs);
    is_told(&ovs, 0, "converged");
    let before = as_json(&ovs);
    is_documented("Status", &before);
    let number = |of: &Value| of.as_u64().expect("a number");
    let changes = &before["changes"];
    assert_eq!(number(&changes["added"]), number(&before["enforced"]["flow_mods"]), "{changes}");
    assert!(number(&changes["bundles"]) > 0 && number(&changes["bundles_refused"]) == 0, "{changes}");
    let stages = changes["latency"].as_array().expect("stages");
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect();
    assert_eq!(names, ["rendered", "acknowledged", "applied"]);
    for stage in stages {
        let buckets = stage["buckets"].as_array().expect("buckets");
        let counts: u64 = buckets.iter().map(|bucket| number(&bucket["count"])).sum();
        assert_eq!(number(&stage["count"]), counts, "{stage}");
        assert!(counts > 0 && number(&stage["sum_us"]) > 0, "{stage}");
        assert_eq!(buckets.last().map(|last| &last["most_us"]), Some(&Value::Null));
    }
    document(&ovs, &POLICY.replace("ip_address: 10.0.0.2}", "ip_address: 10.0.0.22}"));
    eventually("a change more, and all of its stages", || {
        let now = as_json(&ovs)["changes"].clone();
        let later = now["latency"].as_array().expect("stages").iter().zip(stages);
        let mut is_more = later.map(|(now, before)| number(&now["count"]) > number(&before["count"]));
        number(&now["deleted"]) > number(&changes["deleted"]) && is_more.all(|is_more| is_more)
    });
}

#[test]
fn the_condition_of_an_agent_is_told_with_its_exit_code() {
    let mut ovs = ovs();
    let output = status(&ovs, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no sgflow agent answers at"), "{}", stderr(&output));

    let agent = Agent::start(&ovs);
    is_told(&ovs, 5, "disconnected: waiting for a bridge called br-int");
    bridge(&ovs);
    document(&ovs, POLICY);
    is_told(&ovs, 0, "converged (2 ports, 1 sets of groups, ");

    // A refused object, and a port that no policy knows: the rest stays in force.
    document(&ovs, &POLICY.replace("ip_address: 10.0.0.2}", "ip_address: 10.0.0.300}"));
    is_told(&ovs, 2, "kept     port p-2: fixed_ips[0].ip_address: ");
    common::plug(&ovs, 9);
    is_told(&ovs, 2, "closed   port p-9: no policy knows it");
    eventually("the same as JSON", || {
        let json = as_json(&ovs);
        json["condition"] == "degraded" && json["enforced"]["ports"] == 3
    });
    document(&ovs, POLICY);
    ovs.vsctl(&["del-port", "br-int", "tap9"]).expect("unplugged");
    is_told(&ovs, 0, "converged (2 ports, ");

    ovs.stop_vswitchd();
    is_told(&ovs, 5, "disconnected: waiting for the bridge's OpenFlow socket");
    drop(agent);
}

#[test]
fn a_client_that_says_nothing_or_nonsense_takes_nothing_from_others() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let _agent = Agent::start(&ovs);
    is_told(&ovs, 0, "converged");
    let mode = fs::metadata(socket(&ovs)).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "others cannot even connect");
    let silent: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(socket(&ovs)).expect("accepted")).collect();
    for nonsense in
        ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\0\0\0\r\n\r\n", "POST /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"]
    {
        let mut client = UnixStream::connect(socket(&ovs)).expect("accepted");
        client.write_all(nonsense.as_bytes()).expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer, and the end");
        assert!(answer.starts_with("HTTP/1.1 4"), "{nonsense:?}: {answer}");
    }
    is_told(&ovs, 0, "converged");
    drop(silent);
}

/// Two agents of one host have a socket each; the second at one is told so and enforces all the same.
#[test]
fn a_socket_that_is_taken_stays_with_the_first() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let first = Agent::start(&ovs);
    is_told(&ovs, 0, "converged");
    let second = Agent::start(&ovs);
    second.wait_for("another sgflow agent answers there", 1);
    drop(second);
    is_told(&ovs, 0, "converged");
    drop(first);
    // What a killed agent leaves is no hindrance.
    let _third = Agent::start(&ovs);
    is_told(&ovs, 0, "converged");
}

#[test]
fn the_service_manager_hears_ready_the_condition_and_the_watchdog() {
    let ovs = ovs();
    bridge(&ovs);
    let path = ovs.rundir().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let heard = |part: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length =
                manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{part:?} was not heard: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(part) {
                return text;
            }
        }
    };
    let path = path.display().to_string();
    let agent = Agent::start_in(&ovs, &[], &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "200000")]);
    // Without a policy it is known what is waited for: the host may boot on.
    let text = heard("READY=1");
    assert!(text.contains("STATUS=disconnected: waiting for "), "{text}");
    document(&ovs, POLICY);
    heard("STATUS=converged");
    heard("WATCHDOG=1");
    heard("WATCHDOG=1");
    drop(agent);
}
