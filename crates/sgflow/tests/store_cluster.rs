//! Many hosts, a cluster of three, its relays; and what happens when any of them is killed.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agent::fleet::{Fleet, Seen, told_twice};
use common::{sgflow, stderr};
use lab::Databases;
use ovsdb::Remote;
use policy::{Policy, PolicyDelta};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn cluster() -> Databases {
    Databases::cluster(store::schema::TEXT, store::schema::DATABASE, 3).expect("a cluster")
}

fn remotes(store: &Databases, names: &[&str]) -> Vec<Remote> {
    names.iter().map(|name| store.remote(name).parse().expect("an address")).collect()
}

/// `sgflow policy put`, away from the hosts' runtime. Whether it was done.
async fn put(store: &Databases, document: &Value) -> bool {
    let path: PathBuf = store.rundir().join("policy.json");
    fs::write(&path, document.to_string()).expect("a document");
    let mut command = sgflow();
    command.args(["policy", "put", "--retry", "--timeout", "60", "--store", &store.remotes()]).arg(path);
    let output =
        tokio::task::spawn_blocking(move || command.output().expect("sgflow runs")).await.expect("it ran");
    if !output.status.success() {
        eprintln!("{}", stderr(&output));
    }
    output.status.success()
}

/// A port on each of so many hosts, all in one group whose members may talk to each other; its name is a version.
fn default_group(hosts: usize, version: u64) -> Value {
    let rules = ["IPv4", "IPv6"].map(|ethertype| {
        json!({"id": format!("r-{ethertype}"), "direction": "ingress", "ethertype": ethertype, "remote_group_id": "default"})
    });
    let port = |number: usize| {
        let bytes = [number >> 8, number & 0xff].map(|byte| format!("{byte:02x}"));
        json!({"id": format!("p{number}"), "network_id": "n", "mac_address": format!("fa:16:3e:00:{}:{}", bytes[0], bytes[1]),
            "fixed_ips": [{"ip_address": format!("10.0.{}.{}", number >> 8, number & 0xff)}], "security_groups": ["default"],
            "binding:host_id": format!("h{number}"), "device_owner": version.to_string()})
    };
    json!({"security_groups": [{"id": "default", "name": version.to_string(), "security_group_rules": rules}],
        "ports": (0..hosts).map(port).collect::<Vec<_>>()})
}

fn names(hosts: usize) -> Vec<String> {
    (0..hosts).map(|number| format!("h{number}")).collect()
}

