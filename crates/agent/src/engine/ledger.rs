//! What has to outlive this process, and is therefore written to the database before it is used: conntrack zones
//! and the high-water mark of the generations. Besides, the prefixes of the flow tables, which cost nothing to keep
//! right.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::Uuid;
use pipeline::{GenerationPool, TABLE_PREFIXES, Zone};
use policy::PortId;

use super::event::DatabaseWrite;
use crate::host::{HostView, Zones, ZonesExhausted};

/// So many generations are reserved at a time: one transaction each 4,096 shrinks.
const RESERVE: u32 = 4096;

/// Zones, generations, and which of them are not safe in the database yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) zones: Zones,
    /// Made from the database's mark when the switch has been read back.
    pub(super) pool: Option<GenerationPool>,
    /// The port that the zone of an Interface was given to, and whose connections may be in it.
    owners: BTreeMap<Uuid, PortId>,
    /// No generation below this is given out.
    floor: u32,
    /// Zones that may hold connections of an earlier owner.
    unflushed: BTreeSet<Zone>,
    /// Interfaces whose zone may not be in the database.
    unwritten: BTreeSet<Uuid>,
    prefixes_written: bool,
}

impl Ledger {
    /// Zones that are left by rows that are gone, of these Interfaces, and whose connections are in them: the ports' alone, as far as we know by
    /// ourselves. A row that comes with such a zone in the same transaction, as the same port, goes on with its connections: that port is plugged
    /// in otherwise, and nothing else was ever in the zone.
    pub(super) fn left(&self, interfaces: &[Uuid], host: &HostView) -> BTreeMap<Zone, PortId> {
        let gone = interfaces.iter().filter(|interface| host.interface(interface).is_none());
        let zone = |interface: &Uuid| {
            let zone = self.zones.of(interface).filter(|zone| !self.unflushed.contains(zone))?;
            Some((zone, self.owners.get(interface)?.clone()))
        };
        gone.filter_map(zone).collect()
    }

    /// The row of an Interface changed or went. Gives back the port whose zone turned out to be another's.
    ///
    /// A zone that the database has when we `begin` is the port's from before, with its connections. One that comes
    /// later, and not from us, may hold anybody's, and so may one of which nobody recorded whom it was given to; but for those that were `left`.
    pub(super) fn interface_changed(
        &mut self,
        interface: Uuid,
        host: &HostView,
        begin: bool,
        left: &BTreeMap<Zone, PortId>,
    ) -> Option<PortId> {
        let recorded = host.recorded_zone(&interface);
        let ours = host.on_bridge(&interface);
        if host.interface(&interface).is_none() || (!ours && recorded.is_none()) {
            self.zones.release(&interface);
            self.owners.remove(&interface);
            return None;
        }
        let held = self.zones.held(&interface);
        if ours && held.is_some() {
            // Ours is the word that counts; whoever wrote another is overwritten.
            self.unwritten.insert(interface);
            return None;
        }
        let zone = recorded.filter(|_| held != recorded)?;
        let owner = host.recorded_port(&interface);
        let named = host.interface(&interface).and_then(|row| row.iface_id.as_ref());
        let is_handed_over = owner.is_some() && owner == named && owner == left.get(&zone);
        if ours && !is_handed_over && (!begin || owner.is_none()) {
            self.unflushed.insert(zone);
        }
        if let Some(owner) = owner.or(named) {
            self.owners.insert(interface, owner.clone());
            self.unwritten.insert(interface);
        }
        let loser = self.zones.hold(interface, zone)?;
        host.port_at(&loser)
    }

    /// The zone of a port's Interface, once it is flushed and recorded as this port's: only then it may be used.
    pub(super) fn ready_zone(&self, interface: &Uuid, port: &PortId, host: &HostView) -> Option<Zone> {
        let zone = self.zones.of(interface)?;
        let recorded =
            host.recorded_zone(interface) == Some(zone) && host.recorded_port(interface) == Some(port);
        let given = self.owners.get(interface) == Some(port) && !self.unflushed.contains(&zone);
        (recorded && given).then_some(zone)
    }

