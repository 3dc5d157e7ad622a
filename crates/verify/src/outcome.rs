//! What became of a packet.

use rust_openflow::PortNo;

use crate::conntrack::{Stamp, Tuple};
use crate::packet::Packet;
use crate::tables::FlowId;

/// What became of a packet, in the order in which it happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Frames that were sent; those to the controller have its reserved port.
    pub outputs: Vec<Output>,
    /// Connections that were committed or stamped.
    pub commits: Vec<Commit>,
    /// Every table that was visited.
    pub visits: Vec<Visit>,
    /// Zones whose tracker kept the packet until the rest of its datagram comes.
    pub kept_in: Vec<u16>,
}

/// A frame that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// The port.
    pub port: PortNo,
    /// The frame as it was then.
    pub packet: Packet,
}

/// A `ct(commit)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The zone.
    pub zone: u16,
    /// The tuple of the connection's first packet; none if the packet was invalid, and nothing committed.
    pub original: Option<Tuple>,
    /// What was written to the connection.
    pub stamp: Stamp,
}

/// A look-up in a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visit {
    /// The table.
    pub table: u8,
    /// The flow that was found; none drops.
    pub flow: Option<FlowId>,
    /// The packet as it was looked up.
    pub packet: Packet,
    /// How often it had been through the tracker.
    pub recirculations: usize,
}

impl Outcome {
    /// The look-ups in a table.
    pub fn visits_of(&self, table: u8) -> impl Iterator<Item = &Visit> {
        self.visits.iter().filter(move |visit| visit.table == table)
    }

    /// The ports that frames were sent to, in order.
    pub fn ports(&self) -> impl Iterator<Item = PortNo> {
        self.outputs.iter().map(|output| output.port)
    }
}
