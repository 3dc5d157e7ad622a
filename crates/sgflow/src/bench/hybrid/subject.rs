//! The driver under measurement. Its loop is on a thread of its own, and so is what it does to the kernel; what the programs cost that it
//! runs is the kernel's account of this process's children. It is given changes of the policy as they enter it.

use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agent::driver::{Driver as _, Hybrid, HybridError, programs_started};
use agent::engine::{Report, Sent, Status};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use lab::process;
use policy::PolicyDelta;
use tokio::sync::mpsc;

use crate::bench::host::cpu_of_children;

/// A step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the driver calls the thread that it does its work on.
const WORKER: &str = "hybrid";

/// What a step cost.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Cost {
    /// Chains, elements of sets and elements of the bridge's table that came, were changed, or went; sets that were filled anew are not
    /// in it.
    pub(super) changes: usize,
    /// Netlink's, to the kernel, by the agent itself.
    pub(super) messages: u64,
    /// That were run.
    pub(super) programs: u64,
    /// Processor time of the agent's threads, in seconds like the others, and with it what the kernel did for them at once.
    pub(super) agent_cpu: f64,
    /// Of the programs.
    pub(super) programs_cpu: f64,
    /// From the event to "applied".
    pub(super) applied: f64,
}

impl Cost {
    /// All processor time.
    pub(super) fn cpu(&self) -> f64 {
        self.agent_cpu + self.programs_cpu
    }
}

/// What has been used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    agent: Duration,
    programs: Duration,
    started: u64,
    messages: u64,
}

impl Sub for Used {
    type Output = Used;

    fn sub(self, before: Used) -> Used {
        Used {
            agent: self.agent - before.agent,
            programs: self.programs - before.programs,
            started: self.started - before.started,
            messages: self.messages - before.messages,
        }
    }
}

/// When a step began, and what had been used by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    at: Instant,
    used: Used,
}

enum News {
    Started([i32; 2]),
    Report(Instant, Report, Status),
    Failed(String),
}

/// A running driver; ends when dropped.
pub(super) struct Subject {
    policies: Option<mpsc::UnboundedSender<PolicyDelta>>,
    news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
    /// Its loop's and its worker's.
    threads: [i32; 2],
}

impl Subject {
    /// Starts a driver in the network namespace of the calling thread, gives it a policy, and waits until it is in force with so many
    /// ports: with all that this cost.
    pub(super) fn start(
        driver: impl FnOnce() -> Result<Hybrid, HybridError> + Send + 'static,
        policy: PolicyDelta,
        ports: usize,
    ) -> Result<(Self, Cost)> {
        let mut begun = Begun { at: Instant::now(), used: used_by_process()? };
        let (policies, given) = mpsc::unbounded_channel();
        let (told, news) = channel();
        let thread = thread::Builder::new().name("agent".to_owned()).spawn(move || {
            if let Err(error) = work(driver, given, &told) {
                _ = told.send(News::Failed(format!("{error:#}")));
            }
        })?;
        let threads = match news.recv()? {
            News::Started(threads) => threads,
            News::Failed(reason) => bail!("the driver does not start: {reason}"),
            News::Report(..) => bail!("the driver reports before it has started"),
        };
        // Its threads began with nothing.
        begun.used.agent = Duration::ZERO;
        let subject = Subject { policies: Some(policies), news, thread: Some(thread), threads };
        subject.give(policy)?;
        let cost = subject.until(begun, |status| status.ports == ports)?;
        Ok((subject, cost))
    }

    /// What the agent does from now on is of a step.
    pub(super) fn begin(&self) -> Result<Begun> {
        Ok(Begun { at: Instant::now(), used: self.used()? })
    }

    /// Gives it a change of the policy and waits until it is in force.
    pub(super) fn change(&self, delta: PolicyDelta) -> Result<Cost> {
        ensure!(!delta.is_empty(), "nothing would be told of a change that is none");
        // Of looks at the kernel since the last step.
        while self.news.try_recv().is_ok() {}
        let begun = self.begin()?;
        self.give(delta)?;
        self.until(begun, |_| true)
    }

    /// Waits until all is applied and there is nothing left to do, and `is_over` says so of what is enforced.
    pub(super) fn until(&self, begun: Begun, is_over: impl Fn(&Status) -> bool) -> Result<Cost> {
        let mut applied: Option<Instant> = None;
        let mut sent = Sent::default();
        let mut said = Vec::new();
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok(News::Report(at, report, status)) => {
                    match &report {
                        Report::Applied(more) => {
                            applied = Some(at);
                            sent += *more;
                        }
                        Report::Settled if applied.is_some() && is_over(&status) => break,
                        _ => {}
                    }
                    said.push(report);
                }
                Ok(News::Failed(reason)) => bail!("the driver failed: {reason}"),
                Ok(News::Started(_)) => bail!("the driver has started twice"),
                Err(RecvTimeoutError::Timeout) => bail!("not settled within {PATIENCE:?}; it said {said:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the driver has ended"),
            }
        }
        let used = self.used()? - begun.used;
        Ok(Cost {
            changes: sent.flow_mods(),
            messages: used.messages,
            programs: used.started,
            agent_cpu: used.agent.as_secs_f64(),
            programs_cpu: used.programs.as_secs_f64(),
            applied: applied.map_or(0.0, |at| at.duration_since(begun.at).as_secs_f64()),
        })
    }

    fn give(&self, delta: PolicyDelta) -> Result<()> {
        let given = self.policies.as_ref().context("it runs")?.send(delta);
        given.map_err(|_| anyhow!("the driver has ended"))
    }

    fn used(&self) -> Result<Used> {
        let [one, other] = self.threads;
        let agent = process::cpu_of_thread(one)? + process::cpu_of_thread(other)?;
        Ok(Used { agent, ..used_by_process()? })
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.policies = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        // Nobody joins the worker, and the next one is looked for by its name.
        let begun = Instant::now();
        while task(self.threads[1]).exists() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What is counted of this process, of which one driver at a time works.
fn used_by_process() -> Result<Used> {
    Ok(Used {
        agent: Duration::ZERO,
        programs: cpu_of_children()?,
        started: programs_started(),
        messages: nfnetlink::sent(),
    })
}

/// Runs the driver until nobody gives it policies any more.
fn work(
    driver: impl FnOnce() -> Result<Hybrid, HybridError>,
    mut given: mpsc::UnboundedReceiver<PolicyDelta>,
    told: &Sender<News>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut driver = driver()?;
        _ = told.send(News::Started([nix::unistd::gettid().as_raw(), worker()?]));
        loop {
            tokio::select! {
                delta = given.recv() => match delta {
                    Some(delta) => driver.policy(delta),
                    None => return Ok(()),
                },
                report = driver.report() => {
                    let news = News::Report(Instant::now(), report, driver.status());
                    if told.send(news).is_err() {
                        return Ok(());
                    }
                }
            }
        }
    })
}

/// The number of the driver's thread, which gives itself its name.
fn worker() -> Result<i32> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        for entry in fs::read_dir("/proc/self/task")? {
            let path = entry?.path();
            let is_it = fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == WORKER);
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if let Some(number) = number.filter(|_| is_it) {
                return Ok(number);
            }
        }
        thread::yield_now();
    }
    bail!("the driver has no thread named {WORKER}")
}

fn task(thread: i32) -> PathBuf {
    Path::new("/proc/self/task").join(thread.to_string())
}
