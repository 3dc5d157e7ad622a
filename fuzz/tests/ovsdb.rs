//! What a database server may send: framing, messages, and rows by the schema of a table.

use std::sync::Arc;

use bolero::check;
use fuzz::{CASES, Damage, bounded, corpus};
use ovsdb::monitor::{Progress, Purpose};
use ovsdb::wire::{Framer, Message};
use ovsdb::{Change, DatabaseSchema, Insert, Limits, MonitorTable, Row, Subscription, Transaction};
use serde_json::{Value, json};

const TRANSACTION: &str = "00000000-0000-0000-0000-000000000001";

fn cut(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut framer = Framer::new(Limits::default());
    framer.push(stream);
    let mut messages = Vec::new();
    while let Ok(Some(message)) = framer.next_message() {
        messages.push(message.to_vec());
    }
    messages
}

fn judge(stream: &[u8]) {
    let read: Vec<Message> =
        bounded(stream.len(), || cut(stream).iter().filter_map(|text| Message::parse(text).ok()).collect());
    for message in read {
        let mut text = Vec::new();
        message.write(&mut text);
        assert_eq!(cut(&text), [text.as_slice()], "a message is one object");
        assert_eq!(Message::parse(&text).as_ref(), Ok(&message));
        if let Message::Response { outcome: Ok(result), .. } = message {
            DatabaseSchema::from_json(&result).ok();
        }
    }
}

fn schema() -> Arc<DatabaseSchema> {
    let text = include_str!("../../crates/ovsdb/tests/support/test.ovsschema");
    Arc::new(DatabaseSchema::from_text(text).expect("a schema"))
}

/// A monitor of all tables that has no rows yet, and its id.
fn subscription(schema: &Arc<DatabaseSchema>) -> (Subscription, Value) {
    let tables = ["Item", "Parent", "Child"].map(MonitorTable::all_columns).to_vec();
    let mut subscription = Subscription::new(1, "Test", tables);
    let mut call = subscription.start(schema).expect("the tables are in the schema");
    (subscription, call.params[1].take())
}

/// The rows of a `<table-updates2>` as the answer that starts a monitor.
fn rows(schema: &Arc<DatabaseSchema>, updates: &Value) -> Option<Vec<Change>> {
    let answer = json!([false, TRANSACTION, updates]);
    match subscription(schema).0.answered(Purpose::Start, Ok(answer)) {
        Ok(Progress::Synced(changes)) => Some(changes),
        _ => None,
    }
}

fn judge_rows(schema: &Arc<DatabaseSchema>, text: &[u8]) {
    let Ok(updates) = serde_json::from_slice::<Value>(text) else { return };
    let read = bounded(text.len(), || rows(schema, &updates));
    for row in read.iter().flatten().filter_map(Change::new_row) {
        let again =
            rows(schema, &json!({row.table().as_ref(): {row.uuid().to_string(): {"initial": written(row)}}}));
        let again = again.expect("what was written can be read");
        assert_eq!(again.iter().filter_map(Change::new_row).collect::<Vec<_>>(), [row]);
    }
    // As a change to rows that are there, it is taken or leaves them as they were.
    let (mut subscription, id) = subscription(schema);
    let start = json!([false, TRANSACTION, updates]);
    if subscription.answered(Purpose::Start, Ok(start)).is_ok() {
        let mut copy = subscription.replica().clone();
        let params = json!([id, TRANSACTION, updates]);
        if let Ok(Some(changes)) = subscription.notified("update3", &params) {
            copy.apply(&changes);
        }
        assert_eq!(&copy, subscription.replica());
    }
}

/// The columns of a row as a transaction writes them.
fn written(row: &Row) -> Value {
    let columns = row.columns().iter();
    let insert = columns
        .fold(Insert::into(row.table().as_ref()), |insert, (name, datum)| insert.set(name.as_ref(), datum));
    Transaction::new("Test").with(insert).params()[1]["row"].take()
}

#[test]
fn ovsdb() {
    check!(name = "ovsdb").with_iterations(CASES).for_each(judge);
}

#[test]
fn ovsdb_damaged() {
    let seeds: Vec<Vec<u8>> = corpus("ovsdb").iter().flat_map(|stream| cut(stream)).collect();
    check!(name = "ovsdb_damaged")
        .with_iterations(CASES)
        .with_type::<Damage>()
        .for_each(|damage| judge(&damage.apply(&seeds)));
}

#[test]
fn ovsdb_rows() {
    let schema = schema();
    check!(name = "ovsdb_rows").with_iterations(CASES).for_each(|text: &[u8]| judge_rows(&schema, text));
}

#[test]
fn ovsdb_rows_damaged() {
    let (schema, seeds) = (schema(), corpus("ovsdb_rows"));
    check!(name = "ovsdb_rows_damaged")
        .with_iterations(CASES)
        .with_type::<Damage>()
        .for_each(|damage| judge_rows(&schema, &damage.apply(&seeds)));
}
