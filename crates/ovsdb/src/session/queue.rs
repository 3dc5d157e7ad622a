//! Events that wait for their reader, in bounded room.
//!
//! A reader that does not keep up must not stop the connection (the server would take us for dead, and a reader
//! that waits for a transaction would wait for itself), nor fill the memory. So, beyond a bound, the events that
//! wait are merged: what is lost are intermediate states, never the last one.

use std::collections::{BTreeMap, VecDeque};

use super::SessionEvent;
use crate::replica::Change;

/// Events in order, merged where they get too many.
#[derive(Debug)]
pub(super) struct EventQueue {
    events: VecDeque<SessionEvent>,
    /// Events and changes within them.
    size: usize,
    /// Merge above this size. Grows with what a merge leaves, so that merging costs little for each change.
    merge_above: usize,
    bound: usize,
}

/// Events and changes that wait before they are merged.
pub(super) const DEFAULT_BOUND: usize = 16_384;

impl EventQueue {
    pub(super) const fn new(bound: usize) -> Self {
        Self { events: VecDeque::new(), size: 0, merge_above: bound, bound }
    }

    pub(super) fn push(&mut self, event: SessionEvent) {
        self.size += size_of_event(&event);
        // `Connected` is told together with the update that follows at once.
        let is_half = event == SessionEvent::Connected;
        self.events.push_back(event);
        // A single event cannot be merged with anything.
        if self.size > self.merge_above && self.events.len() > 1 && !is_half {
            self.merge();
        }
    }

    pub(super) fn pop(&mut self) -> Option<SessionEvent> {
        let event = self.events.pop_front()?;
        self.size -= size_of_event(&event);
        if self.events.is_empty() {
            self.merge_above = self.bound;
        }
        Some(event)
    }

    /// Leaves at most one of each: `Disconnected`, `Connected`, `Update`; and one event a lock.
    fn merge(&mut self) {
        let mut rows = MergedRows::default();
        let mut disconnected = None;
        let mut connected = false;
        let mut locks = BTreeMap::new();
        for event in self.events.drain(..) {
            match event {
                SessionEvent::Update(changes) => changes.into_iter().for_each(|change| rows.add(change)),
                SessionEvent::Connected => connected = true,
                SessionEvent::Disconnected { reason } => {
                    // Every lock went with the connection.
                    locks.clear();
                    connected = false;
                    disconnected = Some(reason);
                }
                SessionEvent::Locked(name) => {
                    locks.insert(name.clone(), SessionEvent::Locked(name));
                }
                SessionEvent::Stolen(name) => {
                    locks.insert(name.clone(), SessionEvent::Stolen(name));
                }
            }
        }
        let changes = rows.into_changes();
        let update = (connected || !changes.is_empty()).then_some(SessionEvent::Update(changes));
        let disconnected = disconnected.map(|reason| SessionEvent::Disconnected { reason });
        if connected {
            self.events.extend(disconnected);
            self.events.push_back(SessionEvent::Connected);
            self.events.extend(update);
        } else {
            self.events.extend(update);
            self.events.extend(disconnected);
        }
        self.events.extend(locks.into_values());
        self.size = self.events.iter().map(size_of_event).sum();
        self.merge_above = self.size.saturating_mul(2).max(self.bound);
    }
}

fn size_of_event(event: &SessionEvent) -> usize {
    if let SessionEvent::Update(changes) = event { 1 + changes.len() } else { 1 }
}

/// The changes of several updates, one a row, in the order in which the rows were first touched.
#[derive(Default)]
struct MergedRows {
    changes: Vec<Option<Change>>,
    places: BTreeMap<(std::sync::Arc<str>, crate::value::Uuid), usize>,
}

impl MergedRows {
    fn add(&mut self, change: Change) {
        let key = (change.table.clone(), change.uuid);
        let Some(&place) = self.places.get(&key) else {
            self.places.insert(key, self.changes.len());
            self.changes.push(Some(change));
            return;
        };
        // Where the merge so far is no change at all, the reader holds what this change begins with.
        let first = self.changes[place].as_ref().unwrap_or(&change);
        let old = first.old_row().cloned();
        self.changes[place] = Change::between(&change.table, change.uuid, old, change.new_row().cloned());
    }

