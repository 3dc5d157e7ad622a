//! What the driver of Neutron's agent is told at the socket.

use neutron::driver::Refused;
use serde::Serialize;

/// The answer to `GET /v1/neutron-driver`: what the daemon holds of the agent's changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverState {
    /// Another at each start of the daemon, which knows nothing then.
    pub daemon: String,
    /// The session whose changes are held; none if no change has come.
    pub session: Option<String>,
    /// The last change of it that was taken.
    pub sequence: u64,
    /// The last change of it that is in force.
    pub applied: u64,
    /// What keeps the datapath from being kept, if something does.
    pub waiting: Option<String>,
}

/// Whether a change is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// In the datapath, and its caches.
    Applied,
    /// Taken, and not in force within the time that was asked for.
    Pending,
}

/// The answer to a change that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeAnswer {
    /// See [`DriverState::daemon`].
    pub daemon: String,
    /// The change's session.
    pub session: String,
    /// The change's number.
    pub sequence: u64,
    /// Whether it is in force.
    pub state: Applied,
    /// What keeps it from that, if it is known.
    pub waiting: Option<String>,
    /// Objects that were refused: they stay as they were, or closed if they are new.
    pub refused: Vec<Refused>,
    /// Ports that were expected on the bridge, and are not there.
    pub absent: Vec<String>,
    /// Ports that were expected on the bridge, are there, and are closed all the same.
    pub closed: Vec<ClosedPort>,
}

/// A port that is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClosedPort {
    /// Its id.
    pub port: String,
    /// Why.
    pub reason: String,
}

/// A change that was not taken: all is to be told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRefused {
    /// Why.
    pub reason: String,
    /// See [`DriverState::session`].
    pub session: Option<String>,
    /// See [`DriverState::sequence`].
    pub sequence: u64,
}
