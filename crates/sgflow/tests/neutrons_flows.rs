//! A switch on which Neutron's own openvswitch driver filters: the commands that only look work there before anything of ours is installed.

mod common;
mod documented;

use std::path::{Path, PathBuf};

use common::{eventually, ovs, sgflow, stderr, stdout};
use documented::is_printed_as;
use etherparse::PacketBuilder;
use expect_test::expect;
use lab::{DummyPort, DummySpec, FailMode, Ovs};
use serde_json::Value;

/// See crates/explain/tests/dumps/README.md: the flows, and the policy that they were made of.
const FLOWS: &str = include_str!("../../explain/tests/dumps/driver-names.txt");
const POLICY: &str = "../explain/tests/dumps/driver-policy.json";
/// Its interfaces, their OpenFlow ports and whose they are.
const PORTS: [(&str, u16, Option<&str>); 5] = [
    ("int-br-phys", 1, None),
    ("tap-a", 2, Some("74ad9038-8e38-4a44-87d6-2cb924362bf8")),
    ("tap-d", 3, Some("654b9bc6-76e9-4e9a-a8e9-2e552ec64893")),
    ("tap-c", 4, Some("ca38e25e-31fd-4920-ad3c-d079584312af")),
    ("tap-b", 5, Some("35f778f4-f6ea-46a8-bb6a-4f59d7f17ef6")),
];

struct Switch {
    ovs: Ovs,
    ports: Vec<DummyPort>,
    policy: PathBuf,
}

impl Switch {
    fn start() -> Self {
        let ovs = ovs();
        ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
        let plug = |(name, ofport, id): (&str, u16, Option<&str>)| {
            let spec = DummySpec {
                port_id: id.map(str::to_owned),
                tag: id.map(|_| 11),
                ofport: Some(ofport),
                ..DummySpec::new(name)
            };
            ovs.add_dummy_port("br-int", spec).expect("a port")
        };
        let ports = PORTS.into_iter().map(plug).collect();
        let flows: String = FLOWS.lines().filter_map(as_it_is_added).collect();
        let file = ovs.rundir().join("flows");
        std::fs::write(&file, flows).expect("flows");
        let file = file.to_str().expect("UTF-8");
        ovs.ofctl(&["-O", "OpenFlow14", "--names", "add-flows", "br-int", file]).expect("ovs-ofctl does it");
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join(POLICY);
        Switch { ovs, ports, policy }
    }

    /// Exit code, and what was printed.
    fn say(&self, words: &str) -> (Option<i32>, String) {
        let mut command = sgflow();
        command.args(words.split(' ')).arg("--policy").arg(&self.policy);
        let output = command.arg("--ovsdb").arg(self.ovs.db_remote()).output().expect("sgflow runs");
        (output.status.code(), stdout(&output) + &stderr(&output))
    }
}

/// A line of a dump without its counters.
fn as_it_is_added(line: &str) -> Option<String> {
    let parts =
        line.trim().split(", ").filter(|part| !part.starts_with("duration=") && !part.starts_with("n_"));
    let flow = parts.collect::<Vec<_>>().join(",").replace("reset_counts ", "");
    flow.contains("actions=").then(|| flow + "\n")
}

