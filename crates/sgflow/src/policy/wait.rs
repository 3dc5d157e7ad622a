//! `sgflow policy wait`: until hosts have in force what was written.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use agent::config::Store;
use anyhow::{Context as _, bail};
use clap::Args;
use ovsdb::TransactError;
use serde_json::json;
use store::ask;
use tokio::time::Instant;

use super::Place;
use super::following::{Following, Late};
use super::hosts::Hosts;
use super::scribe::plain;
use crate::exit::Exit;
use crate::text::printable;

/// How many hosts are named on a line that is written anew.
const FEW: usize = 5;

/// Wait until all hosts of the store, or those that are named, have in force what is in it now
///
/// Exit codes: 0 they have; 2 they have but for objects that a host refuses, which are named; 3 not in time, hosts are named.
#[derive(Args, Debug)]
pub(super) struct Wait {
    #[command(flatten)]
    place: Place,

    /// Only these hosts, with commas between; also hosts that have never said anything
    #[arg(long, value_name = "HOST,…", default_value = "")]
    hosts: String,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Wait {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let (store, patience) = self.place.resolve()?;
        until_applied(&store, patience, &names(&self.hosts), self.json).await
    }
}

/// Names with commas between.
pub(super) fn names(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Gives out a number and waits for its answers: of the hosts that are `named`; of all if none are.
pub(super) async fn until_applied(
    store: &Store,
    patience: Duration,
    named: &BTreeSet<String>,
    json: bool,
) -> anyhow::Result<Exit> {
    let deadline = Instant::now() + patience;
    let mut following = Following::begin(store, Hosts::tables())?;
    let mut hosts = Hosts::default();
    see(&mut following, &mut hosts, deadline).await?;
    let number = ask_hosts(&mut following, &mut hosts, deadline).await?;
    loop {
        let left = left(&hosts, named, number);
        progress(&left);
        if left.is_empty() || see(&mut following, &mut hosts, deadline).await.is_err() {
            break;
        }
    }
    let left = left(&hosts, named, number);
    let is_meant = |name: &&String| named.is_empty() || named.contains(*name);
    let refusing: Vec<_> = hosts
        .rows()
        .iter()
        .filter(|(name, row)| is_meant(name) && !row.refused.is_empty())
        .map(|(name, row)| (name, &row.refused))
        .collect();
    let asked = if named.is_empty() { hosts.rows().len() } else { named.len() };
    if json {
        let refused: serde_json::Map<_, _> =
            refusing.iter().map(|(name, refused)| ((*name).clone(), json!(refused))).collect();
        println!("{}", json!({"number": number, "hosts": asked, "behind": left, "refused": refused}));
    } else {
        eprintln!("{} of {asked} hosts have it in force", asked - left.len());
    }
    for (name, refused) in &refusing {
        refused.iter().for_each(|(object, reason)| eprintln!("{name} refuses {object}: {reason}"));
    }
    if !left.is_empty() {
        let trouble = following.trouble().map(|trouble| format!("\n{trouble}")).unwrap_or_default();
        return Err(Late(format!("not in time: {}{trouble}", left.join(", "))).into());
    }
    Ok(if refusing.is_empty() { Exit::Done } else { Exit::Refused })
}

fn left(hosts: &Hosts, named: &BTreeSet<String>, number: i64) -> Vec<String> {
    if named.is_empty() {
        return hosts.behind(number).map(str::to_owned).collect();
    }
    let has_applied = |name: &&String| hosts.rows().get(*name).is_some_and(|row| row.applied >= number);
    named.iter().filter(|name| !has_applied(name)).cloned().collect()
}

async fn see(following: &mut Following, hosts: &mut Hosts, deadline: Instant) -> anyhow::Result<()> {
    let within = deadline.saturating_duration_since(Instant::now());
    for change in following.changes(within).await? {
        hosts.see(&change)?;
    }
    Ok(())
}

/// A number that was given out and not told of does no harm: the next one is greater.
async fn ask_hosts(following: &mut Following, hosts: &mut Hosts, deadline: Instant) -> anyhow::Result<i64> {
    loop {
        let Some((global, _, 1..)) = hosts.global else {
            bail!("nobody has written a policy to this store: `sgflow policy put` first");
        };
        let (transaction, place) = ask(global);
        match following.handle.transact(transaction).await {
            Ok(reply) => {
                let row = reply.rows(place).and_then(<[_]>::first).context("the number")?;
                return Ok(row.integer("sequence")?);
            }
            Err(TransactError::NotConnected | TransactError::Lost(_)) => {
                see(following, hosts, deadline).await?
            }
            Err(error) => return Err(plain(error)),
        }
    }
}

fn progress(left: &[String]) {
    if stderr().is_terminal() {
        match left.len() {
            0 => std::eprint!("\r\x1b[K"),
            1..=FEW => std::eprint!("\r\x1b[Kwaiting for {}", printable(&left.join(", "))),
            number => std::eprint!("\r\x1b[Kwaiting for {number} hosts"),
        }
    }
}
