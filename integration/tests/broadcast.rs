//! "Group-addressed and flooded frames are judged, packet by packet, by the same rules at each filtered port that would
//! receive them" (semantics, ingress 4), also where there are a thousand of these: ovs-vswitchd ends a translation at
//! 4,096 resubmits or a depth of 64 without a word to anybody but its log, and then nobody gets a copy. A copy takes three
//! resubmits at most, so that a network may have some 1,340 filtered ports on one host. Needs root.

use std::fmt::Write as _;

use etherparse::PacketBuilder;
use integration::{Firewall, PageFirewall as _, Sighting};
use tests::case::{Binding, Config};

/// Ports of one network on one host.
const PORTS: u16 = 1000;
const UPLINK: &str = "uplink";

/// Port 1 may send multicast DNS; of the others those with an even number may receive it, so that no chunk of ports is of
/// one mind.
fn policy() -> String {
    let mut text = String::from(
        "security_groups:\n\
         - {id: sender, security_group_rules: [{id: s, direction: egress, ethertype: IPv4, protocol: udp}]}\n\
         - {id: listener, security_group_rules: [{id: l, direction: ingress, ethertype: IPv4, protocol: udp, \
            port_range_min: 5353, port_range_max: 5353}]}\n\
         - {id: deaf, security_group_rules: []}\nports:\n",
    );
    for n in 1..=PORTS {
        let [high, low] = n.to_be_bytes();
        let group = if n == 1 {
            "sender"
        } else if listens(n) {
            "listener"
        } else {
            "deaf"
        };
        writeln!(
            text,
            "- {{id: p-{n}, network_id: n, mac_address: \"fa:16:3e:00:{high:02x}:{low:02x}\", \
             fixed_ips: [{{ip_address: 10.0.{high}.{low}}}], security_groups: [{group}]}}"
        )
        .expect("a String takes any text");
    }
    text
}

fn listens(port: u16) -> bool {
    port.is_multiple_of(2)
}

fn host() -> Firewall {
    let guest = |n: u16| Binding {
        port_id: Some(format!("p-{n}")),
        interface: format!("tap{n}"),
        ofport: u32::from(n),
        tag: Some(10),
        uplink: false,
    };
    let uplink =
        Binding { port_id: None, interface: UPLINK.to_owned(), ofport: 2000, tag: Some(10), uplink: true };
    let bindings: Vec<Binding> = (1..=PORTS).map(guest).chain([uplink]).collect();
    let mut firewall = Firewall::start(&bindings, &Config::default()).expect("a switch");
    let policy = policy::document::parse(&[("policy.yaml", &policy())], None).policy;
    assert_eq!(policy.ports.len(), usize::from(PORTS));
    firewall.put_in_force(&policy).expect("in force");
    firewall
}

const SENDER: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn mdns(from: [u8; 6], source: [u8; 4], port: u16) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(from, [1, 0, 0x5e, 0, 0, 0xfb]).ipv4(source, [224, 0, 0, 251], 255);
    let mut frame = Vec::new();
    builder.udp(5353, port).write(&mut frame, b"to a thousand").expect("a short packet");
    frame
}

/// Asks for 10.0.0.9 (RFC 826).
fn arp_request(from: [u8; 6], source: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(from);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(from);
    frame.extend(source);
    frame.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 9]);
    frame.resize(60, 0);
    frame
}

/// Everybody named has one copy, as it was sent, and nobody else has any.
fn each_has_one(seen: &Sighting, ports: impl Iterator<Item = u16>, uplink: bool, frame: &[u8]) {
    let mut expected: Sighting = ports.map(|n| (format!("p-{n}"), vec![frame.to_vec()])).collect();
    if uplink {
        expected.insert(UPLINK.to_owned(), vec![frame.to_vec()]);
    }
    let missing: Vec<&String> = expected.keys().filter(|name| !seen.contains_key(*name)).collect();
    let more: Vec<&String> = seen.keys().filter(|name| !expected.contains_key(*name)).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "{} missing: {missing:?}; too many: {more:?}",
        missing.len()
    );
    assert!(*seen == expected, "a copy is another frame, or there are two");
}

#[test]
fn a_thousand_ports_get_their_copies_and_no_connection_is_made() {
    let firewall = host();
    let send = |from: &str, frame: &[u8]| {
        firewall.receive(from, frame).expect("sent");
        firewall.sighting().expect("a look")
    };
    let listeners = || (2..=PORTS).filter(|n| listens(*n));

    let frame = mdns(SENDER, [10, 0, 0, 1], 5353);
    each_has_one(&send("p-1", &frame), listeners(), true, &frame);
    let frame = mdns(STRANGER, [192, 0, 2, 1], 5353);
    each_has_one(&send(UPLINK, &frame), listeners(), false, &frame);
    let frame = mdns(STRANGER, [192, 0, 2, 1], 5354);
    each_has_one(&send(UPLINK, &frame), 0..0, false, &frame);

    let frame = arp_request(SENDER, [10, 0, 0, 1]);
    each_has_one(&send("p-1", &frame), 2..=PORTS, true, &frame);
    let frame = arp_request(STRANGER, [192, 0, 2, 1]);
    each_has_one(&send(UPLINK, &frame), 1..=PORTS, false, &frame);

    let connections = firewall.ovs().appctl("dpctl/dump-conntrack", &[]).expect("a dump");
    assert_eq!(connections.trim(), "", "a copy was tracked");
}