#[test]
fn a_packet_is_explained_by_the_flows_of_neutrons_driver() {
    let switch = Switch::start();
    let (code, text) = switch.say("explain 74ad9038 --from 35f778f4 --proto tcp --dport 22");
    expect![[r#"
        35f778f4-f6ea-46a8-bb6a-4f59d7f17ef6 egress: dropped (no-rule): nearest is rule database-3 of database, which allows IPv4 udp/53 to anywhere; the protocol is tcp
        74ad9038-8e38-4a44-87d6-2cb924362bf8 ingress: dropped (no-rule): nearest is rule default-3 of default, which allows IPv4 everything from its own group; the source 10.0.0.2 is no member of the group
          packet: tcp 10.0.0.2:49152 -> 10.0.0.1:22, new
          br-int: 35f778f4-f6ea-46a8-bb6a-4f59d7f17ef6 egress: the flows of Neutron's
            own driver agree: dropped; so does the switch's own trace
            0 local_switching       all other frames go on
            58 packet_rate_limit    no limit of packet rate: goes on
            59 bandwidth_rate_limit no limit of bandwidth: goes on
            60 transient            35f778f4 sends: its egress rules judge
            71 base_egress          35f778f4 may send IPv4 from 10.0.0.2 with MAC
                                    fa:16:3e:00:00:02: tracked, then its rules judge
            72 rules_egress         new connections sent by 35f778f4 that no egress rule
                                    admits: dropped
            93 dropped_traffic      whatever the firewall drops (for others to count or
                                    log)
          br-int: 74ad9038-8e38-4a44-87d6-2cb924362bf8 ingress: the flows of Neutron's
            own driver agree: dropped; so does the switch's own trace
            60 transient         VLAN 11, to MAC fa:16:3e:00:00:01: to 74ad9038, whose
                                 ingress rules judge
            81 base_ingress      IPv4 to 74ad9038: tracked, then its rules judge
            82 rules_ingress     new connections to 74ad9038 that no ingress rule
                                 admits: dropped
            93 dropped_traffic   whatever the firewall drops (for others to count or
                                 log)
    "#]].assert_eq(&text);
    assert_eq!(code, Some(0));
    let (code, text) = switch.say("explain 35f778f4 --from 10.0.0.5 --proto tcp --dport 5432 --json");
    assert_eq!(code, Some(0), "{text}");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    is_printed_as("Explain", &told);
    let way = &told["answers"][0]["switch"];
    is_printed_as("Way", way);
    assert_eq!(
        (&way["writer"], &way["agrees"], &way["not_traced"]),
        (&"neutron".into(), &true.into(), &Value::Null)
    );
    let rules = way["rules"].as_array().expect("rules");
    assert!(rules.contains(&"database-5".into()), "{rules:?}");
    for (words, agrees, part) in [
        (
            "654b9bc6 --to 198.51.100.1 --proto udp --dport 123",
            true,
            "accepted; so does the switch's own trace",
        ),
        (
            "654b9bc6 --from 198.51.100.1 --proto udp --dport 123",
            true,
            "accepted; so does the switch's own trace",
        ),
        ("74ad9038 --from 10.0.0.3 --proto arp", true, "accepted; so does"),
        ("74ad9038 --to 10.0.0.3 --proto arp --address 10.0.0.66", true, "dropped; so does"),
        (
            "35f778f4 --from 10.0.0.9 --proto udp --sport 123 --dport 40000 --state reply",
            true,
            "until they mark",
        ),
        (
            "74ad9038 --from 10.0.0.9 --proto tcp --sport 443 --dport 40000 --state reply",
            true,
            "driver agree: accepted; so does",
        ),
        // Of another mind than the law.
        ("74ad9038 --from 10.0.0.3 --proto icmp --state invalid", false, "disagree: dropped"),
    ] {
        let (code, text) = switch.say(&format!("explain {words}"));
        let unfolded = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unfolded.contains(part), "{words}: {text}");
        assert_eq!(
            (code, text.contains("ALARM")),
            (Some(if agrees { 0 } else { 4 }), !agrees),
            "{words}: {text}"
        );
    }
}

#[test]
fn a_flow_that_was_lost_is_an_alarm() {
    let switch = Switch::start();
    let lost = "table=82,tcp,reg5=5,tp_dst=5432";
    switch.ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int", lost]).expect("ovs-ofctl does it");
    let (code, text) = switch.say("explain 35f778f4 --from 10.0.0.5 --proto tcp --dport 5432");
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("ALARM: the"), "{text}");
}

/// What lets more pass than the driver would, for good or before it is asked.
#[test]
fn a_flow_of_others_is_an_alarm() {
    let switch = Switch::start();
    let reply = "explain 35f778f4 --from 10.0.0.9 --proto udp --sport 123 --dport 40000 --state reply";
    let first = "explain 35f778f4 --from 10.0.0.9 --proto tcp --dport 22";
    for (flow, words) in [
        ("table=82,priority=200,reg5=5 actions=output:5", reply),
        ("table=82,priority=200,reg5=5 actions=clone(output:5)", first),
        ("table=0,priority=65500 actions=NORMAL", first),
    ] {
        assert_eq!(switch.say(words).0, Some(0), "{words}");
        switch.ovs.ofctl(&["-O", "OpenFlow14", "add-flow", "br-int", flow]).expect("ovs-ofctl does it");
        let (code, text) = switch.say(words);
        let unfolded = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == Some(4) && unfolded.contains("a flow of others may let it pass"), "{flow}: {text}");
        let key = flow.split(" actions=").next().unwrap_or_default();
        switch
            .ovs
            .ofctl(&["-O", "OpenFlow14", "--strict", "del-flows", "br-int", key])
            .expect("ovs-ofctl does it");
    }
    // The last step is lost, and with it what was admitted.
    switch.ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int", "table=73"]).expect("ovs-ofctl does it");
    let (code, text) = switch.say("explain 74ad9038 --to 198.51.100.1 --proto tcp --dport 22");
    assert!(code == Some(4) && text.contains("disagree"), "{text}");
}

