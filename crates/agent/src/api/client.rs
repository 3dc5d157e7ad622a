//! The commands' end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    Drops, DropsQuery, GroupEntry, GroupPage, LARGEST_PAGE, LogChange, LogState, PAGE, PageQuery, PortEntry,
    PortPage, Status,
};

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer is not larger.
const ANSWER_BYTES: usize = 256 << 20;

/// No answer from the daemon, or none that can be used.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("no sgflow agent answers at {path}: {reason}")]
    Unreachable {
        /// Of the socket.
        path: PathBuf,
        /// The system's word.
        reason: io::Error,
    },
    /// The daemon refuses the request.
    #[error("the sgflow agent at {path} refuses ({code}): {text}")]
    Refused {
        /// Of the socket.
        path: PathBuf,
        /// The HTTP status.
        code: StatusCode,
        /// The daemon's words.
        text: String,
    },
    /// The daemon breaks off, takes too long, or says what makes no sense.
    #[error("the sgflow agent at {path} does not answer as it should: {reason}")]
    Broken {
        /// Of the socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Asks the daemon at a socket how it is.
///
/// # Errors
/// It cannot be reached, refuses, or does not answer as it should.
pub async fn status(path: &Path) -> Result<Status, ClientError> {
    get(path, "/v1/status").await
}

/// Asks for the ports of this host: all, or the one of this id, or of an interface of this name.
///
/// # Errors
/// As of [`status`].
pub async fn ports(path: &Path, one: Option<&str>) -> Result<Vec<PortEntry>, ClientError> {
    let mut ports = Vec::new();
    let mut resource = first_page("/v1/ports", one);
    loop {
        let page: PortPage = get(path, &resource).await?;
        ports.extend(page.ports);
        match page.next {
            Some(next) => resource = next_page("/v1/ports", &next),
            None => return Ok(ports),
        }
    }
}

/// Asks for one page of the ports of this host.
///
/// # Errors
/// As of [`status`].
pub async fn ports_page(path: &Path, query: &PageQuery) -> Result<PortPage, ClientError> {
    let PageQuery { id, after, limit } = query;
    let named = [("id", id.as_deref()), ("after", after.as_deref())];
    let named = named.into_iter().filter_map(|(name, value)| Some(format!("&{name}={}", encoded(value?))));
    let resource = format!("/v1/ports?limit={}", limit.unwrap_or(PAGE));
    get(path, &named.fold(resource, |resource, more| resource + &more)).await
}

/// Asks for the groups of the policy: all, or those of this id, or else of this name.
///
/// # Errors
/// As of [`status`].
pub async fn groups(path: &Path, one: Option<&str>) -> Result<Vec<GroupEntry>, ClientError> {
    let mut groups = Vec::new();
    let mut resource = first_page("/v1/groups", one);
    loop {
        let page: GroupPage = get(path, &resource).await?;
        groups.extend(page.groups);
        match page.next {
            Some(next) => resource = next_page("/v1/groups", &next),
            None => return Ok(groups),
        }
    }
}

/// Asks what is dropped.
///
/// # Errors
/// As of [`status`].
pub async fn drops(path: &Path, query: &DropsQuery) -> Result<Drops, ClientError> {
    let after = query.after.unwrap_or(0);
    let port = query.port.as_deref().map(|port| format!("&port={}", encoded(port))).unwrap_or_default();
    get(path, &format!("/v1/drops?after={after}{port}")).await
}

/// Asks for the policy that the daemon enforces, as a document.
///
/// # Errors
/// As of [`status`].
pub async fn policy(path: &Path) -> Result<serde_json::Value, ClientError> {
    get(path, "/v1/policy").await
}

/// Asks what the daemon logs.
///
/// # Errors
/// As of [`status`].
pub async fn log(path: &Path) -> Result<LogState, ClientError> {
    get(path, "/v1/log").await
}

/// Has the daemon log something else.
///
/// # Errors
/// As of [`status`].
pub async fn set_log(path: &Path, change: &LogChange) -> Result<LogState, ClientError> {
    let body = serde_json::to_vec(change).map_err(|reason| broken(path, &reason))?;
    let request = Request::put("/v1/log").body(Body::from(body)).map_err(|reason| broken(path, &reason))?;
    let answer = fetch(path, request).await?;
    serde_json::from_slice(&answer).map_err(|reason| broken(path, &reason))
}

fn first_page(list: &str, one: Option<&str>) -> String {
    match one {
        Some(id) => format!("{list}?id={}", encoded(id)),
        None => format!("{list}?limit={LARGEST_PAGE}"),
    }
}

fn next_page(list: &str, next: &str) -> String {
    format!("{list}?limit={LARGEST_PAGE}&after={}", encoded(next))
}

/// As a value in a query (RFC 3986, 2.1 and 2.3: what is not unreserved is percent-encoded).
fn encoded(text: &str) -> String {
    let spell = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(spell).collect()
}

async fn get<T: DeserializeOwned>(path: &Path, resource: &str) -> Result<T, ClientError> {
    let request = Request::get(resource).body(Body::empty()).map_err(|reason| broken(path, &reason))?;
    let body = fetch(path, request).await?;
    serde_json::from_slice(&body).map_err(|reason| broken(path, &reason))
}

async fn fetch(path: &Path, request: Request<Body>) -> Result<Vec<u8>, ClientError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|reason| ClientError::Unreachable { path: path.to_owned(), reason })?;
    let exchange = timeout(PATIENCE, exchange(stream, request)).await;
    let (code, body) =
        exchange.map_err(|late| broken(path, &late))?.map_err(|reason| broken(path, &*reason))?;
    if code != StatusCode::OK {
        let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let reason = said.as_ref().and_then(|said| said["error"]["reason"].as_str());
        let text = reason.map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned);
        return Err(ClientError::Refused { path: path.to_owned(), code, text });
    }
    Ok(body)
}

async fn exchange(
    stream: UnixStream,
    mut request: Request<Body>,
) -> Result<(StatusCode, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("sgflow"));
    let ask = async {
        let response = sender.send_request(request).await?;
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        Ok((code, body.to_vec()))
    };
    tokio::pin!(connection);
    let mut lives = true;
    tokio::pin!(ask);
    loop {
        tokio::select! {
            answer = &mut ask => return answer,
            _ = &mut connection, if lives => lives = false,
        }
    }
}

fn broken(path: &Path, reason: &dyn std::fmt::Display) -> ClientError {
    ClientError::Broken { path: path.to_owned(), reason: reason.to_string() }
}
