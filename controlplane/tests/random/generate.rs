//! Chance, and what it draws parts from.
//!
//! Some routes are tame: what a person might write. Others are hostile: each of their parts may be
//! anything.

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};

const SEGMENTS: [&str; 16] = [
    "foo", "foobar", "bar", "a", "A", "fo", "a.b", "a;b", "~x", ":x", "%20", "%C3%A9", "a=b",
    "a%26", "...", "%25",
];
const BAD_PATHS: [&str; 30] = [
    "",
    "foo",
    "//",
    "/a//b",
    "/..",
    "/a/../b",
    "/a/.",
    "/%2e",
    "/%2E%2e/a",
    "/a%2Fb",
    "/a%5Cb",
    "/a\\b",
    "/a?b",
    "/a#b",
    "/%61",
    "/fo%6f",
    "/%zz",
    "/%",
    "/a%4",
    "/%00",
    "/\u{e9}",
    "/a\nb",
    "/\"",
    "/{a}",
    "/a b",
    "/%%30",
    "/\u{202e}",
    "/%7Ex",
    "*",
    "http://a/b",
];

/// Chance, from a seed.
pub struct Random {
    pub rng: TestRng,
    /// How many of a hundred parts are bad.
    pub bad: u32,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Random {
            rng: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            bad: 0,
        }
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.rng.random_range(0..from.len())]
    }

    pub fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
        let count = self.rng.random_range(0..=most);
        (0..count).map(|_| make(self)).collect()
    }

    /// Mostly of the first, sometimes of the second.
    pub fn part(&mut self, good: &[&'static str], bad: &[&'static str]) -> String {
        if self.chance(self.bad) {
            match self.rng.random_range(0..8) {
                0 => self.pick(&["x", "/y", "a."]).repeat(3000),
                _ => self.pick(bad).to_owned(),
            }
        } else {
            self.pick(good).to_owned()
        }
    }

    pub fn path(&mut self) -> String {
        if self.chance(self.bad) {
            return self.part(&["/"], &BAD_PATHS);
        }
        let segments = self.some(3, |random| random.pick(&SEGMENTS));
        let slash = if self.chance(20) || segments.is_empty() {
            "/"
        } else {
            ""
        };
        let path: String = segments
            .iter()
            .map(|segment| format!("/{segment}"))
            .collect();
        format!("{path}{slash}")
    }
}
