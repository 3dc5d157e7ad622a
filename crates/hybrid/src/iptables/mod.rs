//! iptables and ip6tables: chains as Neutron's hybrid driver names them, in the words of `iptables-save`.
//!
//! ```text
//! raw     PREROUTING ── PREROUTING ── raw-N ─┬─ i…, o… ── I…, E…   a port's, its groups': stateless rules pass untracked
//!                                            └─ CT --zone          the rest is tracked in the port's zone
//! filter  FORWARD ── FORWARD ── sg-chain ─┬─ connections that are known
//!                                         └─ sg-N ── i…, o… ── I…, E…   a port's, its groups'
//! ```
//!
//! All but the first have `neutron-openvswi-` in front. `i` and `o` are a port's chains as Neutron calls them (in, out), `I` and `E` those of a
//! group's ingress and egress rules, shared by its ports: a rule is one rule, however many ports there are. `N` stands for some bits
//! of the zone, so that a packet passes the ports of one N, and not all (Neutron's one list of all ports is what makes its packets slow).

mod base;
mod names;
mod port;
mod rule;

use std::fmt;

use policy::{Direction, Ethertype, Rule};

pub use base::{HOOKS, Hook};
pub(crate) use base::{base_chains, before_ports};
pub(crate) use names::Names;
pub use names::PREFIX;
pub(crate) use port::{PortChains, bucket, bucket_jumps, filter_bucket, raw_bucket};
pub(crate) use rule::{RemoteWords, bound_line, rule_line, why_not};

/// Tables of rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Before connections are tracked.
    Raw,
    /// Where it is said what passes.
    Filter,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Table::Raw => "raw",
            Table::Filter => "filter",
        })
    }
}

/// Which chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChainKey {
    /// `iptables` or `ip6tables`.
    pub ethertype: Ethertype,
    /// Its table.
    pub table: Table,
    /// Its name, of at most 28 characters.
    pub name: String,
}

/// The rules of a chain, as `iptables-save` prints them, less `-A NAME `.
pub type Chain = Vec<String>;

/// The chain of a group's rules of one direction.
pub(crate) fn group_kind(direction: Direction) -> char {
    match direction {
        Direction::Ingress => 'I',
        Direction::Egress => 'E',
    }
}

/// Rules of a group that stand in this chain.
pub(crate) fn of_chain(
    rules: &[Rule],
    direction: Direction,
    ethertype: Ethertype,
) -> impl Iterator<Item = &Rule> {
    rules.iter().filter(move |rule| (rule.direction, rule.ethertype) == (direction, ethertype))
}
