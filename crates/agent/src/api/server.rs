//! The server's end of the socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::Group;
use thiserror::Error;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::peer::{GROUP, may_read};
use super::{Request, Status};

/// Clients served at a time; others wait to be accepted.
pub(super) const CLIENTS: usize = 32;
/// How long a client may take, from its first byte to our last.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How long the daemon's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Wait after an accept that failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// The socket of the daemon's API. The file goes with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

/// No socket.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Another daemon answers there.
    #[error("api socket {0}: another sgflow agent answers there")]
    Taken(PathBuf),
    /// The system's word.
    #[error("api socket {path}: {reason}")]
    Io {
        /// Of the socket.
        path: PathBuf,
        /// The system's word.
        reason: io::Error,
    },
}

impl Server {
    /// Listens at `path`, whose directory is made if it is not there. What an earlier daemon left there is removed.
    ///
    /// # Errors
    /// Another daemon answers there, or the system does not let us.
    pub async fn bind(path: &Path) -> Result<Self, ServerError> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ServerError::Taken(path.to_owned()));
        }
        Self::listen(path).map_err(|reason| ServerError::Io { path: path.to_owned(), reason })
    }

    fn listen(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        if let Ok(Some(group)) = Group::from_name(GROUP) {
            chown(path, None, Some(group.gid.as_raw()))?;
        }
        // Others cannot even connect, and so take no place from those who may ask.
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until it is dropped. What clients want to know goes to `requests`.
    pub async fn serve(self, requests: mpsc::Sender<Request>) {
        let router = Router::new().route("/v1/status", get(status)).with_state(requests);
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(reason) => {
                    warn!(%reason, "api: no client can be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let router = router.clone();
            tokio::spawn(async move {
                // A client that breaks off or takes too long has had its chance.
                _ = timeout(EXCHANGE, exchange(stream, router)).await;
                drop(place);
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone with its directory.
        _ = std::fs::remove_file(&self.path);
    }
}

/// One request and its answer.
async fn exchange(stream: UnixStream, router: Router) {
    let Ok(peer) = stream.peer_cred() else { return };
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(EXCHANGE).keep_alive(false);
    _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

#[derive(Clone, Copy)]
struct Peer(UCred);

async fn status(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Result<Json<Status>, (StatusCode, String)> {
    if !tokio::task::spawn_blocking(move || may_read(peer)).await.unwrap_or(false) {
        let uid = peer.uid();
        return Err((StatusCode::FORBIDDEN, format!("user {uid} is neither root nor of group {GROUP}\n")));
    }
    let (sender, answer) = oneshot::channel();
    let ask = async {
        requests.send(Request::Status(sender)).await.ok()?;
        answer.await.ok()
    };
    let late =
        || (StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending, or does not answer in time\n".to_owned());
    timeout(ANSWER, ask).await.ok().flatten().map(Json).ok_or_else(late)
}
