//! `sgflow explain` on a real switch: what it says, that policy, flows and the switch's own trace say it, and that it notices where
//! they do not.

mod common;
mod documented;

use std::process::Output;

use common::{apply, bridge, document, ovs, sgflow, stderr, stdout};
use documented::is_printed_as;
use expect_test::{Expect, expect};
use lab::{DummySpec, Ovs};
use serde_json::{Value, json};

/// Two web servers that administrators and each other may reach; a database for web servers only.
const POLICY: &str = r#"
security_groups:
- {id: sg-web, name: web, security_group_rules: [
    {id: out, direction: egress, ethertype: IPv4},
    {id: http, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80},
    {id: ssh, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 22, port_range_max: 22,
     remote_ip_prefix: 10.9.0.0/16}]}
- {id: sg-db, name: database, security_group_rules: [
    {id: sql, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 5432, port_range_max: 5432,
     remote_group_id: sg-web}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-web]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [sg-db]}
- {id: p-3, network_id: n, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [sg-web]}
"#;

fn enforced() -> Ovs {
    let ovs = ovs();
    bridge(&ovs);
    let applied = apply(&ovs, &document(&ovs, POLICY), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    ovs
}

fn explain(ovs: &Ovs, arguments: &[&str]) -> Output {
    let mut command = sgflow();
    command.arg("explain").args(arguments);
    command.arg("--policy").arg(ovs.rundir().join("policy.yaml")).arg("--ovsdb").arg(ovs.db_remote());
    command.output().expect("sgflow runs")
}

fn check(ovs: &Ovs, line: &str, code: i32, expected: &Expect) {
    let arguments: Vec<&str> = line.split(' ').collect();
    let output = explain(ovs, &arguments);
    assert_eq!(output.status.code(), Some(code), "{line}: {}{}", stdout(&output), stderr(&output));
    expected.assert_eq(&stdout(&output));
}

/// A tenant names a group as it likes, and who looks is root at a terminal.
#[test]
fn a_name_gives_no_orders_to_a_terminal() {
    let ovs = ovs();
    bridge(&ovs);
    let name = r#"name: "web\e[2J\e[31mRED\nsgflow: forged line""#;
    let applied = apply(&ovs, &document(&ovs, &POLICY.replace("name: web", name)), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    let arguments = ["p-1", "--from", "10.9.0.1", "--proto", "tcp", "--dport", "22"];
    let text = stdout(&explain(&ovs, &arguments));
    assert!(text.contains(r"rule ssh of web\u001b[2J\u001b[31mRED\nsgflow: forged line allows"), "{text:?}");
    let json = stdout(&explain(&ovs, &[&arguments[..], &["--json"]].concat()));
    assert!(json.contains(r"web\u001b[2J\u001b[31mRED\nsgflow: forged line"), "{json:?}");
    let mut flows = sgflow();
    flows
        .args(["flows", "--policy"])
        .arg(ovs.rundir().join("policy.yaml"))
        .arg("--ovsdb")
        .arg(ovs.db_remote());
    let flows = stdout(&flows.output().expect("sgflow runs"));
    assert!(flows.contains(r"web\u001b[2J"), "{flows:?}");
    for text in [text, json, flows] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("sgflow: forged")), "{text}");
    }
}

/// As Neutron's agent has them beside ours, and what nobody follows.
const OTHERS: &str = "\
table=0,priority=3,in_port=9,dl_vlan=11 actions=set_field:4107->vlan_vid,goto_table:58
table=0,priority=0 actions=goto_table:58
table=58,priority=0 actions=goto_table:60
table=60,priority=1 actions=NORMAL
table=62,priority=3 actions=learn(table=63,priority=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),NORMAL
";

