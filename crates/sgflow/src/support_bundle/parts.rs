//! What a bundle is made of.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use agent::api::{self, ClientError, DropsQuery};
use agent::config::{Config, FirewallDriver};
use agent::driver::openflow_target;
use agent::observe::LogTarget;
use anyhow::Context as _;
use rust_openflow::FlowFilter;
use rust_openflow::client::Client;
use serde::Serialize;
use tokio::time::timeout;

use super::archive::{Bundle, PART_BYTES};
use super::{command, database, host};
use crate::options::setup;

/// How long the switch and its database may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the agent has logged, where systemd keeps that.
const JOURNAL: [&str; 9] = [
    "journalctl",
    "--unit=sgflow.service",
    "--unit=sgflow-publisher.service",
    "--unit=ovs-vswitchd.service",
    "--lines=20000",
    "--no-pager",
    "--quiet",
    "--utc",
    "--output=short-iso-precise",
];

/// The end of the security-group log, where it goes to the journal.
const LOGGED: [&str; 8] = [
    "journalctl",
    "SGFLOW_EVENT=accept",
    "SGFLOW_EVENT=drop",
    "SGFLOW_EVENT=limited",
    "--lines=500",
    "--quiet",
    "--utc",
    "--output=json",
];
/// So many lines of it are enough to see what is logged; none is longer than this many bytes on average.
const END_LINES: usize = 500;
const END_BYTES: u64 = END_LINES as u64 * 2048;

/// Everything, as far as it can be had. `unread`: why the settings cannot be read.
pub(super) async fn collect(config: &Config, unread: Option<String>, bundle: &mut Bundle) {
    bundle.add("version.txt", Ok(format!("sgflow {}\n", env!("CARGO_PKG_VERSION"))));
    bundle.add(
        "settings.txt",
        match unread {
            // Passwords are no part of what a Config shows of itself.
            None => Ok(format!("{config:#?}\n")),
            Some(reason) => Err(anyhow::Error::msg(reason)),
        },
    );
    let socket = &config.api_socket;
    bundle.add("status.json", told(api::status(socket).await));
    bundle.add("ports.json", told(api::ports(socket, None).await));
    bundle.add("groups.json", told(api::groups(socket, None).await));
    bundle.add("drops.json", told(api::drops(socket, &DropsQuery::default()).await));
    if let Some(log) = &config.observe.log {
        bundle.add("security-log.jsonl", security_log(&log.target).await);
    }
    bundle.add("host.txt", Ok(host::facts()));
    bundle.add("database.txt", in_time(database::rows(config)).await);
    bundle.add("flows.txt", in_time(flows(config)).await);
    for (name, words) in programs(config.firewall_driver) {
        bundle.add(name, command::output(words).await);
    }
    bundle.add("journal.txt", command::output(&JOURNAL).await);
}

/// What the agent answers, as JSON.
fn told<T: Serialize>(answer: Result<T, ClientError>) -> anyhow::Result<String> {
    serde_json::to_string_pretty(&answer?).context("an answer")
}

/// The end of the security-group log.
async fn security_log(target: &LogTarget) -> anyhow::Result<String> {
    match target {
        LogTarget::Journal => command::output(&LOGGED).await,
        LogTarget::File(path) => end_of(path).with_context(|| path.display().to_string()),
    }
}

/// The last lines of a file that may be of any length.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let begin = file.metadata()?.len().saturating_sub(END_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(END_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first may be a part of one.
    let lines = text.lines().skip(usize::from(begin > 0));
    let lines: Vec<&str> = lines.collect();
    let last = &lines[lines.len().saturating_sub(END_LINES)..];
    Ok(last.iter().map(|line| format!("{line}\n")).collect())
}

async fn in_time(part: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    timeout(PATIENCE, part).await.with_context(|| format!("no answer within {} s", PATIENCE.as_secs()))?
}

/// All flows of the bridge, others' too, each after what it has counted.
async fn flows(config: &Config) -> anyhow::Result<String> {
    let target = openflow_target(&setup(config, true))?.to_string();
    let (client, _news) = Client::connect(&target).await?;
    let mut flows = client.dump_flows(&FlowFilter::default()).await?;
    flows.sort_by_key(|entry| (entry.flow.table, u16::MAX - entry.flow.priority));
    let mut text = String::new();
    for entry in flows {
        let stats = entry.stats;
        // Into a String, which takes everything.
        _ = writeln!(
            text,
            "duration={}s, n_packets={}, n_bytes={}, {}",
            stats.duration_s, stats.packets, stats.bytes, entry.flow
        );
        if text.len() > PART_BYTES {
            break;
        }
    }
    Ok(text)
}

/// What else a driver filters by, as the tools of that show it.
fn programs(driver: FirewallDriver) -> &'static [(&'static str, &'static [&'static str])] {
    match driver {
        FirewallDriver::OpenvSwitch | FirewallDriver::Noop => &[],
        FirewallDriver::IptablesHybrid => &[
            ("iptables.txt", &["iptables-save", "--counters"]),
            ("ip6tables.txt", &["ip6tables-save", "--counters"]),
            ("ipset.txt", &["ipset", "save"]),
            ("nftables-bridge.txt", &["nft", "list", "tables", "bridge"]),
        ],
        FirewallDriver::Nftables => &[
            ("nftables-bridge.txt", &["nft", "list", "table", "bridge", "sgflow"]),
            ("nftables-inet.txt", &["nft", "list", "table", "inet", "sgflow"]),
        ],
    }
}
