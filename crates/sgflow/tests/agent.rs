//! `sgflow agent` against a real switch: it waits, converges, follows edits, and survives restarts of everything.

mod common;

use std::fs;
use std::process::Command;

use common::{Agent, POLICY, apply, bridge, document, eventually, flows, is_open, ovs, plug, stderr};
use lab::{DummySpec, Ovs};

/// Replaces the document as an editor does.
fn edit(ovs: &Ovs, text: &str) {
    let new = ovs.rundir().join(".policy.yaml.new");
    fs::write(&new, text).expect("a document");
    fs::rename(&new, ovs.rundir().join("policy.yaml")).expect("a document");
}

fn without_second_port() -> String {
    POLICY.lines().filter(|line| !line.contains("p-2")).collect::<Vec<_>>().join("\n")
}

#[test]
fn it_waits_for_everything_in_turn_and_converges_when_it_is_there() {
    let mut ovs = ovs();
    ovs.stop_vswitchd();
    ovs.stop_ovsdb();
    let agent = Agent::start(&ovs);
    agent.wait_for("waiting what=the Open_vSwitch database", 1);
    ovs.start_ovsdb().unwrap();
    agent.wait_for("waiting what=a bridge called br-int", 1);
    ovs.start_vswitchd().unwrap();
    ovs.add_bridge("br-int", lab::FailMode::Secure).unwrap();
    agent.wait_for("waiting what=a policy", 1);
    document(&ovs, POLICY);
    agent.wait_for("applied", 1);
    plug(&ovs, 1);
    eventually("tap1 is open", || is_open(&ovs, 1));
    plug(&ovs, 2);
    eventually("tap2 is open", || is_open(&ovs, 2));
    for what in ["a bridge called", "a policy"] {
        assert_eq!(agent.count(&format!("waiting what={what}")), 1, "said once: {}", agent.log());
    }
}

#[test]
fn an_edit_is_applied_and_a_bad_edit_changes_nothing() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    assert!(is_open(&ovs, 2));
    edit(&ovs, &without_second_port());
    agent.wait_for("applied", 2);
    assert!(!is_open(&ovs, 2) && is_open(&ovs, 1));
    let held = flows(&ovs);
    edit(&ovs, "ports: [");
    agent.wait_for("refused whole", 1);
    fs::remove_file(ovs.rundir().join("policy.yaml")).unwrap();
    agent.wait_for("no policy to be read", 1);
    assert_eq!(flows(&ovs), held);
    edit(&ovs, &POLICY.replace("10.0.0.2}", "10.0.0.300}"));
    agent.wait_for("port p-2", 1);
    assert_eq!(flows(&ovs), held, "the refused port stays as it was");
    edit(&ovs, POLICY);
    eventually("tap2 is open again", || is_open(&ovs, 2));
}

#[test]
fn a_restarted_agent_sends_nothing_and_a_restarted_switch_gets_everything() {
    let mut ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let held = flows(&ovs);
    drop(agent);
    assert_eq!(flows(&ovs), held, "the switch keeps its flows");
    let agent = Agent::start(&ovs);
    agent.wait_for("applied added=0 modified=0 deleted=0", 1);
    assert_eq!(flows(&ovs), held);

    ovs.kill_vswitchd();
    agent.wait_for("the connection to the switch is gone", 1);
    ovs.start_vswitchd().unwrap();
    eventually("all flows are back", || flows(&ovs) == held);

    // Without its database ovs-vswitchd takes no OpenFlow either: the change waits.
    ovs.stop_ovsdb();
    agent.wait_for("the connection to the database is gone", 1);
    edit(&ovs, &without_second_port());
    agent.wait_for("policy read", 2);
    ovs.start_ovsdb().unwrap();
    eventually("the change is enforced", || !is_open(&ovs, 2));
    assert!(is_open(&ovs, 1));
}

