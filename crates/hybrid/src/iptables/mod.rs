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
mod port;
mod rule;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use policy::{Direction, Ethertype, MacAddr, Rule};

pub use base::{HOOKS, Hook};
use base::{base_chains, before_ports};
use port::{bucket_jumps, filter_bucket, raw_bucket};
use rule::{bound_line, rule_line, why_not};
pub use script::script;

use crate::bridge::{Element, zone_element};
use crate::dialect::{ChainOf, Dialect, GroupRules, PortChains, RemoteEnd, Said};
use crate::firewall::{DIRECTIONS, FAMILIES};
use crate::sets::Sets;

/// Begins the name of every chain of ours, as Neutron's agent begins its (`neutron-openvswitch-agent`, cut to 16 characters, and a hyphen).
pub const PREFIX: &str = "neutron-openvswi-";
/// What is decided before iptables sees a packet, in the words of nft(8): `table inet sgflow`.
pub const RULESET: &str = include_str!("tracking.nft");

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
fn group_kind(direction: Direction) -> char {
    match direction {
        Direction::Ingress => 'I',
        Direction::Egress => 'E',
    }
}

/// In the words of iptables.
#[derive(Clone, Copy, Debug)]
pub enum Iptables {}

impl Dialect for Iptables {
    type Key = ChainKey;
    type Rule = String;

    fn sets(compress: bool) -> Sets {
        Sets::new(compress)
    }

    fn why_not(rule: &Rule) -> Option<&'static str> {
        why_not(rule)
    }

    fn base() -> Vec<(ChainKey, Chain)> {
        let of_family = |ethertype| {
            base_chains(ethertype)
                .into_iter()
                .map(move |(table, name, chain)| (ChainKey { ethertype, table, name }, chain))
        };
        FAMILIES.into_iter().flat_map(of_family).collect()
    }

    fn port(name: &str, port: Option<&PortChains>) -> Said<Self> {
        let mut said = Vec::new();
        for direction in DIRECTIONS {
            let name = port::chain(name, direction);
            for ethertype in FAMILIES {
                let key = |table| ChainKey { ethertype, table, name: name.clone() };
                said.push((key(Table::Filter), port.map(|port| port::filter(port, direction))));
                let raw = port.filter(|port| !port.stateless.is_empty());
                said.push((key(Table::Raw), raw.map(|port| port::raw(port, direction))));
            }
        }
        said
    }

    /// Of a port with both kinds of groups, the raw table says what is tracked in its zone.
    fn elements(port: &PortChains) -> BTreeSet<Element> {
        let is_all_tracked = !port.stateful.is_empty() && port.stateless.is_empty();
        is_all_tracked.then(|| zone_element(port.zone)).into_iter().collect()
    }

    fn group(name: &str, group: Option<&GroupRules<'_>>) -> Said<Self> {
        let mut said = Vec::new();
        for ethertype in FAMILIES {
            for direction in DIRECTIONS {
                let chain = group.map(|group| group_chain(group, direction, ethertype));
                let name = format!("{PREFIX}{}{name}", group_kind(direction));
                let stateful = group.is_none_or(|group| group.stateful);
                for (table, is_its) in [(Table::Filter, stateful), (Table::Raw, !stateful)] {
                    let key = ChainKey { ethertype, table, name: name.clone() };
                    said.push((key, chain.clone().filter(|_| is_its)));
                }
            }
        }
        said
    }

    fn bound(members: &BTreeSet<(IpNet, MacAddr)>) -> Vec<(ChainKey, Chain)> {
        let target = format!("{PREFIX}sg-accept");
        let of_family = |ethertype| {
            let members = members.iter().filter(|(net, _)| Ethertype::of(net) == ethertype);
            let mut chain = Chain::new();
            for (net, mac) in members {
                for way in DIRECTIONS {
                    let line = |begun| bound_line(way, begun, *net, *mac, &target);
                    chain.extend(DIRECTIONS.map(line));
                }
            }
            chain.push(format!("-j {PREFIX}sg-fallback"));
            let name = format!("{PREFIX}sg-remote");
            (ChainKey { ethertype, table: Table::Filter, name }, chain)
        };
        FAMILIES.map(of_family).into()
    }

    fn bucket(number: u16, ports: &[&PortChains]) -> Said<Self> {
        let filter = (!ports.is_empty()).then(|| filter_bucket(ports));
        let raw = raw_bucket(ports);
        let mut said = Vec::new();
        for ethertype in FAMILIES {
            let key =
                |table, chain: &str| ChainKey { ethertype, table, name: format!("{PREFIX}{chain}-{number}") };
            said.push((key(Table::Filter, "sg"), filter.clone()));
            said.push((key(Table::Raw, "raw"), Some(raw.clone()).filter(|raw| !raw.is_empty())));
        }
        said
    }

    fn ways(
        buckets: &BTreeSet<u16>,
        chains: &BTreeMap<ChainKey, ChainOf<Self>>,
    ) -> Vec<(ChainKey, ChainOf<Self>)> {
        let mut ways = Vec::new();
        for ethertype in FAMILIES {
            let mut filter = before_ports(ethertype);
            filter.extend(bucket_jumps(buckets.iter().copied(), "sg"));
            filter.push(format!("-j {PREFIX}sg-fallback"));
            let key = |bucket: &u16| ChainKey {
                ethertype,
                table: Table::Raw,
                name: format!("{PREFIX}raw-{bucket}"),
            };
            let raw_buckets = buckets.iter().copied().filter(|bucket| chains.contains_key(&key(bucket)));
            let raw = bucket_jumps(raw_buckets, "raw");
            for (table, name, chain) in [(Table::Filter, "sg-chain", filter), (Table::Raw, "PREROUTING", raw)]
            {
                ways.push((ChainKey { ethertype, table, name: format!("{PREFIX}{name}") }, chain));
            }
        }
        ways
    }
}

fn group_chain(group: &GroupRules<'_>, direction: Direction, ethertype: Ethertype) -> Chain {
    let (target, bound_target) = match group.stateful {
        true => (format!("{PREFIX}sg-accept"), format!("{PREFIX}sg-bound")),
        false => (format!("{PREFIX}sg-untrack"), format!("{PREFIX}sg-untrack")),
    };
    let rules =
        group.rules.iter().filter(|(rule, _)| (rule.direction, rule.ethertype) == (direction, ethertype));
    let line = |(rule, end): &(&Rule, RemoteEnd)| {
        let target = if matches!(end, RemoteEnd::Bound(..)) { &bound_target } else { &target };
        rule_line(rule, end, rule.id.as_str(), target)
    };
    rules.map(line).collect()
}
