//! Following a database: the same tests on the in-memory server and on ovsdb-server.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::time::Duration;

use ovsdb::MonitorTable;
use ovsdb::backoff::BackoffRange;
use ovsdb::monitor::MonitorMethod;
use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{
    Change, ChangeKind, Client, Condition, Delete, Function, Insert, Mutate, Mutator, NamedRow, Operation,
    OperationIndex, Real as RealNumber, Replica, Select, SessionConfig, SessionEvent, Transaction, Update,
    Value,
};
use support::{Memory, TestServer, memory_server, within};

on_every_server!(
    what_is_there_and_what_changes,
    differences_of_sets_and_maps,
    changes_come_before_the_answer,
    a_reconnect_tells_only_what_changed,
    a_client_resumes_where_the_server_can,
    what_only_the_conditions_look_at_may_change_before_they_do,
    conditions_choose_rows_and_can_change,
    conditions_of_a_monitor_are_those_of_a_select,
    a_lock_is_asked_for_again_after_a_reconnect,
    locks_pass_between_sessions,
    random_transactions_leave_both_sides_equal,
    a_session_without_tables_transacts,
    a_missing_database_is_told,
);

fn config(server: &impl TestServer) -> SessionConfig {
    let mut config = SessionConfig::new(server.remote(), "Test");
    config.backoff =
        BackoffRange { shortest: Duration::from_millis(20), longest: Duration::from_millis(100) };
    config
}

fn everything(server: &impl TestServer) -> SessionConfig {
    ["Item", "Parent", "Child"]
        .into_iter()
        .fold(config(server), |config, table| config.monitor(MonitorTable::all_columns(table)))
}

async fn next(events: &mut SessionEvents) -> SessionEvent {
    within(events.recv()).await.expect("the session goes on")
}

/// The next changes, whatever else comes before.
async fn changes(events: &mut SessionEvents) -> Vec<Change> {
    loop {
        if let SessionEvent::Update(changes) = next(events).await
            && !changes.is_empty()
        {
            return changes;
        }
    }
}

async fn connected(events: &mut SessionEvents) -> Vec<Change> {
    while next(events).await != SessionEvent::Connected {}
    match next(events).await {
        SessionEvent::Update(changes) => changes,
        other => panic!("not an update after Connected: {other:?}"),
    }
}

/// Waits for an event about a lock.
async fn lock_event(events: &mut SessionEvents) -> SessionEvent {
    loop {
        let event = next(events).await;
        if matches!(event, SessionEvent::Locked(_) | SessionEvent::Stolen(_)) {
            return event;
        }
    }
}

async fn run(client: &mut Client, operation: impl Into<Operation>) {
    let transaction = Transaction::new("Test").with(operation);
    within(client.transact(&transaction)).await.expect("a good transaction");
}

fn new_item(name: &str) -> Insert {
    Insert::into("Item").set("name", name)
}

/// "+a" for a new item called a, "~a" for one that changed, "-a" for one that went; sorted.
fn told(changes: &[Change]) -> Vec<String> {
    let mut told: Vec<String> = changes
        .iter()
        .map(|change| match &change.kind {
            ChangeKind::Inserted { new } => format!("+{}", new.string("name").unwrap()),
            ChangeKind::Modified { new, .. } => format!("~{}", new.string("name").unwrap()),
            ChangeKind::Deleted { old } => format!("-{}", old.string("name").unwrap()),
        })
        .collect();
    told.sort();
    told
}

async fn what_is_there_and_what_changes<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    run(&mut client, new_item("a").set("level", 3)).await;
    let (handle, mut events) = session::spawn(everything(&server));
    let first = connected(&mut events).await;
    assert_eq!(told(&first), ["+a"]);
    let row = first[0].new_row().unwrap();
    assert_eq!((row.optional_integer("level"), row.integer("count")), (Ok(Some(3)), Ok(0)));
    assert_eq!(row.columns().len(), 12, "columns with default values are there too");

    run(&mut client, Update::table("Item").set("level", Value::set::<i64>([])).set("count", 9)).await;
    let second = changes(&mut events).await;
    let [Change { kind: ChangeKind::Modified { old, new }, .. }] = &second[..] else { panic!("{second:?}") };
    assert_eq!((old.optional_integer("level"), new.optional_integer("level")), (Ok(Some(3)), Ok(None)));
    assert_eq!((old.integer("count"), new.integer("count")), (Ok(0), Ok(9)));
    assert_eq!(old.uuid(), row.uuid());

    run(&mut client, Delete::from("Item")).await;
    let third = changes(&mut events).await;
    let [Change { kind: ChangeKind::Deleted { old: gone }, .. }] = &third[..] else { panic!("{third:?}") };
    assert_eq!(gone, new);
    assert!(within(handle.replica()).await.unwrap().is_empty());
    assert!(within(handle.schema()).await.unwrap().table("Item").is_some());
}

