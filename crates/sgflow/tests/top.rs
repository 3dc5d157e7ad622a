//! `sgflow top` on a terminal, with a real agent; and with a stand-in that tells of drops.

mod common;
mod terminal;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;

use agent::api::{DropSample, Drops, PortDrops, PortEntry, PortPage, PortState, ReasonDrops};
use common::{Agent, POLICY, bridge, document, ovs, plug, sgflow, socket, stderr};
use lab::Ovs;
use terminal::Pty;

fn top(ovs: &Ovs) -> Command {
    let mut command = sgflow();
    command.args(["top", "--config", "/dev/null", "--api-socket"]).arg(socket(ovs));
    command
}

#[test]
fn an_agent_is_looked_at_while_it_comes_and_goes() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let mut pty = Pty::run(&top(&ovs), 24, 80);
    pty.shows("nobody is there yet", |screen| screen.contains("NO ANSWER for"));
    let agent = Agent::start(&ovs);
    pty.shows("the agent and its ports", |screen| {
        ["CONVERGED", "openvswitch, sgflow ", "ports 1–2 of 2, by id", "p-1 ", "tap2 "]
            .iter()
            .all(|part| screen.contains(part))
    });

    pty.keys("/tap2\r");
    pty.shows("one port", |screen| {
        screen.contains("ports with \"tap2\" 1–1 of 1") && !screen.contains("tap1")
    });
    pty.keys("\r");
    pty.shows("all of it", |screen| {
        screen.contains(" port p-2 ") && screen.contains("MAC         fa:16:3e:00:00:02")
    });
    pty.keys("q");
    pty.keys("\x1b");
    pty.shows("all ports", |screen| screen.contains("ports 1–2 of 2, by id") && screen.contains("tap1"));

    plug(&ovs, 9);
    pty.shows("a port that nobody knows", |screen| {
        screen.contains("DEGRADED for") && screen.contains("closed port p-9: no policy knows it")
    });
    pty.shows("changes of late", |screen| screen.contains("changes, last minute"));
    ovs.vsctl(&["del-port", "br-int", "tap9"]).expect("unplugged");
    pty.shows("converged again", |screen| screen.contains("CONVERGED for") && screen.contains("of 2, by id"));

    pty.resize(40, 120);
    pty.shows("a larger terminal", |screen| {
        let rule = screen.lines().find(|line| line.contains(" ports 1–2 of 2")).unwrap_or_default();
        rule.chars().count() == 120
    });
    pty.resize(10, 40);
    pty.shows("one that is too small", |screen| screen.contains("top needs 60 and 18"));
    pty.resize(24, 80);
    drop(agent);
    pty.shows("the agent is gone", |screen| screen.contains("NO ANSWER for") && screen.contains("p-1 "));
    let _agent = Agent::start(&ovs);
    pty.shows("another is there", |screen| screen.contains("CONVERGED") && !screen.contains("NO ANSWER"));

    pty.terminate();
    assert_eq!(pty.wait().code(), Some(0), "SIGTERM is no failure");
    pty.is_given_back();
}

#[test]
fn what_is_no_terminal_is_refused() {
    let ovs = ovs();
    let output = top(&ovs).stdin(Stdio::null()).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("top draws on a terminal"), "{}", stderr(&output));
    assert!(output.stdout.is_empty(), "not one control character");
}

#[test]
fn drops_are_shown_as_they_are_told() {
    let ovs = ovs();
    let _stand_in = stand_in(&ovs);
    let mut pty = Pty::run(&top(&ovs), 24, 80);
    pty.shows("drops", |screen| {
        [
            "no-rule 12 ",
            "spoofed-mac 3",
            "10:00:01 p-1             ingress no-rule tcp 10.0.0.9:40000 -> 10.0.0.5:22",
        ]
        .iter()
        .all(|part| screen.contains(part))
    });
    // Asked again and again for what is new, it is shown once.
    let seconds = |screen: &str| -> Option<u64> {
        screen.split_once("CONVERGED for ")?.1.split_whitespace().next()?.parse().ok()
    };
    pty.shows("asked again", |screen| seconds(screen).is_some_and(|seconds| seconds >= 2));
    assert_eq!(pty.screen().matches("10.0.0.9:40000").count(), 1, "{}", pty.screen());
    pty.keys("\r");
    pty.shows("those of a port", |screen| screen.contains("drops       no-rule 7"));
    pty.keys("qq");
    assert_eq!(pty.wait().code(), Some(0));
    pty.is_given_back();
}

/// Answers as an agent that has one port and tells of drops.
fn stand_in(ovs: &Ovs) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket(ovs)).expect("a socket");
    let of_bridge =
        |reason: &str, packets| ReasonDrops { reason: reason.into(), packets, bytes: packets * 60 };
    let of_port =
        |packets| PortDrops { port: "p-1".into(), reason: "no-rule".into(), packets, bytes: packets * 60 };
    let sample = DropSample {
        number: 17,
        time: "2026-11-29T10:00:01.120Z".into(),
        port: Some("p-1".into()),
        interface: None,
        direction: Some("ingress".into()),
        reason: "no-rule".into(),
        packet: "tcp 10.0.0.9:40000 -> 10.0.0.5:22".into(),
    };
    let drops = Drops {
        since: "2026-11-29T09:00:00Z".into(),
        reasons: vec![of_bridge("no-rule", 12), of_bridge("spoofed-mac", 3)],
        ports: vec![of_port(7)],
        samples: vec![sample],
        sampled: 1,
        ..Drops::default()
    };
    let ports = PortPage { ports: vec![PortEntry::new("p-1", PortState::Filtered)], next: None };
    let status = serde_json::json!({
        "version": "0.1.0", "firewall_driver": "openvswitch", "condition": "converged", "waiting": null, "faults": [],
        "enforced": {"ports": 1, "sets": 1, "flows": 90, "flow_mods": 90}, "refused": 0,
        "changes": agent::api::Changes::default(), "drift": {"mended": 0, "last": null},
        "source": agent::api::SourceStatus::default(), "kernel_sets": null, "ids": {},
    });
    // It ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a client");
            let mut lines = BufReader::new(client.try_clone().expect("the same")).lines();
            let asked = lines.next().expect("a request").expect("its first line");
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = asked.split(' ').nth(1).expect("a path");
            let body = match path.split('?').next() {
                Some("/v1/status") => status.to_string(),
                Some("/v1/ports") => serde_json::to_string(&ports).expect("JSON"),
                Some("/v1/drops") if path.ends_with("after=0") => {
                    serde_json::to_string(&drops).expect("JSON")
                }
                Some("/v1/drops") => {
                    assert_eq!(path, "/v1/drops?after=17");
                    serde_json::to_string(&Drops { samples: Vec::new(), ..drops.clone() }).expect("JSON")
                }
                _ => panic!("{path} was asked for"),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            client.write_all((head + &body).as_bytes()).expect("an answer");
        }
    })
}
