//! What 500 ports and 500 members cost on a real switch, counted (never timed).

mod common;

use common::default_group::{host, policy};
use common::{apply, document, flow_mods, flows, stderr, stdout, verify};
use lab::Ovs;

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
