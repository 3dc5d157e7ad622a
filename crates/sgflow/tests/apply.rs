//! `sgflow apply` against a real switch: what it does, what it says, how it ends.

mod common;

use common::{POLICY, apply, bridge, document, flow_mods, flows, is_open, ovs, plug, sgflow, stderr};
use lab::{FailMode, Ovs};

#[test]
fn twice_in_a_row_sends_nothing_the_second_time_and_a_member_costs_its_own_flows() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let first = apply(&ovs, &policy, &["--json"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(flow_mods(&first) > 50);
    assert!(is_open(&ovs, 1) && is_open(&ovs, 2));
    let held = flows(&ovs);
    assert_eq!(held.len() as u64, flow_mods(&first), "what was sent is there, and nothing else");

    let second = apply(&ovs, &policy, &["--json"]);
    assert_eq!((second.status.code(), flow_mods(&second)), (Some(0), 0), "{}", stderr(&second));
    assert_eq!(flows(&ovs), held);

    let member = POLICY.to_owned()
        + "- {id: p-9, network_id: n, mac_address: \"fa:16:3e:00:00:09\", fixed_ips: [{ip_address: 10.0.0.9}], \
           security_groups: [g]}\n";
    let third = apply(&ovs, &document(&ovs, &member), &["--json"]);
    assert!((1..=2).contains(&flow_mods(&third)), "{} flow-mods for a member", flow_mods(&third));
}

#[test]
fn what_a_dry_run_prints_is_what_ovs_ofctl_makes_of_it() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let dry = apply(&ovs, &policy, &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_eq!(flows(&ovs), [""; 0], "nothing was sent");
    let zones = ovs.vsctl(&["get", "Interface", "tap1", "external_ids"]).unwrap();
    assert!(!zones.contains("sgflow"), "{zones}");

    let planned = ovs.rundir().join("planned");
    std::fs::write(&planned, &dry.stdout).unwrap();
    ovs.ofctl(&["-O", "OpenFlow14", "--bundle", "add-flows", "br-int", &planned.display().to_string()])
        .unwrap();
    let by_hand = flows(&ovs);
    assert!(by_hand.len() > 50);
    ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int"]).unwrap();
    assert_eq!(apply(&ovs, &policy, &[]).status.code(), Some(0));
    let mut by_us = flows(&ovs);
    let mut by_hand = by_hand;
    by_us.sort();
    by_hand.sort();
    assert_eq!(by_hand, by_us);

    let without = POLICY.replace("    {id: e6, direction: egress, ethertype: IPv6},\n", "");
    let dry = apply(&ovs, &document(&ovs, &without), &["--dry-run"]);
    let text = String::from_utf8(dry.stdout).unwrap();
    let commands: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(commands.contains(&"delete_strict"), "{text}");
    assert!(commands.contains(&"modify_strict"), "a shrink stamps anew: {text}");
}

#[test]
fn every_refused_object_is_listed_and_the_rest_applied() {
    let ovs = ovs();
    bridge(&ovs);
    let bad = POLICY
        .replace("ip_address: 10.0.0.2}], security_groups: [g]", "ip_address: 10.0.0.2}], security_groups: [nowhere]")
        .replace(
            "    {id: i4,",
            "    {id: b1, direction: ingress, ethertype: IPv4, remote_ip_prefix: 10.0.0.0/33},\n    \
             {id: b2, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 9, port_range_max: 8},\n    \
             {id: b3, direction: ingress, ethertype: IPv4, remote_group_id: g, remote_ip_prefix: 10.0.0.0/8},\n    \
             {id: i4,",
        );
    let output = apply(&ovs, &document(&ovs, &bad), &[]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["rule b1", "rule b2", "rule b3", "port p-2", "nowhere", "policy.yaml:"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(is_open(&ovs, 1) && !is_open(&ovs, 2));
}

#[test]
fn a_rule_that_the_switch_cannot_enforce_is_refused_too() {
    let ovs = ovs();
    bridge(&ovs);
    let ports = |protocol| {
        format!(
            "{{id: d, direction: ingress, ethertype: IPv4, protocol: {protocol}, port_range_min: 5, port_range_max: 5}}"
        )
    };
    let header = |number| format!("{{id: d, direction: ingress, ethertype: IPv6, protocol: {number}}}");
    let apply_with = |rule: &str| {
        let text = POLICY.replace("    {id: i4,", &format!("    {rule},\n    {{id: i4,"));
        assert_ne!(text, POLICY);
        apply(&ovs, &document(&ovs, &text), &["--json"])
    };
    assert_eq!(apply(&ovs, &document(&ovs, POLICY), &[]).status.code(), Some(0));
    let without = flows(&ovs);
    let refused = [ports("dccp"), ports("udplite"), header(43), header(44), header(51), header(60)];
    for rule in &refused {
        let output = apply_with(rule);
        assert_eq!(output.status.code(), Some(2), "{rule}");
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = summary["refused"][0].as_str().unwrap();
        assert!(said.starts_with("rule d of security group g: "), "{said}");
        assert_eq!(flows(&ovs), without, "{rule} opens nothing");
    }
    for rule in [ports("sctp"), "{id: d, direction: ingress, ethertype: IPv4, protocol: 51}".to_owned()] {
        let output = apply_with(&rule);
        assert_eq!(output.status.code(), Some(0), "{rule}: {}", stderr(&output));
    }
}

#[test]
fn a_port_whose_flows_the_switch_refuses_stays_closed_and_the_flow_is_named() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let source_flows = |ovs: &Ovs| flows(ovs).iter().filter(|flow| flow.contains("table=102,")).count();
    ovs.vsctl(&["set", "Interface", "tap2", "external_ids:iface-id=nobody"]).unwrap();
    assert_eq!(apply(&ovs, &policy, &[]).status.code(), Some(0));
    // Room for what is there and no more.
    let limit = format!("flow_limit={}", source_flows(&ovs));
    let table = ["--id=@t", "create", "Flow_Table", &limit, "overflow_policy=refuse", "--"];
    let bridge = ["set", "Bridge", "br-int", "flow_tables:102=@t", "--"];
    let interface = ["set", "Interface", "tap2", "external_ids:iface-id=p-2"];
    ovs.vsctl(&[&["--"], &table[..], &bridge[..], &interface[..]].concat()).unwrap();

    let output = apply(&ovs, &policy, &["--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused = summary["refused"][0].as_str().unwrap();
    assert!(refused.starts_with("the switch refused a flow with OFPFMFC_TABLE_FULL: "), "{refused}");
    assert!(refused.contains("table=102, priority=") && refused.contains("in_port=2,"), "{refused}");
    assert!(refused.ends_with(": port p-2 is closed"), "{refused}");
    assert!(is_open(&ovs, 1) && !is_open(&ovs, 2));

    ovs.vsctl(&["remove", "Bridge", "br-int", "flow_tables", "102"]).unwrap();
    assert_eq!(apply(&ovs, &policy, &[]).status.code(), Some(0));
    assert!(is_open(&ovs, 2));
}

#[test]
fn an_interface_of_a_port_that_stays_closed_is_told_and_is_no_success() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let other = lab::DummySpec { tag: Some(10), ..lab::DummySpec::new("tap9") };
    ovs.add_dummy_port("br-int", other).unwrap();
    let refused = |what: &str| -> Vec<String> {
        let output = apply(&ovs, &policy, &["--json"]);
        let told = stderr(&output);
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let refused: Vec<String> = serde_json::from_value(summary["refused"].clone()).unwrap();
        assert_eq!(output.status.code(), Some(if refused.is_empty() { 0 } else { 2 }), "{what}: {told}");
        for interface in refused.iter().filter_map(|line| line.split(' ').nth(1)) {
            assert!(told.contains(interface), "{what}: {interface} is not in {told}");
        }
        refused
    };
    assert_eq!(refused("an interface that is nobody's"), [""; 0]);
    ovs.vsctl(&["set", "Interface", "tap9", "external_ids:iface-id=p-2"]).unwrap();
    let both = refused("two of one id");
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.iter().all(|line| line.contains("of port p-2 is closed: another interface")), "{both:?}");
    assert!(is_open(&ovs, 1) && !is_open(&ovs, 2));
    ovs.del_port("tap9").unwrap();
    assert_eq!(refused("one of them gone"), [""; 0]);
    ovs.vsctl(&["set", "Port", "tap2", "tag=4095"]).unwrap();
    assert!(refused("the dead VLAN")[0].contains("interface tap2 of port p-2 is closed: its tag is 4095"));
    ovs.vsctl(&["clear", "Port", "tap2", "tag", "--", "set", "Port", "tap2", "other_config:tag=x"]).unwrap();
    assert!(refused("no VLAN")[0].contains("is no VLAN"));
    ovs.vsctl(&["set", "Port", "tap2", "tag=10"]).unwrap();
    // The switch tries, and says why it cannot.
    let ghost = ["add-port", "br-int", "ghost", "--", "set", "Interface", "ghost", "type=nonsense"];
    ovs.vsctl(&[&ghost[..], &["external_ids:iface-id=p-3"]].concat()).unwrap();
    let ghost = refused("no such type");
    assert!(
        ghost[0].starts_with("interface ghost of port p-3 is closed: the switch has not opened it: "),
        "{ghost:?}"
    );
    assert!(is_open(&ovs, 1) && is_open(&ovs, 2));
}

#[test]
fn a_document_that_does_not_parse_changes_nothing() {
    let ovs = ovs();
    bridge(&ovs);
    assert_eq!(apply(&ovs, &document(&ovs, POLICY), &[]).status.code(), Some(0));
    let held = flows(&ovs);
    let output = apply(&ovs, &document(&ovs, "ports: [{id: p-1"), &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("policy.yaml:1: document: syntax:"), "{}", stderr(&output));
    assert_eq!(flows(&ovs), held);
}

#[test]
fn an_unsafe_bridge_is_refused_unless_told() {
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Standalone).unwrap();
    plug(&ovs, 1);
    let policy = document(&ovs, POLICY);
    let before = flows(&ovs);
    let output = apply(&ovs, &policy, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--set-fail-mode"), "{}", stderr(&output));
    assert_eq!(flows(&ovs), before);
    assert_eq!(apply(&ovs, &policy, &["--set-fail-mode"]).status.code(), Some(0));
    assert_eq!(ovs.vsctl(&["get-fail-mode", "br-int"]).unwrap().trim(), "secure");
    assert!(is_open(&ovs, 1));
    // Each time the switch drops its flows for it; what was told as applied is there.
    let held = flows(&ovs).len();
    for _ in 0..5 {
        ovs.vsctl(&["clear", "Bridge", "br-int", "fail_mode"]).unwrap();
        assert_eq!(apply(&ovs, &policy, &["--set-fail-mode"]).status.code(), Some(0));
        assert_eq!(flows(&ovs).len(), held);
    }
}

#[test]
fn what_is_not_there_in_time_is_named() {
    let mut ovs = ovs();
    let policy = document(&ovs, POLICY);
    let no_bridge = apply(&ovs, &policy, &["--timeout", "1.5"]);
    assert_eq!(no_bridge.status.code(), Some(3));
    assert!(stderr(&no_bridge).contains("waiting for a bridge called br-int"), "{}", stderr(&no_bridge));
    bridge(&ovs);
    ovs.stop_vswitchd();
    let no_switch = apply(&ovs, &policy, &["--timeout", "1.5"]);
    assert_eq!(no_switch.status.code(), Some(3));
    assert!(stderr(&no_switch).contains("br-int.mgmt"), "{}", stderr(&no_switch));
    ovs.stop_ovsdb();
    let no_database = apply(&ovs, &policy, &["--timeout", "1.5"]);
    assert_eq!(no_database.status.code(), Some(3));
    assert!(stderr(&no_database).contains("the Open_vSwitch database"), "{}", stderr(&no_database));
}

#[test]
fn zones_and_mark_are_kept_beside_the_keys_of_others() {
    let ovs = ovs();
    bridge(&ovs);
    ovs.vsctl(&["set", "Bridge", "br-int", "external_ids:other=1"]).unwrap();
    assert_eq!(apply(&ovs, &document(&ovs, POLICY), &[]).status.code(), Some(0));
    let get = |table: &str, row: &str, key: &str| {
        let text = ovs.vsctl(&["get", table, row, &format!("external_ids:{key}")]).unwrap();
        text.trim().trim_matches('"').to_owned()
    };
    let mut zones = [get("Interface", "tap1", "sgflow-zone"), get("Interface", "tap2", "sgflow-zone")];
    zones.sort();
    assert_eq!(zones, ["4097", "4098"]);
    assert_eq!(get("Interface", "tap1", "iface-id"), "p-1");
    assert_eq!(get("Bridge", "br-int", "other"), "1");
    assert!(get("Bridge", "br-int", "sgflow-generation").parse::<u32>().unwrap() > 0);
    let tables = ovs.vsctl(&["--columns=name,prefixes", "--format=csv", "list", "Flow_Table"]).unwrap();
    assert!(tables.contains("ct_ipv6_dst") && tables.contains("ct_nw_src"), "{tables}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_not_exit_2() {
    for arguments in [&["apply", "--nonsense"][..], &["apply", "--driver", "ebtables"], &["nonsense"]] {
        let output = sgflow().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    let unknown = sgflow().args(["apply", "--driver", "ebtables"]).output().unwrap();
    assert!(stderr(&unknown).contains("known are openvswitch, iptables_hybrid"), "{}", stderr(&unknown));
    let no_file = sgflow().args(["apply", "--policy", "/nonexistent/policy.yaml"]).output().unwrap();
    assert_eq!(no_file.status.code(), Some(1));
    assert!(stderr(&no_file).contains("/nonexistent/policy.yaml: No such file"), "{}", stderr(&no_file));
}

#[test]
fn an_unknown_key_in_the_settings_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sgflow.toml");
    std::fs::write(&file, "[agent]\nbridge = \"br-int\"\n").unwrap();
    let output = sgflow().args(["apply", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("line 2: unknown field `bridge`"), "{}", stderr(&output));
}

#[test]
fn an_option_wins_over_a_variable_and_that_over_the_file() {
    let ovs = ovs();
    let policy = document(&ovs, POLICY);
    let file = ovs.rundir().join("sgflow.toml");
    std::fs::write(&file, "[agent]\nintegration_bridge = \"br-file\"\n").unwrap();
    let waited_for = |variable: Option<&str>, option: Option<&str>| {
        let mut command = sgflow();
        command.args(["apply", "--timeout", "1", "--ovsdb", &ovs.db_remote()]);
        command.arg("--policy").arg(&policy).arg("--config").arg(&file);
        variable.map(|bridge| command.env("SGFLOW_INTEGRATION_BRIDGE", bridge));
        option.map(|bridge| command.args(["--bridge", bridge]));
        stderr(&command.output().unwrap())
    };
    assert!(waited_for(None, None).contains("a bridge called br-file"));
    assert!(waited_for(Some("br-variable"), None).contains("a bridge called br-variable"));
    assert!(waited_for(Some("br-variable"), Some("br-option")).contains("a bridge called br-option"));
}