async fn differences_of_sets_and_maps<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    let (_handle, mut events) = session::spawn(everything(&server));
    connected(&mut events).await;
    let item = new_item("a")
        .set("tags", Value::set(["x", "y"]))
        .set("ids", Value::map([("k", "1"), ("l", "2")]))
        .set("sizes", Value::map([("s", 1)]))
        .set("single", Value::map([("only", "1")]));
    run(&mut client, item).await;
    changes(&mut events).await;
    let mutate = Mutate::table("Item")
        .mutate("tags", Mutator::Delete, Value::set(["x"]))
        .mutate("tags", Mutator::Insert, Value::set(["z"]))
        .mutate("ids", Mutator::Delete, Value::set(["k"]))
        .set_key("ids", "l", "3")
        .set_key("ids", "m", "4")
        .mutate("sizes", Mutator::Insert, Value::map([("t", 2)]))
        .set_key("single", "only", "2");
    run(&mut client, mutate).await;
    let changed = changes(&mut events).await;
    let row = changed[0].new_row().unwrap();
    assert_eq!(row.strings("tags"), Ok(vec!["y", "z"]));
    assert_eq!(row.map("ids").unwrap().iter().collect::<Vec<_>>(), [("l", "3"), ("m", "4")]);
    assert_eq!(row.datum("sizes").unwrap().to_string(), r#"{"s": 1, "t": 2}"#);
    assert_eq!(row.map("single").unwrap().iter().collect::<Vec<_>>(), [("only", "2")]);
    run(&mut client, Update::table("Item").set("single", Value::map::<&str, &str>([]))).await;
    assert!(changes(&mut events).await[0].new_row().unwrap().map("single").unwrap().is_empty());
}

async fn changes_come_before_the_answer<S: TestServer>() {
    let server = S::start().await;
    let (handle, mut events) = session::spawn(everything(&server));
    connected(&mut events).await;
    for round in 0..20 {
        let name = format!("item {round}");
        let transaction = Transaction::new("Test").with(new_item(&name));
        let reply = within(handle.transact(transaction)).await.unwrap();
        let Some(SessionEvent::Update(changes)) = events.try_recv() else {
            panic!("no update in round {round}")
        };
        assert_eq!(changes[0].uuid, reply.inserted(OperationIndex(0)).unwrap());
    }
}

async fn a_reconnect_tells_only_what_changed<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    for name in ["a", "b", "c"] {
        run(&mut client, new_item(name)).await;
    }
    let (_handle, mut events) = session::spawn(everything(&server));
    assert_eq!(told(&connected(&mut events).await), ["+a", "+b", "+c"]);
    server.drop_clients().await;
    let SessionEvent::Disconnected { reason } = next(&mut events).await else { panic!("still connected") };
    assert!(!reason.is_empty());
    let mut client = server.client().await;
    let transaction = Transaction::new("Test")
        .with(new_item("d"))
        .with(Delete::from("Item").filter(Condition::equal("name", "a")))
        .with(Update::table("Item").filter(Condition::equal("name", "b")).set("count", 1));
    within(client.transact(&transaction)).await.unwrap();
    // The session may have been back before the transaction or after it; it tells the same.
    assert_eq!(told(&changes(&mut events).await), ["+d", "-a", "~b"]);
    run(&mut client, new_item("e")).await;
    assert_eq!(told(&changes(&mut events).await), ["+e"]);
}

