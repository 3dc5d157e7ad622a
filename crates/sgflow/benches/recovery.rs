//! What a restart costs at 500 ports of one default group: of the agent, against `ovs-ofctl dump-flows` of the same table, and of
//! ovs-vswitchd, against `ovs-ofctl --bundle add-flows` of the same table. Ratios of one run; docs/reliability.md has them.

#[path = "../tests/common/default_group.rs"]
#[allow(unreachable_pub, reason = "shared with the tests")]
mod default_group;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::Ovs;

const PORTS: u16 = 500;
/// Each figure is the median of so many.
const TIMES: usize = 7;
const BRIDGE: &str = "br-int";

struct Agent {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Agent {
    fn start(ovs: &Ovs) -> Result<Self> {
        let mut command = Command::new("setpriv");
        // Dies with the benchmark, also when that is killed.
        command
            .args(["--pdeathsig", "KILL"])
            .arg(env!("CARGO_BIN_EXE_sgflow"))
            .args(["--log", "debug", "agent"]);
        command.arg("--policy").arg(ovs.rundir().join("policy.yaml")).args(["--ovsdb", &ovs.db_remote()]);
        command.arg("--api-socket").arg(ovs.rundir().join("sgflow.sock"));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let log = BufReader::new(child.stderr.take().context("it is piped")?);
        Ok(Agent { child, log })
    }

    /// The line that has this, as soon as it is written.
    fn line(&mut self, part: &str) -> Result<String> {
        let mut line = String::new();
        while self.log.read_line(&mut line)? > 0 {
            if line.contains(part) {
                return Ok(line);
            }
            line.clear();
        }
        anyhow::bail!("the agent ended before it said {part:?}")
    }

    /// Processor time of all of its threads.
    fn cpu(&self) -> Result<Duration> {
        Ok(lab::process::cpu(self.child.id())?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Processor time of a command.
fn cpu_of(command: &mut Command) -> Result<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let children = || -> Result<Duration> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let time = |time: nix::sys::time::TimeVal| {
            Duration::from_secs(time.tv_sec().unsigned_abs())
                + Duration::from_micros(time.tv_usec().unsigned_abs())
        };
        Ok(time(usage.user_time()) + time(usage.system_time()))
    };
    let before = children()?;
    ensure!(command.stdout(Stdio::null()).status()?.success(), "{command:?}");
    Ok(children()? - before)
}

fn ofctl(ovs: &Ovs, arguments: &[&str]) -> Command {
    let mut command = Command::new("ovs-ofctl");
    command.args(["-O", "OpenFlow14", "--no-names"]).args(arguments);
    command.env("OVS_RUNDIR", ovs.rundir());
    command
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The bridge's flows, as they can be added again.
fn table(ovs: &Ovs, to: &Path) -> Result<usize> {
    let text = ovs.ofctl(&["-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", BRIDGE])?;
    let flows: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("actions=")).collect();
    fs::write(to, flows.join("\n"))?;
    Ok(flows.len())
}

/// How long ovs-ofctl takes as soon as a switch that was killed lets it connect, busy as that is then.
fn filled_by_ofctl(ovs: &mut Ovs, arguments: &[&str]) -> Result<Duration> {
    ovs.kill_vswitchd();
    let mut command = ofctl(ovs, arguments);
    command.stderr(Stdio::null());
    thread::scope(|scope| {
        let filled = scope.spawn(move || -> Result<Duration> {
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                let begun = Instant::now();
                if command.status()?.success() {
                    return Ok(begun.elapsed());
                }
            }
            anyhow::bail!("ovs-ofctl cannot fill the switch")
        });
        ovs.start_vswitchd()?;
        filled.join().map_err(|_| anyhow::anyhow!("who waits for ovs-ofctl failed"))?
    })
}

fn main() -> Result<()> {
    let mut ovs = default_group::host(PORTS);
    fs::write(ovs.rundir().join("policy.yaml"), default_group::policy(PORTS))?;
    Agent::start(&ovs)?.line("applied added=")?;
    let file = ovs.rundir().join("table");
    let flows = table(&ovs, &file)?;
    let file = file.display().to_string();
    let bridge = ovs.mgmt(BRIDGE).display().to_string();
    let bridge = format!("unix:{bridge}");

    let (mut dumps, mut deltas, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        dumps.push(cpu_of(&mut ofctl(&ovs, &["dump-flows", &bridge]))?);
        let mut agent = Agent::start(&ovs)?;
        agent.line("flows are asked for")?;
        let before = agent.cpu()?;
        agent.line("applied added=0 modified=0 deleted=0")?;
        let after = agent.cpu()?;
        deltas.push(after - before);
        all.push(after);
    }
    let (dump, delta, all) = (median(dumps), median(deltas), median(all));
    println!(
        "a restart with nothing changed, {PORTS} ports, {flows} flows: processor time, medians of {TIMES}"
    );
    println!("  ovs-ofctl --no-names dump-flows           {:6.1} ms", milliseconds(dump));
    let ratio = |time: Duration, floor: Duration| time.as_secs_f64() / floor.as_secs_f64();
    println!(
        "  from asking for the flows to \"applied\"    {:6.1} ms  {:.2}",
        milliseconds(delta),
        ratio(delta, dump)
    );
    println!(
        "  all of the agent                          {:6.1} ms  {:.2}",
        milliseconds(all),
        ratio(all, dump)
    );

    let (mut fills, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let mut agent = Agent::start(&ovs)?;
        agent.line("applied added=")?;
        ovs.kill_vswitchd();
        ovs.start_vswitchd()?;
        agent.line("connected to the switch")?;
        let begun = Instant::now();
        agent.line(&format!("applied added={flows} "))?;
        fills.push(begun.elapsed());
        drop(agent);
        floors.push(filled_by_ofctl(&mut ovs, &["--bundle", "add-flows", &bridge, &file])?);
    }
    let (fill, floor) = (median(fills), median(floors));
    println!("ovs-vswitchd killed and started, the same table: time, medians of {TIMES}");
    println!("  ovs-ofctl --no-names --bundle add-flows   {:6.1} ms", milliseconds(floor));
    println!(
        "  from the connection to \"applied\"          {:6.1} ms  {:.2}",
        milliseconds(fill),
        ratio(fill, floor)
    );
    Ok(())
}
