//! Connections that were there before a change: those that no rule admits any more are cut, those that one admits again pass again.
//!
//! The kernel passes what belongs to a known connection without asking the rules. So each connection of the ports that a change concerns is asked
//! for here, and marked. It is not forgotten: the next packet of it, from whichever side, would begin it anew
//! (`nf_conntrack_tcp_loose`), and the other way round if that side's rules allow it.

use std::collections::BTreeSet;

use conntrack::{Connection, Conntrack, Ends, Error};
use hybrid::mark::{BEGUN_BY_PORT, BOUND, REVOKED};
use hybrid::{Admission, Detail, Dialect, Firewall, FirstPacket};
use policy::Direction;

/// The kernel's table of connections.
#[derive(Debug)]
pub(super) struct Revocation {
    conntrack: Conntrack,
    /// Zones that may hold connections that are cut; none if that is not known yet.
    cut: Option<BTreeSet<u16>>,
    /// Some may have been admitted by a member that counts only with its MAC.
    may_be_bound: bool,
}

impl Revocation {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Revocation { conntrack: Conntrack::open()?, cut: None, may_be_bound: false })
    }

    /// Somebody else may cut connections from now on, and let some pass.
    pub(super) fn forget(&mut self) {
        self.cut = None;
    }

    /// Lets connections of these zones pass again that are cut and would be admitted now, or whose packets need not show a MAC any more, and
    /// says which.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn revive<D: Dialect>(
        &mut self,
        firewall: &Firewall<D>,
        grown: &BTreeSet<u16>,
    ) -> Result<Vec<Connection>, Error> {
        self.may_be_bound |= firewall.asks_for_macs();
        let is_concerned =
            |zone: &&u16| self.may_be_bound || self.cut.as_ref().is_none_or(|cut| cut.contains(zone));
        let zones: BTreeSet<u16> = grown.iter().filter(is_concerned).copied().collect();
        let (mut revived, mut still_cut) = (Vec::new(), BTreeSet::new());
        self.dump(&zones, |connection| {
            let mark = match firewall.admits(connection.zone, &first_packet(&connection)) {
                Admission::Refused if connection.mark & REVOKED != 0 => {
                    still_cut.insert(connection.zone);
                    connection.mark
                }
                Admission::Free => connection.mark & !(REVOKED | BOUND),
                Admission::ByMac if connection.mark & REVOKED != 0 => connection.mark & !REVOKED | BOUND,
                // What comes to be asked for its MAC, or is cut, is so when the rules that admitted it are gone.
                Admission::Refused | Admission::ByMac => connection.mark,
            };
            if mark != connection.mark {
                revived.push((connection, mark));
            }
        })?;
        for (connection, mark) in &revived {
            self.conntrack.set_mark([connection], *mark)?;
        }
        let revived = revived.into_iter().map(|(connection, _)| connection).collect();
        self.note(&zones, still_cut);
        Ok(revived)
    }

    /// Cuts connections again that were let pass: what admits them is not in force after all.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn cut_again(&mut self, revived: &[Connection]) -> Result<(), Error> {
        for connection in revived {
            self.conntrack.set_mark([connection], connection.mark)?;
        }
        self.cut.get_or_insert_default().extend(revived.iter().map(|connection| connection.zone));
        Ok(())
    }

    /// Cuts connections of these zones that would not be admitted now, or asks each of their packets for its MAC where they would be by that alone;
    /// says of how many.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn cut<D: Dialect>(
        &mut self,
        firewall: &Firewall<D>,
        shrunk: &BTreeSet<u16>,
    ) -> Result<usize, Error> {
        let (mut marked, mut still_cut) = (Vec::new(), BTreeSet::new());
        self.dump(shrunk, |connection| {
            let mark = match firewall.admits(connection.zone, &first_packet(&connection)) {
                Admission::Refused => {
                    still_cut.insert(connection.zone);
                    connection.mark | REVOKED
                }
                Admission::ByMac => connection.mark | BOUND,
                Admission::Free => connection.mark & !BOUND,
            };
            if mark != connection.mark {
                marked.push((connection, mark));
            }
        })?;
        let mut count = 0;
        for (connection, mark) in &marked {
            count += self.conntrack.set_mark([connection], *mark)?;
        }
        self.note(shrunk, still_cut);
        Ok(count)
    }

    /// Of these zones, these have connections that are cut.
    fn note(&mut self, zones: &BTreeSet<u16>, cut: BTreeSet<u16>) {
        let known = self.cut.get_or_insert_default();
        known.retain(|zone| !zones.contains(zone));
        known.extend(cut);
    }

    /// Forgets every connection of some zones: they are other ports' from now on. To look for one zone's costs as much as for all of them.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(super) fn flush(&mut self, zones: &BTreeSet<u16>) -> Result<(), Error> {
        let mut connections = Vec::new();
        self.dump(zones, |connection| connections.push(connection))?;
        self.conntrack.delete(&connections)?;
        if let Some(cut) = &mut self.cut {
            cut.retain(|zone| !zones.contains(zone));
        }
        Ok(())
    }

    fn dump(&mut self, zones: &BTreeSet<u16>, mut each: impl FnMut(Connection)) -> Result<(), Error> {
        if zones.is_empty() {
            return Ok(());
        }
        let one = zones.first().copied().filter(|_| zones.len() == 1);
        self.conntrack.dump(one, |connection| {
            if zones.contains(&connection.zone) {
                each(connection);
            }
        })
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