    /// What went first, as in a single update.
    fn into_changes(self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.changes.into_iter().flatten().collect();
        changes.sort_by_key(|change| change.new_row().is_some());
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::replica::Replica;
    use crate::row::Row;
    use crate::value::{Atom, AtomMap, ColumnDifference, Datum, Uuid};

    /// With a scalar, and a set and a map of those of 64 numbers that have a bit in `members`.
    fn row(uuid: Uuid, (value, members): (i64, u64)) -> Arc<Row> {
        let numbers = || (0..64).filter(|bit| members >> bit & 1 == 1).map(Atom::Integer);
        let columns = BTreeMap::from([
            ("n".into(), Datum::Scalar(Atom::Integer(value))),
            ("set".into(), Datum::Set(numbers().collect())),
            ("map".into(), Datum::Map(numbers().map(|key| (key, Atom::Integer(value))).collect())),
        ]);
        Arc::new(Row::new("T".into(), uuid, columns))
    }

    fn names(queue: &mut EventQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|event| match event {
                SessionEvent::Update(changes) => format!("update {}", changes.len()),
                SessionEvent::Connected => "connected".into(),
                SessionEvent::Disconnected { reason } => format!("disconnected {reason}"),
                SessionEvent::Locked(name) => format!("locked {name}"),
                SessionEvent::Stolen(name) => format!("stolen {name}"),
            })
            .collect()
    }

    #[test]
    fn beyond_the_bound_the_last_state_of_everything_is_left() {
        let mut queue = EventQueue::new(8);
        queue.push(SessionEvent::Locked("a".into()));
        for round in 0..100 {
            queue.push(SessionEvent::Disconnected { reason: round.to_string() });
            queue.push(SessionEvent::Connected);
            queue.push(SessionEvent::Update(Vec::new()));
            queue.push(SessionEvent::Locked("b".into()));
            assert!(queue.events.len() <= 12, "{queue:?}");
        }
        queue.merge();
        assert_eq!(names(&mut queue), ["disconnected 99", "connected", "update 0", "locked b"]);
    }

    #[test]
    fn below_the_bound_nothing_is_touched() {
        let mut queue = EventQueue::new(8);
        queue.push(SessionEvent::Locked("a".into()));
        queue.push(SessionEvent::Stolen("a".into()));
        queue.push(SessionEvent::Update(Vec::new()));
        assert_eq!(names(&mut queue), ["locked a", "stolen a", "update 0"]);
    }

    proptest! {
        /// Whatever is merged, a reader that applies what it gets ends with the same rows, and each change and each
        /// difference of a column fits what the reader holds.
        #[test]
        fn merged_changes_lead_to_the_same_rows(
            bound in 1_usize..12,
            steps in prop::collection::vec((0_u128..4, prop::option::of((0_i64..3, any::<u64>())), any::<bool>()), 0..60),
        ) {
            let mut truth = Replica::new();
            let mut reader = Replica::new();
            let mut queue = EventQueue::new(bound);
            for (number, value, read) in steps {
                let uuid = Uuid::from_u128(number);
                let new = value.map(|value| row(uuid, value));
                let old = truth.row("T", uuid).cloned();
                let change = Change::between(&"T".into(), uuid, old, new);
                truth.apply(&change);
                queue.push(SessionEvent::Update(change.into_iter().collect()));
                if read {
                    deliver(&mut queue, &mut reader)?;
                }
            }
            while !queue.events.is_empty() {
                deliver(&mut queue, &mut reader)?;
            }
            prop_assert_eq!(reader, truth);
        }
    }

    /// The new value is the old one without what went and with what came; and nothing else went or came.
    fn fits(change: &Change, column: &str, difference: &ColumnDifference) -> bool {
        let elements = |datum: &Datum| -> BTreeSet<(Atom, Option<Atom>)> {
            let pairs = datum.as_map().into_iter().flat_map(AtomMap::iter);
            let pairs = pairs.map(|(key, value)| (key.clone(), Some(value.clone())));
            datum.atoms().map(|atom| (atom.clone(), None)).chain(pairs).collect()
        };
        let of =
            |row: Option<&Arc<Row>>| row.map(|row| elements(row.datum(column).unwrap())).unwrap_or_default();
        let (old, new) = (of(change.old_row()), of(change.new_row()));
        elements(&difference.removed) == &old - &new && elements(&difference.added) == &new - &old
    }

    fn deliver(queue: &mut EventQueue, reader: &mut Replica) -> Result<(), TestCaseError> {
        let Some(SessionEvent::Update(changes)) = queue.pop() else { return Ok(()) };
        for change in &changes {
            prop_assert_eq!(change.old_row(), reader.row("T", change.uuid));
            for column in ["n", "set", "map"] {
                prop_assert!(
                    change.column_difference(column).is_some_and(|found| fits(change, column, &found))
                );
            }
            prop_assert_eq!(change.column_difference("none"), None);
            reader.apply([change]);
        }
        Ok(())
    }
}
