//! `GET /metrics` over TCP: whoever reaches the address may read, and nobody can change anything.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::mpsc;

use crate::api::{DropsQuery, Request, ask};
use crate::http::{Limits, Listener};

/// What a client may take.
const LIMITS: Limits = Limits { clients: 8, exchange: Duration::from_secs(10) };
/// How long the daemon's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the datapath may take to count drops.
const COUNTED: Duration = Duration::from_secs(2);
/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until it is dropped. What is to be told is asked of `requests`.
pub async fn serve(listener: Listener, requests: mpsc::Sender<Request>) {
    listener.serve(Router::new().route("/metrics", get(metrics)).with_state(requests), LIMITS).await;
}

async fn metrics(State(requests): State<mpsc::Sender<Request>>) -> Result<impl IntoResponse, StatusCode> {
    let snapshot = ask(&requests, Request::Metrics, ANSWER).await.ok().flatten();
    let mut snapshot = snapshot.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    // It is the datapath that counts them: where that is slow, the rest is told without them.
    let query = DropsQuery { is_scrape: true, ..DropsQuery::default() };
    snapshot.drops = ask(&requests, |answer| Request::Drops(query, answer), COUNTED).await.ok().flatten();
    let text = snapshot.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}
