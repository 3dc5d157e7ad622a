//! The kernel's sets: what it costs to fill one and to change it, and what ipset(8) takes for the same.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::mirror::Plan;
use anyhow::{Context as _, Result, ensure};
use hybrid::Sets;
use ipset::Ipset;
use lab::NetNs;
use nix::time::{ClockId, clock_gettime};
use policy::{Policy, PolicyDelta};

use super::host::cpu_of;
use super::report::median;
use super::scenario::{Scenario, Shape, port_id};

/// Members that come and go, one after the other.
const CHANGES: u32 = 100;

/// Seconds of processor time and of the clock.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
struct Took {
    cpu: f64,
    wall: f64,
}

/// All figures.
#[derive(Debug, serde::Serialize)]
pub(super) struct Figures {
    members: u32,
    /// `ipset restore` of a file with the same sets, as often as the mirror.
    restore: Vec<Took>,
    /// From a policy to the kernel's sets: which there are to be, and their elements.
    filled: Vec<Took>,
    one_more: Vec<Took>,
    one_less: Vec<Took>,
}

/// Measures with one group of so many members, each with an IPv4 and an IPv6 address, in a network namespace of its own.
pub(super) fn run(members: u32, times: usize) -> Result<Figures> {
    NetNs::new()?.enter(|| measure(members, times))?
}

fn measure(members: u32, times: usize) -> Result<Figures> {
    let scenario = Scenario { shape: Shape::Default, ports: 1, members };
    let policy = scenario.policy();
    let whole = Policy::diff(&Policy::default(), &policy);
    let mut figures =
        Figures { members, restore: vec![], filled: vec![], one_more: vec![], one_less: vec![] };
    for _ in 0..times {
        let mut mirror = Mirror::new()?;
        figures.filled.push(mirror.change(&whole)?);
        let saved = output(Command::new("ipset").arg("save"))?;
        for number in 0..CHANGES / u32::try_from(times).unwrap_or(CHANGES).max(1) {
            let mut more = policy.clone();
            scenario.add_port(&mut more, members + number);
            figures.one_more.push(mirror.change(&Policy::diff(&policy, &more))?);
            figures.one_less.push(mirror.change(&Policy::diff(&more, &policy))?);
        }
        output(Command::new("ipset").arg("destroy"))?;
        figures.restore.push(restore(&saved)?);
        output(Command::new("ipset").arg("destroy"))?;
    }
    Ok(figures)
}

/// A mirror on this thread, whose processor time is its own.
struct Mirror {
    sets: Sets,
    plan: Plan,
    kernel: Ipset,
}

impl Mirror {
    fn new() -> Result<Self> {
        let mut sets = Sets::new(false);
        sets.bind(&port_id(0), true);
        Ok(Mirror { sets, plan: Plan::new(), kernel: Ipset::open()? })
    }

    fn change(&mut self, delta: &PolicyDelta) -> Result<Took> {
        // What the kernel does for it is done on this thread too.
        let cpu = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
        let (before, begun) = (cpu()?, Instant::now());
        self.sets.apply_policy(delta);
        self.plan.want(self.sets.take());
        let done = self.plan.run(&mut self.kernel);
        let took = Took { cpu: (cpu()? - before).as_secs_f64(), wall: begun.elapsed().as_secs_f64() };
        ensure!(done.failures.is_empty(), "{:?}", done.failures);
        Ok(took)
    }
}

fn restore(saved: &str) -> Result<Took> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), saved)?;
    let mut command = Command::new("ipset");
    command.args(["restore", "-file"]).arg(file.path()).stdout(Stdio::null());
    let begun = Instant::now();
    let cpu = cpu_of(&mut command)?.as_secs_f64();
    Ok(Took { cpu, wall: begun.elapsed().as_secs_f64() })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("ipset(8)")?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The figures as a table: medians, and of single changes what the slowest of a hundred take.
pub(super) fn table(figures: &Figures) -> String {
    let cpu = |took: &[Took]| median(took.iter().map(|took| took.cpu));
    let wall = |took: &[Took]| median(took.iter().map(|took| took.wall));
    let worst = |took: &[Took]| {
        let mut walls: Vec<f64> = took.iter().map(|took| took.wall).collect();
        walls.sort_by(f64::total_cmp);
        walls.get(walls.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    };
    let floor = cpu(&figures.restore);
    let mut text = format!(
        "{} members, two sets\n\n| step                    | cpu ms    | of restore | wall ms   | p99 ms    |\n\
         | ---                     | ---       | ---        | ---       | ---       |\n",
        figures.members
    );
    for (name, took) in [
        ("ipset restore", &figures.restore),
        ("from nothing", &figures.filled),
        ("+1 member", &figures.one_more),
        ("-1 member", &figures.one_less),
    ] {
        let [cpu, wall, worst] = [cpu(took), wall(took), worst(took)].map(|seconds| seconds * 1000.0);
        let ratio = cpu / 1000.0 / floor;
        writeln!(text, "| {name:<23} | {cpu:>9.3} | {ratio:>10.4} | {wall:>9.3} | {worst:>9.3} |")
            .expect("a String takes any text");
    }
    text
}
