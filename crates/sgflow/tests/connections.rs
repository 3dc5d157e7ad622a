//! `sgflow connections` and `sgflow diff` on a real switch: which rule admits each connection, and what a change would do to
//! packets and connections before it is made.

mod common;
mod documented;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use common::traffic::{SERVICES as POLICY, datagram, ends};
use common::{apply, document, flows, ovs, sgflow, stderr, stdout};
use documented::is_printed_as;
use expect_test::expect;
use lab::{DummyPort, Ovs};

/// Two connections from p-1 to p-2.
fn connected() -> (Ovs, DummyPort, DummyPort) {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    let applied = apply(&ovs, &document(&ovs, POLICY), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    let sent = [datagram([10, 0, 0, 1], 4000, 53), datagram([10, 0, 0, 1], 4000, 514)];
    sender.receive_all(&sent).expect("the switch takes them");
    common::eventually("both arrived", || receiver.take_sent().expect("what arrived").len() == 2);
    (ovs, sender, receiver)
}

/// The document without the rule for the log, and with one for the time.
fn proposed(ovs: &Ovs) -> PathBuf {
    let path = ovs.rundir().join("proposed.yaml");
    let text = POLICY.replace(
        "{id: log, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 514, port_range_max: 514, remote_group_id: sg-out}",
        "{id: time, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 123, port_range_max: 123}",
    );
    assert_ne!(text, POLICY);
    fs::write(&path, text).expect("a document");
    path
}

fn run(ovs: &Ovs, policy: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = sgflow();
    command.args(arguments).arg("--policy").arg(policy).arg("--ovsdb").arg(ovs.db_remote());
    command.output().expect("sgflow runs")
}

#[test]
fn each_connection_has_its_rule_and_what_a_change_would_do_to_it() {
    let (ovs, _sender, _receiver) = connected();
    let policy = ovs.rundir().join("policy.yaml");
    let listed = run(&ovs, &policy, &["connections", "p-2"]);
    assert_eq!(listed.status.code(), Some(0), "{}", stderr(&listed));
    expect![[r#"
        p-2: 2 connections in zone 4098
          udp 10.0.0.1:4000 -> 10.0.0.2:514
            ingress: admitted: rule log of servers allows IPv4 udp/514 from group
              clients
          udp 10.0.0.1:4000 -> 10.0.0.2:53
            ingress: admitted: rule dns of servers allows IPv4 udp/53 from anywhere
    "#]]
    .assert_eq(&sorted(&stdout(&listed)));
    let change = proposed(&ovs).display().to_string();
    let compared = run(&ovs, &policy, &["connections", "p-2", "--proposed", &change]);
    assert_eq!(compared.status.code(), Some(0), "{}", stderr(&compared));
    expect![[r#"
        p-2: 2 connections in zone 4098, 1 would be cut
          udp 10.0.0.1:4000 -> 10.0.0.2:514
            ingress: admitted: rule log of servers allows IPv4 udp/514 from group
              clients
            then WOULD BE CUT: nearest is rule time of servers, which allows IPv4
              udp/123 from anywhere; the port is 514
          udp 10.0.0.1:4000 -> 10.0.0.2:53
            ingress: admitted: rule dns of servers allows IPv4 udp/53 from anywhere
            then goes on: rule dns of servers allows IPv4 udp/53 from anywhere
    "#]]
    .assert_eq(&sorted(&stdout(&compared)));
    let without: Vec<&str> = POLICY.lines().filter(|line| !line.contains("id: p-2")).collect();
    let gone = ovs.rundir().join("gone.yaml");
    fs::write(&gone, without.join("\n")).expect("a document");
    let gone_text = gone.display().to_string();
    let compared = run(&ovs, &policy, &["connections", "p-2", "--proposed", &gone_text]);
    assert!(
        stdout(&compared).starts_with("p-2: 2 connections in zone 4098, 2 would be cut\n"),
        "{}",
        stdout(&compared)
    );
    let diff = run(&ovs, &gone, &["diff"]);
    assert!(
        stdout(&diff).contains("connections that would be cut: 2\n  p-2: all 2 of them"),
        "{}",
        stdout(&diff)
    );
    let json = run(&ovs, &policy, &["connections", "p-2", "--proposed", &change, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    is_printed_as("Connections", &json);
    let log = json["connections"].as_array().unwrap().iter().find(|one| one["destination"] == "10.0.0.2:514");
    expect![[r#"
        {
          "direction": "ingress",
          "protocol": 17,
          "source": "10.0.0.1:4000",
          "destination": "10.0.0.2:514",
          "tcp_state": null,
          "stamped": true,
          "admitted": true,
          "rules": [
            {
              "rule": "log",
              "group": "sg-in",
              "group_name": "servers",
              "allows": "IPv4 udp/514 from group clients"
            }
          ],
          "why": "rule log of servers allows IPv4 udp/514 from group clients",
          "would_be_cut": true,
          "would_why": "nearest is rule time of servers, which allows IPv4 udp/123 from anywhere; the port is 514"
        }"#]].assert_eq(&serde_json::to_string_pretty(log.unwrap()).unwrap());
}

/// The switch lists connections in no order.
fn sorted(text: &str) -> String {
    let (head, rest) = text.split_once('\n').expect("a line");
    let mut entries: Vec<String> = Vec::new();
    for line in rest.lines() {
        match entries.last_mut() {
            Some(entry) if line.starts_with("    ") => *entry += &format!("\n{line}"),
            _ => entries.push(line.to_owned()),
        }
    }
    entries.sort();
    format!("{head}\n{}\n", entries.join("\n"))
}

#[test]
fn a_change_is_told_before_it_is_made() {
    let (ovs, _sender, _receiver) = connected();
    let before = flows(&ovs);
    let policy = ovs.rundir().join("policy.yaml");
    let same = run(&ovs, &policy, &["diff"]);
    assert_eq!(
        (stdout(&same).as_str(), same.status.code()),
        ("nothing would change\n", Some(0)),
        "{}",
        stderr(&same)
    );
    let change = run(&ovs, &proposed(&ovs), &["diff"]);
    assert_eq!(change.status.code(), Some(4), "{}", stderr(&change));
    expect![[r#"
        flows: 3 added, 0 modified, 8 deleted
        packets that would be treated otherwise, one for each port and direction:
          - dropped: p-2 ingress
              New: udp,dl_dst=fa:16:3e:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_dst=514
          + passes: p-2 ingress (rule time)
              New: udp,dl_dst=fa:16:3e:00:00:02,nw_dst=10.0.0.2,tp_dst=123
          - dropped: p-2 egress
              Reply: udp,dl_src=fa:16:3e:00:00:02,nw_src=10.0.0.2,nw_dst=10.0.0.1,tp_src=514
          + passes: p-2 egress (rule time)
              Reply: udp,dl_src=fa:16:3e:00:00:02,nw_src=10.0.0.2,tp_src=123
        connections that would be cut: 1
          p-2: udp 10.0.0.1:4000 -> 10.0.0.2:514
            ingress: not admitted: nearest is rule time of servers, which allows IPv4
              udp/123 from anywhere; the port is 514
    "#]]
    .assert_eq(&stdout(&change));
    let json = run(&ovs, &proposed(&ovs), &["diff", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    is_printed_as("Diff", &json);
    assert_eq!(json["cut"][0]["destination"], "10.0.0.2:514");
    assert_eq!(flows(&ovs), before, "a look changes nothing");
    // And so it comes.
    let applied = apply(&ovs, &proposed(&ovs), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    let done = run(&ovs, &proposed(&ovs), &["diff"]);
    assert_eq!(stdout(&done), "nothing would change\n");
}

/// Both ports serve names.
const OF_ONE_GROUP: &str = r#"
security_groups:
- {id: names, security_group_rules: [
    {id: names-out, direction: egress, ethertype: IPv4},
    {id: dns, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53}]}
- {id: clocks, security_group_rules: [
    {id: clocks-out, direction: egress, ethertype: IPv4},
    {id: time, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 123, port_range_max: 123}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [names]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [names]}
"#;

/// Ports of one group share the marks of their connections; that one leaves it is nothing to the other.
#[test]
fn a_port_that_moves_between_groups_is_the_only_one_named() {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    let applied = apply(&ovs, &document(&ovs, OF_ONE_GROUP), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    sender.receive_all(&[datagram([10, 0, 0, 1], 4000, 53)]).expect("the switch takes it");
    common::eventually("it arrived", || receiver.take_sent().expect("what arrived").len() == 1);
    let (stays, leaves) = OF_ONE_GROUP.split_once("- {id: p-2").expect("p-2");
    let moved = ovs.rundir().join("moved.yaml");
    fs::write(&moved, format!("{stays}- {{id: p-2{}", leaves.replace("[names]", "[clocks]")))
        .expect("a document");
    let diff = run(&ovs, &moved, &["diff"]);
    assert_eq!(diff.status.code(), Some(4), "{}", stderr(&diff));
    expect![[r#"
        flows: 25 added, 3 modified, 0 deleted
        packets that would be treated otherwise, one for each port and direction:
          - dropped: p-2 ingress
              New: udp,dl_dst=fa:16:3e:00:00:02,nw_dst=10.0.0.2,tp_dst=53
          + passes: p-2 ingress (rule time)
              New: udp,dl_dst=fa:16:3e:00:00:02,nw_dst=10.0.0.2,tp_dst=123
          - dropped: p-2 egress
              Reply: udp,dl_src=fa:16:3e:00:00:02,nw_src=10.0.0.2,tp_src=53
          + passes: p-2 egress (rule time)
              Reply: udp,dl_src=fa:16:3e:00:00:02,nw_src=10.0.0.2,tp_src=123
        connections that would be cut: 1
          p-2: udp 10.0.0.1:4000 -> 10.0.0.2:53
            ingress: not admitted: nearest is rule time of clocks, which allows IPv4
              udp/123 from anywhere; the port is 53
    "#]]
    .assert_eq(&stdout(&diff));
}
