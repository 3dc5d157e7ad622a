//! What people are shown of the engine: ports, groups, numbers in use.

use pipeline::{RemoteKey, RemoteUse, SetId, Zone};
use policy::{GroupId, Policy, PortId, RuleId};

use super::Engine;
use crate::host::Spot;

/// What a local port is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortStanding {
    /// Judged by the rules of this set.
    Filtered(SetId),
    /// Sends and receives everything.
    Trusted,
    /// Neither sends nor receives, and why.
    Closed(&'static str),
    /// The same: the switch refuses a flow of it.
    Refused,
    /// As it was when the engine began.
    Pending,
}

impl Engine {
    /// The policy as it was told last.
    pub fn policy_in_force(&self) -> Option<&Policy> {
        self.policy_known.then_some(&self.policy)
    }

    /// What the policy is; nothing before there is one.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The name of the interface that a local port is plugged in by.
    pub fn interface_name(&self, spot: &Spot) -> Option<&str> {
        self.host.interface(&spot.interface).map(|row| row.name.as_str())
    }

    /// The conntrack zone of a local port.
    pub fn zone(&self, spot: &Spot) -> Option<Zone> {
        self.ledger.zones.of(&spot.interface)
    }

    /// What a local port is.
    pub fn standing(&self, port: &PortId) -> PortStanding {
        if self.quarantine.contains(port) {
            return PortStanding::Refused;
        }
        if self.no_zone.contains(port) {
            return PortStanding::Closed(NO_ZONE);
        }
        let Some(flows) = &self.flows else { return PortStanding::Pending };
        match flows.renderer.standing(port) {
            Some(pipeline::Standing::Filtered(set)) => PortStanding::Filtered(set),
            Some(pipeline::Standing::Trusted) => PortStanding::Trusted,
            Some(pipeline::Standing::Closed) => PortStanding::Closed(NO_POLICY),
            None => PortStanding::Closed("its conntrack zone is not recorded in the database yet"),
        }
    }

    /// What a remote comes to on this bridge; none while the bridge has not been read.
    pub fn remote(&self, key: &RemoteKey) -> Option<RemoteUse> {
        self.flows.as_ref().map(|flows| flows.renderer.remote(key))
    }

    /// Rules of a group that the driver cannot enforce, and why.
    pub fn refused_rules(&self, group: &GroupId) -> impl Iterator<Item = (&RuleId, &'static str)> {
        self.refused_rules.get(group).into_iter().flatten().map(|(rule, reason)| (rule, *reason))
    }
}

/// Why a port is closed that no policy knows.
pub(super) const NO_POLICY: &str = "no policy knows it";
/// Why a port is closed for which there is no zone.
pub(super) const NO_ZONE: &str = "no conntrack zone is left for it";
