//! What can go wrong in a lab.

use std::io;
use std::time::Duration;

/// A failed step of the lab, with what was tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program ran and said no.
    #[error("{command}: {status}: {stderr}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote on its standard error, trimmed.
        stderr: String,
    },
    /// Something did not come in time.
    #[error("{what}: not within {after:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A daemon refused a command on its control socket.
    #[error("{method}: {message}")]
    Refused {
        /// The unixctl method.
        method: String,
        /// The daemon's words.
        message: String,
    },
    /// The caller asked for something that cannot be.
    #[error("{what} {value:?}: {reason}")]
    Invalid {
        /// What kind of value.
        what: &'static str,
        /// The value.
        value: String,
        /// Why it cannot be.
        reason: String,
    },
    /// A daemon that the call needs is not running.
    #[error("{0} is not running")]
    NotRunning(&'static str),
}

/// Says what was tried when a system call fails.
pub(crate) trait Tried<T> {
    /// Turns the kernel's error into one that says `what` was tried.
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
