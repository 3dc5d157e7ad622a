//! The driver under measurement: on a thread of its own, so that what it costs can be told from what measuring costs. It is given
//! changes of the policy as they enter the engine; reading documents is not part of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agent::driver::{Driver as _, OpenvSwitch, Setup};
use agent::engine::{Report, Sent, Status};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use lab::process;
use policy::PolicyDelta;
use tokio::sync::mpsc;

/// A step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a step cost.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Cost {
    pub(crate) flow_mods: usize,
    pub(crate) bundles: usize,
    /// Of OpenFlow, sent to the switch.
    pub(crate) bytes: u64,
    /// Processor time of the agent, in seconds like the others.
    pub(crate) agent_cpu: f64,
    pub(crate) switch_cpu: f64,
    /// From the event to the switch's answer to the last bundle but those that only sweep.
    pub(crate) taken: f64,
    /// From the event to "applied": caches revalidated.
    pub(crate) applied: f64,
    /// From the event until nothing was left to do.
    pub(crate) settled: f64,
}

impl Cost {
    pub(crate) fn add(&mut self, other: &Cost) {
        self.flow_mods += other.flow_mods;
        self.bundles += other.bundles;
        self.bytes += other.bytes;
        self.agent_cpu += other.agent_cpu;
        self.switch_cpu += other.switch_cpu;
        self.taken += other.taken;
        self.applied += other.applied;
        self.settled += other.settled;
    }
}

enum News {
    Started(i32),
    Report(Instant, Report, Status, u64),
    Failed(String),
}

/// A running driver; ends when dropped.
pub(crate) struct Subject {
    policies: Option<mpsc::UnboundedSender<PolicyDelta>>,
    news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
    thread_id: i32,
    status: Status,
    bytes: u64,
}

impl Subject {
    /// Starts a driver, which begins to connect.
    pub(crate) fn start(setup: Setup) -> Result<Self> {
        let (policies, given) = mpsc::unbounded_channel();
        let (told, news) = channel();
        let thread = thread::Builder::new().name("agent".to_owned()).spawn(move || {
            if let Err(error) = work(setup, given, &told) {
                _ = told.send(News::Failed(format!("{error:#}")));
            }
        })?;
        let thread_id = match news.recv()? {
            News::Started(id) => id,
            News::Failed(reason) => bail!("the agent does not start: {reason}"),
            News::Report(..) => bail!("the agent reports before it has started"),
        };
        let (status, bytes) = (Status::default(), 0);
        Ok(Subject { policies: Some(policies), news, thread: Some(thread), thread_id, status, bytes })
    }

    /// Processor time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(process::cpu_of_thread(self.thread_id)?)
    }

    /// How many flows it wants by now.
    pub(crate) fn flows(&self) -> usize {
        self.status.flows
    }

    /// Gives it a change of the policy.
    pub(crate) fn give(&self, delta: PolicyDelta) -> Result<()> {
        let given = self.policies.as_ref().context("it runs")?.send(delta);
        given.map_err(|_| anyhow!("the agent has ended"))
    }

    /// Gives it a change of the policy and waits until nothing is left to do.
    pub(crate) fn change(
        &mut self,
        delta: PolicyDelta,
        switch_cpu: impl Fn() -> Result<Duration>,
    ) -> Result<Cost> {
        ensure!(!delta.is_empty(), "nothing would be told of a change that is none");
        let before = (self.cpu()?, switch_cpu()?);
        let begun = Instant::now();
        self.give(delta)?;
        self.until_settled(before, begun, switch_cpu)
    }

    /// Waits until nothing is left to do after something that began then, with this processor time used by then.
    pub(crate) fn until_settled(
        &mut self,
        (agent, switch): (Duration, Duration),
        begun: Instant,
        switch_cpu: impl Fn() -> Result<Duration>,
    ) -> Result<Cost> {
        let (sent, bytes) = (self.status.sent, self.bytes);
        let (mut taken, mut applied) = (None, None);
        let mut said = Vec::new();
        let settled = loop {
            let news = self.news.recv_timeout(PATIENCE);
            let (at, report) = match news {
                Ok(News::Report(at, report, status, bytes)) => {
                    (self.status, self.bytes) = (status, bytes);
                    (at, report)
                }
                Ok(News::Failed(reason)) => bail!("the agent failed: {reason}"),
                Ok(News::Started(_)) => bail!("the agent has started twice"),
                Err(RecvTimeoutError::Timeout) => bail!("not settled within {PATIENCE:?}; it said {said:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the agent has ended"),
            };
            said.push(report.clone());
            match report {
                // What is sent after "applied" sweeps.
                Report::Taken(_) if applied.is_none() => taken = Some(at),
                Report::Applied(_) => applied = applied.or(Some(at)),
                // Of a step before, if nothing of this one has been told.
                Report::Settled if applied.is_some() => break at,
                _ => {}
            }
        };
        let since = |at: Option<Instant>| at.map_or(0.0, |at| at.duration_since(begun).as_secs_f64());
        let now: Sent = self.status.sent;
        Ok(Cost {
            flow_mods: now.flow_mods() - sent.flow_mods(),
            bundles: now.bundles - sent.bundles,
            // A new connection counts from nothing.
            bytes: self.bytes.checked_sub(bytes).unwrap_or(self.bytes),
            agent_cpu: (self.cpu()? - agent).as_secs_f64(),
            switch_cpu: switch_cpu()?.saturating_sub(switch).as_secs_f64(),
            taken: since(taken),
            applied: since(applied),
            settled: since(Some(settled)),
        })
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.policies = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Runs the driver until nobody gives it policies any more.
fn work(setup: Setup, mut given: mpsc::UnboundedReceiver<PolicyDelta>, told: &Sender<News>) -> Result<()> {
    _ = told.send(News::Started(nix::unistd::gettid().as_raw()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut driver = OpenvSwitch::new(setup)?;
        loop {
            tokio::select! {
                delta = given.recv() => match delta {
                    Some(delta) => driver.policy(delta),
                    None => return Ok(()),
                },
                report = driver.report() => {
                    let news = News::Report(Instant::now(), report, driver.status(), driver.bytes_sent());
                    if told.send(news).is_err() {
                        return Ok(());
                    }
                }
            }
        }
    })
}
