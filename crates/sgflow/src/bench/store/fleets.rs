//! Agents by the hundred: how they start, what a change costs them, and what they do when something fails.

use std::time::Duration;

use agent::fleet::Fleet;
use anyhow::{Result, ensure};
use ovsdb::session::Traffic;
use policy::PolicyDelta;
use tokio::time::{Instant, sleep};

use super::cloud::{Cloud, Spread};
use super::pen::{Pen, Written};
use super::servers::{Cpu, Memory, Servers, seconds};

/// For how long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked: when something came, the agents say themselves.
const LOOK: Duration = Duration::from_millis(10);
/// Between changes, so that none meets what the one before has left to do.
const PAUSE: Duration = Duration::from_millis(30);
/// A member that no change has touched before: for what is written when something has failed.
const LATER: usize = 1_000_000;

/// Of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Spectrum {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// All agents began at once.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Start {
    pub(crate) agents: usize,
    /// Until the last had its policy.
    pub(crate) seconds: f64,
    /// Until the last had said so in the store.
    pub(crate) answered: f64,
    pub(crate) received: Spectrum,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
}

/// Changes of one kind, one at a time.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Change {
    pub(crate) what: &'static str,
    pub(crate) agents: usize,
    pub(crate) members: usize,
    pub(crate) interested: usize,
    pub(crate) changes: usize,
    /// From the answer to the writer until an agent has it, in seconds, over all agents and changes.
    pub(crate) latency: Spectrum,
    /// The same from when the writer sent it.
    pub(crate) from_sent: Spectrum,
    /// Bytes to each agent that is interested, of each change.
    pub(crate) received: Spectrum,
    /// Bytes to each of the others, over all changes.
    pub(crate) received_by_others: Spectrum,
    /// Bytes to each of the others in as much time in which nothing changes: echoes.
    pub(crate) received_of_nothing: Spectrum,
    /// Of each change.
    pub(crate) cpu: Cpu,
}

/// Something failed, and then a member joined the largest group.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Trouble {
    pub(crate) what: &'static str,
    /// Until that was committed.
    pub(crate) committed: f64,
    /// Until agents had it, of all of them.
    pub(crate) reached: Spectrum,
    pub(crate) received: Spectrum,
    pub(crate) agents_cpu: f64,
}

/// How it was before something failed.
struct Before {
    begun: Instant,
    traffic: Vec<Traffic>,
    marks: Marks,
    agents_cpu: f64,
}

/// What is under way, and what was measured.
pub(crate) struct Trial<'a> {
    cloud: &'a Cloud,
    servers: &'a mut Servers,
    pen: Pen,
    fleet: Fleet,
    agents: usize,
    repeats: usize,
    pub(crate) starts: Vec<Start>,
    pub(crate) changes: Vec<Change>,
    pub(crate) troubles: Vec<Trouble>,
}

/// How often each agent's policy has changed, and when last.
type Marks = Vec<(u64, Option<Instant>)>;

