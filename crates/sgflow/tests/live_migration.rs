//! A guest moves to another host while it runs: there its port is enforced before it resumes, and its connections go on.
//!
//! Those in which it says something: what comes in first is judged as a beginning there, where nobody knows the connection.

mod common;

use std::process::Command;
use std::time::Duration;

use common::neutron_driver::{applied, serving, tables_of_neutron};
use common::{Agent, is_open};
use lab::{FailMode, Mac, NetNs, Ovs, OvsOptions, PingVerdict, Stream, StreamSpec, Streaming, Vm, VmSpec};
use serde_json::{Value, json};

const FLOWING_BYTES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);
const GUEST: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);
/// Of the interface by which the guest is plugged in where it goes to.
const OFPORT: u16 = 77;

fn ip(netns: &NetNs, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split(' ')).output().expect("ip(8)");
    let output = netns.enter(run).expect("the namespace");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A host with an agent, and its end of the cable to the other one.
fn host(uplink: &str) -> (Ovs, impl Fn(&Ovs) -> Agent) {
    let ovs = Ovs::start(OvsOptions::default()).expect("Open vSwitch starts");
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    tables_of_neutron(&ovs, 0xa1);
    let uplink = uplink.to_owned();
    let begin = move |ovs: &Ovs| {
        let plug = ["--", "set", "Interface", &uplink, "external_ids:sgflow-network=true"];
        ovs.vsctl(&[&["add-port", "br-int", &uplink], &plug[..]].concat()).expect("the cable");
        serving(ovs, &[])
    };
    (ovs, begin)
}

/// The guest may begin what it likes; the peer takes what members of the guest's group send to port 80.
fn change(ports: &[(&str, u8, &str)]) -> Value {
    let port = |(id, number, group): &(&str, u8, &str)| {
        let port = json!({
            "network_id": "n", "mac_address": format!("fa:16:3e:00:00:{number:02x}"),
            "fixed_ips": [format!("10.0.0.{number}"), format!("2001:db8::{number}")], "security_groups": [group]
        });
        ((*id).to_owned(), port)
    };
    let web = |ethertype: &str| {
        json!({"direction": "ingress", "ethertype": ethertype, "protocol": "tcp",
               "port_range_min": 80, "port_range_max": 80, "remote_group_id": "guest"})
    };
    let any = |ethertype: &str| json!({"direction": "egress", "ethertype": ethertype});
    json!({
        "rules": {"guest": [any("IPv4"), any("IPv6")], "peer": [any("IPv4"), any("IPv6"), web("IPv4"), web("IPv6")]},
        "members": {"guest": {"IPv4": {"add": [["10.0.0.1", "fa:16:3e:00:00:01"]]},
                              "IPv6": {"add": [["2001:db8::1", "fa:16:3e:00:00:01"]]}}},
        "ports": ports.iter().map(port).collect::<serde_json::Map<String, Value>>(),
        "expect": ports.iter().map(|(id, ..)| *id).collect::<Vec<&str>>()
    })
}

fn vm(ovs: &Ovs, name: &str, port: &str, mac: Mac, number: u8) -> Vm {
    let spec = VmSpec::new(name, port, mac).address(&format!("10.0.0.{number}/24"));
    let spec = spec.and_then(|spec| spec.address(&format!("2001:db8::{number}/64")));
    ovs.add_vm(spec.expect("good addresses").tag(10)).expect("a VM")
}

fn flow(streams: &[Stream]) {
    for stream in streams {
        stream.wait_for_progress(FLOWING_BYTES, PATIENCE).expect("bytes flow");
        assert!(stream.is_whole(), "bytes are missing or garbled");
    }
}

#[test]
fn where_a_guest_goes_it_is_filtered_before_it_resumes_and_its_connections_go_on() {
    let (there, begin_there) = host("up-b");
    let (here, begin_here) = host("up-a");
    ip(here.netns(), &format!("link add up-a type veth peer name up-b netns {}", there.netns().path()));
    ip(here.netns(), "link set up-a up");
    ip(there.netns(), "link set up-b up");
    let (guest, peer) =
        (vm(&here, "guest", "p-1", GUEST, 1), vm(&here, "peer", "p-2", Mac([0xfa, 0x16, 0x3e, 0, 0, 2]), 2));
    let (_agent_here, _agent_there) = (begin_here(&here), begin_there(&there));
    applied(&here, "s", 1, change(&[("p-1", 1, "guest"), ("p-2", 2, "peer")]));
    applied(&there, "s", 1, change(&[]));
    let streams: Vec<Stream> = [peer.ipv4(), peer.ipv6()]
        .into_iter()
        .flat_map(|server| [Streaming::ToServer, Streaming::BothWays].map(|kind| (server, kind)))
        .map(|(server, streaming)| {
            let spec = StreamSpec { server: server.expect("both families"), port: 80, from: None, streaming };
            Stream::open(&guest, &peer, &spec).expect("an admitted connection opens")
        })
        .collect();
    flow(&streams);

    // The hypervisor over there plugs the port in; nothing runs behind it yet.
    ip(
        there.netns(),
        &format!(
            "link add tap-new type veth peer name eth1 address {GUEST} mtu 1450 netns {}",
            guest.netns().path()
        ),
    );
    ip(there.netns(), "link set tap-new mtu 1450 up");
    let plug = format!("ofport_request={OFPORT}");
    there
        .vsctl(&[
            "add-port",
            "br-int",
            "tap-new",
            "tag=10",
            "--",
            "set",
            "Interface",
            "tap-new",
            "external_ids:iface-id=p-1",
            &plug,
        ])
        .expect("it is plugged in");
    assert!(!is_open(&there, OFPORT), "nobody has said what it may do");
    applied(&there, "s", 2, {
        let mut change = change(&[("p-1", 1, "guest")]);
        // It knows the members already.
        change["members"] = json!({});
        change
    });
    assert!(is_open(&there, OFPORT), "what Neutron hears before it lets the guest resume");

    // The guest stops here and resumes there.
    ip(guest.netns(), "link set eth0 down");
    ip(guest.netns(), "addr flush dev eth0");
    let mut ethtool = Command::new("ethtool");
    ethtool.args(["-K", "eth1", "tx", "off"]);
    guest.netns().enter(|| ethtool.status()).expect("the guest").expect("ethtool");
    ip(guest.netns(), "link set eth1 up");
    ip(guest.netns(), "addr add 10.0.0.1/24 dev eth1");
    ip(guest.netns(), "addr add 2001:db8::1/64 dev eth1 nodad");
    here.del_port("tap-guest").expect("it is pulled out");
    applied(&here, "s", 2, json!({"ports": {"p-1": null}}));
    flow(&streams);
    flow(&streams);
    // And there it is filtered as here: it serves nobody.
    let refused = peer.ping(guest.ipv4().expect("an address"), Duration::from_secs(1)).expect("a ping");
    assert_eq!(refused, PingVerdict::Silent);
}
