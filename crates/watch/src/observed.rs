//! What the statuses out there say of ours, apart from the Snapshot: a status that changes must
//! not make anything translate again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_refs::{Key, Kind};
use tokio::sync::watch;

/// By object, the [`digest`](crate::digest) of our part of its status; `None` where that cannot be
/// read. An object that stands here exists; one that does not, does not.
pub type Digests = BTreeMap<(Kind, Key), Option<u64>>;

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

    /// The digest of an object's status; the outer `None` if there is no such object.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &Key) -> Option<Option<u64>> {
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
        let changed = self.lock().insert((kind, key.clone()), digest) != Some(digest);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Forgets an object.
    pub fn remove(&self, kind: Kind, key: &Key) {
        if self.lock().remove(&(kind, key.clone())).is_some() {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}
