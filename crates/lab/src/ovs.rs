//! A private ovsdb-server and ovs-vswitchd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::dummy::{DummyPort, DummySpec};
use crate::error::Tried as _;
use crate::named;
use crate::netns::NetNs;
use crate::process::{self, Daemon, Lifetime};
use crate::rundir::RunDir;
use crate::trace::Trace;
use crate::unixctl::{SwitchCtl, UnixCtl};
use crate::vm::{Vm, VmSpec};
use crate::{Error, vm};

/// How long a daemon may take until it answers: a second is usual, the machine may be busy.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Marks the daemons of a lab in their environment, so that [`crate::teardown`] ends no process that merely has the
/// number in an old pid file.
pub(crate) const MARK: &str = "SGFLOW_LAB";

/// How much of ovs-vswitchd's log a panicking test prints.
const LOG_TAIL_LINES: usize = 40;

/// Which datapath the bridges get.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Datapath {
    /// The userspace datapath over real devices (`netdev`): for namespaces as VMs.
    #[default]
    Netdev,
    /// The same code without any device of the kernel (`dummy`): for frames by [`DummyPort`].
    Dummy,
}

impl Datapath {
    fn name(self) -> &'static str {
        match self {
            Self::Netdev => "netdev",
            Self::Dummy => "dummy",
        }
    }
}

/// What a bridge does without flows (ovs-vswitchd.conf.db(5), `fail_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailMode {
    /// Forwards like a learning switch.
    Standalone,
    /// Forwards nothing.
    Secure,
}

/// How to start an [`Ovs`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OvsOptions {
    /// The datapath of its bridges.
    pub datapath: Datapath,
    /// A prefix for namespaces with names, `<prefix>` and `<prefix>-<vm>`, and a run directory `/run/<prefix>`: only
    /// for what is to outlive this process by [`Ovs::keep`].
    pub named: Option<String>,
}

/// A private Open vSwitch in a network namespace of its own. Dropping it ends the daemons and removes the directory.
#[derive(Debug)]
pub struct Ovs {
    datapath: Datapath,
    prefix: Option<String>,
    switch: Option<Daemon>,
    database: Option<Daemon>,
    others: Vec<Daemon>,
    ctl: Arc<SwitchCtl>,
    netns: NetNs,
    rundir: RunDir,
}

