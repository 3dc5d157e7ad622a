//! Histories: whatever is written, in whatever pieces and with whatever losses, a host has its part of the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::document::parse;
use policy::{GroupId, Member, Policy, Port, Remote, SecurityGroup};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{Host, World};

/// A policy of up to four groups, two address groups and eight ports on three hosts, all small.
fn document() -> impl Strategy<Value = Value> {
    let remote = prop_oneof![
        Just(json!({})),
        Just(json!({"remote_ip_prefix": "10.0.0.0/8"})),
        (0..5).prop_map(|n| json!({"remote_group_id": format!("g{n}")})),
        (0..2).prop_map(|n| json!({"remote_address_group_id": format!("a{n}")})),
    ];
    let service = prop_oneof![
        Just(json!({})),
        Just(json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 90})),
        Just(json!({"protocol": "icmp", "port_range_min": 8})),
        Just(json!({"protocol": "132"})),
    ];
    let rule = (any::<bool>(), service, remote).prop_map(|(is_in, service, remote)| {
        let mut rule = json!({"direction": if is_in { "ingress" } else { "egress" }, "ethertype": "IPv4"});
        for other in [service, remote] {
            rule.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        }
        rule
    });
    let group = (any::<bool>(), prop::collection::vec(rule, 0..3));
    let addresses = prop::collection::btree_set((0..3).prop_map(|n| format!("192.0.2.{n}")), 0..3);
    let pair = prop_oneof![
        (0..4).prop_map(|n| json!({"ip_address": format!("10.0.0.{n}")})),
        Just(json!({"ip_address": "0.0.0.0/0", "mac_address": "fa:16:3e:00:00:99"})),
        Just(json!({"ip_address": "::/0"})),
    ];
    let port =
        (0..4_u8, 0..6_u8, prop::collection::btree_set(0..4_u8, 0..3), prop::option::of(pair), any::<bool>());
    (
        prop::collection::vec(group, 4),
        prop::collection::vec(addresses, 2),
        prop::collection::btree_map(0..8_u8, port, 0..8),
    )
        .prop_map(|(groups, addresses, ports)| {
            let groups = groups.into_iter().enumerate().map(|(n, (stateful, rules))| {
                let rule = |(m, mut rule): (usize, Value)| {
                    rule["id"] = json!(format!("r{n}-{m}"));
                    rule
                };
                let rules: Vec<Value> = rules.into_iter().enumerate().map(rule).collect();
                json!({"id": format!("g{n}"), "stateful": stateful, "security_group_rules": rules})
            });
            let addresses = addresses.into_iter().enumerate();
            let ports = ports.into_iter().map(|(n, (host, ip, groups, pair, is_filtered))| {
                let groups: Vec<String> = groups.into_iter().map(|group| format!("g{group}")).collect();
                let mut port = json!({"id": format!("p{n}"), "network_id": "n", "mac_address": format!("fa:16:3e:00:00:0{n}"),
                    "fixed_ips": [{"ip_address": format!("10.0.0.{ip}")}], "security_groups": groups,
                    "allowed_address_pairs": pair.into_iter().collect::<Vec<_>>(), "port_security_enabled": is_filtered});
                // Some are bound to nowhere.
                if host < 3 {
                    port["binding:host_id"] = json!(format!("h{host}"));
                }
                port
            });
            json!({"security_groups": groups.collect::<Vec<_>>(), "ports": ports.collect::<Vec<_>>(),
                "address_groups": addresses.map(|(n, addresses)| json!({"id": format!("a{n}"), "addresses": addresses})).collect::<Vec<_>>()})
        })
}

/// Members that a row has at most.
fn room() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(2), Just(1000)]
}

#[derive(Clone, Debug)]
enum Step {
    /// Another policy, in transactions of so many rows.
    Write(Value, usize),
    /// A host loses its connection; with `true` the server has forgotten what it would resume by.
    Lose(usize, bool),
    /// A host begins anew.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (document(), prop_oneof![Just(usize::MAX), Just(1), Just(3)]).prop_map(|(document, limit)| Step::Write(document, limit)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(host, forgets)| Step::Lose(host, forgets)),
        1 => (0..3_usize).prop_map(Step::Restart),
    ]
}

/// Of the policy what concerns a host: its ports, what these carry, and who is a member of what their rules name.
#[derive(PartialEq, Eq, Debug)]
struct Part {
    ports: BTreeMap<String, Arc<Port>>,
    groups: BTreeMap<GroupId, Arc<SecurityGroup>>,
    addresses: BTreeMap<String, BTreeSet<String>>,
    members: BTreeMap<GroupId, BTreeSet<Member>>,
}

