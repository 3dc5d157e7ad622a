//! The security-group log on hosts with hybrid bridges, under each driver for them.

mod common;

use common::hybrid_pair::HybridPair;
use common::security_log::{CASES, frames, log_path, logged, told, wanted};
use common::traffic::{SERVICES, counted, datagram, refused};
use common::{Agent, document, eventually, status, stdout};
use hybrid::samples::GROUP;
use nfnetlink::Log;
use serde_json::{Value, json};

const KINDS: [&str; 3] = ["nftables", "nft", "legacy"];

/// A host on which an agent logs, with these options.
fn logging(kind: &'static str, more: &[&str]) -> (HybridPair, Agent) {
    let host = HybridPair::start(kind, SERVICES);
    let path = log_path(&host.ovs).display().to_string();
    let agent = host.agent(&[&["--security-log-path", &path], more].concat());
    (host, agent)
}

/// What is the same of all lines of these frames.
fn packet(mut line: Value, dst_port: u16, length: usize) -> Value {
    let packet = json!({
        "eth_src": "fa:16:3e:00:00:01", "eth_dst": "fa:16:3e:00:00:02", "ethertype": "ipv4", "protocol": "udp",
        "src": "10.0.0.1", "dst": "10.0.0.2", "src_port": 4000, "dst_port": dst_port, "length": length,
    });
    line.as_object_mut().expect("an object").extend(packet.as_object().expect("an object").clone());
    line
}

#[test]
fn first_packets_are_logged_with_their_rules_and_once() {
    for kind in KINDS {
        let (host, _agent) = logging(kind, &[]);
        let admitted = datagram([10, 0, 0, 1], 4000, 514);
        host.send(&[vec![admitted; 3], vec![refused(4000); 3]].concat());
        let path = log_path(&host.ovs);
        eventually("four lines", || logged(&path).len() >= 4);
        let lines = logged(&path);
        assert_eq!(lines.len(), 4, "{kind}: {lines:#?}");
        let is = |port: &str, event: &str, dst_port: u64, expected: Value| {
            let is_it = |line: &&Value| {
                line["port"] == port && line["event"] == event && line["dst_port"] == dst_port
            };
            let mut line = lines.iter().find(is_it).unwrap_or_else(|| panic!("{kind}: {lines:#?}")).clone();
            line.as_object_mut().expect("an object").remove("time").expect("a time");
            assert_eq!(line, expected, "{kind}");
        };
        // What pads a frame is gone when the tables of IP see it.
        let length = 14 + 20 + 8;
        let egress = json!({
            "event": "accept", "port": "p-1", "interface": "tapp-1", "direction": "egress", "groups": ["sg-out"],
            "rules": [{"rule": "e", "group": "sg-out", "group_name": "clients"}],
        });
        is("p-1", "accept", 514, packet(egress.clone(), 514, length));
        is("p-1", "accept", 54, packet(egress, 54, length));
        let ingress = json!({
            "event": "accept", "port": "p-2", "interface": "tapp-2", "direction": "ingress", "groups": ["sg-in"],
            "rules": [{"rule": "log", "group": "sg-in", "group_name": "servers", "remote_group": "sg-out"}],
        });
        is("p-2", "accept", 514, packet(ingress, 514, length));
        let drop = json!({
            "event": "drop", "port": "p-2", "interface": "tapp-2", "direction": "ingress", "groups": ["sg-in"],
            "reason": "no-rule",
        });
        is("p-2", "drop", 54, packet(drop, 54, length));
    }
}

fn is_of_what_it_is_asked_for(kind: &'static str) {
    for (options, expected) in CASES {
        let (host, _agent) = logging(kind, options);
        host.send(&frames());
        let (told, wanted) = (|| told(&log_path(&host.ovs)), wanted(expected));
        eventually(&format!("{kind} {options:?}: {wanted:?}"), || told() == wanted);
        // Nothing else comes: all samples of these frames are there when those of more are.
        host.send(&[datagram([10, 0, 0, 1], 4001, 514), refused(4001)]);
        eventually("more", || told().len() > wanted.len());
        assert!(told().iter().all(|line| wanted.contains(line)), "{kind} {options:?}: {:?}", told());
    }
}

