//! The server's end of the socket.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use neutron::driver::Change;
use nix::unistd::Group;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::peer::{GROUP, POLICY_GROUP, may_read, may_write};
use super::{
    Applied, ChangeAnswer, ChangeRefused, DriverState, Drops, DropsQuery, GroupCursor, GroupPage,
    LARGEST_PAGE, Late, LogChange, LogFilter, LogState, PageQuery, PortPage, Request, Status, ask,
    port_called,
};

/// Clients served at a time; others wait to be accepted.
pub(super) const CLIENTS: usize = 64;
/// Of one user; more are turned away, so that nobody takes every place from the others.
const CLIENTS_OF_USER: usize = CLIENTS / 2;
/// How long a client may take, from its first byte to our last, besides what it has asked us to wait.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How long the daemon's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a client may ask us to wait, in seconds.
const LONGEST_WAIT: u16 = 60;
/// Whole policies that are copied and written as documents at a time: each may take as much memory again as the policy does.
const POLICIES: usize = 2;
/// A change is not larger: 200,000 members and as many rules.
const CHANGE_BYTES: usize = 64 << 20;
/// A change of what is logged is not larger.
const LOG_BYTES: usize = 64 << 10;
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

    /// Serves until it is dropped. What clients want to know goes to `requests`; what is logged goes by `log`.
    pub async fn serve(self, requests: mpsc::Sender<Request>, log: Arc<LogFilter>) {
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/ports", get(ports))
            .route("/v1/groups", get(groups))
            .route("/v1/drops", get(drops))
            .route("/v1/policy", get(policy))
            .route("/v1/neutron-driver", get(driver_state).post(change))
            .route("/v1/log", get(log_state).put(change_log))
            .layer(Extension(log))
            .layer(Extension(Policies(Arc::new(Semaphore::new(POLICIES)))))
            .with_state(requests);
        let places = Arc::new(Semaphore::new(CLIENTS));
        let users = Users::default();
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
            let Ok(peer) = stream.peer_cred() else { continue };
            let Some(user) = users.come(peer.uid()) else { continue };
            let router = router.clone();
            tokio::spawn(async move {
                exchange(stream, peer, router).await;
                drop((user, place));
            });
        }
    }
}

/// How many clients each user has.
#[derive(Clone, Default)]
struct Users(Arc<Mutex<BTreeMap<u32, usize>>>);

impl Users {
    /// One more, unless there are too many; it goes with what is given back.
    fn come(&self, uid: u32) -> Option<User> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = users.entry(uid).or_default();
        (*clients < CLIENTS_OF_USER).then(|| {
            *clients += 1;
            User { users: self.clone(), uid }
        })
    }
}

