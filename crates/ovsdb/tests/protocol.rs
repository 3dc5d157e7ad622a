//! Requests and answers: the same tests on the in-memory server and on ovsdb-server.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::time::Duration;

use ovsdb::client::LockEvent;
use ovsdb::{
    Client, ClientError, Condition, Delete, Function, Insert, Mutate, Mutator, NamedRow, Operation,
    OperationIndex, Real as RealNumber, Row, RpcError, Select, TransactError, Transaction, Update, Uuid,
    Value, Wait,
};
use support::{TestServer, within};

on_every_server!(
    names_and_schema,
    every_type_survives_the_round_trip,
    conditions_select_rows,
    update_delete_and_their_counts,
    mutations,
    named_rows_can_be_used_before_they_are_made,
    rows_that_nothing_refers_to_go,
    a_failed_operation_undoes_the_transaction,
    a_failed_commit_is_told_apart,
    errors_have_their_names,
    requests_are_pipelined,
    wait_waits,
    wait_times_out,
    a_waiting_transaction_can_be_canceled,
    locks_pass_from_one_client_to_the_next,
    a_stolen_lock_comes_back,
    assert_fences,
    abort_comment_and_commit,
);

fn transaction(operations: impl IntoIterator<Item = Operation>) -> Transaction {
    operations.into_iter().fold(Transaction::new("Test"), Transaction::with)
}

async fn run(client: &mut Client, operations: impl IntoIterator<Item = Operation>) -> ovsdb::TransactReply {
    within(client.transact(&transaction(operations))).await.expect("a good transaction")
}

async fn fail(client: &mut Client, operations: impl IntoIterator<Item = Operation>) -> TransactError {
    within(client.transact(&transaction(operations))).await.expect_err("a bad transaction")
}

async fn items(client: &mut Client, condition: Condition) -> Vec<Row> {
    let reply = run(client, [Select::from("Item").filter(condition).into()]).await;
    reply.rows(OperationIndex(0)).expect("a select").to_vec()
}

async fn item(client: &mut Client, name: &str) -> Row {
    let mut rows = items(client, Condition::equal("name", name)).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn new_item(name: &str) -> Insert {
    Insert::into("Item").set("name", name)
}

async fn names_and_schema<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    assert!(client.list_dbs().await.unwrap().contains(&"Test".to_owned()));
    let schema = client.schema("Test").await.unwrap();
    let tables: Vec<&str> = schema.tables.keys().map(|name| &**name).collect();
    assert_eq!(tables, ["Child", "Item", "Parent"]);
    assert!(!schema.table("Child").unwrap().is_root && schema.table("Item").unwrap().is_root);
    assert_eq!(client.server_id().await.unwrap(), client.server_id().await.unwrap());
    client.echo().await.unwrap();
    client.set_db_change_aware(true).await.unwrap();
    let unknown = client.schema("Nothing").await.unwrap_err();
    assert!(
        matches!(&unknown, ClientError::Refused(RpcError { error, .. }) if error == "unknown database"),
        "{unknown}"
    );
}

async fn every_type_survives_the_round_trip<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let name = "a \"quoted\" {näme} \\ \u{1F600}";
    let insert = new_item(name)
        .set("serial", i64::MIN)
        .set("count", i64::MAX)
        .set("ratio", RealNumber::new(0.1).unwrap())
        .set("on", true)
        .set("level", 7)
        .set("numbers", Value::set([3, -1, 2]))
        .set("tags", Value::set(["x"]))
        .set("ids", Value::map([("iface-id", "p-1"), ("", "empty")]))
        .set("sizes", Value::map([("a", 1)]));
    let reply = run(&mut client, [insert.into()]).await;
    let row = item(&mut client, name).await;
    assert_eq!(Some(row.uuid()), reply.inserted(OperationIndex(0)));
    assert_eq!(row.string("name"), Ok(name));
    assert_eq!(row.integer("serial"), Ok(i64::MIN));
    assert_eq!(row.integer("count"), Ok(i64::MAX));
    assert_eq!(row.real("ratio"), Ok(0.1));
    assert_eq!(row.boolean("on"), Ok(true));
    assert_eq!(row.optional_integer("level"), Ok(Some(7)));
    assert_eq!(row.optional_string("kind"), Ok(None));
    assert_eq!(row.integers("numbers"), Ok(vec![-1, 2, 3]));
    assert_eq!(row.strings("tags"), Ok(vec!["x"]));
    let ids: Vec<_> = row.map("ids").unwrap().iter().collect();
    assert_eq!(ids, [("", "empty"), ("iface-id", "p-1")]);
    assert_eq!(row.datum("sizes").unwrap().to_string(), r#"{"a": 1}"#);
    assert!(row.map("single").unwrap().is_empty());
    // A real that is whole comes back as a real.
    run(&mut client, [Update::table("Item").set("ratio", RealNumber::new(3.0).unwrap()).into()]).await;
    assert_eq!(item(&mut client, name).await.real("ratio"), Ok(3.0));
}