#[test]
fn a_log_is_of_what_it_is_asked_for_with_nftables() {
    is_of_what_it_is_asked_for("nftables");
}

#[test]
fn a_log_is_of_what_it_is_asked_for_with_iptables() {
    is_of_what_it_is_asked_for("nft");
}

/// The kernel samples whose connections are asked for, and nobody else's: they would take the rate.
#[test]
fn who_is_sampled_follows_the_policy() {
    for kind in ["nftables", "nft"] {
        let (host, agent) =
            logging(kind, &["--security-log-rules", "log", "--security-log-events", "accept"]);
        let zone = |port: &str| {
            let mark = host.mark(&format!("tap{port}"));
            let mark = u32::from_str_radix(mark.trim_start_matches("0x"), 16).expect("a number");
            format!("{:#010x}", mark & 0xff00_ffff)
        };
        let chosen = || host.run("nft list set inet sgflow-samples chosen");
        assert!(chosen().contains(&zone("p-2")) && !chosen().contains(&zone("p-1")), "{}", chosen());
        host.send(&frames());
        eventually("a line", || told(&log_path(&host.ovs)) == wanted(&[("p-2", "accept", 514)]));
        // Both first packets at the port, whatever rule admits them.
        let counted = || host.run("nft list set inet sgflow-samples first-packets");
        assert!(counted().contains("counter packets 2 "), "{}", counted());
        // The rule moves to the other port's group, and back.
        let elsewhere = SERVICES.replace("id: log,", "id: other,").replace("{id: e,", "{id: log,");
        document(&host.ovs, &elsewhere);
        eventually("p-1 is sampled", || chosen().contains(&zone("p-1")) && !chosen().contains(&zone("p-2")));
        document(&host.ovs, SERVICES);
        eventually("p-2 is sampled", || chosen().contains(&zone("p-2")) && !chosen().contains(&zone("p-1")));
        // A restart finds all of that, and what was counted, as it is to be.
        drop(agent);
        std::fs::remove_file(host.log_path()).expect("the log of the one before");
        let path = log_path(&host.ovs).display().to_string();
        let log =
            ["--security-log-path", &path, "--security-log-rules", "log", "--security-log-events", "accept"];
        let agent = host.agent(&log);
        agent.wait_for("applied", 1);
        assert_eq!(
            agent.count("applied"),
            agent.count("applied added=0 modified=0 deleted=0 bundles=0"),
            "{}",
            agent.log()
        );
        // Without a log nothing looks.
        drop(agent);
        let _agent = host.agent(&[]);
        assert!(!host.run("nft list ruleset").contains("log-admitted"));
    }
}

#[test]
fn what_is_admitted_and_limited_is_counted() {
    let (host, _agent) = logging("nftables", &["--security-log-rate", "5", "--security-log-ports", "p-2"]);
    const SENT: u64 = 400;
    for port in 0..SENT {
        host.send(&[datagram([10, 0, 0, 1], 10_000 + u16::try_from(port).expect("small"), 53)]);
    }
    let path = log_path(&host.ovs);
    let told = || {
        let lines = logged(&path);
        let limited = lines.iter().filter_map(|line| line["accepted"].as_u64()).sum::<u64>();
        (lines.iter().filter(|line| line["event"] == "accept").count() as u64, limited)
    };
    eventually("each is told of, or counted", || told().0 + told().1 == SENT);
    assert!((5..SENT / 2).contains(&told().0), "{:?}", told());
}

