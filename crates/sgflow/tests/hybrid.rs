//! `sgflow agent` with `iptables_hybrid`, and with `nftables`, on a host with hybrid bridges: killed at any instant, beside others' rules, and after Neutron's.
//!
//! `SGFLOW_KILLS` says how often it is killed; docs/hybrid.md has the figures of a long run.

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use common::traffic::{BY_ANYBODY, BY_GROUP, BY_PREFIX, Over, datagram, policy};
use common::{Agent, document, eventually, ovs, sgflow, status, stdout};
use lab::{FailMode, HybridHost, HybridSpec, Ovs};

/// Between two documents: as fast as they are read.
const CHURN: Duration = Duration::from_millis(150);

fn kills(otherwise: usize) -> usize {
    std::env::var("SGFLOW_KILLS").map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A host with ports p-1 and p-2, and a switch that says so.
fn start() -> (HybridHost, Ovs) {
    let specs = [HybridSpec::new("p-1", 10), HybridSpec::new("p-2", 10)];
    let host = HybridHost::start(&specs).expect("a host");
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    drop(ovs.add_dummy_ports("br-int", specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"));
    (host, ovs)
}

/// With one of the two kinds of iptables, or with `nftables` alone.
fn agent(host: &HybridHost, ovs: &Ovs, kind: &str) -> Agent {
    let options = match kind {
        "nftables" => vec!["--driver", "nftables"],
        iptables => vec!["--driver", "iptables_hybrid", "--iptables-variant", iptables],
    };
    Agent::start_on_host(ovs, host.netns(), &options)
}

fn converged(ovs: &Ovs) {
    eventually("converged", || stdout(&status(ovs, &[])).starts_with("converged"));
}

/// What a shell says in the host's namespace.
fn on_host(host: &HybridHost, ovs: &Ovs, command: &str) -> String {
    let lock = ovs.rundir().join("xtables.lock");
    let run =
        || Command::new("sh").args(["-c", command]).env("XTABLES_LOCKFILE", lock).output().expect("a shell");
    let output = host.netns().enter(run).expect("the host's namespace");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

/// Whether a datagram from p-1 comes to p-2.
fn passes(host: &HybridHost, source_port: u16, port: u16) -> bool {
    host.send_from_vm("p-1", &datagram([10, 0, 0, 1], source_port, port)).expect("sent");
    let emerged = host.take_emerged().expect("a look");
    emerged.vms.get("p-2").is_some_and(|frames| !frames.is_empty())
}

/// What the pair says to each other is judged alike by all of these, whatever the shape of its rules and whatever is around it.
fn churned(number: usize) -> String {
    let shape = [BY_ANYBODY, BY_PREFIX, BY_GROUP][number % 3];
    let mut text = policy(shape, true);
    let port = 1000 + number % 7;
    let more = format!(
        "- {{id: churn, security_group_rules: [\n    \
           {{id: c1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: {port}, port_range_max: {port}}},\n    \
           {{id: c2, direction: ingress, ethertype: IPv4, remote_group_id: churn}}]}}\naddress_groups:"
    );
    text = text.replacen("address_groups:", &more, 1);
    for member in (3..20).filter(|member| !(number + member).is_multiple_of(4)) {
        text += &format!(
            "- {{id: p-{member}, network_id: n, mac_address: \"fa:16:3e:00:00:{member:02x}\", \
             fixed_ips: [{{ip_address: 10.0.1.{member}}}], security_groups: [churn]}}\n"
        );
    }
    if number.is_multiple_of(2) {
        text.replace("security_groups: [in]", "security_groups: [in, churn]")
    } else {
        text
    }
}

/// Numbers that repeat with each run.
struct Chance(u64);

impl Chance {
    /// One below `bound` (Knuth's linear congruence).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Sends until told to stop: what is admitted comes, and nothing else does.
fn bombard(host: &HybridHost, is_over: &AtomicBool) -> usize {
    let mut sent = 0;
    // No more connections than the kernel holds (`nf_conntrack_max`); of each the first side alone has spoken, so that the rules are asked.
    for source_port in (1000..9000).cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        assert!(passes(host, source_port, 53), "an admitted datagram is lost, the {sent}th");
        assert!(!passes(host, source_port, 54), "a datagram passes that nothing admits, the {sent}th");
        sent += 2;
    }
    sent
}

/// A driver that begins anew finds the kernel as it would have made it.
fn is_as_rendered(host: &HybridHost, ovs: &Ovs, kind: &str) -> Agent {
    std::fs::remove_file(ovs.rundir().join("agent.log")).expect("the log of those before");
    let agent = agent(host, ovs, kind);
    converged(ovs);
    agent.wait_for("applied", 1);
    let nothing = "applied added=0 modified=0 deleted=0 bundles=0";
    assert_eq!(agent.count("applied"), agent.count(nothing), "{}", agent.log());
    agent
}

fn killed_under_churn(kind: &str, kills: usize) {
    let (host, ovs) = start();
    document(&ovs, &churned(0));
    let mut agent = agent_when_settled(&host, &ovs, kind);
    let (is_over, hold) = (AtomicBool::new(false), Mutex::new(()));
    let mut chance = Chance(2026);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| bombard(&host, &is_over));
        let changes = scope.spawn(|| {
            let next = ovs.rundir().join("next.yaml");
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let held = hold.lock().unwrap_or_else(PoisonError::into_inner);
                std::fs::write(&next, churned(number)).expect("a document");
                std::fs::rename(&next, ovs.rundir().join("policy.yaml")).expect("a document in its place");
                drop(held);
                thread::sleep(CHURN);
            }
            number
        });
        let over = Over(&is_over);
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(chance.below(700)));
            agent.child.kill().expect("it runs");
            agent.child.wait().expect("it ends");
            agent = self::agent(&host, &ovs, kind);
            if chance.below(3) == 0 {
                // In its start.
                thread::sleep(Duration::from_millis(chance.below(120)));
                continue;
            }
            if traffic.is_finished() {
                break;
            }
            let held = hold.lock().unwrap_or_else(PoisonError::into_inner);
            converged(&ovs);
            agent.child.kill().expect("it runs");
            agent.child.wait().expect("it ends");
            agent = is_as_rendered(&host, &ovs, kind);
            drop(held);
        }
        drop(over);
        let sent = traffic.join().expect("what was sent is judged alike all the time");
        let changes = changes.join().expect("the policy can be written");
        println!("{kind}: {kills} kills, {changes} documents, {sent} frames");
        assert!(sent > 50 * kills && changes > kills, "{sent} frames, {changes} documents");
    });
}

