//! Child processes that cannot outlive this one.
//!
//! A daemon gets `PR_SET_PDEATHSIG` SIGKILL. The kernel sends that signal when the *thread* that forked ends, not the
//! process (prctl(2), "PR_SET_PDEATHSIG"), so daemons are forked by one thread that lives as long as this process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::error::Tried as _;
use crate::netns::NetNs;

/// How long a daemon may take to end after SIGTERM before it gets SIGKILL.
const END_GRACE: Duration = Duration::from_secs(5);

/// Processor time of the threads of a process that are there now, in nanoseconds: what ended threads used is not in it.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration, Error> {
    let directory = format!("/proc/{pid}/task");
    let tried = || directory.clone();
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(&directory).tried(tried)? {
        let path = thread.tried(tried)?.path().join("schedstat");
        match fs::read_to_string(&path) {
            Ok(text) => sum += of_schedstat(&text).ok_or_else(|| malformed(&path, &text))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).tried(tried),
        }
    }
    Ok(sum)
}

/// Processor time of a process, of its descendants that are there now, and of those that they waited for, in ticks of the
/// kernel's clock: 10 ms as a rule.
///
/// # Errors
/// There is no such process.
pub fn cpu_of_tree(pid: u32) -> Result<Duration, Error> {
    let mut family = vec![read_stat(pid)?];
    let tried = || "/proc".to_owned();
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc").tried(tried)? {
        let name = entry.tried(tried)?.file_name();
        // One that has ended meanwhile is in the time of whoever waited for it.
        others.extend(name.to_str().and_then(|name| read_stat(name.parse().ok()?).ok()));
    }
    let mut looked_at = 0;
    while let Some(parent) = family.get(looked_at).map(|stat| stat.pid) {
        family.extend(others.iter().filter(|stat| stat.parent == parent).copied());
        looked_at += 1;
    }
    let ticks: u64 = family.iter().map(|stat| stat.ticks).sum();
    Ok(Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).unwrap_or(100))
}

/// What a process has used, and who its parent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    pid: u32,
    parent: u32,
    /// Its own time and that of children that it waited for.
    ticks: u64,
}

fn read_stat(pid: u32) -> Result<Stat, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = fs::read_to_string(&path).tried(|| path.display().to_string())?;
    parse_stat(pid, &text).ok_or_else(|| malformed(&path, &text))
}

/// proc(5), `/proc/pid/stat`: `pid (comm) state ppid …`, where comm may hold anything; utime, stime, cutime and cstime
/// are fields 14 to 17.
fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let times = fields.get(11..15)?.iter().map(|time| time.parse::<u64>());
    Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, ticks: times.sum::<Result<u64, _>>().ok()? })
}

/// Processor time of a thread of this process, by its number.
///
/// # Errors
/// There is no such thread.
pub fn cpu_of_thread(thread: i32) -> Result<Duration, Error> {
    let path = PathBuf::from(format!("/proc/self/task/{thread}/schedstat"));
    let text = fs::read_to_string(&path).tried(|| path.display().to_string())?;
    of_schedstat(&text).ok_or_else(|| malformed(&path, &text))
}

/// The most resident memory that a process has had, in bytes (proc(5), `status`, VmHWM).
///
/// # Errors
/// There is no such process.
pub fn peak_rss_bytes(pid: u32) -> Result<u64, Error> {
    memory(pid, "VmHWM:")
}

/// Its resident memory now, in bytes (VmRSS).
///
/// # Errors
/// There is no such process.
pub fn rss_bytes(pid: u32) -> Result<u64, Error> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, name: &str) -> Result<u64, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = fs::read_to_string(&path).tried(|| path.display().to_string())?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| malformed(&path, &status))
}

/// Time on a processor in nanoseconds is the first number (Documentation/scheduler/sched-stats.rst of Linux).
fn of_schedstat(text: &str) -> Option<Duration> {
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn malformed(path: &Path, text: &str) -> Error {
    Error::Invalid {
        what: "file of the kernel",
        value: path.display().to_string(),
        reason: format!("not as proc(5) says: {text}"),
    }
}

/// A running daemon; ended when dropped, unless it was let go.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    pid_file: Option<PathBuf>,
    ends_with_handle: bool,
}

/// Whether a daemon dies with this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// The kernel kills it when this process ends, and dropping the handle ends it.
    OfThisProcess,
    /// It lives on when this process ends without dropping the handle; a pid file says where it is.
    UntilTeardown,
}

