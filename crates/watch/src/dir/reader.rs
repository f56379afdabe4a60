//! A directory over time: what changed, what is broken, what stands twice.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use postern_refs::objects::Namespace;
use postern_refs::{Body, Key, Kind, Meta, Object, Snapshot};

use super::document::{Content, Entry, complete, read};
use super::problem::FileProblem;
use super::scan::{Found, LARGEST, Stamp, locate, scan};
use crate::door::{Lower, Lowered, with_kind};
use crate::kinds::is_namespaced;
use crate::scope::Extent;
use crate::store::Store;
use crate::text::intern;

/// One file.
#[derive(Debug, Default)]
struct File {
    /// As it was when it was read last.
    read: Option<Stamp>,
    /// The same stamp does not prove the same content yet.
    racy: bool,
    /// The content that was read last, hashed.
    hash: u64,
    /// As it was at the last look, if it has changed since it was read: it is read once it is the
    /// same at two looks, so that half-written files are not.
    changing: Option<Stamp>,
    /// It was gone at the last look.
    gone: bool,
    /// The objects of its last good content.
    good: Vec<Entry>,
    errors: Vec<FileProblem>,
    passed: Vec<(String, FileProblem)>,
}

/// Reads a directory, again and again.
#[derive(Debug)]
pub(super) struct Reader {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    store: Store,
    hasher: RandomState,
    problems: Arc<Vec<FileProblem>>,
    of_scan: Vec<FileProblem>,
}

