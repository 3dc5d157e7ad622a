//! `sgflow bench --drops`: what it costs to look at what is dropped. The same packets, all of which are dropped, meet an agent that does not look,
//! one that counts by port and samples while somebody follows, and one that logs besides: at the same time, on three switches, so that what else
//! happens on the machine meets all of them. Which switch has which agent goes round.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent::api::{self, Drops, DropsQuery};
use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use lab::{Capture, Datapath, FailMode, Mac, Ovs, OvsOptions, Vm, VmSpec, process};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::host::BRIDGE;

const PATIENCE: Duration = Duration::from_secs(60);
/// Traffic before it is measured: caches fill, and each port and reason is found.
const WARM_UP: Duration = Duration::from_secs(3);
/// What the switch counts is that late.
const LATE: Duration = Duration::from_secs(2);
/// Frames are sent in bursts of this interval.
const BURST: Duration = Duration::from_millis(2);
/// Source ports that are gone round.
const SOURCES: u16 = 64;

const SENDER: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];
const RECEIVER: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 2];

const POLICY: &str = r#"
security_groups:
- {id: out, security_group_rules: [{id: e, direction: egress, ethertype: IPv4}]}
- {id: in, security_group_rules: [{id: dns, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [out]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [in]}
"#;

/// Options of `sgflow bench` about what is dropped.
#[derive(Debug, clap::Args)]
pub(crate) struct DropsArgs {
    /// Measure what it costs to look at dropped packets instead
    #[arg(long, conflicts_with_all = ["scenario", "datapath", "hybrid", "ipset", "big", "peers", "store"])]
    pub(crate) drops: bool,

    /// With --drops: so many packets a second
    #[arg(long, value_name = "PACKETS", requires = "drops", default_value_t = 10_000)]
    rate: u32,

    /// With --drops: each turn lasts so long, in seconds
    #[arg(long, value_name = "SECONDS", requires = "drops", default_value_t = 20)]
    turn: u64,
}

/// What an agent does about what is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Look {
    /// It counts by reason, which the flows do anyway.
    Nothing,
    /// It counts by port and samples, and somebody follows.
    Drops,
    /// It logs besides.
    DropsAndLog,
}

const LOOKS: [Look; 3] = [Look::Nothing, Look::Drops, Look::DropsAndLog];

/// What a turn cost.
#[derive(Clone, Copy, Debug, Serialize)]
struct Turn {
    round: usize,
    look: Look,
    /// Frames that were sent.
    sent: u64,
    /// Frames that the switch counted as dropped.
    dropped: u64,
    /// Of which samples came.
    sampled: u64,
    /// Of which none came, as the agent says.
    limited: u64,
    /// Lines of the log.
    logged: u64,
    /// Processor time of ovs-vswitchd, in seconds.
    switch_cpu: f64,
    /// Of the agent.
    agent_cpu: f64,
}

impl Turn {
    fn cpu(&self) -> f64 {
        self.switch_cpu + self.agent_cpu
    }
}

/// Runs it; what it prints besides, as JSON.
pub(super) fn run(args: &DropsArgs, times: usize) -> Result<String> {
    let mut turns = Vec::new();
    let mut hosts = Vec::new();
    for _ in LOOKS {
        hosts.push(Host::start()?);
    }
    for round in 1..=times {
        eprintln!("round {round} of {times} …");
        turns.extend(take_turns(&mut hosts, round, args)?);
    }
    println!("{}", table(&turns, args));
    Ok(serde_json::to_string(&turns)?)
}

/// All at once, each host in another way.
fn take_turns(hosts: &mut [Host], round: usize, args: &DropsArgs) -> Result<Vec<Turn>> {
    let looks = || LOOKS.iter().copied().cycle().skip(round);
    for (host, look) in hosts.iter_mut().zip(looks()) {
        host.begin(look)?;
    }
    let hosts_now: &[Host] = hosts;
    send(hosts_now, args.rate, WARM_UP)?;
    thread::sleep(LATE);
    let counted = |hosts: &[Host]| hosts.iter().map(Host::ask).collect::<Result<Vec<Drops>>>();
    let used = |hosts: &[Host]| hosts.iter().map(Host::cpu).collect::<Result<Vec<_>>>();
    let (drops_before, cpu_before) = (counted(hosts_now)?, used(hosts_now)?);
    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let following = hosts_now.iter().zip(looks()).filter(|(_, look)| *look != Look::Nothing);
        let followers: Vec<_> = following.map(|(host, _)| scope.spawn(|| host.follow(&is_over))).collect();
        let sent = send(hosts_now, args.rate, Duration::from_secs(args.turn));
        is_over.store(true, Ordering::Relaxed);
        for follower in followers {
            follower.join().map_err(|_| anyhow::anyhow!("who follows panicked"))??;
        }
        sent
    })?;
    let cpu_after = used(hosts_now)?;
    thread::sleep(LATE);
    let drops_after = counted(hosts_now)?;
    let mut turns = Vec::new();
    for (number, (host, look)) in hosts.iter_mut().zip(looks()).enumerate() {
        let logged = host.end();
        let of = |drops: &Drops| drops.reasons.iter().map(|reason| reason.packets).sum::<u64>();
        let (before, after) = (&drops_before[number], &drops_after[number]);
        let turn = Turn {
            round,
            look,
            sent,
            dropped: of(after) - of(before),
            sampled: after.sampled - before.sampled,
            limited: after.limited - before.limited,
            logged: u64::try_from(logged)?,
            switch_cpu: (cpu_after[number].0 - cpu_before[number].0).as_secs_f64(),
            agent_cpu: (cpu_after[number].1 - cpu_before[number].1).as_secs_f64(),
        };
        match look {
            Look::Nothing => ensure!(turn.sampled == 0, "nobody wants samples: {turn:?}"),
            Look::Drops | Look::DropsAndLog => ensure!(
                turn.sampled + turn.limited == turn.dropped,
                "dropped packets are neither sampled nor counted as limited: {turn:?}"
            ),
        }
        turns.push(turn);
    }
    Ok(turns)
}

