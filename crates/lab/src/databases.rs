//! Private ovsdb-servers of one database: one alone, or the members of a cluster and its relays.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;
use crate::error::Tried as _;
use crate::netns::NetNs;
use crate::ovs::wait_for;
use crate::process::{self, Daemon, Lifetime};
use crate::rundir::RunDir;

/// The file of the schema.
const SCHEMA: &str = "schema.ovsschema";

/// How long a server may take until it answers: the machine may be busy, and an election takes two seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Servers that belong together; each listens at a Unix socket of its own, and members talk to each other by others. Dropping it ends
/// them and removes what they had.
#[derive(Debug)]
pub struct Databases {
    database: String,
    servers: Vec<Server>,
    netns: NetNs,
    rundir: RunDir,
}

#[derive(Debug)]
struct Server {
    name: String,
    /// What it serves: its file, or `relay:…`.
    source: String,
    /// More of its arguments.
    arguments: Vec<String>,
    daemon: Option<Daemon>,
}

impl Databases {
    /// One server, `0`, that nobody else knows of; `schema` as JSON (ovsdb(5)), `database` its name.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub fn alone(schema: &str, database: &str) -> Result<Self, Error> {
        let mut databases = Self::empty(schema, database)?;
        let file = databases.path("0.db");
        databases.tool(&["create", &text(&file), SCHEMA])?;
        databases.add("0", text(&file))?;
        Ok(databases)
    }

    /// A cluster of `size` members, `0` and so on (ovsdb(7), "Clustered"). When this returns all have joined.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub fn cluster(schema: &str, database: &str, size: usize) -> Result<Self, Error> {
        let mut databases = Self::empty(schema, database)?;
        let raft = |databases: &Self, place: usize| {
            format!("unix:{}", text(&databases.path(&format!("{place}.raft"))))
        };
        for place in 0..size {
            let file = text(&databases.path(&format!("{place}.db")));
            let own = raft(&databases, place);
            match place {
                0 => databases.tool(&["create-cluster", &file, SCHEMA, &own])?,
                _ => databases.tool(&["join-cluster", &file, database, &own, &raft(&databases, 0)])?,
            };
            databases.add(&place.to_string(), file)?;
        }
        for place in 0..size {
            databases.wait_until_joined(&place.to_string())?;
        }
        Ok(databases)
    }

    fn empty(schema: &str, database: &str) -> Result<Self, Error> {
        let (netns, rundir) = (NetNs::new()?, RunDir::temporary()?);
        let path = rundir.path().join(SCHEMA);
        fs::write(&path, schema).tried(|| format!("write {}", path.display()))?;
        Ok(Self { database: database.to_owned(), servers: Vec::new(), netns, rundir })
    }

    /// Starts a relay of all members that there are (ovsdb(7), "Relay"), called `name`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn add_relay(&mut self, name: &str) -> Result<(), Error> {
        let members: Vec<String> = self.members().map(|name| self.remote(name)).collect();
        let source = format!("relay:{}:{}", self.database, members.join(","));
        self.add(name, source)
    }

    /// Where a server listens, as `--store` and `--db` take it.
    #[must_use]
    pub fn remote(&self, name: &str) -> String {
        format!("unix:{}", text(&self.socket(name)))
    }

    /// Where all members listen, with commas between.
    #[must_use]
    pub fn remotes(&self) -> String {
        self.members().map(|name| self.remote(name)).collect::<Vec<_>>().join(",")
    }

    /// The directory in which all of it is.
    #[must_use]
    pub fn rundir(&self) -> &Path {
        self.rundir.path()
    }

    /// The network namespace in which the servers are, for addresses of TCP.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Ends a server hard.
    pub fn kill(&mut self, name: &str) {
        if let Some(daemon) = self.server(name).and_then(|server| server.daemon.take()) {
            daemon.kill();
        }
    }

    /// Ends a server in order.
    pub fn stop(&mut self, name: &str) {
        if let Some(daemon) = self.server(name).and_then(|server| server.daemon.take()) {
            daemon.end();
        }
    }

    /// Starts a server again that was ended.
    ///
    /// # Errors
    /// It does not come up, or there is none of that name.
    pub fn start(&mut self, name: &str) -> Result<(), Error> {
        let place = self.servers.iter().position(|server| server.name == name);
        let place = place.ok_or(Error::NotRunning("ovsdb-server"))?;
        let daemon = self.daemon(&self.servers[place])?;
        self.servers[place].daemon = Some(daemon);
        Ok(())
    }

    /// Starts a server again with other arguments: more remotes, certificates.
    ///
    /// # Errors
    /// See [`Databases::start`].
    pub fn restart_with(&mut self, name: &str, arguments: &[String]) -> Result<(), Error> {
        self.stop(name);
        if let Some(server) = self.server(name) {
            server.arguments = arguments.to_vec();
        }
        self.start(name)
    }

    /// Process id of a server.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self, name: &str) -> Result<u32, Error> {
        let server = self.servers.iter().find(|server| server.name == name);
        let daemon = server.and_then(|server| server.daemon.as_ref());
        daemon.map(Daemon::pid).ok_or(Error::NotRunning("ovsdb-server"))
    }

    /// What `ovs-appctl` says of a server.
    ///
    /// # Errors
    /// It does not run, or refuses.
    pub fn appctl(&self, name: &str, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("ovs-appctl");
        command.arg(format!("--target={}", self.path(&format!("{name}.ctl")).display())).args(arguments);
        process::run(command, None)
    }

    /// The member that leads, once there is one.
    ///
    /// # Errors
    /// There is none in time.
    pub fn leader(&self) -> Result<String, Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            for name in self.members() {
                let status = self.appctl(name, &["cluster/status", &self.database]).unwrap_or_default();
                if status.contains("\nRole: leader\n") {
                    return Ok(name.to_owned());
                }
            }
            if Instant::now() > deadline {
                return Err(Error::NotRunning("a leader of the cluster"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs `ovsdb-client` and gives back what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn client(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("ovsdb-client");
        command.args(arguments);
        process::run(command, None)
    }

    fn members(&self) -> impl Iterator<Item = &str> {
        self.servers
            .iter()
            .filter(|server| !server.source.starts_with("relay:"))
            .map(|server| server.name.as_str())
    }

    fn server(&mut self, name: &str) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.name == name)
    }

    fn add(&mut self, name: &str, source: String) -> Result<(), Error> {
        let mut server = Server { name: name.to_owned(), source, arguments: Vec::new(), daemon: None };
        server.daemon = Some(self.daemon(&server)?);
        self.servers.push(server);
        Ok(())
    }

    fn daemon(&self, server: &Server) -> Result<Daemon, Error> {
        let Server { name, source, arguments, .. } = server;
        let at = |kind: &str| self.path(&format!("{name}.{kind}"));
        let mut command = Command::new("ovsdb-server");
        command.arg(format!("--remote=punix:{}", self.socket(name).display()));
        command.arg(format!("--unixctl={}", at("ctl").display()));
        command.arg(format!("--log-file={}", at("log").display()));
        command.args(["--no-chdir", "-vconsole:off"]).args(arguments).arg(source);
        command
            .current_dir(self.rundir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A socket that a killed server has left behind would look like one that listens.
        _ = fs::remove_file(self.socket(name));
        let mut daemon =
            Daemon::start("ovsdb-server", command, &self.netns, Lifetime::OfThisProcess, Some(at("pid")))?;
        let socket = self.socket(name);
        wait_for("ovsdb-server", &mut daemon, || UnixStream::connect(&socket).is_ok())?;
        Ok(daemon)
    }

    fn wait_until_joined(&self, name: &str) -> Result<(), Error> {
        let remote = self.remote(name);
        let timeout = format!("--timeout={}", READY_WITHIN.as_secs());
        self.client(&[&timeout, "wait", &remote, &self.database, "connected"]).map(|_| ())
    }

    fn tool(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("ovsdb-tool");
        command.args(arguments).current_dir(self.rundir.path());
        process::run(command, None)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.sock"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.rundir.path().join(name)
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
