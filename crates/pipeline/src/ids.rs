//! Small numbers for things that have long names: given out from 1, the lowest free one first, stable over restarts.

use std::collections::{BTreeMap, BTreeSet};

/// Numbers of one kind.
#[derive(Debug)]
pub(crate) struct Ids<K> {
    /// What the switch already calls them; nobody else gets these until [`Ids::forget_known`].
    known: BTreeMap<K, u32>,
    kept: BTreeSet<u32>,
    free: BTreeSet<u32>,
    next: u32,
}

impl<K: Ord> Ids<K> {
    pub(crate) fn new(known: BTreeMap<K, u32>) -> Self {
        let mut kept = BTreeSet::new();
        // Two things of one number, or number 0, are not of our making: the second gets another one.
        let known = known.into_iter().filter(|(_, id)| *id != 0 && kept.insert(*id)).collect();
        Ids { known, kept, free: BTreeSet::new(), next: 1 }
    }

    /// The number of a thing that has none yet.
    pub(crate) fn take(&mut self, key: &K) -> u32 {
        if let Some(id) = self.known.remove(key) {
            return id;
        }
        if let Some(id) = self.free.pop_first() {
            return id;
        }
        while self.kept.contains(&self.next) {
            self.next += 1;
        }
        let id = self.next;
        self.next += 1;
        id
    }

    pub(crate) fn release(&mut self, id: u32) {
        self.free.insert(id);
    }

    /// What the switch knew and nobody claimed is free from now on.
    pub(crate) fn forget_known(&mut self) {
        self.free.extend(std::mem::take(&mut self.known).into_values());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_are_kept_for_their_owners() {
        let mut ids = Ids::new(BTreeMap::from([("b", 1), ("c", 3), ("twice", 3)]));
        assert_eq!([ids.take(&"a"), ids.take(&"b"), ids.take(&"d")], [2, 1, 4]);
        ids.forget_known();
        assert_eq!([ids.take(&"e"), ids.take(&"f")], [3, 5]);
        ids.release(2);
        assert_eq!(ids.take(&"g"), 2);
    }
}
