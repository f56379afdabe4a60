//! Which files of a directory are read.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::problem::FileProblem;

/// The largest file that is read, in bytes.
pub(super) const LARGEST: u64 = 8 << 20;
/// How deep directories may stand in one another.
const DEEPEST: usize = 16;
/// How many files are read.
const MOST_FILES: usize = 10_000;

/// What changes when a file does. Not proof: see [`Stamp::is_racy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            modified: metadata.modified().ok(),
            size: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.size > LARGEST
    }

    /// Whether another write may hide behind the same stamp: clocks of filesystems tick in steps of
    /// up to two seconds, and the same size may be written twice within one.
    pub(super) fn is_racy(&self, read_at: SystemTime) -> bool {
        self.modified.is_none_or(|modified| {
            read_at
                .duration_since(modified)
                .map_or(true, |age| age.as_secs() < 3)
        })
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The files by path from the root.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Directories that could not be read: what was known of them stays.
    pub(super) unreadable: Vec<PathBuf>,
    pub(super) problems: Vec<FileProblem>,
}

/// Looks through a directory; a file as root is a directory of this one file.
pub(super) fn scan(root: &Path) -> Found {
    let mut found = Found::default();
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_file() => {
            let name = root.file_name().map(PathBuf::from).unwrap_or_default();
            found.files.insert(name, Stamp::of(&metadata));
        }
        _ => walk(root, Path::new(""), 0, &mut HashSet::new(), &mut found),
    }
    found
}

/// Where a path from the root lies.
pub(super) fn locate(root: &Path, path: &Path) -> PathBuf {
    if root.is_file() {
        root.into()
    } else {
        root.join(path)
    }
}

fn walk(root: &Path, below: &Path, depth: usize, above: &mut HashSet<PathBuf>, found: &mut Found) {
    let here = root.join(below);
    let shown = if below.as_os_str().is_empty() {
        root
    } else {
        below
    };
    // Links may lead back: no directory is entered from within itself.
    let entries = fs::canonicalize(&here).and_then(|real| {
        let entries = fs::read_dir(&here)?;
        Ok((real, entries))
    });
    let (real, entries) = match entries {
        Ok(opened) => opened,
        Err(error) => {
            found.unreadable.push(below.into());
            let message = format!("the directory cannot be read: {error}");
            found.problems.push(FileProblem::error(
                shown,
                message,
                "check the path and its permissions",
            ));
            return;
        }
    };
    if depth > DEEPEST || !above.insert(real.clone()) {
        return;
    }
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let Some(text) = name.to_str().filter(|text| is_of_interest(text)) else {
            continue;
        };
        let path = below.join(text);
        // Follows links: a mounted ConfigMap is nothing but links.
        let Ok(metadata) = fs::metadata(root.join(&path)) else {
            continue;
        };
        if metadata.is_dir() {
            walk(root, &path, depth + 1, above, found);
        } else if metadata.is_file() && is_read(text) {
            if found.files.len() == MOST_FILES {
                let message =
                    format!("more than {MOST_FILES} files: it and those after it are not read");
                found.problems.push(FileProblem::error(
                    &path,
                    message,
                    "name a smaller directory",
                ));
                break;
            }
            found.files.insert(path, Stamp::of(&metadata));
        }
    }
    above.remove(&real);
}

/// Neither hidden nor an editor's: `.x.swp`, `.#x`, `x~`, `#x#`, `x.swp`.
fn is_of_interest(name: &str) -> bool {
    !name.starts_with(['.', '#']) && !name.ends_with(['~', '#'])
}

fn is_read(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn hidden_and_temporary_files_are_passed_over_and_loops_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        fs::create_dir_all(root.join("sub/.hidden")).expect("directories");
        for name in [
            "a.yaml",
            "b.yml",
            "c.json",
            "d.txt",
            "e.yaml~",
            ".f.yaml",
            ".#g.yaml",
            "#h.yaml#",
            "i.yaml.swp",
            "4913",
            "sub/j.yaml",
            "sub/.hidden/k.yaml",
        ] {
            fs::write(root.join(name), "").expect("a file");
        }
        symlink(root, root.join("sub/loop")).expect("a link");
        symlink(root.join("sub"), root.join("other")).expect("a link");
        symlink(root.join("nowhere"), root.join("dangling.yaml")).expect("a link");
        let found = scan(root);
        let names: Vec<_> = found
            .files
            .keys()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            ["a.yaml", "b.yml", "c.json", "other/j.yaml", "sub/j.yaml"]
        );
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }

    #[test]
    fn a_file_may_be_the_root_and_an_absent_one_is_a_problem() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("x.conf");
        fs::write(&file, "").expect("a file");
        assert_eq!(scan(&file).files.len(), 1);
        let absent = scan(&dir.path().join("absent"));
        assert_eq!(absent.unreadable, [PathBuf::new()]);
        assert_eq!(absent.problems.len(), 1);
    }
}
