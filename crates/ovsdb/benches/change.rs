//! One element comes to a set column of many, or goes: read, applied, and read by who follows it.

use std::sync::Arc;

use criterion::Criterion;
use ovsdb::monitor::Purpose;
use ovsdb::{Change, DatabaseSchema, MonitorTable, Subscription};
use serde_json::{Value as Json, json};

const GROUP: &str = "00000000-0000-0000-0000-000000000001";
const TRANSACTION: &str = "00000000-0000-0000-0000-00000000000a";

fn member(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255)
}

fn schema() -> Arc<DatabaseSchema> {
    let json = json!({"name": "D", "tables": {"Group": {"columns": {
        "name": {"type": "string"},
        "members": {"type": {"key": "string", "min": 0, "max": "unlimited"}}}}}});
    Arc::new(DatabaseSchema::from_json(&json).expect("a schema"))
}

/// Follows one group of that many members.
fn followed(members: usize) -> Subscription {
    let mut subscription = Subscription::new(0, "D", vec![MonitorTable::all_columns("Group")]);
    subscription.start(&schema()).expect("it fits the schema");
    let members: Vec<String> = (0..members).map(member).collect();
    let rows = json!({"Group": {GROUP: {"initial": {"name": "g", "members": ["set", members]}}}});
    subscription.answered(Purpose::Start, Ok(json!([false, TRANSACTION, rows]))).expect("a good answer");
    subscription
}

/// Toggles a member.
fn update(number: usize) -> Json {
    json!([[0, 1], TRANSACTION, {"Group": {GROUP: {"modify": {"members": member(number)}}}}])
}

fn apply(subscription: &mut Subscription, update: &Json) -> Vec<Change> {
    subscription.notified("update3", update).expect("a good update").expect("for this monitor")
}

/// What is measured; `make instructions` counts what happens in here.
mod workload {
    use super::*;

    #[inline(never)]
    pub(crate) fn apply(subscription: &mut Subscription, update: &Json) -> Vec<Change> {
        super::apply(subscription, update)
    }

    #[inline(never)]
    pub(crate) fn read(change: &Change) -> usize {
        let difference = change.column_difference("members").expect("it is followed");
        difference.added.len() + difference.removed.len()
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for members in [100, 20_000, 200_000] {
        let mut subscription = followed(members);
        let update = update(members / 2);
        // Not measured, so that it is not the first one that has the allocator tidy up after `followed`.
        let changes = apply(&mut subscription, &update);
        criterion.bench_function(&format!("apply a change of 1 in {members}/{members} members"), |bencher| {
            bencher.iter(|| workload::apply(&mut subscription, &update));
        });
        criterion.bench_function(&format!("read a change of 1 in {members}/{members} members"), |bencher| {
            bencher.iter(|| workload::read(&changes[0]));
        });
    }
    criterion.final_summary();
}
