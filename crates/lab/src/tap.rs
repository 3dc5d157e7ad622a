//! A guest's device as a hypervisor holds it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use crate::error::Tried as _;
use crate::packet_socket::{Capture, PacketSocket};
use crate::{Error, NetNs};

/// How often an idle worker looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest frame: 64 KB of IP and an Ethernet header with a tag.
const LONGEST_FRAME: usize = 65_535 + 18;

/// A tap (Documentation/networking/tuntap.rst of Linux) whose other end, which a hypervisor would hold, is joined with an interface of another
/// namespace. What a VM of this lab has otherwise, one end of a pair of devices, tells the VM when the host's end goes down; this does not.
#[derive(Debug)]
pub struct Tap {
    is_over: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Tap {
    /// Makes tap `name` in `host`, down as yet, and hands frames between it and `device` of `outside`. It goes when this is dropped.
    ///
    /// # Errors
    /// The kernel refuses: the name is taken or too long, or there is no `device`.
    pub fn join(host: &NetNs, name: &str, outside: &NetNs, device: &str) -> Result<Self, Error> {
        let tap = host.enter(|| make(name))?.tried(|| format!("make tap {name}"))?;
        let far = Arc::new(Capture::new(outside.enter(|| PacketSocket::open(device))??));
        let (tap, is_over) = (Arc::new(tap), Arc::new(AtomicBool::new(false)));
        let from_host = {
            let (tap, far, is_over) = (Arc::clone(&tap), Arc::clone(&far), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut frame = vec![0; LONGEST_FRAME];
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(length) = receive(&tap, &mut frame) {
                        // A guest that does not listen loses it.
                        _ = far.send(&frame[..length]);
                    }
                }
            })
        };
        let to_host = {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(Some(frame)) = far.next(LOOK_EVERY) {
                        // While the tap is down it takes nothing, and a hypervisor does not tell its guest.
                        _ = rustix::io::write(&*tap, &frame);
                    }
                }
            })
        };
        Ok(Self { is_over, workers: vec![from_host, to_host] })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // One that panicked has said so.
            _ = worker.join();
        }
    }
}

#[allow(unsafe_code)] // ioctl(2) of a device that rustix does not know
fn make(name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = [0u8; size_of::<libc::ifreq>()];
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    // struct ifreq: the name, and at IFNAMSIZ a short with the flags.
    request[..name.len()].copy_from_slice(name.as_bytes());
    let kind = libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("0x1002 fits");
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&kind.to_ne_bytes());
    // SAFETY: the kernel reads and writes an ifreq, which is as large as `request`, and that lives through the call.
    match unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(tap),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The length of the next frame, if one comes soon.
fn receive(tap: &OwnedFd, frame: &mut [u8]) -> Option<usize> {
    let soon = Timespec::try_from(LOOK_EVERY).expect("a short time");
    let mut wanted = [PollFd::from_borrowed_fd(tap.as_fd(), PollFlags::IN)];
    match poll(&mut wanted, Some(&soon)) {
        Ok(1..) => {}
        _ => return None,
    }
    match rustix::io::read(tap, frame) {
        Ok(length) => Some(length),
        Err(_) => {
            // A tap that is down is ready to say so.
            thread::sleep(Duration::from_millis(1));
            None
        }
    }
}
