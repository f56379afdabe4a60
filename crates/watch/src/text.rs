//! Text on its way in: shared where it repeats, and made harmless where people will read it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use postern_refs::Name;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Longer text is not worth looking up: it does not repeat.
const LONGEST_SHARED: usize = 64;
/// How many texts the table holds before it is swept for the first time.
const FIRST_SWEEP: usize = 256;

/// Text that objects have in common: namespaces, names, groups, kinds. A thousand routes of a
/// namespace hold its name once.
struct Table {
    names: HashSet<Name>,
    sweep_at: usize,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table { names: HashSet::new(), sweep_at: FIRST_SWEEP });
}

/// The shared form of a text. Only speed and memory depend on sharing, never equality.
pub(crate) fn intern(text: &str) -> Name {
    if text.len() > LONGEST_SHARED {
        return text.into();
    }
    TABLE.with_borrow_mut(|table| {
        if let Some(name) = table.names.get(text) {
            return name.clone();
        }
        if table.names.len() >= table.sweep_at {
            // Those that only the table holds. Doubling keeps the cost of sweeping constant for
            // each text, however fast a tenant makes new ones.
            table.names.retain(|name| Name::strong_count(name) > 1);
            table.sweep_at = (table.names.len() * 2).max(FIRST_SWEEP);
        }
        let name: Name = text.into();
        table.names.insert(name.clone());
        name
    })
}

/// Text that repeats; shared when it is decoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(pub(crate) Name);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(intern(text)))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

impl From<Text> for Name {
    fn from(text: Text) -> Name {
        text.0
    }
}

/// Text for people, out of what a tenant may have written: control characters are escaped, so
/// that one problem stays one line, and what is too long is cut.
pub(crate) fn readable(text: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len().min(longest));
    for character in text.chars() {
        if out.len() >= longest {
            out.push('…');
            break;
        }
        // Bidirectional controls reorder what stands around them on a terminal.
        let reorders = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || reorders {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_the_table_forgets_what_nobody_holds() {
        let first = intern("team-a");
        assert!(Name::ptr_eq(&first, &intern("team-a")));
        for number in 0..10_000 {
            let _ = intern(&format!("gone-{number}"));
        }
        TABLE.with_borrow(|table| {
            assert!(table.names.len() <= FIRST_SWEEP, "{}", table.names.len());
        });
        assert!(Name::ptr_eq(&first, &intern("team-a")));
        let long = "x".repeat(LONGEST_SHARED + 1);
        assert!(!Name::ptr_eq(&intern(&long), &intern(&long)));
    }

    #[test]
    fn what_people_read_is_one_bounded_line() {
        assert_eq!(
            readable("a\n\u{1b}[31m\0\u{202e}b", 100),
            "a\\u{a}\\u{1b}[31m\\u{0}\\u{202e}b"
        );
        assert_eq!(readable("ééé", 3), "éé…");
        assert_eq!(readable("", 3), "");
    }
}
