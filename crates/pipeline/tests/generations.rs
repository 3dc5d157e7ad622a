//! Generations are taken only where they were reserved, and what a commit says that it needs is enough.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use pipeline::{
    Batch, Binding, Config, GenerationPool, GenerationsExhausted, Known, OfPort, Renderer, Vlan, Zone,
};
use policy::{Policy, document};

/// The rules of two groups, which of them each of two ports carries.
fn policy(rules: [&str; 2], of_ports: [&str; 2]) -> Policy {
    let group = |name: &str, rules: &str| format!("{{id: {name}, security_group_rules: [{rules}]}}");
    let port = |number: u8, groups: &str| {
        format!(
            "{{id: p-{number}, network_id: n, mac_address: 'fa:16:3e:00:00:0{number}', \
             fixed_ips: [{{ip_address: 10.0.0.{number}}}], security_groups: [{groups}]}}"
        )
    };
    let text = format!(
        "security_groups: [{}, {}]\nports: [{}, {}]\n",
        group("a", rules[0]),
        group("b", rules[1]),
        port(1, of_ports[0]),
        port(2, of_ports[1])
    );
    let parsed = document::parse(&[("policy.yaml", &text)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

const WEB: &str = "{id: web, direction: ingress, ethertype: IPv4, protocol: tcp}";
const OUT: &str = "{id: out, direction: egress, ethertype: IPv4}";
const BOTH: &str = "{id: web, direction: ingress, ethertype: IPv4, protocol: tcp}, \
                    {id: more, direction: egress, ethertype: IPv4}";

struct Host {
    renderer: Renderer,
    policy: Policy,
    /// The first generation that was never taken.
    next: u32,
}

impl Host {
    fn new() -> Self {
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        for number in 1..=2 {
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
fn what_failed_for_want_of_generations_is_done_when_there_are_enough() {
    let (mut hindered, mut free) = (Host::new(), Host::new());
    let change = || policy([WEB, OUT], ["a", "b"]);
    free.renderer.apply_policy(&Policy::diff(&Policy::default(), &change()));
    let wanted = free.renderer.commit(&mut GenerationPool::new(1, 1000)).unwrap().ops;
    assert_eq!(hindered.apply(change()).0.ops, wanted);
}
