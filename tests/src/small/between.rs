//! On the way from one policy to the next: what may become of a frame, when both have their say.

use std::collections::BTreeSet;

use policy::PortId;
use policy::evaluator::{Judgement, Model};

use super::{From, LOCAL, Probe, VLAN, port_id};

/// The OpenFlow port of the trunk to the network.
pub const TRUNK: u16 = 9;

/// The OpenFlow port of a local port.
pub fn ofport(port: usize) -> u16 {
    u16::try_from(port + 1).expect("few ports")
}

/// OpenFlow ports that a frame comes out at.
pub type Outputs = BTreeSet<u32>;

/// The OpenFlow ports of those that accept a frame.
pub fn accepted(delivered: &[(PortId, Judgement)]) -> impl Iterator<Item = u32> {
    let accept = delivered.iter().filter(|(_, judgement)| judgement.accepted());
    accept
        .flat_map(|(id, _)| (0..LOCAL).filter(move |port| port_id(*port) == *id))
        .map(|port| u32::from(ofport(port)))
}

/// What a policy says of a frame, by each port that it concerns: "each side judges it alone".
#[derive(Clone, Debug)]
pub struct Sides {
    /// Whether the sender's port lets it out; that of the network's side always.
    pub leaves: bool,
    /// Whether it is for the network, if it leaves.
    pub is_for_network: bool,
    /// The ports that let it in, if it gets there.
    pub let_in: Outputs,
}

/// Gives the frame to the evaluator's host.
pub fn judged(model: &mut Model, probe: &Probe) -> Sides {
    let arrived = model.clone().receive(VLAN, &probe.frame);
    let let_in = accepted(&arrived).collect();
    match probe.from {
        From::Port(port) => {
            let outcome = model.send(&port_id(port), &probe.frame);
            Sides { leaves: outcome.egress.accepted(), is_for_network: outcome.to_network, let_in }
        }
        From::Network => {
            model.receive(VLAN, &probe.frame);
            Sides { leaves: true, is_for_network: false, let_in }
        }
    }
}

/// "A policy change takes effect at once for each port": what all of these let out and in comes out, and nothing that none
/// lets out or none lets in.
pub fn is_between(outputs: &Outputs, policies: &[Sides], may_be_held_up: bool) -> bool {
    let may = |port: u32| match u32::from(TRUNK) == port {
        true => policies.iter().any(|sides| sides.is_for_network),
        false => {
            policies.iter().any(|sides| sides.leaves)
                && policies.iter().any(|sides| sides.let_in.contains(&port))
        }
    };
    let must = |port: u32| match u32::from(TRUNK) == port {
        true => policies.iter().all(|sides| sides.is_for_network),
        false => policies.iter().all(|sides| sides.leaves && sides.let_in.contains(&port)),
    };
    let ports = policies.iter().flat_map(|sides| sides.let_in.iter().copied()).chain([u32::from(TRUNK)]);
    outputs.iter().all(|port| may(*port))
        && (may_be_held_up || ports.filter(|port| must(*port)).all(|port| outputs.contains(&port)))
}
