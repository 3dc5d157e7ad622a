//! The directory that holds everything of one lab: database, sockets, logs, pid files.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;
use crate::error::Tried as _;

/// Longest path of a run directory: sun_path of unix(7) holds 108 bytes, and the longest socket name below it
/// (`ovs-vswitchd.<pid>.ctl`, or a bridge's `.mgmt`) needs some.
const LONGEST_PATH: usize = 70;

/// A run directory that goes away with the lab.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    /// Removed on drop, or by the janitor if this process is killed first.
    Us { _dir: tempfile::TempDir, janitor: Child },
    /// A named lab's: removed when the lab is torn down.
    Lab,
}

impl RunDir {
    /// A new directory under the system's temporary directory. A janitor process waits for the end of this
    /// process and removes what is left then; it holds nothing but the read end of a pipe.
    ///
    /// # Errors
    /// The directory cannot be made, or its path is too long for a socket.
    pub fn temporary() -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("sgflow-lab-")
            .tempdir()
            .tried(|| "make a run directory".into())?;
        let path = dir.path().to_owned();
        check_length(&path)?;
        let janitor = start_janitor(&path)?;
        Ok(Self { path, owner: Owner::Us { _dir: dir, janitor } })
    }

    /// The directory `path`, which must not exist yet. Nothing removes it but [`RunDir::remove`].
    ///
    /// # Errors
    /// It exists, cannot be made, or its path is too long for a socket.
    pub fn named(path: &Path) -> Result<Self, Error> {
        check_length(path)?;
        fs::create_dir(path).tried(|| format!("make {}", path.display()))?;
        Ok(Self { path: path.to_owned(), owner: Owner::Lab })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a named lab's directory; a temporary one goes on drop.
    pub fn remove(&self) {
        if matches!(self.owner, Owner::Lab) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Owner::Us { janitor, .. } = &mut self.owner {
            // The end of its standard input sets it off, and it is quick; whoever of the two comes second finds nothing.
            drop(janitor.stdin.take());
            let _ = janitor.wait();
        }
    }
}

fn check_length(path: &Path) -> Result<(), Error> {
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Error::Invalid {
            what: "run directory",
            value: path.display().to_string(),
            reason: format!(
                "longer than {LONGEST_PATH} bytes, too long for the sockets below it (set TMPDIR)"
            ),
        });
    }
    Ok(())
}

/// A shell that reads until its standard input ends, which is when this process does, and then removes the directory:
/// more than once, because the daemons in it are being killed at the same moment.
fn start_janitor(path: &Path) -> Result<Child, Error> {
    const SCRIPT: &str = r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && exit 0; sleep 0.1; done"#;
    let mut janitor = Command::new("/bin/sh");
    janitor.args(["-c", SCRIPT, "sgflow-lab-janitor"]).arg(path);
    janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a process group of its own, so that Ctrl-C on a terminal does not end it before its work.
    janitor.process_group(0).current_dir("/").spawn().tried(|| "start the janitor".into())
}
