//! The agent's web page: how it is, who may reach whom, a packet's way through the flows, what is dropped.
//!
//! The page is read by hand at a loopback address, so it must cost the firewall nothing: it is served by a thread of its own, which asks the
//! daemon's loop for what it knows as the API's server does, and works out everything else beside it. What `/data/` answers is for the
//! page alone; programs ask the API.

mod counters;
mod data;
mod found;
mod graph;
mod guard;
mod matrix;
mod walk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::api::Request;
use agent::config::Config;
use agent::http::{Limits, Listener};
use anyhow::Context as _;
use axum::Router;
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::mpsc;
use tracing::info;

use data::Page;

/// What a client may take: a browser opens several connections, and a walk looks at the switch, twice if need be.
const LIMITS: Limits = Limits { clients: 16, exchange: Duration::from_secs(40) };

/// What the page is made of: path, type and text.
const ASSETS: [(&str, &str, &str); 10] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("/page.js", SCRIPT, include_str!("assets/page.js")),
    ("/dom.js", SCRIPT, include_str!("assets/dom.js")),
    ("/graph.js", SCRIPT, include_str!("assets/graph.js")),
    ("/layout.js", SCRIPT, include_str!("assets/layout.js")),
    ("/matrix.js", SCRIPT, include_str!("assets/matrix.js")),
    ("/walk.js", SCRIPT, include_str!("assets/walk.js")),
    ("/drops.js", SCRIPT, include_str!("assets/drops.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Serves the page until the program ends.
///
/// # Errors
/// The system gives no thread, or nothing for it to wait with.
pub(crate) fn start(
    address: SocketAddr,
    config: Config,
    requests: mpsc::Sender<Request>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = async move {
        let listener = Listener::listen("api.web", address, "there is no web page").await;
        info!(address = %listener.address(), "the web page is there");
        listener.serve(router(Page::new(config, requests)), LIMITS).await;
    };
    let thread = std::thread::Builder::new().name("web".to_owned());
    thread.spawn(move || runtime.block_on(serve)).context("a thread for the web page")?;
    Ok(())
}

fn router(page: Page) -> Router {
    let mut router = Router::new();
    for (path, content_type, text) in ASSETS {
        let asset = move || async move { ([(header::CONTENT_TYPE, content_type)], text).into_response() };
        router = router.route(path, get(asset));
    }
    router.merge(data::router().with_state(Arc::new(page))).layer(from_fn(guard::guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_but_what_is_served_with_it() {
        for (path, _, text) in ASSETS {
            let is_elsewhere = |line: &&str| line.contains("//") && line.contains("http");
            // The names of SVG and its like are no addresses.
            let elsewhere: Vec<&str> =
                text.lines().filter(is_elsewhere).filter(|line| !line.contains("w3.org/2000/svg")).collect();
            assert!(elsewhere.is_empty(), "{path}: {elsewhere:?}");
            for (_, name) in text.match_indices(" from \"./").map(|(at, part)| (at, &text[at + part.len()..]))
            {
                let name = name.split('"').next().unwrap_or_default();
                assert!(ASSETS.iter().any(|(path, ..)| path[1..] == *name), "{path} imports {name}");
            }
        }
    }
}
