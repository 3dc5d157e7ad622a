//! The locks of a session: RFC 7047 §4.1.8 to §4.1.10.

use serde_json::{Value as Json, json};

use super::{Core, Pending, SessionEvent, State};
use crate::wire::{RequestId, RpcError};

/// A lock that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// To be asked for, or taken from its holder, once there is a connection.
    Wanted { steal: bool },
    /// The request is not answered yet. A `locked` that comes before is about an earlier wish.
    Asked(RequestId),
    /// Another client holds it, and we are in the server's queue.
    Queued,
    /// We hold it.
    Ours,
}

impl Core {
    /// Asks for a lock, now and after each reconnect, until [`Core::unlock`]. With `steal` it is taken from
    /// whoever holds it, once: after a reconnect it is asked for.
    pub fn lock(&mut self, name: &str, steal: bool) {
        match self.locks.get(name) {
            Some(Lock::Ours) => return,
            Some(_) if !steal => return,
            // RFC 7047 §4.1.8: no second request for a lock without an unlock in between.
            Some(_) => self.unlock(name),
            None => {}
        }
        self.locks.insert(name.to_owned(), Lock::Wanted { steal });
        self.ask_for_lock(name);
    }

    /// Gives a lock back, or asks for it no more.
    pub fn unlock(&mut self, name: &str) {
        match (self.locks.remove(name), self.live_link()) {
            (None | Some(Lock::Wanted { .. }), _) | (_, None) => {}
            (Some(_), Some(link)) => {
                let id = link.connection.request("unlock", json!([name]));
                link.pending.insert(id, Pending::Unlock);
            }
        }
    }

    /// Asks for every lock that is wanted.
    pub(super) fn ask_for_locks(&mut self) {
        let names: Vec<String> = self.locks.keys().cloned().collect();
        names.iter().for_each(|name| self.ask_for_lock(name));
    }

    /// Every lock went with the connection.
    pub(super) fn locks_lost(&mut self) {
        for lock in self.locks.values_mut().filter(|lock| !matches!(lock, Lock::Wanted { .. })) {
            *lock = Lock::Wanted { steal: false };
        }
    }

    /// Sends the request for a lock that is wanted, once the session is live.
    fn ask_for_lock(&mut self, name: &str) {
        let State::Connected(link) = &mut self.state else { return };
        let (true, Some(lock)) = (link.is_live, self.locks.get_mut(name)) else { return };
        let Lock::Wanted { steal } = *lock else { return };
        let id = link.connection.request(if steal { "steal" } else { "lock" }, json!([name]));
        link.pending.insert(id, Pending::Lock(name.to_owned()));
        *lock = Lock::Asked(id);
    }

    pub(super) fn lock_answered(
        &mut self,
        id: RequestId,
        name: &str,
        outcome: Result<Json, RpcError>,
    ) -> Result<(), String> {
        let result = outcome.map_err(|error| format!("lock {name} refused: {error}"))?;
        let locked = result.get("locked").and_then(Json::as_bool);
        let locked = locked.ok_or_else(|| format!("unreadable answer to lock {name}: {result}"))?;
        match self.locks.get_mut(name) {
            Some(lock) if *lock == Lock::Asked(id) => *lock = Lock::Queued,
            // Given up since.
            _ => return Ok(()),
        }
        if locked {
            self.lock_is_ours(name, true);
        }
        Ok(())
    }

    /// The server says that the lock came to us, or went.
    pub(super) fn lock_is_ours(&mut self, name: &str, is_ours: bool) {
        let Some(lock) = self.locks.get_mut(name) else { return };
        let name = name.to_owned();
        match (*lock, is_ours) {
            (Lock::Queued, true) => {
                *lock = Lock::Ours;
                self.events.push_back(SessionEvent::Locked(name));
            }
            // Who was robbed of a lock is in the queue for it again.
            (Lock::Ours, false) => {
                *lock = Lock::Queued;
                self.events.push_back(SessionEvent::Stolen(name));
            }
            _ => {}
        }
    }
}
