//! Zones of ports, by their devices. What is in the kernel says which is whose after a restart: connections and zones last equally long.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{LAST_ZONE, ZonesExhausted};

/// The first zone given out. The kernel's switch tracks in the same table, where `openvswitch` gives zones out from below: while ports are moved from
/// one driver to the other both are in force, and what one of them has written on a connection would tell the other something else.
const FIRST_ZONE: u16 = 1 << 15;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct PortZones {
    /// By what the names of the port's devices end in.
    held: BTreeMap<String, u16>,
    taken: BTreeMap<u16, String>,
    /// Where the search for a free one goes on: one that was given back is the last to be given out again.
    cursor: u16,
    /// What the kernel has is known.
    is_read: bool,
}

impl Default for PortZones {
    fn default() -> Self {
        PortZones { held: BTreeMap::new(), taken: BTreeMap::new(), cursor: FIRST_ZONE, is_read: false }
    }
}

impl PortZones {
    /// What the kernel has for devices, as it is read: theirs, where they are plugged in, the first time. What it has for others is nobody's, and
    /// later it has what was told it.
    pub(super) fn read_back(&mut self, kernels: &[(String, u16)], plugged_in: &BTreeSet<&str>) {
        if !self.is_read {
            for (end, zone) in kernels.iter().filter(|(end, _)| plugged_in.contains(end.as_str())) {
                self.hold(end, *zone);
            }
            self.is_read = true;
        }
    }

    /// Somebody else may tell the kernel from now on: what it has then is whose it says.
    pub(super) fn forget(&mut self) {
        *self = PortZones { cursor: self.cursor, ..PortZones::default() };
    }

    /// One that another has already is nobody's.
    fn hold(&mut self, end: &str, zone: u16) {
        if zone >= FIRST_ZONE && !self.taken.contains_key(&zone) && !self.held.contains_key(end) {
            self.held.insert(end.to_owned(), zone);
            self.taken.insert(zone, end.to_owned());
        }
    }

    /// The zone of these devices, and whether it is a new one: it may hold connections of an earlier owner.
    ///
    /// # Errors
    /// All are in use.
    pub(super) fn provide(&mut self, end: &str) -> Result<(u16, bool), ZonesExhausted> {
        if let Some(zone) = self.held.get(end) {
            return Ok((*zone, false));
        }
        let free = (self.cursor..=LAST_ZONE)
            .chain(FIRST_ZONE..self.cursor)
            .find(|zone| !self.taken.contains_key(zone))
            .ok_or(ZonesExhausted)?;
        self.cursor = free.checked_add(1).unwrap_or(FIRST_ZONE);
        self.hold(end, free);
        Ok((free, true))
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The devices are gone.
    pub(super) fn release(&mut self, end: &str) {
        if let Some(zone) = self.held.remove(end) {
            self.taken.remove(&zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_one_ports_and_stays_so() {
        let mut zones = PortZones::default();
        zones.hold("a", 32769);
        zones.hold("b", 32769);
        zones.hold("c", 7);
        assert_eq!(zones.provide("a"), Ok((32769, false)));
        assert_eq!(zones.provide("b"), Ok((32768, true)));
        assert_eq!(zones.provide("c"), Ok((32770, true)));
        zones.release("b");
        assert_eq!(zones.provide("d"), Ok((32771, true)), "32768 was given back a moment ago");
        assert_eq!(zones.provide("a"), Ok((32769, false)));
    }

    #[test]
    fn what_the_kernel_has_is_held_once_and_for_what_is_plugged_in() {
        let mut zones = PortZones::default();
        let kernels = [("a".to_owned(), 32768), ("gone".to_owned(), 32769)];
        zones.read_back(&kernels, &["a", "b"].into());
        assert_eq!(zones.provide("a"), Ok((32768, false)));
        assert_eq!(zones.provide("b"), Ok((32769, true)), "whose it was is gone");
        zones.release("a");
        zones.read_back(&kernels, &["a"].into());
        assert_eq!(zones.provide("a"), Ok((32770, true)), "it was given back: it may be another's by now");
        zones.forget();
        zones.read_back(&[("a".to_owned(), 32771), ("b".to_owned(), 32770)], &["a", "b"].into());
        assert_eq!(zones.provide("a"), Ok((32771, false)), "another was at work, and gave it out");
        assert_eq!(zones.provide("b"), Ok((32770, false)));
    }
}
