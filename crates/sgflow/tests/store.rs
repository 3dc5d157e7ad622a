//! A host that follows the policy store: on a real switch, with real ovsdb-servers.

mod common;

use std::fs;
use std::path::Path;

use common::{
    Agent, POLICY, bridge, document, eventually, flows, is_exact, is_open, ovs, plug, sgflow, socket, stderr,
    stdout,
};
use lab::{Databases, Ovs};

/// `sgflow policy put` of the lab's document.
fn put(ovs: &Ovs, store: &Databases, text: &str) {
    let path = document(ovs, text);
    let output = sgflow()
        .args(["policy", "put", "--store", &store.remotes()])
        .arg(path)
        .output()
        .expect("sgflow runs");
    assert!(output.status.success(), "{}", stderr(&output));
}

fn agent(ovs: &Ovs, store: &Databases, more: &[&str]) -> Agent {
    let from_store = ["--policy-source", "store", "--store", &store.remotes(), "--host", "h"];
    Agent::start_with(ovs, &[&from_store, more].concat())
}

fn alone() -> Databases {
    Databases::alone(store::schema::TEXT, store::schema::DATABASE).expect("a store")
}

#[test]
fn what_is_in_the_store_is_enforced_change_by_change() {
    let ovs = ovs();
    bridge(&ovs);
    let store = alone();
    put(&ovs, &store, POLICY);
    let agent = agent(&ovs, &store, &[]);
    is_exact(&ovs);
    // A port is bound nowhere in this document: it is asked for by what is plugged in.
    assert!(is_open(&ovs, 1) && is_open(&ovs, 2));
    let sent = agent.count("applied");
    put(&ovs, &store, &POLICY.replace("10.1.0.3", "10.1.0.4"));
    agent.wait_for("applied", sent + 1);
    is_exact(&ovs);
    put(&ovs, &store, &POLICY.replace("ethertype: IPv4, remote", "ethertype: IPv4, protocol: tcp, remote"));
    agent.wait_for("applied", sent + 2);
    is_exact(&ovs);
    let without = POLICY.lines().filter(|line| !line.contains("p-2")).collect::<Vec<_>>().join("\n");
    put(&ovs, &store, &without);
    eventually("tap2 is closed", || !is_open(&ovs, 2));
    assert!(is_open(&ovs, 1));
    put(&ovs, &store, POLICY);
    is_exact(&ovs);
}

#[test]
fn without_the_store_what_was_in_force_stays_and_a_restart_sends_nothing() {
    let ovs = ovs();
    bridge(&ovs);
    let mut store = alone();
    put(&ovs, &store, POLICY);
    let running = agent(&ovs, &store, &[]);
    is_exact(&ovs);
    let held = flows(&ovs);
    drop(running);
    fs::write(ovs.rundir().join("agent.log"), "").expect("a log");
    let running = agent(&ovs, &store, &[]);
    running.wait_for("applied added=0 modified=0 deleted=0", 1);
    store.kill("0");
    running.wait_for("no connection to the policy store", 1);
    assert_eq!(flows(&ovs), held);
    drop(running);
    let running = agent(&ovs, &store, &[]);
    running.wait_for("waiting what=a policy", 1);
    assert_eq!(flows(&ovs), held);
    store.start("0").expect("it comes up again");
    is_exact(&ovs);
    // Each outage is said, and said once.
    let [outages, ends] = ["no connection to the policy store", " connected to the policy store"]
        .map(|line| running.count(line));
    store.kill("0");
    running.wait_for("no connection to the policy store", outages + 1);
    store.start("0").expect("it comes up again");
    running.wait_for(" connected to the policy store", ends + 1);
    assert_eq!(running.count("no connection to the policy store"), outages + 1, "{}", running.log());
}

