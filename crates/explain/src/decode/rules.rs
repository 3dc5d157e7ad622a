//! Which rules a flow is of: as the policy has them, or as the flow itself says where there is none.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use policy::{Direction, Ethertype, Policy, Remote, Rule, Service};
use rust_openflow::{Field, Flow};

use super::Writer;
use super::look::{clauses, number, small};
use super::names::{Conjunction, Names, RemoteName, direction_of};
use super::words::{self, Wanted};
use pipeline::layout::{self, register};

/// A rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RuleName {
    /// Its id, where a policy tells it.
    pub id: Option<String>,
    /// What it admits: `ingress tcp/22 from 10.0.0.0/8`.
    pub text: String,
}

/// The other end of a rule, as a flow has it.
enum Peer {
    Any,
    Net(IpNet),
    Remote(RemoteName),
    /// Of our service tables, and of remotes that nobody knows: whichever.
    Whoever,
}

/// The rules of each remote or conjunction, by direction: for flows that have nothing of a rule but that number.
pub(super) type ByRemote = BTreeMap<(Direction, u32), BTreeSet<RuleName>>;

/// The rules that a flow is of by what it matches itself. Those that are of a conjunction are gathered in `by_remote`.
pub(super) fn of_flow(
    flow: &Flow,
    writer: Writer,
    names: &Names,
    policy: Option<&Policy>,
    by_remote: &mut ByRemote,
) -> BTreeSet<RuleName> {
    let (Some(direction), Some(groups)) = (direction_of(flow.table), groups(flow, writer, names)) else {
        return BTreeSet::new();
    };
    let remotes: Vec<u32> = clauses(&flow.actions).iter().map(|(id, _)| key(writer, *id)).collect();
    let peers: Vec<(Option<u32>, Peer)> = match remotes.is_empty() {
        true => vec![(None, own_peer(flow))],
        false => remotes.iter().map(|id| (Some(*id), remote_peer(*id, writer, names))).collect(),
    };
    let mut found = BTreeSet::new();
    for (remote, peer) in peers {
        let of_this = named(flow, names, policy, direction, &groups, &peer, remote);
        if let Some(remote) = remote {
            by_remote.entry((direction, remote)).or_default().extend(of_this.iter().cloned());
        }
        found.extend(of_this);
    }
    found
}

/// The rules of a flow that is a member of remotes, or the end of a conjunction.
pub(super) fn of_remotes(flow: &Flow, writer: Writer, by_remote: &ByRemote) -> BTreeSet<RuleName> {
    let Some(direction) = direction_of(flow.table) else { return BTreeSet::new() };
    let ended = number(&flow.matches, Field::ConjId);
    let ids = clauses(&flow.actions).into_iter().map(|(id, _)| id).chain(ended);
    ids.filter_map(|id| by_remote.get(&(direction, key(writer, id)))).flatten().cloned().collect()
}

fn key(writer: Writer, id: u32) -> u32 {
    if writer == Writer::Neutron { Conjunction::base(id) } else { id }
}

/// The groups whose rules a flow can be of; `None` if it is of no rule.
fn groups(flow: &Flow, writer: Writer, names: &Names) -> Option<Vec<String>> {
    match writer {
        Writer::Sgflow => {
            let slot = [layout::egress_policy::RULE, layout::egress_policy::CONJUNCTION];
            let tables = [
                layout::egress_packet::TABLE,
                layout::egress_policy::TABLE,
                layout::egress_service::TABLE,
                layout::ingress_packet::TABLE,
                layout::ingress_policy::TABLE,
                layout::ingress_service::TABLE,
            ];
            let is_of_rule = tables.contains(&flow.table) && slot.contains(&flow.priority);
            let set = number(&flow.matches, register::SET).filter(|_| is_of_rule)?;
            Some(names.sets.get(&set).map(|set| set.groups.clone()).unwrap_or_default())
        }
        Writer::Neutron => {
            let is_of_rule = [72, 82].contains(&flow.table) && (70..=77).contains(&flow.priority);
            let port = small(&flow.matches, Field::Reg(5)).filter(|_| is_of_rule)?;
            if number(&flow.matches, Field::ConjId).is_some() {
                return None;
            }
            Some(names.ports.get(&port).map(|port| port.groups.iter().cloned().collect()).unwrap_or_default())
        }
        Writer::Openvswitch | Writer::Other => None,
    }
}

fn own_peer(flow: &Flow) -> Peer {
    if [layout::egress_service::TABLE, layout::ingress_service::TABLE].contains(&flow.table) {
        return Peer::Whoever;
    }
    let fields = [
        Field::Ipv4Src,
        Field::Ipv4Dst,
        Field::Ipv6Src,
        Field::Ipv6Dst,
        Field::CtNwSrc,
        Field::CtNwDst,
        Field::CtIpv6Src,
        Field::CtIpv6Dst,
    ];
    fields.iter().find_map(|field| words::net(&flow.matches, *field)).map_or(Peer::Any, Peer::Net)
}

