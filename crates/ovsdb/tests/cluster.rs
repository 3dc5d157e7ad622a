//! Sessions on a real Raft cluster of three ovsdb-servers and its relays.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{
    Change, ChangeKind, Client, Condition, DatabaseSchema, Delete, Insert, MonitorTable, Operation,
    OperationIndex, Remote, Replica, Select, ServerPolicy, SessionConfig, SessionEvent, Transaction,
};
use support::cluster::{Cluster, Relay};
use support::{Real, TestServer};

/// An election takes one to two seconds, and the machine may be slow.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("nothing came for 60 s")
}

fn config(server: ServerPolicy, remotes: Vec<Remote>) -> SessionConfig {
    let schema = DatabaseSchema::from_text(include_str!("support/test.ovsschema")).unwrap();
    let mut config =
        SessionConfig::new(remotes[0].clone(), "Test").monitor(MonitorTable::new("Item", ["name", "tags"]));
    config.remotes = remotes;
    config.schema = Some(Arc::new(schema));
    config.server = server;
    config.backoff.longest = Duration::from_secs(1);
    config
}

/// A session with the rows that its reader knows.
struct Followed {
    handle: SessionHandle,
    events: SessionEvents,
    reader: Replica,
}

impl Followed {
    /// Starts it, and waits until it is live.
    async fn start(config: SessionConfig) -> Self {
        let (handle, events) = session::spawn(config);
        let mut session = Self { handle, events, reader: Replica::new() };
        session.live_again().await;
        session
    }

