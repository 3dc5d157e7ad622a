//! What the page asks for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent::api::{Drops, DropsQuery, PageQuery, PortPage, Request, Status, port_called};
use agent::config::Config;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use policy::Policy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::found::{self, FoundGroups, FoundPorts};
use super::graph::{Graph, graph};
use super::matrix::{Matrix, MatrixQuery, matrix};
use super::walk::{WalkQuery, Walks};

/// How long the daemon's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it is not counted anew what there is in the policy.
const COUNTS_STAND: Duration = Duration::from_secs(10);
/// Ports of this host that are known as such.
const LOCAL_PORTS: usize = agent::api::LARGEST_PAGE;

/// What answers are made of.
pub(super) struct Page {
    config: Config,
    requests: mpsc::Sender<Request>,
    walks: Walks,
    counts: Mutex<Option<(Instant, Counts)>>,
    /// Who works something out. It is held until that is done, also where nobody waits for it any more.
    bench: Arc<Semaphore>,
}

/// How much there is in the policy.
#[derive(Clone, Copy, Serialize)]
struct Counts {
    groups: usize,
    address_groups: usize,
    ports: usize,
}

/// What is told instead of an answer.
pub(super) struct Refused(StatusCode, String);

impl Refused {
    /// The question makes no sense.
    pub(super) fn bad(reason: impl ToString) -> Self {
        Refused(StatusCode::BAD_REQUEST, reason.to_string())
    }

    /// What is asked about is not there.
    pub(super) fn missing(reason: impl ToString) -> Self {
        Refused(StatusCode::NOT_FOUND, reason.to_string())
    }

    /// It cannot be answered now.
    pub(super) fn late(reason: impl ToString) -> Self {
        Refused(StatusCode::SERVICE_UNAVAILABLE, reason.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Refused::bad(rejection.body_text())
    }
}

type Asked<T> = Result<Query<T>, QueryRejection>;
type Answered<T> = Result<Json<T>, Refused>;

pub(super) fn router() -> Router<Arc<Page>> {
    Router::new()
        .route("/data/status", get(status))
        .route("/data/groups", get(groups))
        .route("/data/ports", get(ports))
        .route("/data/graph", get(whole_graph))
        .route("/data/matrix", get(judged_matrix))
        .route("/data/walk", get(walk))
        .route("/data/walk/{number}", get(counts))
        .route("/data/drops", get(dropped))
}

impl Page {
    pub(super) fn new(config: Config, requests: mpsc::Sender<Request>) -> Self {
        Page {
            config,
            requests,
            walks: Walks::default(),
            counts: Mutex::default(),
            bench: Arc::new(Semaphore::new(1)),
        }
    }

    /// Asks the daemon's loop: nothing if it answers nothing.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<Option<T>, Refused> {
        let (sender, answer) = oneshot::channel();
        let late = || Refused::late("the daemon is ending, or does not answer in time");
        let ask = async {
            self.requests.send(request(sender)).await.map_err(|_| late())?;
            Ok(answer.await.ok())
        };
        timeout(ANSWER, ask).await.map_err(|_| late())?
    }

    /// The policy that is to be enforced.
    async fn policy(&self) -> Result<Policy, Refused> {
        let policy = self.ask(Request::Policy).await?;
        let nobodys = || Refused::missing(format!("driver {} keeps no policy", self.config.firewall_driver));
        policy.ok_or_else(nobodys)?.ok_or_else(|| Refused::late("no policy has been read yet"))
    }

