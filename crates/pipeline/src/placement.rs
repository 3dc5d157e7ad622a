//! Local ports: where they stand and what they are.

use std::sync::Arc;

use policy::{MacAddr, Port, PortId};

use crate::numbers::{OfPort, SetId, Vlan, Zone};

/// Where a local port stands on the bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Its OpenFlow port.
    pub ofport: OfPort,
    /// The VLAN of its network on this bridge.
    pub vlan: Vlan,
    /// Its conntrack zone, which no other port shares.
    pub zone: Zone,
}

/// A local port that has a policy: what its flows are made from, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Placement {
    pub(crate) id: PortId,
    pub(crate) port: Arc<Port>,
    pub(crate) binding: Binding,
    /// What the plug says of a port whose MAC the policy does not know.
    pub(crate) station: Option<MacAddr>,
    pub(crate) role: Role,
}

/// What the switch does with a port's frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Judged by the rules of its set.
    Filtered(SetId),
    /// Sends and receives everything.
    Trusted,
}
