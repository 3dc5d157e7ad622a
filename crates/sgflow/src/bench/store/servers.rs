//! The cluster and its relays, and what they have used.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Databases, process};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ovsdb::Remote;
use store::schema;

/// Members of the cluster.
const MEMBERS: usize = 3;

/// A cluster of three, and relays.
pub(crate) struct Servers {
    pub(crate) databases: Databases,
    relays: Vec<String>,
}

/// Processor time so far, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Cpu {
    /// All members: who of them leads may change.
    pub(crate) cluster: f64,
    pub(crate) relays: f64,
    /// This process: all agents, and who writes.
    pub(crate) agents: f64,
}

/// Resident memory, in bytes; of the followers and the relays, that of the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Memory {
    pub(crate) leader: u64,
    pub(crate) follower: u64,
    pub(crate) relay: u64,
    pub(crate) agents: u64,
}

impl Servers {
    /// Starts them, with so many open files as a thousand sessions take.
    pub(crate) fn start(relays: usize) -> Result<Self> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the number of open files")?;
        let mut databases = Databases::cluster(schema::TEXT, schema::DATABASE, MEMBERS)?;
        let relays: Vec<String> = (0..relays).map(|number| format!("r{number}")).collect();
        for relay in &relays {
            databases.add_relay(relay)?;
        }
        Ok(Servers { databases, relays })
    }

    /// Where those who write ask.
    pub(crate) fn members(&self) -> Result<Vec<Remote>> {
        members().map(|name| self.remote(&name)).collect()
    }

    /// Where agents ask: the relays; without any, the members.
    pub(crate) fn for_agents(&self) -> Result<Vec<Remote>> {
        match &self.relays[..] {
            [] => self.members(),
            relays => relays.iter().map(|name| self.remote(name)).collect(),
        }
    }

    /// The first relay, if there is another beside it.
    pub(crate) fn spare_relay(&self) -> Option<String> {
        self.relays.first().filter(|_| self.relays.len() > 1).cloned()
    }

    /// Processor time so far. What does not run has used none.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu {
            cluster: members().map(|name| self.cpu_of(&name)).sum(),
            relays: self.relays.iter().map(|name| self.cpu_of(name)).sum(),
            agents: self.agents_cpu()?,
        })
    }

    /// Processor time so far of the member that leads now.
    pub(crate) fn leader_cpu(&self) -> Result<f64> {
        Ok(self.cpu_of(&self.databases.leader()?))
    }

    fn cpu_of(&self, name: &str) -> f64 {
        seconds(self.databases.pid(name).and_then(process::cpu).unwrap_or_default())
    }

    /// Processor time of this process so far.
    pub(crate) fn agents_cpu(&self) -> Result<f64> {
        Ok(process::cpu(std::process::id())?.as_secs_f64())
    }

    /// Resident memory now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let leader = self.databases.leader()?;
        let of = |name: &str| self.databases.pid(name).and_then(process::rss_bytes).unwrap_or_default();
        Ok(Memory {
            follower: members().filter(|name| *name != leader).map(|name| of(&name)).max().unwrap_or(0),
            leader: of(&leader),
            relay: self.relays.iter().map(|name| of(name)).max().unwrap_or(0),
            agents: process::rss_bytes(std::process::id())?,
        })
    }

    fn remote(&self, name: &str) -> Result<Remote> {
        self.databases.remote(name).parse().context("a server's address")
    }
}

impl Cpu {
    /// What was used since.
    pub(crate) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            cluster: self.cluster - before.cluster,
            relays: self.relays - before.relays,
            agents: self.agents - before.agents,
        }
    }

    /// Of each of so many.
    pub(crate) fn each(self, count: f64) -> Cpu {
        Cpu { cluster: self.cluster / count, relays: self.relays / count, agents: self.agents / count }
    }
}

fn members() -> impl Iterator<Item = String> {
    (0..MEMBERS).map(|number| number.to_string())
}

/// In seconds.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
