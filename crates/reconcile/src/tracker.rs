use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};

/// One step from the actual to the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<K, V> {
    /// The object is wanted and not there.
    Add {
        /// Which object.
        key: K,
        /// What it shall be.
        new: V,
    },
    /// The object is there with another value.
    Modify {
        /// Which object.
        key: K,
        /// What it is now.
        old: V,
        /// What it shall be.
        new: V,
    },
    /// The object is there and not wanted.
    Delete {
        /// Which object.
        key: K,
        /// What it is now.
        old: V,
    },
}

impl<K, V> Change<K, V> {
    /// The object that the change is about.
    pub fn key(&self) -> &K {
        match self {
            Change::Add { key, .. } | Change::Modify { key, .. } | Change::Delete { key, .. } => key,
        }
    }

    /// The value after the change; `None` when the object goes away.
    pub fn new_value(&self) -> Option<&V> {
        match self {
            Change::Add { new, .. } | Change::Modify { new, .. } => Some(new),
            Change::Delete { .. } => None,
        }
    }

    /// The value before the change; `None` when the object is new.
    pub fn old_value(&self) -> Option<&V> {
        match self {
            Change::Modify { old, .. } | Change::Delete { old, .. } => Some(old),
            Change::Add { .. } => None,
        }
    }
}

/// Where desired and actual agree the value is kept once: nearly every flow of a converged switch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pair<V> {
    Same(V),
    Differ { desired: Option<V>, actual: Option<V> },
}

impl<V: Eq> Pair<V> {
    fn of(desired: Option<V>, actual: Option<V>) -> Option<Self> {
        match (desired, actual) {
            (None, None) => None,
            (Some(d), Some(a)) if d == a => Some(Pair::Same(d)),
            (desired, actual) => Some(Pair::Differ { desired, actual }),
        }
    }

    fn desired(&self) -> Option<&V> {
        match self {
            Pair::Same(v) => Some(v),
            Pair::Differ { desired, .. } => desired.as_ref(),
        }
    }

    fn actual(&self) -> Option<&V> {
        match self {
            Pair::Same(v) => Some(v),
            Pair::Differ { actual, .. } => actual.as_ref(),
        }
    }
}

/// The desired and the actual map of a datapath, and the keys where they differ.
///
/// Every operation costs O(log n) a key it names; [`Tracker::pending`] costs the differences, not the maps.
#[derive(Clone, Debug)]
pub struct Tracker<K, V> {
    pairs: BTreeMap<K, Pair<V>>,
    pending: BTreeSet<K>,
}

