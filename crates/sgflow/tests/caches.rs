//! "'Reported applied' means: in the switch, and its caches revalidated" (semantics, "Rules and connections"), on a switch
//! whose revalidators may change another cached flow than they mean (docs/decisions/0009). Needs root.

mod common;

use std::net::Ipv4Addr;

use common::{apply, bridge, document, ovs, stderr};
use lab::{DummyPort, DummySpec, Ovs};

const PORTS: &str = r#"
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [g]}
"#;

/// A guest, and the network.
struct Host {
    uplink: DummyPort,
    guest: DummyPort,
    ovs: Ovs,
}

impl Host {
    fn new() -> Self {
        let ovs = ovs();
        bridge(&ovs);
        let uplink = ovs.add_dummy_port("br-int", DummySpec::new("uplink")).expect("a port");
        let spec = DummySpec { port_id: Some("p-1".to_owned()), tag: Some(10), ..DummySpec::new("guest") };
        ovs.vsctl(&["del-port", "br-int", "tap1"]).expect("room for the guest");
        let guest = ovs.add_dummy_port("br-int", spec).expect("a port");
        // Nothing is revalidated but for a change.
        let never = ["other_config:max-revalidator=3600000", "other_config:max-idle=3600000"];
        // Each packet that was seen once goes by the flow that it met then, as long as that one lives.
        let at_once = "other_config:emc-insert-inv-prob=1";
        ovs.vsctl(&["set", "Open_vSwitch", ".", never[0], never[1], at_once]).expect("set");
        Host { uplink, guest, ovs }
    }

    /// The guest may send to these prefixes.
    fn admit(&self, prefixes: &[&str]) {
        let rule = |prefix| {
            format!("{{id: {prefix}, direction: egress, ethertype: IPv4, remote_ip_prefix: {prefix}}}")
        };
        let rules = prefixes.iter().map(rule).collect::<Vec<_>>().join(", ");
        let policy = format!(
            "security_groups:\n- {{id: g, stateful: false, security_group_rules: [{rules}]}}\n{PORTS}"
        );
        let output = apply(&self.ovs, &document(&self.ovs, &policy), &["--network-ports", "uplink"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    /// Whether a datagram reaches the network, of which there is one to each address.
    fn reaches(&self, to: [u8; 4]) -> bool {
        self.guest.receive(&datagram(Ipv4Addr::from(to))).expect("sent");
        !self.uplink.take_sent().expect("a look").is_empty()
    }
}

/// UDP from 10.0.0.1, without a checksum (RFC 768 admits it).
fn datagram(to: Ipv4Addr) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1];
    header.extend(to.octets());
    let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("ten words carry once");
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
    let ethernet = [0x02, 0, 0, 0, 0, 9, 0xfa, 0x16, 0x3e, 0, 0, 1, 8, 0];
    let udp = [4, 1, 0, 53, 0, 8, 0, 0];
    [&ethernet[..], &header, &udp].concat()
}

/// A rule is widened, so that a flow cached for the narrow prefix is inside one cached for the wide one; then it goes. When
/// the narrow flow is to drop, Open vSwitch 3.1.0 finds the wide one by a packet that both match, and the narrow one
/// admits as long as somebody uses it. (It finds the right one if it looks among those of its length first: hence both
/// orders.)
#[test]
fn what_a_widened_rule_admitted_goes_with_it() {
    for first in [[[10, 3, 0, 2], [10, 1, 2, 2]], [[10, 1, 2, 2], [10, 3, 0, 2]]] {
        let host = Host::new();
        host.admit(&["10.3.0.0/16", "10.1.2.0/24"]);
        assert!(first.iter().all(|to| host.reaches(*to) && host.reaches(*to)));
        host.admit(&["10.3.0.0/16", "10.1.0.0/16"]);
        assert!(host.reaches([10, 1, 0, 2]));
        host.admit(&["10.3.0.0/16"]);
        let reached = [[10, 3, 0, 2], [10, 1, 0, 2], [10, 1, 2, 2]].map(|to| host.reaches(to));
        assert_eq!(reached, [true, false, false], "{first:?}");
    }
}