/// A client of a user.
struct User {
    users: Users,
    uid: u32,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = users.get_mut(&self.uid) {
            *clients -= 1;
            if *clients == 0 {
                users.remove(&self.uid);
            }
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
async fn exchange(stream: UnixStream, peer: UCred, router: Router) {
    let (patience, mut extended) = watch::channel(Instant::now() + EXCHANGE);
    let router = router.layer(Extension(Peer(peer))).layer(Extension(Patience(patience)));
    let service = TowerToHyperService::new(router);
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(EXCHANGE).keep_alive(false);
    let served = connection.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    loop {
        let deadline = *extended.borrow_and_update();
        tokio::select! {
            _ = &mut served => return,
            // A client that takes too long has had its chance.
            () = sleep_until(deadline) => return,
            Ok(()) = extended.changed() => {}
        }
    }
}

#[derive(Clone, Copy)]
struct Peer(UCred);

/// Places for those who are given whole policies.
#[derive(Clone)]
struct Policies(Arc<Semaphore>);

/// Until when a client is served.
#[derive(Clone)]
struct Patience(watch::Sender<Instant>);

/// What a client is told instead of an answer.
#[derive(Debug)]
struct Refusal {
    code: StatusCode,
    object: &'static str,
    field: &'static str,
    reason: String,
    /// Besides.
    more: Map<String, Value>,
}

impl From<Late> for Refusal {
    fn from(Late: Late) -> Self {
        Refusal::late()
    }
}

impl Refusal {
    fn new(code: StatusCode, object: &'static str, field: &'static str, reason: impl ToString) -> Self {
        Refusal { code, object, field, reason: reason.to_string(), more: Map::new() }
    }

    fn late() -> Self {
        let reason = "the daemon is ending, or does not answer in time";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "agent", "answer", reason)
    }

    fn no_datapath() -> Self {
        let reason = "it has no ports: it is a publisher, or it is ending";
        Refusal::new(StatusCode::NOT_FOUND, "agent", "role", reason)
    }

    fn not_looked() -> Self {
        let reason = "it does not look at what is dropped: it has no datapath, or it is ending";
        Refusal::new(StatusCode::NOT_FOUND, "agent", "firewall_driver", reason)
    }

    fn bad(field: &'static str, reason: impl ToString) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "request", field, reason)
    }

    fn no_such_source() -> Self {
        let reason = "the policy of this agent comes from elsewhere: set policy.source to neutron-driver";
        Refusal::new(StatusCode::NOT_FOUND, "agent", "policy.source", reason)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { code, object, field, reason, mut more } = self;
        more.insert("error".to_owned(), json!({"object": object, "field": field, "reason": reason}));
        (code, Json(Value::Object(more))).into_response()
    }
}

async fn may(peer: UCred, what: fn(UCred) -> bool, group: &str) -> Result<(), Refusal> {
    // The system's user database may take its time.
    if tokio::task::spawn_blocking(move || what(peer)).await.unwrap_or(false) {
        return Ok(());
    }
    let reason = format!("user {} is neither root nor of group {group}", peer.uid());
    Err(Refusal::new(StatusCode::FORBIDDEN, "client", "user", reason))
}

async fn status(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Result<Json<Status>, Refusal> {
    may(peer, may_read, GROUP).await?;
    ask(&requests, Request::Status, ANSWER).await?.map(Json).ok_or_else(Refusal::late)
}

async fn log_state(
    Extension(log): Extension<Arc<LogFilter>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Result<Json<LogState>, Refusal> {
    may(peer, may_read, GROUP).await?;
    Ok(Json(log.state()))
}

async fn change_log(
    Extension(log): Extension<Arc<LogFilter>>,
    Extension(Peer(peer)): Extension<Peer>,
    body: Body,
) -> Result<Json<LogState>, Refusal> {
    may(peer, may_write, POLICY_GROUP).await?;
    let body = to_bytes(body, LOG_BYTES).await.map_err(|reason| {
        let reason = format!("more than {LOG_BYTES} bytes, or broken off: {reason}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request", "body", reason)
    })?;
    let change = serde_json::from_slice::<LogChange>(&body).map_err(|reason| Refusal::bad("body", reason))?;
    log.change(&change, peer.uid()).map(Json).map_err(|reason| Refusal::bad("filter", reason))
}

/// A query that makes sense.
async fn page(query: Result<Query<PageQuery>, QueryRejection>) -> Result<PageQuery, Refusal> {
    let Query(query) = query.map_err(|rejection| Refusal::bad("query", rejection.body_text()))?;
    match query.limit {
        Some(limit) if limit == 0 || limit > LARGEST_PAGE => {
            Err(Refusal::bad("limit", format!("{limit} is not from 1 to {LARGEST_PAGE}")))
        }
        _ => Ok(query),
    }
}

async fn ports_of(requests: &mpsc::Sender<Request>, query: PageQuery) -> Result<PortPage, Refusal> {
    let page = ask(requests, |answer| Request::Ports(query, answer), ANSWER).await?;
    page.ok_or_else(Refusal::no_datapath)
}

async fn ports(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<PortPage>, Refusal> {
    may(peer, may_read, GROUP).await?;
    let query = page(query).await?;
    ports_of(&requests, query).await.map(Json)
}

async fn drops(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
    query: Result<Query<DropsQuery>, QueryRejection>,
) -> Result<Json<Drops>, Refusal> {
    may(peer, may_read, GROUP).await?;
    let Query(mut query) = query.map_err(|rejection| Refusal::bad("query", rejection.body_text()))?;
    if let Some(word) = query.port {
        let page = |query| ports_of(&requests, query);
        let unknown = |reason| Refusal::new(StatusCode::NOT_FOUND, "request", "port", reason);
        query.port = Some(port_called(&word, page, unknown).await?);
    }
    let drops = ask(&requests, |answer| Request::Drops(query, answer), ANSWER).await?;
    drops.map(Json).ok_or_else(Refusal::not_looked)
}

async fn groups(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<GroupPage>, Refusal> {
    may(peer, may_read, GROUP).await?;
    let query = page(query).await?;
    if GroupCursor::of(query.after.as_deref()).is_none() {
        return Err(Refusal::bad("after", "it is not what a page before says is next"));
    }
    let page = ask(&requests, |answer| Request::Groups(query, answer), ANSWER).await?;
    page.map(Json).ok_or_else(Refusal::no_datapath)
}

async fn policy(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(Policies(places)): Extension<Policies>,
) -> Result<Json<Value>, Refusal> {
    may(peer, may_read, GROUP).await?;
    let place = places.acquire_owned().await.map_err(|_| Refusal::late())?;
    let policy = ask(&requests, Request::Policy, ANSWER).await?.ok_or_else(Refusal::no_datapath)?;
    let none = || {
        let reason = "there is no policy yet: its source has said nothing; what was in force stays";
        Refusal::new(StatusCode::NOT_FOUND, "agent", "policy", reason)
    };
    let policy = policy.ok_or_else(none)?;
    let write = move || {
        let document = document_of(&policy);
        // Not before it is written, whether somebody waits for it or not.
        drop(place);
        document
    };
    let written = tokio::task::spawn_blocking(write).await;
    written.map(Json).map_err(|_| Refusal::late())
}

/// A member that is no port of this host stands in the policy as a port of no network, which no document may have.
fn document_of(policy: &policy::Policy) -> Value {
    let mut document = policy::document::write(policy);
    let ports = document["ports"].as_array_mut().into_iter().flatten();
    for port in ports.filter(|port| port["network_id"] == "") {
        port["network_id"] = Value::from(ELSEWHERE);
    }
    document
}

/// The network of those, in `GET /v1/policy`: it may be any.
pub const ELSEWHERE: &str = "elsewhere";

async fn driver_state(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Result<Json<DriverState>, Refusal> {
    may(peer, may_read, GROUP).await?;
    ask(&requests, Request::DriverState, ANSWER).await?.map(Json).ok_or_else(Refusal::no_such_source)
}

/// How long a change may take to be in force.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// In seconds.
    #[serde(default)]
    wait: u16,
}

async fn change(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(Patience(patience)): Extension<Patience>,
    wait: Result<Query<Wait>, QueryRejection>,
    body: Body,
) -> Result<(StatusCode, Json<ChangeAnswer>), Refusal> {
    may(peer, may_write, POLICY_GROUP).await?;
    let Query(Wait { wait }) = wait.map_err(|rejection| Refusal::bad("wait", rejection.body_text()))?;
    if wait > LONGEST_WAIT {
        return Err(Refusal::bad("wait", format!("{wait} s is more than {LONGEST_WAIT} s")));
    }
    // Read within the time that everybody has.
    let body = to_bytes(body, CHANGE_BYTES).await.map_err(|reason| {
        let reason = format!("more than {CHANGE_BYTES} bytes, or broken off: {reason}");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request", "body", reason)
    })?;
    let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice::<Change>(&body)).await;
    let change =
        Box::new(parsed.map_err(|_| Refusal::late())?.map_err(|reason| Refusal::bad("body", reason))?);
    let wait = Duration::from_secs(u64::from(wait));
    // Nobody else is waiting if the client is not there any more.
    _ = patience.send(Instant::now() + wait + EXCHANGE);
    let request = |answer| Request::Change { change, wait, answer };
    let answer = ask(&requests, request, wait + ANSWER).await?.ok_or_else(Refusal::no_such_source)?;
    let answer = answer.map_err(|ChangeRefused { reason, session, sequence }| {
        let mut refusal = Refusal::new(StatusCode::CONFLICT, "change", "sequence", reason);
        refusal.more.insert("session".to_owned(), session.into());
        refusal.more.insert("sequence".to_owned(), sequence.into());
        refusal
    })?;
    let code = match answer.state {
        Applied::Applied => StatusCode::OK,
        Applied::Pending => StatusCode::ACCEPTED,
    };
    Ok((code, Json(answer)))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::api::client;

    #[tokio::test]
    async fn so_many_whole_policies_are_asked_for_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let server = Server::bind(&path).await.unwrap();
        let (requests, mut asked) = mpsc::channel(16);
        tokio::spawn(server.serve(requests, Arc::new(LogFilter::new("info", |_| Ok(|| Ok(()))))));
        let clients: Vec<_> = (0..POLICIES + 3)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { client::policy(&path).await })
            })
            .collect();
        let mut waiting = Vec::new();
        while waiting.len() < POLICIES {
            waiting.push(asked.recv().await.unwrap());
        }
        // The others have come by now, and wait.
        assert!(timeout(Duration::from_millis(300), asked.recv()).await.is_err());
        for _ in 0..clients.len() {
            let request = match waiting.pop() {
                Some(request) => request,
                None => asked.recv().await.unwrap(),
            };
            let Request::Policy(answer) = request else { panic!("{request:?}") };
            answer.send(Some(policy::Policy::default())).unwrap();
        }
        for client in clients {
            client.await.unwrap().unwrap();
        }
    }
}