    /// Sees to it that the Interface of a port has a zone of its own, and one that was given to this port.
    ///
    /// Where another port was before, the Interface gets another zone, and not its old one flushed: until the switch
    /// has taken the other port's flows out, these may still admit connections to the old one.
    pub(super) fn provide_zone(&mut self, interface: Uuid, port: &PortId) -> Result<(), ZonesExhausted> {
        if self.zones.of(&interface).is_none() || self.owners.get(&interface) != Some(port) {
            let zone = self.zones.assign(interface)?;
            self.owners.insert(interface, port.clone());
            self.unflushed.insert(zone);
            self.unwritten.insert(interface);
        }
        Ok(())
    }

    /// Zones to flush before they are used.
    pub(super) fn to_flush(&self) -> Vec<Zone> {
        self.unflushed.iter().copied().collect()
    }

    /// These zones hold no connection any more.
    pub(super) fn flushed(&mut self, zones: &[Zone]) {
        for zone in zones {
            self.unflushed.remove(zone);
        }
    }

    /// What the database does not say yet and should.
    pub(super) fn missing_writes(&mut self, host: &HostView) -> Vec<DatabaseWrite> {
        let (zones, owners) = (&self.zones, &self.owners);
        self.unwritten.retain(|interface| {
            let recorded = (host.recorded_zone(interface), host.recorded_port(interface));
            host.on_bridge(interface) && (zones.of(interface), owners.get(interface)) != recorded
        });
        let written = self.unwritten.iter().filter_map(|interface| {
            let zone = zones.of(interface).filter(|zone| !self.unflushed.contains(zone))?;
            Some(DatabaseWrite::Zone { interface: *interface, zone, port: owners.get(interface)?.clone() })
        });
        let mut writes: Vec<DatabaseWrite> = written.collect();
        if !self.prefixes_written {
            writes.extend(prefixes(host));
        }
        writes
    }

    /// The database took this over.
    pub(super) fn written(&mut self, writes: &[DatabaseWrite]) {
        for write in writes {
            match write {
                DatabaseWrite::Generation { mark, .. } => {
                    if let Some(pool) = &mut self.pool {
                        pool.raise(*mark);
                    }
                }
                DatabaseWrite::Prefixes { .. } => self.prefixes_written = true,
                DatabaseWrite::Zone { .. } | DatabaseWrite::FailModeSecure { .. } => {}
            }
        }
    }

    /// Begins to count generations where the database says that nobody has counted yet, and above `highest`,
    /// which flows still stamp.
    ///
    /// Where the mark is missing or no number, nobody knows which marks connections carry: the zones of the
    /// bridge are flushed, since an old mark would pass for one that is given out again.
    pub(super) fn open_pool(&mut self, host: &HostView, highest: Option<u32>) {
        if self.pool.is_some() {
            return;
        }
        let mark = host.bridge().and_then(|bridge| bridge.generation.as_ref()?.parse::<u32>().ok());
        if mark.is_none() {
            let ours = self.zones.iter().filter(|(interface, _)| host.on_bridge(interface));
            self.unflushed.extend(ours.map(|(_, zone)| zone));
        }
        let mark = mark.unwrap_or(0);
        self.floor = highest.map_or(1, |highest| highest.saturating_add(1)).max(mark);
        self.pool = Some(GenerationPool::new(self.floor, mark));
    }

    /// The mark to write so that `needed` generations are there; `None` when no number is left for them.
    pub(super) fn next_mark(&self, needed: u32) -> Option<u32> {
        let reserved = self.pool.as_ref()?.limit();
        reserved.max(self.floor).checked_add(needed.max(RESERVE))
    }

    /// Another may have used the database: what it says counts, not what we remember.
    pub(super) fn reopen(&mut self) {
        self.pool = None;
        self.prefixes_written = false;
    }
}

/// Flow tables whose prefixes are not as wanted.
fn prefixes(host: &HostView) -> Vec<DatabaseWrite> {
    let (Some(bridge), Some(id)) = (host.bridge(), host.bridge_id()) else { return Vec::new() };
    let wrong = TABLE_PREFIXES.iter().filter_map(|&(table, name, prefixes)| {
        let row = bridge.flow_tables.get(&table).copied();
        let current = row.and_then(|row| host.flow_table(&row)).map(|row| &row.prefixes);
        let right = current.is_some_and(|now| now.iter().eq(BTreeSet::from_iter(prefixes)));
        (!right).then_some(DatabaseWrite::Prefixes { bridge: id, table, row, name, prefixes })
    });
    wrong.collect()
}
