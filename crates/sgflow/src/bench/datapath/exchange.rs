//! Connections between two devices, frame by frame, never faster than the switch takes them.

use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::Capture;

use super::frames::{self, Attempt, Host, Kind, Step};

/// Frames on their way at once. The socket from which ovs-vswitchd reads a device holds some two hundred and drops the rest.
const BURST: usize = 64;
/// How long the switch may take for them.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device and who is behind it.
pub(super) struct End {
    device: Capture,
    tag: Option<u16>,
    /// Sends the frames that only say that all before them have been dealt with.
    host: Host,
}

impl End {
    /// Frames carry the VLAN `tag` at this end, if any; `host` is one that is behind it.
    pub(super) fn new(device: Capture, tag: Option<u16>, host: Host) -> Self {
        End { device, tag, host }
    }
}

/// Two devices of one switch.
pub(super) struct Exchange<'a> {
    client: &'a End,
    server: &'a End,
    fences: u32,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(client: &'a End, server: &'a End) -> Self {
        Exchange { client, server, fences: 0 }
    }

    /// Tries each connection and carries those through whose first frame arrives; gives their places in the list, in rising order.
    pub(super) fn run(&mut self, attempts: &[Attempt]) -> Result<Vec<u32>> {
        // From now on the switch knows a megaflow for them.
        self.fence(self.client, self.server)?;
        self.fence(self.server, self.client)?;
        let mut admitted = Vec::new();
        let numbered: Vec<(u32, &Attempt)> = (0..).zip(attempts).collect();
        for burst in numbered.chunks(BURST) {
            let mut arrived = self.pass(burst, Step::First)?;
            arrived.sort_unstable();
            let first = burst.first().map_or(0, |(number, _)| *number);
            let known: Vec<(u32, &Attempt)> =
                burst.iter().filter(|(number, _)| arrived.binary_search(number).is_ok()).copied().collect();
            ensure!(
                known.len() == arrived.len(),
                "frames of no or two connections after {first}: {arrived:?}"
            );
            for step in [Step::Reply, Step::Third] {
                let count = self.pass(&known, step)?.len();
                ensure!(
                    count == known.len(),
                    "{count} of {} frames arrive after {first}, {step:?}",
                    known.len()
                );
            }
            admitted.extend(arrived);
        }
        Ok(admitted)
    }

    /// Sends one frame of each connection, and gives the numbers of those that arrive at the other end.
    fn pass(&mut self, connections: &[(u32, &Attempt)], step: Step) -> Result<Vec<u32>> {
        let (from, to) = match step {
            Step::First | Step::Third => (self.client, self.server),
            Step::Reply => (self.server, self.client),
        };
        for (number, attempt) in connections {
            from.device.send(&frames::frame(attempt, step, *number, from.tag)?)?;
        }
        self.fence(from, to)
    }

    /// Waits until the switch has dealt with all frames before, and gives the numbers of those that arrived. It takes frames of a
    /// device in their order, but of those that it took at once the ones that need an upcall first: so the last one must need none.
    fn fence(&mut self, from: &End, to: &End) -> Result<Vec<u32>> {
        self.fences += 1;
        from.device.send(&frames::arp(from.host, Some(to.host), self.fences, from.tag)?)?;
        let (deadline, mut arrived) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = to.device.next(left)?.with_context(|| format!("fence {} was lost", self.fences))?;
            match frames::kind(&frame)? {
                Kind::Connection(number) => arrived.push(number),
                Kind::Fence(number) if number == self.fences => return Ok(arrived),
                Kind::Fence(_) | Kind::Other => {}
            }
        }
    }

    /// Says to everybody that these hosts are behind this end, as hosts do before they talk.
    pub(super) fn announce(&mut self, end: &End, hosts: &[Host]) -> Result<()> {
        let other = if ptr::eq(end, self.client) { self.server } else { self.client };
        for burst in hosts.chunks(BURST) {
            for host in burst {
                end.device.send(&frames::arp(*host, None, 0, end.tag)?)?;
            }
            self.fence(end, other)?;
        }
        Ok(())
    }
}
