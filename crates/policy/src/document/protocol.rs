//! The API's protocols, by name and number.

use crate::{Ethertype, PortProtocol};

use super::fields::number_in;
use super::node::{Node, Value};

/// What a rule's `protocol` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    Any,
    Ports(PortProtocol),
    /// ICMP of the rule's ethertype.
    Icmp,
    Number(u8),
}

/// Names without a variant of their own (semantics, "Objects") and their numbers (IANA, Assigned Internet
/// Protocol Numbers).
pub(super) const NUMBERS: [(&str, u8); 15] = [
    ("ah", 51),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("vrrp", 112),
];

/// Reads a rule's `protocol`; absent means any. An error is the reason.
pub(super) fn read(node: Option<&Node>, ethertype: Ethertype) -> Result<Protocol, String> {
    let Some(node) = node else { return Ok(Protocol::Any) };
    if let Some(number) = number_in(&node.value) {
        let number = u8::try_from(number)
            .map_err(|_| format!("expected a protocol number from 0 to 255, found {number}"))?;
        return Ok(by_number(number, ethertype));
    }
    match &node.value {
        Value::Text(name) => by_name(&name.to_ascii_lowercase(), ethertype),
        other => Err(format!("expected a protocol's name or number, found {}", other.kind())),
    }
}

/// "protocol null, `any` and `0` mean any protocol"; "a number means itself (58 takes type and code in IPv6 rules,
/// 1 in IPv4 rules)".
fn by_number(number: u8, ethertype: Ethertype) -> Protocol {
    match PortProtocol::from_number(number) {
        Some(protocol) => Protocol::Ports(protocol),
        None if number == 0 => Protocol::Any,
        None if number == ethertype.icmp() => Protocol::Icmp,
        None => Protocol::Number(number),
    }
}

pub(super) fn by_name(name: &str, ethertype: Ethertype) -> Result<Protocol, String> {
    if let Some(protocol) = PortProtocol::ALL.into_iter().find(|protocol| protocol.to_string() == name) {
        return Ok(Protocol::Ports(protocol));
    }
    match name {
        "any" => Ok(Protocol::Any),
        "icmp" => Ok(Protocol::Icmp),
        "icmpv6" | "ipv6-icmp" if ethertype == Ethertype::Ipv6 => Ok(Protocol::Icmp),
        "icmpv6" | "ipv6-icmp" => Err(format!("{name} does not belong in an IPv4 rule")),
        _ => match NUMBERS.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => Ok(by_number(*number, ethertype)),
            None => Err(format!("{name:?}: unknown protocol; give its number, 0 to 255")),
        },
    }
}
