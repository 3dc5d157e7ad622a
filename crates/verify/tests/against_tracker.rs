//! The model of the connection tracker against a real one: packets of a connection one after the other, and the state
//! that each is found in. Needs root.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::thread;
use std::time::{Duration, Instant};

use lab::{Datapath, DummySpec, FailMode, Ovs, OvsOptions};
use rust_openflow::{Field, Flow, PortNo};
use verify::{Connections, Packet, Tables, run};

const BRIDGE: &str = "br-int";
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Every state leads to a port of its own; what is new is committed when its number of the zone says so.
const FLOWS: [&str; 9] = [
    "table=0,priority=1,ip actions=ct(table=1,zone=7)",
    "table=1,priority=9,ct_state=+inv+trk,ip actions=output:9",
    "table=1,priority=8,ct_state=+rel+rpl+trk,ip actions=output:8",
    "table=1,priority=7,ct_state=+rel+trk,ip actions=output:7",
    "table=1,priority=6,ct_state=+est+rpl+trk,ip actions=output:6",
    "table=1,priority=5,ct_state=+est+trk,ip actions=output:5",
    "table=1,priority=4,ct_state=+new+trk,ct_mark=3,ip actions=output:4",
    "table=1,priority=3,ct_state=+new+trk,ip actions=ct(commit,zone=7,exec(set_field:3->ct_mark)),output:3",
    "table=1,priority=0 actions=output:2",
];

/// A packet between 10.0.0.1 and 10.0.0.2: whether it goes back, its protocol, two numbers of that, TCP flags.
type Sent = (bool, u8, u16, u16, u16);

#[test]
fn states_are_those_of_the_real_tracker() {
    const SYN: u16 = 2;
    const ACK: u16 = 16;
    let udp = |back| (back, 17, if back { 53 } else { 1000 }, if back { 1000 } else { 53 }, 0);
    let tcp = |back, flags| (back, 6, if back { 80 } else { 2000 }, if back { 2000 } else { 80 }, flags);
    let icmp = |back, icmp_type| (back, 1, icmp_type, 0, 0);
    let gre = |back| (back, 47, 0, 0, 0);
    let conversations: [&[Sent]; 10] = [
        &[udp(false), udp(false), udp(false), udp(false), udp(true), udp(false)],
        &[udp(true), udp(false), udp(true)],
        // Sequence numbers are 0 throughout, so a handshake goes no further.
        &[tcp(false, SYN), tcp(false, SYN), tcp(true, SYN | ACK)],
        &[tcp(false, ACK), tcp(true, ACK), tcp(false, ACK)],
        &[tcp(true, SYN | ACK)],
        &[tcp(false, 0), tcp(false, SYN | 1), tcp(false, SYN | 4), tcp(false, 1)],
        &[icmp(false, 8), icmp(false, 8), icmp(false, 8), icmp(true, 0), icmp(false, 8)],
        &[icmp(true, 0), icmp(false, 13), icmp(true, 14), icmp(false, 42), (false, 1, 8, 1, 0)],
        &[gre(false), gre(false), gre(false), gre(true)],
        &[(false, 17, 0, 53, 0), (false, 6, 1000, 0, SYN)],
    ];
    let switch = Switch::start();
    for conversation in conversations {
        assert_eq!(by_model(conversation), switch.ports(conversation), "{conversation:?}");
    }
}

fn by_model(conversation: &[Sent]) -> Vec<u32> {
    let tables = Tables::new(FLOWS.map(|flow| flow.parse::<Flow>().unwrap())).unwrap();
    let mut connections = Connections::default();
    let port = |sent: &Sent| {
        let outcome = run(&tables, packet(sent), &mut connections).unwrap();
        outcome.outputs[0].port.0
    };
    conversation.iter().map(port).collect()
}

const ENDS: [u32; 2] = [0x0a00_0001, 0x0a00_0002];

fn packet((back, protocol, first, second, flags): &Sent) -> Packet {
    let [near, far] = ENDS;
    let (src, dst) = if *back { (far, near) } else { (near, far) };
    let packet = Packet::new(PortNo(1))
        .with(Field::EthType, 0x0800u16)
        .with(Field::Ipv4Src, src)
        .with(Field::Ipv4Dst, dst)
        .with(Field::IpProto, *protocol);
    let with = |a, b| packet.clone().with(a, *first).with(b, *second);
    match protocol {
        1 => with(Field::Icmpv4Type, Field::Icmpv4Code),
        6 => with(Field::TcpSrc, Field::TcpDst).with(Field::TcpFlags, *flags),
        17 => with(Field::UdpSrc, Field::UdpDst),
        _ => packet,
    }
}

struct Switch {
    ports: Vec<(u32, lab::DummyPort)>,
    ovs: Ovs,
}

impl Switch {
    fn start() -> Self {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None }).unwrap();
        ovs.add_bridge(BRIDGE, FailMode::Secure).unwrap();
        let spec = |n: u16| DummySpec { ofport: Some(n), ..DummySpec::new(&format!("d{n}")) };
        let ports = ovs.add_dummy_ports(BRIDGE, (1..=9).map(spec).collect()).unwrap();
        for flow in FLOWS {
            ovs.ofctl(&["-O", "OpenFlow14", "add-flow", BRIDGE, flow]).unwrap();
        }
        Switch { ports: (1..=9).zip(ports).collect(), ovs }
    }

    /// The ports at which the packets of a conversation come out.
    fn ports(&self, conversation: &[Sent]) -> Vec<u32> {
        self.ovs.appctl("dpctl/flush-conntrack", &[]).unwrap();
        conversation.iter().map(|sent| self.port(sent)).collect()
    }

    fn port(&self, sent: &Sent) -> u32 {
        self.ovs.appctl("netdev-dummy/receive", &["d1", &text(sent)]).unwrap();
        let until = deadline();
        loop {
            for (number, port) in &self.ports {
                if !port.take_sent().unwrap().is_empty() {
                    return *number;
                }
            }
            assert!(!is_past(until), "no answer to {sent:?}");
            thread_sleep();
        }
    }
}

/// The packet in the language of odp flows, of which the switch makes bytes (ovs-vswitchd(8), `netdev-dummy/receive`).
fn text((back, protocol, first, second, flags): &Sent) -> String {
    let (src, dst) = if *back { ("10.0.0.2", "10.0.0.1") } else { ("10.0.0.1", "10.0.0.2") };
    let transport = match protocol {
        1 => format!(",icmp(type={first},code={second})"),
        6 => format!(",tcp(src={first},dst={second}),tcp_flags({flags:#x})"),
        17 => format!(",udp(src={first},dst={second})"),
        _ => String::new(),
    };
    format!(
        "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src={src},dst={dst},proto={protocol},tos=0,ttl=64,frag=no){transport}"
    )
}

#[expect(clippy::disallowed_methods, reason = "a test waits for a switch")]
fn deadline() -> Instant {
    Instant::now() + ANSWERED_WITHIN
}

#[expect(clippy::disallowed_methods, reason = "a test waits for a switch")]
fn is_past(deadline: Instant) -> bool {
    Instant::now() > deadline
}

#[expect(clippy::disallowed_methods, reason = "a test waits for a switch")]
fn thread_sleep() {
    thread::sleep(Duration::from_millis(1));
}
