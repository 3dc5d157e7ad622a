//! Objects that are gone, so that what is said late of them does not revive them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::known::Told;
use crate::rpc::object::{Kind, Object};

/// The last so many are remembered.
const LIMIT: usize = 100_000;

/// How an object went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gone {
    /// The server said so. Ids are never used again, so this is for good.
    Deleted,
    /// It was not among those that the server has; it had this revision.
    Missing(u64),
}

#[derive(Clone, Copy, Debug)]
struct Tombstone {
    how: Gone,
    at: Duration,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Tombstones {
    by_id: BTreeMap<(Kind, String), Tombstone>,
    order: VecDeque<(Kind, String, Duration)>,
    /// When the youngest that is forgotten was set.
    forgotten: Option<Duration>,
}

impl Tombstones {
    pub(super) fn set(&mut self, kind: Kind, id: &str, how: Gone, at: Duration) {
        self.by_id.insert((kind, id.to_owned()), Tombstone { how, at });
        self.order.push_back((kind, id.to_owned(), at));
        while self.order.len() > LIMIT {
            let Some((kind, id, at)) = self.order.pop_front() else { break };
            let key = (kind, id);
            if self.by_id.get(&key).is_some_and(|tombstone| tombstone.at == at) {
                self.by_id.remove(&key);
                self.forgotten = Some(at);
            }
        }
    }

    /// Whether one that was set since then is forgotten.
    pub(super) fn forgot_since(&self, then: Duration) -> bool {
        self.forgotten.is_some_and(|at| at >= then)
    }

    pub(super) fn is_deleted(&self, kind: Kind, id: &str) -> bool {
        self.by_id.get(&(kind, id.to_owned())).is_some_and(|tombstone| tombstone.how == Gone::Deleted)
    }

    /// Whether what is told of the object is older than its end. If it was missing and is not any more, its tombstone goes.
    pub(super) fn refuses(&mut self, object: &Object, told: Told) -> bool {
        let key = (object.body.kind(), object.id.clone());
        let Some(Tombstone { how, at }) = self.by_id.get(&key) else { return false };
        let is_late = match (how, told) {
            (Gone::Deleted, _) => true,
            (Gone::Missing(revision), Told::Pushed(_)) => object.revision <= *revision,
            (Gone::Missing(_), Told::Pulled { sent }) => sent < *at,
        };
        if !is_late {
            self.by_id.remove(&key);
        }
        is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::object::Body;

    #[test]
    fn the_oldest_are_forgotten_and_that_is_known() {
        let mut tombstones = Tombstones::default();
        let object =
            |id: usize| Object { id: id.to_string(), revision: 9, body: Body::AddressGroup(String::new()) };
        let (kind, second) = (Kind::AddressGroup, Duration::from_secs(1));
        for id in 0..=LIMIT {
            tombstones.set(kind, &id.to_string(), Gone::Deleted, second * u32::from(id > 0));
        }
        assert!(!tombstones.refuses(&object(0), Told::Pushed(second * 2)));
        assert!(tombstones.refuses(&object(1), Told::Pushed(second * 2)));
        assert!(tombstones.forgot_since(Duration::ZERO) && !tombstones.forgot_since(second));
        assert_eq!(tombstones.by_id.len(), LIMIT);
    }

    #[test]
    fn what_was_missing_may_be_found() {
        let (kind, second) = (Kind::AddressGroup, Duration::from_secs(1));
        let object = |revision| Object { id: "a".into(), revision, body: Body::AddressGroup(String::new()) };
        let mut tombstones = Tombstones::default();
        tombstones.set(kind, "a", Gone::Missing(3), second * 5);
        assert!(tombstones.refuses(&object(3), Told::Pushed(second * 9)), "said late");
        assert!(tombstones.refuses(&object(3), Told::Pulled { sent: second * 4 }), "asked before");
        assert!(!tombstones.clone().refuses(&object(4), Told::Pushed(second * 9)), "changed since");
        assert!(!tombstones.refuses(&object(3), Told::Pulled { sent: second * 6 }), "asked afterwards");
    }
}
