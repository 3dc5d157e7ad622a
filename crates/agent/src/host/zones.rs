//! Conntrack zones: one for each local Interface, never two Interfaces in one zone, and another one for another port.
//!
//! A zone belongs to an Interface row, because that is where it is kept (`external_ids:sgflow-zone`) so that a
//! restart finds it again: a connection lives in its zone, and a port that changed zones would lose all of its
//! connections. Zones are the datapath's, not the bridge's: what the Interfaces of other bridges hold is taken.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::Uuid;
use pipeline::Zone;
use thiserror::Error;

/// The first zone given out; 0 to 4096 are left to others (Neutron numbers networks from 1 to 4095).
pub const FIRST_ZONE: u16 = 4097;
/// The last zone there is: a zone is a 16-bit number (ovs-fields(7), `ct_zone`).
pub const LAST_ZONE: u16 = u16::MAX;

/// All zones are given out.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("every conntrack zone from {FIRST_ZONE} to {LAST_ZONE} is in use")]
pub struct ZonesExhausted;

/// Which Interface has which zone.
#[derive(Debug)]
pub struct Zones {
    held: BTreeMap<Uuid, Zone>,
    /// More than one holder of a zone is a conflict, until the others were given new ones.
    holders: BTreeMap<Zone, BTreeSet<Uuid>>,
    /// Where the search for a free zone goes on: a zone that was given back is the last to be given out again.
    cursor: u16,
}

impl Default for Zones {
    fn default() -> Self {
        Zones { held: BTreeMap::new(), holders: BTreeMap::new(), cursor: FIRST_ZONE }
    }
}

impl Zones {
    /// The zone of an Interface; `None` when it has none, or when another Interface has the same and the better
    /// right to it. The lower row id has it, so that two agents on two bridges decide alike.
    pub fn of(&self, interface: &Uuid) -> Option<Zone> {
        let zone = *self.held.get(interface)?;
        let first = self.holders.get(&zone).and_then(BTreeSet::first);
        (first == Some(interface)).then_some(zone)
    }

    /// The zone that an Interface holds, rightly or not.
    pub fn held(&self, interface: &Uuid) -> Option<Zone> {
        self.held.get(interface).copied()
    }

    /// How many Interfaces hold one.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Every Interface that holds a zone.
    pub fn iter(&self) -> impl Iterator<Item = (&Uuid, Zone)> {
        self.held.iter().map(|(interface, zone)| (interface, *zone))
    }

    /// The database says that `interface` holds `zone`, in whatever bridge. Gives back the Interface that had the
    /// right to it until now and has it no more.
    pub fn hold(&mut self, interface: Uuid, zone: Zone) -> Option<Uuid> {
        self.release(&interface);
        self.held.insert(interface, zone);
        let holders = self.holders.entry(zone).or_default();
        let before = holders.first().copied();
        holders.insert(interface);
        before.filter(|before| holders.first() != Some(before))
    }

    /// The Interface is gone, or has no zone any more.
    pub fn release(&mut self, interface: &Uuid) {
        let Some(zone) = self.held.remove(interface) else { return };
        if let Some(holders) = self.holders.get_mut(&zone) {
            holders.remove(interface);
            if holders.is_empty() {
                self.holders.remove(&zone);
            }
        }
    }

    /// Gives `interface` a zone that nobody holds. It has to be flushed before it is used: connections of an
    /// earlier holder may still be in it.
    pub fn assign(&mut self, interface: Uuid) -> Result<Zone, ZonesExhausted> {
        let free = (self.cursor..=LAST_ZONE)
            .chain(FIRST_ZONE..self.cursor)
            .map(Zone)
            .find(|zone| !self.holders.contains_key(zone))
            .ok_or(ZonesExhausted)?;
        self.cursor = free.0.checked_add(1).unwrap_or(FIRST_ZONE);
        self.hold(interface, free);
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_zone_is_never_given_out_twice_and_a_freed_one_last() {
        let mut zones = Zones::default();
        assert_eq!(zones.assign(interface(1)), Ok(Zone(4097)));
        zones.hold(interface(9), Zone(4098));
        assert_eq!(zones.assign(interface(2)), Ok(Zone(4099)), "4098 is another's");
        zones.release(&interface(1));
        assert_eq!(zones.of(&interface(1)), None);
        assert_eq!(zones.assign(interface(3)), Ok(Zone(4100)), "4097 was freed a moment ago");
    }

    #[test]
    fn when_all_are_used_a_freed_one_is_given_out_and_else_none() {
        let mut zones = Zones::default();
        for number in 0..=u128::from(LAST_ZONE - FIRST_ZONE) {
            zones.assign(interface(number)).unwrap();
        }
        assert_eq!(zones.assign(interface(99_999)), Err(ZonesExhausted));
        zones.release(&interface(7));
        assert_eq!(zones.assign(interface(99_999)), Ok(Zone(FIRST_ZONE + 7)));
    }

    #[test]
    fn of_two_holders_of_one_zone_the_lower_row_keeps_it() {
        let mut zones = Zones::default();
        assert_eq!(zones.hold(interface(2), Zone(5000)), None);
        assert_eq!(zones.hold(interface(1), Zone(5000)), Some(interface(2)), "2 loses it");
        assert_eq!(zones.hold(interface(3), Zone(5000)), None);
        zones.release(&interface(3));
        assert_eq!((zones.of(&interface(1)), zones.of(&interface(2))), (Some(Zone(5000)), None));
        let other = zones.assign(interface(2)).unwrap();
        assert_eq!(zones.of(&interface(2)), Some(other));
        assert_eq!(zones.of(&interface(1)), Some(Zone(5000)));
        zones.release(&interface(1));
        assert_eq!(zones.of(&interface(2)), Some(other));
    }
}
