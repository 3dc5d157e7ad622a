//! Sorted entries in pieces that are shared between versions: what sets and maps of atoms are made of.
//!
//! A group's members are one column, of up to tens of thousands, and most changes are of one. So a copy is a list
//! of pointers, a change copies the one piece it falls into, and two versions are compared without looking
//! into the pieces that they share. With n entries, pieces of B and d differences: d (B + log n) + n / B, of which
//! the last is a copied pointer each.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Atom;

/// Entries ordered by key, each key once. No piece is empty.
#[derive(Debug, Clone)]
pub(super) struct Chunks<V> {
    chunks: Vec<Arc<Vec<Entry<V>>>>,
    len: usize,
}

type Entry<V> = (Atom, V);

/// Most entries of a piece; near the square root of the largest sets there are.
const MOST: usize = 128;
/// Entries of a piece of a set that is made at once: there is room for more.
const AT_FIRST: usize = MOST / 4 * 3;

/// A key for which two versions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Differing<'a, V> {
    Gone(&'a Entry<V>),
    Come(&'a Entry<V>),
    Changed(&'a Entry<V>, &'a Entry<V>),
}

impl<V> Chunks<V> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<V>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub(super) fn get(&self, key: &Atom) -> Option<&V> {
        let place = self.place(key);
        let chunk = self.chunks.get(place)?;
        find(chunk, key).ok().map(|index| &chunk[index].1)
    }

    /// The piece that holds `key`, or would.
    fn place(&self, key: &Atom) -> usize {
        let starts_before = |chunk: &Arc<Vec<Entry<V>>>| chunk.first().is_some_and(|(first, _)| first <= key);
        self.chunks.partition_point(starts_before).saturating_sub(1)
    }

    /// What differs between `self` and a later version, by key.
    pub(super) fn differences<'a>(&'a self, new: &'a Self) -> Differences<'a, V> {
        Differences { old: Cursor::new(self), new: Cursor::new(new) }
    }
}

impl<V: Clone> Chunks<V> {
    /// Gives back the value that the key had.
    pub(super) fn insert(&mut self, key: Atom, value: V) -> Option<V> {
        let place = self.place(&key);
        let Some(chunk) = self.chunks.get_mut(place) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let found = find(chunk, &key);
        let entries = Arc::make_mut(chunk);
        match found {
            Ok(index) => return Some(std::mem::replace(&mut entries[index].1, value)),
            Err(index) => entries.insert(index, (key, value)),
        }
        self.len += 1;
        if entries.len() > MOST {
            let upper = entries.split_off(MOST / 2);
            self.chunks.insert(place + 1, Arc::new(upper));
        }
        None
    }

    /// Gives back the value that the key had.
    pub(super) fn remove(&mut self, key: &Atom) -> Option<V> {
        let place = self.place(key);
        let chunk = self.chunks.get_mut(place)?;
        let index = find(chunk, key).ok()?;
        let (_, value) = Arc::make_mut(chunk).remove(index);
        self.len -= 1;
        self.tidy(place);
        Some(value)
    }

    /// Joins a piece that got small with one beside it, so that there are never many more than need be.
    fn tidy(&mut self, place: usize) {
        if self.chunks[place].is_empty() {
            self.chunks.remove(place);
            return;
        }
        let joins = |left: &usize| {
            let pair = self.chunks.get(*left..left + 2);
            pair.is_some_and(|pair| pair[0].len() + pair[1].len() <= MOST / 2)
        };
        if let Some(left) = [place.saturating_sub(1), place].into_iter().find(joins) {
            let right = self.chunks.remove(left + 1);
            Arc::make_mut(&mut self.chunks[left]).extend(right.iter().cloned());
        }
    }
}

fn find<V>(chunk: &[Entry<V>], key: &Atom) -> Result<usize, usize> {
    chunk.binary_search_by(|(present, _)| present.cmp(key))
}

/// Of a key that comes twice, the last one holds.
impl<V> FromIterator<Entry<V>> for Chunks<V> {
    fn from_iter<I: IntoIterator<Item = Entry<V>>>(entries: I) -> Self {
        let mut entries: Vec<Entry<V>> = entries.into_iter().collect();
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        entries.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        let len = entries.len();
        let mut chunks = Vec::with_capacity(len.div_ceil(AT_FIRST));
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            chunks.push(Arc::new(entries.by_ref().take(AT_FIRST).collect()));
        }
        Self { chunks, len }
    }
}

impl<V: PartialEq> PartialEq for Chunks<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).next().is_none()
    }
}

impl<V: Eq> Eq for Chunks<V> {}

impl<V: Ord> PartialOrd for Chunks<V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<V: Ord> Ord for Chunks<V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl<V: Hash> Hash for Chunks<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

/// See [`Chunks::differences`].
#[derive(Debug)]
pub(super) struct Differences<'a, V> {
    old: Cursor<'a, V>,
    new: Cursor<'a, V>,
}

/// The entries that are not passed yet: those of the pieces, without the first few of the first.
#[derive(Debug)]
struct Cursor<'a, V> {
    chunks: &'a [Arc<Vec<Entry<V>>>],
    passed: usize,
}

impl<'a, V> Cursor<'a, V> {
    fn new(chunks: &'a Chunks<V>) -> Self {
        Self { chunks: &chunks.chunks, passed: 0 }
    }

