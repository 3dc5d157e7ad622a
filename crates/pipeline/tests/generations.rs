//! Generations are taken only where they were reserved, and what a commit says that it needs is enough.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::sync::Arc;

use pipeline::{
    Batch, Binding, Config, FlowOp, GenerationPool, GenerationsExhausted, Known, OfPort, Renderer, Vlan, Zone,
};
use policy::{Policy, SecurityGroup, document};

/// The rules of two groups, which of them each port carries.
fn policy<const PORTS: usize>(rules: [&str; 2], of_ports: [&str; PORTS]) -> Policy {
    let group = |name: &str, rules: &str| format!("{{id: {name}, security_group_rules: [{rules}]}}");
    let port = |(number, groups): (usize, &&str)| {
        let number = number + 1;
        format!(
            "{{id: p-{number}, network_id: n, mac_address: 'fa:16:3e:00:00:0{number}', \
             fixed_ips: [{{ip_address: 10.0.0.{number}}}], security_groups: [{groups}]}}"
        )
    };
    let text = format!(
        "security_groups: [{}, {}, {{id: c}}, {{id: s, stateful: false, security_group_rules: [{STATELESS}]}}]\nports: [{}]\n",
        group("a", rules[0]),
        group("b", rules[1]),
        of_ports.iter().enumerate().map(port).collect::<Vec<_>>().join(", ")
    );
    let parsed = document::parse(&[("policy.yaml", &text)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

const WEB: &str = "{id: web, direction: ingress, ethertype: IPv4, protocol: tcp}";
const OUT: &str = "{id: out, direction: egress, ethertype: IPv4}";
const BOTH: &str = "{id: web, direction: ingress, ethertype: IPv4, protocol: tcp}, \
                    {id: more, direction: egress, ethertype: IPv4}";

const STATELESS: &str = "{id: less, direction: ingress, ethertype: IPv4, protocol: udp}";

struct Host {
    renderer: Renderer,
    policy: Policy,
    /// The first generation that was never taken.
    next: u32,
}

impl Host {
    fn new() -> Self {
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        for number in 1..=4 {
            let binding = Binding { ofport: OfPort(number), vlan: Vlan(10), zone: Zone(0x1000 + number) };
            renderer.bind(&format!("p-{number}").as_str().into(), Some(binding));
        }
        Host { renderer, policy: Policy::default(), next: 1 }
    }

    /// Applies a policy with exactly the generations that it asks for, after it was tried with one less. Gives how many
    /// it took.
    fn apply(&mut self, policy: Policy) -> (Batch, u32) {
        self.renderer.apply_policy(&Policy::diff(&self.policy, &policy));
        self.policy = policy;
        let needed = self.renderer.generations_needed();
        let limit = self.next + needed;
        let mut pool = GenerationPool::new(self.next, limit);
        if needed > 0 {
            let mut short = GenerationPool::new(self.next, limit - 1);
            let refused = self.renderer.commit(&mut short);
            assert_eq!(refused.err(), Some(GenerationsExhausted { limit: limit - 1 }));
            assert_eq!(short.remaining(), needed - 1, "a commit that fails takes none");
        }
        let batch = self.renderer.commit(&mut pool).unwrap();
        let taken = needed - pool.remaining();
        self.next += taken;
        (batch, taken)
    }
}

#[test]
fn a_commit_takes_no_more_than_it_asked_for_and_nothing_without() {
    let mut host = Host::new();
    let mut taken = |rules, of_ports| host.apply(policy(rules, of_ports)).1;
    assert_eq!(taken([WEB, OUT], ["a", "b"]), 6, "two sets: a number and two generations each");
    assert_eq!(taken([WEB, OUT], ["a", "a"]), 0, "a set that is there");
    assert_eq!(taken([WEB, OUT], ["a", "a, b"]), 3, "a new set");
    assert_eq!(taken([BOTH, OUT], ["a", "a, b"]), 0, "growth");
    assert_eq!(taken(["", OUT], ["a", "a, b"]), 3, "two directions less in one set, one less in the other");
}

#[test]
fn a_group_in_many_sets_asks_for_two_a_set() {
    let mut host = Host::new();
    let sets = ["a", "a, b", "a, c", "a, b, c"];
    host.apply(policy([BOTH, OUT], sets));
    assert_eq!(host.apply(policy(["", OUT], sets)).1, 6, "in two of them OUT still admits all that goes out");
}

#[test]
fn a_stateless_rule_that_goes_has_no_connections_to_prove() {
    let mut host = Host::new();
    host.apply(policy([WEB, OUT], ["a, s"]));
    let mut without = policy([WEB, OUT], ["a, s"]);
    let mut group = SecurityGroup::clone(&without.groups[&"s".into()]);
    group.rules.clear();
    without.groups.insert("s".into(), Arc::new(group));
    assert_eq!(host.apply(without).1, 0);
}

/// Caches may know it still, also where flows only change: the member is one of another group too, for the same service.
#[test]
fn a_member_or_rule_less_shrinks_also_where_no_flow_goes() {
    let from = |id: &str, group: &str| {
        format!("{{id: {id}, direction: ingress, ethertype: IPv4, protocol: tcp, remote_group_id: {group}}}")
    };
    let udp = "{id: udp, direction: ingress, ethertype: IPv4, protocol: udp, remote_group_id: b}";
    let stateless = |rules: &[String], groups: &str| {
        let mut policy = policy([&rules.join(", "), ""], ["a", groups]);
        let mut group = SecurityGroup::clone(&policy.groups[&"a".into()]);
        group.stateful = false;
        policy.groups.insert("a".into(), Arc::new(group));
        policy
    };
    let all = [from("of-b", "b"), from("of-c", "c"), udp.to_owned()];
    for (less, which) in [(stateless(&all, "c"), "member"), (stateless(&all[1..], "b, c"), "rule")] {
        let mut host = Host::new();
        // The second port is elsewhere.
        host.renderer.bind(&"p-2".into(), None);
        host.apply(stateless(&all, "b, c"));
        let mut swept = Host::new();
        swept.renderer.bind(&"p-2".into(), None);
        swept.apply(stateless(&all, "b, c"));
        swept.renderer.apply_policy(&Policy::diff(&swept.policy, &less));
        swept.renderer.sweep();
        let batch = swept.renderer.commit(&mut GenerationPool::new(100, 200)).unwrap();
        assert!(batch.shrinks, "{which}, told before a sweep and committed after it");
        let (batch, taken) = host.apply(less);
        assert!(batch.ops.iter().all(|op| matches!(op, FlowOp::Set(_))), "{which}: {:?}", batch.ops);
        assert!(batch.shrinks, "{which}");
        assert_eq!(taken, 0);
    }
}

#[test]
fn what_failed_for_want_of_generations_is_done_when_there_are_enough() {
    let (mut hindered, mut free) = (Host::new(), Host::new());
    let change = || policy([WEB, OUT], ["a", "b"]);
    free.renderer.apply_policy(&Policy::diff(&Policy::default(), &change()));
    let wanted = free.renderer.commit(&mut GenerationPool::new(1, 1000)).unwrap().ops;
    assert_eq!(hindered.apply(change()).0.ops, wanted);
}
