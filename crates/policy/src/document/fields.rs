//! The fields of one object, read with their complaints.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::MacAddr;

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};

/// Where an object stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: u64,
}

/// Reads an object's fields by name. Null is the same as absent, as in the API. A field that cannot be read is
/// complained of and reads as absent; [`Fields::finish`] tells whether there was any.
pub(super) struct Fields<'n> {
    place: Place,
    object: String,
    /// Path of a list's element inside the object, with its dot: `fixed_ips[0].`; else empty.
    prefix: String,
    /// None for what is no mapping, of which nothing more is said.
    entries: Option<&'n [(String, Node)]>,
    problems: Vec<Diagnostic>,
}

impl<'n> Fields<'n> {
    /// The object that stands at `place`. What is no mapping is complained of and has no fields.
    pub(super) fn new(place: &Place, object: impl Display, node: &'n Node) -> Self {
        let mut fields = Self {
            place: place.clone(),
            object: object.to_string(),
            prefix: String::new(),
            entries: None,
            problems: Vec::new(),
        };
        match &node.value {
            Value::Map(entries) => fields.entries = Some(entries),
            other => fields.complain(
                node.line,
                "object",
                format_args!("expected a mapping, found {}", other.kind()),
            ),
        }
        fields
    }

    /// Gives the object its proper name, once the id is known.
    pub(super) fn rename(&mut self, object: impl Display) {
        self.object = object.to_string();
    }

    /// The complaints, none if the object is well-formed.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.problems
    }

    pub(super) fn complain(&mut self, line: u64, field: &str, reason: impl Display) {
        self.problems.push(Diagnostic {
            file: Arc::clone(&self.place.file),
            line,
            object: self.object.clone(),
            field: format!("{}{field}", self.prefix),
            reason: reason.to_string(),
        });
    }

    /// The value of a field, unless it is absent or null.
    pub(super) fn get(&self, field: &str) -> Option<&'n Node> {
        let (_, node) = self.entries?.iter().find(|(key, _)| key == field)?;
        (node.value != Value::Null).then_some(node)
    }

    /// The line of a field, or of the object where it is absent.
    pub(super) fn line(&self, field: &str) -> u64 {
        self.get(field).map_or(self.place.line, |node| node.line)
    }

    /// As [`Fields::get`], complaining of absence.
    pub(super) fn required(&mut self, field: &str) -> Option<&'n Node> {
        let node = self.get(field);
        if node.is_none() && self.entries.is_some() {
            self.complain(self.place.line, field, "is missing");
        }
        node
    }

    /// Complains of a field that is a misspelling of one that we read: to leave it out could open what it was to
    /// close. Other unknown fields are the API's, and welcome.
    pub(super) fn refuse_misspelt(&mut self, known: &[&str]) {
        for (key, node) in self.entries.unwrap_or_default() {
            let near = |name: &&&str| key != **name && key.len() > 6 && within_two_edits(key, name);
            if known.contains(&key.as_str()) {
                continue;
            }
            if let Some(name) = known.iter().find(near) {
                self.complain(node.line, key, format_args!("unknown field; is {name} meant?"));
            }
        }
    }

    /// An id: text that is not empty.
    pub(super) fn id<T: From<String>>(&mut self, field: &str) -> Option<T> {
        let node = self.required(field)?;
        self.id_of(field, node)
    }

    /// An id that may be absent.
    pub(super) fn optional_id<T: From<String>>(&mut self, field: &str) -> Option<T> {
        let node = self.get(field)?;
        self.id_of(field, node)
    }

    /// The id in a node of the named field.
    pub(super) fn id_of<T: From<String>>(&mut self, field: &str, node: &Node) -> Option<T> {
        let text = self.text_of(field, node)?;
        if text.is_empty() {
            self.complain(node.line, field, "is empty");
            return None;
        }
        Some(T::from(text.to_owned()))
    }

    /// Text that may be absent.
    pub(super) fn text(&mut self, field: &str) -> Option<&'n str> {
        let node = self.get(field)?;
        self.text_of(field, node)
    }

    /// The text in a node of the named field.
    pub(super) fn text_of<'t>(&mut self, field: &str, node: &'t Node) -> Option<&'t str> {
        match &node.value {
            Value::Text(text) => Some(text),
            other => {
                let hint = if matches!(other, Value::List(_) | Value::Map(_)) { "" } else { " (quote it)" };
                self.complain(node.line, field, format_args!("expected text, found {}{hint}", other.kind()));
                None
            }
        }
    }

    /// Text that a type of its own reads; absent is none.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, field: &str) -> Option<T> {
        let node = self.get(field)?;
        self.parsed_of(field, node)
    }

    fn parsed_of<T: FromStr<Err: Display>>(&mut self, field: &str, node: &Node) -> Option<T> {
        let text = self.text_of(field, node)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(reason) => {
                self.complain(node.line, field, format_args!("{text:?}: {reason}"));
                None
            }
        }
    }

    /// The MAC of a station: a group's address can receive, but nobody sends from it (IEEE 802, clause 8.2).
    pub(super) fn station(&mut self, field: &str) -> Option<MacAddr> {
        let mac = self.parsed::<MacAddr>(field)?;
        if mac.is_group() {
            self.complain(
                self.line(field),
                field,
                format_args!("\"{mac}\": the address of a group, not of a station"),
            );
            return None;
        }
        Some(mac)
    }

    /// An address or CIDR; host bits are cut off, as the API does (its `normalized_cidr`).
    pub(super) fn prefix_of(&mut self, field: &str, node: &Node) -> Option<IpNet> {
        let text = self.text_of(field, node)?;
        let prefix = match text.contains('/') {
            true => text.parse::<IpNet>().ok(),
            false => text.parse::<IpAddr>().ok().map(IpNet::from),
        };
        if prefix.is_none() {
            self.complain(node.line, field, format_args!("{text:?}: not an IP address or CIDR"));
        }
        prefix.map(|prefix| prefix.trunc())
    }

    /// A boolean, or the default where it is absent.
    pub(super) fn boolean(&mut self, field: &str, default: bool) -> bool {
        match self.get(field) {
            None => default,
            Some(Node { value: Value::Bool(value), .. }) => *value,
            Some(Node { value, line }) => {
                self.complain(*line, field, format_args!("expected true or false, found {}", value.kind()));
                default
            }
        }
    }

    /// A number from 0 to `max`, which the API also writes as text; absent is none.
    pub(super) fn number<T: TryFrom<i128> + Display + PartialOrd>(
        &mut self,
        field: &str,
        max: T,
    ) -> Option<T> {
        let node = self.get(field)?;
        let number = number_in(&node.value);
        let value = number.and_then(|number| T::try_from(number).ok()).filter(|value| *value <= max);
        if value.is_none() {
            let found = number.map_or_else(|| node.value.kind().to_owned(), |number| number.to_string());
            self.complain(node.line, field, format_args!("expected a number from 0 to {max}, found {found}"));
        }
        value
    }

    /// A list; absent is empty.
    pub(super) fn list(&mut self, field: &str) -> &'n [Node] {
        match self.get(field) {
            None => &[],
            Some(Node { value: Value::List(nodes), .. }) => nodes,
            Some(Node { value, line }) => {
                self.complain(*line, field, format_args!("expected a list, found {}", value.kind()));
                &[]
            }
        }
    }

    /// Reads each mapping of a list with its fields' paths under the list's.
    pub(super) fn each(&mut self, field: &str, mut read: impl FnMut(&mut Fields<'n>)) {
        for (index, node) in self.list(field).iter().enumerate() {
            let place = Place { file: Arc::clone(&self.place.file), line: node.line };
            let path = format!("{field}[{index}]");
            let Value::Map(entries) = &node.value else {
                self.complain(
                    node.line,
                    &path,
                    format_args!("expected a mapping, found {}", node.value.kind()),
                );
                continue;
            };
            let object = self.object.clone();
            let mut element = Fields {
                place,
                object,
                prefix: format!("{path}."),
                entries: Some(entries),
                problems: Vec::new(),
            };
            read(&mut element);
            self.problems.extend(element.problems);
        }
    }
}

