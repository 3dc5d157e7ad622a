//! What flows have counted, with what those did that are gone or began anew: a sum never falls. Pure.

use std::collections::BTreeMap;

use super::book::Count;

/// See the module's documentation. Flows are told apart by a key, and summed up by a class.
#[derive(Debug)]
pub(super) struct Ledger<K, C> {
    held: BTreeMap<K, (C, Count)>,
    gone: BTreeMap<C, Count>,
}

impl<K: Ord, C: Ord + Copy> Ledger<K, C> {
    pub(super) fn new() -> Self {
        Ledger { held: BTreeMap::new(), gone: BTreeMap::new() }
    }

    /// What all flows count now that there are.
    pub(super) fn read(&mut self, now: impl IntoIterator<Item = (K, C, Count)>) {
        let mut before = std::mem::take(&mut self.held);
        for (key, class, count) in now {
            if let Some((class, last)) = before.remove(&key)
                && count.packets < last.packets
            {
                *self.gone.entry(class).or_default() += last;
            }
            self.held.insert(key, (class, count));
        }
        for (class, last) in before.into_values() {
            *self.gone.entry(class).or_default() += last;
        }
    }

    /// By class.
    pub(super) fn sums(&self) -> BTreeMap<C, Count> {
        let mut sums = self.gone.clone();
        for (class, count) in self.held.values() {
            *sums.entry(*class).or_default() += *count;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_never_falls() {
        let count = |packets| Count { packets, bytes: packets * 60 };
        let mut ledger = Ledger::new();
        ledger.read([("a", 'x', count(5)), ("b", 'x', count(2)), ("c", 'y', count(1))]);
        assert_eq!(ledger.sums(), [('x', count(7)), ('y', count(1))].into());
        // One is gone, one began anew, one comes.
        ledger.read([("a", 'x', count(1)), ("c", 'y', count(3)), ("d", 'x', count(4))]);
        assert_eq!(ledger.sums(), [('x', count(12)), ('y', count(3))].into());
        ledger.read([]);
        assert_eq!(ledger.sums(), [('x', count(12)), ('y', count(3))].into());
        ledger.read([("a", 'x', count(2))]);
        assert_eq!(ledger.sums(), [('x', count(14)), ('y', count(3))].into());
    }
}
