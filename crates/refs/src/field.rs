//! Paths to fields, as conditions name them: `spec.rules[2].matches[0].path.type`.

use std::fmt;

use crate::Name;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field by name.
    Field(Name),
    /// An item of a list.
    Index(usize),
}

/// A path to a field of an object, from its root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<Segment>);

impl FieldPath {
    /// Reads the written form. Total: what is no index is a field name.
    #[must_use]
    pub fn parse(text: &str) -> FieldPath {
        let mut path = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (name, indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !name.is_empty() {
                path.push(Segment::Field(name.into()));
            }
            for index in indexes.split('[').filter(|index| !index.is_empty()) {
                match index.trim_end_matches(']').parse() {
                    Ok(number) => path.push(Segment::Index(number)),
                    Err(_) => path.push(Segment::Field(index.into())),
                }
            }
        }
        FieldPath(path)
    }

    /// This path with a field added.
    #[must_use]
    pub fn field(&self, name: &str) -> FieldPath {
        let mut path = self.0.clone();
        path.push(Segment::Field(name.into()));
        FieldPath(path)
    }

    /// This path with an index added.
    #[must_use]
    pub fn index(&self, number: usize) -> FieldPath {
        let mut path = self.0.clone();
        path.push(Segment::Index(number));
        FieldPath(path)
    }

    /// The index that follows these field names at the start of the path: `["spec", "rules"]` in
    /// `spec.rules[2].timeouts` is followed by 2.
    #[must_use]
    pub fn index_after(&self, names: &[&str]) -> Option<usize> {
        for (position, name) in names.iter().enumerate() {
            match self.0.get(position) {
                Some(Segment::Field(field)) if &**field == *name => {}
                _ => return None,
            }
        }
        match self.0.get(names.len()) {
            Some(Segment::Index(number)) => Some(*number),
            _ => None,
        }
    }

    /// Whether `self` is `other` or stands above it.
    #[must_use]
    pub fn contains(&self, other: &FieldPath) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if position == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for text in [
            "spec.rules[2].matches[0].path.type",
            "spec",
            "",
            "spec.listeners[11]",
        ] {
            assert_eq!(FieldPath::parse(text).to_string(), text);
        }
    }

    #[test]
    fn indexes_are_found_by_what_stands_before_them() {
        let path = FieldPath::parse("spec.rules[2].backendRefs[1].filters");
        assert_eq!(path.index_after(&["spec", "rules"]), Some(2));
        assert_eq!(path.index_after(&["spec"]), None);
        assert!(FieldPath::parse("spec.rules[2]").contains(&path));
        assert!(!FieldPath::parse("spec.rules[1]").contains(&path));
    }
}
