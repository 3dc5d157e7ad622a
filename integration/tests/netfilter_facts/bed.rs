//! A host with two ports of one network, p-1 and p-2, and what can be asked of its kernel.

use std::io::Write as _;
use std::process::{Command, Output};

use conntrack::{Connection, Conntrack};
use integration::joined_parts;
use lab::{HybridHost, HybridSpec, at_access_port, process};
use policy::Policy;
use tempfile::NamedTempFile;
use tests::frame_text::Names;

/// The two programs that have the name iptables: of nf_tables, and of the kernel's older tables.
pub(crate) const BOTH: [&str; 2] = ["nft", "legacy"];

/// The MACs of the two VMs.
pub(crate) const ONE: &str = "fa:16:3e:00:00:01>fa:16:3e:00:00:02";
pub(crate) const TWO: &str = "fa:16:3e:00:00:02>fa:16:3e:00:00:01";

/// Where the older iptables is told of its lock.
const LOCK: &str = "XTABLES_LOCKFILE";

/// See above.
pub(crate) struct Bed {
    pub(crate) host: HybridHost,
    /// Which of [`BOTH`].
    variant: &'static str,
    /// The older iptables takes a lock that all namespaces of a machine share, unless it is told of another (iptables(8)).
    lock: NamedTempFile,
}

impl Bed {
    pub(crate) fn new(variant: &'static str) -> Self {
        let host = HybridHost::start(&[HybridSpec::new("p-1", 10), HybridSpec::new("p-2", 10)]);
        Self { host: host.expect("a host"), variant, lock: NamedTempFile::new().expect("a file") }
    }

    /// Runs iptables, ip6tables, iptables-restore or iptables-save of the variant, or another program, on the host.
    pub(crate) fn run(&self, line: &str) -> String {
        process::run(self.command(line), Some(self.host.netns())).expect(line)
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a program");
        let program = match program.split_once("tables") {
            Some((family, what)) => format!("{family}tables-{}{what}", self.variant),
            None => program.to_owned(),
        };
        let mut command = Command::new(program);
        command.args(words).env(LOCK, self.lock.path());
        command
    }

    /// The same of rules for both families.
    pub(crate) fn both_families(&self, arguments: &str) {
        for tables in ["iptables", "ip6tables"] {
            self.run(&format!("{tables} {arguments}"));
        }
    }

    /// Gives iptables-restore a text and changes what is in it alone.
    pub(crate) fn restore(&self, text: &str) {
        self.try_restore(text).expect(text);
    }

    /// The same of a text that may be refused.
    pub(crate) fn try_restore(&self, text: &str) -> Result<String, lab::Error> {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let line = format!("iptables-restore --noflush {}", file.path().display());
        process::run(self.command(&line), Some(self.host.netns()))
    }

    /// Gives nft a text.
    pub(crate) fn nft(&self, text: &str) {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        self.run(&format!("nft -f {}", file.path().display()));
    }

    /// Lets frames come from the network, to both VMs, and says what p-1 and p-2 get.
    pub(crate) fn send_from_network(&self, texts: &[String]) -> [Vec<Vec<u8>>; 2] {
        for text in texts {
            self.host.send_from_network(10, &frame(text)).expect(text);
        }
        let mut emerged = self.host.take_emerged().expect("a look");
        ["p-1", "p-2"].map(|id| emerged.vms.remove(id).unwrap_or_default())
    }

    /// Whether p-1 gets a frame that comes from the network.
    pub(crate) fn send_to_one(&self, text: &str) -> bool {
        let [got, _] = self.send_from_network(&[text.to_owned()]);
        assert!(got.is_empty() || got == [frame(text)], "{text}: {got:02x?}");
        !got.is_empty()
    }

    /// As [`Bed::restore`], and the processor time that it takes in milliseconds.
    pub(crate) fn timed_restore(&self, text: &str) -> f64 {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let mut command = Command::new("bash");
        let script = format!("time iptables-{}-restore --noflush \"$0\"", self.variant);
        // bash(1): processor time of user and system, in seconds with three digits.
        command.env("TIMEFORMAT", "%U %S").env(LOCK, self.lock.path()).args(["-c", &script]).arg(file.path());
        let output: Output = process::output(command, Some(self.host.netns())).expect("bash");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let seconds = said.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
        seconds.sum::<f64>() * 1000.0
    }

    /// Sends a frame from a VM and says who gets what: frames of the other VM, the network's left out.
    pub(crate) fn send(&self, from: &str, text: &str) -> Vec<Vec<u8>> {
        self.host.send_from_vm(from, &frame(text)).expect(text);
        let mut emerged = self.host.take_emerged().expect("a look");
        let other = if from == "p-1" { "p-2" } else { "p-1" };
        emerged.vms.remove(other).unwrap_or_default()
    }

    /// Whether a frame from a VM leaves its bridge.
    pub(crate) fn leaves(&self, from: &str, text: &str) -> bool {
        self.host.send_from_vm(from, &frame(text)).expect(text);
        !self.host.take_emerged().expect("a look").network.is_empty()
    }

    /// Whether a frame from one VM comes to the other, as it was sent.
    pub(crate) fn passes(&self, from: &str, text: &str) -> bool {
        let got = self.send(from, text);
        assert!(
            got.is_empty() || joined_parts(&got) == joined_parts(&[at_access_port(frame(text))]),
            "{text}: {got:02x?}"
        );
        !got.is_empty()
    }

    /// How long an established TCP connection is kept from now on after its last packet
    /// (Documentation/networking/nf_conntrack-sysctl.rst of Linux).
    pub(crate) fn idle_seconds(&self, seconds: &str) {
        let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
        self.host.netns().enter(|| std::fs::write(path, seconds)).expect("entered").expect(path);
    }

    /// The tracked connections.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        let dump = || {
            let mut connections = Vec::new();
            let mut table = Conntrack::open().expect("ctnetlink");
            table.dump(None, |connection| connections.push(connection)).expect("a dump");
            connections
        };
        self.host.netns().enter(dump).expect("entered")
    }

    /// Does something to the tracked connections.
    pub(crate) fn with_table<R: Send>(&self, work: impl FnOnce(&mut Conntrack) -> R + Send) -> R {
        self.host.netns().enter(|| work(&mut Conntrack::open().expect("ctnetlink"))).expect("entered")
    }
}

/// A frame from its text.
pub(crate) fn frame(text: &str) -> Vec<u8> {
    Names::new(&Policy::default()).read("", text).expect(text).bytes().expect(text)
}
