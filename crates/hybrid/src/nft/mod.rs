//! nftables: everything is in `table inet sgflow`, beside the table of the bridge family.
//!
//! ```text
//! -450 before-fragments ── stateless ── to-stateless.P, from-stateless.P ── ingress.G, egress.G ── admit-untracked
//!                       └─ zones                                            the rest is tracked in the port's zone
//!    0 forward ─┬─ connections that are known
//!               └─ rules ── to.P, from.P ── ingress.G, egress.G ── admit-free     a port's, its groups'
//! ```
//!
//! `stateless`, `zones` and `rules` are maps by a frame's mark, so that a packet passes its own port's rules alone. A rule of a group is one rule,
//! or two where its remote has members: single addresses are in one set, a hash table, prefixes in another, of ranges
//! ([`wide`]); a change in the former costs the same however large it is.

mod rule;
mod script;

use std::collections::BTreeSet;

use ipnet::IpNet;
use policy::{Direction, Ethertype, MacAddr, Rule, Service};

pub use rule::{Match, NftRule, Then};
pub use script::{Draft, script};

use crate::bridge::{Data, Element, Family, Key, zone_element};
use crate::dialect::{Dialect, GroupRules, PortChains, RemoteEnd, Said};
use crate::drops;
use crate::firewall::{DIRECTIONS, FAMILIES};
use crate::mark;
use crate::sets::Sets;

/// What does not depend on ports but for the chains that drop.
const RULESET: &str = include_str!("rules.nft");

/// What does not depend on ports, in the words of nft(8): `table inet sgflow`.
pub fn ruleset() -> String {
    format!("{}\n{RULESET}", drops::chains(Family::Inet))
}

/// Stands in the name of each chain that depends on ports, and in no other chain's.
pub const DEPENDS: char = '.';
/// Ends the name of a set of prefixes.
const WIDE: &str = "/wide";

/// The name of the set of single addresses of a remote, of the name that [`Sets`] gives: nft(8) takes no `~` in names.
pub fn narrow(set: &str) -> String {
    set.replace('~', "/")
}

/// The name of the set of its prefixes.
pub fn wide(set: &str) -> String {
    format!("{}{WIDE}", narrow(set))
}

/// Whether it is the name of a set of prefixes.
pub fn is_wide(set: &str) -> bool {
    set.ends_with(WIDE)
}

/// In the words of nftables.
#[derive(Clone, Copy, Debug)]
pub enum Nft {}

impl Dialect for Nft {
    /// The name of a chain of `table inet sgflow`.
    type Key = String;
    type Rule = NftRule;

    fn sets(_compress: bool) -> Sets {
        Sets::apart()
    }

    fn why_not(rule: &Rule) -> Option<&'static str> {
        match (rule.ethertype, rule.service) {
            // `meta l4proto` is what stands behind them (include/net/netfilter/nf_tables_ipv6.h: `__nft_set_pktinfo_ipv6`).
            (Ethertype::Ipv6, Service::Protocol(43 | 44 | 51 | 60)) => {
                Some("an IPv6 extension header is no protocol to nftables")
            }
            _ => None,
        }
    }

    fn base() -> Vec<(String, Vec<NftRule>)> {
        Vec::new()
    }

    fn port(name: &str, port: Option<&PortChains>) -> Said<Self> {
        let mut said = Vec::new();
        for direction in DIRECTIONS {
            let jumps = |groups: &Vec<String>| {
                let jump = |group: &String| plain(Vec::new(), Then::Jump(group_chain(group, direction)));
                let chain: Vec<NftRule> = groups.iter().map(jump).collect();
                Some(chain).filter(|chain| !chain.is_empty())
            };
            let stateful = port.and_then(|port| jumps(&port.stateful));
            said.push((port_chain(name, direction), stateful));
            let stateless = port.and_then(|port| jumps(&port.stateless));
            said.push((stateless_chain(name, direction), stateless));
        }
        said
    }

    fn elements(port: &PortChains) -> BTreeSet<Element> {
        let mut elements = BTreeSet::new();
        let mut lead = |set, direction, chain| {
            let key = vec![Key::Mark(mark::of(port.zone, direction))];
            elements.insert(Element { family: Family::Inet, set, key, data: Some(Data::Jump(chain)) });
        };
        for direction in DIRECTIONS {
            if !port.stateful.is_empty() {
                lead("rules", direction, port_chain(&port.name, direction));
            }
            if !port.stateless.is_empty() {
                lead("stateless", direction, stateless_chain(&port.name, direction));
            }
        }
        if !port.stateful.is_empty() {
            elements.insert(zone_element(port.zone));
        }
        elements
    }

    fn group(name: &str, group: Option<&GroupRules<'_>>) -> Said<Self> {
        let of = |direction| {
            let chain = group.map(|group| {
                let rules = group.rules.iter().filter(|(rule, _)| rule.direction == direction);
                with_first_parts_last(rules.flat_map(|(rule, end)| rules_of(rule, end, group.stateful)))
            });
            (group_chain(name, direction), chain)
        };
        DIRECTIONS.map(of).into()
    }

    fn bound(members: &BTreeSet<(IpNet, MacAddr)>) -> Vec<(String, Vec<NftRule>)> {
        let rule = |(net, mac): &(IpNet, MacAddr), way: Direction, begun: Direction| {
            let mut matches = vec![Match::Family(Ethertype::of(net)), Match::Way(way), Match::Begun(begun)];
            matches.extend((net.prefix_len() > 0).then_some(Match::ConnectionsRemote(begun, *net)));
            matches.push(Match::RemoteMac(way, *mac));
            plain(matches, Then::Goto("admit".to_owned()))
        };
        let mut chain = Vec::new();
        for member in members {
            for way in DIRECTIONS {
                chain.extend(DIRECTIONS.map(|begun| rule(member, way, begun)));
            }
        }
        chain.push(plain(Vec::new(), Then::Goto("drop-no-rule".to_owned())));
        vec![("bound.members".to_owned(), chain)]
    }
}

