//! A private Open vSwitch: ovsdb-server and ovs-vswitchd with dummy datapaths, in a directory of their own.
//!
//! The machine's own switch is never touched: every path and socket is given. The daemons are killed by the
//! kernel when the thread of the test that started them ends, however it ends.
#![allow(dead_code)] // each test binary uses its part

pub(crate) mod generate;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running switch with one bridge, `br0`.
pub(crate) struct Ovs {
    daemons: Vec<Child>,
    dir: TempDir,
}

impl Ovs {
    pub(crate) fn start() -> Ovs {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ovs = Ovs { daemons: Vec::new(), dir };
        ovs.run("ovsdb-tool", &["create", &ovs.path("conf.db"), SCHEMA]);
        ovs.daemon(
            "ovsdb-server",
            &[&format!("--remote=punix:{}", ovs.path("db.sock")), &ovs.path("conf.db")],
        );
        ovs.wait_for("db.sock");
        ovs.vsctl(&["--no-wait", "init"]);
        let db = format!("unix:{}", ovs.path("db.sock"));
        ovs.daemon("ovs-vswitchd", &["--enable-dummy=override", "--disable-system", &db]);
        let bridge = ["set", "bridge", "br0", "datapath_type=dummy", "fail_mode=secure"];
        let protocols = "protocols=OpenFlow10,OpenFlow13,OpenFlow14";
        ovs.vsctl(&[&["add-br", "br0", "--"], &bridge[..], &[protocols]].concat());
        ovs.wait_for("br0.mgmt");
        ovs
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.dir.path().join(file).to_string_lossy().into_owned()
    }

    /// Where the bridge speaks OpenFlow.
    pub(crate) fn target(&self) -> String {
        format!("unix:{}", self.path("br0.mgmt"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.dir.path());
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn daemon(&mut self, program: &str, arguments: &[&str]) {
        let out = File::create(self.path(&format!("{program}.out"))).expect("an output file");
        let mut command = self.command(program);
        let log = format!("--log-file={}", self.path(&format!("{program}.log")));
        command.args([&log, &format!("--unixctl={}", self.path(&format!("{program}.ctl")))]);
        command.args(arguments).stdout(Stdio::null()).stderr(out);
        self.daemons.push(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")));
    }

    /// Runs a program to its end; returns what it prints.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().expect("the program starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(crate) fn vsctl(&self, arguments: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock"));
        self.run("ovs-vsctl", &[&[db.as_str(), "--timeout=20"], arguments].concat())
    }

    pub(crate) fn appctl(&self, arguments: &[&str]) -> String {
        let target = self.path("ovs-vswitchd.ctl");
        self.run("ovs-appctl", &[&["--timeout=20", "-t", &target], arguments].concat())
    }

    /// The lines of `dump-flows` as this crate prints flows.
    pub(crate) fn dump_text(&self) -> Vec<String> {
        let target = self.target();
        let arguments = ["-O", "OpenFlow14", "--no-names", "--no-stats", "dump-flows", &target];
        let text = self.run("ovs-ofctl", &arguments);
        text.lines()
            .filter(|line| line.contains("actions="))
            .map(|line| line.trim_start().to_owned())
            .collect()
    }

    /// Adds flows by ovs-ofctl, one a line.
    pub(crate) fn ofctl_add(&self, flows: &str) {
        let file = PathBuf::from(self.path("flows.txt"));
        std::fs::write(&file, flows).expect("a file of flows");
        self.run("ovs-ofctl", &["-O", "OpenFlow14", "add-flows", &self.target(), &self.path("flows.txt")]);
    }

    pub(crate) fn add_port(&self, name: &str) {
        self.vsctl(&["add-port", "br0", name, "--", "set", "interface", name, "type=dummy"]);
    }

    /// Kills ovs-vswitchd as a crash would.
    pub(crate) fn kill_switch(&mut self) {
        let mut switch = self.daemons.pop().expect("the switch was started last");
        switch.kill().expect("it runs");
        switch.wait().expect("it ends");
    }

    fn wait_for(&mut self, file: &str) {
        let path = self.path(file);
        let deadline = Instant::now() + PATIENCE;
        while !Path::new(&path).exists() {
            for daemon in &mut self.daemons {
                if let Ok(Some(status)) = daemon.try_wait() {
                    panic!("a daemon ended with {status} before {file} was there");
                }
            }
            assert!(Instant::now() < deadline, "{file} did not appear");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            // It may have ended by itself.
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }
}

/// The bytes of replies, by a socket without the client.
pub(crate) mod raw {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use bytes::{Bytes, BytesMut};
    use rust_openflow::message::{Framer, HEADER_LENGTH, OFP14_VERSION, Xid};
    use rust_openflow::{FlowEntry, FlowFilter, Message};

    use super::Ovs;

    /// The bodies of all flow-stats replies behind their multipart header, and what they decode to.
    pub(crate) fn flow_stats(ovs: &Ovs) -> Vec<(Bytes, Vec<FlowEntry>)> {
        let mut stream = UnixStream::connect(ovs.path("br0.mgmt")).expect("the bridge listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut request = BytesMut::new();
        Message::Hello(vec![OFP14_VERSION]).encode(Xid(1), &mut request).expect("a hello");
        Message::FlowStatsRequest(FlowFilter::default()).encode(Xid(2), &mut request).expect("a request");
        stream.write_all(&request).expect("the bridge reads");
        let (mut framer, mut buffer) = (Framer::default(), vec![0; 65536]);
        let mut replies = Vec::new();
        loop {
            while let Some(message) = framer.next_message().expect("whole messages") {
                if let (_, Message::FlowStatsReply(part)) =
                    Message::decode(&message).expect("readable messages")
                {
                    replies.push((message.slice(HEADER_LENGTH + 8..), part.items));
                    if !part.more {
                        return replies;
                    }
                }
            }
            let length = stream.read(&mut buffer).expect("the bridge answers");
            assert!(length > 0, "the bridge closed the connection");
            framer.push(&buffer[..length]);
        }
    }
}
