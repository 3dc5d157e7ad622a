//! The policy changes while connections stream: the revoked one is cut, the other loses nothing.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lab::{Stream, StreamSpec, Streaming};

use super::agent_process::AgentProcess;
use super::guests::Guests;
use super::{POLICY, step};

const SQL: u16 = 5432;
/// Bytes that count as flowing.
const FLOWING_BYTES: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the cut connection is watched.
const WATCH: Duration = Duration::from_secs(2);

/// Takes web-1 out of the web group.
const BEFORE: &str = r#"mac_address: "fa:16:3e:00:10:11", security_groups: [sg-web, sg-ssh]"#;
const AFTER: &str = r#"mac_address: "fa:16:3e:00:10:11", security_groups: [sg-bastion, sg-ssh]"#;

pub(crate) fn run(guests: &Guests, document: &Path, agent: &AgentProcess) -> anyhow::Result<()> {
    step("Live edit: web-1 leaves the web group while it and web-2 stream with the database, both ways");
    let mut streams = Vec::new();
    for client in ["web-1", "web-2"] {
        for ipv6 in [false, true] {
            streams.push((client, ipv6, open(guests, client, ipv6)?));
        }
    }
    for (client, _, stream) in &streams {
        stream
            .wait_for_progress(FLOWING_BYTES, PATIENCE)
            .with_context(|| format!("{client} before the edit"))?;
    }

    let edited = POLICY.replace(BEFORE, AFTER);
    ensure!(edited != POLICY, "docs/examples/demo.yaml has no line to edit");
    let applied = agent.applied()?;
    let next = document.with_extension("yaml.new");
    fs::write(&next, edited)?;
    fs::rename(&next, document)?;
    agent.wait_for_applied(applied)?;

    let cut: Vec<_> = streams.iter().filter(|(client, ..)| *client == "web-1").collect();
    let held: Vec<_> = cut.iter().map(|(_, _, stream)| received(stream)).collect();
    thread::sleep(WATCH);
    for ((client, ipv6, stream), before) in cut.iter().zip(held) {
        let leaked = received(stream) - before;
        ensure!(
            leaked == 0,
            "{client} over {}: {leaked} bytes passed after the edit was applied",
            family(*ipv6)
        );
        println!(
            "   {client} → db tcp/{SQL} over {}: cut in both directions, not one byte since",
            family(*ipv6)
        );
    }
    for (client, ipv6, stream) in streams.iter().filter(|(client, ..)| *client == "web-2") {
        stream
            .wait_for_progress(FLOWING_BYTES, PATIENCE)
            .with_context(|| format!("{client} after the edit"))?;
        ensure!(stream.is_whole(), "{client} over {}: the connection broke", family(*ipv6));
        println!("   {client} → db tcp/{SQL} over {}: flows on, every byte in order", family(*ipv6));
    }
    println!();
    Ok(())
}

fn open(guests: &Guests, client: &str, ipv6: bool) -> anyhow::Result<Stream> {
    let (client, server) = (guests.get(client)?, guests.get("db")?);
    let spec =
        StreamSpec { server: server.address(ipv6)?, port: SQL, from: None, streaming: Streaming::BothWays };
    Ok(Stream::open(&client.vm, &server.vm, &spec)?)
}

fn received(stream: &Stream) -> u64 {
    stream.received_by_client() + stream.received_by_server()
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}
