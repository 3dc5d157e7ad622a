//! A private switch, documents, and the program under test.
#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and takes what it needs")]

pub mod default_group;
pub mod hybrid_pair;
pub mod neutron_driver;
pub mod policy_store;
pub mod security_log;
pub mod traffic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::{Datapath, DummySpec, FailMode, NetNs, Ovs, OvsOptions};

/// Two ports of one group whose members may talk to each other, and one of another network.
pub const POLICY: &str = r#"
security_groups:
- {id: g, security_group_rules: [
    {id: e4, direction: egress, ethertype: IPv4},
    {id: e6, direction: egress, ethertype: IPv6},
    {id: i4, direction: ingress, ethertype: IPv4, remote_group_id: g}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [g]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [g]}
- {id: p-3, network_id: m, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.1.0.3}], security_groups: [g]}
"#;

/// A switch without bridges.
pub fn ovs() -> Ovs {
    Ovs::start(OvsOptions { datapath: Datapath::Dummy, ..OvsOptions::default() })
        .expect("Open vSwitch starts")
}

/// A safe bridge `br-int` with the plugs of two ports.
pub fn bridge(ovs: &Ovs) {
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    plug(ovs, 1);
    plug(ovs, 2);
}

/// Plugs in port `p-<number>` at OpenFlow port `number`, on VLAN 10.
pub fn plug(ovs: &Ovs, number: u16) {
    let spec = DummySpec {
        port_id: Some(format!("p-{number}")),
        tag: Some(10),
        ofport: Some(number),
        ..DummySpec::new(&format!("tap{number}"))
    };
    ovs.add_dummy_port("br-int", spec).expect("a port");
}

/// A document in the lab's own directory.
pub fn document(ovs: &Ovs, text: &str) -> PathBuf {
    let path = ovs.rundir().join("policy.yaml");
    fs::write(&path, text).expect("a document");
    path
}

/// Where the program is: cargo says it to tests of its own package; for those of others it lies beside them, where the whole workspace is built.
fn program() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("this test's own name");
        test.parent().and_then(Path::parent).expect("target/<profile>/deps").join("sgflow")
    };
    let program = option_env!("CARGO_BIN_EXE_sgflow").map_or_else(beside, PathBuf::from);
    assert!(program.exists(), "{} is not there: cargo build -p sgflow", program.display());
    program
}

/// `sgflow`, unaware of this machine's settings, with lines of 80 columns.
pub fn sgflow() -> Command {
    let mut command = Command::new(program());
    command.env("COLUMNS", "80");
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("SGFLOW_")) {
        command.env_remove(key);
    }
    command
}

/// `sgflow apply` of a document to the lab's switch.
pub fn apply(ovs: &Ovs, policy: &Path, more: &[&str]) -> Output {
    let mut command = sgflow();
    command.arg("apply").arg("--policy").arg(policy).arg("--ovsdb").arg(ovs.db_remote()).args(more);
    command.output().expect("sgflow runs")
}

