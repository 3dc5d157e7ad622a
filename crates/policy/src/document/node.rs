//! A document as a tree that knows its lines.
//!
//! Both notations become the same tree, so that validation has one input and every diagnostic a line. Duplicate
//! keys are an error in both: which of the two was meant, nobody can tell.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::lines::value_lines;

/// A value and the line it begins on, counted from 1.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What YAML and JSON have in common.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// What the value is, to tell a reader what stands where something else was expected.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Bad syntax: the line where the parser gave up, and why.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// Takes the entries of a file's mapping as they come.
pub(super) trait Entries {
    /// Whether the elements of a list under this key are wanted one by one: a cloud has many ports, and their nodes need not
    /// all be there at once.
    fn wants_elements(&self, key: &str) -> bool;
    /// An element of such a list, in order.
    fn element(&mut self, key: &str, index: usize, node: &Node);
    /// The value under `key`; a list whose elements were taken is empty by then.
    fn value(&mut self, key: &str, node: &Node);
    /// In the place of all that, what a file is that is no mapping.
    fn no_mapping(&mut self, node: &Node);
}

/// Reads one file into what `begin` makes. A name in `.json` is JSON, one in `.yaml` or `.yml` YAML; under any other name it is
/// JSON if it reads as JSON, else YAML.
pub(super) fn read<E: Entries>(name: &str, text: &str, begin: impl Fn() -> E) -> Result<E, SyntaxError> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => read_json(text, begin()),
        Some("yaml" | "yml") => read_yaml(text, begin()),
        _ => read_json(text, begin()).or_else(|_| read_yaml(text, begin())),
    }
}

fn read_json<E: Entries>(text: &str, mut entries: E) -> Result<E, SyntaxError> {
    let lines = value_lines(text);
    let rest = Cell::new(lines.as_slice());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let root = NodeSeed(JsonLines(&rest), Taker::Entries(&mut entries)).deserialize(&mut deserializer);
    let root = root.and_then(|root| deserializer.end().map(|()| root)).map_err(|error| SyntaxError {
        line: u64::try_from(error.line()).unwrap_or(u64::MAX).max(1),
        reason: format!("bad JSON: {}", first_line(&error.to_string())),
    })?;
    if !matches!(root.value, Value::Map(_)) {
        entries.no_mapping(&root);
    }
    Ok(entries)
}

fn read_yaml<E: Entries>(text: &str, mut entries: E) -> Result<E, SyntaxError> {
    // Its parser has no place for what takes entries as they come, so that there is a tree first.
    let root = yaml_tree(text)?;
    match &root.value {
        Value::Map(values) => values.iter().for_each(|(key, node)| entries.value(key, node)),
        _ => entries.no_mapping(&root),
    }
    Ok(entries)
}

fn yaml_tree(text: &str) -> Result<Node, SyntaxError> {
    // The parser's default limits are meant for settings; a cloud's ports are more. Every node costs at least one
    // byte of text, so the text bounds the tree; aliases, which cost less than they bring, keep their own limits.
    let size = text.len().saturating_add(1024);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: size.saturating_mul(2),
            max_nodes: size,
            max_total_scalar_bytes: size,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    let read: Result<Spanned<YamlValue>, _> = serde_saphyr::from_str_with_options(text, options);
    match read {
        Ok(node) => Ok(Node { line: node.referenced.line(), value: node.value.0 }),
        Err(error) => {
            let reason = match &error {
                // The parser's own words are about its settings.
                serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                    format!("the key {key:?} is given twice")
                }
                other => first_line(&other.to_string()).to_owned(),
            };
            let line = error.location().map_or(1, |location| location.line()).max(1);
            Err(SyntaxError { line, reason: format!("bad YAML: {reason}") })
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Who takes what is in a node, instead of the node.
enum Taker<'e> {
    /// The entries of a mapping.
    Entries(&'e mut dyn Entries),
    /// The elements of the list under this key.
    Elements(&'e mut dyn Entries, &'e str),
    Nobody,
}

/// Where a notation gets a node's line from.
trait Lines<'de>: Copy {
    /// Reads the node that comes next.
    fn node<D: Deserializer<'de>>(self, deserializer: D, taker: Taker<'_>) -> Result<Node, D::Error>;
}

