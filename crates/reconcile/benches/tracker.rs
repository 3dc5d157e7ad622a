//! What is wanted, what is seen, and the difference, of a table of flows.

use std::sync::Arc;

use criterion::{BatchSize, Criterion};

/// Table, priority and match, as bytes.
type Key = (u8, u16, Arc<[u8]>);
/// Cookie and actions.
type Value = (u64, Arc<[u64]>);
type Tracker = reconcile::Tracker<Key, Value>;

const FLOWS: u16 = 5000;

/// What is measured; `make instructions` counts what happens in here.
mod workload {
    use super::*;

    #[inline(never)]
    pub(crate) fn want(tracker: &mut Tracker, flows: Vec<(Key, Value)>) {
        flows.into_iter().for_each(|(key, value)| tracker.want(key, value));
    }

    #[inline(never)]
    pub(crate) fn apply(tracker: &mut Tracker) {
        tracker.confirm(tracker.pending());
    }

    #[inline(never)]
    pub(crate) fn change(tracker: &mut Tracker, (key, value): (Key, Value)) {
        tracker.want(key, value);
        tracker.confirm(tracker.pending());
    }

    #[inline(never)]
    pub(crate) fn read_back(tracker: &mut Tracker, seen: Vec<(Key, Value)>) -> usize {
        tracker.replace_actual(seen);
        tracker.pending().len()
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let wanted: Vec<_> = (0..FLOWS).map(|number| flow(number, 0)).collect();
    let mut unsent = Tracker::new();
    wanted.iter().cloned().for_each(|(key, value)| unsent.want(key, value));
    let mut converged = unsent.clone();
    converged.confirm(unsent.pending());
    // One in a hundred was changed by another, one in a hundred is gone.
    let changed = |number| u64::from(number % 100 == 1);
    let drifted = (0..FLOWS).filter(|number| number % 100 != 0).map(|number| flow(number, changed(number)));
    let drifted: Vec<_> = drifted.collect();

    criterion.bench_function(&format!("want all/{FLOWS} flows"), |bencher| {
        let routine = |(mut tracker, flows)| {
            workload::want(&mut tracker, flows);
            tracker
        };
        bencher.iter_batched(|| (Tracker::new(), wanted.clone()), routine, BatchSize::LargeInput);
    });
    criterion.bench_function(&format!("apply all/{FLOWS} flows"), |bencher| {
        bencher.iter_batched_ref(|| unsent.clone(), workload::apply, BatchSize::LargeInput);
    });
    for (what, seen) in [("as wanted", &wanted), ("with drift", &drifted)] {
        criterion.bench_function(&format!("read back {what}/{FLOWS} flows"), |bencher| {
            let routine = |(mut tracker, seen)| (workload::read_back(&mut tracker, seen), tracker);
            bencher.iter_batched(|| (converged.clone(), seen.clone()), routine, BatchSize::LargeInput);
        });
    }
    criterion.bench_function(&format!("change one of {FLOWS}/1 flow-mod"), |bencher| {
        let mut turn = 0;
        bencher.iter(|| {
            turn += 1;
            workload::change(&mut converged, flow(FLOWS / 2, turn))
        });
    });
    criterion.final_summary();
}

/// A flow of a port: table, priority, and a match of its MAC and address as OXM has them; `turn` makes it another one.
fn flow(number: u16, turn: u64) -> (Key, Value) {
    let [high, low] = number.to_be_bytes();
    let table = 100 + low % 20;
    let matches = [
        [0x80, 0, 0x0a, 2, 0x08, 0].as_slice(),
        &[0x80, 0, 0x08, 6, 0xfa, 0x16, 0x3e, 0, high, low],
        &[0x80, 0, 0x16, 4, 10, 0, high, low],
    ];
    (
        (table, 100, matches.concat().into()),
        (0x5367_0200_0000_0000 | u64::from(number), [turn, 1, 2, 3].into()),
    )
}
