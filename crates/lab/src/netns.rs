//! Network namespaces, held by a descriptor.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::Error;
use crate::error::Tried as _;
use crate::process;

/// A network namespace. The kernel removes it, and every device in it, when the last descriptor and the last
/// process in it are gone (network_namespaces(7)); one with a name lives until `ip netns delete`.
#[derive(Debug)]
pub struct NetNs {
    descriptor: OwnedFd,
    name: Option<String>,
}

impl NetNs {
    /// A new namespace without a name, its loopback up.
    ///
    /// # Errors
    /// The kernel refuses (root is needed).
    pub fn new() -> Result<Self, Error> {
        // unshare(2) moves the calling thread: a thread of its own makes the namespace and leaves its descriptor.
        let made = thread::spawn(|| {
            unshare_network()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made
            .join()
            .expect("the thread only makes system calls")
            .tried(|| "make a network namespace".into())?;
        let netns = Self { descriptor: file.into(), name: None };
        netns.raise_loopback()?;
        Ok(netns)
    }

    /// A new namespace that `ip netns` knows as `name`.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn named(name: &str) -> Result<Self, Error> {
        let mut add = Command::new("ip");
        add.args(["netns", "add", name]);
        process::run(add, None)?;
        // ip-netns(8): a named namespace is a file in this directory.
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).tried(|| format!("open {}", path.display()))?;
        let netns = Self { descriptor: file.into(), name: Some(name.to_owned()) };
        netns.raise_loopback()?;
        Ok(netns)
    }

    /// Its name, if `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where other processes find it as long as this one holds it; `ip` takes it in the place of a name.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd())
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there stay in it.
    ///
    /// # Errors
    /// The kernel refuses to enter.
    ///
    /// # Panics
    /// When `work` does.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        let inside = || {
            move_into_link_name_space(self.descriptor.as_fd(), Some(LinkNameSpaceType::Network))
                .tried(|| "enter a network namespace".into())?;
            Ok(work())
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` with a batch of commands (ip(8), `-batch`), inside.
    ///
    /// # Errors
    /// One of the commands is refused; those before it are done.
    pub(crate) fn ip(&self, commands: &[String]) -> Result<(), Error> {
        let file = tempfile::NamedTempFile::new().tried(|| "make a temporary file".into())?;
        std::fs::write(file.path(), commands.join("\n")).tried(|| "write a temporary file".into())?;
        let mut ip = Command::new("ip");
        ip.arg("-batch").arg(file.path());
        match process::run(ip, Some(self)) {
            Err(Error::Command { status, stderr, .. }) => {
                Err(Error::Command { command: format!("ip: {}", commands.join("; ")), status, stderr })
            }
            other => other.map(drop),
        }
    }

    fn raise_loopback(&self) -> Result<(), Error> {
        self.ip(&["link set lo up".to_owned()])
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[allow(unsafe_code)] // a system call
fn unshare_network() -> std::io::Result<()> {
    // SAFETY: unsafe because of what unsharing files can do to descriptors; only the network is unshared here.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}
