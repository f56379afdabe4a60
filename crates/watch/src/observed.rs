//! What the statuses out there say of ours, apart from the Snapshot: a status that changes must
//! not make anything translate again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_refs::{Key, Kind};
use tokio::sync::watch;

/// What the status of one object says of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The [`digest`](crate::digest) of our part; `None` where it cannot be read.
    pub digest: Option<u64>,
    /// The number of the change that made it so: a digest that comes back has another.
    pub change: u64,
}

/// By object, what is seen. An object that stands here exists; one that does not, does not.
pub type Digests = BTreeMap<(Kind, Key), Seen>;

/// The [`Digests`] as they are now. Filled by a source, read by the status writer.
#[derive(Debug)]
pub struct Observed {
    digests: Mutex<Digests>,
    changes: watch::Sender<u64>,
}

impl Default for Observed {
    fn default() -> Self {
        Observed {
            digests: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, Digests> {
        // The map is whole after each call, whatever panicked.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of an object; `None` if there is no such object.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &Key) -> Option<Seen> {
        self.lock().get(&(kind, key.clone())).copied()
    }

    /// Reads all of them.
    pub fn read<R>(&self, with: impl FnOnce(&Digests) -> R) -> R {
        with(&self.lock())
    }

    /// A number that grows with each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes an object's digest. Sources do this.
    pub fn set(&self, kind: Kind, key: &Key, digest: Option<u64>) {
        let mut digests = self.lock();
        let id = (kind, key.clone());
        if digests.get(&id).is_some_and(|seen| seen.digest == digest) {
            return;
        }
        let change = *self.changes.borrow() + 1;
        digests.insert(id, Seen { digest, change });
        self.changes.send_replace(change);
    }

    /// Forgets an object.
    pub fn remove(&self, kind: Kind, key: &Key) {
        let mut digests = self.lock();
        if digests.remove(&(kind, key.clone())).is_some() {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_comes_back_is_another_change() {
        let observed = Observed::default();
        let key = Key::new("n", "a");
        let set = |digest| {
            observed.set(Kind::HttpRoute, &key, digest);
            observed.get(Kind::HttpRoute, &key)
        };
        let first = set(Some(1));
        assert_eq!(set(Some(1)), first);
        assert_ne!(set(None), first);
        let back = set(Some(1));
        assert_eq!(back.map(|seen| seen.digest), first.map(|seen| seen.digest));
        assert_ne!(back, first);
        observed.remove(Kind::HttpRoute, &key);
        assert_eq!(observed.get(Kind::HttpRoute, &key), None);
        assert_ne!(set(Some(1)), back);
    }
}