/// ovs-vswitchd drops all flows of a bridge at these, and a connection lives on.
#[test]
fn flows_that_go_under_a_running_agent_are_put_back() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let held = flows(&ovs);
    let ours = || -> Vec<String> {
        flows(&ovs).into_iter().filter(|flow| flow.starts_with("cookie=0x5367")).collect()
    };
    let mut told = 0;
    let mut mended = |what: &str| {
        told += 1;
        agent.wait_for("what the datapath holds is not as it was left", told);
        eventually(&format!("all flows are back after {what}"), || ours() == held);
    };
    ovs.vsctl(&["set", "Bridge", "br-int", "fail_mode=standalone"]).unwrap();
    mended("fail_mode=standalone");
    agent.wait_for("the bridge's fail_mode is not secure any more", 1);
    // Nothing goes round our hook, though the bridge has a flow that lets everything pass.
    assert!(flows(&ovs).iter().any(|flow| flow.contains("actions=NORMAL")));
    ovs.vsctl(&["set", "Bridge", "br-int", "fail_mode=secure"]).unwrap();
    mended("fail_mode=secure");
    ovs.vsctl(&["set-controller", "br-int", "tcp:127.0.0.1:1"]).unwrap();
    mended("set-controller");
    ovs.vsctl(&["del-controller", "br-int"]).unwrap();
    mended("del-controller");
    ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int"]).unwrap();
    mended("del-flows");
    ovs.ofctl(&["-O", "OpenFlow14", "--strict", "del-flows", "br-int", "table=0,priority=65000"]).unwrap();
    mended("one deleted");
    // The last flow is seen in the switch before the agent has heard that the caches are, too; and what is lost again
    // before it has heard that is told of with what follows.
    let bundles = || -> usize {
        let log = agent.log();
        let applied = log
            .lines()
            .filter(|line| line.contains("applied"))
            .filter_map(|line| line.split_once("bundles="));
        applied.filter_map(|(_, count)| count.trim().parse::<usize>().ok()).sum()
    };
    eventually("all bundles are applied", || bundles() > told);
    assert_eq!(bundles(), 1 + told, "one bundle each, and nothing of our own doing: {}", agent.log());
}

#[test]
fn flows_of_others_are_told_of_and_left_alone() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let among_ours = "table=110,priority=65000,actions=output:1";
    for flow in ["table=0,priority=5,actions=NORMAL", "table=200,actions=drop", among_ours] {
        ovs.ofctl(&["-O", "OpenFlow14", "add-flow", "br-int", flow]).unwrap();
    }
    agent.wait_for("flows of others stand among or before ours", 1);
    edit(&ovs, &without_second_port());
    agent.wait_for("applied", 2);
    let theirs = flows(&ovs).iter().filter(|flow| !flow.starts_with("cookie=0x5367")).count();
    assert_eq!(theirs, 3);
    assert_eq!(agent.count("flows of others stand"), 1, "said once: {}", agent.log());
    assert_eq!(agent.count("not as it was left"), 0, "{}", agent.log());
}

#[test]
fn another_port_at_the_same_interface_inherits_no_connection() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, &POLICY.replace("network_id: m", "network_id: n"));
    let external_id = |key: &str| {
        let text = ovs.vsctl(&["get", "Interface", "tap1", &format!("external_ids:{key}")]).unwrap();
        text.trim().trim_matches('"').to_owned()
    };
    // Zones in flows are in hexadecimal, in register 8.
    let in_use = |zone: &str| {
        let zone = format!("set_field:{:#x}->reg8", zone.parse::<u16>().unwrap());
        flows(&ovs).iter().any(|flow| flow.contains("in_port=1 ") && flow.contains(&zone))
    };
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let first = external_id("sgflow-zone");
    assert!(in_use(&first));
    assert_eq!(external_id("sgflow-port"), "p-1");
    ovs.vsctl(&["set", "Interface", "tap1", "external_ids:iface-id=p-3"]).unwrap();
    eventually("the zone is p-3's", || external_id("sgflow-port") == "p-3" && is_open(&ovs, 1));
    let second = external_id("sgflow-zone");
    assert_ne!(first, second);
    eventually("the zone is used", || in_use(&second) && !in_use(&first));
    drop(agent);
    // With nobody there.
    ovs.vsctl(&["set", "Interface", "tap1", "external_ids:iface-id=p-1"]).unwrap();
    assert_eq!(apply(&ovs, &policy, &[]).status.code(), Some(0));
    assert_eq!(external_id("sgflow-port"), "p-1");
    let third = external_id("sgflow-zone");
    assert!(third != second && in_use(&third), "{third}");
}

/// A port is where its Interface is: under another name, at another ofport, on another VLAN.
#[test]
fn a_port_that_is_plugged_in_elsewhere_or_retagged_is_there_and_nowhere_else() {
    let ovs = ovs();
    ovs.add_bridge("br-int", lab::FailMode::Secure).unwrap();
    let plug = |id: &str, interface: &str, ofport: u16, tag: u16| {
        let (port_id, tag, ofport) = (Some(id.to_owned()), Some(tag), Some(ofport));
        ovs.add_dummy_port("br-int", DummySpec { port_id, tag, ofport, ..DummySpec::new(interface) }).unwrap()
    };
    let first = plug("p-1", "tap1", 1, 10);
    let (near, far) = (plug("p-2", "tap2", 2, 10), plug("p-3", "tap3", 3, 20));
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let reached = |from: &lab::DummyPort| {
        from.receive(&gratuitous_arp()).unwrap();
        (near.take_sent().unwrap().len(), far.take_sent().unwrap().len())
    };
    assert_eq!(reached(&first), (1, 0));

    ovs.del_port("tap1").unwrap();
    eventually("p-1 is closed", || !is_open(&ovs, 1));
    let elsewhere = plug("p-1", "vnet7", 7, 10);
    eventually("p-1 is open again", || is_open(&ovs, 7));
    assert!(!is_open(&ovs, 1));
    assert_eq!(reached(&elsewhere), (1, 0));

    // Who is at the old place now is another.
    let usurper = plug("nobody", "tap1", 1, 10);
    agent.wait_for("nobody", 1);
    assert_eq!(reached(&usurper), (0, 0));
    assert_eq!(reached(&elsewhere), (1, 0));

    ovs.vsctl(&["set", "Port", "vnet7", "tag=20"]).unwrap();
    let is_on = |vlan: &str| {
        flows(&ovs)
            .iter()
            .any(|flow| flow.contains("table=100") && flow.contains("in_port=7 ") && flow.contains(vlan))
    };
    eventually("p-1 is on VLAN 20", || is_on("set_field:0x14->reg6"));
    assert_eq!(reached(&elsewhere), (0, 1));
}