async fn conditions_select_rows<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let make =
        |name: &str, level: i64| new_item(name).set("level", level).set("tags", Value::set([name, "all"]));
    run(&mut client, [make("a", 1).into(), make("b", 2).into(), new_item("c").into()]).await;
    let cases = [
        (Condition::equal("name", "a"), "a"),
        (Condition::new("name", Function::NotEqual, "a"), "bc"),
        (Condition::new("level", Function::Less, 2), "a"),
        (Condition::new("level", Function::LessOrEqual, 2), "ab"),
        (Condition::new("level", Function::Greater, 1), "b"),
        (Condition::new("level", Function::GreaterOrEqual, 1), "ab"),
        (Condition::equal("level", Value::set::<i64>([])), "c"),
        (Condition::includes("tags", "all"), "ab"),
        (Condition::includes("tags", Value::set(["all", "b"])), "b"),
        (Condition::new("tags", Function::Excludes, Value::set(["a", "x"])), "bc"),
    ];
    for (condition, expected) in cases {
        let rows = items(&mut client, condition.clone()).await;
        let mut names: Vec<&str> = rows.iter().map(|row| row.string("name").unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names.concat(), expected, "{condition:?}");
    }
    let row = item(&mut client, "b").await;
    assert_eq!(items(&mut client, row.uuid().into()).await, [row]);
}

async fn update_delete_and_their_counts<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    run(&mut client, ["a", "b", "c"].map(|name| new_item(name).into())).await;
    let not_a = || Condition::new("name", Function::NotEqual, "a");
    let reply = run(&mut client, [Update::table("Item").filter(not_a()).set("count", 5).into()]).await;
    assert_eq!(reply.count(OperationIndex(0)), Some(2));
    assert_eq!(item(&mut client, "b").await.integer("count"), Ok(5));
    assert_eq!(item(&mut client, "a").await.integer("count"), Ok(0));
    let reply = run(&mut client, [Delete::from("Item").filter(not_a()).into()]).await;
    assert_eq!((reply.count(OperationIndex(0)), reply.inserted(OperationIndex(0))), (Some(2), None));
    assert_eq!(items(&mut client, Condition::new("name", Function::NotEqual, "")).await.len(), 1);
}

async fn mutations<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let insert = new_item("m")
        .set("count", 7)
        .set("numbers", Value::set([1, 2, 3]))
        .set("ratio", RealNumber::new(1.5).unwrap())
        .set("ids", Value::map([("a", "1"), ("b", "2"), ("c", "3")]));
    run(&mut client, [insert.into()]).await;
    let mutate = Mutate::table("Item")
        .mutate("count", Mutator::Add, 10)
        .mutate("count", Mutator::Multiply, 2)
        .mutate("count", Mutator::Subtract, 4)
        .mutate("count", Mutator::Divide, 3)
        .mutate("count", Mutator::Remainder, 7)
        .mutate("ratio", Mutator::Multiply, RealNumber::new(2.0).unwrap())
        .mutate("numbers", Mutator::Add, 10)
        .mutate("numbers", Mutator::Insert, Value::set([11, 20]))
        .mutate("numbers", Mutator::Delete, Value::set([12, 99]))
        .mutate("ids", Mutator::Insert, Value::map([("a", "other"), ("d", "4")]))
        .mutate("ids", Mutator::Delete, Value::set(["b"]))
        .mutate("ids", Mutator::Delete, Value::map([("c", "not 3")]))
        .set_key("ids", "d", "5");
    run(&mut client, [mutate.into()]).await;
    let row = item(&mut client, "m").await;
    assert_eq!(row.integer("count"), Ok(3));
    assert_eq!(row.real("ratio"), Ok(3.0));
    assert_eq!(row.integers("numbers"), Ok(vec![11, 13, 20]));
    let ids: Vec<_> = row.map("ids").unwrap().iter().collect();
    assert_eq!(ids, [("a", "1"), ("c", "3"), ("d", "5")]);
}