impl Ovs {
    /// Starts both daemons and waits until the switch has read its database.
    ///
    /// # Errors
    /// A program is missing or does not come up; a named lab of the same prefix exists (see [`crate::teardown`]).
    pub fn start(options: OvsOptions) -> Result<Self, Error> {
        let (rundir, netns) = match &options.named {
            Some(prefix) => (RunDir::named(&named::directory(prefix)?)?, NetNs::named(prefix)?),
            None => (RunDir::temporary()?, NetNs::new()?),
        };
        // Else the switch's side of every veth pair talks IPv6 to its VM: router solicitations, MLD.
        vm::write_sysctls(&netns, &[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        let mut ovs = Self {
            datapath: options.datapath,
            prefix: options.named,
            switch: None,
            database: None,
            others: Vec::new(),
            ctl: Arc::new(SwitchCtl::default()),
            netns,
            rundir,
        };
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        let mut create = ovs.command("ovsdb-tool");
        create.arg("create").arg(ovs.rundir().join("conf.db")).arg(schema);
        process::run(create, None)?;
        ovs.start_ovsdb()?;
        ovs.vsctl(&["init"])?;
        ovs.start_vswitchd()?;
        Ok(ovs)
    }

    /// Where the database listens, as `--ovsdb` and `ovs-vsctl --db` take it.
    #[must_use]
    pub fn db_remote(&self) -> String {
        format!("unix:{}", self.db_socket().display())
    }

    /// The run directory: sockets, logs, pid files, database.
    #[must_use]
    pub fn rundir(&self) -> &Path {
        self.rundir.path()
    }

    /// The socket on which `bridge` answers OpenFlow without a controller being set (ovs-vswitchd(8)).
    #[must_use]
    pub fn mgmt(&self, bridge: &str) -> PathBuf {
        self.rundir().join(format!("{bridge}.mgmt"))
    }

    /// The namespace of the switch.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Runs ovs-vsctl on the private database. It waits for the switch to take the change in, if the switch runs.
    ///
    /// # Errors
    /// The command is refused, or the switch does not answer in time.
    pub fn vsctl<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String, Error> {
        let mut vsctl = self.command("ovs-vsctl");
        vsctl.arg(format!("--db={}", self.db_remote()));
        vsctl.arg(format!("--timeout={}", READY_WITHIN.as_secs()));
        if self.switch.is_none() {
            vsctl.arg("--no-wait");
        }
        vsctl.args(arguments.iter().map(AsRef::as_ref));
        process::run(vsctl, None)
    }

    /// Runs ovs-ofctl; a bridge's name in the arguments finds the private bridge.
    ///
    /// # Errors
    /// The command is refused.
    pub fn ofctl<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String, Error> {
        let mut ofctl = self.command("ovs-ofctl");
        ofctl.args(arguments.iter().map(AsRef::as_ref));
        process::run(ofctl, None)
    }

    /// Sends one command to the switch's control socket, over a connection that is kept.
    ///
    /// # Errors
    /// The switch refuses it or does not run.
    pub fn appctl(&self, method: &str, arguments: &[&str]) -> Result<String, Error> {
        self.ctl.call(method, arguments)
    }

    /// Returns when the datapath's caches agree with the flow tables as they are now.
    ///
    /// The tables change at once, the caches when the revalidators come round. To wait for that is not enough: in the
    /// userspace datapath a round may pass over flows, and 3.1.0 may do to one flow what it means for another
    /// (docs/decisions/0009). So all cached flows are taken away. `revalidator/purge` passes over one that a revalidator
    /// is looking at, hence twice, with the end of a round between. `revalidator/wait` answers at the end of a round.
    ///
    /// # Errors
    /// The switch does not run.
    pub fn wait_for_caches(&self) -> Result<(), Error> {
        for command in ["revalidator/purge", "revalidator/wait", "revalidator/wait", "revalidator/purge"] {
            self.appctl(command, &[])?;
        }
        Ok(())
    }

    /// A connection of the caller's own to the switch's control socket.
    ///
    /// # Errors
    /// The switch does not run.
    pub fn connect_ctl(&self) -> Result<UnixCtl, Error> {
        self.ctl.connect()
    }

    /// Adds a bridge that speaks the OpenFlow versions Neutron's agent leaves on br-int.
    ///
    /// # Errors
    /// The database refuses it.
    pub fn add_bridge(&self, name: &str, fail_mode: FailMode) -> Result<(), Error> {
        let fail_mode = match fail_mode {
            FailMode::Standalone => "fail_mode=standalone",
            FailMode::Secure => "fail_mode=secure",
        };
        let datapath = format!("datapath_type={}", self.datapath.name());
        let protocols = "protocols=OpenFlow10,OpenFlow13,OpenFlow14";
        self.vsctl(&["add-br", name, "--", "set", "Bridge", name, &datapath, fail_mode, protocols]).map(drop)
    }

    /// Makes a namespace with an interface `eth0` and plugs the other end into its bridge, as a hypervisor does.
    ///
    /// # Errors
    /// The name or an address is taken or too long, or a program refuses.
    pub fn add_vm(&self, spec: VmSpec) -> Result<Vm, Error> {
        Vm::plug(self, spec)
    }

    /// Adds a port that exists in the switch alone.
    ///
    /// # Errors
    /// The database or the switch refuses it.
    pub fn add_dummy_port(&self, bridge: &str, spec: DummySpec) -> Result<DummyPort, Error> {
        Ok(self.add_dummy_ports(bridge, vec![spec])?.remove(0))
    }

    /// Adds many such ports in one transaction; they come back in the order asked for.
    ///
    /// # Errors
    /// The database or the switch refuses one: then there is none of them, or some without use.
    pub fn add_dummy_ports(&self, bridge: &str, specs: Vec<DummySpec>) -> Result<Vec<DummyPort>, Error> {
        DummyPort::plug(self, bridge, specs)
    }

    /// Takes a port off its bridge.
    ///
    /// # Errors
    /// There is no such port.
    pub fn del_port(&self, name: &str) -> Result<(), Error> {
        self.vsctl(&["del-port", name]).map(drop)
    }

    /// The OpenFlow port number that the switch gave to an interface.
    ///
    /// # Errors
    /// There is no such interface, or the switch could not open it (the error then has its words).
    pub fn ofport(&self, interface: &str) -> Result<u32, Error> {
        let text = self.vsctl(&["get", "Interface", interface, "ofport", "error"])?;
        let mut lines = text.lines();
        lines.next().and_then(|line| line.trim().parse().ok()).ok_or_else(|| Error::Invalid {
            what: "interface",
            value: interface.to_owned(),
            reason: format!("has no OpenFlow port: {}", lines.next().unwrap_or_default().trim()),
        })
    }

    /// Traces a flow, and optionally a whole frame, through a bridge (ovs-vswitchd(8), `ofproto/trace`).
    ///
    /// # Errors
    /// The switch does not understand the flow.
    pub fn trace(&self, bridge: &str, flow: &str, frame: Option<&[u8]>) -> Result<Trace, Error> {
        let frame = frame.map(crate::dummy::hex);
        let mut arguments = vec![bridge, flow];
        arguments.extend(frame.as_deref());
        self.appctl("ofproto/trace", &arguments).map(Trace::new)
    }

    /// Starts ovs-vswitchd, if it does not run, and waits until it has taken its database in.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn start_vswitchd(&mut self) -> Result<(), Error> {
        if self.switch.is_some() {
            return Ok(());
        }
        let mut command = self.command("ovs-vswitchd");
        command.arg(self.db_remote()).args(["-vconsole:off", "--pidfile", "--log-file", "--enable-dummy"]);
        let mut daemon = self.daemon("ovs-vswitchd", command)?;
        // ovs-appctl(8): the default socket is named after the daemon and its process id.
        let socket = self.rundir().join(format!("ovs-vswitchd.{}.ctl", daemon.pid()));
        wait_for("ovs-vswitchd", &mut daemon, || UnixCtl::connect(&socket).is_ok())?;
        self.ctl.switch_started(socket);
        self.switch = Some(daemon);
        // ovs-vsctl(8): it returns when the switch has reconfigured itself, so the bridges are there then. It asks for
        // that only if it changes something, so it notes what is new.
        let pid = format!("external_ids:lab-vswitchd-pid={}", self.vswitchd_pid()?);
        self.vsctl(&["set", "Open_vSwitch", ".", "external_ids:system-id=sgflow-lab", &pid]).map(drop)
    }

    /// Ends ovs-vswitchd in order, as its stop script does.
    pub fn stop_vswitchd(&mut self) {
        self.ctl.switch_ended();
        if let Some(daemon) = self.switch.take() {
            daemon.end();
        }
    }

    /// Kills ovs-vswitchd, as a crash does.
    pub fn kill_vswitchd(&mut self) {
        self.ctl.switch_ended();
        if let Some(daemon) = self.switch.take() {
            daemon.kill();
        }
    }

    /// What gives a bridge the flows back that it has now: the script that `ovs-ctl restart` makes before it ends the switch
    /// (`ovs-save save-flows`).
    ///
    /// # Errors
    /// The script of Open vSwitch is not there or fails.
    pub fn save_flows(&self, bridge: &str) -> Result<String, Error> {
        let mut save = self.command("/usr/share/openvswitch/scripts/ovs-save");
        save.args(["save-flows", bridge]).env("TMPDIR", self.rundir());
        process::run(save, None)
    }

    /// Starts ovs-vswitchd as `ovs-ctl restart` does: it moves no frame before it has its flows back. What may be done before
    /// that, `meanwhile` does.
    ///
    /// # Errors
    /// The switch does not come up in time, or does not take the flows.
    pub fn start_vswitchd_with(&mut self, saved: &str, meanwhile: impl FnOnce(&Self)) -> Result<(), Error> {
        self.vsctl(&["set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true"])?;
        self.start_vswitchd()?;
        meanwhile(self);
        let mut restore = self.command("sh");
        restore.args(["-e", "-c", saved]);
        process::run(restore, None)?;
        self.vsctl(&["remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait"]).map(drop)
    }

    /// Starts ovsdb-server on the database of this lab, if it does not run.
    ///
    /// # Errors
    /// It does not come up in time.
    pub fn start_ovsdb(&mut self) -> Result<(), Error> {
        if self.database.is_some() {
            return Ok(());
        }
        let socket = self.db_socket();
        let mut command = self.command("ovsdb-server");
        command.arg(self.rundir().join("conf.db")).arg(format!("--remote=punix:{}", socket.display()));
        command.args(["-vconsole:off", "--pidfile", "--log-file"]);
        let mut daemon = self.daemon("ovsdb-server", command)?;
        wait_for("ovsdb-server", &mut daemon, || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
        self.database = Some(daemon);
        Ok(())
    }

    /// Ends ovsdb-server in order. The switch goes on with what it knows.
    pub fn stop_ovsdb(&mut self) {
        if let Some(daemon) = self.database.take() {
            daemon.end();
        }
    }

    /// Starts another program beside the switch, in its namespace; it ends with the lab. Its pid file is
    /// `<rundir>/<name>.pid`, its output goes to `<rundir>/<name>.out`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_daemon(&mut self, name: &str, command: Command) -> Result<(), Error> {
        let daemon = self.daemon_in(name, command, None)?;
        self.others.push(daemon);
        Ok(())
    }

    /// The same inside a VM.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_daemon_in(&mut self, vm: &Vm, name: &str, command: Command) -> Result<(), Error> {
        let daemon = self.daemon_in(name, command, Some(vm.netns()))?;
        self.others.push(daemon);
        Ok(())
    }

