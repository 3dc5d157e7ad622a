//! TLS: who is let in and who is believed, on the in-memory server and on ovsdb-server.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::fs;
use std::path::PathBuf;

use ovsdb::server::{Listener, ServerGuard};
use ovsdb::{
    Client, ClientError, ConnectOptions, MonitorTable, Remote, SessionConfig, SessionEvent, TlsConfig,
    session,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::{Real, memory_server, within};
use tempfile::TempDir;

/// An authority with its files.
struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate for a name, with its key; trusting this authority.
    fn issue(&self, name: &str) -> TlsConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert, key_file) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        fs::write(&cert, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        TlsConfig { ca: self.path("ca.pem"), cert, key: key_file, server_name: None }
    }
}

trait TlsServer: Sized {
    async fn start(config: &TlsConfig) -> (Self, Remote);
}

impl TlsServer for ServerGuard {
    async fn start(config: &TlsConfig) -> (Self, Remote) {
        let server = Listener::tls(config).await.unwrap().serve(memory_server());
        let remote = server.remote().clone();
        (server, remote)
    }
}

impl TlsServer for Real<false> {
    async fn start(config: &TlsConfig) -> (Self, Remote) {
        Self::start_tls(config).await
    }
}

/// Connects and asks something: with TLS 1.3 a client learns with the first answer that it is not let in.
async fn ask(remote: &Remote, tls: Option<TlsConfig>) -> Result<Vec<String>, ClientError> {
    let options = ConnectOptions { tls, ..ConnectOptions::default() };
    within(async { Client::connect(remote, &options).await?.list_dbs().await }).await
}

async fn certificates_decide<S: TlsServer>() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (_server, remote) = S::start(&authority.issue("server.example")).await;
    let client = authority.issue("client.example");

    assert!(ask(&remote, Some(client.clone())).await.unwrap().contains(&"Test".to_owned()));
    let named = |name: &str| Some(TlsConfig { server_name: Some(name.into()), ..client.clone() });
    assert!(ask(&remote, named("server.example")).await.is_ok());

    let refused = ask(&remote, named("other.example")).await.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let from_elsewhere = TlsConfig { ca: client.ca.clone(), ..stranger.issue("client.example") };
    assert!(ask(&remote, Some(from_elsewhere)).await.is_err(), "a client of another authority is let in");
    let believes_others = TlsConfig { ca: stranger.path("ca.pem"), ..client.clone() };
    let refused = ask(&remote, Some(believes_others)).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");

    let refused = ask(&remote, None).await.unwrap_err();
    assert!(refused.to_string().ends_with("no certificates are configured for TLS"), "{refused}");
    let missing = TlsConfig { key: authority.path("nothing.key"), ..client };
    let refused = ask(&remote, Some(missing)).await.unwrap_err();
    assert!(refused.to_string().contains("nothing.key"), "{refused}");
}

async fn a_session_follows_over_tls<S: TlsServer>() {
    let authority = Authority::new();
    let (_server, remote) = S::start(&authority.issue("server.example")).await;
    let mut config = SessionConfig::new(remote, "Test").monitor(MonitorTable::all_columns("Item"));
    config.tls = Some(authority.issue("client.example"));
    let (handle, mut events) = session::spawn(config);
    assert_eq!(within(events.recv()).await, Some(SessionEvent::Connected));
    // Larger than one TLS record, in both directions.
    let name = "x".repeat(100_000);
    let insert = ovsdb::Transaction::new("Test").with(ovsdb::Insert::into("Item").set("name", name.as_str()));
    within(handle.transact(insert)).await.unwrap();
    let replica = within(handle.replica()).await.unwrap();
    assert_eq!(replica.rows("Item").next().unwrap().string("name"), Ok(name.as_str()));
}

#[tokio::test]
async fn certificates_decide_in_memory() {
    certificates_decide::<ServerGuard>().await;
}

#[tokio::test]
async fn certificates_decide_at_ovsdb_server() {
    certificates_decide::<Real<false>>().await;
}

#[tokio::test]
async fn a_session_follows_over_tls_in_memory() {
    a_session_follows_over_tls::<ServerGuard>().await;
}

#[tokio::test]
async fn a_session_follows_over_tls_at_ovsdb_server() {
    a_session_follows_over_tls::<Real<false>>().await;
}
