//! YAML and JSON texts as trees that know their lines.

use std::cell::Cell;
use std::fmt;

use postern_refs::{FieldPath, Segment};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_saphyr::Spanned;

use crate::text::readable;

/// How deep a document may be nested. Objects that Postern reads have about fifteen levels;
/// definitions of other kinds, which may stand beside them, have about fifty.
const DEEPEST: usize = 128;
/// The stack for reading that deep, in bytes: the YAML reader needs tens of kilobytes a level where
/// it is not optimised. Only what is used of it is ever backed by memory.
const STACK: usize = 32 << 20;
/// How many nodes a file may have, after aliases.
const MOST_NODES: usize = 200_000;

/// A value and the line it starts at (from 1; 0 where unknown).
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Null, a boolean, a number.
    Plain(serde_json::Value),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no key stands twice.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let Value::Map(fields) = &self.value else {
            return None;
        };
        fields
            .iter()
            .find(|(key, _)| key.text() == Some(name))
            .map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The line of a field: of its name, or of what stands nearest above it.
    pub(super) fn line_of(&self, path: &FieldPath) -> u32 {
        let mut here = self;
        let mut line = self.line;
        for step in &path.0 {
            let next = match (step, &here.value) {
                (Segment::Field(name), Value::Map(fields)) => fields
                    .iter()
                    .find(|(key, _)| key.text() == Some(name))
                    .map(|(key, value)| (key.line, value)),
                (Segment::Index(index), Value::List(items)) => {
                    items.get(*index).map(|item| (item.line, item))
                }
                _ => None,
            };
            let Some((found, node)) = next else { break };
            if found != 0 {
                line = found;
            }
            here = node;
        }
        line
    }

    /// The JSON text of it.
    pub(super) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match &self.value {
            Value::Plain(value) => out.push_str(&value.to_string()),
            Value::Text(text) => quote(text, out),
            Value::List(items) => {
                out.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Value::Map(fields) => {
                out.push('{');
                for (number, (key, value)) in fields.iter().enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    quote(key.text().unwrap_or_default(), out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One level of nesting, while it is read.
struct Level;

impl Level {
    fn enter() -> Option<Level> {
        let depth = DEPTH.get();
        (depth < DEEPEST).then(|| {
            DEPTH.set(depth + 1);
            Level
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        // The parser's own budget does not count nested blocks early enough for the stack.
        let _level = Level::enter()
            .ok_or_else(|| D::Error::custom(format_args!("nested deeper than {DEEPEST} levels")))?;
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node {
            line: u32::try_from(spanned.referenced.line()).unwrap_or(0),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Visit)
    }
}

struct Visit;

impl<'de> Visitor<'de> for Visit {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Plain(serde_json::Value::Null))
    }
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        Value::deserialize(inner)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Plain(value.into()))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Plain(value.into()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Plain(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Plain(value.into()))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields: Vec<(Node, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(mut key) = access.next_key::<Node>()? {
            // JSON has names only: `1: a` means what `"1": a` means, as kubectl takes it.
            if let Value::Plain(plain) = &key.value {
                key.value = Value::Text(plain.to_string());
            }
            let Some(name) = key.text() else {
                return Err(A::Error::custom("a field name is a list or a map"));
            };
            if !seen.insert(name.to_owned()) {
                return Err(A::Error::custom(format_args!(
                    "field {} stands twice",
                    readable(name, 80)
                )));
            }
            fields.push((key, access.next_value()?));
        }
        Ok(Value::Map(fields))
    }
}

/// What is wrong with a text, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) line: Option<u32>,
    pub(super) message: String,
}

/// Reads the documents of a YAML text; empty ones are left out.
pub(super) fn parse_yaml(text: &str) -> Result<Vec<Node>, Broken> {
    let unable = |message: &str| Broken {
        line: None,
        message: message.into(),
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("yaml".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || parse_here(text))
            .map_err(|error| unable(&format!("no thread to read it: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(unable("the YAML reader failed")))
    })
}

fn parse_here(text: &str) -> Result<Vec<Node>, Broken> {
    let mut options = crate::yaml_options();
    options.with_snippet = false;
    options.budget = serde_saphyr::budget! {
        max_depth: DEEPEST,
        max_nodes: MOST_NODES,
        max_events: MOST_NODES * 2,
    };
    serde_saphyr::from_multiple_with_options::<Node>(text, options).map_err(|error| {
        let message = error.without_snippet().to_string();
        // The line stands in front of the message: once is enough.
        let message = message.split(" at line ").next().unwrap_or_default();
        let message = message.split('\n').next().unwrap_or_default();
        Broken {
            line: error
                .location()
                .and_then(|place| u32::try_from(place.line()).ok()),
            message: readable(message, 200),
        }
    })
}

/// Reads a JSON text: one value after the other, each with the line that it starts in.
pub(super) fn parse_json(text: &str) -> Result<Vec<(u32, &RawValue)>, Broken> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let value = value.map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            Broken {
                line: u32::try_from(error.line()).ok(),
                message: readable(message, 200),
            }
        })?;
        values.push((line_within(text, value.get()), value));
    }
    Ok(values)
}

/// The line in which a part of a text starts.
pub(super) fn line_within(text: &str, part: &str) -> u32 {
    let offset = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = &text.as_bytes()[..offset.min(text.len())];
    u32::try_from(before.iter().filter(|byte| **byte == b'\n').count() + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_field_names() {
        let text = "# first\na: 1\nb:\n  - c: x\n  - d:\n      e: [f,\n          g]\n---\nh: y\n";
        let nodes = parse_yaml(text).expect("YAML");
        assert_eq!(nodes.len(), 2);
        let line = |path: &str| nodes[0].line_of(&FieldPath::parse(path));
        assert_eq!(line("a"), 2);
        assert_eq!(line("b"), 3);
        assert_eq!(line("b[0].c"), 4);
        assert_eq!(line("b[1].d.e"), 6);
        assert_eq!(line("b[1].d.e[1]"), 7);
        assert_eq!(line("b[1].d.missing"), 5);
        assert_eq!(nodes[1].line_of(&FieldPath::parse("h")), 9);
        assert_eq!(
            nodes[0].to_json(),
            r#"{"a":1,"b":[{"c":"x"},{"d":{"e":["f","g"]}}]}"#
        );
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        let text = "a: n\nb: on\nc: true\nd: null\ne: '1'\nf: 1\ng: 1.5\nh: \"q\\\"\\n\"\n1: i\n";
        let nodes = parse_yaml(text).expect("YAML");
        assert_eq!(
            nodes[0].to_json(),
            r#"{"a":"n","b":"on","c":true,"d":null,"e":"1","f":1,"g":1.5,"h":"q\"\n","1":"i"}"#
        );
    }

    #[test]
    fn what_is_broken_says_where() {
        let line = |text: &str| parse_yaml(text).expect_err(text).line;
        assert_eq!(line("a: 1\nb: [\n"), Some(2));
        assert_eq!(line("a: 1\na: 2\n"), Some(2));
        let broken = parse_json("{\n\"a\": 1,\n}").expect_err("JSON");
        assert_eq!(
            broken,
            Broken {
                line: Some(3),
                message: "key must be a string".into()
            }
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let one = format!("*a{}", level - 1);
            laughs.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                vec![one; 10].join(", ")
            ));
        }
        assert!(parse_yaml(&laughs).is_err());
        let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse_yaml(&deep).is_err());
        let block: String = (0..5000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect();
        assert!(parse_yaml(&block).is_err());
    }

    #[test]
    fn json_is_a_stream_of_values() {
        let values = parse_json("{\"a\":1}\n\n {\"b\":[true,null]}").expect("JSON");
        let found: Vec<_> = values
            .iter()
            .map(|(line, value)| (*line, value.get()))
            .collect();
        assert_eq!(found, [(1, r#"{"a":1}"#), (3, r#"{"b":[true,null]}"#)]);
        assert!(parse_json("").expect("empty").is_empty());
        assert!(
            parse_yaml("# nothing\n---\n---\n")
                .expect("empty")
                .is_empty()
        );
    }
}