async fn a_client_resumes_where_the_server_can<S: TestServer>() {
    let server = S::start().await;
    let mut writer = server.client().await;
    // ovsdb-server 3.1.0 forgets old transactions as soon as all it keeps hold more than its database.
    let others =
        (0..30).fold(Transaction::new("Test"), |all, number| all.with(new_item(&format!("i{number}"))));
    within(writer.transact(&others)).await.unwrap();
    run(&mut writer, new_item("a")).await;
    run(&mut writer, new_item("b")).await;
    let mut client = server.client().await;
    let mut followed = within(client.monitor("Test", vec![MonitorTable::all_columns("Item")])).await.unwrap();
    assert_eq!((followed.replica().len(), followed.has_resumed()), (32, false));
    assert_eq!(followed.method(), MonitorMethod::CondSince);
    drop(client);
    run(&mut writer, new_item("c")).await;
    run(&mut writer, Delete::from("Item").filter(Condition::equal("name", "a"))).await;
    run(&mut writer, Update::table("Item").filter(Condition::equal("name", "b")).set("count", 1)).await;
    run(&mut writer, Update::table("Item").filter(Condition::equal("name", "b")).set("tags", "x")).await;
    let mut client = server.client().await;
    let changes = within(client.resume(&mut followed)).await.unwrap();
    assert_eq!(told(&changes), ["+c", "-a", "~b"]);
    assert_eq!(followed.has_resumed(), server.resumes());
    run(&mut writer, new_item("d")).await;
    assert_eq!(told(&within(client.next_changes(&mut followed)).await.unwrap()), ["+d"]);
    within(client.cancel_monitor(followed)).await.unwrap();
}

async fn what_only_the_conditions_look_at_may_change_before_they_do<S: TestServer>() {
    let server = S::start().await;
    let mut writer = server.client().await;
    let others = (0..30).fold(Transaction::new("Test"), |all, number| {
        all.with(new_item(&format!("i{number}")).set("level", 2))
    });
    within(writer.transact(&others)).await.unwrap();
    run(&mut writer, new_item("a").set("level", 1)).await;
    let mut client = server.client().await;
    let table = MonitorTable::new("Item", ["name"]);
    let mut followed = within(client.monitor("Test", vec![table])).await.unwrap();
    // Nobody is told of it: the level is not followed, and each row was and is.
    let named = || Condition::equal("name", "a");
    run(&mut writer, Update::table("Item").filter(named()).set("level", 2)).await;
    let second = vec![Condition::equal("level", 2)];
    assert!(within(client.set_conditions(&mut followed, "Item", second)).await.unwrap().is_empty());
    drop(client);
    run(&mut writer, Delete::from("Item").filter(named())).await;
    let mut client = server.client().await;
    assert_eq!(told(&within(client.resume(&mut followed)).await.unwrap()), ["-a"]);
}

async fn conditions_choose_rows_and_can_change<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    for (name, level) in [("a", 1), ("b", 2), ("c", 3)] {
        run(&mut client, new_item(name).set("level", level)).await;
    }
    // The column of the condition is not one of those that are followed.
    let table = MonitorTable::new("Item", ["name"]).matching(Condition::equal("level", 1));
    conditions_hold(&mut client, config(&server).monitor(table)).await;
}

/// Whatever the function and the column, and although no column but the name is followed.
async fn conditions_of_a_monitor_are_those_of_a_select<S: TestServer>() {
    let server = S::start().await;
    let mut client = server.client().await;
    for (name, level, tags, id) in
        [("a", 1, &["x"][..], "1"), ("b", 2, &["x", "y"], "2"), ("c", 3, &[], "1"), ("d", 3, &["y"], "3")]
    {
        let ids = Value::map([("k", id), ("l", "1")]);
        run(
            &mut client,
            new_item(name).set("level", level).set("tags", Value::set(tags.to_vec())).set("ids", ids),
        )
        .await;
    }
    run(&mut client, new_item("empty")).await;
    let table = MonitorTable::new("Item", ["name"]).matching(Condition::Always(false));
    let (handle, mut events) = session::spawn(config(&server).monitor(table));
    assert!(connected(&mut events).await.is_empty());
    let all = [
        Condition::equal("name", "b"),
        Condition::new("level", Function::Less, 2),
        Condition::new("level", Function::GreaterOrEqual, 3),
        Condition::new("level", Function::NotEqual, 3),
        Condition::equal("level", Value::set::<i64>([])),
        Condition::includes("tags", Value::set(["x", "y"])),
        Condition::new("tags", Function::Excludes, Value::set(["x"])),
        Condition::equal("tags", Value::set(["y"])),
        Condition::includes("ids", Value::map([("k", "1"), ("l", "1")])),
        Condition::new("ids", Function::Excludes, Value::map([("k", "1")])),
        Condition::equal("count", 0),
        Condition::Always(true),
    ];
    for condition in all {
        let mut select = Select::from("Item").columns(["_uuid", "name"]);
        if condition != Condition::Always(true) {
            select = select.filter(condition.clone());
        }
        let reply = within(client.transact(&Transaction::new("Test").with(select))).await.unwrap();
        let mut expected = reply.rows(OperationIndex(0)).unwrap().to_vec();
        expected.sort_by_key(ovsdb::Row::uuid);
        assert!(!expected.is_empty(), "{condition:?} would show nothing");
        within(handle.set_conditions("Item", vec![condition.clone()])).await.unwrap();
        let replica = within(handle.replica()).await.unwrap();
        let followed: Vec<ovsdb::Row> = replica.rows("Item").map(|row| (**row).clone()).collect();
        assert_eq!(followed, expected, "{condition:?}");
    }
    let replica = within(handle.replica()).await.unwrap();
    let one = replica.rows("Item").next().unwrap().uuid();
    within(handle.set_conditions("Item", vec![one.into()])).await.unwrap();
    let replica = within(handle.replica()).await.unwrap();
    assert_eq!(replica.rows("Item").map(|row| row.uuid()).collect::<Vec<_>>(), [one]);
}

