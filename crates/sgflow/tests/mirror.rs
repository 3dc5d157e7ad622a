//! `ipset_mirror`: members of remotes as the kernel's sets beside the flows, in the namespace of a private switch.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{Agent, POLICY, bridge, document, eventually, is_exact, ovs, status, stdout};
use lab::Ovs;

fn start(ovs: &Ovs, more: &[&str]) -> Agent {
    let arguments: Vec<&str> = ["--ipset-mirror"].into_iter().chain(more.iter().copied()).collect();
    Agent::start_at_home(ovs, &arguments)
}

/// ipset(8) there; `None` if it refuses.
fn ipset(ovs: &Ovs, arguments: &[&str]) -> Option<String> {
    let run = || Command::new("ipset").args(arguments).output().expect("ipset(8)");
    let output = ovs.netns().enter(run).expect("the switch's namespace");
    output.status.success().then(|| stdout(&output))
}

/// Names of the sets, and what `set` holds.
fn held(ovs: &Ovs, set: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let names = ipset(ovs, &["list", "-n"]).expect("a list");
    let saved = ipset(ovs, &["save", set]).unwrap_or_default();
    let member = |line: &str| line.strip_prefix(&format!("add {set} ")).map(str::to_owned);
    (names.lines().map(str::to_owned).collect(), saved.lines().filter_map(member).collect())
}

fn is_held(ovs: &Ovs, sets: &[&str], set: &str, members: &[&str]) {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<String>>();
    let wanted = (texts(sets), texts(members));
    eventually(&format!("{wanted:?}, not {:?}", held(ovs, set)), || held(ovs, set) == wanted);
}

#[test]
fn sets_follow_the_policy_beside_the_flows() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = start(&ovs, &[]);
    // Members of other networks count too (semantics, "members of a security group").
    is_held(&ovs, &["NIPv4g"], "NIPv4g", &["10.0.0.1", "10.0.0.2", "10.1.0.3"]);
    is_exact(&ovs);

    // A rule of the host's own, that goes by the set.
    let rule = ["-A", "INPUT", "-m", "set", "--match-set", "NIPv4g", "src", "-j", "ACCEPT"];
    let iptables = || Command::new("iptables").args(rule).status().expect("iptables");
    assert!(ovs.netns().enter(iptables).expect("the switch's namespace").success());
    document(&ovs, &POLICY.replace("10.1.0.3}", "10.1.0.4}, {ip_address: 10.1.0.5}"));
    let members = ["10.0.0.1", "10.0.0.2", "10.1.0.4", "10.1.0.5"];
    is_held(&ovs, &["NIPv4g"], "NIPv4g", &members);

    // Somebody else empties it.
    ipset(&ovs, &["flush", "NIPv4g"]).expect("flushed");
    agent.wait_for("somebody else changed a set", 1);
    is_held(&ovs, &["NIPv4g"], "NIPv4g", &members);

    // No rule of the policy names it, one of the host's does.
    document(&ovs, &POLICY.replace(", remote_group_id: g}", "}"));
    is_held(&ovs, &["NIPv4g"], "NIPv4g", &[]);
    eventually("it is told", || {
        // As one line, however it is folded.
        let told = stdout(&status(&ovs, &[])).split_whitespace().collect::<Vec<_>>().join(" ");
        told.contains("ipset NIPv4g: no rule of the policy names it, but one of the host's does")
    });
}

#[test]
fn a_killed_agents_sets_are_found_again_and_what_is_left_over_goes() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, POLICY);
    let agent = start(&ovs, &[]);
    is_held(&ovs, &["NIPv4g"], "NIPv4g", &["10.0.0.1", "10.0.0.2", "10.1.0.3"]);
    drop(agent);
    let made = ipset(&ovs, &["save", "NIPv4g"]).expect("it stays");
    for set in ["NIPv4gone", "NIPv4g-n", "mine"] {
        ipset(&ovs, &["create", set, "hash:net"]).expect("created");
    }
    ipset(&ovs, &["del", "NIPv4g", "10.0.0.2"]).expect("deleted");
    let _agent = start(&ovs, &[]);
    is_held(&ovs, &["NIPv4g", "mine"], "NIPv4g", &["10.0.0.1", "10.0.0.2", "10.1.0.3"]);
    // Its hash is seeded by chance: it is the same set.
    let header = |text: &str| text.lines().next().map(str::to_owned);
    assert_eq!(ipset(&ovs, &["save", "NIPv4g"]).as_deref().and_then(header), header(&made));
}

#[test]
fn neighbours_become_prefixes_where_that_is_wanted() {
    let ovs = ovs();
    bridge(&ovs);
    document(&ovs, &POLICY.replace("ip_address: 10.1.0.3", "ip_address: 10.0.0.3"));
    let _agent = start(&ovs, &["--ipset-compress"]);
    is_held(&ovs, &["NIPv4g"], "NIPv4g", &["10.0.0.1", "10.0.0.2/31"]);
}
