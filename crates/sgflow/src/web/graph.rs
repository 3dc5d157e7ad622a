//! Groups, and who may reach whom by their rules, as nodes and arrows: what the rules say, not what becomes of a packet.

use std::collections::{BTreeMap, BTreeSet};

use explain::words::{group_name, service_words};
use policy::{Direction, Ethertype, GroupId, Policy, Remote, Rule, Service};
use serde::Serialize;

use super::found::carriers;

/// No more groups are drawn whole: of more, the neighbourhood of one.
const WHOLE: usize = 24;
/// No more nodes are drawn.
const NODES: usize = 48;

/// What is drawn.
#[derive(Serialize)]
pub(super) struct Graph {
    /// The group whose neighbourhood it is; null of the whole.
    chosen: Option<String>,
    /// How many groups the policy has.
    groups: usize,
    /// Whether there are too many to be drawn whole, and none is chosen.
    is_too_large: bool,
    nodes: Vec<Node>,
    arrows: Vec<Arrow>,
    /// Nodes for which there is no room.
    left_out: usize,
}

/// A group, or what is outside of all.
#[derive(Serialize)]
struct Node {
    key: String,
    kind: &'static str,
    id: Option<String>,
    name: String,
    /// `3 ports`, `5 prefixes`.
    about: String,
}

/// What one end may send to the other by rules of one direction.
#[derive(Serialize)]
struct Arrow {
    from: String,
    to: String,
    /// Of the rules: those of the receiver (`ingress`), or those of the sender (`egress`).
    direction: String,
    services: Vec<String>,
}

/// A node. Groups come first where there is not room for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End<'p> {
    Group(&'p GroupId),
    Anywhere,
    AddressGroup(&'p policy::AddressGroupId),
    Prefix(ipnet::IpNet),
}

/// Sender, receiver, direction of the rule.
type Way<'p> = (End<'p>, End<'p>, Direction);

/// The whole, or the neighbourhood of a group.
///
/// # Errors
/// The policy does not know the group.
pub(super) fn graph(policy: &Policy, chosen: Option<&str>) -> Result<Graph, String> {
    let chosen = chosen.map(GroupId::from);
    if let Some(id) = chosen.as_ref().filter(|id| !policy.groups.contains_key(id)) {
        return Err(format!("security group {id}: the policy does not know it"));
    }
    let is_too_large = chosen.is_none() && policy.groups.len() > WHOLE;
    let mut ways = if is_too_large { BTreeMap::new() } else { ways(policy, chosen.as_ref()) };
    let mut ends: BTreeSet<End<'_>> = ways.keys().flat_map(|(from, to, _)| [from, to]).cloned().collect();
    ends.extend(chosen.iter().map(End::Group));
    if chosen.is_none() && !is_too_large {
        ends.extend(policy.groups.keys().map(End::Group));
    }
    // The chosen one has room whatever its id.
    let is_chosen = |end: &&End<'_>| matches!(end, End::Group(id) if Some(*id) == chosen.as_ref());
    let others = ends.iter().filter(|end| !is_chosen(end)).take(NODES - 1);
    let kept: BTreeSet<End<'_>> = ends.iter().filter(is_chosen).chain(others).cloned().collect();
    ways.retain(|(from, to, _), _| kept.contains(from) && kept.contains(to));
    let carriers = carriers(policy);
    Ok(Graph {
        chosen: chosen.as_ref().map(ToString::to_string),
        groups: policy.groups.len(),
        is_too_large,
        nodes: kept.iter().map(|end| end.node(policy, &carriers)).collect(),
        arrows: ways.iter().map(|(way, services)| arrow(way, services)).collect(),
        left_out: ends.len() - kept.len(),
    })
}

/// What may be sent each way: by service the families.
fn ways<'p>(
    policy: &'p Policy,
    chosen: Option<&GroupId>,
) -> BTreeMap<Way<'p>, BTreeMap<String, BTreeSet<Ethertype>>> {
    let mut ways: BTreeMap<Way<'p>, BTreeMap<String, BTreeSet<Ethertype>>> = BTreeMap::new();
    for (id, group) in &policy.groups {
        for rule in &group.rules {
            let other = End::of(&rule.remote);
            let is_of_chosen = |end: &End<'_>| matches!(end, End::Group(id) if Some(*id) == chosen);
            if chosen.is_some() && Some(id) != chosen && !is_of_chosen(&other) {
                continue;
            }
            let way = match rule.direction {
                Direction::Ingress => (other, End::Group(id), rule.direction),
                Direction::Egress => (End::Group(id), other, rule.direction),
            };
            ways.entry(way).or_default().entry(words(rule)).or_default().insert(rule.ethertype);
        }
    }
    ways
}

fn words(rule: &Rule) -> String {
    service_words(rule.ethertype, rule.service)
}

impl<'p> End<'p> {
    fn of(remote: &'p Remote) -> Self {
        match remote {
            Remote::Any => End::Anywhere,
            Remote::Prefix(prefix) if prefix.prefix_len() == 0 => End::Anywhere,
            Remote::Prefix(prefix) => End::Prefix(*prefix),
            Remote::Group(id) => End::Group(id),
            Remote::AddressGroup(id) => End::AddressGroup(id),
        }
    }

