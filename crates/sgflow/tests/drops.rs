//! `sgflow drops` and the security-group log on a real switch: what is dropped is counted by port and reason, samples are told, nothing that is
//! limited is lost silently, and what looks changes nothing.

mod common;
mod documented;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use common::security_log::{CASES, frames, log_path, logged, told, wanted};
use common::traffic::{SERVICES as POLICY, counted, datagram, ends, refused, spoofed};
use common::{Agent, document, eventually, flows, is_exact, observers, ovs, sgflow, socket, stderr, stdout};
use documented::is_documented;
use lab::{DummyPort, DummySpec, Ovs};
use serde_json::{Value, json};

/// An agent that enforces it, and looks.
fn looked_at(more: &[&str]) -> (Ovs, DummyPort, DummyPort, Agent) {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, POLICY);
    let agent = Agent::start_with(&ovs, more);
    is_exact(&ovs);
    eventually("it looks", || !observers(&ovs).is_empty());
    (ovs, sender, receiver, agent)
}

fn drops(ovs: &Ovs, more: &[&str]) -> String {
    let mut command = sgflow();
    let output =
        command.arg("drops").arg("--api-socket").arg(socket(ovs)).args(more).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

fn drops_json(ovs: &Ovs, more: &[&str]) -> Value {
    serde_json::from_str(&drops(ovs, &[more, &["--json"]].concat())).expect("JSON")
}

#[test]
fn drops_are_counted_by_port_and_reason_and_shown_by_samples() {
    let (ovs, sender, receiver, _agent) = looked_at(&[]);
    let none = drops_json(&ovs, &[]);
    is_documented("Drops", &none);
    assert_eq!(
        (&none["reasons"], &none["samples"], &none["not_sampled"]),
        (&json!([]), &json!([]), &json!(null))
    );
    let admitted = datagram([10, 0, 0, 1], 4000, 53);
    sender.receive_all(&[spoofed(), refused(4000), admitted.clone()]).expect("the switch takes them");
    eventually("one of each is counted and shown", || {
        let drops = drops_json(&ovs, &[]);
        let samples = drops["samples"].as_array().expect("a list").len();
        (counted(&drops, "", "spoofed-ip").0, counted(&drops, "", "no-rule").0, samples) == (1, 1, 2)
    });
    assert_eq!(receiver.take_sent().expect("what arrived"), [admitted]);
    let drops_now = drops_json(&ovs, &[]);
    let mut samples = drops_now["samples"].as_array().unwrap().clone();
    for sample in &mut samples {
        is_documented("DropSample", sample);
        sample.as_object_mut().unwrap().remove("time");
        sample.as_object_mut().unwrap().remove("number");
    }
    samples.sort_by_key(|sample| sample["reason"].to_string());
    let sample = |port: &str, interface: &str, direction: &str, reason: &str, packet: &str| json!({"port": port, "interface": interface, "direction": direction, "reason": reason, "packet": packet});
    assert_eq!(
        samples,
        [
            sample("p-2", "tap2", "ingress", "no-rule", "udp 10.0.0.1:4000 -> 10.0.0.2:54"),
            sample("p-1", "tap1", "egress", "spoofed-ip", "udp 10.0.0.66:4000 -> 10.0.0.2:53"),
        ]
    );
    // From their first sample on they are counted by port.
    eventually("they have flows of their own", || {
        observers(&ovs).iter().filter(|flow| flow.contains("priority=110")).count() == 2
    });
    sender.receive_all(&vec![spoofed(); 7]).expect("the switch takes them");
    sender.receive_all(&vec![refused(4001); 5]).expect("the switch takes them");
    eventually("by port", || {
        let drops = drops_json(&ovs, &[]);
        (counted(&drops, "p-1", "spoofed-ip"), counted(&drops, "p-2", "no-rule")) == ((8, 7), (6, 5))
    });
    let of_one = drops_json(&ovs, &["--port", "tap1"]);
    // What is a port's alone: its first sample, of which there was no counter yet, is not in it.
    assert_eq!((counted(&of_one, "p-1", "spoofed-ip"), counted(&of_one, "p-2", "no-rule")), ((7, 7), (0, 0)));
    let text = drops(&ovs, &["--port", "p-1"]);
    assert!(text.starts_with("7 packets dropped at p-1 since 20") && !text.contains("no-rule"), "{text}");
    assert!(of_one["samples"].as_array().unwrap().iter().all(|sample| sample["port"] == "p-1"), "{of_one}");
    for nobody in ["nope", "p-", "tap1x"] {
        for more in [&[][..], &["--json"], &["--follow"]] {
            let mut command = sgflow();
            command.args(["drops", "--port", nobody]).args(more).arg("--api-socket").arg(socket(&ovs));
            let output = command.output().expect("sgflow runs");
            let said = format!("no interface of the bridge says that it is port {nobody}, or is called so");
            assert!(
                output.status.code() == Some(1) && stderr(&output).contains(&said),
                "{}",
                stderr(&output)
            );
        }
    }
    let text = drops(&ovs, &[]);
    assert!(
        text.contains("14 packets dropped since 20") && text.contains("\nport p-1\n  spoofed-ip"),
        "{text}"
    );
    is_exact(&ovs);
    let decoded =
        sgflow().args(["flows", "--json", "--ovsdb", &ovs.db_remote()]).output().expect("sgflow runs");
    let decoded: Value = serde_json::from_slice(&decoded.stdout).expect("JSON");
    let lines = decoded["flows"].as_array().expect("a list");
    assert!(lines.iter().all(|flow| !flow["purpose"].is_null()), "every line is named");
    let of_port = |flow: &&Value| flow["table"] == 128 && flow["priority"] == 110;
    let purposes: Vec<&str> =
        lines.iter().filter(of_port).map(|flow| flow["purpose"].as_str().unwrap()).collect();
    assert!(
        purposes.iter().any(|text| text.starts_with("drops of p-1 counted and sampled as spoofed-ip")),
        "{purposes:?}"
    );
}

#[test]
fn what_looks_comes_back_and_goes_with_its_port_and_a_restart_sends_nothing() {
    let (ovs, sender, _receiver, agent) = looked_at(&[]);
    sender.receive_all(&vec![spoofed(); 3]).expect("the switch takes them");
    eventually("p-1 is counted", || {
        observers(&ovs).iter().any(|flow| flow.contains("priority=110,reg5=0x1,"))
    });
    let held = observers(&ovs);
    drop(agent);
    let meters = || ovs.ofctl(&["-O", "OpenFlow14", "dump-meters", "br-int"]).expect("meters");
    let (flows_before, meters_before) = (flows(&ovs), meters());
    assert!(
        meters_before.contains("meter=21351") && meters_before.contains("meter=21352"),
        "{meters_before}"
    );
    let counters = |priority: &str| -> Vec<String> {
        let text = ovs.ofctl(&["-O", "OpenFlow14", "dump-flows", "br-int", "table=128"]).expect("a dump");
        let durations = text.lines().filter(|line| line.contains(priority));
        durations.map(|line| line.trim().split(',').nth(1).unwrap_or_default().trim().to_owned()).collect()
    };
    let age = |text: &str| -> f64 {
        text.trim_start_matches("duration=").trim_end_matches('s').parse().expect("seconds")
    };
    let ages_before: Vec<f64> = counters("priority=110").iter().map(|text| age(text)).collect();
    let agent = Agent::start(&ovs);
    is_exact(&ovs);
    // What it looks at first is what the one before left.
    eventually("it looks", || counted(&drops_json(&ovs, &[]), "p-1", "spoofed-ip").1 > 0);
    assert_eq!((observers(&ovs), flows(&ovs), meters()), (held.clone(), flows_before, meters_before));
    let ages: Vec<f64> = counters("priority=110").iter().map(|text| age(text)).collect();
    assert!(ages.iter().zip(&ages_before).all(|(now, before)| now > before), "{ages:?} {ages_before:?}");
    assert!(!agent.log().contains("not as it was left"), "{}", agent.log());
    let meters_after = meters();

    // Somebody takes the meters away: a flow is bound to its meter when it comes, and comes anew.
    ovs.ofctl(&["-O", "OpenFlow14", "del-meters", "br-int"]).expect("meters go");
    let young = |text: &String| age(text) < ages[0];
    eventually("all is bound again", || {
        _ = drops_json(&ovs, &[]);
        meters() == meters_after
            && !counters("priority=110").is_empty()
            && counters("priority=110").iter().all(young)
    });
    // And the flows.
    let told = || {
        let drops = drops_json(&ovs, &[]);
        (counted(&drops, "", "spoofed-ip").0, drops["since"].clone())
    };
    let before = told();
    assert_eq!(before.0, 3);
    ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int", "table=128"]).expect("flows go");
    eventually("all is back", || {
        _ = drops_json(&ovs, &[]);
        observers(&ovs) == held
    });
    is_exact(&ovs);
    assert_eq!(told(), before, "what was counted is not forgotten");
    // The number of a port that is pulled out may be another's next.
    ovs.del_port("tap1").expect("the port goes");
    eventually("it is counted no more", || !observers(&ovs).iter().any(|flow| flow.contains("reg5=0x1,")));
    let after = drops_json(&ovs, &[]);
    assert_eq!(after["ports"], json!([]));
}

/// What a guest sends to all comes back to nobody, and is no drop at itself.
#[test]
fn a_guest_that_speaks_to_all_loses_nothing() {
    let (ovs, sender, _receiver, _agent) = looked_at(&[]);
    let mut discover = datagram([10, 0, 0, 1], 68, 67);
    discover[..6].fill(0xff);
    sender.receive_all(&vec![discover; 5]).expect("the switch takes them");
    let look = || drops_json(&ovs, &[]);
    eventually("the other's copies are dropped", || counted(&look(), "", "no-rule").0 == 5);
    let drops = look();
    let samples = drops["samples"].as_array().expect("a list");
    assert!(samples.iter().all(|sample| sample["port"] == "p-2"), "{drops}");
    assert_eq!(counted(&drops, "p-1", "no-rule").1, 0, "{drops}");
    let decoded =
        sgflow().args(["flows", "--ovsdb", &ovs.db_remote(), "--json"]).output().expect("sgflow runs");
    let decoded: Value = serde_json::from_slice(&decoded.stdout).expect("JSON");
    let echo = decoded["flows"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|flow| flow["priority"] == 115 && flow["table"] == 128);
    let purpose = echo.expect("one for each port")["purpose"].as_str().expect("a text").to_owned();
    assert!(purpose.starts_with("the copy for itself of what p-"), "{purpose}");
}

/// A number may be another's by the time that somebody looks again.
#[test]
fn what_was_dropped_at_a_port_is_not_that_of_who_has_its_number_next() {
    let (ovs, sender, _receiver, agent) = looked_at(&[]);
    sender.receive_all(&vec![spoofed(); 3]).expect("the switch takes them");
    eventually("p-1 is counted", || counted(&drops_json(&ovs, &[]), "p-1", "spoofed-ip").1 > 0);
    let dropped = counted(&drops_json(&ovs, &[]), "", "spoofed-ip").0;
    drop(agent);
    ovs.del_port("tap1").expect("the port goes");
    let (port_id, tag, ofport) = (Some("p-3".to_owned()), Some(10), Some(1));
    let next = ovs
        .add_dummy_port("br-int", DummySpec { port_id, tag, ofport, ..DummySpec::new("tap3") })
        .expect("a port");
    document(&ovs, &POLICY.replace("id: p-1", "id: p-3"));
    let _agent = Agent::start(&ovs);
    is_exact(&ovs);
    let look = || drops_json(&ovs, &[]);
    eventually("it looks", || look()["not_sampled"].is_null());
    assert_eq!((counted(&look(), "p-3", "spoofed-ip").1, look()["ports"].clone()), (0, json!([])));
    assert_eq!(counted(&look(), "", "spoofed-ip").0, dropped, "what was dropped stays in the sum");
    next.receive_all(&vec![spoofed(); 5]).expect("the switch takes them");
    eventually("its own", || (1..=5).contains(&counted(&look(), "p-3", "spoofed-ip").1));
    eventually("all of it", || counted(&look(), "", "spoofed-ip").0 == dropped + 5);
}

#[test]
fn without_samples_drops_are_counted_by_reason_alone() {
    let ovs = ovs();
    let (sender, _receiver) = ends(&ovs);
    document(&ovs, POLICY);
    let _agent = Agent::start_with(&ovs, &["--drops-samples", "0"]);
    is_exact(&ovs);
    sender.receive_all(&vec![spoofed(); 4]).expect("the switch takes them");
    eventually("counted", || counted(&drops_json(&ovs, &[]), "", "spoofed-ip").0 == 4);
    assert_eq!(observers(&ovs), [""; 0]);
    assert_eq!(drops_json(&ovs, &[])["not_sampled"], "drops.samples is 0");
}

/// Under a flood some are on their way when the flows go that an agent before this one had for them.
#[test]
fn a_sample_that_nobody_wants_changes_nothing() {
    let ovs = ovs();
    let (sender, _receiver) = ends(&ovs);
    document(&ovs, POLICY);
    let _agent = Agent::start_with(&ovs, &["--drops-samples", "0"]);
    is_exact(&ovs);
    eventually("it looks", || drops_json(&ovs, &[])["not_sampled"] == "drops.samples is 0");
    let late = "cookie=0x7,table=128,priority=200,actions=controller(id=21351,max_len=128)";
    ovs.ofctl(&["add-flow", "br-int", late]).expect("a flow");
    sender.receive_all(&vec![spoofed(); 3]).expect("the switch takes them");
    eventually("they were sent", || {
        let flow = ovs.ofctl(&["dump-flows", "br-int", "cookie=0x7/-1"]).expect("a dump");
        flow.contains("n_packets=3")
    });
    for _ in 0..3 {
        assert_eq!(drops_json(&ovs, &[])["sampled"], 0);
        assert_eq!(observers(&ovs), [""; 0]);
    }
}

#[test]
fn what_is_limited_is_counted() {
    let (ovs, sender, _receiver, _agent) = looked_at(&["--drops-samples", "5"]);
    const SENT: u64 = 4000;
    for _ in 0..SENT / 100 {
        sender.receive_all(&vec![refused(4000); 100]).expect("the switch takes them");
    }
    // The dummy interface's own queue drops silently: what came is what the port counts.
    let came = || -> u64 {
        ovs.vsctl(&["get", "Interface", "tap1", "statistics:rx_packets"])
            .expect("a counter")
            .trim()
            .parse()
            .expect("a number")
    };
    eventually("every one is counted, and told as sampled or as limited", || {
        let drops = drops_json(&ovs, &[]);
        let of = |key: &str| drops[key].as_u64().expect("a number");
        let total = counted(&drops, "p-2", "no-rule").0;
        total > SENT / 2 && total == came() && of("sampled") + of("limited") == total
    });
    let told = drops_json(&ovs, &[]);
    let sampled = told["sampled"].as_u64().unwrap();
    assert!((5..SENT / 10).contains(&sampled), "{sampled}");
    let text = drops(&ovs, &[]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(" were not: drops.samples lets no more through, or nobody looked"), "{text}");
}

#[test]
fn drops_are_followed_as_they_happen() {
    let (ovs, sender, _receiver, _agent) = looked_at(&[]);
    let mut child = sgflow()
        .args(["drops", "--follow", "--json", "--port", "p-2", "--api-socket"])
        .arg(socket(&ovs))
        .stdout(Stdio::piped())
        .spawn()
        .expect("sgflow runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    // It tells of what comes after it began, which is known when it tells of something.
    let sent = AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            for source_port in 5000..6000 {
                if sent.load(Relaxed) {
                    return;
                }
                sender.receive_all(&[spoofed(), refused(source_port)]).expect("the switch takes them");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        let line = lines.next();
        sent.store(true, Relaxed);
        line
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let sample: Value = serde_json::from_str(&line.expect("a line").expect("text")).expect("JSON");
    is_documented("DropSample", &sample);
    assert_eq!((&sample["port"], &sample["reason"]), (&json!("p-2"), &json!("no-rule")));
}

/// An agent that logs, with these options.
fn logging(more: &[&str]) -> (Ovs, DummyPort, DummyPort, Agent) {
    let ovs = ovs();
    let (sender, receiver) = ends(&ovs);
    document(&ovs, POLICY);
    let path = log_path(&ovs).display().to_string();
    let agent = Agent::start_with(&ovs, &[&["--security-log-path", &path], more].concat());
    is_exact(&ovs);
    eventually("it looks", || !observers(&ovs).is_empty());
    (ovs, sender, receiver, agent)
}

/// Without what differs from run to run.
fn plain(line: &Value) -> Value {
    let mut line = line.clone();
    line.as_object_mut().expect("an object").remove("time").expect("a time");
    line
}

#[test]
fn first_packets_are_logged_with_their_rules_and_once() {
    let (ovs, sender, receiver, _agent) = logging(&[]);
    let admitted = datagram([10, 0, 0, 1], 4000, 514);
    sender.receive_all(&[vec![admitted; 3], vec![refused(4000); 3]].concat()).expect("the switch takes them");
    eventually("three lines", || logged(&log_path(&ovs)).len() >= 3);
    assert_eq!(receiver.take_sent().expect("what arrived").len(), 3);
    eventually("all samples were told of", || drops_json(&ovs, &[])["sampled"].as_u64() >= Some(1));
    let lines = logged(&log_path(&ovs));
    assert_eq!(
        lines.len(),
        4,
        "egress and ingress of what is admitted, egress and the drop of what is not: {lines:#?}"
    );
    let of = |port: &str, event: &str, dst_port: u64| {
        let is_it =
            |line: &&Value| line["port"] == port && line["event"] == event && line["dst_port"] == dst_port;
        plain(lines.iter().find(is_it).unwrap_or_else(|| panic!("{port} {event} {dst_port}: {lines:#?}")))
    };
    let packet = |mut line: Value, src_port: u16, dst_port: u16| {
        let packet = json!({
            "eth_src": "fa:16:3e:00:00:01", "eth_dst": "fa:16:3e:00:00:02", "ethertype": "ipv4", "protocol": "udp",
            "src": "10.0.0.1", "dst": "10.0.0.2", "src_port": src_port, "dst_port": dst_port, "length": 60,
        });
        line.as_object_mut().unwrap().extend(packet.as_object().unwrap().clone());
        line
    };
    let egress = json!({
        "event": "accept", "port": "p-1", "interface": "tap1", "direction": "egress", "groups": ["sg-out"],
        "rules": [{"rule": "e", "group": "sg-out", "group_name": "clients"}],
    });
    assert_eq!(of("p-1", "accept", 514), packet(egress.clone(), 4000, 514));
    assert_eq!(of("p-1", "accept", 54), packet(egress, 4000, 54));
    let ingress = json!({
        "event": "accept", "port": "p-2", "interface": "tap2", "direction": "ingress", "groups": ["sg-in"],
        "rules": [{"rule": "log", "group": "sg-in", "group_name": "servers", "remote_group": "sg-out"}],
    });
    assert_eq!(of("p-2", "accept", 514), packet(ingress, 4000, 514));
    let drop = json!({
        "event": "drop", "port": "p-2", "interface": "tap2", "direction": "ingress", "groups": ["sg-in"],
        "reason": "no-rule",
    });
    assert_eq!(of("p-2", "drop", 54), packet(drop, 4000, 54));
    is_exact(&ovs);
}

#[test]
fn a_disk_that_is_full_leaves_no_half_of_a_line() {
    let ovs = ovs();
    let (sender, _receiver) = ends(&ovs);
    document(&ovs, POLICY);
    let small = ovs.rundir().join("small");
    let path = small.join("security.jsonl").display().to_string();
    let options = ["--security-log-path", &path, "--security-log-events", "drop"];
    let agent = Agent::start_with_little_room(&ovs, &small, "4k", &options);
    is_exact(&ovs);
    eventually("it looks", || !observers(&ovs).is_empty());
    let seen = PathBuf::from(format!("/proc/{}/root", agent.child.id())).join(path.trim_start_matches('/'));
    let told =
        |from: u16| told(&seen).iter().filter(|(_, event, _)| event == "drop").count() >= usize::from(from);
    let mut number = 4000;
    eventually("the disk is full", || {
        sender.receive_all(&[refused(number)]).expect("the switch takes it");
        number += 1;
        agent.count("cannot be written") > 0
    });
    let text = fs::read_to_string(&seen).expect("a log");
    assert!(text.len() > 3000 && text.ends_with('\n'), "{text}");
    let lines = u16::try_from(logged(&seen).len()).expect("few");
    let wider = ["--mount", "--target", &agent.child.id().to_string(), "mount", "-o", "remount,size=1m"];
    let remounted = Command::new("nsenter").args(wider).arg(&small).status().expect("nsenter");
    assert!(remounted.success());
    eventually("more, of which each is a line of its own", || {
        sender.receive_all(&[refused(number)]).expect("the switch takes it");
        number += 1;
        told(lines + 2)
    });
}

#[test]
fn a_log_is_of_what_it_is_asked_for() {
    for (options, expected) in CASES {
        let (ovs, sender, _receiver, _agent) = logging(options);
        sender.receive_all(&frames()).expect("the switch takes them");
        let (told, wanted) = (|| told(&log_path(&ovs)), wanted(expected));
        eventually(&format!("{options:?}: {wanted:?}"), || told() == wanted);
        // Nothing else comes: all samples of these frames are there when those of more are.
        sender.receive_all(&[datagram([10, 0, 0, 1], 4001, 514)]).expect("the switch takes it");
        sender.receive_all(&[refused(4001)]).expect("the switch takes it");
        eventually("more", || told().len() > wanted.len());
        assert!(told().iter().all(|line| wanted.contains(line)), "{options:?}: {:?}", told());
    }
}

#[test]
fn a_port_that_joins_a_logged_group_is_logged_from_then_on() {
    let (ovs, sender, _receiver, _agent) =
        logging(&["--security-log-groups", "sg-new", "--security-log-events", "accept"]);
    let admits = |ovs: &Ovs| observers(ovs).iter().filter(|flow| flow.contains("table=125")).count();
    assert_eq!(admits(&ovs), 0);
    let joined = POLICY.replace("security_groups: [sg-in]}", "security_groups: [sg-in, sg-new]}");
    let joined = joined.replace("- {id: sg-out,", "- {id: sg-new, security_group_rules: []}\n- {id: sg-out,");
    document(&ovs, &joined);
    eventually("two flows look, one a direction", || admits(&ovs) == 2);
    is_exact(&ovs);
    sender.receive_all(&[datagram([10, 0, 0, 1], 4000, 53)]).expect("the switch takes it");
    eventually("a line", || logged(&log_path(&ovs)).len() == 1);
    assert_eq!(logged(&log_path(&ovs))[0]["port"], "p-2");
    document(&ovs, POLICY);
    eventually("none looks any more", || admits(&ovs) == 0);
}

/// Who follows what a host drops sees the agent upgraded, and goes on.
#[test]
fn drops_are_followed_over_a_restart_of_the_agent() {
    let (ovs, sender, _receiver, agent) = looked_at(&[]);
    let said = ovs.rundir().join("follow.err");
    let mut child = sgflow()
        .args(["drops", "--follow", "--json", "--port", "p-2", "--api-socket"])
        .arg(socket(&ovs))
        .stdout(Stdio::piped())
        .stderr(File::create(&said).expect("a file"))
        .spawn()
        .expect("sgflow runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    // It has asked before the agent goes when it tells of something.
    let told = |lines: &mut dyn Iterator<Item = std::io::Result<String>>| {
        let is_told = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for source_port in (5000..6000).take_while(|_| !is_told.load(Relaxed)) {
                    sender.receive_all(&[refused(source_port)]).expect("the switch takes it");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            });
            let line = lines.next();
            is_told.store(true, Relaxed);
            line.expect("a line").expect("text")
        })
    };
    told(&mut lines);
    drop(agent);
    let said = || fs::read_to_string(&said).expect("what it says");
    eventually("it says so", || said().contains("no sgflow agent answers"));
    let _agent = Agent::start(&ovs);
    is_exact(&ovs);
    let sample: Value = serde_json::from_str(&told(&mut lines)).expect("JSON");
    assert_eq!(sample["reason"], "no-rule");
    assert_eq!((said().lines().count(), child.try_wait().expect("its state")), (1, None), "{}", said());
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// `sgflow drops --follow | head -1`, on a host where nothing more is dropped.
#[test]
fn who_has_seen_enough_ends_it() {
    let (ovs, _sender, _receiver, _agent) = looked_at(&[]);
    let mut child = sgflow()
        .args(["drops", "--follow", "--api-socket"])
        .arg(socket(&ovs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sgflow runs");
    drop(child.stdout.take());
    eventually("it ends", || child.try_wait().expect("its state").is_some());
    let ended = child.wait_with_output().expect("it has ended");
    assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""));
}
