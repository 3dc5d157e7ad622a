//! Labs with a name, which may outlive the process that made them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::error::Tried as _;
use crate::ovs::MARK;
use crate::process;

/// How long the daemons of a lab may take to end.
const END_GRACE: Duration = Duration::from_secs(5);

/// Removes what a lab of this prefix has left: its daemons, by their pid files, its namespaces and its run directory.
/// Removing what is not there is no error.
///
/// # Errors
/// A directory or namespace cannot be removed.
pub fn teardown(prefix: &str) -> Result<(), Error> {
    let directory = directory(prefix)?;
    let pids = daemons_of(&directory)?;
    pids.iter().for_each(|pid| signal(*pid, Signal::TERM));
    let deadline = Instant::now() + END_GRACE;
    while pids.iter().any(|pid| belongs_to(*pid, &directory)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    pids.iter().filter(|pid| belongs_to(**pid, &directory)).for_each(|pid| signal(*pid, Signal::KILL));
    delete_namespaces(prefix)?;
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.tried(|| format!("remove {}", directory.display())),
    }
}

/// The run directory of the named lab `prefix`.
pub(crate) fn directory(prefix: &str) -> Result<PathBuf, Error> {
    let plain = prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if prefix.is_empty() || prefix.len() > 32 || !plain {
        return Err(Error::Invalid {
            what: "lab name",
            value: prefix.to_owned(),
            reason: "1 to 32 letters, digits, - and _ are allowed".to_owned(),
        });
    }
    Ok(Path::new("/run").join(prefix))
}

/// Deletes the namespaces `<prefix>` and `<prefix>-…`.
pub(crate) fn delete_namespaces(prefix: &str) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            let mut delete = Command::new("ip");
            delete.args(["netns", "delete", name]);
            process::run(delete, None)?;
        }
    }
    Ok(())
}

/// The living daemons that pid files in `directory` name.
fn daemons_of(directory: &Path) -> Result<Vec<i32>, Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.tried(|| format!("read {}", directory.display()))?,
    };
    let files = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "pid"));
    let pids = files.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    Ok(pids.filter(|pid| belongs_to(*pid, directory)).collect())
}

/// Whether the process carries the mark of the lab in `directory`: an old pid file may name a stranger.
fn belongs_to(pid: i32, directory: &Path) -> bool {
    let mark = format!("{MARK}={}", directory.display());
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended in between.
        let _ = kill_process(pid, signal);
    }
}
