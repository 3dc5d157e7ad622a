//! The same through the flows of Neutron's own openvswitch firewall driver (neutron/agent/linux/openvswitch_firewall/firewall.py, 29.0.0;
//! the tables are those of ovs_constants.py).
//!
//! A port's half ends where that driver hands over to the other half, or to the network. It says no reasons: what is dropped ends.

use policy::evaluator::{Frame, Tracking};
use policy::{Direction, MacAddr};
use rust_openflow::{Action, PortNo};
use verify::symbolic::LocalPort;
use verify::{Packet, Tables, Tag, run_from};

use super::{Fate, Path, Step, Told, broken};

/// Where frames of the bridge begin, `LOCAL_SWITCHING`.
const BEGIN: u8 = 0;
/// `TRANSIENT_TABLE`: whose frame it is, by port or by VLAN and MAC.
const TRANSIENT: u8 = 60;
/// What a port's rules let it send: `ACCEPT_OR_INGRESS_TABLE`, `ACCEPTED_EGRESS_TRAFFIC_TABLE`, `ACCEPTED_EGRESS_TRAFFIC_NORMAL_TABLE`.
const SENT: [u8; 3] = [73, 91, 94];
/// The tag of the integration bridge.
const DOT1Q: u16 = 0x8100;

/// A port, as the bridge finds it.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// Its place.
    pub port: &'a LocalPort,
    /// Its MACs, to which frames come by the bridge's own learning where the driver has no flow for them.
    pub macs: &'a [MacAddr],
}

/// See [`super::follow`]; packets of connections are those that the driver has not marked as revoked. It marks one when a packet of the way of
/// its first comes, and until then lets answers and what is related pass unseen by rules.
pub fn follow(
    tables: &Tables,
    found: &Found<'_>,
    direction: Direction,
    frame: &Frame,
    tracking: &Tracking,
) -> Path {
    let Found { port, macs } = found;
    let own = PortNo(u32::from(port.ofport));
    let is_for_it = frame.eth_dst.is_group() || macs.contains(&frame.eth_dst);
    let (table, packet) = match direction {
        Direction::Egress => (BEGIN, Packet::of_frame(own, frame)),
        // From the network, its tag already that of the VLAN on this bridge.
        Direction::Ingress => {
            let packet = Packet::of_frame(PortNo::LOCAL, frame);
            (TRANSIENT, packet.with_tag(Tag::new(DOT1Q, port.vlan)))
        }
    };
    let outcome = match run_from(tables, table, packet, &mut Told { tracking }) {
        Ok(outcome) => outcome,
        Err(error) => return Path { steps: Vec::new(), fate: Fate::Broken(broken(&error)) },
    };
    let comes_out = || {
        outcome.ports().any(|port| port == own)
            || is_for_it && outcome.ports().any(|port| port == PortNo::NORMAL)
    };
    let mut fate = match direction {
        Direction::Ingress if comes_out() => Fate::Passes,
        _ => Fate::Lost,
    };
    let mut steps = Vec::new();
    for visit in &outcome.visits {
        let flow = visit.flow.map(|id| tables.flow(id).clone());
        let is_sent = flow.as_ref().is_some_and(|flow| {
            SENT.contains(&visit.table) && !flow.actions.is_empty() || sends_and_ends(&flow.actions)
        });
        steps.push(Step {
            table: visit.table,
            flow,
            packet: visit.packet.clone(),
            recirculations: visit.recirculations,
        });
        if direction == Direction::Egress && is_sent {
            fate = Fate::Passes;
            break;
        }
    }
    Path { steps, fate }
}

/// Whether the frame itself goes out here, and not a copy of one that goes on.
fn sends_and_ends(actions: &[Action]) -> bool {
    let goes_on = |action: &Action| match action {
        Action::Resubmit { .. } | Action::Goto(_) => true,
        Action::Ct(ct) => ct.table.is_some(),
        _ => false,
    };
    actions.iter().any(|action| matches!(action, Action::Output(_) | Action::OutputReg(_)))
        && !actions.iter().any(goes_on)
}
