//! A host's session with the store, as far as it is no socket: which conditions were asked for, and whether all that is wanted has come.

use std::collections::BTreeSet;

use ovsdb::{Condition, MonitorTable, RowError, SessionEvent};
use policy::{PolicyDelta, PortId};

use crate::memory::Memory;
use crate::sight::{Seen, Sight};
use crate::view::View;
use crate::wants::Wants;

/// See the module's documentation.
///
/// Whoever drives it gives it every event of the session, sends the conditions that [`Follower::next_conditions`] says, gives it the events that came
/// until their answer, then the answer, and takes what [`Follower::commit`] has.
#[derive(Clone, Debug)]
pub struct Follower {
    sight: Sight,
    view: View,
    /// What the session's conditions let through, when it is connected.
    answered: Wants,
    asked: Option<Wants>,
    /// By this connection the server has refused what was asked for.
    refused_by: Option<u64>,
    wanted: Wants,
    is_connected: bool,
    /// Something was seen since the last commit.
    has_news: bool,
    /// How often the session was connected.
    connections: u64,
    /// The server may be behind the one before, of whose word the switch is: what it says is not taken until it has taken a write.
    needs_proof: bool,
    /// What the view has from before the session, until the session has begun.
    remembered: Option<Memory>,
}

impl Follower {
    /// Of this host.
    pub fn new(host: &str) -> Self {
        Self::remembering(host, Memory::default()).0
    }

    /// Of this host, with what it knows from before, and the policy that this comes to. A session that begins with [`Follower::tables`] has in
    /// its first answer what is wanted by then.
    pub fn remembering(host: &str, memory: Memory) -> (Self, PolicyDelta) {
        let mut view = View::new(host);
        Memory::default().until(&memory).into_iter().for_each(|seen| view.see(seen));
        let delta = view.commit();
        let wanted = view.new_wants().unwrap_or_else(|| view.wants());
        let answered = wanted.clone();
        let follower = Follower {
            sight: Sight::default(),
            view,
            answered,
            asked: None,
            refused_by: None,
            wanted,
            is_connected: false,
            has_news: false,
            connections: 0,
            needs_proof: false,
            remembered: Some(memory),
        };
        (follower, delta)
    }

    /// The tables of the session, with the conditions to begin with.
    pub fn tables(&self) -> Vec<MonitorTable> {
        let mut conditions = self.answered.conditions();
        let table = |(table, columns): (&'static str, Vec<&'static str>)| {
            let conditions = conditions.remove(table).unwrap_or_default();
            conditions.into_iter().fold(MonitorTable::new(table, columns), MonitorTable::matching)
        };
        Sight::tables().into_iter().map(table).collect()
    }

    /// Something happened to the session; what was seen is given back, for whoever remembers it.
    ///
    /// # Errors
    /// A row that cannot be read: the store is of another version.
    pub fn event(&mut self, event: &SessionEvent) -> Result<Vec<Seen>, RowError> {
        let mut seen = Vec::new();
        match event {
            SessionEvent::Connected => {
                self.is_connected = true;
                self.needs_proof = true;
                self.connections += 1;
            }
            SessionEvent::Disconnected { .. } => self.is_connected = false,
            SessionEvent::Update(changes) => {
                self.has_news = true;
                seen = self.sight.read(changes)?;
                if let Some(memory) = self.remembered.take() {
                    seen = since(&memory, seen);
                }
                seen.iter().cloned().for_each(|seen| self.view.see(seen));
            }
            SessionEvent::Locked(_) | SessionEvent::Stolen(_) => {}
        }
        Ok(seen)
    }

    /// Ports that are plugged in here; see [`View::ask_for`].
    pub fn ask_for(&mut self, ports: BTreeSet<PortId>) {
        self.view.ask_for(ports);
    }

    /// Conditions to be set, by table, if none are under way; [`Follower::answer`] is for all of them together.
    pub fn next_conditions(&mut self) -> Option<Vec<(&'static str, Vec<Condition>)>> {
        if let Some(wants) = self.view.new_wants() {
            self.wanted = wants;
        }
        let is_refused = self.refused_by == Some(self.connections);
        // While a connection is being made, an answer would say nothing of the rows.
        let is_idle = self.is_connected && self.asked.is_none() && !is_refused;
        if !is_idle || self.wanted == self.answered {
            return None;
        }
        let (before, now) = (self.answered.conditions(), self.wanted.conditions());
        self.asked = Some(self.wanted.clone());
        Some(now.into_iter().filter(|(table, conditions)| before.get(table) != Some(conditions)).collect())
    }

    /// The conditions are set: their rows were among the events, or will be among the first of the next connection.
    pub fn answer(&mut self) {
        self.answered = self.asked.take().unwrap_or_else(|| self.answered.clone());
        self.has_news = true;
    }

    /// The server refuses the conditions: they are asked for again when there is another connection.
    pub fn refused(&mut self) {
        self.asked = None;
        self.refused_by = Some(self.connections);
    }

    /// How the policy changes, if everything that is wanted is in sight and something was seen since the last time. Of a store in which nobody has
    /// finished writing a policy (its number is 0) nothing is taken: it would close every port.
    pub fn commit(&mut self) -> Option<PolicyDelta> {
        if let Some(wants) = self.view.new_wants() {
            self.wanted = wants;
        }
        // Of what was asked for last, some rows may have gone before the answer.
        let is_going = self.asked.as_ref().is_some_and(|asked| !self.wanted.is_within(asked));
        let is_seen = self.wanted.is_within(&self.answered) && !is_going;
        let is_complete = self.is_connected && !self.needs_proof && is_seen;
        if !is_complete || self.view.sequence() == 0 || !self.has_news {
            return None;
        }
        self.has_news = false;
        Some(self.view.commit())
    }

    /// Whether a write is wanted, and by which connection: a member of a cluster may be behind another, to which the host was connected before, and
    /// would take it back to what was. One that has committed a write has all that was committed before (a follower's transaction is made on the
    /// leader's last; a relay hears of changes before answers).
    pub fn wants_proof(&self) -> Option<u64> {
        (self.is_connected && self.needs_proof).then_some(self.connections)
    }

    /// A write was committed that was asked for when this connection was the last.
    pub fn proved(&mut self, connection: u64) {
        if connection == self.connections {
            self.needs_proof = false;
            self.has_news = true;
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The rows in sight.
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// The first rows of a session, as changes of what is remembered.
fn since(memory: &Memory, first: Vec<Seen>) -> Vec<Seen> {
    let mut now = Memory::default();
    first.iter().for_each(|seen| now.see(seen));
    let others = first.into_iter().filter(|seen| matches!(seen, Seen::Sequence(_)));
    memory.until(&now).into_iter().chain(others).collect()
}
