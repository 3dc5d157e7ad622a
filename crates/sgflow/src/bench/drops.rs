//! `sgflow bench --drops`: what it costs to look at what is dropped. The same packets, all of which are dropped, meet an agent that does not look,
//! one that counts by port and samples while somebody follows, and one that logs besides; in turn, so often.

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

/// Runs it; what it prints besides, as JSON.
pub(super) fn run(args: &DropsArgs, times: usize) -> Result<String> {
    let mut turns = Vec::new();
    let mut rig = Rig::start()?;
    for round in 1..=times {
        for look in LOOKS {
            eprintln!("round {round} of {times}: {look:?} …");
            turns.push(rig.turn(look, args)?);
        }
    }
    println!("{}", table(&turns, args));
    Ok(serde_json::to_string(&turns)?)
}

/// Two guests on a real datapath.
struct Rig {
    ovs: Ovs,
    sender: Capture,
    document: PathBuf,
    _guests: [Vm; 2],
}

impl Rig {
    fn start() -> Result<Self> {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Netdev, ..OvsOptions::default() })?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        let guest = |name: &str, port: &str, mac: [u8; 6], address: &str| {
            ovs.add_vm(VmSpec::new(name, port, Mac(mac)).address(address)?.tag(10))
        };
        let guests = [guest("a", "p-1", SENDER, "10.0.0.1/24")?, guest("b", "p-2", RECEIVER, "10.0.0.2/24")?];
        let document = ovs.rundir().join("policy.yaml");
        fs::write(&document, POLICY)?;
        let sender = guests[0].capture()?;
        Ok(Rig { ovs, sender, document, _guests: guests })
    }

    fn turn(&mut self, look: Look, args: &DropsArgs) -> Result<Turn> {
        let socket = self.ovs.rundir().join("sgflow.sock");
        let log = self.ovs.rundir().join("security.jsonl");
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
        command.arg("--policy").arg(&self.document).arg("--api-socket").arg(&socket);
        if look == Look::Nothing {
            command.args(["--drops-samples", "0"]);
        }
        if look == Look::DropsAndLog {
            command.arg("--security-log-path").arg(&log);
        }
        self.ovs.start_daemon("agent", command)?;
        let asked = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask = || -> Result<Drops> { Ok(asked.block_on(api::drops(&socket, &DropsQuery::default()))?) };
        let begun = Instant::now();
        loop {
            match ask() {
                Ok(drops) if drops.not_sampled.is_none() || look == Look::Nothing => break,
                other => ensure!(begun.elapsed() < PATIENCE, "the agent does not look: {other:?}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.send(args.rate, WARM_UP)?;
        thread::sleep(LATE);
        let before = ask()?;
        let agent = self.ovs.daemon_pid("agent")?;
        let (switch_cpu, agent_cpu) = (self.ovs.vswitchd_cpu()?, process::cpu(agent)?);
        let is_over = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let follower = scope.spawn(|| -> Result<()> {
                // Who follows asks once a second for what is new, as `sgflow drops --follow` does.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let mut query = DropsQuery::default();
                while look != Look::Nothing && !is_over.load(Ordering::Relaxed) {
                    let drops = runtime.block_on(api::drops(&socket, &query))?;
                    query.after = drops.samples.last().map(|sample| sample.number).or(query.after);
                    thread::sleep(Duration::from_secs(1));
                }
                Ok(())
            });
            let sent = self.send(args.rate, Duration::from_secs(args.turn));
            is_over.store(true, Ordering::Relaxed);
            follower.join().map_err(|_| anyhow::anyhow!("who follows panicked"))??;
            sent
        })?;
        let switch_cpu = (self.ovs.vswitchd_cpu()? - switch_cpu).as_secs_f64();
        let agent_cpu = (process::cpu(agent)? - agent_cpu).as_secs_f64();
        thread::sleep(LATE);
        let after = ask()?;
        self.ovs.stop_daemon("agent");
        let logged = fs::read_to_string(&log).unwrap_or_default().lines().count();
        _ = fs::remove_file(&log);
        let of = |drops: &Drops| drops.reasons.iter().map(|reason| reason.packets).sum::<u64>();
        let turn = Turn {
            look,
            sent,
            dropped: of(&after) - of(&before),
            sampled: after.sampled - before.sampled,
            limited: after.limited - before.limited,
            logged: u64::try_from(logged)?,
            switch_cpu,
            agent_cpu,
        };
        ensure!(
            look == Look::Nothing || turn.sampled + turn.limited == turn.dropped,
            "dropped packets are neither sampled nor counted as limited: {turn:?}"
        );
        Ok(turn)
    }

    /// Sends for so long; how many frames.
    fn send(&self, rate: u32, time: Duration) -> Result<u64> {
        let frames: Vec<Vec<u8>> =
            (0..SOURCES).map(|number| frame(40_000 + number)).collect::<Result<_>>()?;
        let begun = Instant::now();
        let mut sent = 0_u64;
        while begun.elapsed() < time {
            let due = begun.elapsed().as_secs_f64() * f64::from(rate);
            while (sent as f64) < due {
                self.sender.send(&frames[usize::try_from(sent % u64::from(SOURCES))?])?;
                sent += 1;
            }
            thread::sleep(BURST);
        }
        Ok(sent)
    }
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
    let both = |look| median(look, |turn| turn.switch_cpu + turn.agent_cpu);
    let mut text = format!(
        "{} dropped packets a second for {} s, medians of {} turns each\n\n",
        args.rate,
        args.turn,
        of(Look::Nothing).count()
    );
    text += "| what is looked at | ovs-vswitchd, CPU s | agent, CPU s | both, of nothing | dropped | sampled | limited | lines |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for (look, name) in LOOKS.into_iter().zip(["nothing", "drops, followed", "drops, followed, and the log"])
    {
        text += &format!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            median(look, |turn| turn.switch_cpu),
            median(look, |turn| turn.agent_cpu),
            both(look) / both(Look::Nothing),
            median(look, |turn| turn.dropped as f64),
            median(look, |turn| turn.sampled as f64),
            median(look, |turn| turn.limited as f64),
            median(look, |turn| turn.logged as f64),
        );
    }
    text
}
