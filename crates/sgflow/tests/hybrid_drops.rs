//! `sgflow drops` on hosts with hybrid bridges, under each driver for them: what is dropped is counted by port and reason, samples are told, and
//! what counts is no drift.

mod common;
mod documented;

use common::hybrid_pair::HybridPair;
use common::traffic::{counted, datagram, refused, spoofed};
use common::{document, eventually, status, stdout};
use documented::is_documented;
use lab::HybridSpec;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const POLICY: &str = r#"
security_groups:
- {id: sg-out, security_group_rules: [{id: e, direction: egress, ethertype: IPv4}]}
- {id: sg-in, security_group_rules: [
    {id: dns, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-out]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [sg-in]}
"#;

fn admitted() -> Vec<u8> {
    datagram([10, 0, 0, 1], 4000, 53)
}

fn are_counted_and_shown(kind: &'static str) {
    let host = HybridPair::start(kind, POLICY);
    let _agent = host.agent(&[]);
    let none = host.drops(&[]);
    is_documented("Drops", &none);
    assert_eq!((&none["samples"], &none["not_sampled"]), (&json!([]), &json!(null)));
    host.send(&[spoofed(), refused(4000), admitted(), spoofed(), spoofed(), refused(4001)]);
    let counts = |drops: &Value| (counted(drops, "p-1", "spoofed-ip"), counted(drops, "p-2", "no-rule"));
    eventually("each is counted at its port, and shown", || {
        let drops = host.drops(&[]);
        counts(&drops) == ((3, 3), (2, 2)) && drops["samples"].as_array().is_some_and(|all| all.len() == 5)
    });
    let drops = host.drops(&[]);
    is_documented("Drops", &drops);
    assert_eq!((&drops["sampled"], &drops["limited"]), (&json!(5), &json!(0)));
    let of = |port: &str| {
        drops["ports"].as_array().expect("a list").iter().filter(|one| one["port"] == port).count()
    };
    assert_eq!((of("p-1"), of("p-2")), (1, 1), "{drops}");
    let bytes = |list: &str| {
        drops[list]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["bytes"].as_u64().expect("a number"))
            .sum::<u64>()
    };
    // What pads a frame is gone when the tables of IP see it.
    let sent = 3 * spoofed().len() as u64 + 2 * (14 + 20 + 8);
    assert_eq!((bytes("reasons"), bytes("ports")), (sent, sent), "bytes of frames: {drops}");
    let mut samples = drops["samples"].as_array().expect("a list").clone();
    for sample in &mut samples {
        is_documented("DropSample", sample);
        sample.as_object_mut().expect("an object").remove("time");
        sample.as_object_mut().expect("an object").remove("number");
    }
    samples.sort_by_key(|sample| (sample["port"].to_string(), sample["packet"].to_string()));
    samples.dedup();
    let sample = |port: &str, interface: &str, direction: &str, reason: &str, packet: &str| json!({"port": port, "interface": interface, "direction": direction, "reason": reason, "packet": packet});
    assert_eq!(
        samples,
        [
            sample("p-1", "tapp-1", "egress", "spoofed-ip", "udp 10.0.0.66:4000 -> 10.0.0.2:53"),
            sample("p-2", "tapp-2", "ingress", "no-rule", "udp 10.0.0.1:4000 -> 10.0.0.2:54"),
            sample("p-2", "tapp-2", "ingress", "no-rule", "udp 10.0.0.1:4001 -> 10.0.0.2:54"),
        ]
    );
    let held = host.run("nft list set bridge sgflow dropped-spoofed-ip");
    assert!(
        held.contains("\"tapp-1\" counter packets 3 bytes 138 expires 6d"),
        "a device that is gone does not stay: {held}"
    );
    let of_one = host.drops(&["--port", "tapp-1"]);
    assert_eq!(counts(&of_one), ((3, 3), (0, 0)));
    for called in ["p-1", "qvop-1", "qvbp-1"] {
        assert_eq!(counts(&host.drops(&["--port", called])), ((3, 3), (0, 0)), "{called}");
    }
}

