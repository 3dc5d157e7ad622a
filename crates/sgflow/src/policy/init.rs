//! `sgflow policy init`: the files of the store's servers, and what is in the store before any policy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agent::config::Store;
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ovsdb::{Client, ClientError, Remote};
use store::schema;
use tokio::time::timeout;

use super::Place;
use super::following::Late;
use super::scribe::Scribe;
use super::servers::{Member, ask_all, connect};
use crate::exit::Exit;

/// Make a database file for a server of the store, or prepare the store that runs
///
/// With --database FILE: a file for one server; with --cluster LOCAL besides: for the first member of a cluster; with --join
/// REMOTE,… besides: for another member. How to start the server is printed.
///
/// Without: the schema of the running store becomes that of this program if it is older, and the rows are made that a policy
/// and the access of hosts take.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// The file to make; must not be there
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,

    /// Where this member of a cluster talks to the others: tcp:ADDRESS:PORT, ssl:ADDRESS:PORT or unix:PATH
    #[arg(long, value_name = "LOCAL", requires = "database")]
    cluster: Option<String>,

    /// Where members of the cluster that is to be joined talk to others
    #[arg(long, value_name = "REMOTE,…", requires = "cluster", value_delimiter = ',')]
    join: Vec<String>,

    #[command(flatten)]
    place: Place,
}

impl Init {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let Init { database, cluster, join, place } = self;
        if let Some(file) = database {
            make(&file, cluster.as_deref(), &join)?;
            print!("{}", advice(&file, cluster.is_some()));
            return Ok(Exit::Done);
        }
        let (store, patience) = place.resolve()?;
        let (remote, leader) = leader(&store, patience).await?;
        let mut client = connect(&store, &remote, patience).await?;
        upgrade(&mut client, &remote, &leader).await?;
        let mut scribe = Scribe::begin(&store, patience).await?;
        scribe.prepare().await?;
        let [groups, address_groups, ports] = scribe.held().counts();
        eprintln!("prepared: {groups} security groups, {address_groups} address groups, {ports} ports");
        Ok(Exit::Done)
    }
}

fn make(file: &Path, cluster: Option<&str>, join: &[String]) -> anyhow::Result<()> {
    ensure!(!file.exists(), "{} is there already; nothing was done", file.display());
    let directory = tempfile::tempdir()?;
    let schema_file = directory.path().join("sgflow.ovsschema");
    fs::write(&schema_file, schema::TEXT)?;
    let mut command = Command::new("ovsdb-tool");
    match cluster {
        None => command.arg("create").arg(file).arg(&schema_file),
        Some(local) if join.is_empty() => {
            command.arg("create-cluster").arg(file).arg(&schema_file).arg(local)
        }
        Some(local) => command.arg("join-cluster").arg(file).args([schema::DATABASE, local]).args(join),
    };
    let output = command.output().context("ovsdb-tool, which comes with Open vSwitch")?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ovsdb-tool: {}", reason.trim());
    Ok(())
}

/// How to start the server.
fn advice(file: &Path, is_clustered: bool) -> String {
    let file = file.display();
    let db = schema::DATABASE;
    let mut text = format!(
        "\
Start the server:

    ovsdb-server --remote=punix:{file}.sock --remote=db:{db},Global,connections \\
        --private-key=db:{db},SSL,private_key --certificate=db:{db},SSL,certificate --ca-cert=db:{db},SSL,ca_cert \\
        --unixctl={file}.ctl --pidfile={file}.pid --log-file={file}.log --detach {file}

Then, once: sgflow policy init --store unix:{file}.sock
"
    );
    if is_clustered {
        text += &format!(
            "
With more than some ten thousand ports, give the members more time before they elect another leader; it can be doubled at a
time, at the leader:

    ovs-appctl -t {file}.ctl cluster/change-election-timer {db} 2000
    ovs-appctl -t {file}.ctl cluster/change-election-timer {db} 4000
"
        );
    }
    text
}

/// A member of a cluster that is about to elect one has none.
async fn leader(store: &Store, patience: Duration) -> anyhow::Result<(Remote, Member)> {
    let mut reasons = String::new();
    let search = async {
        loop {
            let members = ask_all(store, patience).await;
            reasons.clear();
            for (remote, member) in members {
                match member {
                    Ok(member) if member.leader => return (remote, member),
                    Ok(_) => reasons += &format!("\n  {remote}: is not the leader"),
                    Err(reason) => reasons += &format!("\n  {reason}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match timeout(patience, search).await {
        Ok(leader) => Ok(leader),
        Err(_) => Err(Late(format!("no server that leads the policy store in time{reasons}")).into()),
    }
}

/// Makes the schema ours, if the server's is older.
async fn upgrade(client: &mut Client, remote: &Remote, leader: &Member) -> anyhow::Result<()> {
    let has = match client.schema(schema::DATABASE).await {
        Ok(has) => has,
        Err(ClientError::Refused(error)) => bail!("{remote}: {error}"),
        Err(error) => return Err(error.into()),
    };
    let ours = schema::schema();
    let (has, ours) =
        (has.version.as_deref().unwrap_or_default(), ours.version.as_deref().unwrap_or_default());
    match numbers(has).cmp(&numbers(ours)) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => bail!(
            "the database {} has schema {has}, this program has {ours}: use a newer sgflow; nothing was changed",
            schema::DATABASE
        ),
        std::cmp::Ordering::Less => {
            let wanted = match leader.model.as_str() {
                "clustered" => schema::clustered(),
                _ => serde_json::from_str(schema::TEXT)?,
            };
            // The server would close the connection, and nobody would know what became of it.
            client.set_db_change_aware(true).await?;
            client.convert(schema::DATABASE, &wanted).await.context("the new schema")?;
            let now = client.schema(schema::DATABASE).await?;
            ensure!(
                now.version.as_deref() == Some(ours),
                "{remote} took the new schema and has not made it its own; its log says why"
            );
            eprintln!("the schema was {has:?} and is {ours} now");
            Ok(())
        }
    }
}

/// A version in order: `x.y.z` (ovsdb(5)).
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or_default()).collect()
}
