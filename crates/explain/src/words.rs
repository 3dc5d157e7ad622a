//! Rules, packets and their parts as a person would say them.

use policy::document::protocol_name;
use policy::evaluator::Gap;
use policy::{
    AddressGroupId, Direction, Ethertype, GroupId, Policy, PortRange, Remote, Rule, SecurityGroup, Service,
};

/// What a rule lets pass, and from or to whom: `tcp/443 from 10.0.0.0/8`, `IPv4 icmp type 8 from group web`.
pub fn rule_words(policy: &Policy, group: &GroupId, rule: &Rule) -> String {
    let service = service_words(rule.ethertype, rule.service);
    let remote = remote_words(policy, group, rule);
    match rule.remote {
        // The prefix shows the family.
        Remote::Prefix(_) => format!("{service} {remote}"),
        _ => format!("{} {service} {remote}", rule.ethertype),
    }
}

/// `tcp/80-90`, `icmp type 8 code 0`, `everything`.
pub fn service_words(ethertype: Ethertype, service: Service) -> String {
    match service {
        Service::Any => "everything".to_owned(),
        Service::Ports { protocol, range: None } => protocol.to_string(),
        Service::Ports { protocol, range: Some(PortRange { min, max }) } if min == max => {
            format!("{protocol}/{min}")
        }
        Service::Ports { protocol, range: Some(PortRange { min, max }) } => format!("{protocol}/{min}-{max}"),
        Service::Icmp { icmp_type, code } => {
            let mut words = protocol_name(ethertype.icmp(), ethertype);
            if let Some(icmp_type) = icmp_type {
                words += &format!(" type {icmp_type}");
            }
            if let Some(code) = code {
                words += &format!(" code {code}");
            }
            words
        }
        Service::Protocol(number) => protocol_name(number, ethertype),
    }
}

fn remote_words(policy: &Policy, own: &GroupId, rule: &Rule) -> String {
    let end = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    match &rule.remote {
        Remote::Any => format!("{end} anywhere"),
        Remote::Prefix(prefix) => format!("{end} {prefix}"),
        Remote::Group(group) if group == own => format!("{end} its own group"),
        Remote::Group(group) => format!("{end} group {}", group_name(policy, group)),
        Remote::AddressGroup(group) => format!("{end} address group {}", address_group_name(policy, group)),
    }
}

/// The name of a group, its id where it has none.
pub fn group_name<'p>(policy: &'p Policy, id: &'p GroupId) -> &'p str {
    let name = policy.groups.get(id).map_or("", |group| group.name.as_str());
    if name.is_empty() { id.as_str() } else { name }
}

fn address_group_name<'p>(policy: &'p Policy, id: &'p AddressGroupId) -> &'p str {
    let name = policy.address_groups.get(id).map_or("", |group| group.name.as_str());
    if name.is_empty() { id.as_str() } else { name }
}

/// What a frame has in place of what a rule wants: `the source is 11.0.0.5`.
pub(crate) fn gap_words(policy: &Policy, group: &SecurityGroup, rule: &Rule, gap: Gap) -> String {
    let end = match rule.direction {
        Direction::Ingress => "source",
        Direction::Egress => "destination",
    };
    let remote = || match &rule.remote {
        Remote::Group(id) if *id == group.id => "the group".to_owned(),
        Remote::Group(id) => group_name(policy, id).to_owned(),
        Remote::AddressGroup(id) => address_group_name(policy, id).to_owned(),
        Remote::Any | Remote::Prefix(_) => String::new(),
    };
    match gap {
        Gap::Ethertype(shown) => format!("the packet is {shown}"),
        Gap::Protocol(number) => format!("the protocol is {}", protocol_name(number, shown_family(rule))),
        Gap::Port(Some(port)) => format!("the port is {port}"),
        Gap::Port(None) => "the packet shows no port".to_owned(),
        Gap::IcmpType(Some(icmp_type)) => format!("the type is {icmp_type}"),
        Gap::IcmpType(None) => "the packet shows no type".to_owned(),
        Gap::IcmpCode(code) => format!("the code is {code}"),
        Gap::Remote(ip) => match rule.remote {
            Remote::Any | Remote::Prefix(_) => format!("the {end} is {ip}"),
            Remote::Group(_) => format!("the {end} {ip} is no member of {}", remote()),
            Remote::AddressGroup(_) => format!("the {end} {ip} is not in {}", remote()),
        },
        Gap::NoMember(_) => match rule.remote {
            Remote::AddressGroup(_) => format!("{} has no {} address", remote(), rule.ethertype),
            _ => format!("{} has no {} member", remote(), rule.ethertype),
        },
        Gap::MemberMac(ip) => {
            format!("the {end} {ip} is in a member of {} that counts with its own MAC only", remote())
        }
    }
}

/// The family by which a protocol of the packet is named; another one is told of by itself.
fn shown_family(rule: &Rule) -> Ethertype {
    rule.ethertype
}
