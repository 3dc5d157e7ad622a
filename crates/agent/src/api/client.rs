//! The commands' end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Status;

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer is not larger.
const ANSWER_BYTES: usize = 16 << 20;

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
    let body = get(path, "/v1/status").await?;
    serde_json::from_slice(&body).map_err(|reason| broken(path, &reason))
}

async fn get(path: &Path, resource: &'static str) -> Result<Vec<u8>, ClientError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|reason| ClientError::Unreachable { path: path.to_owned(), reason })?;
    let exchange = timeout(PATIENCE, exchange(stream, resource)).await;
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
    resource: &'static str,
) -> Result<(StatusCode, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::get(Uri::from_static(resource)).header(header::HOST, "sgflow").body(Body::empty())?;
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