/// YAML: the parser itself tells.
#[derive(Clone, Copy)]
struct YamlLines;

impl<'de> Lines<'de> for YamlLines {
    fn node<D: Deserializer<'de>>(self, deserializer: D, _: Taker<'_>) -> Result<Node, D::Error> {
        let node = Spanned::<YamlValue>::deserialize(deserializer)?;
        Ok(Node { line: node.referenced.line(), value: node.value.0 })
    }
}

/// A value inside the parser's own span wrapper.
struct YamlValue(Value);

impl<'de> Deserialize<'de> for YamlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(YamlLines, Taker::Nobody)).map(Self)
    }
}

/// JSON: the parser tells nothing, but visits values in the order of the text, whose lines were listed before.
#[derive(Clone, Copy)]
struct JsonLines<'l>(&'l Cell<&'l [u64]>);

impl<'de> Lines<'de> for JsonLines<'_> {
    fn node<D: Deserializer<'de>>(self, deserializer: D, taker: Taker<'_>) -> Result<Node, D::Error> {
        // Text that is no JSON may hold fewer values than the parser tries; it is refused anyway.
        let line = match self.0.get().split_first() {
            Some((line, rest)) => {
                self.0.set(rest);
                *line
            }
            None => 1,
        };
        let value = deserializer.deserialize_any(ValueVisitor(self, taker))?;
        Ok(Node { line, value })
    }
}

struct NodeSeed<'e, L>(L, Taker<'e>);

impl<'de, L: Lines<'de>> DeserializeSeed<'de> for NodeSeed<'_, L> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.0.node(deserializer, self.1)
    }
}

struct ValueVisitor<'e, L>(L, Taker<'e>);

