//! Servers to test with: the in-memory one, and real ovsdb-servers of the test's own.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod cluster;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ovsdb::server::{Listener, MemoryServer, ServerGuard};
use ovsdb::{Client, ConnectOptions, Remote, TlsConfig};
use tempfile::TempDir;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/test.ovsschema");

/// A server with an empty database of `test.ovsschema`.
pub(crate) trait TestServer: Sized {
    /// Starts one.
    async fn start() -> Self;
    /// Where it listens.
    fn remote(&self) -> Remote;
    /// Drops all its clients.
    async fn drop_clients(&self);
    /// Whether it can send only what came after a transaction.
    fn resumes(&self) -> bool;

    async fn client(&self) -> Client {
        Client::connect(&self.remote(), &ConnectOptions::default()).await.expect("the server listens")
    }
}

/// The in-memory server.
pub(crate) struct Memory<const RESUMES: bool> {
    pub(crate) guard: ServerGuard,
    _directory: TempDir,
}

pub(crate) fn memory_server() -> MemoryServer {
    let schema = fs::read_to_string(SCHEMA).expect("the schema is part of the tests");
    MemoryServer::new(serde_json::from_str(&schema).expect("it is JSON")).expect("it is a schema")
}

impl<const RESUMES: bool> TestServer for Memory<RESUMES> {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = memory_server();
        server.keep_transactions(if RESUMES { 100 } else { 0 });
        let guard = Listener::unix(&directory.path().join("db.sock")).expect("a fresh path").serve(server);
        Self { guard, _directory: directory }
    }

    fn remote(&self) -> Remote {
        self.guard.remote().clone()
    }

    async fn drop_clients(&self) {
        self.guard.with(MemoryServer::drop_clients);
    }

    fn resumes(&self) -> bool {
        RESUMES
    }
}

/// A real ovsdb-server with a database in a file (`CLUSTER` false), or as the one member of a cluster.
pub(crate) struct Real<const CLUSTER: bool> {
    directory: TempDir,
    process: Process,
}

/// A child process that is killed when it is dropped, or when this thread dies in any other way.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(program: &str, arguments: &[String], directory: &Path) -> Self {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(arguments)
            .env("OVS_RUNDIR", directory)
            .env("OVS_DBDIR", directory)
            .env("OVS_LOGDIR", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv is part of util-linux");
        Self(child)
    }

    /// Stops it, or lets it go on: "STOP", "CONT".
    pub(crate) fn signal(&self, name: &str) {
        run("kill", &[format!("-{name}"), self.0.id().to_string()]);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, arguments: &[String]) {
    let output = Command::new(program).args(arguments).output().expect("Open vSwitch is installed");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

impl<const CLUSTER: bool> Real<CLUSTER> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts with further arguments, and waits until the file `ready` shows that it listens.
    fn spawn(arguments: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| text(&directory.path().join(name));
        if CLUSTER {
            let raft = format!("unix:{}", at("raft"));
            run("ovsdb-tool", &["create-cluster".into(), at("db"), SCHEMA.into(), raft]);
        } else {
            run("ovsdb-tool", &["create".into(), at("db"), SCHEMA.into()]);
        }
        let mut all = vec![
            format!("--remote=punix:{}", at("db.sock")),
            format!("--unixctl={}", at("ctl")),
            format!("--log-file={}", at("log")),
            "--no-chdir".into(),
        ];
        all.extend_from_slice(arguments);
        all.push(at("db"));
        let process = Process::start("ovsdb-server", &all, directory.path());
        Self { directory, process }
    }

    async fn ready(self) -> Self {
        ready(&self.remote()).await;
        self
    }
}

impl<const CLUSTER: bool> TestServer for Real<CLUSTER> {
    async fn start() -> Self {
        Self::spawn(&[]).ready().await
    }

    fn remote(&self) -> Remote {
        Remote::Unix(self.path("db.sock"))
    }

    async fn drop_clients(&self) {
        run("ovs-appctl", &["-t".into(), text(&self.path("ctl")), "ovsdb-server/reconnect".into()]);
    }

    fn resumes(&self) -> bool {
        CLUSTER
    }
}

impl Real<false> {
    /// Starts one that listens with TLS on a free port too; gives where.
    pub(crate) async fn start_tls(config: &TlsConfig) -> (Self, Remote) {
        let server = Self::spawn(&[
            "--remote=pssl:0:127.0.0.1".into(),
            format!("--private-key={}", text(&config.key)),
            format!("--certificate={}", text(&config.cert)),
            format!("--ca-cert={}", text(&config.ca)),
        ])
        .ready()
        .await;
        let log = fs::read_to_string(server.path("log")).expect("the server writes a log");
        let port = log.split("listening on port ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let port = port.unwrap_or_else(|| panic!("no port in {log}"));
        let remote = format!("ssl:127.0.0.1:{port}").parse().expect("a remote");
        (server, remote)
    }
}

/// Waits until the database serves.
async fn ready(remote: &Remote) {
    within(async {
        loop {
            if let Ok(mut client) = Client::connect(remote, &ConnectOptions::default()).await {
                let names = client.list_dbs().await.unwrap_or_default();
                // A member of a cluster has no schema before it has joined.
                if names.iter().any(|name| name == "Test") && client.schema("Test").await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Fails the test, instead of hanging, where something never comes.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing came for 20 s")
}

/// Runs each `async fn name<S: TestServer>()` on every kind of server.
#[macro_export]
macro_rules! on_every_server {
    ($($name:ident),* $(,)?) => {
        mod memory { $(#[tokio::test] async fn $name() { super::$name::<super::support::Memory<false>>().await })* }
        mod memory_that_resumes { $(#[tokio::test] async fn $name() { super::$name::<super::support::Memory<true>>().await })* }
        mod ovsdb_server { $(#[tokio::test] async fn $name() { super::$name::<super::support::Real<false>>().await })* }
        mod ovsdb_server_cluster { $(#[tokio::test] async fn $name() { super::$name::<super::support::Real<true>>().await })* }
    };
}
