//! When the kernel is done with the frames that were sent.
//!
//! A frame that leaves a veth device stands in the queue of the processor that sent it (`netif_rx`, net/core/dev.c), and as a
//! rule the send itself works off that queue before it returns. Where it is left to the kernel's own thread, a second
//! frame behind the first one, on the same processor, tells: queues are worked off in order.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::Error;
use crate::error::Tried as _;
use crate::netns::NetNs;
use crate::packet_socket::{Capture, PacketSocket};

/// Pairs of devices between two packet sockets, at most: the VM's and the switch's.
const HOPS: usize = 2;

/// An ethertype for experiments (IEEE 802, table "local experimental"), from nobody to everybody.
const FRAME: [u8; 14] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// How long the kernel may take with a frame on a busy machine.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// A pair of devices that carries nothing else.
#[derive(Debug)]
pub(crate) struct Quiet {
    near: Capture,
    far: Capture,
}

impl Quiet {
    /// Makes the pair in a namespace.
    pub(crate) fn new(netns: &NetNs) -> Result<Self, Error> {
        netns.ip(&[
            "link add quiet0 type veth peer name quiet1".to_owned(),
            "link set quiet0 up".to_owned(),
            "link set quiet1 up".to_owned(),
        ])?;
        crate::hybrid::wait_until_up(netns, &["quiet0".to_owned(), "quiet1".to_owned()])?;
        let open = |device| PacketSocket::open(device).map(Capture::new);
        netns.enter(|| -> Result<Self, Error> { Ok(Self { near: open("quiet0")?, far: open("quiet1")? }) })?
    }

    /// Keeps the calling thread on the processor where it is while it works.
    pub(crate) fn on_one_processor<R>(&self, work: impl FnOnce() -> R) -> Result<R, Error> {
        let tried = || "stay on one processor".to_owned();
        let usual = sched_getaffinity(None).tried(tried)?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).tried(tried)?;
        let result = work();
        sched_setaffinity(None, &usual).tried(tried)?;
        Ok(result)
    }

    /// Returns when the kernel has done with what the calling thread has sent since it is on this processor: after as many
    /// frames of its own, one after the other, as there are queues on a frame's way.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        for _ in 0..HOPS {
            self.near.send(&FRAME)?;
            if self.far.next(DONE_WITHIN)?.is_none() {
                return Err(Error::Timeout {
                    what: "a frame through the kernel".to_owned(),
                    after: DONE_WITHIN,
                });
            }
        }
        Ok(())
    }
}
