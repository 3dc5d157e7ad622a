//! The switch under the agent is another one: it was restarted with its flows, as its own script does, its bridge was deleted and
//! made again, or it got another datapath.

mod common;

use std::thread;
use std::time::Duration;

use common::traffic::{BY_GROUP, BY_PREFIX, ends, policy, until_heard};
use common::{Agent, document, flows, is_exact, ovs, status, stdout};
use lab::Ovs;

/// What makes no flow: how the bridge takes fragments, and the tries of its tables.
fn is_prepared(ovs: &Ovs) {
    let frags = ovs.ofctl(&["-O", "OpenFlow14", "get-frags", "br-int"]).expect("its fragment handling");
    assert_eq!(frags.trim(), "nx-match");
    let prefixes = ovs.vsctl(&["--format=csv", "--no-headings", "--columns=prefixes", "list", "Flow_Table"]);
    let prefixes = prefixes.expect("rows");
    assert!(prefixes.contains("ipv6_src") && prefixes.contains("nw_dst"), "{prefixes}");
}

const WAITS: &str = "waiting what=ovs-vswitchd to get its saved flows back";

#[test]
fn a_switch_that_is_restarted_with_its_flows_gets_not_one_of_us() {
    let mut ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, &policy(BY_GROUP, true));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let held = flows(&ovs);
    let saved = ovs.save_flows("br-int").expect("its flows are saved");
    ovs.stop_vswitchd();
    agent.wait_for("the connection to the switch is gone", 1);
    ovs.start_vswitchd_with(&saved, |ovs| {
        agent.wait_for(WAITS, 1);
        let told = status(ovs, &[]);
        assert!(stdout(&told).contains("saved flows"), "{}", stdout(&told));
        // The agent tries again every 2 s at the latest, where it does not wait for others.
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(flows(ovs), Vec::<String>::new(), "who restores is not disturbed");
    })
    .expect("the switch is restarted");
    until_heard(&sender, &receiver);
    agent.wait_for("applied added=0 modified=0 deleted=0", 1);
    assert_eq!(flows(&ovs), held);
    is_exact(&ovs);
    is_prepared(&ovs);
}

/// Flow-mods of every kind that the agent has said to have sent.
fn sent(agent: &Agent) -> usize {
    let count = |line: &str, what: &str| {
        let (_, rest) = line.split_once(what).expect("a number");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().expect("a number")
    };
    let log = agent.log();
    let applied = log.lines().filter(|line| line.contains("applied added="));
    applied.map(|line| count(line, "added=") + count(line, "modified=") + count(line, "deleted=")).sum()
}

#[test]
fn what_changed_while_a_switch_is_restarted_is_all_that_is_sent() {
    let mut ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, &policy(BY_PREFIX, true));
    let agent = Agent::start(&ovs);
    is_exact(&ovs);
    let before = sent(&agent);
    document(&ovs, &policy(BY_GROUP, true));
    agent.wait_for("policy read", 2);
    is_exact(&ovs);
    document(&ovs, &policy(BY_PREFIX, true));
    agent.wait_for("policy read", 3);
    is_exact(&ovs);
    let forth_and_back = sent(&agent) - before;
    let saved = ovs.save_flows("br-int").expect("its flows are saved");
    ovs.stop_vswitchd();
    ovs.start_vswitchd_with(&saved, |ovs| {
        document(ovs, &policy(BY_GROUP, true));
        agent.wait_for("policy read", 4);
    })
    .expect("the switch is restarted");
    agent.wait_for("what was waited for is there", 1);
    is_exact(&ovs);
    document(&ovs, &policy(BY_PREFIX, true));
    agent.wait_for("policy read", 5);
    is_exact(&ovs);
    assert_eq!(sent(&agent) - before, 2 * forth_and_back, "{}", agent.log());
    until_heard(&sender, &receiver);
}

#[test]
fn a_bridge_that_is_deleted_and_made_again_is_closed_until_it_is_filled() {
    let ovs = ovs();
    drop(ends(&ovs));
    document(&ovs, &policy(BY_GROUP, true));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let held = flows(&ovs).len();
    ovs.vsctl(&["del-br", "br-int"]).expect("no bridge");
    agent.wait_for("waiting what=a bridge called br-int", 1);
    let (sender, receiver) = ends(&ovs);
    until_heard(&sender, &receiver);
    is_exact(&ovs);
    is_prepared(&ovs);
    assert_eq!(flows(&ovs).len(), held);
    // At once: there is no moment without a bridge of the name, and it is another.
    let protocols = "protocols=OpenFlow10,OpenFlow13,OpenFlow14";
    let mut words = vec!["del-br", "br-int", "--", "add-br", "br-int", "--", "set", "Bridge", "br-int"];
    words.extend(["datapath_type=dummy", "fail_mode=secure", protocols]);
    let ids = ["iface-id=p-1", "iface-id=p-2"].map(|id| format!("external_ids:{id}"));
    for (tap, id, ofport) in [("tap1", &ids[0], "ofport_request=1"), ("tap2", &ids[1], "ofport_request=2")] {
        words.extend(["--", "add-port", "br-int", tap, "tag=10", "--", "set", "Interface", tap]);
        words.extend(["type=dummy", ofport, id]);
    }
    ovs.vsctl(&words).expect("another bridge");
    is_exact(&ovs);
    is_prepared(&ovs);
    assert_eq!(flows(&ovs).len(), held);
    assert_eq!(agent.count("waiting what=a bridge called br-int"), 1, "{}", agent.log());
}

#[test]
fn a_bridge_of_another_datapath_is_closed_until_it_is_filled() {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, &policy(BY_GROUP, true));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let held = flows(&ovs);
    for datapath in ["netdev", "dummy"] {
        ovs.vsctl(&["set", "Bridge", "br-int", &format!("datapath_type={datapath}")])
            .expect("another datapath");
        until_heard(&sender, &receiver);
        is_exact(&ovs);
        is_prepared(&ovs);
        assert_eq!(flows(&ovs), held, "{datapath}");
    }
}
