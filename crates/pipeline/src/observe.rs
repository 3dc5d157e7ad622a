//! Flows that look and change nothing: what is dropped counted by port and sampled, what is admitted first sampled.
//!
//! They stand above the flows of the policy, in tables `drop` and `next`, and a frame goes on as it would without them. They are no part of what the
//! [`crate::Renderer`] says: the agent comes to want one by what it sees ([`Observed::PortDrops`]), and by what an operator
//! wants logged.

use policy::PortId;
use rust_openflow::{Action, CT_INV, CT_NEW, CT_TRK, Controller, Field, Flow, Match};

use crate::cookie::{decode, is_ours};
use crate::flow::{flow, resubmit};
use crate::layout::{DropReason, FlowKind, deliver, drop, next, output, register};
use crate::network::chunk_of;
use crate::numbers::OfPort;
use crate::static_flows::{NEXT_DELIVER, NEXT_OUTPUT};

/// The id of the controller that samples are for: whoever else listens to the bridge does not get them.
pub const CONTROLLER: u16 = 0x5367;

/// The meter of samples of drops that no flow counts by port.
pub const METER_DROPS: u32 = 21_351;
/// The meter of samples of drops that are counted by port.
pub const METER_PORT_DROPS: u32 = 21_352;
/// The meter of samples of what is admitted.
pub const METER_ADMITTED: u32 = 21_353;

/// How much of a frame a sample has, in bytes: enough for the header chain of any packet that a rule could be about.
const SAMPLE: u16 = 128;

/// What one flow looks at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Observed {
    /// What is dropped for this reason and counted by none of [`Observed::PortDrops`].
    Drops(DropReason),
    /// What is dropped for this reason at this port, and whose it was; port 0 is where no local port is concerned.
    PortDrops(OfPort, Owner, DropReason),
    /// The copy for itself of what this port sends to many, which nobody misses.
    Echo(OfPort),
    /// The first packet of each connection that is admitted, of one port or of every one.
    Admitted(Option<OfPort>, Onwards),
}

/// Who had the OpenFlow port when the flow came, by a digest in its cookie: the switch gives the numbers of ports that went to others, also
/// while nobody looks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Owner(u32);

impl Owner {
    /// No port that is known.
    pub const NOBODY: Owner = Owner(0);
    /// Bits of a cookie's object.
    const BITS: u32 = 24;

    /// FNV-1a of 32 bits, folded.
    pub fn of(port: &PortId) -> Owner {
        let mix = |hash: u32, octet: &u8| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193);
        let hash = port.as_str().as_bytes().iter().fold(0x811c_9dc5, mix);
        Owner(((hash >> Self::BITS) ^ (hash & ((1 << Self::BITS) - 1))).max(1))
    }
}

/// Which half of the pipeline has admitted it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Onwards {
    /// Egress: it is delivered next.
    Deliver,
    /// Ingress: it goes out to the port.
    Output,
}

impl Onwards {
    /// Both.
    pub const ALL: [Onwards; 2] = [Onwards::Deliver, Onwards::Output];

    fn step(self) -> (u8, u8) {
        match self {
            Onwards::Deliver => (NEXT_DELIVER, deliver::TABLE),
            Onwards::Output => (NEXT_OUTPUT, output::TABLE),
        }
    }
}

impl Observed {
    /// The flow.
    pub fn flow(self) -> Flow {
        let about = |object: u64| (FlowKind::Observe, object);
        match self {
            Observed::Drops(reason) => {
                let matches = Match::new().with(register::REASON, reason as u8);
                flow(about(0), drop::TABLE, drop::SAMPLE, matches, vec![sample(METER_DROPS)])
            }
            Observed::PortDrops(port, owner, reason) => {
                // A closed port's frames are dropped before a register says whose they are.
                let field = match reason {
                    DropReason::NoPolicy => Field::InPort,
                    _ => register::OFPORT,
                };
                let matches = Match::new().with(field, port).with(register::REASON, reason as u8);
                let actions = vec![sample(METER_PORT_DROPS)];
                let object = u64::from(owner.0) << u16::BITS | u64::from(port.0);
                flow(about(object), drop::TABLE, drop::PORT, matches, actions)
            }
            Observed::Echo(port) => {
                let from_itself = Match::new().with(Field::InPort, port).with(register::OFPORT, port);
                let matches = from_itself.with(register::CHUNK, chunk_of(port));
                flow(about(u64::from(port.0)), drop::TABLE, drop::ECHO, matches, Vec::new())
            }
            Observed::Admitted(port, onwards) => {
                let (value, table) = onwards.step();
                let first = Match::new()
                    .with_mask(Field::CtState, CT_NEW | CT_TRK, CT_NEW | CT_TRK | CT_INV)
                    .with(register::NEXT, value);
                let (object, priority, matches) = match port {
                    None => (0, next::LOG_ALL, first),
                    Some(port) => (u64::from(port.0), next::LOG_PORT, first.with(register::OFPORT, port)),
                };
                let actions = vec![sample(METER_ADMITTED), resubmit(table)];
                flow(about(object), next::TABLE, priority, matches, actions)
            }
        }
    }

