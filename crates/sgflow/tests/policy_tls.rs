//! `sgflow policy` over TLS: a host's certificate writes what the host says of itself, and nothing else.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::policy_store::{StoreAgent, alone, by_hand, document, get, put, status};
use common::{POLICY, eventually, sgflow, stderr};
use lab::Databases;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;
use store::HOST_ROLE;

/// Where hosts ask, in the servers' own network namespace.
const FOR_HOSTS: &str = "ssl:127.0.0.1:6642";
/// Where who writes policies asks.
const FOR_WRITERS: &str = "ssl:127.0.0.1:6643";

/// An authority and what it has signed, as files `NAME.pem` and `NAME.key`.
struct Authority<'a> {
    directory: &'a Path,
    issuer: Issuer<'static, KeyPair>,
}

impl<'a> Authority<'a> {
    fn new(directory: &'a Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(directory.join("ca.pem"), params.self_signed(&key).expect("a certificate").pem())
            .expect("a file");
        Authority { directory, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, until_year: i32) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(self.directory.join(format!("{name}.pem")), certificate.pem()).expect("a file");
        fs::write(self.directory.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
    }
}

/// A store that is asked by its role at one address, and without a role at another.
fn store() -> Databases {
    let mut databases = alone();
    put(&databases, POLICY, &[]);
    let directory = databases.rundir().to_owned();
    let authority = Authority::new(&directory);
    ["server", "h1", "writer"].iter().for_each(|name| authority.issue(name, 4000));
    authority.issue("expired", 2021);
    by_hand(
        &databases,
        &json!([
            {"op": "insert", "table": "Connection", "uuid-name": "hosts", "row": {"target": "pssl:6642:127.0.0.1", "role": HOST_ROLE}},
            {"op": "insert", "table": "Connection", "uuid-name": "writers", "row": {"target": "pssl:6643:127.0.0.1"}},
            {"op": "mutate", "table": "Global", "where": [],
                "mutations": [["connections", "insert", ["set", [["named-uuid", "hosts"], ["named-uuid", "writers"]]]]]}
        ]),
    );
    let file = |option: &str, name: &str| format!("--{option}={}", directory.join(name).display());
    let arguments = [
        "--remote=db:sgflow,Global,connections".to_owned(),
        file("private-key", "server.key"),
        file("certificate", "server.pem"),
        file("ca-cert", "ca.pem"),
    ];
    databases.restart_with("0", &arguments).expect("the server starts again");
    databases
}

/// The options of who asks there with that certificate.
fn by(databases: &Databases, remote: &str, name: &str) -> Vec<String> {
    let file =
        |option: &str, name: String| [option.to_owned(), databases.rundir().join(name).display().to_string()];
    let mut words = vec!["--store".to_owned(), remote.to_owned()];
    words.extend(file("--store-ca-certificate", "ca.pem".to_owned()));
    words.extend(file("--store-certificate", format!("{name}.pem")));
    words.extend(file("--store-private-key", format!("{name}.key")));
    words
}

fn enter(databases: &Databases) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net={}", databases.netns().path())]
}

fn policy_by(databases: &Databases, remote: &str, name: &str, words: &[&str]) -> Output {
    let [nsenter, netns] = enter(databases);
    let mut command = Command::new(nsenter);
    command.arg(netns).arg(sgflow().get_program()).arg("policy").args(words);
    command.args(by(databases, remote, name)).output().expect("sgflow runs")
}

#[test]
fn a_host_says_of_itself_what_it_has_in_force_and_writes_nothing_else() {
    let databases = store();
    let [nsenter, netns] = enter(&databases);
    let agent = |host: &str| {
        let options = by(&databases, FOR_HOSTS, "h1");
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        StoreAgent::start_with(databases.rundir(), &[&nsenter, &netns], host, &options)
    };
    let (_own, other) = (agent("h1"), agent("h2"));
    eventually("h1 says that it has it", || status(&databases)["hosts"][0]["name"] == "h1");
    other.wait_for("permission error");
    let path = document(&databases, "p.yaml", &POLICY.replace("10.0.0.1}", "10.0.0.7}"));
    let written = policy_by(&databases, FOR_WRITERS, "writer", &["put", &path, "--wait=h1"]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));

    let before = get(&databases);
    let path = document(&databases, "none.yaml", "{}");
    let refused = policy_by(&databases, FOR_HOSTS, "h1", &["put", &path]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("the store does not let us write here"), "{}", stderr(&refused));
    let refused = policy_by(&databases, FOR_HOSTS, "h1", &["wait"]);
    assert!(stderr(&refused).contains("the store does not let us write here"), "{}", stderr(&refused));
    assert_eq!(get(&databases), before);
    let read = policy_by(&databases, FOR_HOSTS, "h1", &["get"]);
    assert_eq!(read.status.code(), Some(0), "who may not write may read: {}", stderr(&read));
    let hosts = status(&databases)["hosts"].as_array().map(Vec::len);
    assert_eq!(hosts, Some(1), "nobody says anything in the name of another");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said() {
    let databases = store();
    let expired = policy_by(&databases, FOR_WRITERS, "expired", &["get", "--timeout", "2"]);
    assert_eq!(expired.status.code(), Some(3), "{}", stderr(&expired));
    assert!(stderr(&expired).contains("our certificate has expired"), "{}", stderr(&expired));
    let missing = policy_by(&databases, FOR_WRITERS, "nobody", &["get", "--timeout", "1"]);
    assert!(stderr(&missing).contains("nobody.pem: "), "{}", stderr(&missing));
    let told = policy_by(&databases, FOR_WRITERS, "expired", &["status", "--timeout", "2"]);
    assert_eq!(told.status.code(), Some(5), "{}", stderr(&told));
    assert!(stderr(&told).contains("our certificate has expired"), "{}", stderr(&told));
}
