//! The semantics page as code: frame, port and connection state in, verdict, reason and deciding rules out.
//!
//! It is written from that page alone and knows nothing of flows or tables, so that it can judge them. Each verdict
//! stands beside the words that it obeys.
//!
//! ```
//! use policy::evaluator::{Evaluator, Frame, Payload, Settings, Tracking};
//! use policy::{Direction, MacAddr, document};
//!
//! let text = "ports: [{id: p, network_id: n, mac_address: 'fa:16:3e:00:00:01'}]";
//! let parsed = document::parse(&[("policy.yaml", text)], None);
//! assert!(parsed.diagnostics.is_empty());
//! let evaluator = Evaluator::new(&parsed.policy, Settings::default());
//! let (eth_src, eth_dst) = (MacAddr([2, 0, 0, 0, 0, 9]), MacAddr::BROADCAST);
//! let frame = Frame { eth_src, eth_dst, vlan: None, payload: Payload::Rarp };
//! let judgement = evaluator.judge(&"p".into(), Direction::Egress, &frame, &Tracking::Invalid);
//! assert_eq!(judgement.verdict.to_string(), "drop (spoofed-mac)");
//! ```

mod egress;
mod frame;
mod ingress;
mod judgement;
mod membership;
mod model;
mod nearest;
mod rules;
#[cfg(test)]
mod tests;
mod tracker;
mod tracking;

use std::collections::BTreeSet;

use crate::{Direction, Policy, PortId};

pub use frame::{Detail, Fragment, Frame, IpPacket, Payload, Transport, Tuple};
pub use judgement::{Basis, DropReason, Judgement, UnknownWord, Verdict};
pub use model::{Host, Model, Outcome};
pub use nearest::{Gap, Miss};
pub use tracker::Zone;
pub use tracking::{Connection, Tracking};

use membership::Membership;

/// What a verdict depends on besides the policy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Ethertypes that filtered ports may send and receive besides ARP, RARP and IP.
    pub permitted_ethertypes: BTreeSet<u16>,
    /// The datapath that tracks connections.
    pub datapath: Datapath,
}

/// What a datapath can do. The default is Open vSwitch in userspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Datapath {
    /// Whether SCTP, and DCCP and UDP-Lite, are tracked with their ports (the kernel) or without (userspace: lib/conntrack.c,
    /// 3.1, "For all other protocols we do not have L4 keys").
    pub tracks_sctp_ports: bool,
}

/// A policy, indexed for judging: a verdict costs the same with ten members or ten thousand.
#[derive(Clone, Debug)]
pub struct Evaluator {
    policy: Policy,
    settings: Settings,
    members: Membership,
}

impl Evaluator {
    /// Indexes a policy.
    pub fn new(policy: &Policy, settings: Settings) -> Self {
        Self { policy: policy.clone(), settings, members: Membership::new(policy) }
    }

    /// The policy that is judged by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is judged by besides the policy.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Judges a frame that a local port sends (egress) or is to receive (ingress). `tracking` is what conntrack says
    /// of the frame in the port's zone; where no rule is asked, it is not looked at.
    pub fn judge(
        &self,
        port: &PortId,
        direction: Direction,
        frame: &Frame,
        tracking: &Tracking,
    ) -> Judgement {
        // "A filtered port with no policy yet (unknown id, or a policy that could not be parsed) is closed: it
        // sends and receives nothing." (semantics, "Objects")
        let Some(port) = self.policy.ports.get(port) else { return Judgement::drop(DropReason::NoPolicy) };
        // "trusted ports send and receive everything" (semantics, "Objects").
        if port.is_trusted() {
            return Judgement::accept(Basis::Trusted);
        }
        match direction {
            Direction::Egress => self.judge_egress(port, frame, tracking),
            Direction::Ingress => self.judge_ingress(port, frame, tracking),
        }
    }

    fn judge_ethertype(&self, ethertype: u16) -> Judgement {
        match self.settings.permitted_ethertypes.contains(&ethertype) {
            true => Judgement::accept(Basis::PermittedEthertype),
            false => Judgement::drop(DropReason::Ethertype),
        }
    }
}