    /// Waits until it is live, on which remote; with the reasons told before, and what changed meanwhile.
    async fn live_again(&mut self) -> (Vec<String>, Vec<String>) {
        let mut reasons = Vec::new();
        loop {
            match self.next().await {
                SessionEvent::Disconnected { reason } => reasons.push(reason),
                SessionEvent::Connected => match self.next().await {
                    SessionEvent::Update(changes) => return (reasons, told(&changes)),
                    SessionEvent::Disconnected { reason } => reasons.push(reason),
                    other => panic!("after Connected: {other:?}"),
                },
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> SessionEvent {
        let event = within(self.events.recv()).await.expect("the session goes on");
        if let SessionEvent::Update(changes) = &event {
            for change in changes {
                assert_eq!(change.old_row(), self.reader.row(&change.table, change.uuid));
            }
            self.reader.apply(changes);
        }
        event
    }

    /// Waits for a row of that name.
    async fn sees(&mut self, name: &str) {
        while self.reader.rows("Item").all(|row| row.string("name") != Ok(name)) {
            self.next().await;
        }
    }

    async fn remote(&self) -> Remote {
        self.handle.remote().await.expect("it is live")
    }

    async fn received(&self) -> u64 {
        self.handle.traffic().await.unwrap().received
    }

    /// The reader, the session and the server hold the same.
    async fn check(&self, mut client: Client) {
        assert_eq!(self.reader, self.handle.replica().await.unwrap());
        let mut transaction = Transaction::new("Test");
        let all = transaction.push(Select::from("Item").columns(["_uuid", "name", "tags"]));
        let reply = within(client.transact(&transaction)).await.unwrap();
        let mut rows = reply.rows(all).unwrap().to_vec();
        rows.sort_by_key(ovsdb::Row::uuid);
        assert_eq!(self.reader.rows("Item").map(|row| (**row).clone()).collect::<Vec<_>>(), rows);
    }
}

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

fn item(name: &str) -> Insert {
    Insert::into("Item").set("name", name)
}

async fn run(client: &mut Client, operation: impl Into<Operation>) {
    let transaction = Transaction::new("Test").with(operation);
    within(client.transact(&transaction)).await.expect("a good transaction");
}

/// So many rows that what is missed is less by far. One transaction each would let the server forget.
const MANY: usize = 300;

async fn fill(client: &mut Client) {
    let items = (0..MANY)
        .fold(Transaction::new("Test"), |all, number| all.with(item(&format!("item number {number}"))));
    within(client.transact(&items)).await.unwrap();
}

/// Waits until a member or relay has a row.
async fn has_row(remote: &Remote, name: &str) {
    let mut transaction = Transaction::new("Test");
    transaction.push(Select::from("Item").filter(Condition::equal("name", name)).columns(["name"]));
    within(async {
        let mut client = Client::connect(remote, &ovsdb::ConnectOptions::default()).await.unwrap();
        loop {
            let reply = client.transact(&transaction).await;
            if reply.is_ok_and(|reply| reply.rows(OperationIndex(0)).is_some_and(|rows| !rows.is_empty())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Less than this is what was missed, more is all there is: a row takes 60 bytes at least.
const FEW_BYTES: u64 = 4000;
const MANY_BYTES: u64 = MANY as u64 * 60;

#[tokio::test]
async fn the_leader_is_found_and_its_successor_too() {
    let mut cluster = Cluster::start().await;
    let order = cluster.leader_first().await;
    let leader = cluster.member(order[0]);
    let remotes = [1, 2, 0].map(|place| cluster.member(order[place])).to_vec();
    let (handle, events) = session::spawn(config(ServerPolicy::Leader, remotes.clone()));
    let mut session = Followed { handle, events, reader: Replica::new() };
    let (reasons, _) = session.live_again().await;
    assert_eq!(reasons, [0, 1].map(|place| format!("{} is not the cluster's leader", remotes[place])));
    assert_eq!(session.remote().await, leader);
    within(session.handle.transact(Transaction::new("Test").with(item("a")))).await.unwrap();

    cluster.kill(order[0]);
    session.live_again().await;
    let successor = cluster.leader_first().await[0];
    assert_eq!(session.remote().await, cluster.member(successor));
    within(session.handle.transact(Transaction::new("Test").with(item("b")))).await.unwrap();
    session.sees("b").await;
    session.check(cluster.client(successor).await).await;
}

#[tokio::test]
async fn a_member_that_is_cut_off_is_left() {
    let cluster = Cluster::start().await;
    let order = cluster.leader_first().await;
    let remotes = [1, 0, 2].map(|place| cluster.member(order[place])).to_vec();
    let mut config = config(ServerPolicy::Connected, remotes.clone());
    // The two that are stopped accept connections, and say nothing.
    config.probe_interval = Duration::from_millis(300);
    let mut session = Followed::start(config).await;
    assert_eq!(session.remote().await, remotes[0]);
    let stopped = [order[0], order[2]];
    stopped.iter().for_each(|place| cluster.signal(*place, "STOP"));
    let SessionEvent::Disconnected { reason } = session.next().await else { panic!("still there") };
    assert_eq!(reason, format!("{} is cut off from its cluster", remotes[0]));
    stopped.iter().for_each(|place| cluster.signal(*place, "CONT"));
    session.live_again().await;
    within(async {
        // An election may be going on.
        while session.handle.transact(Transaction::new("Test").with(item("a"))).await.is_err() {
            session.live_again().await;
        }
    })
    .await;
    session.sees("a").await;
}

/// Has the member or relay `from` miss transactions, ends it, and gives what the session was told when it was
/// live on `to`, with the bytes that it took.
async fn moved(
    session: &mut Followed,
    to: &Remote,
    mut writer: Client,
    end: impl FnOnce(),
) -> (Vec<String>, u64) {
    let before = session.received().await;
    run(&mut writer, item("x")).await;
    run(&mut writer, Delete::from("Item").filter(Condition::equal("name", "item number 7"))).await;
    run(&mut writer, item("y")).await;
    has_row(to, "y").await;
    end();
    let (_, told) = session.live_again().await;
    assert_eq!(session.remote().await, *to);
    (told, session.received().await - before)
}

const MISSED: [&str; 3] = ["+x", "+y", "-item number 7"];

#[tokio::test]
async fn a_session_moves_to_another_member_with_what_it_knows() {
    let mut cluster = Cluster::start().await;
    let order = cluster.leader_first().await;
    let (leader, first, second) = (order[0], order[1], order[2]);
    fill(&mut cluster.client(leader).await).await;
    let remotes = vec![cluster.member(first), cluster.member(second)];
    let mut session = Followed::start(config(ServerPolicy::Connected, remotes.clone())).await;
    session.sees("item number 0").await;
    run(&mut cluster.client(leader).await, item("a")).await;
    session.sees("a").await;
    assert!(session.received().await > MANY_BYTES);

    cluster.signal(first, "STOP");
    let writer = cluster.client(leader).await;
    let (told, bytes) = moved(&mut session, &remotes[1], writer, || cluster.kill(first)).await;
    assert_eq!(told, MISSED);
    assert!(bytes < FEW_BYTES, "{bytes} bytes");
    session.check(cluster.client(leader).await).await;
}

#[tokio::test]
async fn a_relay_that_does_not_know_the_last_transaction_answers_in_full() {
    let mut cluster = Cluster::start().await;
    let order = cluster.leader_first().await;
    let (leader, first) = (order[0], order[1]);
    fill(&mut cluster.client(leader).await).await;
    let remotes = vec![cluster.member(first), cluster.relay_remote()];
    let mut session = Followed::start(config(ServerPolicy::Connected, remotes)).await;
    session.sees("item number 0").await;
    cluster.signal(first, "STOP");
    let mut writer = cluster.client(leader).await;
    run(&mut writer, item("z")).await;
    let relay = cluster.relay(&[leader, order[2]]).await;
    let (told, bytes) = moved(&mut session, relay.remote(), writer, || cluster.kill(first)).await;
    assert_eq!(told, ["+x", "+y", "+z", "-item number 7"]);
    assert!(bytes > MANY_BYTES, "{bytes} bytes");
    session.check(cluster.client(leader).await).await;
}

#[tokio::test]
async fn a_session_moves_from_a_relay_to_a_member() {
    let cluster = Cluster::start().await;
    let order = cluster.leader_first().await;
    fill(&mut cluster.client(order[0]).await).await;
    let relay = cluster.relay(&order).await;
    let remotes = vec![relay.remote().clone(), cluster.member(order[1])];
    let mut session = Followed::start(config(ServerPolicy::Connected, remotes.clone())).await;
    assert_eq!(session.remote().await, remotes[0]);
    session.sees("item number 0").await;
    // Through the relay, and told by it: its transactions are the cluster's.
    within(session.handle.transact(Transaction::new("Test").with(item("a")))).await.unwrap();
    session.sees("a").await;
    relay.signal("STOP");
    let writer = cluster.client(order[0]).await;
    let (told, bytes) = moved(&mut session, &remotes[1], writer, || drop(relay)).await;
    assert_eq!(told, MISSED);
    assert!(bytes < FEW_BYTES, "{bytes} bytes");
    session.check(cluster.client(order[1]).await).await;
}

#[tokio::test]
async fn a_relay_without_a_source_is_left() {
    let server = Real::<false>::start().await;
    let directory = tempfile::tempdir().unwrap();
    let nothing = format!("unix:{}", directory.path().join("nothing").display());
    let relay = Relay::start(directory.path(), &nothing).await;
    let remotes = vec![relay.remote().clone(), server.remote()];
    let (handle, events) = session::spawn(config(ServerPolicy::Connected, remotes.clone()));
    let mut session = Followed { handle, events, reader: Replica::new() };
    let (reasons, _) = session.live_again().await;
    assert_eq!(reasons, [format!("{} is a relay that is cut off from its source", remotes[0])]);
    assert_eq!(session.remote().await, remotes[1]);
}
