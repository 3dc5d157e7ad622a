//! `sgflow policy status`: how the store and its hosts are.

use std::time::Duration;

use agent::config::Store;
use clap::Args;
use ovsdb::{MonitorTable, Remote};
use serde_json::{Value, json};
use store::schema;

use super::Place;
use super::following::Following;
use super::hosts::Hosts;
use super::servers::{Member, ask_all};
use crate::exit::Exit;

/// How many hosts that lag behind are named.
const NAMED: usize = 20;

/// The store's servers, how much is in it, and which hosts have it in force
///
/// Exit codes: 0 all is well; 2 a server does not answer or is cut off, or a host refuses something; 3 hosts have not everything
/// in force that was asked for; 5 no server of the store answers.
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    place: Place,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is told.
struct Found {
    members: Vec<(Remote, Result<Member, String>)>,
    /// Security groups, address groups, ports.
    counts: [usize; 3],
    hosts: Hosts,
}

const COUNTED: [(&str, &str); 3] = [
    (schema::SECURITY_GROUP, "security groups"),
    (schema::ADDRESS_GROUP, "address groups"),
    (schema::PORT, "ports"),
];

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let (store, patience) = self.place.resolve()?;
        let members = ask_all(&store, patience).await;
        if members.iter().all(|(_, member)| member.is_err()) {
            members.iter().for_each(|(remote, member)| eprintln!("{}", member_line(remote, member, None)));
            eprintln!("sgflow: no server of the policy store answers");
            return Ok(Exit::Disconnected);
        }
        let (counts, hosts) = rows(&store, patience).await?;
        let found = Found { members, counts, hosts };
        match self.json {
            true => println!("{:#}", found.json()),
            false => found.print(),
        }
        Ok(found.exit())
    }
}

async fn rows(store: &Store, patience: Duration) -> anyhow::Result<([usize; 3], Hosts)> {
    let mut tables = Hosts::tables();
    tables.extend(COUNTED.iter().map(|(table, _)| MonitorTable::new(*table, ["id"])));
    let mut following = Following::begin(store, tables)?;
    let (mut counts, mut hosts) = ([0; 3], Hosts::default());
    for change in following.changes(patience).await? {
        hosts.see(&change)?;
        if let Some(place) = COUNTED.iter().position(|(table, _)| *table == &*change.table) {
            counts[place] += 1;
        }
    }
    Ok((counts, hosts))
}

impl Found {
    fn sequence(&self) -> i64 {
        self.hosts.global.map_or(0, |(_, _, sequence)| sequence)
    }

    /// The newest entry of the log that some member has.
    fn newest(&self) -> Option<i64> {
        self.members.iter().filter_map(|(_, member)| member.as_ref().ok()?.index).max()
    }

    fn behind(&self) -> Vec<&str> {
        self.hosts.behind(self.sequence()).collect()
    }

    fn exit(&self) -> Exit {
        let is_well = |member: &Result<Member, String>| member.as_ref().is_ok_and(|member| member.connected);
        let refuses = self.hosts.rows().values().any(|row| !row.refused.is_empty());
        if refuses || !self.members.iter().all(|(_, member)| is_well(member)) {
            Exit::Refused
        } else if self.behind().is_empty() {
            Exit::Done
        } else {
            Exit::TimedOut
        }
    }

    fn print(&self) {
        for (remote, member) in &self.members {
            println!("{}", member_line(remote, member, self.newest()));
        }
        let counts = COUNTED.iter().zip(self.counts).map(|((_, word), count)| format!("{count} {word}"));
        println!("{}", counts.collect::<Vec<_>>().join(", "));
        match self.hosts.global {
            None => println!("not prepared: sgflow policy init"),
            Some((_, _, 0)) => println!("nobody has written a policy: hosts take nothing of it"),
            Some((_, revision, sequence)) => println!("revision {revision}, number {sequence}"),
        }
        let (behind, rows) = (self.behind(), self.hosts.rows());
        println!("{} of {} hosts have all of it in force", rows.len() - behind.len(), rows.len());
        for name in behind.iter().take(NAMED) {
            println!("  {name}: has answered {}", rows[*name].applied);
        }
        if behind.len() > NAMED {
            println!("  and {} others", behind.len() - NAMED);
        }
        for (name, row) in rows {
            row.refused.iter().for_each(|(object, reason)| println!("  {name} refuses {object}: {reason}"));
        }
    }

    fn json(&self) -> Value {
        let members = self.members.iter().map(|(remote, member)| match member {
            Ok(Member { model, connected, leader, index }) => json!({
                "remote": remote.to_string(), "model": model, "connected": connected, "leader": leader, "index": index,
                "behind": index.zip(self.newest()).map(|(index, newest)| newest - index)}),
            Err(reason) => json!({"remote": remote.to_string(), "error": reason}),
        });
        let hosts = self.hosts.rows().iter().map(|(name, row)| {
            json!({"name": name, "applied": row.applied, "refused": row.refused, "version": row.version})
        });
        let [security_groups, address_groups, ports] = self.counts;
        json!({
            "servers": members.collect::<Value>(),
            "security_groups": security_groups, "address_groups": address_groups, "ports": ports,
            "revision": self.hosts.global.map(|(_, revision, _)| revision),
            "sequence": self.hosts.global.map(|(_, _, sequence)| sequence),
            "behind": self.behind(),
            "hosts": hosts.collect::<Value>(),
        })
    }
}

fn member_line(remote: &Remote, member: &Result<Member, String>, newest: Option<i64>) -> String {
    let remote = remote.to_string();
    let Member { model, connected, leader, index } = match member {
        Ok(member) => member,
        Err(reason) if reason.contains(&remote) => return reason.clone(),
        Err(reason) => return format!("{remote}: {reason}"),
    };
    let is_clustered = model == "clustered";
    let mut line = format!("{remote}: {model}");
    if is_clustered && *leader {
        line.push_str(", leader");
    }
    if !connected {
        line.push_str(if is_clustered { ", cut off from its cluster" } else { ", cut off from its source" });
    }
    match index.zip(newest).map(|(index, newest)| newest - index) {
        Some(behind @ 1..) => line + &format!(", {behind} behind"),
        _ => line,
    }
}
