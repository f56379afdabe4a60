//! Keys of objects.

use std::fmt;
use std::sync::Arc;

/// Shared text: names, values.
pub type Name = Arc<str>;

/// Where an object comes from. There is one source today; more than one cluster comes later, and
/// keys say so from the first day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u16);

impl Source {
    /// The cluster that the program runs in, or the directory that it reads.
    pub const LOCAL: Source = Source(0);
}

/// What an object is known by among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where it comes from.
    pub source: Source,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl Key {
    /// A key of the local source.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Key {
        Key {
            source: Source::LOCAL,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of another object of the same source.
    pub fn sibling(&self, namespace: impl Into<Name>, name: impl Into<Name>) -> Key {
        Key {
            source: self.source,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}
