//! What the bridge's table writes on a frame for the tables behind it, and what is written on connections.
//!
//! A frame has its mark from where it comes in at a port's own bridge until it leaves it; no other program sees one. Nothing but
//! [`JUDGED`] lets it out again, so that a host whose rules are gone is closed.

use policy::Direction;

/// The octet that says that a mark is ours, and where it stands.
pub const SIGNATURE: u32 = 0x5300_0000;
/// See [`SIGNATURE`].
pub const SIGNATURE_MASK: u32 = 0xff00_0000;
/// The guest sent the frame.
pub const FROM_PORT: u32 = 1 << 20;
/// It passes without being asked for rules: ARP, neighbour discovery, DHCP, and all of trusted ports.
pub const ACCEPTED: u32 = 1 << 21;
/// It is judged by itself, and not tracked: it is for a group of stations, or its port has no stateful group.
pub const ALONE: u32 = 1 << 22;
/// It may leave.
pub const JUDGED: u32 = 1 << 23;
/// The zone of the port.
pub const ZONE: u32 = 0xffff;

/// The zone, and which way the frame goes.
pub const PORT_MASK: u32 = SIGNATURE_MASK | FROM_PORT | ZONE;

/// On a connection: the guest began it.
pub const BEGUN_BY_PORT: u32 = 1;
/// On a connection: no rule admits it any more.
pub const REVOKED: u32 = 2;

/// On a connection: what admitted it was a member that counts only with its MAC.
pub const BOUND: u32 = 4;

/// The mark of a port's frames, before more is known of them.
pub fn of(zone: u16, direction: Direction) -> u32 {
    let way = match direction {
        Direction::Egress => FROM_PORT,
        Direction::Ingress => 0,
    };
    SIGNATURE | way | u32::from(zone)
}