#[test]
fn a_switch_that_comes_back_empty_passes_nothing_until_the_agent_has_filled_it() {
    let mut ovs = ovs();
    ovs.add_bridge("br-int", lab::FailMode::Secure).unwrap();
    let plug = |number: u16| {
        let (port_id, tag, ofport) = (Some(format!("p-{number}")), Some(10), Some(number));
        let spec = DummySpec { port_id, tag, ofport, ..DummySpec::new(&format!("tap{number}")) };
        ovs.add_dummy_port("br-int", spec).unwrap()
    };
    let (sender, receiver) = (plug(1), plug(2));
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let (sound, spoofed) = (gratuitous_arp(), announcement([10, 0, 0, 66]));
    let arrived = |frame: &Vec<u8>| {
        sender.receive(frame).unwrap();
        receiver.take_sent().unwrap()
    };
    assert_eq!((arrived(&sound).len(), arrived(&spoofed).len()), (1, 0));

    drop(agent);
    ovs.kill_vswitchd();
    ovs.start_vswitchd().unwrap();
    assert_eq!((arrived(&sound).len(), arrived(&spoofed).len()), (0, 0));
    let agent = Agent::start(&ovs);
    eventually("it is open", || {
        assert_eq!(arrived(&spoofed).len(), 0, "leaked on the way");
        arrived(&sound).len() == 1
    });
    agent.wait_for("applied", 2);
    assert_eq!((arrived(&sound).len(), arrived(&spoofed).len()), (1, 0));
}

/// Of port p-1, to everybody.
fn gratuitous_arp() -> Vec<u8> {
    announcement([10, 0, 0, 1])
}

/// Port p-1 says that it has this address (RFC 5227).
fn announcement(address: [u8; 4]) -> Vec<u8> {
    let mac = [0xfa, 0x16, 0x3e, 0, 0, 1];
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address);
    frame.extend([0; 6]);
    frame.extend(address);
    frame.resize(60, 0);
    frame
}

#[test]
fn set_fail_mode_is_kept_and_costs_no_flow() {
    let ovs = ovs();
    ovs.add_bridge("br-int", lab::FailMode::Standalone).unwrap();
    plug(&ovs, 1);
    document(&ovs, POLICY);
    let agent = Agent::start_with(&ovs, &["--set-fail-mode"]);
    agent.wait_for("applied", 1);
    let held = flows(&ovs);
    assert!(is_open(&ovs, 1));
    ovs.vsctl(&["clear", "Bridge", "br-int", "fail_mode"]).unwrap();
    agent.wait_for("the bridge's fail_mode is not secure any more", 1);
    eventually("it is secure", || ovs.vsctl(&["get-fail-mode", "br-int"]).unwrap().trim() == "secure");
    // ovs-vswitchd may have seen the two changes as none: then there was nothing to put back.
    agent.wait_for("applied", 2);
    eventually("all flows are there", || flows(&ovs) == held);
}

#[test]
fn agent_and_apply_exclude_each_other() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let refused = apply(&ovs, &policy, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("sgflow_br_2dint"), "{}", stderr(&refused));
    let second = Agent::start(&ovs);
    second.wait_for("waiting what=the database lock sgflow_br_2dint", 1);
    drop(agent);
    second.wait_for("applied added=0 modified=0 deleted=0", 1);
}

#[test]
fn it_ends_on_sigterm_and_the_flows_stay() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let mut agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let held = flows(&ovs);
    let pid = agent.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
    assert_eq!(flows(&ovs), held);
}

#[test]
fn the_noop_driver_reads_and_checks_and_touches_nothing() {
    let ovs = ovs();
    bridge(&ovs);
    let policy = document(&ovs, POLICY);
    let output = apply(&ovs, &policy, &["--driver", "noop", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(flows(&ovs), [""; 0]);
    let output = apply(&ovs, &document(&ovs, "ports: ["), &["--driver", "noop"]);
    assert_eq!(output.status.code(), Some(2));
}