async fn named_rows_can_be_used_before_they_are_made<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let child = NamedRow::new("child");
    let reply = run(
        &mut client,
        [
            Insert::into("Parent").set("name", "p").set("children", Value::set([&child])).into(),
            Insert::into("Child").set("name", "c").named(&child).into(),
            Select::from("Parent").into(),
        ],
    )
    .await;
    let parent = &reply.rows(OperationIndex(2)).unwrap()[0];
    assert_eq!(parent.uuids("children").unwrap(), [reply.inserted(OperationIndex(1)).unwrap()]);
    assert_eq!(Some(parent.uuid()), reply.inserted(OperationIndex(0)));
    // Of 2.13 and later: the identity can be chosen.
    let chosen = Uuid::from_u128(0x1234);
    let reply = run(&mut client, [new_item("chosen").with_uuid(chosen).into()]).await;
    assert_eq!(reply.inserted(OperationIndex(0)), Some(chosen));
}

async fn rows_that_nothing_refers_to_go<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let (child, friend) = (NamedRow::new("child"), NamedRow::new("friend"));
    run(
        &mut client,
        [
            Insert::into("Child").set("name", "orphan").into(),
            Insert::into("Child").set("name", "kept").named(&child).into(),
            new_item("friend").named(&friend).into(),
            Insert::into("Parent").set("children", Value::set([&child])).set("friend", &friend).into(),
        ],
    )
    .await;
    let look = || [Select::from("Child").into(), Select::from("Parent").into()];
    let reply = run(&mut client, look()).await;
    let names: Vec<_> =
        reply.rows(OperationIndex(0)).unwrap().iter().map(|row| row.string("name").unwrap()).collect();
    assert_eq!(names, ["kept"]);
    assert!(reply.rows(OperationIndex(1)).unwrap()[0].optional_reference("friend").unwrap().is_some());
    run(
        &mut client,
        [Delete::from("Item").into(), Update::table("Parent").set("children", Value::set::<Uuid>([])).into()],
    )
    .await;
    let reply = run(&mut client, look()).await;
    assert!(reply.rows(OperationIndex(0)).unwrap().is_empty());
    assert_eq!(reply.rows(OperationIndex(1)).unwrap()[0].optional_reference("friend"), Ok(None));
}

async fn a_failed_operation_undoes_the_transaction<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let error = fail(
        &mut client,
        [new_item("a").into(), Update::table("Item").set("level", 100).into(), new_item("b").into()],
    )
    .await;
    let TransactError::Operation { index, operation, table, error } = error else { panic!("{error:?}") };
    assert_eq!((index, operation, table.as_deref()), (OperationIndex(1), "update", Some("Item")));
    assert_eq!(error.error, "constraint violation");
    assert!(items(&mut client, Condition::new("name", Function::NotEqual, "")).await.is_empty());
}

async fn a_failed_commit_is_told_apart<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let nobody = Value::set([Uuid::from_u128(5)]);
    let error = fail(&mut client, [Insert::into("Parent").set("children", nobody).into()]).await;
    assert!(
        matches!(&error, TransactError::Commit(error) if error.error == "referential integrity violation"),
        "{error:?}"
    );
    let error = fail(&mut client, [new_item("twice").into(), new_item("twice").into()]).await;
    assert!(
        matches!(&error, TransactError::Commit(error) if error.error == "constraint violation"),
        "{error:?}"
    );
    assert!(items(&mut client, Condition::equal("name", "twice")).await.is_empty());
}

