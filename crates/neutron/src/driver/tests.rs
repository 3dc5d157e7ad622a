//! Changes as the agent tells them, and the policy that they come to.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::{Expect, expect};
use policy::Policy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Change, DriverPolicy, Taken};

/// The first change after the calls that a real agent (Neutron 29.0.0) made.
const CAPTURED: &str = include_str!("../../tests/data/first_change.json");

fn read(document: Value) -> Change {
    serde_json::from_value(document).unwrap()
}

/// Takes a change of session `s`.
fn take(policy: &mut DriverPolicy, sequence: u64, mut document: Value) -> Taken {
    document["session"] = json!("s");
    document["sequence"] = json!(sequence);
    policy.take(&read(document), |_| false).unwrap()
}

fn port(groups: &[&str], address: &str) -> Value {
    json!({"network_id": "n", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": [address], "security_groups": groups})
}

fn ids<T: ToString>(ids: impl IntoIterator<Item = T>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
}

fn refused(taken: &Taken, expected: Expect) {
    let said = taken.refused.iter().map(|refused| format!("{refused}\n"));
    expected.assert_eq(&said.collect::<String>());
}

#[test]
fn what_a_real_agent_calls_is_taken_whole() {
    let mut policy = DriverPolicy::default();
    let change: Change = serde_json::from_str(CAPTURED).unwrap();
    let taken = policy.take(&change, |_| true).unwrap();
    assert_eq!(taken.refused, []);
    let policy = policy.policy();
    assert_eq!(Policy::diff(&Policy::default(), policy), taken.delta);
    let rules = policy.groups.values().flat_map(|group| &group.rules);
    let lines = rules.map(|rule| format!("{:?} {:?} {:?}\n", rule.direction, rule.service, rule.remote));
    expect![[r#"
        Egress Any Any
        Egress Any Any
        Ingress Ports { protocol: Sctp, range: Some(PortRange { min: 5000, max: 5001 }) } Any
        Ingress Icmp { icmp_type: Some(8), code: Some(0) } Any
        Ingress Ports { protocol: Tcp, range: Some(PortRange { min: 22, max: 22 }) } AddressGroup("f167fa14-c501-4275-9e8c-efe44b74cf7c")
        Ingress Ports { protocol: Tcp, range: Some(PortRange { min: 80, max: 90 }) } Prefix(192.0.2.0/24)
        Ingress Ports { protocol: Tcp, range: Some(PortRange { min: 8080, max: 8080 }) } Any
        Ingress Ports { protocol: Udp, range: None } Group("149ee133-6d50-4f05-b3ee-d00e1a451678")
        Ingress Icmp { icmp_type: None, code: None } Any
    "#]].assert_eq(&lines.collect::<String>());
    let ports = policy.ports.values();
    let lines = ports.map(|port| format!("{} {} trusted: {}\n", port.id, port.mac, port.is_trusted()));
    expect![[r#"
        149ee133-6d50-4f05-b3ee-d00e1a451678/member/10.1.0.152/32/fa:16:3e:1f:1f:67 fa:16:3e:1f:1f:67 trusted: false
        149ee133-6d50-4f05-b3ee-d00e1a451678/member/10.1.2.128/32/fa:16:3e:aa:a8:44 fa:16:3e:aa:a8:44 trusted: false
        149ee133-6d50-4f05-b3ee-d00e1a451678/member/10.77.0.0/24/fa:16:3e:aa:a8:44 fa:16:3e:aa:a8:44 trusted: false
        149ee133-6d50-4f05-b3ee-d00e1a451678/member/10.8.0.5/32/fa:16:3e:00:00:99 fa:16:3e:00:00:99 trusted: false
        149ee133-6d50-4f05-b3ee-d00e1a451678/member/10.9.0.0/24/fa:16:3e:1f:1f:67 fa:16:3e:1f:1f:67 trusted: false
        3629c47d-80c6-4ef1-acf0-1d86340f54af fa:16:3e:1f:1f:67 trusted: false
        8058547d-4f04-46ef-bb11-884e73437927 fa:16:3e:ea:a5:46 trusted: true
        d11658c1-ada1-4f51-bc71-a805a3c3f72c 00:00:00:00:00:00 trusted: true
    "#]].assert_eq(&lines.collect::<String>());
}

#[test]
fn a_member_is_a_port_elsewhere_and_goes_alone() {
    let mut policy = DriverPolicy::default();
    let members =
        json!({"IPv4": {"add": [["10.0.0.2", "fa:16:3e:00:00:02"], ["0.0.0.0/0", "fa:16:3e:00:00:03"]]}});
    take(&mut policy, 1, json!({"members": {"g": members}, "ports": {"p": port(&["g"], "10.0.0.1")}}));
    assert_eq!(
        ids(policy.policy().ports.keys()),
        "g/member/0.0.0.0/0/fa:16:3e:00:00:03 g/member/10.0.0.2/32/fa:16:3e:00:00:02 p"
    );
    let gone =
        json!({"IPv4": {"remove": [["10.0.0.2", "fa:16:3e:00:00:02"], ["10.0.0.9", "fa:16:3e:00:00:02"]]}});
    let taken = take(&mut policy, 2, json!({"members": {"g": gone}}));
    assert_eq!(ids(taken.delta.ports.iter().map(|(id, _)| id)), "g/member/10.0.0.2/32/fa:16:3e:00:00:02");
    assert!(taken.delta.groups.is_empty());
}

#[test]
fn an_address_that_is_written_in_two_ways_goes_with_the_last() {
    let mut policy = DriverPolicy::default();
    let twice = json!([["10.0.0.5", "fa:16:3e:00:00:05"], ["10.0.0.5/32", "FA-16-3E-00-00-05"]]);
    take(&mut policy, 1, json!({"members": {"g": {"IPv4": {"add": twice}}}}));
    for (sequence, written) in [(2, twice[1].clone()), (3, twice[0].clone())] {
        let taken = take(&mut policy, sequence, json!({"members": {"g": {"IPv4": {"remove": [written]}}}}));
        assert_eq!(taken.delta.ports.len(), usize::from(sequence == 3));
    }
}

#[test]
fn a_port_that_was_kept_and_is_pulled_out_is_new_when_it_comes_back() {
    let mut policy = DriverPolicy::default();
    let ports = json!({"p": port(&["g"], "10.0.0.1"), "q": port(&["g"], "10.0.0.2")});
    take(&mut policy, 1, json!({"ports": ports}));
    let begins = read(json!({"session": "t", "sequence": 1, "ports": {"q": port(&["g"], "10.0.0.2")}}));
    policy.take(&begins, |_| true).unwrap();
    assert!(policy.forget_pulled_out(|_| true).is_empty());
    let gone = policy.forget_pulled_out(|_| false);
    assert_eq!(gone.ports, [("p".into(), None)], "q was told of");
    assert!(policy.forget_pulled_out(|_| false).is_empty());
}

#[test]
fn addresses_without_a_mac_are_an_address_groups() {
    let mut policy = DriverPolicy::default();
    let rule = json!({"direction": "egress", "ethertype": "IPv4", "remote_address_group_id": "a"});
    let taken = take(&mut policy, 1, json!({"rules": {"g": [rule]}}));
    assert_eq!(taken.refused, [], "the agent says nothing of one that is empty");
    take(&mut policy, 2, json!({"members": {"a": {"IPv4": {"add": [["192.0.2.0/24", null]]}}}}));
    assert_eq!(ids(&policy.policy().address_groups[&"a".into()].addresses), "192.0.2.0/24");
    take(&mut policy, 3, json!({"members": {"a": null}}));
    assert!(policy.policy().address_groups[&"a".into()].addresses.is_empty());
}

#[test]
fn the_remote_prefix_is_the_source_of_what_comes_and_the_destination_of_what_goes() {
    let mut policy = DriverPolicy::default();
    let rules = json!([
        {"direction": "ingress", "ethertype": "IPv4", "source_ip_prefix": "10.0.0.0/8", "stateful": false},
        {"direction": "egress", "ethertype": "IPv4", "dest_ip_prefix": "10.1.0.0/16", "stateful": false},
        {"direction": "egress", "ethertype": "IPv4", "dest_ip_prefix": "10.1.0.0/16", "stateful": false},
        {"direction": "egress", "ethertype": "IPv4", "source_ip_prefix": "10.2.0.0/16", "stateful": false},
        {"direction": "ingress", "ethertype": "IPv4", "protocol": "udp", "source_port_range_min": 67},
        {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 70000, "port_range_max": 70000}]);
    let taken = take(&mut policy, 1, json!({"rules": {"g": rules}}));
    let group = &policy.policy().groups[&"g".into()];
    assert!(!group.stateful);
    assert_eq!(
        ids(group.rules.iter().map(|rule| &rule.id)),
        "g/egress/IPv4/10.1.0.0/16 g/ingress/IPv4/10.0.0.0/8"
    );
    refused(
        &taken,
        expect![[r#"
        rule g/egress/IPv4 of security group g: source_ip_prefix: is not known of a rule
        rule g/ingress/IPv4/udp of security group g: source_port_range_min: is not known of a rule
        rule g/ingress/IPv4/tcp/70000/70000 of security group g: port_range_min: expected a number from 0 to 65535, found 70000
        rule g/ingress/IPv4/tcp/70000/70000 of security group g: port_range_max: expected a number from 0 to 65535, found 70000
    "#]],
    );
}

#[test]
fn a_group_that_is_gone_stays_without_rules_for_whoever_carries_it() {
    let mut policy = DriverPolicy::default();
    let rule = json!({"direction": "egress", "ethertype": "IPv4"});
    take(
        &mut policy,
        1,
        json!({"rules": {"g": [rule.clone()], "h": [rule]}, "ports": {"p": port(&["g"], "10.0.0.1")}}),
    );
    take(&mut policy, 2, json!({"rules": {"g": null, "h": null}}));
    assert_eq!(ids(policy.policy().groups.keys()), "g");
    assert!(policy.policy().groups[&"g".into()].rules.is_empty());
}

#[test]
fn a_port_with_port_security_off_and_one_known_by_its_id_are_trusted() {
    let mut policy = DriverPolicy::default();
    let mut off = port(&[], "10.0.0.1");
    off["port_security_enabled"] = json!(false);
    take(&mut policy, 1, json!({"ports": {"p": off}, "trusted": ["q"]}));
    assert!(policy.policy().ports.values().all(|port| port.is_trusted()));
    take(&mut policy, 2, json!({"ports": {"p": port(&["g"], "10.0.0.1"), "q": null}}));
    assert_eq!(ids(policy.policy().ports.keys()), "p");
    assert!(!policy.policy().ports[&"p".into()].is_trusted());
    assert_eq!(ids(policy.policy().groups.keys()), "g", "of which the agent said nothing: it admits nothing");
}

#[test]
fn what_does_not_follow_is_not_taken() {
    let mut policy = DriverPolicy::default();
    take(&mut policy, 1, json!({"trusted": ["p"]}));
    let late = |session: &str, sequence: u64| {
        let change = read(json!({"session": session, "sequence": sequence, "trusted": ["q"]}));
        let mut policy = policy.clone();
        let error = policy.take(&change, |_| true).unwrap_err().to_string();
        assert_eq!(ids(policy.policy().ports.keys()), "p");
        error
    };
    assert_eq!(late("s", 3), "change 3 of session s does not follow on change 1 of session s");
    assert_eq!(late("t", 2), "change 2 of session t does not follow on change 1 of session s");
    let nothing = DriverPolicy::default().take(&read(json!({"session": "s", "sequence": 0})), |_| true);
    assert_eq!(nothing.unwrap_err().to_string(), "change 0 of session s does not follow on nothing");
}

#[test]
fn an_agent_that_begins_anew_with_the_same_changes_nothing() {
    let mut policy = DriverPolicy::default();
    let mut change: Change = serde_json::from_str(CAPTURED).unwrap();
    policy.take(&change, |_| false).unwrap();
    change.session = "another".to_owned();
    assert!(policy.take(&change, |_| false).unwrap().delta.is_empty());
}

#[test]
fn ports_that_a_new_session_does_not_name_stay_while_they_are_plugged_in_with_what_filters_them() {
    let mut policy = DriverPolicy::default();
    let rules = json!([{"direction": "ingress", "ethertype": "IPv4", "remote_group_id": "far"},
                       {"direction": "ingress", "ethertype": "IPv4", "remote_address_group_id": "a"}]);
    let change = json!({
        "rules": {"g": rules, "other": [{"direction": "egress", "ethertype": "IPv4"}]},
        "members": {"far": {"IPv4": {"add": [["10.0.0.7", "fa:16:3e:00:00:07"]]}},
                    "a": {"IPv4": {"add": [["192.0.2.1", null]]}},
                    "idle": {"IPv4": {"add": [["10.0.0.8", "fa:16:3e:00:00:08"]]}}},
        "ports": {"kept": port(&["g"], "10.0.0.1"), "gone": port(&["other"], "10.0.0.2")}});
    take(&mut policy, 1, change);
    let begins = read(json!({"session": "t", "sequence": 1, "ports": {"new": port(&["g"], "10.0.0.3")}}));
    policy.take(&begins, |port| port.as_str() != "gone").unwrap();
    let policy = policy.policy();
    assert_eq!(ids(policy.ports.keys()), "far/member/10.0.0.7/32/fa:16:3e:00:00:07 kept new");
    assert_eq!(ids(policy.groups.keys()), "far g");
    assert_eq!(policy.groups[&"g".into()].rules.len(), 2);
    assert_eq!(policy.address_groups[&"a".into()].addresses.len(), 1);
}

/// Who is a member, by number, with or without a MAC.
fn address(number: u8) -> (String, Option<String>) {
    let mac = (number < 6).then(|| format!("fa:16:3e:00:00:{number:02x}"));
    (format!("10.0.{}.{number}", u8::from(mac.is_none())), mac)
}

/// What the agent knows: rules by group, members by group, ports by number.
#[derive(Clone, Debug, Default)]
struct Known {
    rules: BTreeMap<u8, BTreeSet<u8>>,
    members: BTreeMap<u8, BTreeSet<u8>>,
    ports: BTreeMap<u8, Option<BTreeSet<u8>>>,
}

fn known() -> impl Strategy<Value = Known> {
    let some = || proptest::collection::btree_set(0u8..4, 0..4);
    let members =
        proptest::collection::btree_map(0u8..4, proptest::collection::btree_set(1u8..10, 0..6), 0..4);
    let ports = proptest::collection::btree_map(0u8..4, proptest::option::of(some()), 0..4);
    (proptest::collection::btree_map(0u8..4, some(), 0..4), members, ports)
        .prop_map(|(rules, members, ports)| Known { rules, members, ports })
}

impl Known {
    fn rules_of(rules: &BTreeSet<u8>) -> Value {
        let rule = |number: &u8| match number {
            0 => json!({"direction": "egress", "ethertype": "IPv4"}),
            1 => json!({"direction": "ingress", "ethertype": "IPv4", "remote_group_id": "g1"}),
            2 => json!({"direction": "ingress", "ethertype": "IPv4", "remote_address_group_id": "g2"}),
            _ => {
                json!({"direction": "ingress", "ethertype": "IPv6", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
            }
        };
        rules.iter().map(rule).collect()
    }

    /// What tells somebody who knows `before` of all this.
    fn since(&self, before: &Known) -> Value {
        let mut change = json!({"rules": {}, "members": {}, "ports": {}, "trusted": []});
        for id in self.rules.keys().chain(before.rules.keys()) {
            if self.rules.get(id) != before.rules.get(id) {
                change["rules"][format!("g{id}")] = self.rules.get(id).map_or(Value::Null, Self::rules_of);
            }
        }
        for id in self.members.keys().chain(before.members.keys()) {
            let none = BTreeSet::new();
            let (now, was) = (self.members.get(id), before.members.get(id).unwrap_or(&none));
            let list = |of: Vec<&u8>| of.into_iter().map(|number| address(*number)).collect::<Vec<_>>();
            change["members"][format!("g{id}")] = match now {
                None => Value::Null,
                Some(now) => json!({"IPv4": {
                    "add": list(now.difference(was).collect()), "remove": list(was.difference(now).collect())}}),
            };
        }
        for id in self.ports.keys().chain(before.ports.keys()) {
            match self.ports.get(id) {
                now if now == before.ports.get(id) => {}
                Some(Some(groups)) => {
                    let groups: Vec<String> = groups.iter().map(|group| format!("g{group}")).collect();
                    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                    change["ports"][format!("p{id}")] = port(&groups, &format!("10.9.0.{id}"));
                }
                Some(None) => change["trusted"].as_array_mut().unwrap().push(json!(format!("p{id}"))),
                None => change["ports"][format!("p{id}")] = Value::Null,
            }
        }
        change
    }
}

/// The policy without groups that admit nothing to anybody: whether they are there does not matter.
fn essence(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    let carried: BTreeSet<_> = policy.ports.values().flat_map(|port| port.security_groups.clone()).collect();
    policy.groups.retain(|id, group| carried.contains(id) || !group.rules.is_empty());
    policy.address_groups.retain(|_, group| !group.addresses.is_empty());
    policy
}

proptest! {
    #[test]
    fn told_piece_by_piece_it_is_as_told_at_once(states in proptest::collection::vec(known(), 1..8)) {
        let (mut told, mut mirror) = (DriverPolicy::default(), Policy::default());
        let mut before = Known::default();
        for (sequence, state) in (1..).zip(&states) {
            let taken = take(&mut told, sequence, state.since(&before));
            prop_assert_eq!(&taken.refused, &[]);
            mirror.apply(taken.delta);
            prop_assert_eq!(&mirror, told.policy());
            before = state.clone();
        }
        let mut at_once = DriverPolicy::default();
        take(&mut at_once, 1, before.since(&Known::default()));
        prop_assert_eq!(essence(told.policy()), essence(at_once.policy()));
        // And a new session leaves nothing of the one before.
        let taken = take(&mut told, 1, before.since(&Known::default()));
        mirror.apply(taken.delta);
        prop_assert_eq!(&mirror, at_once.policy());
    }

    /// What comes out is a policy that a document could have: no port carries what is not defined, no rule names it.
    #[test]
    fn what_it_refers_to_is_there(states in proptest::collection::vec(known(), 1..6)) {
        let mut told = DriverPolicy::default();
        let mut before = Known::default();
        for (sequence, state) in (1..).zip(&states) {
            take(&mut told, sequence, state.since(&before));
            before = state.clone();
        }
        let policy = told.policy();
        prop_assert!(policy.ports.values().all(|port| port.security_groups.iter().all(|id| policy.groups.contains_key(id))));
        let rules = policy.groups.values().flat_map(|group| &group.rules);
        for rule in rules {
            if let policy::Remote::AddressGroup(id) = &rule.remote {
                prop_assert!(policy.address_groups.contains_key(id));
            }
        }
    }
}