    /// Starts another program beside the switch that is talked to by its standard input and output; its standard error goes
    /// to `<rundir>/<name>.out`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_coprocess(
        &mut self,
        name: &str,
        mut command: Command,
    ) -> Result<(ChildStdin, ChildStdout), Error> {
        let path = self.rundir().join(format!("{name}.out"));
        command.stderr(fs::File::create(&path).tried(|| format!("make {}", path.display()))?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env(MARK, self.rundir());
        let pid_file = self.rundir().join(format!("{name}.pid"));
        let mut daemon = Daemon::start(name, command, &self.netns, self.lifetime(), Some(pid_file))?;
        let pipes = daemon.pipes().expect("the command pipes both");
        self.others.push(daemon);
        Ok(pipes)
    }

    /// Process id of a program that [`Ovs::start_daemon`] or [`Ovs::start_coprocess`] started.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn daemon_pid(&self, name: &'static str) -> Result<u32, Error> {
        let daemon = self.others.iter().find(|daemon| daemon.name() == name);
        daemon.map(Daemon::pid).ok_or(Error::NotRunning(name))
    }

    /// Ends a program that [`Ovs::start_daemon`] or [`Ovs::start_coprocess`] started, if it still runs.
    pub fn stop_daemon(&mut self, name: &str) {
        let place = self.others.iter().position(|daemon| daemon.name() == name);
        if let Some(place) = place {
            self.others.remove(place).end();
        }
    }

    /// Process id of ovs-vswitchd.
    ///
    /// # Errors
    /// It does not run.
    pub fn vswitchd_pid(&self) -> Result<u32, Error> {
        self.switch.as_ref().map(Daemon::pid).ok_or(Error::NotRunning("ovs-vswitchd"))
    }

    /// Processor time that the threads of ovs-vswitchd have used that are there now.
    ///
    /// # Errors
    /// It does not run.
    pub fn vswitchd_cpu(&self) -> Result<Duration, Error> {
        process::cpu(self.vswitchd_pid()?)
    }

    /// Resident memory of ovs-vswitchd in bytes.
    ///
    /// # Errors
    /// It does not run.
    pub fn vswitchd_rss_bytes(&self) -> Result<u64, Error> {
        process::rss_bytes(self.vswitchd_pid()?)
    }

    /// The end of ovs-vswitchd's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.rundir().join("ovs-vswitchd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Lets a named lab outlive this process; [`crate::teardown`] ends it. Says where it is.
    ///
    /// # Errors
    /// The lab has no name: then it ends here.
    pub fn keep(mut self) -> Result<PathBuf, Error> {
        if self.prefix.is_none() {
            return Err(Error::Invalid {
                what: "lab",
                value: self.rundir().display().to_string(),
                reason: "has no name, so it ends with this process".to_owned(),
            });
        }
        let daemons = self.switch.take().into_iter().chain(self.database.take()).chain(self.others.drain(..));
        daemons.for_each(Daemon::let_go);
        self.prefix = None;
        Ok(self.rundir().to_owned())
    }

    /// The prefix of a named lab.
    pub(crate) fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    pub(crate) fn ctl(&self) -> &Arc<SwitchCtl> {
        &self.ctl
    }

    fn db_socket(&self) -> PathBuf {
        self.rundir().join("db.sock")
    }

    /// An Open vSwitch program that looks for everything in the run directory.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.rundir());
        }
        command
    }

    fn daemon_in(&self, name: &str, mut command: Command, netns: Option<&NetNs>) -> Result<Daemon, Error> {
        let path = self.rundir().join(format!("{name}.out"));
        let what = || format!("make {}", path.display());
        let out = fs::File::create(&path).tried(what)?;
        command.stdin(Stdio::null()).stderr(out.try_clone().tried(what)?).stdout(out);
        let pid_file = self.rundir().join(format!("{name}.pid"));
        command.env(MARK, self.rundir());
        Daemon::start(name, command, netns.unwrap_or(&self.netns), self.lifetime(), Some(pid_file))
    }

    /// One of Open vSwitch's own daemons: these write their pid files and logs themselves. What they say before they
    /// have a log is for whoever waits for them; a lab with a name outlives those, and must not hold their output open.
    fn daemon(&self, name: &str, mut command: Command) -> Result<Daemon, Error> {
        command.env(MARK, self.rundir()).stdin(Stdio::null());
        if self.prefix.is_some() {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        Daemon::start(name, command, &self.netns, self.lifetime(), None)
    }

    fn lifetime(&self) -> Lifetime {
        if self.prefix.is_some() { Lifetime::UntilTeardown } else { Lifetime::OfThisProcess }
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of ovs-vswitchd's log:\n{}", self.log_tail());
        }
        self.others.clear();
        self.stop_vswitchd();
        self.stop_ovsdb();
        if let Some(prefix) = &self.prefix {
            self.rundir.remove();
            if let Err(error) = named::delete_namespaces(prefix) {
                eprintln!("{error}");
            }
        }
    }
}

/// Waits until a daemon that was just started answers.
pub(crate) fn wait_for(
    name: &'static str,
    daemon: &mut Daemon,
    ready: impl Fn() -> bool,
) -> Result<(), Error> {
    let deadline = Instant::now() + READY_WITHIN;
    while !ready() {
        if daemon.ended().is_some() {
            return Err(Error::NotRunning(name));
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout { what: format!("{name} answering"), after: READY_WITHIN });
        }
        thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}