async fn conditions_hold(client: &mut Client, config: SessionConfig) {
    let (handle, mut events) = session::spawn(config);
    let first = connected(&mut events).await;
    assert_eq!(told(&first), ["+a"]);
    assert_eq!(first[0].new_row().unwrap().columns().len(), 1);
    let level = |name: &str, level: i64| {
        Update::table("Item").filter(Condition::equal("name", name)).set("level", level)
    };
    run(client, level("b", 1)).await;
    assert_eq!(told(&changes(&mut events).await), ["+b"]);
    run(client, level("a", 5)).await;
    assert_eq!(told(&changes(&mut events).await), ["-a"]);
    let one_or_three = vec![Condition::equal("level", 5), Condition::equal("level", 3)];
    within(handle.set_conditions("Item", one_or_three)).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.try_recv() {
        if let SessionEvent::Update(changes) = event {
            seen.extend(changes);
        }
    }
    assert_eq!(told(&seen), ["+a", "+c", "-b"]);
    run(client, level("c", 1)).await;
    assert_eq!(told(&changes(&mut events).await), ["-c"]);
    // A column that was neither followed nor in a condition before.
    run(
        client,
        Update::table("Item").filter(Condition::equal("name", "b")).set("tags", Value::set(["x", "y"])),
    )
    .await;
    let tagged = vec![Condition::includes("tags", Value::set(["x"]))];
    within(handle.set_conditions("Item", tagged)).await.unwrap();
    assert_eq!(told(&changes(&mut events).await), ["+b", "-a"]);
    let untag = Mutate::table("Item").mutate("tags", Mutator::Delete, Value::set(["x"]));
    run(client, untag).await;
    assert_eq!(told(&changes(&mut events).await), ["-b"]);
    let not_there = within(handle.set_conditions("Child", Vec::new())).await.unwrap_err();
    assert_eq!(not_there.to_string(), "cannot monitor: table Child is not monitored");
    let wrong =
        within(handle.set_conditions("Item", vec![Condition::equal("level", "x")])).await.unwrap_err();
    assert!(wrong.to_string().contains("column level"), "{wrong}");
    within(handle.set_conditions("Item", Vec::new())).await.unwrap();
    assert_eq!(within(handle.replica()).await.unwrap().len(), 3);
}

async fn a_lock_is_asked_for_again_after_a_reconnect<S: TestServer>() {
    let server = S::start().await;
    let (handle, mut events) = session::spawn(config(&server));
    // Before there is a connection.
    handle.lock("l").await;
    assert_eq!(lock_event(&mut events).await, SessionEvent::Locked("l".into()));
    server.drop_clients().await;
    assert!(matches!(next(&mut events).await, SessionEvent::Disconnected { .. }));
    assert_eq!(lock_event(&mut events).await, SessionEvent::Locked("l".into()));
    let fenced = Transaction::new("Test").with(Operation::Assert { lock: "l".into() }).with(new_item("a"));
    within(handle.transact(fenced)).await.unwrap();
}