async fn errors_have_their_names<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    run(&mut client, [new_item("a").set("count", i64::MAX).into()]).await;
    let mutate = |mutator, value: i64| Mutate::table("Item").mutate("count", mutator, value).into();
    let cases: [(Operation, &str); 9] = [
        (mutate(Mutator::Add, 1), "range error"),
        (mutate(Mutator::Divide, 0), "domain error"),
        (Update::table("Item").set("serial", 1).into(), "constraint violation"),
        (Update::table("Item").set("kind", "medium").into(), "constraint violation"),
        (Update::table("Nothing").set("serial", 1).into(), "syntax error"),
        (Select::from("Item").filter(Condition::equal("count", "text")).into(), "syntax error"),
        (Operation::Abort, "aborted"),
        (Operation::Assert { lock: "nobodys".into() }, "not owner"),
        (
            Wait::until_equal("Item").timeout(Duration::ZERO).columns(["name"]).row([("name", "b")]).into(),
            "timed out",
        ),
    ];
    for (operation, expected) in cases {
        match fail(&mut client, [operation]).await {
            TransactError::Operation { error, .. } => assert_eq!(error.error, expected, "{error:?}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let named = NamedRow::new("same");
    let error =
        fail(&mut client, [new_item("x").named(&named).into(), new_item("y").named(&named).into()]).await;
    assert!(
        matches!(&error, TransactError::Operation { error, .. } if error.error == "duplicate uuid-name"),
        "{error:?}"
    );
    let elsewhere = within(client.transact(&Transaction::new("Nothing").with(Operation::Abort))).await;
    assert!(matches!(elsewhere, Err(TransactError::Refused(_))), "{elsewhere:?}");
}

async fn requests_are_pipelined<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(client.submit(&transaction([new_item(&format!("i{number}")).into()])).await.unwrap());
    }
    // Answers are taken in another order than they come.
    for submitted in sent.into_iter().rev() {
        assert!(within(client.reply(submitted)).await.unwrap().inserted(OperationIndex(0)).is_some());
    }
    assert_eq!(items(&mut client, Condition::new("name", Function::NotEqual, "")).await.len(), 20);
}

async fn wait_waits<S: TestServer>() {
    let server = S::start().await;
    let (mut waiter, mut other) = (server.client().await, server.client().await);
    let wait = Wait::until_not_equal("Item")
        .filter(Condition::equal("name", "go"))
        .columns(["name"])
        .timeout(Duration::from_secs(15));
    let submitted = waiter.submit(&transaction([wait.into(), new_item("gone").into()])).await.unwrap();
    // The echo comes back while the transaction waits.
    within(waiter.echo()).await.unwrap();
    assert!(items(&mut other, Condition::equal("name", "gone")).await.is_empty());
    run(&mut other, [new_item("go").into()]).await;
    within(waiter.reply(submitted)).await.unwrap();
    assert_eq!(items(&mut other, Condition::equal("name", "gone")).await.len(), 1);
}

async fn wait_times_out<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let wait = Wait::until_not_equal("Item").columns(["name"]).timeout(Duration::from_millis(50));
    let error = fail(&mut client, [wait.into()]).await;
    assert!(
        matches!(&error, TransactError::Operation { error, .. } if error.error == "timed out"),
        "{error:?}"
    );
}

async fn a_waiting_transaction_can_be_canceled<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let wait = Wait::until_not_equal("Item").columns(["name"]);
    let submitted = client.submit(&transaction([wait.into(), new_item("never").into()])).await.unwrap();
    within(client.echo()).await.unwrap();
    let error = within(client.cancel(submitted)).await.unwrap_err();
    match &error {
        TransactError::Refused(error) => assert_eq!(error.error, "canceled"),
        error => {
            assert!(matches!(error, TransactError::Lost(reason) if reason.contains("canceled")), "{error:?}")
        }
    }
    // Had it not been given up, this would let it go on.
    run(&mut client, [new_item("a").into()]).await;
    assert!(items(&mut client, Condition::equal("name", "never")).await.is_empty());
}

