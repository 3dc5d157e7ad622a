//! A rule of a document: its words, protocol, ports and remote.

use std::sync::Arc;

use ipnet::IpNet;

use crate::{Direction, Ethertype, GroupId, PortRange, Remote, Rule, RuleId, Service};

use super::diagnostic::ObjectId;
use super::fields::{Fields, Place};
use super::node::Node;
use super::objects::{Draft, Drafts, RuleDraft};
use super::protocol::{self, Protocol};

const RULE_FIELDS: [&str; 10] = [
    "id",
    "security_group_id",
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
];
impl Drafts {
    /// Reads a rule, which stands in the group `inside` or names its group itself.
    pub(super) fn read_rule(&mut self, file: &Arc<str>, path: &str, node: &Node, inside: Option<&GroupId>) {
        let place = Place { file: Arc::clone(file), line: node.line };
        let mut fields = Fields::new(&place, path, node);
        let id = fields.id::<RuleId>("id");
        let named = match inside {
            None => fields.id::<GroupId>("security_group_id"),
            Some(_) => fields.optional_id::<GroupId>("security_group_id"),
        };
        let group = inside.or(named.as_ref()).cloned();
        if let Some(id) = &id {
            fields.rename(ObjectId::Rule(group.clone(), id.clone()));
        }
        if let (Some(inside), Some(named)) = (inside, named.filter(|named| Some(named) != inside)) {
            let reason = format!("is {named}, but the rule stands in {inside}");
            fields.complain(fields.line("security_group_id"), "security_group_id", reason);
        }
        fields.refuse_misspelt(&RULE_FIELDS);
        let direction = read_word(&mut fields, "direction", [Direction::Ingress, Direction::Egress]);
        let ethertype = read_word(&mut fields, "ethertype", [Ethertype::Ipv4, Ethertype::Ipv6]);
        // Without an ethertype the rest is still read, for its complaints; IPv6 takes every protocol's name.
        let service = read_service(&mut fields, ethertype.unwrap_or(Ethertype::Ipv6));
        let remote = read_remote(&mut fields, ethertype);
        let address_group = match &remote {
            Remote::AddressGroup(id) => Some((fields.line("remote_address_group_id"), id.clone())),
            _ => None,
        };
        let problems = fields.finish();
        let object = match (&id, direction, ethertype) {
            (Some(id), Some(direction), Some(ethertype)) if problems.is_empty() => {
                Some(Rule { id: id.clone(), direction, ethertype, service, remote })
            }
            _ => None,
        };
        self.diagnostics.extend(problems);
        self.rules.push(RuleDraft { group, address_group, draft: Draft { place, id, object } });
    }
}

/// One of two words, in any case as the API takes them.
fn read_word<T: ToString>(fields: &mut Fields<'_>, field: &str, choices: [T; 2]) -> Option<T> {
    let node = fields.required(field)?;
    let text = fields.text_of(field, node)?;
    let [first, second] = &choices;
    let reason = format!("expected {} or {}, found {text:?}", first.to_string(), second.to_string());
    let found = choices.into_iter().find(|choice| choice.to_string().eq_ignore_ascii_case(text));
    if found.is_none() {
        fields.complain(node.line, field, reason);
    }
    found
}

/// Protocol, and ports or type and code; anything stands for what was complained of.
fn read_service(fields: &mut Fields<'_>, ethertype: Ethertype) -> Service {
    let protocol = match protocol::read(fields.get("protocol"), ethertype) {
        Ok(protocol) => protocol,
        Err(reason) => {
            fields.complain(fields.line("protocol"), "protocol", reason);
            return Service::Any;
        }
    };
    match protocol {
        Protocol::Ports(protocol) => Service::Ports { protocol, range: read_range(fields) },
        Protocol::Icmp => read_icmp(fields),
        Protocol::Any => {
            refuse_ports(fields, "a rule for any protocol takes no ports");
            Service::Any
        }
        Protocol::Number(number) => {
            refuse_ports(fields, &format!("protocol {number} takes no ports"));
            Service::Protocol(number)
        }
    }
}

/// "an inclusive destination-port range 0..65535; both bounds null = every port"; "one bound alone, or
/// min > max, is an error".
fn read_range(fields: &mut Fields<'_>) -> Option<PortRange> {
    for (given, missing) in [("port_range_min", "port_range_max"), ("port_range_max", "port_range_min")] {
        if fields.get(given).is_some() && fields.get(missing).is_none() {
            fields.complain(fields.line(given), missing, format_args!("is missing beside {given}"));
        }
    }
    let min = fields.number("port_range_min", u16::MAX);
    let max = fields.number("port_range_max", u16::MAX);
    let (min, max) = (min?, max?);
    if min > max {
        let line = fields.line("port_range_min");
        fields.complain(line, "port_range_min", format_args!("{min} is above port_range_max {max}"));
    }
    Some(PortRange { min, max })
}

/// "`port_range_min` = type, `port_range_max` = code; code without type is an error; null = any".
fn read_icmp(fields: &mut Fields<'_>) -> Service {
    if fields.get("port_range_min").is_none() && fields.get("port_range_max").is_some() {
        let line = fields.line("port_range_max");
        fields.complain(line, "port_range_min", "the ICMP type is missing beside the code in port_range_max");
    }
    let icmp_type = fields.number("port_range_min", u8::MAX);
    let code = fields.number("port_range_max", u8::MAX);
    Service::Icmp { icmp_type, code }
}

fn refuse_ports(fields: &mut Fields<'_>, reason: &str) {
    for field in ["port_range_min", "port_range_max"] {
        if fields.get(field).is_some() {
            fields.complain(fields.line(field), field, reason);
        }
    }
}

/// "at most one remote of `remote_ip_prefix`, `remote_group_id`, `remote_address_group_id`".
fn read_remote(fields: &mut Fields<'_>, ethertype: Option<Ethertype>) -> Remote {
    let mut remotes = Vec::new();
    if let Some(node) = fields.get("remote_ip_prefix") {
        let prefix = fields.prefix_of("remote_ip_prefix", node);
        if let (Some(prefix), Some(ethertype)) = (prefix, ethertype) {
            check_family(fields, node, prefix, ethertype);
        }
        remotes.push(("remote_ip_prefix", prefix.map(Remote::Prefix)));
    }
    if fields.get("remote_group_id").is_some() {
        let group = fields.optional_id("remote_group_id").map(Remote::Group);
        remotes.push(("remote_group_id", group));
    }
    if fields.get("remote_address_group_id").is_some() {
        let group = fields.optional_id("remote_address_group_id").map(Remote::AddressGroup);
        remotes.push(("remote_address_group_id", group));
    }
    let mut remotes = remotes.into_iter();
    let Some((first, remote)) = remotes.next() else { return Remote::Any };
    for (another, _) in remotes {
        let line = fields.line(another);
        fields.complain(
            line,
            another,
            format_args!("a second remote beside {first}; a rule has at most one"),
        );
    }
    // A remote that could not be read was complained of, so the rule is refused and this stands for nothing.
    remote.unwrap_or(Remote::Any)
}

fn check_family(fields: &mut Fields<'_>, node: &Node, prefix: IpNet, ethertype: Ethertype) {
    if Ethertype::of(&prefix) != ethertype {
        let reason = format!("{prefix} does not belong in an {ethertype} rule");
        fields.complain(node.line, "remote_ip_prefix", reason);
    }
}