fn agent_when_settled(host: &HybridHost, ovs: &Ovs, kind: &str) -> Agent {
    let agent = agent(host, ovs, kind);
    converged(ovs);
    agent
}

#[test]
fn an_agent_that_is_killed_under_churn_costs_no_frame_and_lets_none_through() {
    killed_under_churn("nft", kills(3));
}

#[test]
fn nor_does_it_with_the_old_iptables() {
    killed_under_churn("legacy", kills(2));
}

#[test]
fn nor_does_it_with_nftables_alone() {
    killed_under_churn("nftables", kills(3));
}

/// Neutron's chains, as its agent leaves them, and those of others.
const BEFORE: &str = "
iptables-nft-restore <<'END'
*filter
:neutron-filter-top - [0:0]
:neutron-openvswi-FORWARD - [0:0]
:neutron-openvswi-INPUT - [0:0]
:neutron-openvswi-local - [0:0]
:neutron-openvswi-sg-chain - [0:0]
:neutron-openvswi-ip-1 - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -j neutron-openvswi-INPUT
-A FORWARD -j DOCKER-USER
-A FORWARD -j neutron-filter-top
-A FORWARD -j neutron-openvswi-FORWARD
-A neutron-filter-top -j neutron-openvswi-local
-A neutron-openvswi-FORWARD -m physdev --physdev-out tapp-1 --physdev-is-bridged -j neutron-openvswi-sg-chain
-A neutron-openvswi-sg-chain -m physdev --physdev-out tapp-1 --physdev-is-bridged -j neutron-openvswi-ip-1
-A neutron-openvswi-ip-1 -j RETURN
-A DOCKER-USER -s 192.0.2.1/32 -j DROP
COMMIT
END
nft add table inet others
nft add chain inet others mine
nft add rule inet others mine counter drop
ipset create others hash:net
ipset add others 192.0.2.0/24
";