async fn locks_pass_between_sessions<S: TestServer>() {
    let server = S::start().await;
    let (first, mut first_events) = session::spawn(config(&server));
    let (second, mut second_events) = session::spawn(config(&server));
    connected(&mut first_events).await;
    connected(&mut second_events).await;
    first.lock("l").await;
    assert_eq!(lock_event(&mut first_events).await, SessionEvent::Locked("l".into()));
    second.lock("l").await;
    second.steal("l").await;
    assert_eq!(lock_event(&mut second_events).await, SessionEvent::Locked("l".into()));
    assert_eq!(lock_event(&mut first_events).await, SessionEvent::Stolen("l".into()));
    second.unlock("l").await;
    second.lock("l").await;
    assert_eq!(lock_event(&mut first_events).await, SessionEvent::Locked("l".into()));
    drop(first);
    assert_eq!(lock_event(&mut second_events).await, SessionEvent::Locked("l".into()));
    assert_eq!(within(async { while first_events.recv().await.is_some() {} }).await, ());
}

/// A stream of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn name(&mut self) -> String {
        format!("n{}", self.below(8))
    }

    fn names(&mut self) -> Vec<String> {
        (0..self.below(4))
            .map(|_| self.name())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn operation(&mut self) -> Operation {
        let name = self.name();
        let chosen = Condition::equal("name", name.as_str());
        match self.below(9) {
            0 | 1 => Insert::into("Parent").set("name", name).into(),
            2 => Delete::from("Parent").filter(chosen).into(),
            3 => {
                let tags: Vec<String> = self.names();
                Update::table("Item").filter(chosen).set("tags", Value::set(tags)).into()
            }
            4 => Mutate::table("Item").filter(chosen).set_key("ids", &self.name(), &self.name()).into(),
            5 => {
                let keys: Vec<String> = self.names();
                Mutate::table("Item").filter(chosen).mutate("ids", Mutator::Delete, Value::set(keys)).into()
            }
            6 => {
                let level = i64::try_from(self.below(9)).unwrap();
                Update::table("Item").filter(chosen).set("level", level).into()
            }
            7 => Update::table("Item").filter(chosen).set("level", Value::set::<i64>([])).into(),
            _ => {
                let ratio =
                    RealNumber::new(f64::from(u32::try_from(self.below(100)).unwrap()) / 8.0).unwrap();
                Update::table("Item").filter(chosen).set("ratio", ratio).into()
            }
        }
    }
}

async fn random_transactions_leave_both_sides_equal<S: TestServer>() {
    let server = S::start().await;
    let (handle, mut events) = session::spawn(everything(&server));
    let mut reader = Replica::new();
    reader.apply(&connected(&mut events).await);
    random_transactions(&server, &handle, &mut events, &mut reader).await;
}

async fn random_transactions(
    server: &impl TestServer,
    handle: &SessionHandle,
    events: &mut SessionEvents,
    reader: &mut Replica,
) {
    let mut client = server.client().await;
    for number in 0..8 {
        run(&mut client, new_item(&format!("n{number}"))).await;
    }
    let mut numbers = Numbers(7);
    for round in 0..60 {
        let child = NamedRow::new("child");
        let mut transaction = Transaction::new("Test")
            .with(Insert::into("Child").set("name", numbers.name()).named(&child))
            .with(Mutate::table("Parent").filter(Condition::equal("name", numbers.name())).mutate(
                "children",
                Mutator::Insert,
                Value::set([&child]),
            ));
        for _ in 0..numbers.below(5) {
            transaction.push(numbers.operation());
        }
        within(client.transact(&transaction)).await.unwrap();
        if round % 20 == 19 {
            server.drop_clients().await;
            client = server.client().await;
        }
    }
    // A last one, to know when everything has come.
    run(&mut client, new_item("the end")).await;
    let has_ended =
        |changes: &[Change]| changes.iter().any(|change| told(std::slice::from_ref(change)) == ["+the end"]);
    loop {
        let changes = changes(events).await;
        reader.apply(&changes);
        if has_ended(&changes) {
            break;
        }
    }
    assert_eq!(*reader, within(handle.replica()).await.unwrap());
    for table in ["Item", "Parent", "Child"] {
        let reply =
            within(client.transact(&Transaction::new("Test").with(Select::from(table)))).await.unwrap();
        let mut rows = reply.rows(OperationIndex(0)).unwrap().to_vec();
        rows.sort_by_key(ovsdb::Row::uuid);
        let followed: Vec<ovsdb::Row> = reader.rows(table).map(|row| (**row).clone()).collect();
        assert_eq!(followed, rows, "{table}");
    }
}

