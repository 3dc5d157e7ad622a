//! Programs that the driver runs, and how many those were.
//!
//! They end with the driver (`setpriv --pdeathsig`, util-linux): one that an agent has left behind that was killed would change the kernel
//! under the agent that comes after it.

use std::io;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};

static STARTED: AtomicU64 = AtomicU64::new(0);

/// How many programs the drivers for hybrid bridges of this process have started: each costs more than most changes should.
pub fn programs_started() -> u64 {
    STARTED.load(Ordering::Relaxed)
}

/// The command of a program.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Starts one.
///
/// # Errors
/// It is not there, or cannot be started.
pub(super) fn start(command: &mut Command) -> io::Result<Child> {
    STARTED.fetch_add(1, Ordering::Relaxed);
    command.spawn()
}
