//! `sgflow verify` on a real switch: what is exact is proved, what is not is named and mended.

mod common;

use common::{Agent, POLICY, apply, bridge, document, flows, ovs, sgflow, socket, stderr, stdout, verify};
use lab::Ovs;

fn ofctl(ovs: &Ovs, arguments: &[&str]) {
    let arguments: Vec<&str> = ["-O", "OpenFlow14"].iter().chain(arguments).copied().collect();
    ovs.ofctl(&arguments).expect("ovs-ofctl does it");
}

/// A switch with the policy in force.
fn enforced() -> Ovs {
    let ovs = ovs();
    bridge(&ovs);
    let applied = apply(&ovs, &document(&ovs, POLICY), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    ovs
}

/// The switch is not the policy, is made so, and is as before.
fn is_named_and_mended(ovs: &Ovs, before: &[String], named: &[&str]) {
    let found = verify(ovs, &[]);
    assert_eq!(found.status.code(), Some(4), "{}{}", stdout(&found), stderr(&found));
    for part in named {
        assert!(stdout(&found).contains(part), "{part}:\n{}", stdout(&found));
    }
    let fixed = verify(ovs, &["--fix"]);
    assert_eq!(fixed.status.code(), Some(0), "{}{}", stdout(&fixed), stderr(&fixed));
    assert!(stdout(&fixed).contains("is exactly the policy"), "{}", stdout(&fixed));
    assert_eq!(flows(ovs).len(), before.len());
}

#[test]
fn what_was_applied_is_the_policy_and_what_a_hand_did_is_not() {
    let ovs = enforced();
    let before = flows(&ovs);
    let exact = verify(&ovs, &[]);
    assert_eq!(exact.status.code(), Some(0), "{}{}", stdout(&exact), stderr(&exact));
    assert!(stdout(&exact).starts_with("br-int: the switch is exactly the policy ("), "{}", stdout(&exact));

    let source = "table=102,ip,in_port=1,dl_src=fa:16:3e:00:00:01,nw_src=10.0.0.1,priority=100";
    ofctl(&ovs, &["--strict", "del-flows", "br-int", source]);
    let lost = ["flows 1 missing;", "\nmissing  cookie=0x5367", "nw_src=10.0.0.1", "lets it pass (e4)"];
    is_named_and_mended(&ovs, &before, &lost);

    ofctl(&ovs, &["mod-flows", "br-int", "table=102,ip,in_port=2,nw_src=10.0.0.2 actions=resubmit(,110)"]);
    let altered =
        ["flows 1 altered;", "\n  wanted ", "port p-2, egress, Invalid", "passes, and the policy drops it"];
    is_named_and_mended(&ovs, &before, &altered);

    let spoofer = "cookie=0x5367020000000001,table=102,priority=100,ip,in_port=1,nw_src=10.0.0.66 actions=resubmit(,103)";
    ofctl(&ovs, &["add-flow", "br-int", spoofer]);
    let added = ["flows 1 extra;", "nw_src=10.0.0.66", "passes, and the policy drops it"];
    is_named_and_mended(&ovs, &before, &added);
}

/// Nobody reads a page for each of a hundred flows: whose they are comes first, then what lets something pass.
#[test]
fn many_flows_are_summed_up_and_what_opens_comes_first() {
    let ovs = enforced();
    let before = flows(&ovs);
    let gone_with = |cookie: &str| {
        let before = flows(&ovs).len();
        ofctl(&ovs, &["del-flows", "br-int", &format!("cookie={cookie}")]);
        before - flows(&ovs).len()
    };
    let of_port = gone_with("0x5367020000000001/-1");
    let of_rules = gone_with("0x5367040000000000/0xffffff0000000000");
    let gone = of_port + of_rules;
    ofctl(&ovs, &["mod-flows", "br-int", "table=102,ip,in_port=2,nw_src=10.0.0.2 actions=resubmit(,110)"]);
    assert!(gone > 10, "{gone}");
    let blocks = |text: &str| text.split("\n\n").skip(1).map(str::to_owned).collect::<Vec<_>>();
    let few = stdout(&verify(&ovs, &[]));
    let head: Vec<&str> = few.split("\n\n").next().unwrap_or_default().lines().skip(1).collect();
    let owners = [
        format!("  port p-1: {of_port} missing"),
        "  port p-2: 1 altered; 1 of them opens".to_owned(),
        format!("  set 1 (g): {of_rules} missing"),
    ];
    assert_eq!(head, owners, "{few}");
    let shown = blocks(&few);
    assert!(
        shown[0].starts_with("altered ") && shown[0].contains("passes, and the policy drops it"),
        "{few}"
    );
    let means = "\n  means  p-2 may send IPv4 from 10.0.0.2 with MAC fa:16:3e:00:00:02\n";
    assert!(shown[0].contains(means), "{few}");
    let more = format!("{} more flows are wrong: --all shows them\n", gone - 9);
    assert_eq!((shown.len(), shown.last()), (11, Some(&more)), "{few}");
    let all = stdout(&verify(&ovs, &["--all"]));
    assert_eq!(blocks(&all).len(), gone + 1, "{all}");
    assert!(all.starts_with(&few[..few.find(" (").unwrap_or(0)]) && !all.contains("--all"), "{all}");
    is_named_and_mended(&ovs, &before, &[]);
}

#[test]
fn what_others_put_among_ours_is_named_and_left_alone() {
    let ovs = enforced();
    ofctl(&ovs, &["add-flow", "br-int", "table=101,priority=300,in_port=1 actions=resubmit(,110)"]);
    ofctl(&ovs, &["add-flow", "br-int", "table=101,priority=301,in_port=2 actions=NORMAL"]);
    let fixed = verify(&ovs, &["--fix"]);
    assert_eq!(fixed.status.code(), Some(4), "{}", stderr(&fixed));
    let text = stdout(&fixed);
    for part in ["flows 2 foreign;", "ovs-ofctl --strict del-flows", "take it to let everything pass"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(flows(&ovs).iter().any(|flow| flow.contains("actions=NORMAL")));
}

/// Without our hook frames go by the bridge's other flows.
#[test]
fn a_bypass_by_the_first_table_opens() {
    let ovs = enforced();
    ofctl(&ovs, &["add-flow", "br-int", "table=0,priority=0 actions=NORMAL"]);
    let exact = verify(&ovs, &[]);
    assert_eq!(exact.status.code(), Some(0), "{}", stdout(&exact));
    ofctl(&ovs, &["--strict", "del-flows", "br-int", "table=0,priority=65000"]);
    let found = verify(&ovs, &["--json"]);
    assert_eq!(found.status.code(), Some(4), "{}", stderr(&found));
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!(found["exact"], false);
    assert_eq!(found["findings"].as_array().map(Vec::len), Some(1));
    let finding = &found["findings"][0];
    assert_eq!(finding["kind"], "missing");
    let difference = finding["evidence"]["difference"].as_str().unwrap();
    assert!(difference.contains("passes, and the policy drops it"), "{difference}");
}

#[test]
fn a_running_agent_keeps_nobody_from_looking() {
    let ovs = enforced();
    let agent = Agent::start(&ovs);
    agent.wait_for("applied added=0 modified=0 deleted=0", 1);
    let exact = verify(&ovs, &[]);
    assert_eq!(exact.status.code(), Some(0), "{}{}", stdout(&exact), stderr(&exact));
}

/// What an agent refuses stays with it as it was, and whoever looks knows that.
#[test]
fn what_the_agent_keeps_is_no_difference() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    document(&ovs, &POLICY.replace("fa:16:3e:00:00:02", "fa:16:3e:00:00"));
    agent.wait_for("mac_address", 1);
    let (api, path) = (socket(&ovs).display().to_string(), ovs.rundir().join("policy.yaml"));
    let say = |command: &str, more: &[&str]| {
        let mut say = sgflow();
        say.args([command, "--ovsdb", &ovs.db_remote(), "--api-socket", &api]).args(more);
        let output = say.output().expect("sgflow runs");
        (stdout(&output), stderr(&output), output.status.code())
    };
    let given = ["--policy", &path.display().to_string()];
    let kept = "what is refused stays as the running agent has it";
    for more in [&[][..], &given] {
        let (told, aside, exit) = say("verify", more);
        assert!(told.starts_with("br-int: the switch is exactly the policy"), "{told}{aside}");
        assert_eq!(
            (aside.contains(kept), exit),
            (!more.is_empty(), Some(if more.is_empty() { 0 } else { 2 })),
            "{aside}"
        );
    }
    let (told, aside, exit) = say("diff", &given);
    assert_eq!((told.as_str(), exit), ("nothing would change\n", Some(2)), "{aside}");
    drop(agent);
    // Without it nobody knows what it kept.
    let (_, _, exit) = say("diff", &given);
    assert_eq!(exit, Some(4));
}

#[test]
fn a_policy_that_is_not_in_force_is_told_apart() {
    let ovs = enforced();
    let tighter = POLICY
        .replace("ethertype: IPv4, remote_group_id: g}", "ethertype: IPv4, remote_ip_prefix: 10.0.0.7}");
    document(&ovs, &tighter);
    let found = verify(&ovs, &[]);
    assert_eq!(found.status.code(), Some(4), "{}", stderr(&found));
    assert!(stdout(&found).contains("port p-1, ingress, New"), "{}", stdout(&found));
    document(
        &ovs,
        &POLICY.replace("direction: egress, ethertype: IPv4", "direction: sideways, ethertype: IPv4"),
    );
    let refused = verify(&ovs, &["--fix"]);
    assert_eq!(refused.status.code(), Some(2), "{}{}", stdout(&refused), stderr(&refused));
    assert!(stderr(&refused).contains("direction"), "{}", stderr(&refused));
}

/// Nothing was to be applied, so nothing is said of that.
#[test]
fn what_is_not_there_in_time_is_told_as_that() {
    let ovs = ovs();
    document(&ovs, POLICY);
    let late = verify(&ovs, &["--timeout", "0.5"]);
    assert_eq!(late.status.code(), Some(3), "{}", stderr(&late));
    assert_eq!(stderr(&late), "not done within 0.5 s: still waiting for a bridge called br-int\n");
}