/// What `sgflow status` says, in a line.
fn standing(host: &HybridPair) -> String {
    stdout(&status(&host.ovs, &[])).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What looks is no part of what enforces: whoever turns it on, off, or takes it away changes nothing else.
#[test]
fn what_looks_changes_nothing_that_enforces() {
    for kind in ["nftables", "nft"] {
        let (host, agent) = logging(kind, &[]);
        // Handles are given anew to what is made anew.
        let enforces = || {
            let tables = "nft -a -s list table bridge sgflow; nft -a -s list table inet sgflow";
            let all = host.run(&format!("{tables}; iptables-nft-save -t raw"));
            let is_of_samples = |line: &&str| line.contains("limit rate") || line.starts_with('#');
            all.lines().filter(|line| !is_of_samples(line)).map(str::to_owned).collect::<Vec<_>>()
        };
        host.send(&frames());
        let is_dropped = || counted(&host.drops(&[]), "p-2", "no-rule").1 == 1;
        eventually("a drop", is_dropped);
        let (held, since) = (enforces(), host.drops(&[])["since"].clone());
        assert!(host.run("nft list table inet sgflow-samples").contains("log-admitted"));
        host.run("nft delete chain inet sgflow-samples log-admitted");
        eventually("it is back", || host.run("nft list table inet sgflow-samples").contains("log-admitted"));
        assert_eq!(enforces(), held, "{kind}");
        host.run("nft flush chain bridge sgflow sample-spoofed-ip");
        eventually("it samples again", || {
            host.run("nft list chain bridge sgflow sample-spoofed-ip").contains("limit rate")
        });
        assert_eq!((enforces(), agent.count("drift")), (held.clone(), 0), "{kind}: {}", agent.log());
        drop(agent);
        let agent = host.agent(&["--drops-samples", "0"]);
        let tables = host.run("nft list ruleset");
        assert!(!tables.contains("sgflow-samples") && !tables.contains("limit rate"), "{kind}: {tables}");
        assert_eq!(enforces(), held, "{kind}");
        assert!(
            is_dropped() && host.drops(&[])["since"] == since,
            "{kind}: counts go on: {since} {}",
            host.drops(&[])
        );
        drop(agent);
    }
}

/// Only one can listen, and whoever cannot says so.
#[test]
fn a_log_that_hears_nothing_is_a_fault() {
    let host = HybridPair::start("nftables", SERVICES);
    let other =
        host.host.netns().enter(|| Log::listen(GROUP, 64).expect("nobody else listens")).expect("there");
    let path = log_path(&host.ovs).display().to_string();
    let agent = host.agent_with(&["--security-log-path", &path], &[]);
    let told = "unseen security_log: group 21351 of the kernel's log: another program listens to it";
    eventually("it is told", || standing(&host).contains(told));
    assert_eq!(agent.count("the security-group log tells of nothing"), 1, "{}", agent.log());
    drop(other);
    eventually("all is well", || standing(&host).starts_with("converged"));
    host.send(&frames());
    eventually("it tells", || told_of(&host).contains(&("p-2".to_owned(), "drop".to_owned(), 54)));
}

fn told_of(host: &HybridPair) -> Vec<(String, String, u64)> {
    told(&log_path(&host.ovs))
}

/// A log about what nobody knows would stay empty and say nothing.
#[test]
fn a_name_that_the_policy_does_not_know_is_a_fault() {
    let host = HybridPair::start("nftables", SERVICES);
    let path = log_path(&host.ovs).display().to_string();
    let names = ["--security-log-groups", "sg-typo", "--security-log-ports", "p-2"];
    let _agent = host.agent_with(&[&["--security-log-path", &path][..], &names].concat(), &[]);
    let told = "unseen security_log: groups: the policy knows no security group sg-typo";
    eventually("it is told", || standing(&host).contains(told));
    document(
        &host.ovs,
        &format!("{}\n", SERVICES.replace("security_groups:\n", "security_groups:\n- {id: sg-typo}\n")),
    );
    eventually("it is known", || standing(&host).starts_with("converged"));
}

/// Whoever waits for its turn hears nothing and tells of nothing, and hears at once when it comes.
#[test]
fn an_agent_that_waits_tells_of_nothing() {
    let (host, first) = logging("nftables", &[]);
    let second = host.ovs.rundir().join("second.jsonl");
    let (path, api) =
        (second.display().to_string(), host.ovs.rundir().join("second.sock").display().to_string());
    let waiting = host.agent_with(&["--security-log-path", &path, "--api-socket", &api], &[]);
    waiting.wait_for("waiting", 1);
    host.send(&frames());
    eventually("the first tells", || told_of(&host).len() >= 5);
    drop(first);
    waiting.wait_for("applied", 2);
    host.send(&[refused(4001)]);
    eventually("the second tells", || !logged(&second).is_empty());
    assert_eq!(told(&second), wanted(&[("p-1", "accept", 54), ("p-2", "drop", 54)]));
}