#[test]
fn others_chains_and_sets_stay_and_neutrons_make_room() {
    let (host, ovs) = start();
    on_host(&host, &ovs, BEFORE);
    document(&ovs, &policy(BY_GROUP, true));
    let _agent = agent_when_settled(&host, &ovs, "nft");
    assert!(passes(&host, 1000, 53) && !passes(&host, 1001, 54));
    let filter = on_host(&host, &ovs, "iptables-nft-save -t filter");
    let has = |line: &str| filter.lines().any(|held| held == line);
    assert!(has("-A DOCKER-USER -s 192.0.2.1/32 -j DROP") && has("-A FORWARD -j neutron-filter-top"));
    assert!(has(":neutron-filter-top - [0:0]"), "{filter}");
    for gone in ["-A neutron-filter-top", "-j neutron-openvswi-INPUT", ":neutron-openvswi-local"] {
        assert!(!filter.contains(gone), "{gone} in\n{filter}");
    }
    let first = filter.lines().find(|line| line.starts_with("-A FORWARD"));
    assert_eq!(first, Some("-A FORWARD -j neutron-openvswi-FORWARD"));
    assert_eq!(filter.matches("-j neutron-openvswi-FORWARD").count(), 1);
    on_host(&host, &ovs, "nft list chain inet others mine | grep -q drop && ipset test others 192.0.2.7");
}

#[test]
fn another_driver_takes_over_and_leaves_nothing_of_the_one_before() {
    let (host, ovs) = start();
    document(&ovs, &policy(BY_GROUP, true));
    let is_over = AtomicBool::new(false);
    let mut agent = agent_when_settled(&host, &ovs, "nft");
    thread::scope(|scope| {
        let traffic = scope.spawn(|| bombard(&host, &is_over));
        let over = Over(&is_over);
        agent.child.kill().expect("it runs");
        agent.child.wait().expect("it ends");
        agent = agent_when_settled(&host, &ovs, "nftables");
        eventually("iptables are empty", || {
            let saved = on_host(&host, &ovs, "iptables-nft-save; ip6tables-nft-save; ipset list -n");
            !saved.contains("neutron-openvswi") && !saved.contains("NIPv")
        });
        drop(over);
        let sent = traffic.join().expect("what was sent is judged alike all the time");
        println!("{sent} frames");
    });
}

#[test]
fn what_somebody_else_changes_is_put_right_and_meanwhile_nothing_passes() {
    let (host, ovs) = start();
    document(&ovs, &policy(BY_GROUP, true));
    let agent = agent_when_settled(&host, &ovs, "nft");
    assert!(passes(&host, 1000, 53));
    // Whether anything passes until it is put right.
    let damages = [
        ("iptables-nft -F FORWARD", false),
        ("iptables-nft -F neutron-openvswi-ip-2", false),
        ("nft flush map bridge sgflow ports", false),
        ("nft flush chain bridge sgflow prerouting", false),
        ("nft flush ruleset", true),
        ("for set in $(ipset list -n); do ipset flush $set; done", false),
    ];
    for (number, (damage, is_open)) in (1u16..).zip(damages) {
        let applied = agent.count("applied");
        signal(&agent, "-STOP");
        on_host(&host, &ovs, damage);
        // Without rules nothing is judged, and nothing leaves that is not; but without any table there is nobody to say so.
        assert_eq!(passes(&host, 1000 + number, 53), is_open, "{damage}");
        signal(&agent, "-CONT");
        agent.wait_for("applied", applied + 1);
        converged(&ovs);
        eventually(damage, || passes(&host, 2000 + number, 53));
        assert!(!passes(&host, 2000 + number, 54), "{damage}");
    }
}

/// Holds the lock of `br-int`, as another agent does.
struct Rival(Child);