#[test]
fn with_a_cache_a_host_begins_without_the_store() {
    let ovs = ovs();
    bridge(&ovs);
    let mut store = alone();
    put(&ovs, &store, POLICY);
    let cache = ovs.rundir().join("cache");
    let with_cache = ["--store-cache", &cache.display().to_string()];
    let running = agent(&ovs, &store, &with_cache);
    is_exact(&ovs);
    drop(running);
    store.kill("0");
    // As after the host was switched off.
    ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int"]).expect("no flows");
    let running = agent(&ovs, &store, &with_cache);
    eventually("both ports are open", || is_open(&ovs, 1) && is_open(&ovs, 2));
    store.start("0").expect("it comes up again");
    put(&ovs, &store, &POLICY.replace("10.1.0.3", "10.1.0.4"));
    is_exact(&ovs);
    // What has changed since is as the store says.
    drop(running);
    let without = POLICY.lines().filter(|line| !line.contains("p-2")).collect::<Vec<_>>().join("\n");
    put(&ovs, &store, &without);
    let running = agent(&ovs, &store, &with_cache);
    eventually("tap2 is closed", || !is_open(&ovs, 2));
    drop(running);
    damage(&cache);
    let _running = agent(&ovs, &store, &with_cache);
    eventually("tap2 is closed", || !is_open(&ovs, 2) && is_open(&ovs, 1));
}

fn damage(cache: &Path) {
    let mut bytes = fs::read(cache).expect("a cache");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(cache, bytes).expect("a cache");
}

#[test]
fn a_port_that_is_bound_here_waits_for_its_plug() {
    let ovs = ovs();
    bridge(&ovs);
    let store = alone();
    let text = POLICY.replace("network_id: n,", "network_id: n, \"binding:host_id\": h,");
    put(&ovs, &store, &text.replace("{id: p-2", "{id: p-9"));
    let running = agent(&ovs, &store, &[]);
    eventually("tap1 is open", || is_open(&ovs, 1));
    plug(&ovs, 9);
    eventually("tap9 is open", || is_open(&ovs, 9));
    assert!(!is_open(&ovs, 2), "{}", running.log());
}

#[test]
fn a_port_that_is_bound_elsewhere_and_still_plugged_in_stays_open_until_it_is_pulled_out() {
    let ovs = ovs();
    bridge(&ovs);
    let store = alone();
    let text = POLICY.replace("network_id: n,", "network_id: n, \"binding:host_id\": h,");
    put(&ovs, &store, &text);
    let running = agent(&ovs, &store, &[]);
    eventually("both are open", || is_open(&ovs, 1) && is_open(&ovs, 2));
    let held = flows(&ovs);
    let elsewhere =
        text.replace("h, mac_address: \"fa:16:3e:00:00:02\"", "other, mac_address: \"fa:16:3e:00:00:02\"");
    assert_ne!(elsewhere, text);
    put(&ovs, &store, &elsewhere);
    // A change that comes after it.
    put(&ovs, &store, &elsewhere.replace("10.1.0.3", "10.1.0.4"));
    eventually("the later change is in force", || flows(&ovs) != held);
    assert!(is_open(&ovs, 2), "{}", running.log());
    running.wait_for("applied", 2);
    assert_eq!(running.count("applied"), 2, "only the later change: {}", running.log());
    ovs.del_port("tap2").expect("it is pulled out");
    plug(&ovs, 2);
    eventually("it is open again", || is_open(&ovs, 2));
}

#[test]
fn what_is_explained_is_what_the_agent_enforces() {
    let ovs = ovs();
    bridge(&ovs);
    let store = alone();
    put(&ovs, &store, POLICY);
    let _agent = agent(&ovs, &store, &[]);
    is_exact(&ovs);
    let explain = |from: &str| {
        let mut command = sgflow();
        command.args(["explain", "p-2", "--from", from, "--proto", "tcp", "--dport", "80"]);
        command.args(["--policy-source", "store", "--store", &store.remotes(), "--ovsdb", &ovs.db_remote()]);
        let output = command.arg("--api-socket").arg(socket(&ovs)).output().expect("sgflow runs");
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    let agrees = "the flows agree: ";
    // p-3 is nowhere on this host: its address is a member that the host was told of.
    for member in ["p-1", "10.1.0.3"] {
        let text = explain(member);
        assert!(text.contains("p-2 ingress: accepted (rule): rule i4 of g"), "{text}");
        assert!(text.contains(agrees) && !text.contains("ALARM"), "{text}");
    }
    let text = explain("10.9.9.9");
    let nearest =
        "which allows IPv4 everything from its own group; the source 10.9.9.9 is no member of the group";
    assert!(text.contains(nearest) && text.contains(agrees), "{text}");
}