/// Nothing is told twice, and the version of the group never goes back.
fn judge(policy: &Policy, delta: &PolicyDelta) -> Vec<String> {
    let version = |policy: &Policy| {
        policy.groups.get(&"default".into()).and_then(|group| group.name.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut after = policy.clone();
    after.apply(delta.clone());
    let mut wrong = told_twice(policy, delta);
    if version(&after) < version(policy) {
        wrong.push(format!("from {} back to {}", version(policy), version(&after)));
    }
    wrong
}

/// A host has its port, the group in this version, and all members.
fn has(seen: &Seen, place: usize, hosts: usize, version: u64) -> bool {
    let Policy { groups, ports, .. } = &seen.policy;
    let group = groups.get(&"default".into()).map(|group| group.name.clone());
    let own = ports.get(&format!("p{place}").as_str().into()).map(|port| port.device_owner.clone());
    group == Some(version.to_string()) && own == group && ports.len() == hosts + 1
}

async fn all_have(fleet: &Fleet, hosts: usize, version: u64) {
    let is_so = fleet.until(PATIENCE, |seen, place| has(seen, place, hosts, version)).await;
    let late: Vec<usize> = fleet
        .seen()
        .iter()
        .enumerate()
        .filter(|(place, seen)| !has(seen, *place, hosts, version))
        .map(|(place, _)| place)
        .collect();
    assert!(is_so, "version {version} has not come to {late:?}: {:?}", fleet.seen()[late[0]]);
    let wrong: Vec<String> = fleet.seen().into_iter().flat_map(|seen| seen.wrong).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_of_a_hundred_outlives_the_leader_a_relay_and_its_own_restart() {
    const HOSTS: usize = 100;
    let mut store = cluster();
    for name in ["r0", "r1"] {
        store.add_relay(name).expect("a relay");
    }
    assert!(put(&store, &default_group(HOSTS, 1)).await);
    let relays = remotes(&store, &["r0", "r1"]);
    let fleet = Fleet::start(&relays, None, &names(HOSTS), Some(judge));
    all_have(&fleet, HOSTS, 1).await;
    let leader = store.leader().expect("a leader");
    store.kill(&leader);
    assert!(put(&store, &default_group(HOSTS, 2)).await, "the two that are left take it");
    all_have(&fleet, HOSTS, 2).await;
    store.start(&leader).expect("it comes up again");
    store.kill("r0");
    assert!(put(&store, &default_group(HOSTS, 3)).await);
    all_have(&fleet, HOSTS, 3).await;
    // All hosts at once, at the relay that is left.
    drop(fleet);
    let fleet = Fleet::start(&relays, None, &names(HOSTS), Some(judge));
    all_have(&fleet, HOSTS, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_no_update_is_lost_or_told_twice_or_goes_back() {
    const HOSTS: usize = 8;
    const KILLS: u64 = 50;
    let mut store = cluster();
    store.add_relay("r0").expect("a relay");
    let all = remotes(&store, &["0", "1", "2", "r0"]);
    assert!(put(&store, &default_group(HOSTS, 1)).await);
    let mut fleets: Vec<Fleet> = names(HOSTS)
        .iter()
        .map(|name| Fleet::start(&all, None, std::slice::from_ref(name), Some(judge)))
        .collect();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut down: Option<String> = None;
    let mut version = 1;
    for _ in 0..KILLS {
        // One member at most is down: two are the majority.
        if let Some(name) = down.take() {
            store.start(&name).expect("it comes up again");
        }
        match rng.next_u32() % 5 {
            0..3 => {
                let name = ["0", "1", "2", "r0"][rng.next_u32() as usize % 4];
                store.kill(name);
                down = Some(name.to_owned());
            }
            3 => {
                let place = rng.next_u32() as usize % HOSTS;
                fleets[place] = Fleet::start(&all, None, &[format!("h{place}")], Some(judge));
            }
            _ => {
                // A writer that is killed may have written, or not.
                version += 1;
                let path = store.rundir().join("policy.json");
                fs::write(&path, default_group(HOSTS, version).to_string()).expect("a document");
                let mut command = sgflow();
                command.args(["policy", "put", "--store", &store.remotes()]).arg(path);
                let mut writer = command.stderr(std::process::Stdio::null()).spawn().expect("sgflow runs");
                tokio::time::sleep(Duration::from_millis((rng.next_u32() % 80).into())).await;
                writer.kill().ok();
                writer.wait().ok();
            }
        }
        version += 1;
        assert!(put(&store, &default_group(HOSTS, version)).await);
    }
    for (place, fleet) in fleets.iter().enumerate() {
        let has_all = |seen: &Seen, _| has(seen, place, HOSTS, version);
        assert!(fleet.until(PATIENCE, has_all).await, "host {place}: {:?}", fleet.seen()[0]);
        assert_eq!(fleet.seen()[0].wrong, Vec::<String>::new());
    }
}

/// A port on each of so many hosts, each with so many addresses more, all in one group; the first has one less if `odd`.
fn large_group(hosts: usize, pairs: usize, odd: bool) -> Value {
    let mut document = default_group(hosts, 1);
    for (number, port) in document["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let pairs = if odd && number == 0 { pairs - 1 } else { pairs };
        let pair =
            |pair: usize| json!({"ip_address": format!("10.{}.{}.{}", number + 1, pair / 256, pair % 256)});
        port["allowed_address_pairs"] = (0..pairs).map(pair).collect();
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_thousands_is_several_rows_which_come_and_change_as_one() {
    const HOSTS: usize = 5;
    const PAIRS: usize = 700;
    let mut store = cluster();
    store.add_relay("r0").expect("a relay");
    assert!(put(&store, &large_group(HOSTS, PAIRS, false)).await);
    let rows = |table: &str| {
        let rows =
            store.client(&["dump", &store.remotes(), "sgflow", table, "_uuid", "-f", "csv", "--no-headings"]);
        // The first line is the table's name.
        rows.expect("a dump").lines().count() - 1
    };
    // 3,505 members: a row has a thousand.
    assert_eq!((rows("Security_Group"), rows("Members")), (1, 3));
    let fleet = Fleet::start(&remotes(&store, &["r0", "0"]), None, &names(HOSTS), Some(judge));
    let members = |expected: usize| {
        move |seen: &Seen, _| {
            seen.policy.ports.keys().filter(|id| id.as_str().contains("/member/")).count() == expected
        }
    };
    assert!(fleet.until(PATIENCE, members(HOSTS * (PAIRS + 1))).await, "{:?}", fleet.seen()[0]);
    let before = quiet(&fleet).await;
    assert!(put(&store, &large_group(HOSTS, PAIRS, true)).await);
    assert!(fleet.until(PATIENCE, members(HOSTS * (PAIRS + 1) - 1)).await, "{:?}", fleet.seen()[0]);
    let after = quiet(&fleet).await;
    assert!(after - before < 1000, "one element, and the port: {}", after - before);
    for seen in fleet.seen() {
        assert_eq!((seen.changes, seen.wrong), (2, Vec::new()), "all of it at once, and then the member");
    }
    drop(fleet);
    assert!(put(&store, &json!({})).await);
    assert_eq!((rows("Security_Group"), rows("Members")), (0, 0));
}

/// What the one host has received, when it has said all that it has to say.
async fn quiet(fleet: &Fleet) -> u64 {
    let mut last = 0;
    loop {
        let now = fleet.traffic().await[0].received;
        if now == last {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_gets_its_groups_and_no_byte_of_the_others() {
    const GROUPS: usize = 1000;
    let uuid = |kind: u32, number: usize| format!("{kind:08x}-0000-4000-8000-{number:012x}");
    let address = |group: usize, member: usize| format!("10.{}.{}.{}", group >> 8, group & 0xff, member + 1);
    // Each group has a port on this host or elsewhere, and ninety-nine addresses more; it admits itself, as default groups do.
    let document = |odd: bool| {
        let group = |number: usize| {
            let id = uuid(1, number);
            let rule = |place: usize, direction: &str, ethertype: &str| {
                let mut rule = json!({"id": uuid(2, number * 4 + place), "direction": direction, "ethertype": ethertype});
                if direction == "ingress" {
                    rule["remote_group_id"] = json!(id);
                }
                rule
            };
            json!({"id": id, "name": "default", "security_group_rules": [
                rule(0, "egress", "IPv4"), rule(1, "egress", "IPv6"), rule(2, "ingress", "IPv4"), rule(3, "ingress", "IPv6")]})
        };
        let port = |number: usize| {
            let is_other = number >= 5;
            let members = if is_other && odd { 98 } else { 99 };
            let pairs: Vec<Value> =
                (1..=members).map(|member| json!({"ip_address": address(number, member)})).collect();
            let pairs = if is_other { pairs } else { Vec::new() };
            json!({"id": uuid(3, number), "network_id": uuid(4, 0), "mac_address": format!("fa:16:3e:00:{:02x}:{:02x}", number >> 8, number & 0xff),
                "fixed_ips": [{"ip_address": address(number, 0)}], "allowed_address_pairs": pairs, "security_groups": [uuid(1, number)],
                "device_owner": "compute:nova", "binding:host_id": if is_other { "other" } else { "h" }})
        };
        // The ninety-nine of this host's groups are elsewhere.
        let elsewhere = |number: usize| {
            let pairs: Vec<Value> =
                (1..99).map(|member| json!({"ip_address": address(number, member)})).collect();
            json!({"id": uuid(5, number), "network_id": uuid(4, 0), "mac_address": format!("fa:16:3e:01:00:{number:02x}"),
                "fixed_ips": [{"ip_address": address(number, 99)}], "allowed_address_pairs": pairs, "security_groups": [uuid(1, number)],
                "binding:host_id": "other"})
        };
        let ports: Vec<Value> = (0..GROUPS).map(port).chain((0..5).map(elsewhere)).collect();
        json!({"security_groups": (0..GROUPS).map(group).collect::<Vec<_>>(), "ports": ports})
    };
    let store = Databases::alone(store::schema::TEXT, store::schema::DATABASE).expect("a store");
    assert!(put(&store, &document(false)).await);
    let fleet = Fleet::start(&remotes(&store, &["0"]), None, &["h".to_owned()], Some(told_twice));
    let is_there = |seen: &Seen, _| seen.policy.groups.len() == 5 && seen.policy.ports.len() == 505;
    assert!(fleet.until(PATIENCE, is_there).await, "{:?}", fleet.seen());
    let at_start = quiet(&fleet).await;
    println!("a host with ports in 5 of {GROUPS} groups of 100 received {at_start} bytes");
    assert!(at_start <= 10_000, "{at_start}");
    assert!(put(&store, &document(true)).await, "every other group changes");
    // A change that concerns the host is the last of all.
    let mut last = document(true);
    last["security_groups"][0]["name"] = json!("changed");
    let before = quiet(&fleet).await;
    assert!(before - at_start < 100, "of other groups nothing, but for echoes: {}", before - at_start);
    assert!(put(&store, &last).await);
    let name = |seen: &Seen, _: usize| seen.policy.groups.values().any(|group| group.name == "changed");
    assert!(fleet.until(PATIENCE, name).await);
    let after = quiet(&fleet).await;
    assert!(after - before < 400, "one name: {}", after - before);
    let kinds: BTreeSet<u64> = fleet.seen().iter().map(|seen| seen.changes).collect();
    assert_eq!(kinds, [2].into(), "the first policy, and a name");
}
