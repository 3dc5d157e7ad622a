//! What a page of `flows/cases` is played on.

use std::collections::BTreeMap;

use agent::driver::SetupError;
use agent::engine::Report;
use policy::Policy;
use tests::case::{Binding, Config};

use crate::in_force::IN_FORCE_WITHIN;

/// The frames that came out at each port since the last look, by the names that packet lines use; ports without
/// any are left out.
pub type Sighting = BTreeMap<String, Vec<Vec<u8>>>;

/// What went wrong around the frames.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// The driver's setup.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The runtime.
    #[error("the runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// A policy is not in force in time.
    #[error("the policy is not in force within {IN_FORCE_WITHIN:?}; the driver's reports: {0:?}")]
    NotInForce(Vec<Report>),
    /// A policy is in force with something left out.
    #[error("the driver refused something: {0:?}")]
    Refused(Vec<Report>),
    /// A driver plugged into a [`crate::HybridFirewall`].
    #[error("the driver: {0}")]
    Driver(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A frame is to be sent from a port that is not there.
    #[error("no port {0:?}")]
    NoPort(String),
    /// A frame from a trunk does not say of which VLAN it is.
    #[error("a frame from the trunk {0:?} has no VLAN tag")]
    NoTag(String),
    /// A port without a VLAN, which no hybrid bridge is made for.
    #[error("{0:?} is a trunk and leads not to the network: the hybrid bridge has none")]
    Trunk(String),
}

/// A real datapath with a driver that enforces a policy on it, under the ports of a case.
pub trait PageFirewall: Sized {
    /// Starts a datapath with these bindings and a driver that has no policy yet.
    ///
    /// # Errors
    /// Something does not start.
    fn start(bindings: &[Binding], config: &Config) -> Result<Self, FirewallError>;

    /// Gives the driver another policy and returns when it is in force, caches included.
    ///
    /// # Errors
    /// That does not happen in time, or with something refused.
    fn put_in_force(&mut self, policy: &Policy) -> Result<(), FirewallError>;

    /// Lets a frame in at a port, by the name that packet lines use, and returns when the datapath is done with it.
    ///
    /// # Errors
    /// There is no such port, or the datapath is gone.
    fn receive(&self, from: &str, frame: &[u8]) -> Result<(), FirewallError>;

    /// What came out since the last call.
    ///
    /// # Errors
    /// The datapath is gone.
    fn sighting(&self) -> Result<Sighting, FirewallError>;

    /// The interfaces that it was started with.
    fn bindings(&self) -> &[Binding];

    /// The interface that a packet line names.
    ///
    /// # Errors
    /// There is none.
    fn binding(&self, name: &str) -> Result<&Binding, FirewallError> {
        let binding = self.bindings().iter().find(|binding| binding.name() == name);
        binding.ok_or_else(|| FirewallError::NoPort(name.to_owned()))
    }
}