impl<'a> Trial<'a> {
    /// With no agent.
    pub(crate) fn new(cloud: &'a Cloud, servers: &'a mut Servers, pen: Pen, repeats: usize) -> Self {
        let fleet = Fleet::start(&[], None, &[], None);
        Trial {
            cloud,
            servers,
            pen,
            fleet,
            agents: 0,
            repeats,
            starts: Vec::new(),
            changes: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// The agents that there are end, and so many begin.
    pub(crate) async fn start(&mut self, agents: usize) -> Result<()> {
        let before = self.servers.cpu()?;
        let begun = self.begin(agents).await?;
        self.until("the policy", |_, (changes, _)| changes > 0).await?;
        let last = self.last(begun);
        self.until_answered(agents).await?;
        let answered = seconds(begun.elapsed());
        let cpu = self.servers.cpu()?.since(before);
        let received = spectrum(self.received(&Vec::new()).await);
        self.check()?;
        let memory = self.servers.memory()?;
        self.starts.push(Start { agents, seconds: last, answered, received, cpu, memory });
        Ok(())
    }

    async fn begin(&mut self, agents: usize) -> Result<Instant> {
        self.fleet = Fleet::start(&[], None, &[], None);
        // What the old ones leave behind is not to be in the figures of the new ones.
        sleep(10 * PAUSE).await;
        self.pen.forget_answers()?;
        let names: Vec<String> = self.cloud.hosts().into_iter().take(agents).collect();
        let begun = Instant::now();
        self.fleet = Fleet::start(&self.servers.for_agents()?, None, &names, None);
        self.agents = agents;
        Ok(begun)
    }

    async fn until_answered(&mut self, agents: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let answers = self.pen.answers()?;
            if answers >= agents {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{answers} of {agents} agents have answered");
            sleep(LOOK).await;
        }
    }

    /// Each agent was told of what concerns it and of nothing else, once.
    fn check(&self) -> Result<()> {
        let seen = self.fleet.seen();
        for (seen, (name, objects)) in seen.iter().zip(self.fleet.names().zip(self.cloud.objects())) {
            let told = seen.objects;
            ensure!(told == objects, "{name} was told of {told} objects, not of {objects}");
            // A connection that was lost meanwhile is no fault of the policy.
            let fault = seen.faults.iter().find(|fault| !fault.contains("policy store"));
            ensure!(fault.is_none(), "{name} refuses {fault:?}");
        }
        Ok(())
    }

    /// Members of a group come and go, one at a time.
    pub(crate) async fn members(&mut self, group: usize, spread: Spread) -> Result<()> {
        let cloud = self.cloud;
        let change = |number: usize| cloud.member(group, number / 2, number.is_multiple_of(2));
        self.repeat("a member", group, spread.members, change).await
    }

    /// A rule of the group on all hosts comes and goes.
    pub(crate) async fn rules(&mut self) -> Result<()> {
        let members = self.cloud.size.members;
        self.repeat("a rule", 0, members, |number| Cloud::rule(0, number.is_multiple_of(2))).await
    }

    async fn repeat(
        &mut self,
        what: &'static str,
        group: usize,
        members: usize,
        change: impl Fn(usize) -> PolicyDelta,
    ) -> Result<()> {
        let cloud = self.cloud;
        let is_interested = move |host: usize| cloud.is_interested(group, host);
        let interested = (0..self.agents).filter(|host| is_interested(*host)).count();
        let (traffic, cpu, begun) = (self.fleet.traffic().await, self.servers.cpu()?, Instant::now());
        let first = self.fleet.changes();
        let (mut latency, mut from_sent) = (Vec::new(), Vec::new());
        for number in 0..self.repeats {
            let before = self.fleet.changes();
            let written = self.pen.write(&change(number), usize::MAX).await?;
            self.until(what, |host, (changes, _)| !is_interested(host) || changes > before[host].0).await?;
            for (host, (_, last)) in self.fleet.changes().into_iter().enumerate() {
                if let Some(last) = last.filter(|_| is_interested(host)) {
                    let Written { sent, committed, .. } = written;
                    latency.push(seconds(last.saturating_duration_since(committed)));
                    from_sent.push(seconds(last - sent));
                }
            }
            sleep(PAUSE).await;
        }
        let (cpu, took) = (self.servers.cpu()?.since(cpu), begun.elapsed());
        let received = self.received(&traffic).await;
        self.told_once(what, &first, is_interested)?;
        let repeats = per(self.repeats);
        let of = |is: bool| received.iter().enumerate().filter(move |(host, _)| is_interested(*host) == is);
        let (mine, others) = (of(true).map(|(_, bytes)| bytes / repeats), of(false).map(|(_, bytes)| *bytes));
        let (mine, others) = (spectrum(mine.collect()), spectrum(others.collect()));
        let nothing =
            if interested < self.agents { self.nothing(took, is_interested).await } else { Vec::new() };
        self.changes.push(Change {
            what,
            agents: self.agents,
            members,
            interested,
            changes: self.repeats,
            latency: spectrum(latency),
            from_sent: spectrum(from_sent),
            received: mine,
            received_by_others: others,
            received_of_nothing: spectrum(nothing),
            cpu: cpu.each(repeats),
        });
        Ok(())
    }

    /// Who is interested was told of each change, once, and nobody else of any.
    fn told_once(&self, what: &str, first: &Marks, is_interested: impl Fn(usize) -> bool) -> Result<()> {
        for (host, ((before, _), (now, _))) in first.iter().zip(self.fleet.changes()).enumerate() {
            let expected = if is_interested(host) { self.repeats as u64 } else { 0 };
            ensure!(now - before == expected, "{what}: host {host} was told {} times", now - before);
        }
        Ok(())
    }

    /// What comes to those that are not interested while nothing changes.
    async fn nothing(&self, time: Duration, is_interested: impl Fn(usize) -> bool) -> Vec<f64> {
        let before = self.fleet.traffic().await;
        sleep(time).await;
        let received = self.received(&before).await.into_iter().enumerate();
        received.filter(|(host, _)| !is_interested(*host)).map(|(_, bytes)| bytes).collect()
    }

    /// The leader is killed; what is written then has to find another.
    pub(crate) async fn leader_dies(&mut self) -> Result<()> {
        let leader = self.servers.databases.leader()?;
        let before = self.before().await?;
        self.servers.databases.kill(&leader);
        self.recover("the leader is killed", 0, before).await?;
        Ok(self.servers.databases.start(&leader)?)
    }

    /// A relay is killed: its agents go to the other.
    pub(crate) async fn relay_dies(&mut self) -> Result<()> {
        let Some(relay) = self.servers.spare_relay() else { return Ok(()) };
        let before = self.before().await?;
        self.servers.databases.kill(&relay);
        self.recover("a relay is killed", 1, before).await?;
        Ok(self.servers.databases.start(&relay)?)
    }

    /// All agents end and begin again.
    pub(crate) async fn all_restart(&mut self) -> Result<()> {
        let mut before = self.before().await?;
        before.begun = self.begin(self.agents).await?;
        self.until("the policy", |_, (changes, _)| changes > 0).await?;
        (before.marks, before.traffic) = (self.fleet.changes(), Vec::new());
        self.recover("all agents are restarted", 2, before).await
    }

    async fn before(&self) -> Result<Before> {
        let (traffic, marks) = (self.fleet.traffic().await, self.fleet.changes());
        Ok(Before { agents_cpu: self.servers.agents_cpu()?, traffic, marks, begun: Instant::now() })
    }

    /// Until a change that is written now has come to all.
    async fn recover(&mut self, what: &'static str, number: usize, before: Before) -> Result<()> {
        let Before { begun, traffic, marks, agents_cpu } = before;
        let written = self.pen.write(&self.cloud.member(0, LATER + number, true), usize::MAX).await?;
        self.until(what, |host, (changes, _)| changes > marks[host].0).await?;
        let lasts = self.fleet.changes().into_iter().filter_map(|(_, last)| last);
        let reached = spectrum(lasts.map(|last| seconds(last - begun)).collect());
        let received = spectrum(self.received(&traffic).await);
        let agents_cpu = self.servers.agents_cpu()? - agents_cpu;
        let committed = seconds(written.committed - begun);
        self.troubles.push(Trouble { what, committed, reached, received, agents_cpu });
        // The servers and agents come to rest.
        sleep(100 * PAUSE).await;
        Ok(())
    }

    async fn until(&self, what: &str, is_so: impl Fn(usize, (u64, Option<Instant>)) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let late = self
                .fleet
                .changes()
                .into_iter()
                .enumerate()
                .filter(|(host, mark)| !is_so(*host, *mark))
                .count();
            if late == 0 {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{what}: it has not come to {late} agents");
            sleep(LOOK).await;
        }
    }

    /// When the last was told something, in seconds since `begun`.
    fn last(&self, begun: Instant) -> f64 {
        let last = self.fleet.changes().into_iter().filter_map(|(_, last)| last).max();
        last.map_or(0.0, |last| seconds(last - begun))
    }

    /// Bytes that each has received since.
    async fn received(&self, before: &[Traffic]) -> Vec<f64> {
        let nothing = Traffic::default();
        let now = self.fleet.traffic().await.into_iter().enumerate();
        now.map(|(host, now)| bytes(now.received - before.get(host).unwrap_or(&nothing).received)).collect()
    }
}

/// The middle one, the last but one of a hundred, and the last.
fn spectrum(mut values: Vec<f64>) -> Spectrum {
    values.sort_by(f64::total_cmp);
    let of = |percent: usize| values.get((values.len() * percent / 100).min(values.len().saturating_sub(1)));
    let of = |percent| of(percent).copied().unwrap_or_default();
    Spectrum { p50: of(50), p99: of(99), max: of(100) }
}

#[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn bytes(count: u64) -> f64 {
    count as f64
}

/// As a divisor.
pub(crate) fn per(count: usize) -> f64 {
    bytes(count as u64)
}
