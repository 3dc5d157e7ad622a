//! Locks: RFC 7047 §4.1.8 to §4.1.10.

use std::collections::{BTreeMap, VecDeque};

use super::ConnectionId;

/// Name → clients; the first one holds the lock, the others wait in order.
#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<String, VecDeque<ConnectionId>>);

impl Locks {
    pub(super) fn owner(&self, name: &str) -> Option<ConnectionId> {
        self.0.get(name)?.front().copied()
    }

    /// Queues the client; true if it has the lock. `None`: it asked before.
    pub(super) fn lock(&mut self, name: &str, client: ConnectionId) -> Option<bool> {
        let queue = self.0.entry(name.to_owned()).or_default();
        if queue.contains(&client) {
            return None;
        }
        queue.push_back(client);
        Some(queue.len() == 1)
    }

    /// Gives the lock to the client; tells who had it, and is now the first to wait. `None`: the client asked
    /// before.
    pub(super) fn steal(&mut self, name: &str, client: ConnectionId) -> Option<Option<ConnectionId>> {
        let queue = self.0.entry(name.to_owned()).or_default();
        if queue.contains(&client) {
            return None;
        }
        let robbed = queue.front().copied();
        queue.push_front(client);
        Some(robbed)
    }

    /// Takes the client out; tells who has the lock now, if it was the client's. `None`: it never asked.
    pub(super) fn unlock(&mut self, name: &str, client: ConnectionId) -> Option<Option<ConnectionId>> {
        let queue = self.0.get_mut(name)?;
        let place = queue.iter().position(|waiting| *waiting == client)?;
        queue.remove(place);
        let heir = if place == 0 { queue.front().copied() } else { None };
        if queue.is_empty() {
            self.0.remove(name);
        }
        Some(heir)
    }

    /// Takes the client out of every queue; tells who has which lock now.
    pub(super) fn release_all(&mut self, client: ConnectionId) -> Vec<(String, ConnectionId)> {
        let names: Vec<String> = self.0.keys().cloned().collect();
        names
            .into_iter()
            .filter_map(|name| self.unlock(&name, client).flatten().map(|heir| (name, heir)))
            .collect()
    }
}
