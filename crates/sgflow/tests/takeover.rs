//! A bridge that Neutron's own driver has filtered is taken over from it: its connections, tracked in one zone a network, go on.

mod common;

use std::thread;
use std::time::Duration;

use common::neutron_driver::{add_flow, applied, port, serving, tables_of_neutron};
use common::traffic::{datagram, ends};
use common::{Agent, eventually, flows, ovs};
use lab::{DummyPort, FailMode, Mac, Ovs, OvsOptions, Stream, StreamSpec, Streaming, Vm, VmSpec};
use serde_json::{Value, json};

const FLOWING_BYTES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// What is left of Neutron's driver for this: one zone a network, whose number is the VLAN; a connection is admitted, from whichever side,
/// by its first packet, and the network is a hub.
fn neutrons_driver(ovs: &Ovs) {
    tables_of_neutron(ovs, 0xa1);
    for flow in [
        // Neighbour discovery is nothing that conntrack knows.
        "table=60,priority=110,icmp6,actions=NORMAL",
        "table=60,priority=100,ip,actions=ct(table=72,zone=10)",
        "table=60,priority=100,ipv6,actions=ct(table=72,zone=10)",
        "table=72,priority=70,ct_state=+est-rel-inv+trk,ct_mark=0,actions=NORMAL",
        "table=72,priority=60,ct_state=+new-inv+trk,ip,actions=ct(commit,zone=10),NORMAL",
        "table=72,priority=60,ct_state=+new-inv+trk,ipv6,actions=ct(commit,zone=10),NORMAL",
    ] {
        add_flow(ovs, &format!("cookie=0xa1,{flow}"));
    }
}

/// p-1 may begin what it likes; p-3 and p-2 take what comes to their ports 80 and 53, and may begin nothing.
fn change() -> Value {
    let six = |number: u16, groups: &[&str]| {
        let mut port = port(number, groups);
        port["fixed_ips"] = json!([format!("10.0.0.{number}"), format!("2001:db8::{number}")]);
        port
    };
    let server = |protocol: &str, port: u16| {
        let rule = |ethertype: &str| {
            json!({"direction": "ingress", "ethertype": ethertype, "protocol": protocol,
                   "port_range_min": port, "port_range_max": port})
        };
        json!([rule("IPv4"), rule("IPv6")])
    };
    json!({
        "rules": {"out": [{"direction": "egress", "ethertype": "IPv4"}, {"direction": "egress", "ethertype": "IPv6"}],
                  "web": server("tcp", 80), "dns": server("udp", 53)},
        "ports": {"p-1": six(1, &["out"]), "p-2": six(2, &["dns"]), "p-3": six(3, &["web"])},
        "expect": []
    })
}

/// The same the other way round.
fn answer_to(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (one, other, length) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        for at in 0..length {
            answer.swap(one + at, other + at);
        }
    }
    answer
}

fn passes(from: &DummyPort, to: &DummyPort, frame: &[u8]) -> bool {
    to.take_sent().expect("a look");
    from.receive(frame).expect("the switch takes it");
    !to.take_sent().expect("a look").is_empty()
}

/// Of p-1's question from this port to p-2, whose answer it has had.
fn asked_and_answered(
    (one, two): &(DummyPort, DummyPort),
    source_port: u16,
    port: u16,
) -> (Vec<u8>, Vec<u8>) {
    let question = datagram([10, 0, 0, 1], source_port, port);
    let answer = answer_to(&question);
    assert!(passes(one, two, &question) && passes(two, one, &answer), "Neutron's driver admits both");
    (question, answer)
}

#[test]
fn a_reply_passes_by_the_old_zone_until_the_question_comes_again() {
    let ovs = ovs();
    let ports = ends(&ovs);
    neutrons_driver(&ovs);
    let (question, answer) = asked_and_answered(&ports, 1000, 53);
    let (_, refused) = asked_and_answered(&ports, 1000, 54);
    let _agent = serving(&ovs, &[]);
    applied(&ovs, "s", 1, change());
    let (one, two) = &ports;
    for _ in 0..2 {
        assert!(passes(two, one, &answer), "it began before");
        assert!(!passes(two, one, &refused), "it began before, and no rule admits it");
    }
    let unasked = answer_to(&datagram([10, 0, 0, 1], 1001, 53));
    assert!(!passes(two, one, &unasked), "nobody asked");
    // From the question on the connection is in our zones, the right way round.
    assert!(passes(one, two, &question) && passes(two, one, &answer));
    ovs.appctl("dpctl/flush-conntrack", &["zone=10"]).expect("the old zone is emptied");
    assert!(passes(two, one, &answer) && passes(one, two, &question));
    let tracked = ovs.appctl("dpctl/dump-conntrack", &[]).expect("connections");
    let of_two = tracked.lines().filter(|line| line.contains("src=10.0.0.2,dst=10.0.0.1,sport=53"));
    assert!(
        of_two.clone().all(|line| line.starts_with("udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000")),
        "{tracked}"
    );
    assert_eq!(of_two.count(), 2, "{tracked}");
}

