//! What a set that ports leave keeps, and for how long (docs/decisions/0006).
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::collections::BTreeMap;

use pipeline::{Binding, Config, FlowBody, FlowOp, GenerationPool, Known, OfPort, Renderer, Vlan, Zone};
use policy::{Policy, document};
use rust_openflow::{Field, Flow, FlowKey};

/// Table and field of a set's rules.
const INGRESS_POLICY: u8 = 123;
const SET: Field = Field::Reg(7);

struct Host {
    renderer: Renderer,
    pool: GenerationPool,
    policy: Policy,
    flows: BTreeMap<FlowKey, Flow>,
}

fn policy(groups: &str, of_port: &str) -> Policy {
    let text = format!(
        "security_groups: [{groups}]\nports:\n- {{id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01', \
         fixed_ips: [{{ip_address: 10.0.0.1}}], security_groups: [{of_port}]}}\n"
    );
    let parsed = document::parse(&[("policy.yaml", &text)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

fn group(id: &str, stateful: bool) -> String {
    format!(
        "{{id: {id}, stateful: {stateful}, security_group_rules: [{{id: r-{id}, direction: ingress, ethertype: IPv4, \
         protocol: tcp, port_range_min: 80, port_range_max: 80}}]}}"
    )
}

impl Host {
    fn new(known: &[Flow], first_generation: u32) -> Self {
        let mut renderer = Renderer::new(&Config::default(), Known::read(known));
        let binding = Binding { ofport: OfPort(1), vlan: Vlan(10), zone: Zone(0x1001) };
        renderer.bind(&"p".into(), Some(binding));
        let pool = GenerationPool::new(first_generation, 1_000_000);
        Host { renderer, pool, policy: Policy::default(), flows: BTreeMap::new() }
    }

    fn set_policy(&mut self, policy: Policy) {
        self.renderer.apply_policy(&Policy::diff(&self.policy, &policy));
        self.policy = policy;
        let ops = self.renderer.commit(&mut self.pool).unwrap().ops;
        self.apply(ops);
    }

    fn sweep(&mut self) {
        let ops = self.renderer.sweep();
        self.apply(ops);
    }

    fn apply(&mut self, ops: Vec<FlowOp>) {
        for op in ops {
            match op {
                FlowOp::Set(flow) => _ = self.flows.insert(flow.key(), flow),
                FlowOp::Remove(key) => _ = self.flows.remove(&key),
            }
        }
    }

    /// The set of the port, by what its classifying flow loads.
    fn set_of_port(&self) -> u128 {
        let text =
            self.flows.values().find(|flow| flow.table == 100 && flow.to_string().contains("in_port=1 "));
        let text = text.unwrap().to_string();
        let value = text.split("->reg7").next().unwrap().rsplit("set_field:0x").next().unwrap();
        u128::from_str_radix(value, 16).unwrap()
    }

    /// The rules of a set.
    fn rules_of(&self, set: u128) -> usize {
        let of_set = |flow: &&Flow| {
            flow.table == INGRESS_POLICY
                && flow.matches.get(SET).map(|(value, _)| value) == Some(set)
                && flow.to_string().contains("ct_tp_dst=80")
        };
        self.flows.values().filter(of_set).count()
    }
}

#[test]
fn a_set_keeps_the_rules_of_a_group_that_goes_until_it_is_swept() {
    let mut host = Host::new(&[], 1);
    host.set_policy(policy(&group("a", true), "a"));
    let old = host.set_of_port();
    host.set_policy(policy(&group("b", true), "b"));
    let new = host.set_of_port();
    assert_ne!(old, new);
    assert_eq!((host.rules_of(old), host.rules_of(new)), (1, 1));
    host.sweep();
    assert_eq!((host.rules_of(old), host.rules_of(new)), (0, 1));
}

#[test]
fn a_set_that_comes_back_before_it_is_swept_is_what_its_groups_are_now() {
    let mut host = Host::new(&[], 1);
    let both = |port: &str, a: &str| policy(&format!("{a}, {}", group("b", true)), port);
    host.set_policy(both("a", &group("a", true)));
    let old = host.set_of_port();
    host.set_policy(both("b", "{id: a, security_group_rules: []}"));
    assert_eq!(host.rules_of(old), 1);
    host.set_policy(both("a", "{id: a, security_group_rules: []}"));
    assert_eq!((host.set_of_port(), host.rules_of(old)), (old, 0));
}

#[test]
fn a_number_is_never_given_out_again() {
    let mut host = Host::new(&[], 1);
    let mut seen = Vec::new();
    for round in 0..4 {
        let name = if round % 2 == 0 { "a" } else { "b" };
        host.set_policy(policy(&group(name, true), name));
        host.sweep();
        seen.push(host.set_of_port());
    }
    // A restart knows the counter, and nothing of the sets that are gone.
    let flows: Vec<Flow> = host.flows.values().cloned().collect();
    let next = host.pool.take().unwrap().0;
    let mut again = Host::new(&flows, next);
    again.set_policy(policy(&group("c", true), "c"));
    seen.push(again.set_of_port());
    let distinct: std::collections::BTreeSet<u128> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "{seen:?}");
}

#[test]
fn a_group_that_turns_stateless_is_another_set_and_a_restart_knows_which() {
    let mut host = Host::new(&[], 1);
    host.set_policy(policy(&group("a", true), "a"));
    let stateful = host.set_of_port();
    host.set_policy(policy(&group("a", false), "a"));
    let stateless = host.set_of_port();
    assert_ne!(stateful, stateless);
    assert_eq!(host.rules_of(stateful), 1, "until it is swept");
    host.sweep();
    let flows: Vec<Flow> = host.flows.values().cloned().collect();
    let mut again = Host::new(&flows, 1000);
    again.set_policy(policy(&group("a", false), "a"));
    assert_eq!(again.set_of_port(), stateless);
}

#[test]
fn what_a_restart_finds_of_a_set_out_of_use_is_left_over_and_nothing_else() {
    let mut before = Host::new(&[], 1);
    let with_remote =
        group("a", true).replace("port_range_max: 80", "port_range_max: 80, remote_group_id: a");
    before.set_policy(policy(&with_remote, "a"));
    let flows: Vec<Flow> = before.flows.values().cloned().collect();
    let mut after = Host::new(&flows, 1000);
    after.set_policy(policy(&group("b", true), "b"));
    let old = before.set_of_port();
    let mut left = 0;
    for (key, flow) in before.flows.iter().filter(|(key, _)| !after.flows.contains_key(*key)) {
        let body = FlowBody { cookie: flow.cookie, actions: flow.actions.clone().into() };
        let is_left = after.renderer.left_over(key, &body, None).is_some();
        let is_of_set = key.matches.get(SET).map(|(value, _)| value) == Some(old);
        let is_of_remote = flow.to_string().contains("conj");
        assert_eq!(is_left, is_of_set || is_of_remote, "{flow}");
        left += usize::from(is_left);
    }
    assert!(left > 5, "{left}");
}
