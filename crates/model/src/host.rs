//! Host names and patterns, as virtual hosts and listeners use them.

use std::fmt;

use crate::Text;

/// Which `Host` (`:authority`) values are meant. Ordered from the most to the least specific, so
/// that the first of several that cover a name is the one that wins (Gateway API,
/// `Listener.hostname`: exact before wildcard, longer wildcard before shorter).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Exactly this DNS name, in lower case.
    Exact(Text),
    /// `*.suffix`: one or more labels before this suffix, which is held without `*.`.
    Wildcard(Text),
    /// Any host.
    Any,
}

impl Host {
    /// Reads a Gateway API hostname: empty or `*` is any host, `*.example.com` a wildcard.
    #[must_use]
    pub fn parse(text: &str) -> Host {
        let lower = text.to_ascii_lowercase();
        if lower.is_empty() || lower == "*" {
            Host::Any
        } else if let Some(suffix) = lower.strip_prefix("*.") {
            Host::Wildcard(suffix.into())
        } else {
            Host::Exact(lower.into())
        }
    }

    /// Whether every name that `other` stands for is one that `self` stands for.
    #[must_use]
    pub fn covers(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Any, _) => true,
            (_, Host::Any) => false,
            (Host::Exact(mine), Host::Exact(theirs)) => mine == theirs,
            (Host::Exact(_), Host::Wildcard(_)) => false,
            (Host::Wildcard(suffix), Host::Exact(name)) => is_below(name, suffix),
            (Host::Wildcard(suffix), Host::Wildcard(theirs)) => {
                theirs == suffix || is_below(theirs, suffix)
            }
        }
    }

    /// The names that both stand for, if any: the narrower of the two when one covers the other.
    /// Two patterns of this form overlap only in that way.
    #[must_use]
    pub fn intersect(&self, other: &Host) -> Option<Host> {
        if self.covers(other) {
            Some(other.clone())
        } else if other.covers(self) {
            Some(self.clone())
        } else {
            None
        }
    }

    fn rank(&self) -> (u8, std::cmp::Reverse<usize>, &str) {
        match self {
            Host::Exact(name) => (0, std::cmp::Reverse(name.len()), name),
            Host::Wildcard(suffix) => (1, std::cmp::Reverse(suffix.len()), suffix),
            Host::Any => (2, std::cmp::Reverse(0), ""),
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() + 1
        && name.ends_with(suffix)
        && name.as_bytes()[name.len() - suffix.len() - 1] == b'.'
}

impl Ord for Host {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Host {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Exact(name) => f.write_str(name),
            Host::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Host::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_one_label_or_more_but_never_the_suffix_itself() {
        let wild = Host::parse("*.Example.com");
        assert!(wild.covers(&Host::parse("a.example.com")));
        assert!(wild.covers(&Host::parse("a.b.example.com")));
        assert!(wild.covers(&Host::parse("*.b.example.com")));
        assert!(wild.covers(&wild));
        assert!(!wild.covers(&Host::parse("example.com")));
        assert!(!wild.covers(&Host::parse("badexample.com")));
        assert!(!wild.covers(&Host::parse(".example.com")));
        assert!(!wild.covers(&Host::Any));
    }

    #[test]
    fn intersections_are_the_narrower_side() {
        let cases = [
            ("*", "a.example", Some("a.example")),
            ("*.example", "a.example", Some("a.example")),
            ("*.a.example", "*.example", Some("*.a.example")),
            ("a.example", "b.example", None),
            ("*.a.example", "*.b.example", None),
        ];
        for (left, right, expected) in cases {
            let (left, right) = (Host::parse(left), Host::parse(right));
            let expected = expected.map(Host::parse);
            assert_eq!(left.intersect(&right), expected, "{left} and {right}");
            assert_eq!(right.intersect(&left), expected, "{right} and {left}");
        }
    }

    #[test]
    fn the_most_specific_host_sorts_first() {
        let mut hosts = ["*", "*.b.example", "a.example", "*.example", "a.b.example"]
            .map(Host::parse)
            .to_vec();
        hosts.sort();
        let sorted: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(
            sorted,
            ["a.b.example", "a.example", "*.b.example", "*.example", "*"]
        );
    }
}
