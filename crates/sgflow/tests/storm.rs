//! More changes than anybody can follow, of the policy and of the interfaces, and a switch that does not answer meanwhile: what
//! waits is what differs, and when the switch answers again it becomes the policy of now.
//!
//! `SGFLOW_STORM` says for how many seconds; docs/reliability.md has the figures of a minute.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::traffic::{BY_ANYBODY, BY_GROUP, BY_PREFIX, Over, ends, policy, until_heard};
use common::{Agent, document, is_exact, ovs, plug};
use lab::{Ovs, process};
use serde_json::json;

/// Changes a second, of each kind, if the machine can.
const CHANGES: u32 = 10_000;
/// More members than ports, so that a change is worth something.
const MEMBERS: u16 = 250;

fn seconds() -> u64 {
    std::env::var("SGFLOW_STORM").map_or(3, |text| text.parse().expect("a number"))
}

/// A policy with another rule and other members than the one before.
fn changed(number: usize) -> String {
    let mut text = policy([BY_ANYBODY, BY_PREFIX, BY_GROUP][number % 3], true);
    for member in 3..MEMBERS {
        let address = format!("10.{}.{}.{}", number % 200, member / 200, member % 200 + 1);
        text += &format!(
            "- {{id: p-{member}, network_id: n, mac_address: \"fa:16:3e:00:01:{member:02x}\", \
             fixed_ips: [{{ip_address: {address}}}], security_groups: [in, more]}}\n"
        );
    }
    text
}

/// Calls `change` with numbers that grow, [`CHANGES`] times a second at most, until the storm is over. Gives how often.
fn rage(is_over: &AtomicBool, mut change: impl FnMut(usize)) -> usize {
    let begun = Instant::now();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return number;
        }
        change(number);
        let due = Duration::from_secs(1) / CHANGES * u32::try_from(number).expect("not for days");
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    unreachable!("numbers do not end")
}

/// The document is replaced by others in turn.
fn policies(ovs: &Ovs, is_over: &AtomicBool) -> usize {
    let (next, path) = (ovs.rundir().join("next.yaml"), ovs.rundir().join("policy.yaml"));
    let texts: Vec<String> = (0..6).map(changed).collect();
    rage(is_over, |number| {
        fs::write(&next, &texts[number % texts.len()]).expect("a document");
        fs::rename(&next, &path).expect("a document in its place");
    })
}

/// Two interfaces are given to other ports, each time in a transaction of its own (RFC 7047, 4.1.3 and 5.2.3).
fn interfaces(ovs: &Ovs, is_over: &AtomicBool) -> usize {
    let remote = ovs.db_remote();
    let mut database = UnixStream::connect(remote.trim_start_matches("unix:")).expect("the database");
    let mut answers = database.try_clone().expect("a second end");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 65536];
            while answers.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        let sent = rage(is_over, |number| {
            let (name, id) = (["tap3", "tap4"][number % 2], format!("p-{}", 3 + number % 7));
            let mutations = json!([
                ["external_ids", "delete", ["set", ["iface-id"]]],
                ["external_ids", "insert", ["map", [["iface-id", id]]]]
            ]);
            let change = json!({
                "op": "mutate", "table": "Interface", "where": [["name", "==", name]], "mutations": mutations
            });
            let request = json!({"method": "transact", "params": ["Open_vSwitch", change], "id": number});
            database.write_all(request.to_string().as_bytes()).expect("the database takes it");
        });
        database.shutdown(std::net::Shutdown::Both).expect("it ends");
        sent
    })
}

/// The memory that the agent holds at the moment and has held at most, in KiB, and its open files.
fn held(agent: &Agent) -> [u64; 3] {
    let pid = agent.child.id();
    let kibibytes = |bytes: Result<u64, lab::Error>| bytes.expect("it runs") / 1024;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    [
        kibibytes(process::rss_bytes(pid)),
        kibibytes(process::peak_rss_bytes(pid)),
        u64::try_from(files).expect("few"),
    ]
}

fn signal(ovs: &Ovs, signal: &str) {
    let pid = ovs.vswitchd_pid().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args([signal, &pid]).status();
    assert!(sent.expect("a program").success());
}

#[test]
fn a_storm_while_the_switch_stalls_takes_no_memory_and_ends_as_the_policy_of_now() {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    plug(&ovs, 3);
    plug(&ovs, 4);
    document(&ovs, &changed(0));
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    // What it takes to follow at all, without a storm.
    for number in 1..4 {
        document(&ovs, &changed(number));
        agent.wait_for("policy read", 1 + number);
    }
    is_exact(&ovs);
    let [_, quiet, files] = held(&agent);
    let is_over = AtomicBool::new(false);
    let (mut most_files, mut counts) = (0, (0, 0));
    thread::scope(|scope| {
        let policies = scope.spawn(|| policies(&ovs, &is_over));
        let interfaces = scope.spawn(|| interfaces(&ovs, &is_over));
        let over = Over(&is_over);
        let end = Instant::now() + Duration::from_secs(seconds());
        // It answers at first, then it does not.
        thread::sleep(Duration::from_secs(seconds()) / 3);
        signal(&ovs, "-STOP");
        while Instant::now() < end {
            most_files = most_files.max(held(&agent)[2]);
            thread::sleep(Duration::from_millis(100));
        }
        drop(over);
        counts = (policies.join().expect("documents"), interfaces.join().expect("transactions"));
        signal(&ovs, "-CONT");
    });
    ovs.vsctl(&["set", "Interface", "tap3", "external_ids:iface-id=p-3"]).expect("a port");
    ovs.vsctl(&["set", "Interface", "tap4", "external_ids:iface-id=p-4"]).expect("a port");
    document(&ovs, &changed(1));
    until_heard(&sender, &receiver);
    is_exact(&ovs);
    let [now, most, _] = held(&agent);
    println!(
        "{} documents and {} transactions in {} s: {quiet} KiB at most before, {most} KiB at most, {now} KiB now",
        counts.0,
        counts.1,
        seconds()
    );
    assert!(most < quiet + 32 * 1024, "{most} KiB at most, {quiet} KiB before");
    assert!(most_files <= files + 4, "{most_files} open files, {files} before");
}
