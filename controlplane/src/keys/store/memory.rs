//! A store that forgets: for tests, and for whoever keeps keys for the life of a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Contents, Part, Store, StoreError, Stored};

/// Keeps contents in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    parts: BTreeMap<Part, (Contents, u64)>,
    writes: u64,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something was written.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// All that is kept.
    #[must_use]
    pub fn all(&self) -> Stored<u64> {
        self.lock().parts.clone()
    }

    /// Writes whatever is there, as someone else would.
    pub fn put(&self, part: Part, contents: Contents) {
        let mut kept = self.lock();
        kept.writes += 1;
        let version = kept.writes;
        kept.parts.insert(part, (contents, version));
    }

    /// Deletes, as someone else would.
    pub fn remove(&self, part: &Part) {
        self.lock().parts.remove(part);
    }
}

impl Store for MemoryStore {
    type Version = u64;

    async fn load(&self, parts: &[Part]) -> Result<Stored<u64>, StoreError> {
        let kept = self.lock();
        let found = parts.iter().filter_map(|part| {
            let entry = kept.parts.get(part)?;
            Some((part.clone(), entry.clone()))
        });
        Ok(found.collect())
    }

    async fn save(
        &self,
        part: &Part,
        contents: &Contents,
        over: Option<&u64>,
    ) -> Result<(), StoreError> {
        let is = self.lock().parts.get(part).map(|(_, version)| *version);
        if is != over.copied() {
            return Err(StoreError::Conflict);
        }
        self.put(part.clone(), contents.clone());
        Ok(())
    }
}
