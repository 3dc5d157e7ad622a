//! Where flows come from, a saved dump, or the switch and its database; and the policy that they are of.

use std::io::Read as _;
use std::path::Path;

use agent::config::{Config, SourceKind};
use agent::driver::openflow_target;
use agent::host::IFACE_ID;
use agent::source::{Documents, Feed};
use anyhow::{Context as _, bail};
use explain::decode::{Dump, Interface, Line};
use ovsdb::{Client, Condition, ConnectOptions, Select, Transaction};
use policy::Policy;
use rust_openflow::FlowFilter;
use rust_openflow::connection::ConnectionConfig;

use crate::apply::print_refused;
use crate::explain::of_agent;
use crate::options::setup;

/// The database of a switch.
const DATABASE: &str = "Open_vSwitch";

/// What compressed files begin with (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Flows, and what is known beside them.
pub(super) struct Taken {
    /// The bridge or the file.
    pub(super) place: String,
    pub(super) dump: Dump,
    /// What the database says of the bridge.
    pub(super) interfaces: Vec<Interface>,
    pub(super) known: Known,
}

/// What else there is to name things by.
#[derive(Default)]
pub(super) struct Known {
    pub(super) policy: Option<Policy>,
    /// Whether something of it was refused.
    pub(super) is_partial: bool,
    /// Why it is not that of the agent.
    pub(super) unasked: Option<String>,
}

/// The policy is of whoever took the dump: that of this host only where it is asked for.
pub(super) fn from_dump(path: &Path, policy: Option<&Path>) -> anyhow::Result<Taken> {
    let is_stdin = path == Path::new("-");
    let mut bytes = Vec::new();
    if is_stdin {
        std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
    } else {
        bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    }
    let place = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    if bytes.starts_with(&GZIP) {
        bail!("{place}: it is compressed (gzip): zcat FILE | sgflow flows --from-dump -");
    }
    let dump = Dump::read(&String::from_utf8_lossy(&bytes));
    if dump.flows.is_empty() && dump.unread.is_empty() {
        bail!("{place}: there is no flow in it");
    }
    let known = policy.map_or(Ok(Known::default()), read_at)?;
    Ok(Taken { place, dump, interfaces: Vec::new(), known })
}

/// Asks the switch for its flows with their counters, and the database for the interfaces of the bridge.
pub(super) async fn from_switch(config: &Config) -> anyhow::Result<Taken> {
    let bridge = &config.integration_bridge;
    let interfaces = interfaces(config).await?;
    let target = openflow_target(&setup(config, true))?;
    let connected = rust_openflow::client::Client::connect_with(&target, ConnectionConfig::default()).await;
    let (client, _events) = connected.with_context(|| format!("the switch of {bridge} at {target}"))?;
    let entries = client.dump_flows(&FlowFilter::default()).await?;
    let mut entries: Vec<_> = entries.into_iter().map(|entry| (entry.flow, entry.stats)).collect();
    // A switch tells its flows in no order.
    entries.sort_by_key(|(flow, _)| (flow.table, std::cmp::Reverse(flow.priority), flow.to_string()));
    let lines =
        entries.into_iter().enumerate().map(|(index, (flow, stats))| Line::of(index + 1, flow, stats));
    let dump = Dump { flows: lines.collect(), ..Dump::default() };
    Ok(Taken { place: bridge.clone(), dump, interfaces, known: Known::default() })
}

/// The policy of this host: the document that is given; else what the agent is to enforce, whose flows these are; where none
/// answers, the settings' own document.
pub(super) async fn known_here(config: &Config, is_given: bool) -> anyhow::Result<Known> {
    if is_given {
        return read_at(&config.policy_path);
    }
    match of_agent(config).await {
        Ok(documents) => Ok(read(&documents)),
        // A host whose policy comes from elsewhere has none to read.
        Err(_) if config.policy_source == SourceKind::File && config.policy_path.exists() => {
            read_at(&config.policy_path)
        }
        Err(reason) => Ok(Known { unasked: Some(reason.to_string()), ..Known::default() }),
    }
}

/// Whether the switch or the database is not there, rather than something wrong with what was asked.
pub(super) fn is_away(error: &anyhow::Error) -> bool {
    error.is::<ovsdb::ClientError>() || error.is::<rust_openflow::client::ClientError>()
}

fn read_at(path: &Path) -> anyhow::Result<Known> {
    Ok(read(&Documents::read(path)?))
}

fn read(documents: &Documents) -> Known {
    let mut feed = Feed::default();
    let update = feed.take(documents);
    print_refused(&update);
    let policy = feed.policy().map(|policy| Policy::clone(policy));
    Known { policy, is_partial: !update.diagnostics.is_empty(), unasked: None }
}

/// What is plugged into the bridge, as far as the switch has opened it.
pub(crate) async fn interfaces(config: &Config) -> anyhow::Result<Vec<Interface>> {
    let bridge = config.integration_bridge.as_str();
    let options = ConnectOptions { tls: config.ovsdb.tls.clone(), ..ConnectOptions::default() };
    let mut client = Client::connect(&config.ovsdb.remote, &options).await?;
    let mut transaction = Transaction::new(DATABASE);
    let of_bridge = Select::from("Bridge").filter(Condition::equal("name", bridge));
    let bridges = transaction.push(of_bridge.columns(["_uuid", "ports"]));
    let ports = transaction.push(Select::from("Port").columns(["_uuid", "interfaces"]));
    let columns = ["_uuid", "name", "ofport", "external_ids"];
    let interfaces = transaction.push(Select::from("Interface").columns(columns));
    let reply = client.transact(&transaction).await?;
    let row = reply.rows(bridges).and_then(|rows| rows.first());
    let ports_of_bridge = row.with_context(|| format!("there is no bridge {bridge}"))?.uuids("ports")?;
    let mut own = Vec::new();
    for port in reply.rows(ports).unwrap_or_default() {
        if ports_of_bridge.contains(&port.uuid()) {
            own.extend(port.uuids("interfaces")?);
        }
    }
    let mut found = Vec::new();
    for row in reply.rows(interfaces).unwrap_or_default() {
        let ofport = row.optional_integer("ofport")?.and_then(|number| u16::try_from(number).ok());
        let Some(ofport) = ofport.filter(|number| *number > 0 && own.contains(&row.uuid())) else { continue };
        let id = row.map("external_ids")?.get(IFACE_ID).filter(|id| !id.is_empty()).map(str::to_owned);
        found.push(Interface { ofport, name: row.string("name")?.to_owned(), port_id: id });
    }
    Ok(found)
}