    fn peek(&self) -> Option<&'a Entry<V>> {
        self.chunks.first()?.get(self.passed)
    }

    fn pass(&mut self) {
        self.passed += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.passed) {
            self.pass_chunk();
        }
    }

    fn pass_chunk(&mut self) {
        self.chunks = self.chunks.get(1..).unwrap_or_default();
        self.passed = 0;
    }

    /// The piece that begins here.
    fn whole(&self) -> Option<&'a Arc<Vec<Entry<V>>>> {
        self.chunks.first().filter(|_| self.passed == 0)
    }
}

impl<'a, V: PartialEq> Iterator for Differences<'a, V> {
    type Item = Differing<'a, V>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Both come to the beginning of a shared piece together, for all before it is less.
            while let (Some(old), Some(new)) = (self.old.whole(), self.new.whole())
                && Arc::ptr_eq(old, new)
            {
                self.old.pass_chunk();
                self.new.pass_chunk();
            }
            let (old, new) = match (self.old.peek(), self.new.peek()) {
                (None, None) => return None,
                (Some(old), None) => {
                    self.old.pass();
                    return Some(Differing::Gone(old));
                }
                (None, Some(new)) => {
                    self.new.pass();
                    return Some(Differing::Come(new));
                }
                (Some(old), Some(new)) => (old, new),
            };
            let order = old.0.cmp(&new.0);
            if order.is_le() {
                self.old.pass();
            }
            if order.is_ge() {
                self.new.pass();
            }
            match order {
                Ordering::Less => return Some(Differing::Gone(old)),
                Ordering::Greater => return Some(Differing::Come(new)),
                Ordering::Equal if old.1 != new.1 => return Some(Differing::Changed(old, new)),
                Ordering::Equal => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Atom, u8>;

    fn check(chunks: &Chunks<u8>, model: &Model) -> Result<(), TestCaseError> {
        prop_assert_eq!(chunks.len(), model.len());
        prop_assert!(chunks.iter().map(|(key, value)| (key, value)).eq(model));
        prop_assert!(chunks.chunks.iter().all(|chunk| (1..=MOST).contains(&chunk.len())));
        // Two neighbours hold more than half a piece, so the pieces are not many more than need be.
        prop_assert!(chunks.chunks.windows(2).all(|pair| pair[0].len() + pair[1].len() > MOST / 2));
        Ok(())
    }

    fn differences(old: &Model, new: &Model) -> Vec<(Atom, Option<u8>, Option<u8>)> {
        let keys: std::collections::BTreeSet<&Atom> = old.keys().chain(new.keys()).collect();
        keys.into_iter()
            .map(|key| (key.clone(), old.get(key).copied(), new.get(key).copied()))
            .filter(|(_, old, new)| old != new)
            .collect()
    }

    proptest! {
        /// Large enough for pieces to be split and joined.
        #[test]
        fn it_does_as_a_map_does_and_its_versions_differ_as_those_do(
            first in prop::collection::vec((0_i64..2000, 0_u8..3), 0..1500),
            steps in prop::collection::vec((0_i64..2000, prop::option::of(0_u8..3)), 0..600),
            cleared in (0_i64..2000, 0_i64..2000),
        ) {
            let first = first.into_iter().map(|(key, value)| (Atom::from(key), value));
            let mut chunks: Chunks<u8> = first.clone().collect();
            let mut model: Model = first.collect();
            check(&chunks, &model)?;
            let (before, model_before) = (chunks.clone(), model.clone());
            let cleared = (cleared.0..cleared.1).map(|key| (key, None));
            for (key, value) in steps.into_iter().chain(cleared) {
                let key = Atom::from(key);
                prop_assert_eq!(chunks.get(&key), model.get(&key));
                match value {
                    Some(value) => prop_assert_eq!(chunks.insert(key.clone(), value), model.insert(key, value)),
                    None => prop_assert_eq!(chunks.remove(&key), model.remove(&key)),
                }
            }
            check(&chunks, &model)?;
            check(&before, &model_before)?;
            let found: Vec<_> = before
                .differences(&chunks)
                .map(|difference| match difference {
                    Differing::Gone((key, old)) => (key.clone(), Some(*old), None),
                    Differing::Come((key, new)) => (key.clone(), None, Some(*new)),
                    Differing::Changed((key, old), (_, new)) => (key.clone(), Some(*old), Some(*new)),
                })
                .collect();
            prop_assert_eq!(found, differences(&model_before, &model));
            prop_assert_eq!(before == chunks, model_before == model);
            prop_assert_eq!(before.cmp(&chunks), model_before.cmp(&model));
            // Equal is equal, wherever the pieces begin.
            let rebuilt: Chunks<u8> = model.into_iter().collect();
            prop_assert_eq!(rebuilt, chunks);
        }
    }

    #[test]
    fn a_change_copies_the_piece_it_falls_into() {
        let old: Chunks<()> = (0..20_000_i64).map(|number| (Atom::from(number), ())).collect();
        let mut new = old.clone();
        new.insert(Atom::from(20_000), ());
        new.remove(&Atom::from(10_000));
        let is_shared =
            |chunk: &&Arc<Vec<Entry<()>>>| old.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        assert_eq!(new.chunks.iter().filter(|chunk| !is_shared(chunk)).count(), 2);
        // Nobody else holds these two: they are changed where they are.
        let places: Vec<_> = new.chunks.iter().map(Arc::as_ptr).collect();
        new.remove(&Atom::from(20_000));
        new.insert(Atom::from(10_000), ());
        assert_eq!(new.chunks.iter().map(Arc::as_ptr).collect::<Vec<_>>(), places);
        assert_eq!(new, old);
    }
}
