//! What connection tracking says of a frame.

use crate::Direction;

use super::frame::{Frame, Payload, Tuple};

/// What conntrack says of a frame in the zone of the port. It matters only where rules decide and the frame is
/// neither admitted by a stateless rule nor group-addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracking {
    /// It would be a connection's first. The tuple is that of the whole datagram if the frame is a fragment.
    New(Tuple),
    /// It belongs to no connection and can begin none.
    Invalid,
    /// It belongs or relates to a connection of the zone.
    Connection(Connection),
}

impl Tracking {
    /// What a tracker that knows no connection says of a frame that may begin one; [`Tracking::Invalid`] for what
    /// is no IP.
    pub fn first(frame: &Frame) -> Self {
        match &frame.payload {
            Payload::Ip(packet) => Self::New(packet.tuple()),
            _ => Self::Invalid,
        }
    }
}

/// A connection, and the frame's part in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The way of the connection's first packet, seen from the port.
    pub original: Direction,
    /// The tuple of the connection's first packet.
    pub tuple: Tuple,
    /// Whether the frame goes the other way than the first packet did.
    pub reply: bool,
    /// Whether the frame is an ICMP error about the connection, not a packet of it.
    pub related: bool,
}