    fn key(&self) -> String {
        match self {
            End::Anywhere => "anywhere".to_owned(),
            End::Prefix(prefix) => format!("prefix {prefix}"),
            End::AddressGroup(id) => format!("address-group {id}"),
            End::Group(id) => format!("group {id}"),
        }
    }

    fn node(&self, policy: &'p Policy, carriers: &BTreeMap<&GroupId, usize>) -> Node {
        let number =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (kind, id, name, about) = match self {
            End::Anywhere => ("anywhere", None, "anywhere".to_owned(), "any address".to_owned()),
            End::Prefix(prefix) => ("prefix", None, prefix.to_string(), "prefix".to_owned()),
            End::AddressGroup(id) => {
                let group = policy.address_groups.get(id);
                let name = group.map(|group| group.name.as_str()).filter(|name| !name.is_empty());
                let prefixes = group.map_or(0, |group| group.addresses.len());
                let about = number(prefixes, "prefix").replace("prefixs", "prefixes");
                ("address-group", Some(id.to_string()), name.unwrap_or(id.as_str()).to_owned(), about)
            }
            End::Group(id) => {
                let ports = carriers.get(id).copied().unwrap_or_default();
                let name = group_name(policy, id).to_owned();
                ("group", Some(id.to_string()), name, number(ports, "port"))
            }
        };
        Node { key: self.key(), kind, id, name, about }
    }
}

fn arrow((from, to, direction): &Way<'_>, services: &BTreeMap<String, BTreeSet<Ethertype>>) -> Arrow {
    let is_prefix = [from, to].iter().any(|end| matches!(end, End::Prefix(_)));
    let service = |(words, families): (&String, &BTreeSet<Ethertype>)| {
        // Prefixes and names of ICMP show the family.
        let is_shown = is_prefix || families.len() > 1 || words.starts_with("icmp");
        match families.first() {
            Some(family) if !is_shown => format!("{words} ({family})"),
            _ => words.clone(),
        }
    };
    let all = service_words(Ethertype::Ipv4, Service::Any);
    // What is said of everything says the rest too.
    let services: Vec<String> = match services.get(&all) {
        Some(families) if families.len() > 1 => vec![all],
        _ => services.iter().map(service).collect(),
    };
    Arrow { from: from.key(), to: to.key(), direction: direction.to_string(), services }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn policy(text: &str) -> Policy {
        let parsed = policy::document::parse(&[("policy.yaml", text)], None);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        parsed.policy
    }

    fn lines(graph: &Graph) -> Vec<String> {
        let line = |arrow: &Arrow| {
            format!("{} > {} {}: {}", arrow.from, arrow.to, arrow.direction, arrow.services.join(", "))
        };
        graph.arrows.iter().map(line).collect()
    }

    #[test]
    fn arrows_are_the_rules_and_a_neighbourhood_is_one_groups() {
        let policy = policy(
            "security_groups:
- {id: web, security_group_rules: [
    {id: r1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80},
    {id: r2, direction: ingress, ethertype: IPv6, protocol: tcp, port_range_min: 80, port_range_max: 80},
    {id: r3, direction: ingress, ethertype: IPv4, protocol: icmp},
    {id: r4, direction: egress, ethertype: IPv4},
    {id: r5, direction: egress, ethertype: IPv6}]}
- {id: db, security_group_rules: [
    {id: r6, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 5432, port_range_max: 5432, remote_group_id: web},
    {id: r7, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 22, port_range_max: 22, remote_ip_prefix: 10.9.0.0/16}]}
- {id: lone, security_group_rules: []}
",
        );
        let whole = graph(&policy, None).unwrap();
        assert_eq!(whole.nodes.len(), 5);
        assert_eq!(
            lines(&whole),
            [
                "group web > group db ingress: tcp/5432 (IPv4)",
                "group web > anywhere egress: everything",
                "anywhere > group web ingress: icmp, tcp/80",
                "prefix 10.9.0.0/16 > group db ingress: tcp/22",
            ]
        );
        let around = graph(&policy, Some("db")).unwrap();
        assert_eq!(
            lines(&around),
            [
                "group web > group db ingress: tcp/5432 (IPv4)",
                "prefix 10.9.0.0/16 > group db ingress: tcp/22"
            ]
        );
        assert_eq!(graph(&policy, Some("lone")).unwrap().nodes.len(), 1);
        assert!(graph(&policy, Some("nobody")).is_err());
    }

    #[test]
    fn of_two_hundred_groups_one_is_to_be_chosen_and_what_has_no_room_is_counted() {
        let mut text = "security_groups:\n".to_owned();
        for number in 0..200 {
            let rule =
                format!("{{id: r{number}, direction: ingress, ethertype: IPv4, remote_group_id: g000}}");
            _ = writeln!(text, "- {{id: g{number:03}, security_group_rules: [{rule}]}}");
        }
        let policy = policy(&text);
        let whole = graph(&policy, None).unwrap();
        assert!(whole.is_too_large && whole.nodes.is_empty() && whole.arrows.is_empty());
        assert_eq!(graph(&policy, Some("g150")).unwrap().nodes.len(), 2);
        let hub = graph(&policy, Some("g000")).unwrap();
        assert_eq!((hub.nodes.len(), hub.arrows.len(), hub.left_out), (48, 48, 152));
    }
}
