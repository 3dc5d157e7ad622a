//! How a command ends, as its exit code.

use std::process::ExitCode;

/// See each variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done,
    /// Nothing was done: no file, no right, an unsafe bridge, another sgflow.
    Failed,
    /// Something was refused, and the rest was done.
    Refused,
    /// What it takes was not there in time.
    TimedOut,
    /// The switch is not what the policy says.
    Differs,
    /// What it takes to enforce a change is not there.
    Disconnected,
    /// The command line makes no sense (`EX_USAGE` of sysexits.h: 2 is taken).
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::TimedOut => 3,
            Exit::Differs => 4,
            Exit::Disconnected => 5,
            Exit::Usage => 64,
        })
    }
}
