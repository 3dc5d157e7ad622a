//! A connection to one broker, with everything declared and consumed.

use std::fmt;
use std::path::PathBuf;

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind,
    ExchangeKind, PublisherConfirm,
};
use neutron::rpc::EXCHANGE;
use neutron::rpc::mirror::TIMEOUT;
use neutron::rpc::object::Kind;

use super::url::{Host, TransportUrl};

/// A connection over which nothing comes for two of these is given up: oslo.messaging's `heartbeat_timeout_threshold`.
const HEARTBEAT_S: u16 = 60;

/// How long a connection may take.
const CONNECT_MS: u64 = 10_000;

/// Messages that the broker sends ahead of what was taken in.
const PREFETCH: u16 = 100;

/// How to reach the message queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// Where it is.
    pub url: TransportUrl,
    /// Certificates; with TLS, they are needed.
    pub tls: Option<Tls>,
    /// As Neutron has `rabbit_transient_quorum_queue`: its fanout exchanges are durable then, and a server refuses to publish to one that we declared otherwise.
    pub quorum_queues: bool,
}

/// Certificates as PEM files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Who signed the broker's.
    pub ca: PathBuf,
    /// Ours and its key, where the broker asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why there is no connection, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LinkError(String);

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lapin::Error> for LinkError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            // The system's words alone.
            ErrorKind::IOError(reason) => LinkError(reason.to_string()),
            _ => LinkError(error.to_string()),
        }
    }
}

/// See the module's documentation. Everything of it at the broker goes with it.
pub(super) struct Link {
    pub(super) queue: String,
    pub(super) consumer: Consumer,
    channel: Channel,
    /// Held, for the channels close with it.
    _connection: Connection,
}

impl Link {
    /// Connects, and declares one queue for answers and pushes, so that they come in the order in which they were sent. It is exclusive: it goes with the connection, and so does what
    /// is in it, which the mirror asks for again anyway.
    pub(super) async fn open(broker: &Broker, host: &Host, queue: String) -> Result<Self, LinkError> {
        let tls = tls(broker.tls.as_ref()).await?;
        let runtime = lapin::runtime::default_runtime()?;
        let properties = ConnectionProperties::default().with_connection_name("sgflow".into());
        let uri = uri(broker, host);
        let connection = Connection::connect_uri_with_config(uri, properties, tls, runtime).await?;
        declare_exchanges(&connection, broker.quorum_queues).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        // A call to a topic without a server is told of at once.
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
        for kind in Kind::ALL {
            let (exchange, options) = (kind.exchange(), QueueBindOptions::default());
            channel
                .queue_bind(queue.as_str().into(), exchange.into(), "".into(), options, FieldTable::default())
                .await?;
        }
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        Ok(Link { queue, consumer, channel, _connection: connection })
    }

    /// Publishes a call.
    pub(super) async fn call(&self, topic: &str, body: &str) -> Result<PublisherConfirm, LinkError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_headers(FieldTable::default())
            .with_expiration(TIMEOUT.as_millis().to_string().into());
        Ok(self
            .channel
            .basic_publish(EXCHANGE.into(), topic.into(), options, body.as_bytes(), properties)
            .await?)
    }
}

/// Waits for the broker's word on a call; why it went nowhere, if so.
pub(super) async fn unsent(confirm: PublisherConfirm) -> Option<String> {
    match confirm.await {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => None,
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
            Some(format!("nobody serves {} ({})", returned.routing_key, returned.reply_text))
        }
        Ok(Confirmation::Nack(None)) => Some("the broker did not take it".to_owned()),
        Err(reason) => Some(LinkError::from(reason).to_string()),
    }
}

fn uri(broker: &Broker, host: &Host) -> AMQPUri {
    AMQPUri {
        scheme: if broker.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: host.user.clone(), password: host.password.clone() },
            host: host.host.clone(),
            port: host.port,
        },
        vhost: broker.url.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT_S),
            connection_timeout: Some(CONNECT_MS),
            ..AMQPQueryString::default()
        },
    }
}

/// As the files are now.
async fn tls(tls: Option<&Tls>) -> Result<OwnedTLSConfig, LinkError> {
    let Some(Tls { ca, identity }) = tls else { return Ok(OwnedTLSConfig::default()) };
    let read = async |path: &PathBuf| {
        tokio::fs::read(path).await.map_err(|reason| LinkError(format!("{}: {reason}", path.display())))
    };
    let authority = String::from_utf8(read(ca).await?);
    let authority = authority.map_err(|_| LinkError(format!("{}: no PEM file", ca.display())))?;
    let identity = match identity {
        Some((certificate, key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read(certificate).await?, key: read(key).await? })
        }
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain: Some(authority) })
}

/// The exchanges of pushes, as the servers make them: fanout exchanges that go with their last queues. If there is one with other flags it is as good. That of the topics is the servers'.
async fn declare_exchanges(connection: &Connection, durable: bool) -> Result<(), LinkError> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    if !declare(connection, EXCHANGE, ExchangeKind::Topic, passive, NOT_FOUND).await? {
        return Err(LinkError(format!(
            "there is no exchange {EXCHANGE}: no neutron-server has been here yet"
        )));
    }
    for kind in Kind::ALL {
        let options =
            ExchangeDeclareOptions { durable, auto_delete: true, ..ExchangeDeclareOptions::default() };
        declare(connection, &kind.exchange(), ExchangeKind::Fanout, options, PRECONDITION_FAILED).await?;
    }
    Ok(())
}

/// Reply codes of AMQP 0-9-1, 1.1.
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// Declares on a channel of its own, since the broker closes one with every refusal. Whether it was declared; if not, it was refused for the reason that may be.
async fn declare(
    connection: &Connection,
    name: &str,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
    may_be: u16,
) -> Result<bool, LinkError> {
    let channel = connection.create_channel().await?;
    match channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await {
        Ok(()) => {
            channel.close(200, "".into()).await?;
            Ok(true)
        }
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(reason) if reason.get_id() == may_be => Ok(false),
            _ => Err(error.into()),
        },
    }
}
