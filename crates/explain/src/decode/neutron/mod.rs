//! What flows of Neutron's agent and of its own openvswitch firewall driver are for (neutron 29.0:
//! neutron/agent/linux/openvswitch_firewall/firewall.py and rules.py;
//! neutron/plugins/ml2/drivers/openvswitch/agent/openflow/native/br_int.py). Releases since 22.2.1 (2023.1) write the same, but for RARP and table 59, which came later.
//!
//! A flow is taken for one of these where its table, its priority, what it matches and where it goes on are all as they
//! are written there. Anything else in those tables is somebody else's, or of a version that is not known here.

mod agent;
mod firewall;

use rust_openflow::{Field, Flow};

use super::look::small;
use super::names::Names;

/// A name for what the flow does in its table, and what it is for.
pub(super) struct Meaning {
    pub(super) slot: &'static str,
    pub(super) purpose: String,
}

/// `None` for a flow that Neutron does not write.
pub(super) fn meaning(flow: &Flow, names: &Names) -> Option<Meaning> {
    let (slot, purpose) = match flow.table {
        71..=73 | 81 | 82 | 91..=94 => firewall::meaning(flow, names),
        _ => agent::meaning(flow, names),
    }?;
    Some(Meaning { slot, purpose })
}

fn port(names: &Names, ofport: u16) -> String {
    names.port(ofport).unwrap_or_else(|| format!("port {ofport}"))
}

/// The port that the flow's frames came in by.
fn sender(flow: &Flow, names: &Names) -> Option<String> {
    small(&flow.matches, Field::InPort).map(|ofport| port(names, ofport))
}