impl Daemon {
    /// Starts `command` in `netns`. `name` is for messages; `pid_file` is written here if given, and removed at the end.
    ///
    /// # Errors
    /// The program cannot be started, or the pid file cannot be written.
    pub fn start(
        name: &str,
        mut command: Command,
        netns: &NetNs,
        lifetime: Lifetime,
        pid_file: Option<PathBuf>,
    ) -> Result<Self, Error> {
        prepare(&mut command, Some(netns), lifetime == Lifetime::OfThisProcess);
        let shown = shown(&command);
        let child = spawn_from_lasting_thread(command).tried(|| shown)?;
        let daemon = Self { name: name.to_owned(), child, pid_file, ends_with_handle: true };
        if let Some(path) = &daemon.pid_file {
            fs::write(path, format!("{}\n", daemon.pid())).tried(|| format!("write {}", path.display()))?;
        }
        Ok(daemon)
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The other ends of its standard input and output, if its command pipes both.
    pub(crate) fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end (SIGTERM), waits, and kills it if it does not.
    pub fn end(mut self) {
        self.end_now(Signal::TERM);
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(mut self) {
        self.end_now(Signal::KILL);
    }

    /// Leaves it running when the handle goes; only its pid file knows it from then on.
    pub fn let_go(mut self) {
        self.ends_with_handle = false;
    }

    fn end_now(&mut self, signal: Signal) {
        self.ends_with_handle = false;
        let deadline = Instant::now() + END_GRACE;
        if self.ended().is_none() {
            if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
                // It may have ended in between: then there is nobody to tell.
                let _ = kill_process(pid, signal);
            }
            while self.ended().is_none() {
                if Instant::now() > deadline {
                    eprintln!("{} (pid {}) ignores {signal:?}: killed", self.name, self.pid());
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        if let Some(path) = &self.pid_file {
            // The daemon itself may have removed it on its way out.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ends_with_handle {
            self.end_now(Signal::TERM);
        }
    }
}

/// Runs `command` to its end in `netns` (the caller's own namespace if none) and gives back what it wrote.
///
/// # Errors
/// The program cannot be started. Its own failure is no error here: look at the status.
pub fn output(mut command: Command, netns: Option<&NetNs>) -> Result<Output, Error> {
    prepare(&mut command, netns, true);
    let shown = shown(&command);
    command.stdin(Stdio::null()).output().tried(|| shown)
}

/// Runs `command` to its end and gives back its standard output.
///
/// # Errors
/// The program cannot be started, or ends with another status than 0.
pub fn run(command: Command, netns: Option<&NetNs>) -> Result<String, Error> {
    let shown = shown(&command);
    let output = output(command, netns)?;
    if !output.status.success() {
        return Err(Error::Command {
            command: shown,
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it, shortened.
fn shown(command: &Command) -> String {
    const LONGEST: usize = 400;
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
        if text.len() > LONGEST {
            text.push_str(" …");
            break;
        }
    }
    text
}

/// Makes the child enter `netns` and, if `dies_with_us`, die when the thread that forks it ends.
#[allow(unsafe_code)] // pre_exec: the closure runs between fork and exec
fn prepare(command: &mut Command, netns: Option<&NetNs>, dies_with_us: bool) {
    let netns: Option<RawFd> = netns.map(AsRawFd::as_raw_fd);
    let parent = getpid();
    let enter = move || -> io::Result<()> {
        if let Some(fd) = netns {
            // SAFETY: fork copied every descriptor, and the caller's borrow of the namespace outlives the spawn.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))?;
        }
        if dies_with_us {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above: then no signal will come.
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    };
    // SAFETY: after fork only system calls are made (setns, prctl, getppid): no allocation, no lock.
    unsafe { command.pre_exec(enter) };
}

/// One request to the thread that forks daemons.
type SpawnRequest = (Command, Sender<io::Result<Child>>);

/// Forks from a thread that ends only with the process.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<SpawnRequest>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox): (Sender<SpawnRequest>, Receiver<SpawnRequest>) = channel();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The asker waits for the answer, so somebody is there to take it.
                let _ = reply.send(command.spawn());
            }
        });
        requests
    });
    let (reply, answer) = channel();
    let gone = |_| io::Error::other("the thread that starts daemons is gone");
    spawner.send((command, reply)).map_err(|e| gone(e.to_string()))?;
    answer.recv().map_err(|e| gone(e.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_the_first_number() {
        assert_eq!(of_schedstat("2000000 17 3\n"), Some(Duration::from_millis(2)));
        assert_eq!(of_schedstat("\n"), None);
    }

    #[test]
    fn a_name_may_hold_what_else_ends_it() {
        let text = "7 (a) 1 (b)) S 3 7 7 0 -1 4194304 11 22 33 44 50 6 700 8000 20 0 1 0 9\n";
        assert_eq!(parse_stat(7, text), Some(Stat { pid: 7, parent: 3, ticks: 8756 }));
        assert_eq!(parse_stat(7, "7 (a) S 3"), None);
    }

    #[test]
    fn the_time_of_a_tree_has_children_that_run_and_that_have_ended() {
        // A shell whose child is done, whose other child is at work, and which itself waits.
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sh -c '{busy}'; echo; sh -c '{busy}; echo; read -r _'; :")]);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = shell.stdout.take().unwrap();
        let mut after_line = || {
            io::Read::read_exact(&mut said, &mut [0]).unwrap();
            cpu_of_tree(shell.id()).unwrap()
        };
        let (first, second) = (after_line(), after_line());
        assert!(first > Duration::ZERO && second > first, "{first:?}, {second:?}");
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