    /// How much there is in it, counted a while ago at most: whoever leaves the page open asks often, and a copy of the policy costs the
    /// daemon's loop the more, the larger it is.
    async fn counts(&self) -> Option<Counts> {
        let known = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counts)) = known.filter(|(time, _)| time.elapsed() < COUNTS_STAND) {
            return Some(counts);
        }
        let Policy { groups, address_groups, ports } = self.policy().await.ok()?;
        let counts =
            Counts { groups: groups.len(), address_groups: address_groups.len(), ports: ports.len() };
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), counts));
        Some(counts)
    }

    /// Works something out beside what else this thread does, one thing at a time.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
        let late = |_| Refused::late("it could not be worked out");
        let place =
            Arc::clone(&self.bench).acquire_owned().await.map_err(|_| Refused::late("it is ending"))?;
        let held = move || {
            let done = work();
            drop(place);
            done
        };
        spawn_blocking(held).await.map_err(late)
    }

    /// The ids of ports of this host.
    async fn local_ports(&self) -> Result<BTreeSet<String>, Refused> {
        let query = PageQuery { limit: Some(LOCAL_PORTS), ..PageQuery::default() };
        Ok(self.ports(query).await?.ports.into_iter().map(|port| port.id).collect())
    }

    /// Ports of this host; none of who has none.
    async fn ports(&self, query: PageQuery) -> Result<PortPage, Refused> {
        Ok(self.ask(|answer| Request::Ports(query, answer)).await?.unwrap_or_default())
    }
}

async fn status(State(page): State<Arc<Page>>) -> Answered<Value> {
    let status: Status =
        page.ask(Request::Status).await?.ok_or_else(|| Refused::late("the daemon is ending"))?;
    let counts = page.counts().await;
    let config = &page.config;
    let is_of_flows = status.firewall_driver == "openvswitch";
    let bridge = is_of_flows.then_some(config.integration_bridge.as_str());
    Ok(Json(json!({"host": config.host, "bridge": bridge, "policy": counts, "status": status})))
}

/// What is searched for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    #[serde(default)]
    search: String,
}

async fn groups(State(page): State<Arc<Page>>, query: Asked<Search>) -> Answered<FoundGroups> {
    let Query(Search { search }) = query?;
    let policy = page.policy().await?;
    Ok(Json(page.work(move || found::groups(&policy, &search)).await?))
}

async fn ports(State(page): State<Arc<Page>>, query: Asked<Search>) -> Answered<FoundPorts> {
    let Query(Search { search }) = query?;
    let (policy, local) = (page.policy().await?, page.local_ports().await?);
    Ok(Json(page.work(move || found::ports(&policy, &local, &search)).await?))
}

/// Whose neighbourhood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Around {
    group: Option<String>,
}

async fn whole_graph(State(page): State<Arc<Page>>, query: Asked<Around>) -> Answered<Graph> {
    let Query(Around { group }) = query?;
    let policy = page.policy().await?;
    page.work(move || graph(&policy, group.as_deref())).await?.map(Json).map_err(Refused::missing)
}

async fn judged_matrix(State(page): State<Arc<Page>>, query: Asked<MatrixQuery>) -> Answered<Matrix> {
    let Query(query) = query?;
    let policy = page.policy().await?;
    let settings = crate::explain::judged_by(&page.config);
    page.work(move || matrix(&policy, settings, &query)).await?.map(Json).map_err(Refused::bad)
}

async fn walk(State(page): State<Arc<Page>>, query: Asked<WalkQuery>) -> Answered<Value> {
    let Query(query) = query?;
    let policy = page.policy().await?;
    Ok(Json(page.walks.walk(&page.config, &policy, query).await?))
}

async fn counts(State(page): State<Arc<Page>>, Path(number): Path<u64>) -> Answered<Value> {
    Ok(Json(page.walks.counts(&page.config, number).await?))
}

async fn dropped(State(page): State<Arc<Page>>, query: Asked<DropsQuery>) -> Answered<Drops> {
    let Query(mut query) = query?;
    if let Some(word) = query.port {
        query.port = Some(port_called(&word, |query| page.ports(query), Refused::missing).await?);
    }
    let drops = page.ask(|answer| Request::Drops(query, answer)).await?;
    let nobodys =
        || Refused::missing(format!("driver {} does not look at drops", page.config.firewall_driver));
    drops.map(Json).ok_or_else(nobodys)
}