/// `is_own`: the ports that are on the host, as opposed to those that make members.
fn part(policy: &Policy, is_own: impl Fn(&Port) -> bool) -> Part {
    let own: Vec<&Arc<Port>> = policy.ports.values().filter(|port| is_own(port)).collect();
    let carried: BTreeSet<&GroupId> = own.iter().flat_map(|port| &port.security_groups).collect();
    let groups: BTreeMap<_, _> =
        carried.iter().map(|id| ((*id).clone(), Arc::clone(&policy.groups[*id]))).collect();
    let mut part = Part {
        ports: own.iter().map(|port| (port.id.to_string(), Arc::clone(port))).collect(),
        addresses: BTreeMap::new(),
        members: BTreeMap::new(),
        groups,
    };
    for rule in part.groups.values().flat_map(|group| &group.rules) {
        match &rule.remote {
            Remote::AddressGroup(id) => {
                let addresses = policy.address_groups[id].addresses.iter().map(ToString::to_string).collect();
                part.addresses.insert(id.to_string(), addresses);
            }
            Remote::Group(id) => {
                let ports = policy.ports.values().filter(|port| port.security_groups.contains(id));
                // Of a port that stands for one, the MAC counts only where it counts.
                part.members.insert(id.clone(), ports.flat_map(|port| Member::of(port)).collect());
            }
            _ => {}
        }
    }
    part
}

fn policy_of(document: &Value) -> Policy {
    let parsed = parse(&[("p", &document.to_string())], None);
    assert_eq!(parsed.diagnostics, []);
    parsed.policy
}

fn check(world: &World) -> Result<(), TestCaseError> {
    world.hosts.iter().enumerate().try_for_each(|(n, host)| check_host(host, &format!("h{n}"), &world.policy))
}

/// A host has its part of the policy, and nothing else.
pub(super) fn check_host(host: &Host, name: &str, policy: &Policy) -> Result<(), TestCaseError> {
    let expected = part(policy, |port| port.host.as_deref() == Some(name));
    let stands_for_member = |port: &Port| port.id.as_str().contains("/member/");
    let mut found = part(&host.policy, |port| !stands_for_member(port));
    // A host is not told where its ports are bound: they are here.
    for port in found.ports.values_mut() {
        prop_assert_eq!(&port.host, &None);
        let port = Arc::make_mut(port);
        (port.host, port.network_id) = (Some(name.to_owned()), "n".into());
    }
    prop_assert_eq!(found, expected, "host {}", name);
    prop_assert_eq!(host.follower.view().faults().collect::<Vec<_>>(), Vec::<&crate::Fault>::new());
    // Nothing is told of that concerns others only.
    let wants = host.follower.view().wants();
    prop_assert!(host.policy.groups.keys().all(|id| wants.groups.contains(id)));
    prop_assert!(host.policy.address_groups.keys().all(|id| wants.address_groups.contains(id)));
    Ok(())
}

proptest! {
    #[test]
    fn a_host_has_its_part_of_what_was_written(steps in prop::collection::vec(step(), 1..10), room in room()) {
        let mut world = World::new(&["h0", "h1", "h2"]);
        world.scribe.writer.room = room;
        for step in steps {
            match step {
                Step::Write(document, limit) => _ = world.write_by(policy_of(&document), limit),
                Step::Lose(host, forgets) => {
                    world.server.keep_transactions(if forgets { 0 } else { 100 });
                    let (now, World { hosts, server, .. }) = (world.now, &mut world);
                    hosts[host].session.lose(server, now);
                    continue;
                }
                Step::Restart(host) => world.hosts[host] = Host::new(&format!("h{host}"), world.now),
            }
            world.run();
            check(&world)?;
        }
    }

    /// What a host is told is never between two transactions: each of its policies is its part of one that was written.
    #[test]
    fn a_host_never_has_half_a_transaction(documents in prop::collection::vec((document(), room()), 2..6)) {
        let mut world = World::new(&["h0"]);
        let mut told = Policy::default();
        let mut written = vec![Policy::default()];
        for (document, room) in documents {
            // Less room than before: members move.
            world.scribe.writer.room = room;
            written.push(policy_of(&document));
            world.write(policy_of(&document));
            world.run();
        }
        for delta in std::mem::take(&mut world.hosts[0].deltas) {
            told.apply(delta);
            let mut found = part(&told, |port| !port.id.as_str().contains("/member/"));
            for port in found.ports.values_mut() {
                let port = Arc::make_mut(port);
                (port.host, port.network_id) = (Some("h0".into()), "n".into());
            }
            let is_one = written.iter().any(|policy| part(policy, |port| port.host.as_deref() == Some("h0")) == found);
            prop_assert!(is_one, "{:?}", found);
        }
    }

    /// Writing a policy again changes nothing, whoever writes it.
    #[test]
    fn what_is_there_is_not_written_again(first in document(), second in document(), room in room()) {
        let mut world = World::new(&[]);
        world.scribe.writer.room = room;
        world.write(policy_of(&first));
        world.run();
        world.write(policy_of(&second));
        world.run();
        let mut other = crate::Writer::default();
        for row in crate::Held::tables().iter().flat_map(|table| world.scribe.session.core.replica().rows(&table.table)) {
            let kind = ovsdb::ChangeKind::Inserted { new: Arc::clone(row) };
            other.see(&ovsdb::Change { table: Arc::clone(row.table()), uuid: row.uuid(), kind }).unwrap();
        }
        other.apply(&Policy::diff(&Policy::default(), &policy_of(&second)), super::world::bound_to);
        other.compare_all();
        other.room = room;
        let batch = other.batch(usize::MAX);
        prop_assert_eq!(batch.map(|batch| batch.operations().to_vec()), None);
        let (read, bad) = other.held().document().unwrap();
        prop_assert_eq!(bad, Vec::<String>::new());
        prop_assert_eq!(policy_of(&read), policy_of(&second));
    }
}