fn remote_peer(id: u32, writer: Writer, names: &Names) -> Peer {
    let known = match writer {
        Writer::Neutron => names.conjunctions.get(&id).and_then(|conjunction| conjunction.remote.clone()),
        _ => names.remotes.get(&id).cloned(),
    };
    known.map_or(Peer::Whoever, Peer::Remote)
}

fn named(
    flow: &Flow,
    names: &Names,
    policy: Option<&Policy>,
    direction: Direction,
    groups: &[String],
    peer: &Peer,
    remote: Option<u32>,
) -> BTreeSet<RuleName> {
    let wanted = Wanted::of(&flow.matches);
    let of_groups = policy.into_iter().flat_map(|policy| {
        groups.iter().filter_map(|group| policy.groups.get(&policy::GroupId::from(group.as_str())))
    });
    let found: BTreeSet<RuleName> = of_groups
        .flat_map(|group| &group.rules)
        .filter(|rule| rule.direction == direction && is_of(rule, &wanted, peer))
        .map(|rule| RuleName { id: Some(rule.id.to_string()), text: rule_text(rule, names) })
        .collect();
    if !found.is_empty() {
        return found;
    }
    let way = if direction == Direction::Egress { "to" } else { "from" };
    let whom = match peer {
        Peer::Any => format!("{way} anybody"),
        Peer::Net(net) => format!("{way} {}", super::terms::plain(*net)),
        Peer::Remote(remote) => format!("{way} {}", names.group(&remote.group)),
        Peer::Whoever => match remote {
            Some(base) => format!("{way} members of conjunction {base}"),
            // A service table says nothing of whom, and its rules stand elsewhere too.
            None => return BTreeSet::new(),
        },
    };
    BTreeSet::from([RuleName { id: None, text: format!("{direction} {} {whom}", wanted.text()) }])
}

/// Whether a flow with this service and other end is one of those that the rule comes to.
fn is_of(rule: &Rule, wanted: &Wanted, peer: &Peer) -> bool {
    let has_peer = match (peer, &rule.remote) {
        (Peer::Whoever, _) | (Peer::Any, Remote::Any) => true,
        (Peer::Any, Remote::Prefix(net)) => net.prefix_len() == 0,
        (Peer::Net(one), Remote::Prefix(other)) => one.trunc() == other.trunc(),
        (Peer::Remote(one), Remote::Group(other)) => !one.is_address_group && one.group == other.as_str(),
        (Peer::Remote(one), Remote::AddressGroup(other)) => {
            one.is_address_group && one.group == other.as_str()
        }
        _ => false,
    };
    has_peer && wanted.ethertype == Some(rule.ethertype) && has_service(rule, wanted)
}

fn has_service(rule: &Rule, wanted: &Wanted) -> bool {
    let byte = |number: Option<u16>| number.and_then(|number| u8::try_from(number).ok());
    match rule.service {
        Service::Any => wanted.protocol.is_none(),
        Service::Protocol(protocol) => wanted.protocol == Some(protocol),
        Service::Icmp { icmp_type, code } => {
            let is_icmp = wanted.protocol == Some(rule.ethertype.icmp());
            is_icmp && byte(wanted.icmp.0) == icmp_type && byte(wanted.icmp.1) == code
        }
        Service::Ports { protocol, range } => {
            let is_within = match (range, wanted.destination) {
                (None, None) => true,
                (Some(range), Some((low, high))) => range.contains(low) && range.contains(high),
                // All ports of a protocol may stand as no port at all.
                (Some(range), None) => range.min <= 1 && range.max == u16::MAX,
                (None, Some(_)) => false,
            };
            wanted.protocol == Some(protocol.number()) && is_within
        }
    }
}

/// `ingress IPv4 tcp/5432 from web`.
fn rule_text(rule: &Rule, names: &Names) -> String {
    let Rule { direction, ethertype, service, remote, .. } = rule;
    let way = if *direction == Direction::Egress { "to" } else { "from" };
    let whom = match remote {
        Remote::Any => "anybody".to_owned(),
        Remote::Prefix(net) => super::terms::plain(*net),
        Remote::Group(group) => names.group(group.as_str()),
        Remote::AddressGroup(group) => names.group(group.as_str()),
    };
    format!("{direction} {} {way} {whom}", service_text(*ethertype, *service))
}

fn service_text(ethertype: Ethertype, service: Service) -> String {
    let (protocol, destination, icmp) = match service {
        Service::Any => (None, None, (None, None)),
        Service::Protocol(protocol) => (Some(protocol), None, (None, None)),
        Service::Icmp { icmp_type, code } => {
            (Some(ethertype.icmp()), None, (icmp_type.map(u16::from), code.map(u16::from)))
        }
        Service::Ports { protocol, range } => {
            (Some(protocol.number()), range.map(|range| (range.min, range.max)), (None, None))
        }
    };
    Wanted { ethertype: Some(ethertype), protocol, source: None, destination, icmp }.text()
}
