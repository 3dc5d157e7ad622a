//! A private switch with the ports of a scenario, and the floor: what ovs-ofctl costs for the same flows.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent::driver::Setup;
use agent::engine;
use anyhow::{Context as _, Result, bail, ensure};
use lab::{Datapath, DummySpec, FailMode, HybridSpec, Mac, Ovs, OvsOptions, process};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use pipeline::Hook;
use policy::Policy;

use super::scenario::{Scenario, mac, port_id};

pub(crate) const BRIDGE: &str = "br-int";
/// The bridge that ovs-ofctl fills.
const FLOOR_BRIDGE: &str = "br-floor";
const PATIENCE: Duration = Duration::from_secs(120);

/// What ovs-ofctl and ovs-vswitchd cost for a table, in seconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Floor {
    pub(crate) ofctl_cpu: f64,
    pub(crate) switch_cpu: f64,
    pub(crate) wall: f64,
}

/// A switch with the local ports of a scenario.
pub(crate) struct Host {
    pub(crate) ovs: Ovs,
    /// What the port of a member is on the bridge.
    spec: fn(u16) -> DummySpec,
}

impl Host {
    /// One whose ports are on a VLAN.
    pub(crate) fn start(scenario: &Scenario) -> Result<Self> {
        Self::start_with(scenario, plug)
    }

    /// One whose ports are on none: OVN tells its networks apart by other means.
    pub(crate) fn start_untagged(scenario: &Scenario) -> Result<Self> {
        Self::start_with(scenario, |number| DummySpec { tag: None, ..plug(number) })
    }

    /// One whose ports are the ends of hybrid bridges. The bridges themselves are not there: rules name devices, and need none.
    pub(crate) fn start_hybrid(scenario: &Scenario) -> Result<Self> {
        let host = Self::start_with(scenario, hybrid_plug)?;
        // Without IPv6 Neutron's driver makes no rules for it.
        let allow = || fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0");
        host.ovs.netns().enter(allow)?.context("allowing IPv6")?;
        Ok(host)
    }

