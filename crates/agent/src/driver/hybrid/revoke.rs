//! Connections that were there before a change: those that no rule admits any more are cut, those that one admits again pass again.
//!
//! The kernel passes what belongs to a known connection without asking the rules. So each connection of the ports that a change concerns is asked
//! for here, and marked. It is not forgotten: the next packet of it, from whichever side, would begin it anew
//! (`nf_conntrack_tcp_loose`), and the other way round if that side's rules allow it.

use std::collections::BTreeSet;
use std::time::Duration;

use conntrack::{Connection, Conntrack, Ends, Error};
use hybrid::mark::{BEGUN_BY_PORT, REVOKED};
use hybrid::{Detail, Firewall, FirstPacket};
use policy::Direction;
use rustix::thread::{MembarrierCommand, membarrier};
use tracing::debug;

/// Instead of membarrier, on kernels without: longer than a packet can be under way.
const GRACE: Duration = Duration::from_millis(20);

/// The kernel's table of connections.
#[derive(Debug)]
pub(super) struct Revocation {
    conntrack: Conntrack,
    /// Zones that may hold connections that are cut.
    cut: BTreeSet<u16>,
    /// Zones that may hold connections of whoever had them before.
    used: BTreeSet<u16>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Judged {
    /// Connections that are cut from now on.
    pub(super) cut: usize,
    /// Connections that pass again.
    pub(super) revived: usize,
}

impl Revocation {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Revocation { conntrack: Conntrack::open()?, cut: BTreeSet::new(), used: BTreeSet::new() })
    }

    /// Judges the connections of these zones by what is admitted now, where less or more may be than before. Where only more is, and nothing was
    /// cut, nobody is asked: the kernel walks its whole table whenever it is, however little of it is wanted.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn judge(
        &mut self,
        firewall: &Firewall,
        shrunk: &BTreeSet<u16>,
        grown: &BTreeSet<u16>,
    ) -> Result<Judged, Error> {
        let zones: BTreeSet<u16> = grown.intersection(&self.cut).chain(shrunk).copied().collect();
        if zones.is_empty() {
            return Ok(Judged::default());
        }
        wait_for_packets_under_way();
        let (mut cut, mut revived) = (Vec::new(), Vec::new());
        let mut still_cut = BTreeSet::new();
        self.dump(&zones, |connection| {
            let is_cut = connection.mark & REVOKED != 0;
            let admitted = firewall.admits(connection.zone, &first_packet(&connection));
            if !admitted {
                still_cut.insert(connection.zone);
            }
            match (admitted, is_cut) {
                (false, false) => cut.push(connection),
                (true, true) => revived.push(connection),
                (true, false) | (false, true) => {}
            }
        })?;
        let mut judged = Judged::default();
        for connection in &cut {
            judged.cut += self.conntrack.set_mark([connection], connection.mark | REVOKED)?;
        }
        for connection in &revived {
            judged.revived += self.conntrack.set_mark([connection], connection.mark & !REVOKED)?;
        }
        self.cut.retain(|zone| !zones.contains(zone));
        self.cut.extend(still_cut);
        Ok(judged)
    }

    /// A zone is another port's from now on: it is to be emptied before that port uses it.
    pub(super) fn hand_over(&mut self, zone: u16) {
        self.used.insert(zone);
    }

    /// Forgets every connection of the zones that were handed over, all in one walk.
    ///
    /// # Errors
    /// The kernel does not answer; they are still to be emptied.
    pub(super) fn empty(&mut self) -> Result<(), Error> {
        if self.used.is_empty() {
            return Ok(());
        }
        let zones = self.used.clone();
        let mut connections = Vec::new();
        self.dump(&zones, |connection| connections.push(connection))?;
        self.conntrack.delete(&connections)?;
        self.cut.retain(|zone| !zones.contains(zone));
        self.used.clear();
        Ok(())
    }

    fn dump(&mut self, zones: &BTreeSet<u16>, mut each: impl FnMut(Connection)) -> Result<(), Error> {
        let one = zones.first().copied().filter(|_| zones.len() == 1);
        self.conntrack.dump(one, |connection| {
            if zones.contains(&connection.zone) {
                each(connection);
            }
        })
    }
}

/// Returns when every packet that was judged by what was in force a moment ago is through, and its connection in the table: the kernel walks
/// a packet through its rules in one read-side section of RCU, and this waits for those (membarrier(2): `MEMBARRIER_CMD_GLOBAL`).
fn wait_for_packets_under_way() {
    if let Err(reason) = membarrier(MembarrierCommand::Global) {
        debug!(%reason, "membarrier: waited instead");
        std::thread::sleep(GRACE);
    }
}

fn first_packet(connection: &Connection) -> FirstPacket {
    let direction = match connection.mark & BEGUN_BY_PORT {
        0 => Direction::Ingress,
        _ => Direction::Egress,
    };
    let original = connection.original;
    let detail = match original.ends {
        Ends::Ports { destination, .. } => Detail::Port(destination),
        Ends::Icmp { icmp_type, code, .. } => Detail::Icmp(icmp_type, code),
        Ends::Addresses => Detail::None,
    };
    FirstPacket {
        direction,
        source: original.source,
        destination: original.destination,
        protocol: original.protocol,
        detail,
    }
}