/// The integer in a value, decimal text included.
pub(super) fn number_in(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// Whether two inserted, deleted or replaced letters at most turn one name into the other (Levenshtein distance).
fn within_two_edits(left: &str, right: &str) -> bool {
    if left.len().abs_diff(right.len()) > 2 {
        return false;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, a) in left.bytes().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            before = replaced.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().is_some_and(|distance| *distance <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_digits() {
        let in_text = |text: &str| number_in(&Value::Text(text.to_owned()));
        assert_eq!(in_text("080"), Some(80));
        for text in ["", "+80", "-80", "8 0", "0x50", "80.0"] {
            assert_eq!(in_text(text), None, "{text:?}");
        }
    }

    /// By its definition.
    fn distance(left: &[u8], right: &[u8]) -> usize {
        let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) else {
            return left.len().max(right.len());
        };
        let replaced = distance(left_rest, right_rest) + usize::from(a != b);
        replaced.min(distance(left_rest, right) + 1).min(distance(left, right_rest) + 1)
    }

    #[test]
    fn near_is_what_the_distance_says() {
        let words = |length: u32| {
            (0..3u32.pow(length)).map(move |number| {
                (0..length).map(|at| b'a' + (number / 3u32.pow(at) % 3) as u8).collect::<Vec<u8>>()
            })
        };
        let all: Vec<Vec<u8>> = (0..=5).flat_map(words).collect();
        for left in &all {
            for right in all.iter().step_by(7) {
                let [l, r] = [left, right].map(|word| std::str::from_utf8(word).unwrap());
                assert_eq!(within_two_edits(l, r), distance(left, right) <= 2, "{l} {r}");
            }
        }
    }

    #[test]
    fn misspellings_are_near() {
        for (left, right, near) in [
            ("remote_ip_prefx", "remote_ip_prefix", true),
            ("remote-ip-prefix", "remote_ip_prefix", true),
            ("fixed_ip", "fixed_ips", true),
            ("port_range_mni", "port_range_min", true),
            ("remote_group_id", "remote_group_id", true),
            ("device_id", "device_owner", false),
            ("remote_id", "remote_ip_prefix", false),
            ("abcdefgh", "badcfehg", false),
        ] {
            assert_eq!(within_two_edits(left, right), near, "{left} {right}");
            assert_eq!(within_two_edits(right, left), near, "{right} {left}");
        }
    }
}