    fn start_with(scenario: &Scenario, spec: fn(u16) -> DummySpec) -> Result<Self> {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, ..OvsOptions::default() })?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        ovs.add_dummy_ports(BRIDGE, (0..scenario.ports).map(spec).collect())?;
        Ok(Host { ovs, spec })
    }

    /// How many flows the switch has.
    pub(crate) fn flows(&self) -> Result<usize> {
        let text = self.ovs.ofctl(&["-O", "OpenFlow14", "dump-aggregate", BRIDGE])?;
        let count = text.trim().rsplit_once("flow_count=").and_then(|(_, count)| count.parse().ok());
        count.with_context(|| format!("no number of flows: {text}"))
    }

    /// One more local port, that of member `number`.
    pub(crate) fn plug(&self, number: u16) -> Result<()> {
        self.ovs.add_dummy_ports(BRIDGE, vec![(self.spec)(number)])?;
        Ok(())
    }

    pub(crate) fn unplug(&self, number: u16) -> Result<()> {
        Ok(self.ovs.del_port(&(self.spec)(number).name)?)
    }

    /// What a driver needs to know of this switch.
    pub(crate) fn setup(&self) -> Result<Setup> {
        setup(&self.ovs, BTreeSet::new())
    }

    pub(crate) fn switch_cpu(&self) -> Result<Duration> {
        Ok(self.ovs.vswitchd_cpu()?)
    }

    /// ovs-vswitchd dies and another begins.
    pub(crate) fn restart_switch(&mut self) -> Result<()> {
        self.ovs.kill_vswitchd();
        Ok(self.ovs.start_vswitchd()?)
    }

    /// All flows go, as if the switch had none.
    pub(crate) fn empty(&self) -> Result<()> {
        self.ovs.ofctl(&["-O", "OpenFlow14", "del-flows", BRIDGE])?;
        Ok(())
    }

    /// Has ovs-ofctl push the table that the bridge has now into an empty one.
    pub(crate) fn floor(&self) -> Result<Floor> {
        let text = self.ovs.ofctl(&["-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", BRIDGE])?;
        let flows: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("actions=")).collect();
        let file = self.ovs.rundir().join("floor.flows");
        fs::write(&file, flows.join("\n"))?;
        self.ovs.add_bridge(FLOOR_BRIDGE, FailMode::Secure)?;
        let mut command = Command::new("ovs-ofctl");
        command.args(["-O", "OpenFlow14", "--no-names", "--bundle", "add-flows"]);
        command.arg(format!("unix:{}", self.ovs.mgmt(FLOOR_BRIDGE).display())).arg(&file);
        command.env("OVS_RUNDIR", self.ovs.rundir()).stdout(Stdio::null());
        let (before, begun) = (self.switch_cpu()?, Instant::now());
        let ofctl_cpu = cpu_of(&mut command)?.as_secs_f64();
        let wall = begun.elapsed().as_secs_f64();
        let switch_cpu = (self.switch_cpu()? - before).as_secs_f64();
        self.ovs.vsctl(&["del-br", FLOOR_BRIDGE])?;
        Ok(Floor { ofctl_cpu, switch_cpu, wall })
    }

    /// The most memory that `sgflow agent` takes until it has applied the policy, as a document, to the empty switch, in bytes.
    pub(crate) fn agent_peak_rss(&mut self, policy: &Policy) -> Result<u64> {
        let document = self.ovs.rundir().join("policy.json");
        fs::write(&document, super::document::of(policy).to_string())?;
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg("agent").arg("--policy").arg(&document).args(["--ovsdb", &self.ovs.db_remote()]);
        command.args(["--config", "/dev/null"]);
        command.arg("--api-socket").arg(self.ovs.rundir().join("sgflow.sock"));
        self.ovs.start_daemon("agent", command)?;
        let (log, begun) = (self.ovs.rundir().join("agent.out"), Instant::now());
        while !fs::read_to_string(&log)?.contains(" applied ") {
            ensure!(begun.elapsed() < PATIENCE, "the agent said: {}", fs::read_to_string(&log)?);
            thread::sleep(Duration::from_millis(20));
        }
        let peak = process::peak_rss_bytes(self.ovs.daemon_pid("agent")?)?;
        self.ovs.stop_daemon("agent");
        Ok(peak)
    }
}

/// What a driver needs to know of a switch, whose network is behind these ports besides what is so by its type.
pub(crate) fn setup(ovs: &Ovs, network_ports: BTreeSet<String>) -> Result<Setup> {
    Ok(Setup {
        remote: ovs.db_remote().parse().context("the database's address")?,
        tls: None,
        openflow: None,
        engine: engine::Options {
            bridge: BRIDGE.to_owned(),
            set_fail_mode: false,
            permitted_ethertypes: BTreeSet::new(),
            network_ports,
            hook: Hook::Bridge,
            takeover_timeout: Duration::ZERO,
        },
        mirror: None,
        observe: None,
        dry_run: false,
    })
}

fn tap(number: u16) -> String {
    format!("tap{number}")
}

fn plug(number: u16) -> DummySpec {
    DummySpec {
        port_id: Some(port_id(u32::from(number)).to_string()),
        mac: Some(Mac(mac(u32::from(number)).0)),
        tag: Some(10),
        ofport: Some(number + 1),
        ..DummySpec::new(&tap(number))
    }
}

fn hybrid_plug(number: u16) -> DummySpec {
    let DummySpec { port_id, mac, tag, ofport, .. } = plug(number);
    HybridSpec { port_id: port_id.unwrap_or_default(), tag: tag.unwrap_or_default(), mac, ofport }.on_switch()
}

/// Processor time of a command and what it starts.
pub(super) fn cpu_of(command: &mut Command) -> Result<Duration> {
    let before = cpu_of_children()?;
    let status = command.status()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(cpu_of_children()? - before)
}

/// Processor time of all children that this process has waited for.
pub(super) fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
}