async fn locks_pass_from_one_client_to_the_next<S: TestServer>() {
    let server = S::start().await;
    let (mut first, mut second, mut third) =
        (server.client().await, server.client().await, server.client().await);
    assert!(within(first.lock("l")).await.unwrap());
    assert!(!within(second.lock("l")).await.unwrap());
    assert!(!within(third.lock("l")).await.unwrap());
    assert!(within(third.lock("another")).await.unwrap());
    assert!(matches!(within(second.lock("l")).await, Err(ClientError::Refused(_))));
    within(first.unlock("l")).await.unwrap();
    assert_eq!(within(second.next_lock_event()).await.unwrap(), LockEvent::Locked("l".into()));
    // A client that goes gives its locks back.
    drop(second);
    assert_eq!(within(third.next_lock_event()).await.unwrap(), LockEvent::Locked("l".into()));
}

async fn a_stolen_lock_comes_back<S: TestServer>() {
    let server = S::start().await;
    let (mut owner, mut thief) = (server.client().await, server.client().await);
    assert!(within(owner.lock("l")).await.unwrap());
    within(thief.steal("l")).await.unwrap();
    assert_eq!(within(owner.next_lock_event()).await.unwrap(), LockEvent::Stolen("l".into()));
    within(thief.unlock("l")).await.unwrap();
    assert_eq!(within(owner.next_lock_event()).await.unwrap(), LockEvent::Locked("l".into()));
}

async fn assert_fences<S: TestServer>() {
    let server = S::start().await;
    let (mut owner, mut other) = (server.client().await, server.client().await);
    assert!(within(owner.lock("l")).await.unwrap());
    let fenced = |name: &str| [Operation::Assert { lock: "l".into() }, new_item(name).into()];
    run(&mut owner, fenced("by the owner")).await;
    fail(&mut other, fenced("by another")).await;
    assert_eq!(items(&mut owner, Condition::new("name", Function::NotEqual, "")).await.len(), 1);
}

async fn abort_comment_and_commit<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    run(
        &mut client,
        [new_item("a").into(), Operation::Comment("for the log".into()), Operation::Commit { durable: true }],
    )
    .await;
    fail(&mut client, [new_item("b").into(), Operation::Abort]).await;
    assert_eq!(items(&mut client, Condition::new("name", Function::NotEqual, "")).await.len(), 1);
}

/// The schema that every hypervisor has, with rows as Open vSwitch keeps them.
#[test]
fn the_in_memory_server_takes_the_schema_of_open_vswitch() {
    let text = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema").unwrap();
    let mut server = ovsdb::server::MemoryServer::new(serde_json::from_str(&text).unwrap()).unwrap();
    let (bridge, port, interface) =
        (NamedRow::new("bridge"), NamedRow::new("port"), NamedRow::new("interface"));
    let made = Transaction::new("Open_vSwitch")
        .with(Insert::into("Open_vSwitch").set("bridges", Value::set([&bridge])))
        .with(Insert::into("Bridge").set("name", "br-int").set("ports", Value::set([&port])).named(&bridge))
        .with(
            Insert::into("Port")
                .set("name", "tap1")
                .set("tag", 10)
                .set("interfaces", Value::set([&interface]))
                .named(&port),
        )
        .with(Insert::into("Interface").set("name", "tap1").named(&interface));
    server.transact(&made).unwrap();
    let gone =
        Transaction::new("Open_vSwitch").with(Update::table("Bridge").set("ports", Value::set::<Uuid>([])));
    server.transact(&gone).unwrap();
    let left = ["Bridge", "Port", "Interface"]
        .into_iter()
        .fold(Transaction::new("Open_vSwitch"), |all, table| all.with(Select::from(table)));
    let reply = server.transact(&left).unwrap();
    let counts = [0, 1, 2].map(|index| reply.rows(OperationIndex(index)).unwrap().len());
    assert_eq!(counts, [1, 0, 0], "a port and its interface go with the last reference");
}