/// What an `apply --json` sent, in flow-mods.
pub fn flow_mods(output: &Output) -> u64 {
    assert!(!output.stdout.is_empty(), "{}", stderr(output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON summary");
    summary["sent"]["flow_mods"].as_u64().expect("a number")
}

/// Its standard error, as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The flows of the bridge as ovs-ofctl prints them, but for those that only look.
pub fn flows(ovs: &Ovs) -> Vec<String> {
    all_flows(ovs).into_iter().filter(|flow| !is_observer(flow)).collect()
}

/// The flows of the bridge that only look.
pub fn observers(ovs: &Ovs) -> Vec<String> {
    all_flows(ovs).into_iter().filter(|flow| is_observer(flow)).collect()
}

fn is_observer(flow: &str) -> bool {
    flow.starts_with("cookie=0x536708")
}

fn all_flows(ovs: &Ovs) -> Vec<String> {
    let arguments = ["-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", "br-int"];
    let text = ovs.ofctl(&arguments).expect("a dump");
    text.lines().map(|line| line.trim().to_owned()).filter(|line| line.contains("actions=")).collect()
}

/// Whether the bridge lets port `number` send anything.
pub fn is_open(ovs: &Ovs, number: u16) -> bool {
    flows(ovs).iter().any(|flow| flow.contains("table=102") && flow.contains(&format!("in_port={number},")))
}

/// Waits until something is so; a test that fails here waited in vain.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `sgflow verify` of the lab's switch by the lab's document.
pub fn verify(ovs: &Ovs, more: &[&str]) -> Output {
    let mut command = sgflow();
    command.arg("verify").arg("--policy").arg(ovs.rundir().join("policy.yaml"));
    command.arg("--ovsdb").arg(ovs.db_remote()).args(more);
    command.output().expect("sgflow runs")
}

/// Its standard output, as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The agent comes to have done all there is to do, and that is exactly the document's policy.
pub fn is_exact(ovs: &Ovs) {
    let exact = || verify(ovs, &[]).status.code() == Some(0);
    eventually("converged", || stdout(&status(ovs, &[])).starts_with("converged") && exact());
}

/// Where a test's agent has its API.
pub fn socket(ovs: &Ovs) -> PathBuf {
    ovs.rundir().join("sgflow.sock")
}

/// `sgflow status` of the lab's agent.
pub fn status(ovs: &Ovs, more: &[&str]) -> Output {
    sgflow().arg("status").arg("--api-socket").arg(socket(ovs)).args(more).output().expect("sgflow runs")
}

/// A running agent; ended with the test, however that ends.
pub struct Agent {
    pub child: Child,
    log: PathBuf,
}

impl Agent {
    pub fn start(ovs: &Ovs) -> Self {
        Self::start_with(ovs, &[])
    }

    pub fn start_with(ovs: &Ovs, more: &[&str]) -> Self {
        Self::start_in(ovs, more, &[])
    }

    /// With these variables in its environment.
    pub fn start_in(ovs: &Ovs, more: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_by(ovs, &[], &ovs.rundir().join("policy.yaml"), more, environment)
    }

    /// With documents elsewhere than in the lab's directory.
    pub fn start_for(ovs: &Ovs, policy: &Path, more: &[&str]) -> Self {
        Self::start_by(ovs, &[], policy, more, &[])
    }

    /// With a file system of so much room at `path`, which only it sees.
    pub fn start_with_little_room(ovs: &Ovs, path: &Path, room: &str, more: &[&str]) -> Self {
        fs::create_dir(path).expect("a directory");
        let mount = format!("mount -t tmpfs -o size={room} none {} && exec \"$@\"", path.display());
        let by = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
        Self::start_by(ovs, &by, &ovs.rundir().join("policy.yaml"), more, &[])
    }

    /// In the network namespace of the switch, as an agent of its host.
    pub fn start_at_home(ovs: &Ovs, more: &[&str]) -> Self {
        let by = ["nsenter", &format!("--net={}", ovs.netns().path())];
        Self::start_by(ovs, &by, &ovs.rundir().join("policy.yaml"), more, &[])
    }

    /// In another network namespace, that of a host with hybrid bridges.
    pub fn start_on_host(ovs: &Ovs, host: &NetNs, more: &[&str]) -> Self {
        Self::start_on_host_with(ovs, host, more, &[])
    }

    /// The same, with more of an environment.
    pub fn start_on_host_with(ovs: &Ovs, host: &NetNs, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let by = ["nsenter", &format!("--net={}", host.path())];
        // All namespaces have one lock of the old iptables otherwise.
        let lock = ovs.rundir().join("xtables.lock").display().to_string();
        let policy = ovs.rundir().join("policy.yaml");
        Self::start_by(ovs, &by, &policy, more, &[environment, &[("XTABLES_LOCKFILE", &lock)]].concat())
    }

    /// By another program.
    fn start_by(ovs: &Ovs, by: &[&str], policy: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = ovs.rundir().join("agent.log");
        let out = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let mut command = Command::new("setpriv");
        // Dies with the test, also when that is killed.
        command.args(["--pdeathsig", "KILL"]).args(by).arg(sgflow().get_program()).arg("agent");
        command.arg("--policy").arg(policy);
        command.args(["--ovsdb", &ovs.db_remote()]).args(more);
        if !more.contains(&"--api-socket") {
            command.args(["--api-socket", &socket(ovs).display().to_string()]);
        }
        command.envs(environment.iter().copied());
        let child = command.stderr(out).stdout(Stdio::null()).spawn().expect("the agent starts");
        Agent { child, log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Lines that contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.log().lines().filter(|line| line.contains(part)).count()
    }

    pub fn wait_for(&self, part: &str, times: usize) {
        eventually(&format!("{times} times {part:?} in:\n{}", self.log()), || self.count(part) >= times);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