impl Reader {
    pub(super) fn new(root: &Path) -> Reader {
        Reader {
            root: root.into(),
            files: BTreeMap::new(),
            store: Store::new(),
            hasher: RandomState::new(),
            problems: Arc::default(),
            of_scan: Vec::new(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    pub(super) fn problems(&self) -> Arc<Vec<FileProblem>> {
        Arc::clone(&self.problems)
    }

    /// Looks at the directory. With `settle`, a change counts once it is the same at two looks.
    pub(super) fn look(&mut self, settle: bool) {
        let Found {
            files,
            unreadable,
            problems,
        } = scan(&self.root);
        let mut changed = problems != self.of_scan;
        self.of_scan = problems;

        for (path, file) in &mut self.files {
            let hidden = unreadable
                .iter()
                .any(|directory| path.starts_with(directory));
            let gone = !files.contains_key(path) && !hidden;
            changed |= gone && (file.gone || !settle);
            file.gone = gone && settle && !file.gone;
            if gone && !file.gone {
                // Gone at two looks: an editor that replaces a file is not in between any more.
                file.read = None;
            }
        }
        self.files
            .retain(|path, file| files.contains_key(path) || file.gone || file.read.is_some());

        for (path, stamp) in files {
            let new = !self.files.contains_key(&path);
            let file = self.files.entry(path.clone()).or_default();
            if file.read == Some(stamp) && !file.racy {
                file.changing = None;
                continue;
            }
            if settle && file.read != Some(stamp) && file.changing != Some(stamp) {
                file.changing = Some(stamp);
                continue;
            }
            file.changing = None;
            changed |= new | file.take(&self.root, &path, stamp, &self.hasher);
        }
        if changed {
            self.rebuild();
        }
    }

    /// Puts the good contents of all files together. Depends on nothing but them: of objects that
    /// stand twice, the first by path and line counts.
    fn rebuild(&mut self) {
        let mut problems = self.of_scan.clone();
        let mut first: BTreeMap<(Kind, Key), (&Path, &Entry)> = BTreeMap::new();
        let mut passed: BTreeSet<&str> = BTreeSet::new();
        for (path, file) in &self.files {
            problems.extend(file.errors.iter().cloned());
            for (what, problem) in &file.passed {
                if passed.insert(what) {
                    problems.push(problem.clone());
                }
            }
            for entry in &file.good {
                match first.entry((entry.kind, entry.key.clone())) {
                    Slot::Vacant(slot) => {
                        slot.insert((path, entry));
                    }
                    Slot::Occupied(slot) => {
                        let (other, there) = slot.get();
                        problems.push(twice(path, entry, other, there));
                    }
                }
            }
        }
        let keys: BTreeSet<(Kind, Key)> = first.keys().cloned().collect();
        for (_, entry) in first.into_values() {
            with_kind!(entry.kind, T => {
                if let Some(object) = entry.object.downcast_ref::<Object<T>>() {
                    put(&mut self.store, object.clone());
                }
            });
        }
        let namespaces = implied_namespaces(&keys);
        for key in &namespaces {
            put(&mut self.store, namespace(key.clone()));
        }
        for kind in Kind::ALL {
            self.store.retain(kind, &Extent::Cluster, |key| {
                keys.contains(&(kind, key.clone()))
                    || (kind == Kind::Namespace && namespaces.contains(key))
            });
        }
        problems.sort_by(|left, right| {
            (&left.path, left.line, right.severity).cmp(&(&right.path, right.line, left.severity))
        });
        if *self.problems != problems {
            self.problems = Arc::new(problems);
        }
    }
}

impl File {
    /// Reads it, and says whether anything about it changed.
    fn take(&mut self, root: &Path, path: &Path, stamp: Stamp, hasher: &RandomState) -> bool {
        let was_read = self.read.replace(stamp).is_some();
        self.racy = stamp.is_racy(SystemTime::now());
        let result = load(&locate(root, path), stamp);
        let hash = hasher.hash_one(&result);
        if was_read && hash == self.hash {
            return false;
        }
        self.hash = hash;
        let content = match result {
            Ok(text) => read(path, &text),
            Err((message, advice)) => Content {
                errors: vec![FileProblem::error(path, message, advice)],
                ..Content::default()
            },
        };
        self.errors = content.errors;
        self.passed = content.passed;
        if self.errors.is_empty() {
            self.good = content.entries;
        }
        true
    }
}

fn load(path: &Path, stamp: Stamp) -> Result<String, (String, &'static str)> {
    let too_large = || (format!("larger than {LARGEST} bytes"), "split the file");
    if stamp.is_too_large() {
        return Err(too_large());
    }
    // It may have grown since, or be no ordinary file any more.
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| (format!("cannot be read: {error}"), "check its permissions"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        (format!("no UTF-8 at byte {at}"), "save it as UTF-8")
    })
}

fn twice(path: &Path, entry: &Entry, other: &Path, there: &Entry) -> FileProblem {
    let message = format!(
        "stands in {}:{} too, which counts",
        other.display(),
        there.line
    );
    let mut problem = FileProblem::error(path, message, "remove one of the two");
    problem.line = Some(entry.line);
    problem.object = Some((entry.kind, entry.key.to_string()));
    problem
}

/// Takes in an object under the generation that a server would give it: one more with each change.
fn put<T: Lower>(store: &mut Store, mut object: Object<T>) {
    if let Some(have) = store.map::<T>().get(&object.meta.key) {
        object.meta.generation = have.meta.generation;
        if **have == object {
            return;
        }
        object.meta.generation += 1;
    }
    store.apply(Lowered {
        object,
        observed: None,
    });
}

/// The namespaces that objects stand in and that no file describes: on a server they would have to
/// exist.
fn implied_namespaces(keys: &BTreeSet<(Kind, Key)>) -> BTreeSet<Key> {
    keys.iter()
        .filter(|(kind, _)| is_namespaced(*kind))
        .map(|(_, key)| key.sibling(intern(""), key.namespace.clone()))
        .filter(|key| !keys.contains(&(Kind::Namespace, key.clone())))
        .collect()
}

fn namespace(key: Key) -> Object<Namespace> {
    let mut object = Object {
        meta: Meta {
            key,
            uid: "".into(),
            generation: 1,
            created: 0,
        },
        body: Body::Valid(Namespace::default()),
        unsupported: Vec::new(),
    };
    complete(&mut object);
    object
}
