//! Three real ovsdb-servers as a Raft cluster, and relays of it.

use std::path::Path;
use std::time::Duration;

use ovsdb::{Client, Condition, ConnectOptions, Remote, Select, Transaction};
use tempfile::TempDir;

use super::{Process, SCHEMA, ready, run, text, within};

/// The members are 0, 1 and 2. Everything ends, by its pid, when this is dropped.
pub(crate) struct Cluster {
    directory: TempDir,
    members: Vec<Option<Process>>,
}

/// What is in front of the members.
pub(crate) struct Relay {
    process: Process,
    remote: Remote,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let mut cluster =
            Self { directory: tempfile::tempdir().expect("a temporary directory"), members: Vec::new() };
        let raft = |place: usize| format!("unix:{}", cluster.path(&format!("{place}.raft")));
        let file = |place: usize| cluster.path(&format!("{place}.db"));
        run("ovsdb-tool", &["create-cluster".into(), file(0), SCHEMA.into(), raft(0)]);
        for place in [1, 2] {
            run("ovsdb-tool", &["join-cluster".into(), file(place), "Test".into(), raft(place), raft(0)]);
        }
        let files: Vec<String> = (0..3).map(file).collect();
        for (place, file) in files.into_iter().enumerate() {
            let process = server(cluster.directory.path(), &place.to_string(), file);
            cluster.members.push(Some(process));
        }
        for place in 0..3 {
            ready(&cluster.member(place)).await;
        }
        cluster
    }

    /// Starts a relay of these members, which knows no transaction of before. It would wait for one that is stopped.
    pub(crate) async fn relay(&self, members: &[usize]) -> Relay {
        let sources: Vec<String> = members.iter().map(|place| self.member(*place).to_string()).collect();
        let relay = Relay::start(self.directory.path(), &sources.join(",")).await;
        ready(&relay.remote).await;
        relay
    }

    /// Where the relay is to listen.
    pub(crate) fn relay_remote(&self) -> Remote {
        socket(self.directory.path(), RELAY)
    }

    fn path(&self, name: &str) -> String {
        text(&self.directory.path().join(name))
    }

    pub(crate) fn member(&self, place: usize) -> Remote {
        socket(self.directory.path(), &place.to_string())
    }

    pub(crate) async fn client(&self, place: usize) -> Client {
        Client::connect(&self.member(place), &ConnectOptions::default()).await.expect("the member listens")
    }

    /// The members that run, the leader first.
    pub(crate) async fn leader_first(&self) -> Vec<usize> {
        within(async {
            loop {
                for place in self.running() {
                    if self.leads(place).await {
                        let others = self.running().filter(|other| *other != place);
                        return std::iter::once(place).chain(others).collect();
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..3).filter(|place| self.members[*place].is_some())
    }

    async fn leads(&self, place: usize) -> bool {
        let mut transaction = Transaction::new("_Server");
        let ours = Condition::equal("name", "Test");
        let status = transaction.push(Select::from("Database").filter(ours).columns(["leader"]));
        let reply = within(async { self.client(place).await.transact(&transaction).await }).await;
        let reply = reply.expect("every server has this database");
        reply.rows(status).expect("a select")[0].boolean("leader").expect("a column of it")
    }

    pub(crate) fn kill(&mut self, place: usize) {
        self.members[place] = None;
    }

    pub(crate) fn signal(&self, place: usize, name: &str) {
        self.members[place].as_ref().expect("it runs").signal(name);
    }
}

impl Relay {
    /// Starts one, and waits until it listens; it may have no schema then.
    pub(crate) async fn start(directory: &Path, sources: &str) -> Self {
        let process = server(directory, RELAY, format!("relay:Test:{sources}"));
        let remote = socket(directory, RELAY);
        within(async {
            while Client::connect(&remote, &ConnectOptions::default()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        Self { process, remote }
    }

    pub(crate) const fn remote(&self) -> &Remote {
        &self.remote
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }
}

const RELAY: &str = "relay";

fn socket(directory: &Path, name: &str) -> Remote {
    Remote::Unix(directory.join(format!("{name}.sock")))
}

fn server(directory: &Path, name: &str, database: String) -> Process {
    let at = |kind: &str| text(&directory.join(format!("{name}.{kind}")));
    let arguments = [
        format!("--remote=punix:{}", at("sock")),
        format!("--unixctl={}", at("ctl")),
        format!("--log-file={}", at("log")),
        "--no-chdir".into(),
        database,
    ];
    Process::start("ovsdb-server", &arguments, directory)
}
