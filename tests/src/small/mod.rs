//! Small worlds: every policy within a bound, not a sample of them.
//!
//! A world is a policy of two security groups, A and B, on three ports. [`palette`] has the rules that a group may hold:
//!
//! | | |
//! |---|---|
//! | direction | ingress, egress |
//! | ethertype | IPv4, IPv6 |
//! | service | any; TCP to ports 80 and 81; TCP to 81 and 82; ICMP |
//! | remote | any; a wide prefix; a narrow one inside it; the group itself; the other group; an address group of a prefix between the two and one address inside both |
//!
//! 96 in all. Each group is stateful or not; each port carries no group, A, B or both. Two ports are local, one inside the
//! narrow prefix and in the address group by its address, one inside the wide prefix only; the third is on another host.
//!
//! What is left out, because it is there under another name:
//!
//! - A and B exchanged. The law speaks of a group by what it holds and by who carries it, never by its id; so a world and
//!   the one with A and B exchanged everywhere mean the same. Of the two the first is kept, in the order of [`World`].
//!   What a renderer could do by the order of ids alone, it can do in worlds that are kept as well: rules stand in
//!   B and name A in as many of them as the other way round.
//! - A group without rules that is stateless: the law asks for `stateful` only where a rule matches.
//! - The order of a group's rules. "Rules only allow": a group is a set of rules. Their ids rise with their places in the
//!   palette. The same rule may stand in a group twice.
//!
//! [`probes()`] gives, for a world, one frame of each class that its constants tell apart.

pub mod between;
mod bound;
mod probes;
mod world;

pub use bound::Bound;
pub use probes::{From, Probe, probes};
pub use world::{GroupSpec, LOCAL, PORTS, RuleSpec, VLAN, World, address_of, mac_of, palette, port_id};
