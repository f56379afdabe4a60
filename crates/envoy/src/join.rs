//! Building a body from pieces of the last one and of fresh bytes, and finding what can be used
//! again.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

enum Piece {
    Old(Range<usize>),
    Fresh(Range<usize>),
}

/// A body as a row of pieces; neighbours that are neighbours in their source too become one.
#[derive(Default)]
pub(crate) struct Join {
    pieces: Vec<Piece>,
    /// Bytes in all pieces.
    pub(crate) length: usize,
}

impl Join {
    /// Appends a piece of the last body.
    pub(crate) fn old(&mut self, range: Range<usize>) {
        self.length += range.len();
        match self.pieces.last_mut() {
            Some(Piece::Old(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Old(range)),
        }
    }

    /// Appends a piece of the fresh bytes.
    pub(crate) fn fresh(&mut self, range: Range<usize>) {
        self.length += range.len();
        match self.pieces.last_mut() {
            Some(Piece::Fresh(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Fresh(range)),
        }
    }

    /// Appends all pieces of another row.
    pub(crate) fn join(&mut self, other: Join) {
        for piece in other.pieces {
            match piece {
                Piece::Old(range) => self.old(range),
                Piece::Fresh(range) => self.fresh(range),
            }
        }
    }

    /// The body: one allocation of its exact size, one copy a piece.
    pub(crate) fn assemble(self, old: &[u8], fresh: &[u8]) -> Bytes {
        let mut body = Vec::with_capacity(self.length);
        for piece in self.pieces {
            match piece {
                Piece::Old(range) => body.extend_from_slice(&old[range]),
                Piece::Fresh(range) => body.extend_from_slice(&fresh[range]),
            }
        }
        body.into()
    }
}

/// How many items at the start and at the end of two rows are the same. The two do not overlap.
pub(crate) fn common<A, B>(old: &[A], new: &[B], same: impl Fn(&A, &B) -> bool) -> (usize, usize) {
    let pairs = old.iter().zip(new);
    let start = pairs.take_while(|(old, new)| same(old, new)).count();
    let pairs = (old[start..].iter().rev()).zip(new[start..].iter().rev());
    let end = pairs.take_while(|(old, new)| same(old, new)).count();
    (start, end)
}

/// Items of the last pass, walked in step with those of this pass. Both are in one order; where
/// they are not, items are not found and are made anew, which costs time but is right.
pub(crate) struct Reuse<T> {
    items: Vec<Option<T>>,
    /// Nothing from here on was taken.
    cursor: usize,
}

impl<T> Reuse<T> {
    pub(crate) fn new(items: Vec<T>) -> Reuse<T> {
        Reuse {
            items: items.into_iter().map(Some).collect(),
            cursor: 0,
        }
    }

    /// Finds the item that `order` says is equal, and goes there. `same` is a quick look whether
    /// it is the next one.
    pub(crate) fn seek(
        &mut self,
        same: impl Fn(&T) -> bool,
        order: impl Fn(&T) -> Ordering,
    ) -> Option<usize> {
        let ahead = self.items.get(self.cursor..)?;
        let next = ahead.first()?.as_ref()?;
        let found = if same(next) {
            0
        } else {
            ahead
                .binary_search_by(|item| item.as_ref().map_or(Ordering::Less, &order))
                .ok()?
        };
        let index = self.cursor + found;
        self.cursor = index + 1;
        Some(index)
    }

    /// The item of an index.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.items.get(index)?.as_ref()
    }

    /// Takes the item of an index.
    pub(crate) fn take(&mut self, index: usize) -> Option<T> {
        self.items.get_mut(index)?.take()
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> impl Iterator<Item = T> {
        self.items.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_piece() {
        let mut join = Join::default();
        join.old(0..2);
        join.old(2..4);
        join.fresh(1..2);
        join.fresh(2..3);
        join.old(5..6);
        assert_eq!(join.pieces.len(), 3);
        assert_eq!(join.length, 7);
        assert_eq!(&*join.assemble(b"abcdef", b"XYZ"), b"abcdYZf");
    }

    #[test]
    fn what_two_rows_share_does_not_overlap() {
        let common = |old: &[u8], new: &[u8]| common(old, new, |old, new| old == new);
        assert_eq!(common(b"abcd", b"abxd"), (2, 1));
        assert_eq!(common(b"aa", b"aaa"), (2, 0));
        assert_eq!(common(b"aba", b"aa"), (1, 1));
        assert_eq!(common(b"ab", b"ab"), (2, 0));
        assert_eq!(common(b"", b"ab"), (0, 0));
    }

    /// What is found of 0, 10, …, 90, for each wanted number.
    fn found(wanted: &[u32]) -> (Vec<Option<u32>>, Vec<u32>) {
        let mut reuse = Reuse::new((0..10).map(|tens| tens * 10).collect());
        let found = wanted
            .iter()
            .map(|number| {
                let index = reuse.seek(|item| item == number, |item| item.cmp(number))?;
                reuse.take(index)
            })
            .collect();
        (found, reuse.rest().collect())
    }

    #[test]
    fn insertions_and_removals_keep_the_rest() {
        let (items, rest) = found(&[0, 10, 11, 20, 50, 90, 91]);
        let expected = [Some(0), Some(10), None, Some(20), Some(50), Some(90), None];
        assert_eq!(items, expected);
        assert_eq!(rest, [30, 40, 60, 70, 80]);
    }

    #[test]
    fn disorder_finds_less_but_never_the_same_twice() {
        let (items, rest) = found(&[50, 10, 50, 60]);
        assert_eq!(items, [Some(50), None, None, Some(60)]);
        assert_eq!(rest.len(), 8);
    }
}