#[test]
fn drops_are_counted_and_shown_with_nftables() {
    are_counted_and_shown("nftables");
}

#[test]
fn drops_are_counted_and_shown_with_iptables() {
    are_counted_and_shown("nft");
}

#[test]
fn drops_are_counted_and_shown_with_the_old_iptables() {
    are_counted_and_shown("legacy");
}

/// A restart sends nothing, also of what counts by then, and goes on counting.
fn are_no_drift(kind: &'static str) {
    let host = HybridPair::start(kind, POLICY);
    let agent = host.agent(&[]);
    host.send(&[spoofed(), refused(4000)]);
    let is_counted =
        |drops: &Value| counted(drops, "p-1", "spoofed-ip").1 == 1 && counted(drops, "p-2", "no-rule").1 == 1;
    eventually("counted", || is_counted(&host.drops(&[])));
    let since = host.drops(&[])["since"].clone();
    drop(agent);
    fs::remove_file(host.log_path()).expect("the log of the one before");
    let agent = host.agent(&[]);
    agent.wait_for("applied", 1);
    let nothing = "applied added=0 modified=0 deleted=0 bundles=0";
    assert_eq!(agent.count("applied"), agent.count(nothing), "{}", agent.log());
    let drops = host.drops(&[]);
    assert!(is_counted(&drops) && drops["since"] == since && drops["not_sampled"].is_null(), "{drops}");
    // What somebody else has taken away is all that is mended when everything is read again.
    host.run("nft 'delete element bridge sgflow plugs { \"tapp-1\" }'");
    agent.wait_for("applied added=1 modified=0 deleted=0", 1);
    assert_eq!(agent.count("applied"), agent.count(nothing) + 1, "{}", agent.log());
    host.send(&[spoofed()]);
    eventually("it goes on counting", || counted(&host.drops(&[]), "p-1", "spoofed-ip").1 == 2);
}

#[test]
fn what_counts_is_no_drift_with_nftables() {
    are_no_drift("nftables");
}

#[test]
fn what_counts_is_no_drift_with_iptables() {
    are_no_drift("nft");
}

/// What somebody else has made of the tables is made anew, and counts go on.
#[test]
fn tables_of_another_version_are_brought_to_this_one() {
    let host = HybridPair::start("nftables", POLICY);
    // As the version before said it: chains that drop and say nothing.
    host.run(
        "nft -f - <<'END'
table bridge sgflow {
	map ports { type ifname : verdict; }
	set plugs { type ifname; }
	map marks { type ifname : mark; }
	chain from-port { drop; }
	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname vmap @ports
		iifname \"qvb*\" drop
	}
	chain made-0123456789 { }
}
END",
    );
    let _agent = host.agent(&[]);
    host.send(&[admitted(), spoofed()]);
    eventually("counted", || counted(&host.drops(&[]), "p-1", "spoofed-ip") == (1, 1));
    let emerged = host.host.take_emerged().expect("a look");
    assert_eq!(emerged.vms.get("p-2").map(Vec::len), Some(1));
}

/// A zone that another port had before is counted for its owner alone, whoever saw the change.
#[test]
fn what_was_dropped_at_a_port_is_not_another_ports() {
    let mut host = HybridPair::start("nftables", POLICY);
    let agent = host.agent(&[]);
    host.send(&vec![refused(4000); 3]);
    eventually("counted", || counted(&host.drops(&[]), "p-2", "no-rule").1 == 3);
    let before = host.mark("tapp-2");
    drop(agent);
    host.host.unplug("p-2").expect("it goes");
    host.ovs.del_port("qvop-2").expect("it goes");
    let spec = HybridSpec::new("p-3", 10);
    drop(host.ovs.add_dummy_ports("br-int", vec![spec.on_switch()]).expect("a port"));
    host.host.plug(&[spec]).expect("a port");
    document(&host.ovs, &POLICY.replace("id: p-2", "id: p-3"));
    let _agent = host.agent(&[]);
    assert_eq!(host.mark("tapp-3"), before, "it has the zone of the one before");
    assert_eq!(counted(&host.drops(&[]), "p-3", "no-rule").1, 0);
    host.send(&vec![refused(4000); 5]);
    eventually("its own", || counted(&host.drops(&[]), "p-3", "no-rule").1 == 5);
}