#[test]
fn when_the_time_is_over_a_connection_that_was_silent_begins_anew() {
    let ovs = ovs();
    let ports = ends(&ovs);
    neutrons_driver(&ovs);
    let (question, answer) = asked_and_answered(&ports, 1000, 53);
    let agent = serving(&ovs, &["--takeover-timeout", "2"]);
    applied(&ovs, "s", 1, change());
    let (one, two) = &ports;
    assert!(passes(two, one, &answer));
    agent.wait_for("take-over from Neutron's own driver is over", 1);
    eventually("no flow of the take-over is left", || {
        !flows(&ovs)
            .iter()
            .any(|flow| flow.contains("reg13") || flow.contains("table=109") || flow.contains("table=131"))
    });
    applied(&ovs, "s", 2, json!({}));
    assert!(!passes(two, one, &answer));
    assert!(passes(one, two, &question) && passes(two, one, &answer));
}

#[test]
fn a_restart_goes_on_with_it_and_a_bridge_that_nobody_filtered_needs_none() {
    let ovs = ovs();
    let ports = ends(&ovs);
    neutrons_driver(&ovs);
    let (_, answer) = asked_and_answered(&ports, 1000, 53);
    let agent = serving(&ovs, &[]);
    applied(&ovs, "s", 1, change());
    // Neutron's agent has removed the old driver's flows by now.
    ovs.ofctl(&["-O", "OpenFlow14", "del-flows", "br-int", "table=72"]).expect("they go");
    drop(agent);
    let agent: Agent = serving(&ovs, &[]);
    applied(&ovs, "t", 1, change());
    assert!(passes(&ports.1, &ports.0, &answer));
    assert_eq!(agent.count("applied added=0 modified=0 deleted=0"), 1, "{}", agent.log());
    drop((agent, ports, ovs));

    let ovs = common::ovs();
    let _ports = ends(&ovs);
    tables_of_neutron(&ovs, 0xa1);
    let _agent = serving(&ovs, &[]);
    applied(&ovs, "s", 1, change());
    assert!(!flows(&ovs).iter().any(|flow| flow.contains("table=109")));
}

#[test]
fn streams_of_every_kind_go_on_and_what_no_rule_admits_ends() {
    let ovs = Ovs::start(OvsOptions::default()).expect("Open vSwitch starts");
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let vm = |number: u8| {
        let mac = Mac([0xfa, 0x16, 0x3e, 0, 0, number]);
        let spec = VmSpec::new(&format!("vm-{number}"), &format!("p-{number}"), mac);
        let spec = spec.address(&format!("10.0.0.{number}/24"));
        let spec = spec.and_then(|spec| spec.address(&format!("2001:db8::{number}/64")));
        ovs.add_vm(spec.expect("good addresses").tag(10)).expect("a VM")
    };
    let (client, server): (Vm, Vm) = (vm(1), vm(3));
    neutrons_driver(&ovs);
    let open = |port: u16| -> Vec<Stream> {
        let servers = [server.ipv4(), server.ipv6()].map(|address| address.expect("both families"));
        let kinds = [Streaming::ToServer, Streaming::ToClient, Streaming::BothWays];
        let streams = servers.into_iter().flat_map(|server| kinds.map(|streaming| (server, streaming)));
        let open = |(address, streaming)| {
            let spec = StreamSpec { server: address, port, from: None, streaming };
            Stream::open(&client, &server, &spec).expect("an admitted connection opens")
        };
        streams.map(open).collect()
    };
    let (admitted, refused) = (open(80), open(81));
    let flow = |streams: &[Stream]| {
        for stream in streams {
            stream.wait_for_progress(FLOWING_BYTES, PATIENCE).expect("bytes flow");
            assert!(stream.is_whole(), "bytes are missing or garbled");
        }
    };
    flow(&admitted);
    flow(&refused);
    let _agent = serving(&ovs, &[]);
    applied(&ovs, "s", 1, change());
    let received = |streams: &[Stream]| -> u64 {
        streams.iter().map(|stream| stream.received_by_server() + stream.received_by_client()).sum()
    };
    flow(&admitted);
    let held = received(&refused);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(received(&refused), held, "no rule admits it");
    flow(&admitted);
}
