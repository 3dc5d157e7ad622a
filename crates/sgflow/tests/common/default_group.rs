//! One default group, as Neutron makes it, and a host with its ports; for tests and benchmarks.

use std::fmt::Write as _;

use lab::{Datapath, DummySpec, FailMode, Ovs, OvsOptions};

/// A default group, as Neutron makes one, with members 0 to `members`; the first ports of them are local.
pub fn policy(members: u16) -> String {
    let mut text = String::from(
        "security_groups:\n- {id: default, security_group_rules: [\n    \
           {id: e4, direction: egress, ethertype: IPv4}, {id: e6, direction: egress, ethertype: IPv6},\n    \
           {id: i4, direction: ingress, ethertype: IPv4, remote_group_id: default},\n    \
           {id: i6, direction: ingress, ethertype: IPv6, remote_group_id: default}]}\nports:\n",
    );
    for n in 0..members {
        let [high, low] = n.to_be_bytes();
        writeln!(
            text,
            "- {{id: p-{n}, network_id: n, mac_address: \"fa:16:3e:00:{high:02x}:{low:02x}\", security_groups: [default], \
             fixed_ips: [{{ip_address: 10.0.{high}.{low}}}, {{ip_address: \"2001:db8::{n:x}\"}}]}}"
        )
        .expect("a String takes any text");
    }
    text
}

/// A switch with this many ports, of the first members.
pub fn host(ports: u16) -> Ovs {
    let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, ..OvsOptions::default() })
        .expect("Open vSwitch starts");
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let spec = |n: u16| DummySpec {
        port_id: Some(format!("p-{n}")),
        tag: Some(10),
        ofport: Some(n + 1),
        ..DummySpec::new(&format!("tap{n}"))
    };
    ovs.add_dummy_ports("br-int", (0..ports).map(spec).collect()).expect("ports");
    ovs
}
