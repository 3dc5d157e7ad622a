//! Reaching a broker: several of them, and over TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neutron::rpc::Options;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Broker, Tls, follow};

/// What a client says first (AMQP 0-9-1, 4.2.2).
const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

fn options() -> Options {
    let text = || "t".to_owned();
    Options { agent_type: text(), binary: text(), host: text(), seed: text(), expected_nonempty: false }
}

/// An authority's certificate as a file, and a server's certificate for `localhost` that it has signed.
fn certificates(directory: &std::path::Path, name: &str) -> (PathBuf, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let path = directory.join(name);
    std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&server_key, &issuer).unwrap();
    let private = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap();
    (path, Arc::new(config))
}

#[tokio::test]
async fn the_next_broker_is_tried_and_spoken_to_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, config) = certificates(directory.path(), "ca.pem");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let port = listener.local_addr().unwrap().port();
    let url = format!("rabbit://u:p@localhost:{closed},u:p@localhost:{port}/v").parse().unwrap();
    let tls = Some(Tls { ca, identity: None });
    let mut updates = follow(Broker { url, tls, quorum_queues: false }, options());
    let fault = timeout(Duration::from_secs(30), updates.recv()).await.unwrap().unwrap();
    let reason = &fault.faults[0].reason;
    assert!(reason.contains(&closed.to_string()) && !reason.contains("u:p"), "{reason}");
    let (stream, _) = timeout(Duration::from_secs(30), listener.accept()).await.unwrap().unwrap();
    let mut stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
    let mut header = [0; 8];
    timeout(Duration::from_secs(30), stream.read_exact(&mut header)).await.unwrap().unwrap();
    assert_eq!(header, HEADER);
}

#[tokio::test]
async fn a_broker_of_another_authority_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, _) = certificates(directory.path(), "ours.pem");
    let (_, config) = certificates(directory.path(), "theirs.pem");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("rabbit://u:p@localhost:{port}/v").parse().unwrap();
    let tls = Some(Tls { ca, identity: None });
    let mut updates = follow(Broker { url, tls, quorum_queues: false }, options());
    let (stream, _) = timeout(Duration::from_secs(30), listener.accept()).await.unwrap().unwrap();
    assert!(TlsAcceptor::from(config).accept(stream).await.is_err());
    let fault = timeout(Duration::from_secs(30), updates.recv()).await.unwrap().unwrap();
    let reason = &fault.faults[0].reason;
    assert!(reason.contains("certificate"), "{reason}");
}
