//! Versions: 64-bit hashes that are equal for equal content, also in the next process.
//!
//! An item's version is the hash of its encoded bytes, taken once, right after encoding, and kept
//! for as long as the item stays. So it covers the encoder too: a release that encodes the same
//! model in another way has other versions, and a reconnecting Envoy that names its old ones gets
//! the new resources. (What Postern encodes has no protobuf map of more than one entry, the one
//! thing that encodes in random order. Should one be added, equal content may get another version
//! after a restart, which costs one update that changes nothing.)

use std::hash::{DefaultHasher, Hasher};

/// The version of encoded bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    // `DefaultHasher::new` has fixed keys: the same in every process of one build. Keys are no
    // secret, but whoever finds two values with one hash delays only a change of his own.
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Folds the version of the next part into that of a whole. The order of the parts counts, and
/// wholes that differ in one part only are always different: each step is a bijection.
pub(crate) const fn fold(whole: u64, part: u64) -> u64 {
    let mixed = (whole.rotate_left(23) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_differs_with_each_part_and_with_their_order() {
        let whole = |parts: &[u64]| parts.iter().fold(1, |all, part| fold(all, *part));
        let parts: Vec<u64> = (0..100).collect();
        let first = whole(&parts);
        for place in 0..parts.len() {
            let mut other = parts.clone();
            other[place] ^= 1 << (place % 64);
            assert_ne!(whole(&other), first);
            other = parts.clone();
            other.swap(place, (place + 1) % parts.len());
            assert_ne!(whole(&other), first);
        }
        assert_ne!(whole(&parts[1..]), first);
    }

    #[test]
    fn versions_do_not_depend_on_the_process() {
        // SipHash-1-3 with keys of zero. If a new toolchain changes it, every Envoy gets
        // everything once more after the upgrade: correct, but worth a line in the release notes.
        assert_eq!(of_bytes(b"postern"), 4_744_678_214_543_542_858);
    }
}
