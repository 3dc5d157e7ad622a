//! Reading a document, and the difference of two.

mod scenario;

use std::hint::black_box;

use criterion::Criterion;
use policy::Policy;
use policy::document::parse;
use scenario::{Scenario, Shape};

/// What is measured; `make instructions` counts what happens in here.
mod workload {
    use policy::{Policy, PolicyDelta, document};

    #[inline(never)]
    pub(crate) fn read(file: &str, text: &str) -> document::Parsed {
        document::parse(&[(file, text)], None)
    }

    #[inline(never)]
    pub(crate) fn diff(old: &Policy, new: &Policy) -> PolicyDelta {
        Policy::diff(old, new)
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, shape) in [("default-500", Shape::Default), ("rich-500", Shape::Rich)] {
        cases(&mut criterion, name, Scenario::new(shape, 500));
    }
    criterion.final_summary();
}

fn cases(criterion: &mut Criterion, name: &str, scenario: Scenario) {
    let document = scenario.document();
    let json = document.to_string();
    let yaml = serde_saphyr::to_string(&document).expect("a document can be written");
    let policy = read(&json);
    let rules: usize = policy.groups.values().map(|group| group.rules.len()).sum();
    let objects = policy.groups.len() + policy.ports.len() + rules;
    for (file, text) in [("policy.json", &json), ("policy.yaml", &yaml)] {
        let id = format!("{file} {name}/{objects} objects");
        criterion.bench_function(&id, |bencher| bencher.iter(|| workload::read(file, black_box(text))));
    }
    // What is read again shares nothing with what was read before.
    let again = read(&json);
    let grown = read(&Scenario { members: scenario.members + 1, ..scenario }.document().to_string());
    for (change, new) in [("unchanged", &again), ("+1 member", &grown)] {
        let id = format!("diff {change} {name}/{objects} objects");
        criterion.bench_function(&id, |bencher| bencher.iter(|| workload::diff(black_box(&policy), new)));
    }
}

fn read(json: &str) -> Policy {
    let parsed = parse(&[("policy.json", json)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}