fn port_chain(name: &str, direction: Direction) -> String {
    match direction {
        Direction::Ingress => format!("to.{name}").replace('~', "/"),
        Direction::Egress => format!("from.{name}").replace('~', "/"),
    }
}

fn stateless_chain(name: &str, direction: Direction) -> String {
    match direction {
        Direction::Ingress => format!("to-stateless.{name}").replace('~', "/"),
        Direction::Egress => format!("from-stateless.{name}").replace('~', "/"),
    }
}

fn group_chain(name: &str, direction: Direction) -> String {
    match direction {
        Direction::Ingress => format!("ingress.{name}").replace('~', "/"),
        Direction::Egress => format!("egress.{name}").replace('~', "/"),
    }
}

fn plain(matches: Vec<Match>, then: Then) -> NftRule {
    NftRule { matches, then, comment: None }
}

/// A rule of a group: one, or one for each set of its remote's members.
fn rules_of(rule: &Rule, end: &RemoteEnd, stateful: bool) -> Vec<NftRule> {
    let (direction, ethertype) = (rule.direction, rule.ethertype);
    let then = match (stateful, end) {
        (false, _) => Then::Goto("admit-untracked".to_owned()),
        (true, RemoteEnd::Bound(..)) => Then::Jump("admit-bound".to_owned()),
        (true, RemoteEnd::Any | RemoteEnd::Prefix(_) | RemoteEnd::Set(_)) => {
            Then::Goto("admit-free".to_owned())
        }
    };
    let ends: Vec<Vec<Match>> = match end {
        RemoteEnd::Any => vec![Vec::new()],
        RemoteEnd::Prefix(net) => vec![prefix(direction, *net).into_iter().collect()],
        RemoteEnd::Bound(net, mac) => {
            let mac = Match::RemoteMac(direction, *mac);
            vec![prefix(direction, *net).into_iter().chain([mac]).collect()]
        }
        RemoteEnd::Set(set) => {
            [narrow(set), wide(set)].map(|set| vec![Match::RemoteInSet(direction, ethertype, set)]).into()
        }
    };
    let with_end = |end: Vec<Match>| {
        let mut matches = vec![Match::Family(ethertype)];
        matches.extend(service(ethertype, rule.service));
        matches.extend(end);
        NftRule { matches, then: then.clone(), comment: rule::comment(rule.id.as_str()) }
    };
    ends.into_iter().map(with_end).collect()
}

/// Rules that ask for ports, or types of ICMP, stand behind one that sends away later parts of datagrams, in which the kernel takes for a port
/// whatever stands there (Linux 6.18, net/netfilter/nf_tables_core.c: `nft_payload_fast_eval`; seen with ports).
fn with_first_parts_last(rules: impl Iterator<Item = NftRule>) -> Vec<NftRule> {
    let (of_first_part, mut chain): (Vec<NftRule>, Vec<NftRule>) = rules.partition(NftRule::is_of_first_part);
    for ethertype in FAMILIES {
        if of_first_part.iter().any(|rule| rule.matches.contains(&Match::Family(ethertype))) {
            let later = vec![Match::Family(ethertype), Match::LaterPart(ethertype)];
            chain.push(plain(later, Then::Return));
        }
    }
    chain.extend(of_first_part);
    chain
}

/// Of what holds everything nothing is asked.
fn prefix(direction: Direction, net: IpNet) -> Option<Match> {
    (net.prefix_len() > 0).then_some(Match::Remote(direction, net))
}

fn service(ethertype: Ethertype, service: Service) -> Vec<Match> {
    match service {
        Service::Any => Vec::new(),
        Service::Ports { protocol, range } => {
            let port = range.map(Match::Port);
            [Match::Protocol(protocol.number())].into_iter().chain(port).collect()
        }
        Service::Icmp { icmp_type, code } => {
            let told = match (icmp_type, code) {
                (Some(icmp_type), Some(code)) => Some(Match::IcmpTypeAndCode(icmp_type, code)),
                (Some(icmp_type), None) => Some(Match::IcmpType(icmp_type)),
                (None, _) => None,
            };
            [Match::Protocol(ethertype.icmp())].into_iter().chain(told).collect()
        }
        Service::Protocol(number) => vec![Match::Protocol(number)],
    }
}