#[test]
fn without_samples_all_is_counted_and_nothing_shown() {
    let host = HybridPair::start("nft", POLICY);
    let _agent = host.agent(&["--drops-samples", "0"]);
    host.send(&[spoofed(), refused(4000)]);
    eventually("counted", || {
        let drops = host.drops(&[]);
        counted(&drops, "p-1", "spoofed-ip").1 == 1 && counted(&drops, "p-2", "no-rule").1 == 1
    });
    let drops = host.drops(&[]);
    assert_eq!((&drops["samples"], &drops["not_sampled"]), (&json!([]), &json!("drops.samples is 0")));
    let text = host.run("nft list ruleset; iptables-nft-save");
    assert!(!text.contains("21351"), "{text}");
}

#[test]
fn what_is_limited_is_counted() {
    let host = HybridPair::start("nftables", POLICY);
    let _agent = host.agent(&["--drops-samples", "5"]);
    const SENT: u64 = 2000;
    for _ in 0..SENT {
        host.send(&[refused(4000)]);
    }
    eventually("every one is counted, and told as sampled or as limited", || {
        let drops = host.drops(&[]);
        let of = |key: &str| drops[key].as_u64().expect("a number");
        counted(&drops, "p-2", "no-rule") == (SENT, SENT) && of("sampled") + of("limited") == SENT
    });
    let sampled = host.drops(&[])["sampled"].as_u64().expect("a number");
    assert!((5..SENT / 10).contains(&sampled), "{sampled}");
}

/// Under an iptables-restore that first does this in a shell, with the transaction in `$text`.
fn with_a_restore_that(host: &HybridPair, does: &str) -> String {
    let directory = host.ovs.rundir().join("bin");
    fs::create_dir(&directory).expect("a directory");
    let script =
        format!("#!/bin/sh\ntext=$(cat)\n{does}\nprintf '%s\\n' \"$text\" | /usr/sbin/${{0##*/}} \"$@\"\n");
    for tool in ["iptables-nft-restore", "ip6tables-nft-restore"] {
        let path = directory.join(tool);
        fs::write(&path, &script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    format!("{}:{}", directory.display(), std::env::var("PATH").expect("a path"))
}

fn not_sampled(host: &HybridPair) -> Value {
    eventually("converged", || stdout(&status(&host.ovs, &[])).starts_with("converged"));
    host.send(&[spoofed(), refused(4000)]);
    eventually("counted", || {
        let drops = host.drops(&[]);
        counted(&drops, "p-1", "spoofed-ip").1 == 1 && counted(&drops, "p-2", "no-rule").1 == 1
    });
    host.drops(&[])["not_sampled"].clone()
}

#[test]
fn an_iptables_that_cannot_sample_filters_all_the_same_and_says_so() {
    let host = HybridPair::start("nft", POLICY);
    let cannot = "case $text in *NFLOG*) echo 'no such target: NFLOG' >&2; exit 2;; esac";
    let path = with_a_restore_that(&host, cannot);
    let _agent = host.agent_with(&[], &[("PATH", &path)]);
    let reason = "what iptables drops: iptables-nft-restore: no such target: NFLOG";
    assert_eq!(not_sampled(&host), reason);
}

/// Whoever fails for another reason fails without samples, too.
#[test]
fn an_iptables_that_is_busy_samples_when_it_is_not() {
    let host = HybridPair::start("nft", POLICY);
    let busy = host.ovs.rundir().join("busy");
    fs::write(&busy, "").expect("a file");
    let is_busy = format!("[ ! -e {} ] || {{ echo 'the lock is held' >&2; exit 4; }}", busy.display());
    let path = with_a_restore_that(&host, &is_busy);
    let agent = host.agent_with(&[], &[("PATH", &path)]);
    agent.wait_for("the lock is held", 1);
    fs::remove_file(&busy).expect("it is there");
    assert_eq!(not_sampled(&host), Value::Null);
}
