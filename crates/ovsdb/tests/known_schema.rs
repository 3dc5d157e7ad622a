//! Sessions that know the schema beforehand, or what they want of the server, on every kind of server.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::sync::Arc;

use ovsdb::session::{self, SessionEvents};
use ovsdb::{
    Client, Condition, DatabaseSchema, Insert, MonitorTable, ServerPolicy, SessionConfig, SessionEvent,
    Transaction,
};
use support::{TestServer, within};

on_every_server!(
    a_schema_that_is_known_is_not_asked_for,
    what_the_server_lacks_of_a_known_schema_is_told,
    a_value_of_another_type_than_known_is_told,
    a_server_of_its_own_is_a_leader,
);

fn config(server: &impl TestServer) -> SessionConfig {
    SessionConfig::new(server.remote(), "Test")
}

fn items(server: &impl TestServer) -> SessionConfig {
    config(server).monitor(MonitorTable::all_columns("Item"))
}

async fn next(events: &mut SessionEvents) -> SessionEvent {
    within(events.recv()).await.expect("the session goes on")
}

fn new_item(name: &str) -> Insert {
    Insert::into("Item").set("name", name)
}

async fn insert(client: &mut Client, item: Insert) {
    within(client.transact(&Transaction::new("Test").with(item))).await.expect("a good transaction");
}

/// The test schema, changed.
fn known_schema(change: impl FnOnce(&mut serde_json::Value)) -> Option<Arc<DatabaseSchema>> {
    let mut json = serde_json::from_str(include_str!("support/test.ovsschema")).unwrap();
    change(&mut json);
    Some(Arc::new(DatabaseSchema::from_json(&json).unwrap()))
}

async fn a_schema_that_is_known_is_not_asked_for<S: TestServer>() {
    let server = S::start().await;
    insert(&mut server.client().await, new_item("a")).await;
    let mut received = Vec::new();
    for schema in [None, known_schema(|_| {})] {
        let (handle, mut events) = session::spawn(SessionConfig { schema, ..items(&server) });
        assert_eq!(next(&mut events).await, SessionEvent::Connected);
        assert_eq!(within(handle.replica()).await.unwrap().len(), 1);
        let traffic = within(handle.traffic()).await.unwrap();
        assert!(traffic.sent > 150, "{traffic:?}");
        received.push(traffic.received);
    }
    assert!(received[1] + 1000 < received[0], "{received:?}");
}

async fn what_the_server_lacks_of_a_known_schema_is_told<S: TestServer>() {
    let server = S::start().await;
    let newer = known_schema(|schema| {
        schema["version"] = "2.0.0".into();
        schema["tables"]["Item"]["columns"]["colour"] = serde_json::json!({"type": "string"});
        schema["tables"]["Box"] = schema["tables"]["Child"].clone();
    });
    let needs = |what: &str| format!("the database Test has schema 1.0.0, this program needs 2.0.0: {what}");
    for (monitor, reason) in [
        (MonitorTable::new("Item", ["name", "colour"]), needs("no column colour in table Item")),
        (MonitorTable::new("Box", ["name"]), needs("no table Box")),
        (
            MonitorTable::new("Item", ["name"]).matching(Condition::equal("colour", "red")),
            needs("no column colour in table Item"),
        ),
    ] {
        let config = SessionConfig { schema: newer.clone(), ..config(&server).monitor(monitor) };
        let (_handle, mut events) = session::spawn(config);
        assert_eq!(next(&mut events).await, SessionEvent::Disconnected { reason });
    }
    let config = SessionConfig { schema: newer, ..config(&server) };
    let config =
        SessionConfig { database: "Nothing".into(), ..config }.monitor(MonitorTable::all_columns("Box"));
    let (_handle, mut events) = session::spawn(config);
    let SessionEvent::Disconnected { reason } = next(&mut events).await else { panic!("connected") };
    assert!(reason.starts_with("no schema of Nothing: unknown database"), "{reason}");
}

async fn a_value_of_another_type_than_known_is_told<S: TestServer>() {
    let server = S::start().await;
    let schema = known_schema(|schema| {
        schema["tables"]["Item"]["columns"]["count"] = serde_json::json!({"type": "string"});
    });
    let mut client = server.client().await;
    insert(&mut client, new_item("a").set("count", 5)).await;
    let (_handle, mut events) = session::spawn(SessionConfig { schema, ..items(&server) });
    let reason = "unreadable update: table Item, column count: 5 is not of type string".to_owned();
    assert_eq!(next(&mut events).await, SessionEvent::Disconnected { reason });
}

async fn a_server_of_its_own_is_a_leader<S: TestServer>() {
    let server = S::start().await;
    let (handle, mut events) =
        session::spawn(SessionConfig { server: ServerPolicy::Leader, ..items(&server) });
    assert_eq!(next(&mut events).await, SessionEvent::Connected);
    within(handle.transact(Transaction::new("Test").with(new_item("a")))).await.unwrap();
    let nowhere =
        SessionConfig { database: "Nothing".into(), server: ServerPolicy::Connected, ..config(&server) };
    let (_handle, mut events) = session::spawn(nowhere);
    let reason = format!("{} has no database Nothing", server.remote());
    assert_eq!(next(&mut events).await, SessionEvent::Disconnected { reason });
}
