//! HTTP over TCP for whoever reaches an address: a request a connection, few clients at a time, each for a bounded time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{error, warn};

/// How long is waited before an address is tried to be had again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// Wait after an accept that failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Served at a time; others wait to be accepted.
    pub clients: usize,
    /// How long one may take, from its first byte to our last.
    pub exchange: Duration,
}

/// An address at which the daemon listens.
#[derive(Debug)]
pub struct Listener {
    key: &'static str,
    address: SocketAddr,
    listener: TcpListener,
}

impl Listener {
    /// Listens at the address that `key` of the settings says, as soon as it can be had: it may come to this host later, or another may
    /// have the port for a while. That is an error of which the log says the `consequence`, not one that ends a firewall.
    pub async fn listen(key: &'static str, address: SocketAddr, consequence: &str) -> Self {
        let mut is_told = false;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    // A port that the system has chosen has to be told.
                    let address = listener.local_addr().unwrap_or(address);
                    return Listener { key, address, listener };
                }
                Err(reason) if !is_told => error!(
                    "{key} {address}: {reason}: {consequence}; the policy is enforced all the same, and it is tried again"
                ),
                Err(_) => {}
            }
            is_told = true;
            tokio::time::sleep(LISTEN_RETRY).await;
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub async fn serve(self, router: Router, limits: Limits) {
        let places = Arc::new(Semaphore::new(limits.clients));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(reason) => {
                    warn!(%reason, "{}: no client can be accepted", self.key);
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let router = router.clone();
            tokio::spawn(async move {
                exchange(stream, router, limits.exchange).await;
                drop(place);
            });
        }
    }
}

/// One request and its answer.
async fn exchange(stream: TcpStream, router: Router, within: Duration) {
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(within).keep_alive(false);
    let served = connection.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that takes too long has had its chance.
    _ = timeout(within, served).await;
}