impl<'de, L: Lines<'de>> Visitor<'de> for ValueVisitor<'_, L> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let mut index = 0;
        while let Some(node) = items.next_element_seed(NodeSeed(self.0, Taker::Nobody))? {
            match &mut self.1 {
                Taker::Elements(entries, key) => entries.element(key, index, &node),
                Taker::Entries(_) | Taker::Nobody => list.push(node),
            }
            index += 1;
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut map: Vec<(String, Node)> = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = items.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key {key:?} is given twice")));
            }
            let taker = match &mut self.1 {
                Taker::Entries(entries) if entries.wants_elements(&key) => {
                    Taker::Elements(&mut **entries, &key)
                }
                _ => Taker::Nobody,
            };
            let node = items.next_value_seed(NodeSeed(self.0, taker))?;
            match &mut self.1 {
                Taker::Entries(entries) => entries.value(&key, &node),
                Taker::Elements(..) | Taker::Nobody => map.push((key, node)),
            }
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was taken, as text, each value with its line.
    #[derive(Default)]
    struct Taken(Vec<String>);

    impl Entries for Taken {
        fn wants_elements(&self, key: &str) -> bool {
            key == "ports"
        }
        fn element(&mut self, key: &str, index: usize, node: &Node) {
            self.0.push(format!("{key}[{index}]={}", show(node)));
        }
        fn value(&mut self, key: &str, node: &Node) {
            match &node.value {
                Value::List(nodes) if self.wants_elements(key) => {
                    nodes.iter().enumerate().for_each(|(index, node)| self.element(key, index, node));
                }
                _ => self.0.push(format!("{key}={}", show(node))),
            }
        }
        fn no_mapping(&mut self, node: &Node) {
            self.0.push(show(node));
        }
    }

    fn taken(name: &str, text: &str) -> Result<String, SyntaxError> {
        read(name, text, Taken::default).map(|taken| taken.0.join(" "))
    }

    /// The tree as text, each value with its line.
    fn show(node: &Node) -> String {
        let value = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::Text(value) => format!("{value:?}"),
            Value::List(nodes) => format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|(key, node)| format!("{key}={}", show(node))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        };
        format!("{}:{value}", node.line)
    }

    #[test]
    fn both_notations_give_values_and_lines() {
        let yaml = "ports:\n- id: p\n  mac: fa:16:3e:00:00:01\n  n: 007\n  on: true\n  x:\n- {id: q,\n   y: [1,\n 2]}\n";
        assert_eq!(
            taken("a.yaml", yaml).unwrap(),
            "ports[0]=2:{id=2:\"p\" mac=3:\"fa:16:3e:00:00:01\" n=4:\"007\" on=5:true x=6:null} \
             ports[1]=7:{id=7:\"q\" y=8:[8:1 9:2]}"
        );
        let json = "{\n \"ports\": [\n  {\"id\": \"p\\\"{\", \n\"n\": 1.5, \"s\": \"\\ud83d\\ude00\"},\n  null, {}, [] ] ,\"z\"\n:\n-1}";
        assert_eq!(
            taken("a.json", json).unwrap(),
            "ports[0]=3:{id=3:\"p\\\"{\" n=4:1.5 s=4:\"😀\"} ports[1]=5:null ports[2]=5:{} ports[3]=5:[] z=7:-1"
        );
    }

    #[test]
    fn lines_are_those_of_the_values_however_they_are_packed() {
        let json = "{\"ports\":[{\"a\":[\"x\",\n\"y\"],\"b\":[[1,\n2]]},\n[],{}],\n\"z\":{\"q\":null}}";
        assert_eq!(
            taken("a.json", json).unwrap(),
            "ports[0]=1:{a=1:[1:\"x\" 2:\"y\"] b=2:[2:[2:1 3:2]]} ports[1]=4:[] ports[2]=4:{} z=5:{q=5:null}"
        );
    }

    #[test]
    fn only_the_lists_of_the_root_are_taken_apart() {
        for name in ["a.yaml", "a.json"] {
            let text = "{\"ports\": {\"ports\": [1]}, \"x\": [2, {\"ports\": [3]}]}";
            let expected = "ports=1:{ports=1:[1:1]} x=1:[1:2 1:{ports=1:[1:3]}]";
            assert_eq!(taken(name, text).unwrap(), expected, "{name}");
            assert_eq!(taken(name, "[1]").unwrap(), "1:[1:1]", "{name}");
        }
        assert_eq!(
            taken("reply", "{ports: [1], x: 2}").unwrap(),
            "ports[0]=1:1 x=1:2",
            "of JSON nothing is left"
        );
        assert_eq!(taken("reply", "{\"ports\": [1], \"x\": y}").unwrap(), "ports[0]=1:1 x=1:\"y\"");
    }

    #[test]
    fn bad_syntax_has_a_line() {
        for (name, text, line) in [
            ("a.json", "{\n\"a\": }", 2),
            ("a.json", "{}\n{}", 2),
            ("a.json", "", 1),
            ("a.json", "{\n\"a\": 1,\n\"a\": 2}", 3),
            ("a.yaml", "a: 1\nb: [1\n", 2),
            ("a.yaml", "a: 1\na: 2\n", 2),
            ("a.yaml", "a: 1\n---\nb: 2\n", 3),
            ("a.yaml", "a: *b\n", 1),
        ] {
            let error = taken(name, text).expect_err(text);
            assert_eq!(error.line, line, "{text:?}: {}", error.reason);
        }
    }

    #[test]
    fn the_name_or_else_the_text_tells_the_notation() {
        assert!(taken("reply", "{\"a\":\t\"\\ud83d\\ude00\"}").is_ok());
        assert!(taken("reply", "a: 1").is_ok());
        assert!(taken("reply.JSON", "a: 1").is_err());
    }

    #[test]
    fn a_large_document_is_read() {
        let text: String = (0..60_000).map(|i| format!("- {{a: {i}, b: x, c: [y]}}\n")).collect();
        let text = format!("ports:\n{text}");
        assert_eq!(read("a.yaml", &text, Taken::default).unwrap().0.len(), 60_000);
    }

    #[test]
    fn nesting_and_aliases_are_bounded() {
        let deep = "[".repeat(100_000);
        assert!(taken("a.yaml", &deep).is_err());
        assert!(taken("a.json", &deep).is_err());
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let name = |level: u8| char::from(b'a' + level);
            let items = vec![format!("*{}", name(level - 1)); 10].join(",");
            bomb.push_str(&format!("{0}: &{0} [{items}]\n", name(level)));
        }
        assert!(taken("a.yaml", &bomb).is_err());
    }
}