async fn a_session_without_tables_transacts<S: TestServer>() {
    let server = S::start().await;
    let (handle, mut events) = session::spawn(config(&server));
    assert!(connected(&mut events).await.is_empty());
    let reply = within(handle.transact(Transaction::new("Test").with(Select::from("Item")))).await.unwrap();
    assert_eq!(reply.rows(OperationIndex(0)), Some(&[][..]));
}

async fn a_missing_database_is_told<S: TestServer>() {
    let server = S::start().await;
    let (_handle, mut events) =
        session::spawn(SessionConfig { database: "Nothing".into(), ..config(&server) });
    let SessionEvent::Disconnected { reason } = next(&mut events).await else { panic!("connected") };
    assert!(reason.contains("no schema of Nothing: unknown database"), "{reason}");
    let wrong = config(&server).monitor(MonitorTable::new("Item", ["name", "colour"]));
    let (_handle, mut events) = session::spawn(wrong);
    let SessionEvent::Disconnected { reason } = next(&mut events).await else { panic!("connected") };
    assert_eq!(reason, "cannot monitor: database Test has no column colour in table Item");
}

/// A server that is as old as a test wants it.
async fn old_server(missing: &[&str]) -> Memory<false> {
    let server = Memory::start().await;
    server.guard.with(|server| missing.iter().for_each(|method| server.disable_method(method)));
    server
}

const OLD: [(&[&str], MonitorMethod); 3] = [
    (&[], MonitorMethod::CondSince),
    (&["monitor_cond_since"], MonitorMethod::Cond),
    (&["monitor_cond_since", "monitor_cond", "monitor_cond_change"], MonitorMethod::Plain),
];

#[tokio::test]
async fn older_monitors_tell_the_same() {
    for (missing, method) in OLD {
        let server = old_server(missing).await;
        let mut client = server.client().await;
        let followed = client.monitor("Test", vec![MonitorTable::all_columns("Item")]).await.unwrap();
        assert_eq!(followed.method(), method);
        let (handle, mut events) = session::spawn(everything(&server));
        let mut reader = Replica::new();
        reader.apply(&connected(&mut events).await);
        random_transactions(&server, &handle, &mut events, &mut reader).await;
    }
}

#[tokio::test]
async fn conditions_hold_on_old_servers_too() {
    for (missing, _) in OLD {
        let server = old_server(missing).await;
        let mut client = server.client().await;
        for (name, level) in [("a", 1), ("b", 2), ("c", 3)] {
            run(&mut client, new_item(name).set("level", level)).await;
        }
        let table = MonitorTable::new("Item", ["name"]).matching(Condition::equal("level", 1));
        conditions_hold(&mut client, config(&server).monitor(table)).await;
    }
}

#[tokio::test]
async fn the_servers_echo_is_answered() {
    let server: Memory<false> = Memory::start().await;
    let (_handle, mut events) = session::spawn(config(&server));
    connected(&mut events).await;
    let client = server.guard.with(|server| {
        let client = server.clients().next().unwrap();
        server.probe(client);
        client
    });
    within(async {
        while server.guard.with(|server| server.echo_replies(client)) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.sock");
    // It accepts, and says nothing ever.
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut config = SessionConfig::new(ovsdb::Remote::Unix(path), "Test");
    config.probe_interval = Duration::from_millis(50);
    let (handle, mut events) = session::spawn(config);
    let SessionEvent::Disconnected { reason } = next(&mut events).await else { panic!("connected") };
    assert_eq!(reason, "no answer to an echo within 50ms");
    let outcome = within(handle.transact(Transaction::new("Test").with(Operation::Abort))).await;
    assert_eq!(outcome, Err(ovsdb::TransactError::NotConnected));
}

#[tokio::test]
async fn a_session_waits_for_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db.sock");
    let mut config = SessionConfig::new(ovsdb::Remote::Unix(path.clone()), "Test");
    config.backoff = BackoffRange { shortest: Duration::from_millis(10), longest: Duration::from_millis(20) };
    let (_handle, mut events) = session::spawn(config);
    let SessionEvent::Disconnected { reason } = next(&mut events).await else { panic!("connected") };
    assert!(reason.contains("cannot connect to unix:"), "{reason}");
    let _server = ovsdb::server::Listener::unix(&path).unwrap().serve(memory_server());
    connected(&mut events).await;
}
