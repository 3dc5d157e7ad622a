//! Stores of a test's own, and the commands and agents that use them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use lab::Databases;
use store::schema::{DATABASE, TEXT};

use super::{eventually, sgflow, stderr, stdout};

/// A store of one server, with nothing in it.
pub fn alone() -> Databases {
    Databases::alone(TEXT, DATABASE).expect("an ovsdb-server")
}

/// A store of three servers, with nothing in it.
pub fn cluster() -> Databases {
    Databases::cluster(TEXT, DATABASE, 3).expect("three ovsdb-servers")
}

/// `sgflow policy` with these words, at the store.
pub fn policy_command(databases: &Databases, words: &[&str]) -> Command {
    let mut command = sgflow();
    command.arg("policy").args(words).args(["--store", &databases.remotes()]);
    command
}

/// The same, run.
pub fn policy(databases: &Databases, words: &[&str]) -> Output {
    policy_command(databases, words).output().expect("sgflow runs")
}

/// Runs it and says how it ended, and what it said on stderr.
pub fn told(databases: &Databases, words: &[&str]) -> (Option<i32>, String) {
    let output = policy(databases, words);
    (output.status.code(), stderr(&output))
}

/// A document beside the store.
pub fn document(databases: &Databases, name: &str, text: &str) -> String {
    let path = databases.rundir().join(name);
    fs::write(&path, text).expect("a document");
    path.display().to_string()
}

/// Puts a document; it has to be taken.
pub fn put(databases: &Databases, text: &str, more: &[&str]) {
    let path = document(databases, "put.yaml", text);
    let output = policy(databases, &[&["put", &path], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// The policy in the store as JSON.
pub fn get(databases: &Databases) -> serde_json::Value {
    let output = policy(databases, &["get", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("a document")
}

/// `sgflow policy status`, as JSON.
pub fn status(databases: &Databases) -> serde_json::Value {
    let output = policy(databases, &["status", "--json"]);
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)))
}

/// Writes by hand, past sgflow: the operations of one transaction.
pub fn by_hand(databases: &Databases, operations: &serde_json::Value) {
    let mut transaction = vec![serde_json::Value::from(DATABASE)];
    transaction.extend(operations.as_array().expect("operations").iter().cloned());
    let transaction = serde_json::Value::from(transaction).to_string();
    let output = databases.client(&["transact", &databases.remotes(), &transaction]).expect("a transaction");
    assert!(!output.contains("\"error\""), "{output}");
}

/// A running agent that takes its policy from the store and touches no switch; ended with the test.
pub struct StoreAgent {
    child: Child,
    log: PathBuf,
}

impl StoreAgent {
    /// On a host of this name.
    pub fn start(databases: &Databases, host: &str) -> Self {
        Self::start_with(databases.rundir(), &[], host, &["--store", &databases.remotes()])
    }

    /// By another program, with these options.
    pub fn start_with(directory: &Path, by: &[&str], host: &str, more: &[&str]) -> Self {
        let log = directory.join(format!("{host}.log"));
        let out = fs::File::create(&log).expect("a log");
        let mut command = Command::new("setpriv");
        // Dies with the test, also when that is killed.
        command.args(["--pdeathsig", "KILL"]).args(by).arg(sgflow().get_program()).arg("agent");
        command.args(["--policy-source", "store", "--firewall-driver", "noop", "--host", host]);
        command.arg("--api-socket").arg(directory.join(format!("{host}.api"))).args(more);
        let child = command.stderr(out).stdout(Stdio::null()).spawn().expect("the agent starts");
        StoreAgent { child, log }
    }

    /// Until the log has it.
    pub fn wait_for(&self, part: &str) {
        eventually(&format!("{part:?} in the log"), || self.log().contains(part));
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }
}

impl Drop for StoreAgent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