impl Rival {
    fn steals(ovs: &Ovs) -> Self {
        let mut client = Command::new("ovsdb-client");
        client.args(["steal", &ovs.db_remote(), "sgflow_br_2dint"]);
        Rival(client.stdout(Stdio::null()).spawn().expect("ovsdb-client"))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn who_loses_the_lock_changes_nothing_until_it_is_back() {
    let (host, ovs) = start();
    document(&ovs, &policy(BY_GROUP, true));
    let _agent = agent_when_settled(&host, &ovs, "nft");
    assert!(passes(&host, 1000, 53));
    let rival = Rival::steals(&ovs);
    eventually("the lock is waited for", || stdout(&status(&ovs, &[])).contains("lock sgflow_br_2dint"));
    document(&ovs, &policy(BY_GROUP, true).replace("53", "54"));
    on_host(&host, &ovs, "iptables-nft -F neutron-openvswi-ip-1");
    // Longer than it takes to see both, and to write.
    thread::sleep(Duration::from_secs(4));
    assert!(passes(&host, 1001, 53) && !passes(&host, 1001, 54));
    on_host(&host, &ovs, "test $(iptables-nft -S neutron-openvswi-ip-1 | wc -l) = 1");
    drop(rival);
    eventually("the new policy", || passes(&host, 1002, 54));
    converged(&ovs);
    assert!(!passes(&host, 1000, 53), "a connection that the other may have let pass");
    on_host(&host, &ovs, "test $(iptables-nft -S neutron-openvswi-ip-1 | wc -l) -gt 1");
}

/// `render`, `apply` and `verify` on a host, by both drivers.
#[test]
fn the_commands_answer_for_these_drivers() {
    let (host, ovs) = start();
    let path = document(&ovs, &policy(BY_GROUP, true));
    let bindings = ovs.rundir().join("bindings.json");
    let plug = |n: u8, zone: u16| {
        format!(
            r#"{{"port_id": "p-{n}", "interface": "tapp-{n}", "ofport": {n}, "tag": 10, "zone": {zone}}}"#
        )
    };
    std::fs::write(&bindings, format!("[{}, {}]", plug(1, 4097), plug(2, 4098))).expect("bindings");
    for driver in ["iptables_hybrid", "nftables"] {
        let sgflow = |words: &str| {
            let (program, db) = (sgflow(), ovs.db_remote());
            let lock = ovs.rundir().join("xtables.lock");
            let command = format!(
                "{} {words} --driver {driver} --policy {}",
                program.get_program().display(),
                path.display()
            );
            let command = if words.contains("render") { command } else { format!("{command} --ovsdb {db}") };
            let run = || {
                Command::new("sh")
                    .args(["-c", &command])
                    .env("XTABLES_LOCKFILE", lock)
                    .output()
                    .expect("a shell")
            };
            let output = host.netns().enter(run).expect("the host's namespace");
            (output.status.code(), stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, text, _) = sgflow(&format!("render --bindings {}", bindings.display()));
        assert_eq!(code, Some(0));
        assert!(
            text.contains("10.0.0.2") && text.contains("tapp-1") && text.contains("goto from-port"),
            "{text}"
        );

        let (code, differences, said) = sgflow("verify");
        assert!(
            code == Some(4) && differences.contains("the kernel is not the policy"),
            "{code:?} {differences}{said}"
        );
        let (code, planned, said) = sgflow("apply --dry-run");
        assert!(code == Some(0) && planned.contains("nft: table bridge sgflow"), "{code:?} {planned}{said}");
        assert!(passes(&host, 1000, 54), "nothing is in force yet, {driver}");
        assert_eq!(sgflow("apply").0, Some(0));
        assert!(passes(&host, 1001, 53) && !passes(&host, 1002, 54));
        let (code, exact, said) = sgflow("verify");
        assert!(
            code == Some(0) && exact.contains("the kernel is exactly the policy"),
            "{code:?} {exact}{said}"
        );
        assert_eq!(sgflow("apply --dry-run").1, "");

        on_host(
            &host,
            &ovs,
            "nft delete element bridge sgflow pairs4 '{ \"tapp-1\" . fa:16:3e:00:00:01 . 10.0.0.1 }'",
        );
        let (code, one, _) = sgflow("verify");
        assert!(code == Some(4) && one.contains("pairs4: 1 elements are not there"), "{code:?} {one}");
        assert_eq!(sgflow("verify --fix").0, Some(0));
        assert!(passes(&host, 1003, 53));
        on_host(&host, &ovs, "nft flush ruleset; for set in $(ipset list -n); do ipset destroy $set; done");
    }
}

fn signal(agent: &Agent, signal: &str) {
    let status = Command::new("kill").args([signal, &agent.child.id().to_string()]).status();
    assert!(status.expect("kill(1)").success());
}

#[test]
fn from_the_policy_store_it_goes_on_when_the_database_is_there() {
    for kind in ["nft", "nftables"] {
        let (host, mut ovs) = start();
        let store = common::policy_store::alone();
        common::policy_store::put(&store, &policy(BY_ANYBODY, true), &[]);
        // The store is known before it is known what is plugged in.
        ovs.stop_ovsdb();
        let options = match kind {
            "nftables" => vec!["--driver", "nftables"],
            iptables => vec!["--driver", "iptables_hybrid", "--iptables-variant", iptables],
        };
        let remotes = store.remotes();
        let from_store = ["--policy-source", "store", "--store", &remotes, "--host", "h"];
        let agent = Agent::start_on_host(&ovs, host.netns(), &[options, from_store.to_vec()].concat());
        agent.wait_for("connected to the policy store", 1);
        ovs.start_ovsdb().expect("it comes up again");
        converged(&ovs);
        assert!(passes(&host, 40_000, 53), "{}", agent.log());
        drop(agent);
    }
}
