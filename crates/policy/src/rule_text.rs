//! A rule in words: short, for people, and as the policy store keeps it.
//!
//! `ingress IPv4 tcp 80-90 from 10.0.0.0/8`, `egress IPv6`, `ingress IPv4 icmp 8/0 from group sg-1`,
//! `ingress IPv4 from own group`, `egress IPv4 udp 53 to address-group ag-1`: direction, ethertype, then protocol, then ports (or type and code), then the other end, each
//! of the last three only if the rule says something of it. The words are those of the API; what they may be is said where documents are
//! read, to which [`document`] leads.

use serde_json::{Map, Value};

use crate::{Direction, GroupId, PortRange, Remote, Rule, Service};

/// The rule of this group, without its id.
pub fn write(rule: &Rule, own: &GroupId) -> String {
    let mut text = format!("{} {}", rule.direction, rule.ethertype);
    let mut add = |word: &str| {
        text.push(' ');
        text.push_str(word);
    };
    match rule.service {
        Service::Any => {}
        Service::Ports { protocol, range } => {
            add(&protocol.to_string());
            if let Some(PortRange { min, max }) = range {
                add(&if min == max { min.to_string() } else { format!("{min}-{max}") });
            }
        }
        Service::Icmp { icmp_type, code } => {
            add("icmp");
            if let Some(icmp_type) = icmp_type {
                add(&code.map_or_else(|| icmp_type.to_string(), |code| format!("{icmp_type}/{code}")));
            }
        }
        Service::Protocol(number) => add(&number.to_string()),
    }
    let end = preposition(rule.direction);
    match &rule.remote {
        Remote::Any => {}
        Remote::Prefix(prefix) => add(&format!("{end} {prefix}")),
        Remote::Group(id) if id == own => add(&format!("{end} {OWN}")),
        Remote::Group(id) => add(&format!("{end} group {id}")),
        Remote::AddressGroup(id) => add(&format!("{end} address-group {id}")),
    }
    text
}

/// The group that the rule stands in.
const OWN: &str = "own group";

const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

/// The rule of this group as a document has it.
///
/// # Errors
/// The words do not follow each other like this. That they mean something is not looked at.
pub fn document(id: &str, text: &str, own: &GroupId) -> Result<Value, String> {
    let mut words = Words { text, left: text };
    let mut object = Map::from_iter([("id".to_owned(), Value::from(id))]);
    let mut put = |field: &str, word: &str| {
        let number = word.parse::<u64>().ok().filter(|_| field.starts_with("port_range_"));
        object.insert(field.to_owned(), number.map_or_else(|| Value::from(word), Value::from))
    };
    put("direction", words.next().ok_or_else(|| words.expected("ingress or egress"))?);
    put("ethertype", words.next().ok_or_else(|| words.expected("IPv4 or IPv6"))?);
    if let Some(protocol) = words.next_of_service() {
        put("protocol", protocol);
        if let Some(range) = words.next_of_service() {
            let is_icmp = matches!(protocol, "icmp" | "icmpv6" | "ipv6-icmp");
            let bounds = range.split_once(if is_icmp { '/' } else { '-' });
            let (min, max) = match bounds {
                Some((min, max)) => (min, Some(max)),
                None => (range, (!is_icmp).then_some(range)),
            };
            put("port_range_min", min);
            if let Some(max) = max {
                put("port_range_max", max);
            }
        }
    }
    if words.next_if(|word| word == "from" || word == "to").is_some() {
        let named = match words.left {
            OWN => Some(words.next().unwrap_or_default()),
            _ => words.next_if(|word| word == "group" || word == "address-group"),
        };
        match named {
            Some("own") => put("remote_group_id", own.as_str()),
            Some("group") => put("remote_group_id", words.rest()?),
            Some(_) => put("remote_address_group_id", words.rest()?),
            None => put("remote_ip_prefix", words.rest()?),
        };
    } else if !words.left.is_empty() {
        return Err(words.expected("from or to"));
    }
    Ok(Value::Object(object))
}

/// Whom the rule names, without looking at the rest of it.
pub fn remote(text: &str) -> Option<NamedRemote<'_>> {
    let mut words = Words { text, left: text };
    while words.next_if(|word| word != "from" && word != "to").is_some() {}
    words.next()?;
    if words.left == OWN {
        return Some(NamedRemote::Own);
    }
    match words.next()? {
        "group" => Some(NamedRemote::Group(words.left)),
        "address-group" => Some(NamedRemote::AddressGroup(words.left)),
        _ => None,
    }
}

/// See [`remote`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamedRemote<'t> {
    /// The group that the rule stands in.
    Own,
    /// The security group of that id.
    Group(&'t str),
    /// The address group of that id.
    AddressGroup(&'t str),
}

struct Words<'t> {
    text: &'t str,
    left: &'t str,
}

impl<'t> Words<'t> {
    fn next(&mut self) -> Option<&'t str> {
        self.next_if(|_| true)
    }

    fn next_if(&mut self, is_it: impl Fn(&str) -> bool) -> Option<&'t str> {
        let (word, left) = self.left.split_once(' ').unwrap_or((self.left, ""));
        if word.is_empty() || !is_it(word) {
            return None;
        }
        self.left = left;
        Some(word)
    }

    fn next_of_service(&mut self) -> Option<&'t str> {
        self.next_if(|word| word != "from" && word != "to")
    }

    /// An id may have spaces.
    fn rest(&mut self) -> Result<&'t str, String> {
        match std::mem::take(&mut self.left) {
            "" => Err(self.expected("whom")),
            rest => Ok(rest),
        }
    }

    fn expected(&self, what: &str) -> String {
        let at = match self.left {
            "" => "at its end".to_owned(),
            left => format!("before {left:?}"),
        };
        format!("{:?}: expected {what} {at}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let read = document("r", text, &"g".into()).map(|mut value| {
            value.as_object_mut().unwrap().shift_remove("id");
            value.to_string()
        });
        expected.assert_eq(&read.unwrap_or_else(|reason| reason));
    }

    #[test]
    fn words_become_fields() {
        check("egress IPv6", &expect![[r#"{"direction":"egress","ethertype":"IPv6"}"#]]);
        check(
            "ingress IPv4 tcp 80-90 from 10.0.0.0/8",
            &expect![[
                r#"{"direction":"ingress","ethertype":"IPv4","protocol":"tcp","port_range_min":80,"port_range_max":90,"remote_ip_prefix":"10.0.0.0/8"}"#
            ]],
        );
        check(
            "ingress IPv4 icmp 8 from group a b",
            &expect![[
                r#"{"direction":"ingress","ethertype":"IPv4","protocol":"icmp","port_range_min":8,"remote_group_id":"a b"}"#
            ]],
        );
        check(
            "ingress IPv4 tcp 22 form 10.0.0.0/8",
            &expect![[
                r#""ingress IPv4 tcp 22 form 10.0.0.0/8": expected from or to before "form 10.0.0.0/8""#
            ]],
        );
        check(
            "ingress IPv4 from own group",
            &expect![[r#"{"direction":"ingress","ethertype":"IPv4","remote_group_id":"g"}"#]],
        );
        check("ingress IPv4 from", &expect![[r#""ingress IPv4 from": expected whom at its end"#]]);
        check("ingress", &expect![[r#""ingress": expected IPv4 or IPv6 at its end"#]]);
    }
}
