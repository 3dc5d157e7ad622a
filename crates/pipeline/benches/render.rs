//! Rendering a host from nothing, and each kind of change of one that stands.

#[path = "../../policy/benches/scenario/mod.rs"]
mod scenario;

use std::cell::RefCell;
use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, OfPort, Renderer, Vlan, Zone};
use policy::{Policy, PolicyDelta, PortId, document};
use scenario::{Scenario, Shape, port_id};

/// Of so many members, which are on other hosts.
const LOCAL_PORTS: u16 = 100;
const MEMBERS: u32 = 500;

/// What is measured; `make instructions` counts what happens in here.
mod workload {
    use super::*;

    #[inline(never)]
    pub(crate) fn from_nothing(policy: &PolicyDelta) -> (Host, Vec<FlowOp>) {
        Host::new(policy)
    }

    #[inline(never)]
    pub(crate) fn change(host: &mut Host, change: &Change) -> Vec<FlowOp> {
        host.change(change)
    }
}

/// A renderer of local ports, and the generations that it may use.
struct Host {
    renderer: Renderer,
    pool: GenerationPool,
}

/// What a host is told.
enum Change {
    Policy(PolicyDelta),
    Bind(PortId, Option<Binding>),
}

impl Host {
    fn new(policy: &PolicyDelta) -> (Self, Vec<FlowOp>) {
        let renderer = Renderer::new(&Config::default(), Known::default());
        let mut host = Host { renderer, pool: GenerationPool::new(1, u32::MAX) };
        host.renderer.apply_policy(policy);
        for number in 0..LOCAL_PORTS {
            host.renderer.bind(&member(number), Some(binding(number)));
        }
        let ops = host.commit();
        (host, ops)
    }

    fn change(&mut self, change: &Change) -> Vec<FlowOp> {
        match change {
            Change::Policy(delta) => self.renderer.apply_policy(delta),
            Change::Bind(port, binding) => self.renderer.bind(port, *binding),
        }
        self.commit()
    }

    fn commit(&mut self) -> Vec<FlowOp> {
        let batch = self.renderer.commit(&mut self.pool).expect("generations are reserved");
        let mut ops = batch.ops;
        if batch.retires {
            ops.extend(self.renderer.sweep());
        }
        ops
    }
}

fn member(number: u16) -> PortId {
    port_id(number.into()).as_str().into()
}

fn binding(number: u16) -> Binding {
    Binding { ofport: OfPort(number + 1), vlan: Vlan(10), zone: Zone(4097 + number) }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, shape) in [("default-100-500", Shape::Default), ("rich-100-500", Shape::Rich)] {
        let scenario = Scenario::new(shape, MEMBERS);
        from_nothing(&mut criterion, name, scenario);
        changes(&mut criterion, name, scenario);
    }
    criterion.final_summary();
}

fn from_nothing(criterion: &mut Criterion, name: &str, scenario: Scenario) {
    let policy = Policy::diff(&Policy::default(), &read(scenario));
    let (_, flows) = Host::new(&policy);
    let id = format!("from nothing {name}/{} flows", flows.len());
    criterion.bench_function(&id, |bencher| {
        bencher.iter_with_large_drop(|| workload::from_nothing(black_box(&policy)));
    });
}

/// There and back again, each way a case; the other way is not measured.
fn changes(criterion: &mut Criterion, name: &str, scenario: Scenario) {
    let before = read(scenario);
    let to = |after: Scenario| {
        let after = read(after);
        [Policy::diff(&before, &after), Policy::diff(&after, &before)].map(Change::Policy)
    };
    let appears = [Some(binding(LOCAL_PORTS)), None];
    let pairs = [
        (["+1 member", "-1 member"], to(Scenario { members: MEMBERS + 1, ..scenario })),
        (["+1 rule", "-1 rule"], to(Scenario { has_extra_rule: true, ..scenario })),
        (["a port joins a group", "and leaves it"], to(Scenario { has_extra_group: true, ..scenario })),
        (["+1 port", "-1 port"], appears.map(|binding| Change::Bind(member(LOCAL_PORTS), binding))),
    ];
    let (host, _) = Host::new(&Policy::diff(&Policy::default(), &before));
    let host = RefCell::new(host);
    for ([there, back], [first, second]) in &pairs {
        for (what, change, other) in [(there, first, second), (back, second, first)] {
            let undo = || drop(host.borrow_mut().change(other));
            undo();
            let flow_mods = host.borrow_mut().change(change).len();
            let id = format!("{what} {name}/{flow_mods} flow-mods");
            criterion.bench_function(&id, |bencher| {
                let routine = |()| workload::change(&mut host.borrow_mut(), black_box(change));
                bencher.iter_batched(undo, routine, BatchSize::PerIteration);
            });
        }
    }
}

fn read(scenario: Scenario) -> Policy {
    let parsed = document::parse(&[("policy.json", &scenario.document().to_string())], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}
