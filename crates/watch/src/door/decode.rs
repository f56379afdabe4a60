//! Decoding with a path for everything: for what is wrong, and for what is not read.

use postern_refs::{FieldPath, Name, Segment};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_ignored::Path as Ignored;
use serde_json::value::RawValue;
use serde_path_to_error::{Segment as Step, Track};

use crate::text::readable;

/// How many unread fields of one object are named. A tenant may write a thousand.
const MOST_UNSUPPORTED: usize = 32;
/// The longest reason, in bytes.
const LONGEST_REASON: usize = 240;
/// The longest field name in a path, in bytes.
const LONGEST_NAME: usize = 80;
/// The deepest path that is told; the API's deepest has about twelve steps.
const DEEPEST: usize = 32;

/// Why something does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) field: FieldPath,
    pub(crate) reason: Name,
}

impl Wrong {
    pub(crate) fn new(field: FieldPath, reason: &str) -> Wrong {
        Wrong {
            field,
            reason: readable(reason, LONGEST_REASON).into(),
        }
    }
}

/// Fields that an object sets and that are not read.
#[derive(Debug, Default)]
pub(crate) struct Unread(pub(crate) Vec<FieldPath>);

impl Unread {
    pub(crate) fn add(&mut self, path: FieldPath) {
        if self.0.len() < MOST_UNSUPPORTED {
            self.0.push(path);
        }
    }
}

/// Decodes `json`, which stands at `base` in its object.
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    json: &'de str,
    base: &FieldPath,
    unread: Option<&mut Unread>,
) -> Result<T, Wrong> {
    let mut track = Track::new();
    let mut parser = serde_json::Deserializer::from_str(json);
    let tracked = serde_path_to_error::Deserializer::new(&mut parser, &mut track);
    let mut ignored: Vec<FieldPath> = Vec::new();
    let mut note = |path: Ignored<'_>| {
        if ignored.len() < MOST_UNSUPPORTED * 2 {
            ignored.push(under(base, &path));
        }
    };
    let result = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    match result {
        Ok(value) => {
            if let Some(unread) = unread {
                for path in ignored {
                    let inner = &path.0[base.0.len()..];
                    if !value_at(json, inner).is_some_and(|value| says_nothing(&path, value)) {
                        unread.add(path);
                    }
                }
            }
            Ok(value)
        }
        Err(error) => Err(wrong(base, &track.path(), &error.to_string())),
    }
}

fn wrong(base: &FieldPath, path: &serde_path_to_error::Path, message: &str) -> Wrong {
    let mut field = base.clone();
    for step in path.iter().take(DEEPEST) {
        match step {
            Step::Seq { index } => field.0.push(Segment::Index(*index)),
            Step::Map { key } | Step::Enum { variant: key } => push(&mut field, key),
            Step::Unknown => {}
        }
    }
    // The parser's own place in the text means nothing to whoever wrote YAML.
    let message = message
        .split_once(" at line ")
        .map_or(message, |(before, _)| before);
    if let Some(name) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        push(&mut field, name);
        return Wrong::new(field, "required, but missing");
    }
    Wrong::new(field, message)
}

fn push(path: &mut FieldPath, name: &str) {
    path.0
        .push(Segment::Field(readable(name, LONGEST_NAME).into()));
}

fn under(base: &FieldPath, path: &Ignored<'_>) -> FieldPath {
    let mut steps = Vec::new();
    let mut here = path;
    loop {
        here = match here {
            Ignored::Root => break,
            Ignored::Seq { parent, index } => {
                steps.push(Segment::Index(*index));
                parent
            }
            Ignored::Map { parent, key } => {
                steps.push(Segment::Field(readable(key, LONGEST_NAME).into()));
                parent
            }
            Ignored::Some { parent }
            | Ignored::NewtypeStruct { parent }
            | Ignored::NewtypeVariant { parent } => parent,
        };
    }
    let mut field = base.clone();
    field.0.extend(steps.into_iter().rev().take(DEEPEST));
    field
}

/// The value at a path. Only for the few fields that are not read: it parses from the top.
fn value_at<'a>(json: &'a str, path: &[Segment]) -> Option<&'a str> {
    let mut here = json;
    for step in path {
        let mut found = None;
        let find = Find {
            step,
            found: &mut found,
        };
        // Finding it is reported as an error, so that the rest is not parsed.
        let _ = find.deserialize(&mut serde_json::Deserializer::from_str(here));
        here = found?;
    }
    Some(here)
}

struct Find<'s, 'a> {
    step: &'s Segment,
    found: &'s mut Option<&'a str>,
}

impl<'a> DeserializeSeed<'a> for Find<'_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.step {
            Segment::Field(_) => deserializer.deserialize_map(self),
            Segment::Index(_) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'a> Visitor<'a> for Find<'_, 'a> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or a list")
    }
    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if *self.step == Segment::Field(key.as_str().into()) {
                *self.found = Some(map.next_value::<&RawValue>()?.get());
                return Err(A::Error::custom("found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        let mut number = 0;
        while *self.step != Segment::Index(number) {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
            number += 1;
        }
        *self.found = items.next_element::<&RawValue>()?.map(RawValue::get);
        Err(A::Error::custom("found"))
    }
}

/// Whether an unread field asks for nothing: an explicit null, an empty list or object, or a
/// value that means what Postern does anyway.
fn says_nothing(path: &FieldPath, value: &str) -> bool {
    let compact: String = value
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .take(64)
        .collect();
    if matches!(&*compact, "null" | "[]" | "{}") {
        return true;
    }
    matches!(
        (&*path.to_string(), &*compact),
        ("spec.allowedListeners", r#"{"namespaces":{"from":"None"}}"#)
            | ("spec.defaultScope" | "spec.useDefaultGateways", r#""None""#)
    )
}
