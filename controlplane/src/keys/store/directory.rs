//! A directory, for a control plane without Kubernetes.
//!
//! Each part is a directory of its own (mode 0700) with a file (mode 0600) a key, such as
//! `envoy-default/tls.crt`. A file is written beside its place and renamed into it, so that it is
//! there whole or not at all; Envoy sees the rename. No symbolic link is made or followed.
//!
//! Two files are not replaced in one step. So certificates are renewed for the keys that they
//! have, and whatever was read between two writes fits: an old certificate or the new one, beside
//! their common key. A process that stops between two writes leaves nothing worse: files are
//! written in an order in which a certificate comes after all that it needs.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{
    CERTIFICATE, Contents, KEY, NEXT_CERTIFICATE, NEXT_KEY, OLD, Part, STATE, Store, StoreError,
    Stored, TRUST,
};
use crate::keys::material::MAX_PEM;

/// All files, in the order in which they are written.
const FILES: [&str; 7] = [
    TRUST,
    OLD,
    NEXT_KEY,
    NEXT_CERTIFICATE,
    KEY,
    CERTIFICATE,
    STATE,
];

/// Keeps contents in files.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// A store below this directory, which is made when something is written. One process may
    /// use it at a time.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> DirectoryStore {
        DirectoryStore { root: root.into() }
    }

    /// Where a part is: for Envoy's `--tls-dir` that of [`Part::Envoy`].
    #[must_use]
    pub fn path(&self, part: &Part) -> PathBuf {
        match part {
            Part::Authority => self.root.join("authority"),
            Part::Public => self.root.join("public"),
            Part::Server => self.root.join("xds-server"),
            Part::Envoy(shard) => self.root.join(format!("envoy-{shard}")),
        }
    }
}

impl Store for DirectoryStore {
    type Version = ();

    fn keeps_leaf_keys(&self) -> bool {
        true
    }

    async fn load(&self, parts: &[Part]) -> Result<Stored<()>, StoreError> {
        let mut stored = Stored::new();
        for part in parts {
            let directory = self.path(part);
            if !is_directory(&directory)? {
                continue;
            }
            let mut contents = Contents::default();
            for file in FILES {
                if let Some(bytes) = read(&directory.join(file))? {
                    contents.0.insert(file.to_owned(), bytes);
                }
            }
            stored.insert(part.clone(), (contents, ()));
        }
        Ok(stored)
    }

    async fn save(
        &self,
        part: &Part,
        contents: &Contents,
        _over: Option<&()>,
    ) -> Result<(), StoreError> {
        let directory = self.path(part);
        for directory in [&self.root, &directory] {
            if !is_directory(directory)? {
                let made = DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory);
                made.map_err(|error| failed(directory, &error))?;
            }
        }
        for file in FILES {
            let path = directory.join(file);
            let new = contents.0.get(file);
            if let Some(bytes) = new
                && read(&path)?.as_ref() != Some(bytes)
            {
                write(&directory, &path, bytes).map_err(|error| failed(&path, &error))?;
            }
        }
        // Last: what is there no more was moved to another file.
        for file in FILES
            .into_iter()
            .filter(|file| !contents.0.contains_key(*file))
        {
            let path = directory.join(file);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(&path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether there is a directory; an error where there is something else, a link to one too.
fn is_directory(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => {
            let path = path.display();
            Err(StoreError::Failed(format!("{path} is not a directory")))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, &error)),
    }
}

/// A plain file's bytes, of which there are never many; nothing where there is no plain file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_PEM as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        }),
        Ok(_) => return Ok(None),
        Err(error) => Err(error),
    };
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn write(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(".new");
    // One of an earlier process, or a trap: `create_new` follows no link, and neither does this.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
