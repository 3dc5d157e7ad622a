//! What the switch has counted at flows, read for these alone.

use std::collections::HashMap;

use agent::config::Config;
use agent::driver::openflow_target;
use anyhow::Context as _;
use rust_openflow::client::Client;
use rust_openflow::connection::ConnectionConfig;
use rust_openflow::{Flow, FlowFilter, FlowKey, FlowStats};

use crate::options::setup;

/// A connection to the switch of the bridge.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Client> {
    let target = openflow_target(&setup(config, true))?;
    let connected = Client::connect_with(&target, ConnectionConfig::default()).await;
    let (client, _events) = connected.with_context(|| format!("the switch at {target}"))?;
    Ok(client)
}

/// What each flow has counted, by its key; a flow that is gone is not among them.
pub(super) async fn read(
    config: &Config,
    flows: impl IntoIterator<Item = &Flow>,
) -> anyhow::Result<HashMap<FlowKey, FlowStats>> {
    let client = connect(config).await?;
    let mut counters = HashMap::new();
    for flow in flows {
        let key = flow.key();
        if counters.contains_key(&key) {
            continue;
        }
        // A catch-all covers its whole table, of which few have its cookie.
        let filter = FlowFilter {
            table: Some(flow.table),
            matches: flow.matches.clone(),
            cookie: (flow.cookie, u64::MAX),
            ..FlowFilter::default()
        };
        let entries = client.dump_flows(&filter).await?;
        counters.extend(entries.into_iter().map(|entry| (entry.flow.key(), entry.stats)));
    }
    Ok(counters)
}