/// Two guests on a real switch of their own.
struct Host {
    ovs: Ovs,
    sender: Capture,
    document: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    _guests: [Vm; 2],
}

impl Host {
    fn start() -> Result<Self> {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Netdev, ..OvsOptions::default() })?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        let guest = |name: &str, port: &str, mac: [u8; 6], address: &str| {
            ovs.add_vm(VmSpec::new(name, port, Mac(mac)).address(address)?.tag(10))
        };
        let guests = [guest("a", "p-1", SENDER, "10.0.0.1/24")?, guest("b", "p-2", RECEIVER, "10.0.0.2/24")?];
        let [document, socket, log] =
            ["policy.yaml", "sgflow.sock", "security.jsonl"].map(|name| ovs.rundir().join(name));
        fs::write(&document, POLICY)?;
        let sender = guests[0].capture()?;
        Ok(Host { ovs, sender, document, socket, log, _guests: guests })
    }

    /// Starts an agent, and waits until it looks.
    fn begin(&mut self, look: Look) -> Result<()> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args([
            "agent",
            "--config",
            "/dev/null",
            "--bridge",
            BRIDGE,
            "--ovsdb",
            &self.ovs.db_remote(),
        ]);
        command.arg("--policy").arg(&self.document).arg("--api-socket").arg(&self.socket);
        if look == Look::Nothing {
            command.args(["--drops-samples", "0"]);
        }
        if look == Look::DropsAndLog {
            command.arg("--security-log-path").arg(&self.log);
        }
        self.ovs.start_daemon("agent", command)?;
        let wanted = (look == Look::Nothing).then_some("drops.samples is 0");
        let begun = Instant::now();
        loop {
            match self.ask() {
                Ok(drops) if drops.not_sampled.as_deref() == wanted => return Ok(()),
                other => ensure!(begun.elapsed() < PATIENCE, "the agent does not look: {other:?}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the agent; how many lines it has logged.
    fn end(&mut self) -> usize {
        self.ovs.stop_daemon("agent");
        let logged = fs::read_to_string(&self.log).unwrap_or_default().lines().count();
        _ = fs::remove_file(&self.log);
        logged
    }

    fn ask(&self) -> Result<Drops> {
        Ok(runtime()?.block_on(api::drops(&self.socket, &DropsQuery::default()))?)
    }

    /// Asks once a second for what is new, as `sgflow drops --follow` does.
    fn follow(&self, is_over: &AtomicBool) -> Result<()> {
        let runtime = runtime()?;
        let mut query = DropsQuery::default();
        while !is_over.load(Ordering::Relaxed) {
            let drops = runtime.block_on(api::drops(&self.socket, &query))?;
            query.after = drops.samples.last().map(|sample| sample.number).or(query.after);
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Processor time so far, of ovs-vswitchd and of the agent.
    fn cpu(&self) -> Result<(Duration, Duration)> {
        Ok((self.ovs.vswitchd_cpu()?, process::cpu(self.ovs.daemon_pid("agent")?)?))
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Sends to all hosts alike for so long; how many frames to each.
fn send(hosts: &[Host], rate: u32, time: Duration) -> Result<u64> {
    let frames: Vec<Vec<u8>> = (0..SOURCES).map(|number| frame(40_000 + number)).collect::<Result<_>>()?;
    let begun = Instant::now();
    let mut sent = 0_u64;
    while begun.elapsed() < time {
        let due = begun.elapsed().as_secs_f64() * f64::from(rate);
        while (sent as f64) < due {
            for host in hosts {
                host.sender.send(&frames[usize::try_from(sent % u64::from(SOURCES))?])?;
            }
            sent += 1;
        }
        thread::sleep(BURST);
    }
    Ok(sent)
}

/// To a port that no rule is about.
fn frame(source: u16) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(SENDER, RECEIVER)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(source, 54)
        .write(&mut bytes, &[0; 18])?;
    Ok(bytes)
}

fn table(turns: &[Turn], args: &DropsArgs) -> String {
    let of = |look: Look| turns.iter().filter(move |turn| turn.look == look);
    let median = |look: Look, part: fn(&Turn) -> f64| super::report::median(of(look).map(part));
    // Of the same round, in which the machine was the same for both.
    let of_nothing = |look: Look| {
        let ratio = |(turn, nothing): (&Turn, &Turn)| turn.cpu() / nothing.cpu();
        super::report::median(of(look).zip(of(Look::Nothing)).map(ratio))
    };
    let mut text = format!(
        "{} dropped packets a second for {} s, medians of {} rounds\n\n",
        args.rate,
        args.turn,
        of(Look::Nothing).count()
    );
    text += "| what is looked at | ovs-vswitchd, CPU s | agent, CPU s | both, of nothing | dropped | sampled | limited | lines |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for (look, name) in LOOKS.into_iter().zip(["nothing", "drops, followed", "drops, followed, and the log"])
    {
        text += &format!(
            "| {name} | {:.2} | {:.3} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            median(look, |turn| turn.switch_cpu),
            median(look, |turn| turn.agent_cpu),
            of_nothing(look),
            median(look, |turn| turn.dropped as f64),
            median(look, |turn| turn.sampled as f64),
            median(look, |turn| turn.limited as f64),
            median(look, |turn| turn.logged as f64),
        );
    }
    text
}
