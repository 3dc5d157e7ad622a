//! What 500 ports and 500 members cost on a real switch, counted (never timed).

mod common;

use std::fmt::Write as _;

use common::{apply, document, flow_mods, flows, ovs, stderr, stdout, verify};
use lab::{DummySpec, FailMode, Ovs};

/// A default group, as Neutron makes one, with members 0 to `members`; the first ports of them are local.
fn policy(members: u16) -> String {
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

fn host(ports: u16) -> Ovs {
    let ovs = ovs();
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

fn sent(ovs: &Ovs, members: u16) -> u64 {
    let output = apply(ovs, &document(ovs, &policy(members)), &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    flow_mods(&output)
}

/// Neutron's own driver needs 32,522 flows for it.
#[test]
fn five_hundred_ports_of_five_hundred_members_are_at_most_10_000_flows_and_applied_once() {
    let ovs = host(500);
    let first = sent(&ovs, 500);
    let held = flows(&ovs).len();
    assert!(held <= 10_000, "{held} flows");
    assert_eq!(first, held as u64);
    assert_eq!(sent(&ovs, 500), 0, "the second apply sends nothing");
    assert_eq!(sent(&ovs, 501), 4, "a member more: two planes, two families");
}

/// How long the proof took is in what it prints; docs/verification.md has it.
#[test]
fn five_hundred_ports_are_proved_and_a_lost_flow_is_named() {
    let ovs = host(500);
    sent(&ovs, 500);
    let exact = verify(&ovs, &[]);
    print!("{}", stdout(&exact));
    assert_eq!(exact.status.code(), Some(0), "{}{}", stdout(&exact), stderr(&exact));
    assert!(stdout(&exact).contains(" 500 ports, all packets"), "{}", stdout(&exact));

    let member = "table=123,priority=70,ip,ct_state=-inv+trk,ct_nw_src=10.0.1.7";
    ovs.ofctl(&["-O", "OpenFlow14", "--strict", "del-flows", "br-int", member]).expect("a flow is deleted");
    let fixed = verify(&ovs, &["--fix"]);
    assert_eq!(fixed.status.code(), Some(0), "{}{}", stdout(&fixed), stderr(&fixed));
    print!("{}", stdout(&fixed));
    for part in ["flows 1 missing;", "ct_nw_src=10.0.1.7", "lets it pass (i4)", "is exactly the policy"] {
        assert!(stdout(&fixed).contains(part), "{part}:\n{}", stdout(&fixed));
    }
}

#[test]
fn a_member_more_costs_ten_ports_what_it_costs_five_hundred() {
    let ovs = host(10);
    sent(&ovs, 500);
    assert_eq!(sent(&ovs, 501), 4);
}