#[test]
fn flows_of_others_keep_nobody_from_looking() {
    let ovs = enforced();
    let policy = ovs.rundir().join("policy.yaml");
    let say = |words: &str| {
        let mut command = sgflow();
        command.args(words.split(' ')).arg("--policy").arg(&policy).arg("--ovsdb").arg(ovs.db_remote());
        let output = command.output().expect("sgflow runs");
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let asked = ["explain p-1 --to p-2 --proto tcp --dport 5432", "connections p-2", "diff"];
    let before = asked.map(say);
    assert!(before.iter().all(|(code, _)| *code == Some(0)), "{before:?}");
    let file = ovs.rundir().join("others");
    std::fs::write(&file, OTHERS).expect("flows");
    let file = file.to_str().expect("UTF-8");
    ovs.ofctl(&["-O", "OpenFlow14", "add-flows", "br-int", file]).expect("ovs-ofctl does it");
    assert_eq!(asked.map(say), before);

    // One that may come before ours is something else, whatever it does and whichever end is asked about.
    let group = "group_id=7,type=all,bucket=output:2";
    ovs.ofctl(&["-O", "OpenFlow14", "add-group", "br-int", group]).expect("ovs-ofctl does it");
    let one_end = "explain p-2 --from 203.0.113.5 --proto tcp --dport 22";
    for (flow, words, part) in [
        ("priority=65500,in_port=1 actions=group:7", asked[0], "nobody can say what they do: "),
        ("priority=65500,in_port=1 actions=group:7", asked[0], "; not traced: there is no way to trace"),
        (
            "priority=65500,in_port=1 actions=output:2,resubmit(,100)",
            asked[0],
            "a flow of others may let it pass: ",
        ),
        ("priority=65535 actions=NORMAL", one_end, "a flow of others may let it pass: "),
    ] {
        let flow = format!("table=0,{flow}");
        ovs.ofctl(&["-O", "OpenFlow14", "add-flow", "br-int", &flow]).expect("ovs-ofctl does it");
        let (code, text) = say(words);
        let unfolded = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == Some(4) && text.contains("ALARM") && unfolded.contains(part), "{flow}: {text}");
        let key = flow.split(" actions=").next().unwrap_or_default();
        ovs.ofctl(&["-O", "OpenFlow14", "--strict", "del-flows", "br-int", key]).expect("ovs-ofctl does it");
    }
    assert_eq!(asked.map(say), before);
    assert_eq!(say(one_end).0, Some(0));
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is printed is long")]
fn it_answers_in_a_line_and_shows_the_way() {
    let ovs = enforced();
    check(
        &ovs,
        "p-1 --from 11.0.0.5 --proto tcp --dport 22",
        0,
        &expect![[r#"
            p-1 ingress: dropped (no-rule): nearest is rule ssh of web, which allows tcp/22 from 10.9.0.0/16; the source is 11.0.0.5
              packet: tcp 11.0.0.5:49152 -> 10.0.0.1:22, new
              br-int: p-1 ingress: the flows agree: dropped (no-rule); so does the switch's
                own trace
                110 deliver          VLAN 10, to MAC fa:16:3e:00:00:01: to p-1
                120 ingress_base     IPv4: tracked in the receiver's zone
                122 ingress_state    new IPv4: does any rule ask for such a service?
                130 ingress_service  ingress rules of set 1 (web) ask for tcp/22
                123 ingress_policy   new connections that no ingress rule admits: dropped as
                                     no-rule
                128 drop             drops counted as no-rule: No rule of the port's groups
                                     admits it.
        "#]],
    );
    check(
        &ovs,
        "p-1 --from 11.0.0.5 --proto tcp --dport 80",
        0,
        &expect![[r#"
            p-1 ingress: accepted (rule): rule http of web allows IPv4 tcp/80 from anywhere
              packet: tcp 11.0.0.5:49152 -> 10.0.0.1:80, new
              br-int: p-1 ingress: the flows agree: accepted; so does the switch's own trace
                110 deliver          VLAN 10, to MAC fa:16:3e:00:00:01: to p-1
                120 ingress_base     IPv4: tracked in the receiver's zone
                122 ingress_state    new IPv4: does any rule ask for such a service?
                130 ingress_service  ingress rules of set 1 (web) ask for tcp/80
                123 ingress_policy   ingress rule of set 1 (web): tcp/80 from anybody
                124 ingress_commit   IPv4 that rules of set 1 (web) admitted: the connection
                                     is stamped
                125 next             admitted: on to 127 output
                127 output           to the local port concerned
        "#]],
    );
    check(
        &ovs,
        "p-1 --to p-2 --proto tcp --dport 5432",
        0,
        &expect![[r#"
            p-1 egress: accepted (rule): rule out of web allows IPv4 everything to anywhere
            p-2 ingress: accepted (rule): rule sql of database allows IPv4 tcp/5432 from group web
              packet: tcp 10.0.0.1:49152 -> 10.0.0.2:5432, new
              br-int: p-1 egress: the flows agree: accepted; so does the switch's own trace
                0 hook               every frame enters the firewall here
                100 classify         p-1 sends, on VLAN 10: filtered as set 1 (web)
                101 egress_base      p-1 may send with MAC fa:16:3e:00:00:01
                102 egress_source    p-1 may send IPv4 from 10.0.0.1 with MAC
                                     fa:16:3e:00:00:01
                103 egress_ip        IPv4: tracked in the sender's zone
                105 egress_state     new IPv4: does any rule ask for such a service?
                108 egress_service   egress rules of set 1 (web) ask for IPv4
                106 egress_policy    egress rule of set 1 (web): IPv4 to anybody
                107 egress_commit    IPv4 that rules of set 1 (web) admitted: the connection
                                     is stamped
                125 next             admitted: on to 110 deliver
                110 deliver          VLAN 10, to MAC fa:16:3e:00:00:02: to p-2
              br-int: p-2 ingress: the flows agree: accepted; so does the switch's own trace
                110 deliver          VLAN 10, to MAC fa:16:3e:00:00:02: to p-2
                120 ingress_base     IPv4: tracked in the receiver's zone
                122 ingress_state    new IPv4: does any rule ask for such a service?
                130 ingress_service  ingress rules of set 2 (database) ask for tcp/5432
                123 ingress_policy   ingress rules about remote 1 (web): both clauses hold,
                                     admitted
                124 ingress_commit   IPv4 that rules of set 2 (database) admitted: the
                                     connection is stamped
                125 next             admitted: on to 127 output
                127 output           to the local port concerned
        "#]],
    );
    // Only one of the two is here.
    check(
        &ovs,
        "p-2 --from p-3 --proto tcp --dport 22",
        0,
        &expect![[r#"
            p-3 egress: accepted (rule): rule out of web allows IPv4 everything to anywhere
            p-2 ingress: dropped (no-rule): nearest is rule sql of database, which allows IPv4 tcp/5432 from group web; the port is 22
              packet: tcp 10.0.0.3:49152 -> 10.0.0.2:22, new
              br-int: p-3 egress: the port is not on this host
              br-int: p-2 ingress: the flows agree: dropped (no-rule); so does the switch's
                own trace
                110 deliver          VLAN 10, to MAC fa:16:3e:00:00:02: to p-2
                120 ingress_base     IPv4: tracked in the receiver's zone
                122 ingress_state    new IPv4: does any rule ask for such a service?
                130 ingress_service  services that no ingress rule asks for: dropped as
                                     no-rule
                128 drop             drops counted as no-rule: No rule of the port's groups
                                     admits it.
        "#]],
    );
    check(
        &ovs,
        "p-1 --to 10.0.0.9 --proto udp --dport 68 --sport 67",
        0,
        &expect![[r#"
            p-1 egress: dropped (dhcp-server): a port may not answer DHCP
              packet: udp 10.0.0.1:67 -> 10.0.0.9:68, new
              br-int: p-1 egress: the flows agree: dropped (dhcp-server); so does the
                switch's own trace
                0 hook               every frame enters the firewall here
                100 classify         p-1 sends, on VLAN 10: filtered as set 1 (web)
                101 egress_base      p-1 may send with MAC fa:16:3e:00:00:01
                102 egress_source    DHCP replies of a guest: dropped as dhcp-server
                128 drop             drops counted as dhcp-server: A guest answered DHCP or
                                     DHCPv6.
        "#]],
    );
    check(
        &ovs,
        "p-1 --to 10.0.0.9 --proto icmp --address 10.0.0.66",
        0,
        &expect![[r#"
            p-1 egress: dropped (spoofed-ip): the source is 10.0.0.66; with MAC fa:16:3e:00:00:01 the port may use 10.0.0.1
              packet: icmp type 8 code 0 10.0.0.66 -> 10.0.0.9, new
              br-int: p-1 egress: the flows agree: dropped (spoofed-ip); so does the
                switch's own trace
                0 hook               every frame enters the firewall here
                100 classify         p-1 sends, on VLAN 10: filtered as set 1 (web)
                101 egress_base      p-1 may send with MAC fa:16:3e:00:00:01
                102 egress_source    IPv4 of any other sender: dropped as spoofed-ip
                128 drop             drops counted as spoofed-ip: Source address is no pair
                                     of the port with that MAC.
        "#]],
    );
    check(
        &ovs,
        "p-2 --from 10.0.0.9 --proto tcp --dport 40000 --sport 80 --state reply",
        0,
        &expect![[r#"
            p-2 ingress: dropped (revoked): its group database has no egress rule
              packet: tcp 10.0.0.9:80 -> 10.0.0.2:40000, reply
              br-int: p-2 ingress: the flows agree: dropped (revoked); so does the switch's
                own trace
                110 deliver          VLAN 10, to MAC fa:16:3e:00:00:02: to p-2
                120 ingress_base     IPv4: tracked in the receiver's zone
                122 ingress_state    replies: judged by the rules in 106 egress_policy
                106 egress_policy    connections that no egress rule admits any more:
                                     dropped as revoked
                128 drop             drops counted as revoked: Packet of a connection that
                                     was admitted once and that no rule admits any more.
        "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is printed is long")]
fn programs_read_it_too() {
    let ovs = enforced();
    let output = explain(&ovs, &["p-2", "--from", "p-1", "--proto", "tcp", "--dport", "22", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    is_printed_as("Explain", &answer);
    for half in answer["answers"].as_array().expect("answers") {
        is_printed_as("Way", &half["switch"]);
    }
    let elsewhere = explain(&ovs, &["p-3", "--from", "p-1", "--proto", "tcp", "--dport", "22", "--json"]);
    let elsewhere: Value = serde_json::from_slice(&elsewhere.stdout).expect("JSON");
    is_printed_as("Elsewhere", &elsewhere["answers"][1]["switch"]);
    let mut pretty = answer.clone();
    for half in pretty["answers"].as_array_mut().unwrap() {
        let steps = half["switch"]["steps"].as_array_mut().unwrap();
        assert!(steps.len() > 3);
        steps.truncate(1);
    }
    expect![[r#"
        {
          "answers": [
            {
              "port": "p-1",
              "direction": "egress",
              "packet": "tcp 10.0.0.1:49152 -> 10.0.0.2:22",
              "state": "new",
              "accepted": true,
              "reason": "rule",
              "rules": [
                {
                  "rule": "out",
                  "group": "sg-web",
                  "group_name": "web",
                  "allows": "IPv4 everything to anywhere"
                }
              ],
              "misses": [],
              "why": "rule out of web allows IPv4 everything to anywhere",
              "switch": {
                "local": true,
                "writer": "sgflow",
                "agrees": true,
                "fate": "passes",
                "rules": [
                  "out"
                ],
                "steps": [
                  {
                    "purpose": "every frame enters the firewall here",
                    "table": 0,
                    "name": "hook",
                    "flow": "cookie=0x5367010000000000, priority=65000 actions=resubmit(,100)"
                  }
                ],
                "bypass": null,
                "detour": null,
                "not_traced": null
              }
            },
            {
              "port": "p-2",
              "direction": "ingress",
              "packet": "tcp 10.0.0.1:49152 -> 10.0.0.2:22",
              "state": "new",
              "accepted": false,
              "reason": "no-rule",
              "rules": [],
              "misses": [
                {
                  "rule": "sql",
                  "group": "sg-db",
                  "group_name": "database",
                  "allows": "IPv4 tcp/5432 from group web",
                  "but": [
                    "the port is 22"
                  ]
                }
              ],
              "why": "nearest is rule sql of database, which allows IPv4 tcp/5432 from group web; the port is 22",
              "switch": {
                "local": true,
                "writer": "sgflow",
                "agrees": true,
                "fate": {
                  "dropped": "no-rule"
                },
                "rules": [],
                "steps": [
                  {
                    "purpose": "VLAN 10, to MAC fa:16:3e:00:00:02: to p-2",
                    "table": 110,
                    "name": "deliver",
                    "flow": "cookie=0x536707000000000a, table=110, priority=90,reg6=0xa,dl_dst=fa:16:3e:00:00:02 actions=set_field:0x2->reg5,set_field:0x2->reg7,set_field:0x1002->reg8,resubmit(,120)"
                  }
                ],
                "bypass": null,
                "detour": null,
                "not_traced": null
              }
            }
          ],
          "agree": true,
          "not_asked": null,
          "networks": null
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&pretty).unwrap());
}

/// What a hand did to the switch.
fn ofctl(ovs: &Ovs, arguments: &[&str]) {
    let arguments: Vec<&str> = ["-O", "OpenFlow14"].iter().chain(arguments).copied().collect();
    ovs.ofctl(&arguments).expect("ovs-ofctl does it");
}

#[test]
fn where_policy_and_switch_disagree_it_is_an_alarm() {
    let ovs = enforced();
    let opened =
        "cookie=0x5367040000000001,table=123,priority=200,ct_state=-inv+trk,tcp actions=resubmit(,124)";
    ofctl(&ovs, &["add-flow", "br-int", opened]);
    let line = ["p-1", "--from", "11.0.0.5", "--proto", "tcp", "--dport", "443"];
    let output = explain(&ovs, &[&line[..], &["--state", "established"]].concat());
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("ALARM: the flows disagree: accepted"), "{}", stdout(&output));
    assert!(stdout(&output).starts_with("p-1 ingress: dropped (revoked)"), "{}", stdout(&output));
    // By itself, the policy has nothing to be alarmed about.
    let output = explain(&ovs, &[&line[..], &["--policy-only"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn what_makes_no_sense_is_said() {
    let ovs = enforced();
    let refused = |line: &str| {
        let output = explain(&ovs, &line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1), "{line}: {}", stdout(&output));
        stderr(&output)
    };
    expect![[r#"
        sgflow: --proto tcp needs a destination port, --dport
    "#]]
    .assert_eq(&refused("p-1 --from 10.0.0.1 --proto tcp"));
    expect![[r#"
        sgflow: --proto: "tpc": unknown protocol; give its number, 0 to 255
    "#]]
    .assert_eq(&refused("p-1 --from 10.0.0.1 --proto tpc --dport 1"));
    expect![[r#"
        sgflow: --dport: there is none in icmp over IPv4
    "#]]
    .assert_eq(&refused("p-1 --from 10.0.0.1 --proto icmp --dport 1"));
    expect![[r#"
        sgflow: port p-1: it has no IPv6 address; say which one it uses (--address)
    "#]]
    .assert_eq(&refused("p-1 --from fd00::1 --proto tcp --dport 1"));
}

/// By what an operator sees in other commands; and "closed" is said only of what is plugged in.
#[test]
fn a_port_is_meant_by_its_id_or_the_name_of_its_interface() {
    let ovs = ovs();
    bridge(&ovs);
    let ids = [("p-1", "web-1"), ("p-2", "web-2"), ("p-3", "bastion")];
    let policy = ids.iter().fold(POLICY.to_owned(), |text, (old, new)| {
        text.replace(&format!("id: {old},"), &format!("id: {new},"))
    });
    for (name, id) in [("eth-web", "web-1"), ("db0", "web-2"), ("stranger", "p-9")] {
        let spec = DummySpec { port_id: Some(id.into()), tag: Some(10), ..DummySpec::new(name) };
        ovs.add_dummy_port("br-int", spec).expect("a port");
    }
    document(&ovs, &policy);
    let asked = |port: &str| {
        let output =
            explain(&ovs, &[port, "--from", "db0", "--proto", "tcp", "--dport", "80", "--policy-only"]);
        let said = stdout(&output).lines().last().unwrap_or_default().to_owned() + &stderr(&output);
        (output.status.code(), said)
    };
    for called in ["web-1", "eth-web"] {
        assert_eq!(asked(called), (Some(0), "  packet: tcp 10.0.0.2:49152 -> 10.0.0.1:80, new".to_owned()));
    }
    assert_eq!(asked("bast").0, Some(0));
    let refusals = ["bas", "web-", "nobody", "stranger", "p-9"].map(|port| {
        let (code, said) = asked(port);
        assert_eq!(code, Some(1), "{port}: {said}");
        said
    });
    expect![[r#"
        sgflow: port bas: the policy does not know it (of the beginning of an id give at least 4 characters), nor is an interface of br-int its or called so
        sgflow: port web-: 2 ports begin so: web-1, web-2
        sgflow: port nobody: the policy does not know it, nor is an interface of br-int its or called so
        sgflow: port p-9: the policy does not know it, and interface stranger of br-int is its: it is closed (no-policy)
        sgflow: port p-9: the policy does not know it, and interface stranger of br-int is its: it is closed (no-policy)
    "#]]
    .assert_eq(&refusals.concat());
    let from = explain(&ovs, &["web-1", "--from", "p-9", "--proto", "tcp", "--dport", "80"]);
    expect![[r#"
        sgflow: --from p-9: it is no address, nor a port: port p-9: the policy does not know it, and interface stranger of br-int is its: it is closed (no-policy)
    "#]]
    .assert_eq(&stderr(&from));
    let mut away = sgflow();
    away.args(["explain", "nobody", "--from", "10.0.0.1", "--proto", "icmp", "--ovsdb", "unix:/nonexistent"]);
    let away = away.arg("--policy").arg(ovs.rundir().join("policy.yaml")).output().expect("sgflow runs");
    expect![[r#"
        sgflow: port nobody: the policy does not know it; the interfaces of br-int were not looked at: cannot connect to unix:/nonexistent: No such file or directory (os error 2)
    "#]]
    .assert_eq(&stderr(&away));
}

/// The rules may let a packet pass that no switch carries from the one to the other.
#[test]
fn ports_of_different_networks_are_said_to_be() {
    let ovs = ovs();
    document(&ovs, &POLICY.replace("id: p-3, network_id: n", "id: p-3, network_id: m"));
    let asked = |from: &str, more: &[&str]| {
        let line = ["p-1", "--from", from, "--proto", "tcp", "--dport", "80", "--policy-only"];
        stdout(&explain(&ovs, &[&line[..], more].concat()))
    };
    expect![[r#"
        p-3 egress: accepted (rule): rule out of web allows IPv4 everything to anywhere
        p-1 ingress: accepted (rule): rule http of web allows IPv4 tcp/80 from anywhere
          packet: tcp 10.0.0.3:49152 -> 10.0.0.1:80, new
          p-3 is on network m, p-1 on n: only a router joins them
    "#]]
    .assert_eq(&asked("p-3", &[]));
    assert!(!asked("p-2", &[]).contains("router") && !asked("10.0.0.3", &[]).contains("router"));
    for (from, networks) in [("p-3", json!(["m", "n"])), ("p-2", json!(null)), ("10.0.0.3", json!(null))] {
        let told: Value = serde_json::from_str(&asked(from, &["--json"])).expect("JSON");
        is_printed_as("Explain", &told);
        assert_eq!(told["networks"], networks);
    }
}

/// A rule that the switch cannot have admits nothing, whatever the document says.
#[test]
fn a_rule_that_is_refused_admits_nothing() {
    let ovs = ovs();
    bridge(&ovs);
    let refused = "{id: dccp, direction: ingress, ethertype: IPv4, protocol: dccp, port_range_min: 5001, port_range_max: 5001},\n    {id: http";
    let applied = apply(&ovs, &document(&ovs, &POLICY.replace("{id: http", refused)), &[]);
    assert_eq!(applied.status.code(), Some(2), "{}", stderr(&applied));
    let output = explain(&ovs, &["p-1", "--from", "11.0.0.5", "--proto", "dccp", "--dport", "5001"]);
    assert_eq!(output.status.code(), Some(2), "{}{}", stdout(&output), stderr(&output));
    assert!(
        stdout(&output).starts_with("p-1 ingress: dropped (no-rule): nearest is rule "),
        "{}",
        stdout(&output)
    );
    assert!(!stdout(&output).contains("ALARM") && stderr(&output).contains("dccp"), "{}", stderr(&output));
}

#[test]
fn who_is_asked_about_is_who_sends_and_who_receives() {
    let ovs = enforced();
    let says = |line: &str, part: &str| {
        let output = explain(&ovs, &line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{line}: {}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains(part), "{line}: no {part:?} in\n{}", stdout(&output));
    };
    // A tag is the sender's, whichever end is named first.
    says("p-2 --from p-1 --proto tcp --dport 5432 --vlan 7", "p-1 egress: dropped (vlan)");
    says("p-1 --to p-2 --proto tcp --dport 5432 --vlan 7", "p-1 egress: dropped (vlan)");
    says("p-1 --to 10.0.0.9 --proto 0x8035", "p-1 egress: accepted (arp)");
    says(
        "p-1 --from 10.0.0.9 --proto tcp --dport 80 --mac fa:16:3e:00:00:99",
        "p-1 ingress: dropped (not-for-port)",
    );
    // Two interfaces say that they are one port.
    common::plug(&ovs, 3);
    let spec = DummySpec { port_id: Some("p-3".into()), tag: Some(10), ..DummySpec::new("tap3b") };
    ovs.add_dummy_port("br-int", spec).expect("a port");
    let closed = explain(&ovs, &["p-3", "--from", "10.0.0.9", "--proto", "tcp", "--dport", "80"]);
    assert_eq!(closed.status.code(), Some(4), "{}{}", stdout(&closed), stderr(&closed));
    assert!(
        stdout(&closed).contains("ALARM: br-int: p-3 ingress: the port is closed: "),
        "{}",
        stdout(&closed)
    );
}

#[test]
fn without_a_switch_the_policy_answers_and_says_so() {
    let mut ovs = enforced();
    ovs.stop_ovsdb();
    let line = ["p-1", "--from", "11.0.0.5", "--proto", "tcp", "--dport", "80", "--timeout", "1", "--json"];
    let output = explain(&ovs, &line);
    assert_eq!(output.status.code(), Some(3), "{}{}", stdout(&output), stderr(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["agree"], &answer["answers"][0]["accepted"]), (&Value::Null, &true.into()));
    assert!(answer["not_asked"].is_string());
}
