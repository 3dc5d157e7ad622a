//! What the servers of the store tell of themselves (`_Server`, ovsdb-server(5)).

use std::time::Duration;

use agent::config::Store;
use anyhow::{Context as _, bail};
use ovsdb::{Client, Condition, ConnectOptions, Remote, Select, Transaction};
use store::schema;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SERVER: &str = "_Server";

/// What a server tells of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// `standalone`, `clustered` or `relay`.
    pub(super) model: String,
    /// Whether it is in contact with its cluster, or its source.
    pub(super) connected: bool,
    /// Whether it leads the cluster.
    pub(super) leader: bool,
    /// Of the last entry of the log that it has in force; a member of a cluster has one.
    pub(super) index: Option<i64>,
}

/// Each server that is named, or why it does not answer; in their order.
pub(super) async fn ask_all(store: &Store, within: Duration) -> Vec<(Remote, Result<Member, String>)> {
    let mut asking = JoinSet::new();
    for (place, remote) in store.remotes.iter().cloned().enumerate() {
        let store = store.clone();
        asking.spawn(async move {
            let outcome = async { member(&mut connect(&store, &remote, within).await?).await };
            let outcome = match timeout(within, outcome).await {
                Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                Err(_) => Err(format!("no answer within {within:?}")),
            };
            (place, remote, outcome)
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(place, ..)| *place);
    answers.into_iter().map(|(_, remote, outcome)| (remote, outcome)).collect()
}

/// A connection with one server.
pub(super) async fn connect(store: &Store, remote: &Remote, within: Duration) -> anyhow::Result<Client> {
    let standard = ConnectOptions::default();
    let connect_timeout = standard.connect_timeout.min(within);
    let options = ConnectOptions { tls: store.tls.clone(), connect_timeout, ..standard };
    Ok(Client::connect(remote, &options).await?)
}

async fn member(client: &mut Client) -> anyhow::Result<Member> {
    // With TLS 1.3 the first answer tells whether we are let in, and if not, why.
    client.schema(SERVER).await?;
    let mut transaction = Transaction::new(SERVER);
    let select = Select::from("Database").filter(Condition::equal("name", schema::DATABASE));
    let place = transaction.push(select.columns(["model", "connected", "leader", "index"]));
    let reply = client.transact(&transaction).await?;
    let Some(row) = reply.rows(place).and_then(<[_]>::first) else {
        bail!("has no database {}", schema::DATABASE);
    };
    Ok(Member {
        model: row.string("model")?.to_owned(),
        connected: row.boolean("connected")?,
        leader: row.boolean("leader")?,
        index: row.optional_integer("index").context("what the server tells of itself")?,
    })
}
