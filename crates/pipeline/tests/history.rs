//! History does not matter: however a list of changes is told, in what order, in what pieces, how often, there and back,
//! with how many restarts between, the table in the end is the one of a switch that was told the end alone.
//!
//! Numbers differ; tables are compared by what they mean (`verify::Meaning`), which is read from the flows. Besides, a
//! restart that knows the numbers writes the very same flows.
#![allow(clippy::unwrap_used, reason = "a helper of a test that cannot go on")]

mod changes;

use std::collections::BTreeMap;

use changes::{Change, Form, Interruption, State, change, forms, interruptions, there_and_back};
use pipeline::{Batch, Config, FlowBody, FlowOp, GenerationPool, Known, Renderer};
use proptest::collection::vec;
use proptest::prelude::*;
use rust_openflow::{Flow, FlowKey};
use verify::Meaning;

type Flows = BTreeMap<FlowKey, Flow>;

/// A switch that believes everything it is told, and who tells it.
struct Host {
    flows: Flows,
    pool: GenerationPool,
    renderer: Renderer,
    told: State,
}

impl Host {
    fn new() -> Self {
        Host {
            flows: Flows::new(),
            pool: GenerationPool::new(1, 1_000_000),
            renderer: Renderer::new(&Config::default(), Known::default()),
            told: State::default(),
        }
    }

    /// A host that was told all there is at once.
    fn cold(state: &State) -> Self {
        let mut host = Host::new();
        state.changes().for_each(|change| host.tell(change));
        host.end();
        host
    }

    fn tell(&mut self, change: Change) {
        self.told.take(change);
        change.tell(&mut self.renderer);
    }

    fn play(&mut self, form: &Form) {
        for (change, interruption) in form.changes.iter().zip(form.interruptions.iter().cycle()) {
            self.tell(*change);
            match interruption {
                Interruption::Nothing => {}
                Interruption::Commit => self.commit(),
                Interruption::Sweep => self.end(),
                Interruption::Restart => self.restart(),
            }
        }
    }

    fn commit(&mut self) {
        let batch = self.renderer.commit(&mut self.pool).unwrap();
        apply(&mut self.flows, batch.ops);
    }

    fn end(&mut self) {
        self.commit();
        apply(&mut self.flows, self.renderer.sweep());
        assert_eq!(self.renderer.generations_needed(), 0);
    }

    /// Another renderer that knows what the switch holds, and was told everything at once.
    fn again(&self) -> Renderer {
        let mut renderer = Renderer::new(&Config::default(), Known::read(self.flows.values()));
        self.told.changes().for_each(|change| change.tell(&mut renderer));
        renderer
    }

    /// What the engine does at its start: what the switch admits too much takes a new generation, and what a cached first
    /// stage may still reach stays until the sweep, which comes at once here.
    fn restart(&mut self) {
        let mut renderer = self.again();
        let Batch { ops, .. } = renderer.commit(&mut self.pool).unwrap();
        let mut wanted = Flows::new();
        apply(&mut wanted, ops);
        let body = |flow: &Flow| FlowBody { cookie: flow.cookie, actions: flow.actions.clone().into() };
        for (key, old) in &self.flows {
            let new = wanted.get(key);
            if new != Some(old) {
                renderer.shrunk_by(key, &body(old), new.map(body).as_ref());
            }
        }
        apply(&mut wanted, renderer.commit(&mut self.pool).unwrap().ops);
        renderer.forget_known();
        (self.renderer, self.flows) = (renderer, wanted);
    }

    fn meaning(&self) -> Meaning {
        Meaning::of(self.flows.values()).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn apply(flows: &mut Flows, ops: Vec<FlowOp>) {
    for op in ops {
        match op {
            FlowOp::Set(flow) => _ = flows.insert(flow.key(), flow),
            FlowOp::Remove(key) => _ = flows.remove(&key),
        }
    }
}

/// The hosts hold the same by meaning.
fn same(name: &str, host: &Host, wanted: &Host) -> Result<(), TestCaseError> {
    prop_assert_eq!(&host.told, &wanted.told, "{} does not come to the same", name);
    let lines = host.meaning().differences(&wanted.meaning());
    prop_assert!(lines.is_empty(), "{name}:\n{}", lines.join("\n"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_of_a_list_of_changes_ends_in_the_table_of_a_cold_start(
        before in vec(change(), 0..12),
        list in vec(change(), 1..16),
        keys in vec(any::<u64>(), 1..8),
        interruptions in interruptions(),
    ) {
        let begun = State::after(&before);
        let cold = Host::cold(&State::after(before.iter().chain(&list)));
        for form in forms(&begun, &list, &keys, &interruptions) {
            let mut host = Host::cold(&begun);
            host.play(&form);
            host.end();
            same(form.name, &host, &cold)?;
        }
    }

    #[test]
    fn there_and_back_is_where_it_began(
        before in vec(change(), 0..12),
        list in vec(change(), 1..16),
        interruptions in interruptions(),
    ) {
        let begun = State::after(&before);
        let mut host = Host::cold(&begun);
        let changes = there_and_back(&begun, &list);
        host.play(&Form { name: "there and back", changes, interruptions });
        host.end();
        same("there and back", &host, &Host::cold(&begun))?;
    }

    #[test]
    fn a_restart_writes_the_very_same_flows(
        list in vec(change(), 1..30),
        interruptions in interruptions(),
    ) {
        let mut host = Host::new();
        host.play(&Form { name: "as it is", changes: list, interruptions });
        host.end();
        let mut flows = Flows::new();
        apply(&mut flows, host.again().commit(&mut GenerationPool::new(1, 1000)).unwrap().ops);
        let text = |flows: &Flows| flows.values().map(Flow::to_string).collect::<Vec<_>>().join("\n");
        prop_assert_eq!(text(&host.flows), text(&flows));
    }
}