impl<K, V> Default for Tracker<K, V> {
    fn default() -> Self {
        Tracker { pairs: BTreeMap::new(), pending: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V: Eq + Clone> Tracker<K, V> {
    /// Nothing wanted, nothing there.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `key` shall be `value`.
    pub fn want(&mut self, key: K, value: V) {
        self.update(key, |_, actual| (Some(value), actual));
    }

    /// From now on `key` shall not be there.
    pub fn unwant(&mut self, key: K) {
        self.update(key, |_, actual| (None, actual));
    }

    /// From now on `key` shall be this, or not be there; whether it was to be there until now.
    pub fn wish(&mut self, key: K, value: Option<V>) -> bool {
        self.update(key, |_, actual| (value, actual))
    }

    /// The datapath was seen to hold `value` at `key`.
    pub fn saw(&mut self, key: K, value: V) {
        self.update(key, |desired, _| (desired, Some(value)));
    }

    /// The datapath was seen not to hold `key`.
    pub fn lost(&mut self, key: K) {
        self.update(key, |desired, _| (desired, None));
    }

    /// The datapath was read back whole: `seen` is everything it holds.
    pub fn replace_actual(&mut self, seen: impl IntoIterator<Item = (K, V)>) {
        let mut seen: BTreeMap<K, V> = seen.into_iter().collect();
        let gone: Vec<K> = self
            .pairs
            .iter()
            .filter(|(key, pair)| pair.actual().is_some() && !seen.contains_key(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.lost(key);
        }
        while let Some((key, value)) = seen.pop_first() {
            self.saw(key, value);
        }
    }

    /// Every difference, in the order of the keys.
    pub fn pending(&self) -> Vec<Change<K, V>> {
        let mut changes = Vec::with_capacity(self.pending.len());
        changes.extend(self.pending.iter().filter_map(|key| self.change(key)));
        changes
    }

    /// True when the datapath holds what is wanted and nothing else.
    pub fn is_converged(&self) -> bool {
        self.pending.is_empty()
    }

    /// These changes have been made in the datapath. What was wanted meanwhile stays pending.
    pub fn confirm(&mut self, changes: impl IntoIterator<Item = Change<K, V>>) {
        for change in changes {
            match change {
                Change::Add { key, new } | Change::Modify { key, new, .. } => self.saw(key, new),
                Change::Delete { key, .. } => self.lost(key),
            }
        }
    }

    /// What is wanted at `key`.
    pub fn desired(&self, key: &K) -> Option<&V> {
        self.pairs.get(key).and_then(Pair::desired)
    }

    /// What the datapath holds at `key`, as far as is known.
    pub fn actual(&self, key: &K) -> Option<&V> {
        self.pairs.get(key).and_then(Pair::actual)
    }

    /// Everything wanted, in the order of the keys.
    pub fn iter_desired(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pairs.iter().filter_map(|(key, pair)| pair.desired().map(|value| (key, value)))
    }

    /// How many objects are wanted. Costs the differences, not the maps.
    pub fn desired_count(&self) -> usize {
        let unwanted = self.pending.iter().filter(|key| self.desired(key).is_none()).count();
        self.pairs.len() - unwanted
    }

    /// How many objects the datapath holds, as far as is known. Costs the differences, not the maps.
    pub fn actual_count(&self) -> usize {
        let missing = self.pending.iter().filter(|key| self.actual(key).is_none()).count();
        self.pairs.len() - missing
    }

    /// Everything the datapath holds, as far as is known, in the order of the keys.
    pub fn iter_actual(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pairs.iter().filter_map(|(key, pair)| pair.actual().map(|value| (key, value)))
    }

    fn change(&self, key: &K) -> Option<Change<K, V>> {
        match self.pairs.get(key)? {
            Pair::Same(_) => None,
            Pair::Differ { desired, actual } => match (desired.clone(), actual.clone()) {
                (Some(new), None) => Some(Change::Add { key: key.clone(), new }),
                (Some(new), Some(old)) => Some(Change::Modify { key: key.clone(), old, new }),
                (None, Some(old)) => Some(Change::Delete { key: key.clone(), old }),
                (None, None) => None,
            },
        }
    }

    /// Whether `key` was wanted before.
    fn update(
        &mut self,
        key: K,
        change: impl FnOnce(Option<V>, Option<V>) -> (Option<V>, Option<V>),
    ) -> bool {
        let entry = self.pairs.entry(key);
        let key = entry.key().clone();
        let (desired, actual) = match &entry {
            MapEntry::Vacant(_) => (None, None),
            MapEntry::Occupied(pair) => (pair.get().desired().cloned(), pair.get().actual().cloned()),
        };
        let was_wanted = desired.is_some();
        let (desired, actual) = change(desired, actual);
        let pair = Pair::of(desired, actual);
        if matches!(pair, Some(Pair::Differ { .. })) {
            self.pending.insert(key);
        } else {
            self.pending.remove(&key);
        }
        match (entry, pair) {
            (MapEntry::Vacant(_), None) => {}
            (MapEntry::Vacant(vacant), Some(pair)) => {
                vacant.insert(pair);
            }
            (MapEntry::Occupied(mut occupied), Some(pair)) => {
                occupied.insert(pair);
            }
            (MapEntry::Occupied(occupied), None) => {
                occupied.remove();
            }
        }
        was_wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Want(u8, u8),
        Unwant(u8),
        Saw(u8, u8),
        Lost(u8),
        ReadBack(Vec<(u8, u8)>),
        Apply,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (key, value) = (0u8..6, 0u8..3);
        prop_oneof![
            (key.clone(), value.clone()).prop_map(|(k, v)| Step::Want(k, v)),
            key.clone().prop_map(Step::Unwant),
            (key.clone(), value.clone()).prop_map(|(k, v)| Step::Saw(k, v)),
            key.clone().prop_map(Step::Lost),
            proptest::collection::vec((key, value), 0..6).prop_map(Step::ReadBack),
            Just(Step::Apply),
        ]
    }

    /// Applies a change to a map as a datapath would; a change that does not fit what is there is a failure.
    fn apply(datapath: &mut BTreeMap<u8, u8>, change: &Change<u8, u8>) {
        let before = match change {
            Change::Add { key, new } | Change::Modify { key, new, .. } => datapath.insert(*key, *new),
            Change::Delete { key, .. } => datapath.remove(key),
        };
        assert_eq!(before.as_ref(), change.old_value(), "{change:?} does not fit the datapath");
    }

    proptest! {
        /// The tracker against two plain maps.
        #[test]
        fn agrees_with_two_maps(steps in proptest::collection::vec(step(), 0..60)) {
            let mut tracker = Tracker::new();
            let (mut desired, mut actual) = (BTreeMap::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Want(k, v) => {
                        let before = desired.insert(k, v);
                        prop_assert_eq!(tracker.wish(k, Some(v)), before.is_some());
                    }
                    Step::Unwant(k) => {
                        let before = desired.remove(&k);
                        prop_assert_eq!(tracker.wish(k, None), before.is_some());
                    }
                    Step::Saw(k, v) => { tracker.saw(k, v); actual.insert(k, v); }
                    Step::Lost(k) => { tracker.lost(k); actual.remove(&k); }
                    Step::ReadBack(all) => {
                        actual = all.iter().copied().collect();
                        tracker.replace_actual(all);
                    }
                    Step::Apply => {
                        let changes = tracker.pending();
                        for change in &changes { apply(&mut actual, change); }
                        tracker.confirm(changes);
                        prop_assert!(tracker.is_converged());
                        prop_assert_eq!(&actual, &desired);
                    }
                }
                prop_assert!(tracker.iter_desired().eq(desired.iter()));
                prop_assert_eq!(tracker.desired_count(), desired.len());
                prop_assert_eq!(tracker.actual_count(), actual.len());
                prop_assert!(tracker.iter_actual().eq(actual.iter()));
                prop_assert_eq!(tracker.is_converged(), desired == actual);
            }
        }
    }

    #[test]
    fn what_was_wanted_while_a_plan_was_in_flight_stays_pending() {
        let mut tracker = Tracker::new();
        tracker.want("flow", 1);
        let plan = tracker.pending();
        tracker.want("flow", 2);
        tracker.confirm(plan);
        assert_eq!(tracker.pending(), [Change::Modify { key: "flow", old: 1, new: 2 }]);
    }
}
