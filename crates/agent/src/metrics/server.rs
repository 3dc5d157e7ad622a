//! `GET /metrics` over TCP: whoever reaches the address may read, and nobody can change anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::api::Request;

/// Clients served at a time; others wait to be accepted.
const CLIENTS: usize = 8;
/// How long a client may take, from its first byte to our last.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How long the daemon's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Wait after an accept that failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The address at which the daemon is scraped.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
}

/// The address cannot be had.
#[derive(Debug, Error)]
#[error("api.metrics {address}: {reason}")]
pub struct MetricsError {
    /// As it was wanted.
    pub address: SocketAddr,
    /// The system's word.
    pub reason: io::Error,
}

impl MetricsServer {
    /// Listens at an address.
    ///
    /// # Errors
    /// The system does not let us.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|reason| MetricsError { address, reason })?;
        Ok(MetricsServer { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped. What is to be told is asked of `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Request>) {
        let router = Router::new().route("/metrics", get(metrics)).with_state(requests);
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(reason) => {
                    warn!(%reason, "metrics: no client can be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let router = router.clone();
            tokio::spawn(async move {
                exchange(stream, router).await;
                drop(place);
            });
        }
    }
}

/// One request and its answer.
async fn exchange(stream: TcpStream, router: Router) {
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(EXCHANGE).keep_alive(false);
    let served = connection.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that takes too long has had its chance.
    _ = timeout(EXCHANGE, served).await;
}

async fn metrics(State(requests): State<mpsc::Sender<Request>>) -> Result<impl IntoResponse, StatusCode> {
    let (answer, answered) = oneshot::channel();
    let ask = async {
        requests.send(Request::Metrics(answer)).await.ok()?;
        answered.await.ok()
    };
    let snapshot = timeout(ANSWER, ask).await.ok().flatten().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let text = snapshot.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}
