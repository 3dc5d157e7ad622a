//! How much may be one transaction: a policy is written into an empty cluster of three, which has to go on sending heartbeats meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::{Databases, process};

use super::cloud::Cloud;
use super::pen::Pen;
use super::servers::{Servers, seconds};
use super::{BATCH, report};

/// Ports, rows of a transaction at most, and the election timer in seconds.
const CASES: [(usize, usize, u64); 6] = [
    (1_000, usize::MAX, 1),
    (10_000, usize::MAX, 1),
    (20_000, usize::MAX, 1),
    (30_000, usize::MAX, 1),
    (100_000, usize::MAX, 8),
    (100_000, BATCH, 1),
];
/// As the others, small.
const QUICK: [(usize, usize, u64); 2] = [(200, usize::MAX, 2), (200, 50, 1)];

/// What it took.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Filling {
    ports: usize,
    election_timer_s: u64,
    transactions: usize,
    seconds: f64,
    /// Processor time of who led when it began, and of the largest of the others.
    leader_cpu: f64,
    other_cpu: f64,
    /// Largest resident size of the same, in bytes.
    leader_memory: u64,
    other_memory: u64,
    /// How many terms of the cluster have begun meanwhile.
    elections: u64,
}

/// Measures each case in a cluster of its own.
pub(crate) async fn measure(is_quick: bool) -> Result<Vec<Filling>> {
    let cases: &[_] = if is_quick { &QUICK } else { &CASES };
    let mut fillings = Vec::new();
    for &(ports, limit, timer) in cases {
        eprintln!("{ports} ports …");
        fillings.push(fill(ports, limit, timer).await?);
    }
    Ok(fillings)
}

async fn fill(ports: usize, limit: usize, timer: u64) -> Result<Filling> {
    let servers = Servers::start(0)?;
    let databases = &servers.databases;
    let leader = databases.leader()?;
    // It can be doubled at a time.
    for step in (1..=timer.ilog2()).map(|step| 1000 << step) {
        databases.appctl(
            &leader,
            &["cluster/change-election-timer", store::schema::DATABASE, &step.to_string()],
        )?;
        wait_for_timer(databases, &leader, step).await?;
    }
    let mut pen = Pen::begin(servers.members()?).await?;
    let others: Vec<String> =
        ["0", "1", "2"].map(str::to_owned).into_iter().filter(|name| *name != leader).collect();
    let cpu = |name: &str| -> Result<f64> { Ok(seconds(process::cpu(databases.pid(name)?)?)) };
    let before: Vec<f64> = others.iter().map(|name| cpu(name)).collect::<Result<_>>()?;
    let (leader_before, term) = (cpu(&leader)?, term(databases, &leader)?);
    let begun = Instant::now();
    let written = pen.write(&Cloud::of_hundreds(ports).policy(), limit).await.context("filling the store")?;
    let took = seconds(begun.elapsed());
    let memory = |name: &str| -> Result<u64> { Ok(process::peak_rss_bytes(databases.pid(name)?)?) };
    let used: Vec<f64> = others.iter().map(|name| cpu(name)).collect::<Result<_>>()?;
    let peaks: Vec<u64> = others.iter().map(|name| memory(name)).collect::<Result<_>>()?;
    Ok(Filling {
        ports,
        election_timer_s: timer,
        transactions: written.transactions,
        seconds: took,
        leader_cpu: cpu(&leader)? - leader_before,
        other_cpu: used.iter().zip(before).map(|(now, before)| now - before).fold(0.0, f64::max),
        leader_memory: memory(&leader)?,
        other_memory: peaks.into_iter().max().unwrap_or(0),
        elections: self::term(databases, &databases.leader()?)? - term,
    })
}

async fn wait_for_timer(databases: &Databases, leader: &str, milliseconds: u64) -> Result<()> {
    let line = format!("Election timer: {milliseconds}");
    for _ in 0..1000 {
        let status = databases.appctl(leader, &["cluster/status", store::schema::DATABASE])?;
        if status.contains(&line) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the election timer stays as it was, and not {milliseconds} ms")
}

/// The term that the cluster is in.
fn term(databases: &Databases, name: &str) -> Result<u64> {
    let status = databases.appctl(name, &["cluster/status", store::schema::DATABASE])?;
    let term = status.lines().find_map(|line| line.strip_prefix("Term: ")?.trim().parse().ok());
    term.context("the status of a member says no term")
}

/// As a table.
pub(crate) fn text(fillings: &[Filling]) -> String {
    let heads = [
        "ports",
        "election timer s",
        "transactions",
        "took s",
        "leader CPU s",
        "another",
        "leader MB",
        "another",
        "elections meanwhile",
    ];
    let rows: Vec<Vec<String>> = fillings
        .iter()
        .map(|filling| {
            vec![
                filling.ports.to_string(),
                filling.election_timer_s.to_string(),
                filling.transactions.to_string(),
                report::number(filling.seconds),
                report::number(filling.leader_cpu),
                report::number(filling.other_cpu),
                report::megabytes(filling.leader_memory),
                report::megabytes(filling.other_memory),
                filling.elections.to_string(),
            ]
        })
        .collect();
    let mut text = String::new();
    report::table(&mut text, &heads, &rows);
    text
}