#[test]
fn limits_of_rate_are_no_matter() {
    let switch = Switch::start();
    let words = "explain 74ad9038 --to 198.51.100.1 --proto tcp --dport 22";
    let before = switch.say(words);
    for flow in [
        "table=58,priority=100,in_port=2 actions=goto_table:59",
        "table=59,priority=100,in_port=2 actions=set_queue:3,goto_table:60",
    ] {
        switch.ovs.ofctl(&["-O", "OpenFlow14", "add-flow", "br-int", flow]).expect("ovs-ofctl does it");
    }
    let limited = switch.say(words);
    assert_eq!((before.0, limited.0), (Some(0), Some(0)), "{}", limited.1);
    assert!(limited.1.contains("59 bandwidth_rate_limit limit of bandwidth"), "{}", limited.1);
}

#[test]
fn connections_are_listed_with_their_rules() {
    let switch = Switch::start();
    let [_, web, _, sender, _] = switch.ports.as_slice() else { panic!("five ports") };
    let send = |source: u16| {
        let mac = |last| [0xfa, 0x16, 0x3e, 0, 0, last];
        let builder = PacketBuilder::ethernet2(mac(3), mac(1)).ipv4([10, 0, 0, 3], [10, 0, 0, 1], 64);
        let mut frame = Vec::new();
        builder.udp(source, 514).write(&mut frame, b"!").expect("a frame");
        sender.receive_all(&[frame]).expect("the switch takes it");
    };
    send(4000);
    eventually("it arrived", || web.take_sent().expect("what arrived").len() == 1);
    let listed = |port: &str| {
        let (code, text) = switch.say(&format!("connections {port}"));
        assert_eq!(code, Some(0), "{text}");
        text
    };
    expect![[r#"
        74ad9038-8e38-4a44-87d6-2cb924362bf8: 1 connections in zone 11
          udp 10.0.0.3:4000 -> 10.0.0.1:514
            ingress: admitted: rule default-3 of default allows IPv4 everything from its
              own group
        Neutron's own driver filters here; the zone is that of the network
    "#]]
    .assert_eq(&listed("74ad9038"));
    expect![[r#"
        ca38e25e-31fd-4920-ad3c-d079584312af: 1 connections in zone 11
          udp 10.0.0.3:4000 -> 10.0.0.1:514
            egress: admitted: rule default-1 of default allows IPv4 everything to
              anywhere (so does web-1 of web)
        Neutron's own driver filters here; the zone is that of the network
    "#]]
    .assert_eq(&listed("ca38e25e"));
    expect![[r#"
        35f778f4-f6ea-46a8-bb6a-4f59d7f17ef6: 0 connections in zone 11
        Neutron's own driver filters here; the zone is that of the network
    "#]]
    .assert_eq(&listed("35f778f4"));
}

/// What ours would do is no news where none is.
#[test]
fn nothing_is_compared_with_what_is_not_ours() {
    let switch = Switch::start();
    let (code, text) = switch.say("diff");
    assert_eq!(code, Some(4), "{text}");
    let told = "packets: not compared: Neutron's own driver filters on br-int, and sgflow does not yet";
    assert!(text.contains(told) && text.contains("connections: not listed: they are in the zones"), "{text}");
    let (code, text) = switch.say("verify");
    assert_eq!(code, Some(4), "{text}");
    let second = text.lines().nth(1);
    assert_eq!(second, Some("  no flow is sgflow's: Neutron's own driver filters here"), "{text}");

    // Nor with what a bridge does of its own.
    let plain = ovs();
    plain.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    plain.ofctl(&["-O", "OpenFlow14", "add-flow", "br-int", "actions=NORMAL"]).expect("ovs-ofctl does it");
    let switch = Switch { ovs: plain, ports: Vec::new(), policy: switch.policy };
    let (_, text) = switch.say("diff");
    assert!(text.contains("packets: not compared: flows of others are on br-int"), "{text}");
}
