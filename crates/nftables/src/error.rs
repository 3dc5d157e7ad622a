//! What the kernel refuses.

use thiserror::Error;

/// Why something was not done.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refused an operation of a batch; nothing of the batch was done.
    #[error("nftables: cannot {0}")]
    Refused(Refused),
    /// No answer, or one that cannot be read, or a batch that was refused as a whole.
    #[error("nftables: {0}")]
    Netlink(#[from] nfnetlink::Error),
}

/// The first operation of a batch that the kernel refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Which one, counted from 0.
    pub operation: usize,
    /// What it was to do.
    pub action: String,
    /// Which of a rule's expressions or of the operation's elements is to blame, counted from 0, where the kernel says so.
    pub part: Option<usize>,
    /// The kernel's words, and the system's for the code.
    pub reason: String,
    /// An `errno`.
    pub code: i32,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (operation {}", self.action, self.operation)?;
        if let Some(part) = self.part {
            write!(f, ", part {part}")?;
        }
        write!(f, "): {}", self.reason)
    }
}

/// `ENOENT`, `EBUSY`, `EEXIST`.
const NO_ENTRY: i32 = 2;
const BUSY: i32 = 16;
const EXISTS: i32 = 17;

impl Error {
    fn code(&self) -> Option<i32> {
        match self {
            Error::Refused(refused) => Some(refused.code),
            Error::Netlink(error) => error.code(),
        }
    }

    /// Something that is spoken of is not there: the table, chain, set, element or rule; or the kernel has no such expression.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(NO_ENTRY)
    }

    /// There is something of that name already that is otherwise.
    pub fn is_exists(&self) -> bool {
        self.code() == Some(EXISTS)
    }

    /// Something refers to it.
    pub fn is_in_use(&self) -> bool {
        self.code() == Some(BUSY)
    }

    /// What was read changed each time that it was.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Netlink(nfnetlink::Error::Interrupted))
    }

    /// The batch was made for a generation that is over: somebody changed something meanwhile.
    pub fn is_stale(&self) -> bool {
        matches!(self, Error::Netlink(error) if error.is_stale())
    }
}
