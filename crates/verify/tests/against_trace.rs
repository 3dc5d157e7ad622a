//! The interpreter against `ofproto/trace` of a real Open vSwitch: the same flows, the same packets, the same tables, flows,
//! commits and frames out. Needs root.
//!
//! A packet may enter at any table with any registers and connection state, so that every table is met with what its
//! flows look at. `SGFLOW_TRACE_PAIRS` says how many packets there shall be (default 1,500), `SGFLOW_TRACE_SEED` which
//! (default 1).
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod trace;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use policy::Policy;
use policy::document;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_openflow::Flow;
use verify::{Scripted, Tables, run};

use trace::probe::{Probe, probe};
use trace::switch::Switch;
use trace::trail::{Traced, Trail};
use world::host::Rendered;
use world::policies::world;

/// Packets for each set of flows.
const PACKETS_AT_ONCE: usize = 100;

/// Pages of flows/cases whose first policy is tried.
const PAGES: [&str; 6] = [
    include_str!("../../../flows/cases/remote-groups/members.md"),
    include_str!("../../../flows/cases/short-prefix/reply.md"),
    include_str!("../../../flows/cases/stateless/icmp.md"),
    include_str!("../../../flows/cases/sctp/own-port.md"),
    include_str!("../../../flows/cases/fragments/port-zero.md"),
    include_str!("../../../flows/cases/trusted/network-owner.md"),
];

/// What the demo left in a real switch.
const DEMO: &str = include_str!("../../../docs/examples/demo.flows");

#[test]
fn tables_do_what_the_switch_says_they_do() {
    let switch = Switch::start();
    let (seed, wanted) = (of_environment("SGFLOW_TRACE_SEED", 1), of_environment("SGFLOW_TRACE_PAIRS", 1500));
    let mut runner = seeded(seed);
    let mut documents = documents().into_iter();
    let mut done = 0u64;
    while done < wanted {
        let flows = documents.next().unwrap_or_else(|| random_document(&mut runner));
        switch.replace_flows(&flows);
        let entries = Switch::entries().chain(flows).collect::<Vec<_>>();
        let tables = Tables::new(entries).unwrap();
        let (traced, probes) = (Traced::new(tables.flows()), probe(tables.flows()));
        let probes: Vec<Probe> =
            (0..PACKETS_AT_ONCE).map(|_| probes.new_tree(&mut runner).unwrap().current()).collect();
        for (probe, text) in probes.iter().zip(switch.traces(&probes)) {
            compare(&switch, &tables, &traced, probe, &text);
            done += 1;
        }
    }
    println!("{done} pairs of tables and packets, seed {seed}: the interpreter and the switch agree");
}

fn compare(switch: &Switch, tables: &Tables, traced: &Traced, probe: &Probe, text: &str) {
    let seen = Trail::of_trace(text, traced, probe, switch.ports());
    let mut tracker = Scripted::new([probe.next_state; 16]);
    let outcome = run(tables, probe.packet.clone(), &mut tracker)
        .unwrap_or_else(|error| panic!("{}\n{error}\n{text}", probe.text()));
    let ours = Trail::of_outcome(tables, &outcome, switch.ports());
    assert!(ours == seen, "{}\nours:   {ours:#?}\nswitch: {seen:#?}\n{text}", probe.text());
}

fn documents() -> Vec<Vec<Flow>> {
    let demo = DEMO.lines().map(|line| line.parse().unwrap()).collect();
    let pages = PAGES.iter().map(|page| rendered(&first_policy(page)));
    [demo].into_iter().chain(pages).collect()
}

fn first_policy(page: &str) -> Policy {
    let (_, rest) = page.split_once("```yaml policy\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let parsed = document::parse(&[("policy.yaml", text)], None);
    assert!(parsed.diagnostics.is_empty());
    parsed.policy
}

/// Port p-1 is OpenFlow port 1; every network has a VLAN.
fn rendered(policy: &Policy) -> Vec<Flow> {
    let networks: BTreeSet<_> = policy.ports.values().map(|port| port.network_id.clone()).collect();
    let vlans: BTreeMap<_, u16> = networks.into_iter().zip((1..).map(|n| n * 10)).collect();
    let ports = policy.ports.iter().zip(1u16..);
    let ports = ports.map(|((id, port), ofport)| (id.clone(), ofport, vlans[&port.network_id]));
    let mut rendered = Rendered::with_ports(&BTreeSet::new(), ports);
    rendered.put_in_force(policy.clone());
    rendered.flows().cloned().collect()
}

fn random_document(runner: &mut TestRunner) -> Vec<Flow> {
    let world = world().new_tree(runner).unwrap().current();
    Rendered::new(&world).flows().cloned().collect()
}

/// The same packets for the same seed.
fn seeded(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[expect(clippy::disallowed_methods, reason = "what to try is for whoever runs the test to say")]
fn of_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}