    /// What a flow looks at; `None` if it is not, to the last action, what [`Observed::flow`] makes: it may do more than look.
    pub fn read(flow: &Flow) -> Option<Observed> {
        let (FlowKind::Observe, object) = decode(flow.cookie)? else { return None };
        let reason = || {
            let (value, _) = flow.matches.get(register::REASON)?;
            DropReason::ALL.iter().copied().find(|reason| u128::from(*reason as u8) == value)
        };
        let port = || u16::try_from(object).ok().map(OfPort);
        let owned = || {
            let owner = u32::try_from(object >> u16::BITS).ok()?;
            Some((OfPort(u16::try_from(object & u64::from(u16::MAX)).ok()?), Owner(owner)))
        };
        let onwards = || {
            let (value, _) = flow.matches.get(register::NEXT)?;
            Onwards::ALL.into_iter().find(|onwards| u128::from(onwards.step().0) == value)
        };
        let observed = match (flow.table, flow.priority) {
            (drop::TABLE, drop::SAMPLE) => Observed::Drops(reason()?),
            (drop::TABLE, drop::PORT) => {
                let (port, owner) = owned()?;
                Observed::PortDrops(port, owner, reason()?)
            }
            (drop::TABLE, drop::ECHO) => Observed::Echo(port()?),
            (next::TABLE, next::LOG_ALL) => Observed::Admitted(None, onwards()?),
            (next::TABLE, next::LOG_PORT) => Observed::Admitted(Some(port()?), onwards()?),
            _ => return None,
        };
        let (made, mut held) = (observed.flow().canonical(), flow.clone().canonical());
        held.options = made.options;
        (made == held).then_some(observed)
    }
}

/// Whether a flow is ours and part of what the policy asks for, or in the place of one that only looks and is none.
pub fn is_enforcing(flow: &Flow) -> bool {
    is_ours(flow.cookie) && Observed::read(flow).is_none()
}

fn sample(meter: u32) -> Action {
    Action::Controller(Controller {
        max_len: SAMPLE,
        id: CONTROLLER,
        meter: Some(meter),
        ..Controller::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Observed> {
        let (port, owner) = (OfPort(7), Owner::of(&"p-1".into()));
        let drops = DropReason::ALL
            .iter()
            .flat_map(|reason| [Observed::Drops(*reason), Observed::PortDrops(port, owner, *reason)]);
        let admitted = [None, Some(port)]
            .into_iter()
            .flat_map(|port| Onwards::ALL.map(|next| Observed::Admitted(port, next)));
        drops.chain(admitted).chain([Observed::Echo(port)]).collect()
    }

    #[test]
    fn what_it_writes_it_reads_also_as_the_switch_prints_it() {
        for observed in all() {
            let flow = observed.flow();
            assert_eq!(Observed::read(&flow), Some(observed));
            let printed: Flow = flow.to_string().parse().expect("ovs-ofctl's text");
            assert_eq!(Observed::read(&printed), Some(observed), "{flow}");
            assert!(!is_enforcing(&flow));
        }
    }

    #[test]
    fn a_flow_that_does_more_than_look_is_no_observer_whatever_its_cookie_says() {
        for observed in all() {
            let flow = observed.flow();
            let mut opens = flow.clone();
            opens.actions.push(Action::resubmit(output::TABLE));
            let mut silent = flow.clone();
            match silent.actions.is_empty() {
                true => silent.actions.push(sample(METER_DROPS)),
                false => _ = silent.actions.remove(0),
            }
            let wider = Flow { matches: Match::new(), ..flow.clone() };
            let elsewhere = Flow { table: flow.table - 1, ..flow.clone() };
            for other in [opens, silent, wider, elsewhere] {
                assert_eq!(Observed::read(&other), None, "{other}");
                assert!(is_enforcing(&other));
            }
        }
    }
}
