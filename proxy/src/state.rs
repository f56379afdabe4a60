//! The private directory of one Envoy: its bootstrap and its admin socket.
//!
//! Whoever reaches the admin socket owns the Envoy, so the directory is ours alone (mode 0700)
//! and is refused when it is not.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Longest path of a Unix socket on Linux, in bytes (`sun_path` less its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// A directory that this process alone uses, until dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    // Held for its lock; closed on exec, so Envoy does not inherit it.
    _lock: Flock<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A system call failed.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// What it was done to.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// How.
        source: io::Error,
    },
    /// It is another user's, as the root of a mounted volume is.
    #[error(
        "{path}: belongs to user {owner}, not to user {user}: name a directory inside it, which is then created"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is no directory.
    #[error("{path}: is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Another supervisor runs there.
    #[error("{path}: is in use by another supervisor")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The admin socket's path would not fit.
    #[error("{path}: too long, the admin socket's path may have {MAX_SOCKET_PATH} bytes")]
    TooLong {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The path cannot be written into JSON.
    #[error("{path:?}: is not UTF-8")]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

impl StateDir {
    /// Creates or takes over `path`: ours, mode 0700, locked, without an old socket.
    ///
    /// # Errors
    ///
    /// Where it is another user's, in use, too long for a socket, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let path = std::path::absolute(path).map_err(io_error(path, "resolve"))?;
        if path.to_str().is_none() {
            return Err(StateError::NotUtf8 { path });
        }
        let socket = path.join("admin.sock");
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(StateError::TooLong { path: socket });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(io_error(&path, "create"))?;
        // Not following a link: what is checked must be what is used.
        let meta = std::fs::symlink_metadata(&path).map_err(io_error(&path, "read"))?;
        if !meta.is_dir() {
            return Err(StateError::NotADirectory { path });
        }
        let user = nix::unistd::geteuid().as_raw();
        if meta.uid() != user {
            return Err(StateError::Foreign {
                path,
                owner: meta.uid(),
                user,
            });
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(io_error(&path, "restrict"))?;
        let lock_path = path.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error(&lock_path, "open"))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(StateError::InUse { path }),
            Err((_, errno)) => return Err(io_error(&lock_path, "lock")(errno.into())),
        };
        // An Envoy that was killed leaves its socket behind.
        match std::fs::remove_file(&socket) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_error(&socket, "remove")(e)),
        }
        Ok(Self { path, _lock: lock })
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where Envoy's admin interface listens.
    pub fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }

    /// Writes `name` whole (mode 0600), or leaves what was there. Gives its path.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, StateError> {
        let path = self.path.join(name);
        let draft = self.path.join(format!(".{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(content)?;
            std::fs::rename(&draft, &path)
        };
        write().map_err(io_error(&path, "write"))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn it_is_private_even_where_it_was_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        std::fs::write(path.join("admin.sock"), "left behind").unwrap();

        let state = StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert!(!state.admin_socket().exists());
        let file = state.write("x.json", b"{}").unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(std::fs::read(&file).unwrap(), b"{}");
    }

    #[test]
    fn it_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::open(root.path()).unwrap();
        assert!(matches!(
            StateDir::open(root.path()),
            Err(StateError::InUse { .. })
        ));
        drop(first);
        StateDir::open(root.path()).unwrap();
    }

    #[test]
    fn links_files_and_long_paths_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(
            StateDir::open(&link),
            Err(StateError::NotADirectory { .. })
        ));
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(StateDir::open(&file), Err(StateError::Io { .. })));
        let long = root.path().join("l".repeat(100));
        assert!(matches!(
            StateDir::open(&long),
            Err(StateError::TooLong { .. })
        ));
        assert!(!long.exists());
    }

    #[test]
    fn another_users_directory_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: needs root to give a directory away");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(root.path(), Some(12345), None).unwrap();
        let error = StateDir::open(root.path()).unwrap_err();
        assert!(matches!(error, StateError::Foreign { owner: 12345, .. }));
        assert!(error.to_string().contains("name a directory inside it"));
    }
}
