//! Where a cluster keeps what: one folder a cluster, below the user's cache.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::names::Name;
use crate::procs::Proc;

/// The longest socket path below the folder, counted from the folder.
const LONGEST_SOCKET: &str = "/kubelet/pod-resources/kubelet.sock";
/// The kernel takes 107 bytes; programs append to their socket's name.
const SOCKET_LIMIT: usize = 100;
/// Folders that the node's mount namespace covers with empty ones of its own.
pub(crate) const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// `${XDG_CACHE_HOME:-~/.cache}/postern`. A relative `XDG_CACHE_HOME` is ignored, as the XDG base
/// directory specification asks.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        _ => match std::env::var_os("HOME").map(PathBuf::from) {
            Some(home) if home.is_absolute() => home.join(".cache"),
            _ => bail!("neither XDG_CACHE_HOME nor HOME is an absolute path: set one"),
        },
    };
    Ok(base.join("postern"))
}

/// What the driver must know of a running cluster, kept in `cluster.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Only etcd and an API server, on the loopback of the ordinary namespace.
    pub light: bool,
    /// Which addresses it has: see [`crate::config::Addresses`].
    pub number: u8,
    /// The API server's port on 127.0.0.1.
    pub port: u16,
    /// The folder of the programs it runs.
    pub binaries: PathBuf,
    /// Process 1 of the node's process namespace.
    pub init: Option<Proc>,
    /// The parts as they were started (in a node: those who wait for them outside).
    pub processes: Vec<Proc>,
    /// Set once everything was seen to work.
    pub ready: bool,
}

/// The paths of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub name: Name,
    clusters: PathBuf,
}

impl Layout {
    pub fn of(name: &Name) -> Result<Self> {
        Ok(Self::below(cache()?.join("clusters"), name))
    }

    pub fn below(clusters: PathBuf, name: &Name) -> Self {
        Self {
            name: name.clone(),
            clusters,
        }
    }

    pub fn clusters(&self) -> &Path {
        &self.clusters
    }

    /// The cluster's own folder.
    pub fn state(&self) -> PathBuf {
        self.clusters.join(self.name.as_str())
    }

    pub fn at(&self, relative: &str) -> PathBuf {
        self.state().join(relative)
    }

    pub fn log(&self, part: &str) -> PathBuf {
        self.at("logs").join(format!("{part}.log"))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.at("kubeconfig")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.at("run/containerd.sock")
    }

    /// Refuses folders in which a cluster cannot work.
    pub fn check(&self, light: bool) -> Result<()> {
        let state = self.state();
        let length = state.as_os_str().len() + LONGEST_SOCKET.len();
        ensure!(
            length < SOCKET_LIMIT,
            "{} is too long a path: sockets below it would have {length} bytes, {} at most; set \
             XDG_CACHE_HOME to a shorter folder",
            state.display(),
            SOCKET_LIMIT - 1
        );
        if !light && let Some(covered) = COVERED.iter().find(|c| state.starts_with(c)) {
            bail!(
                "{} lies below {covered}, which the node covers with a folder of its own; set \
                 XDG_CACHE_HOME to a folder elsewhere",
                state.display()
            );
        }
        Ok(())
    }

    /// Makes the folders, readable by this user alone: they hold keys.
    pub fn create(&self) -> Result<()> {
        for dir in [
            "",
            "etc",
            "logs",
            "logs/pods",
            "pki",
            "run",
            "users",
            "forwards",
            "images",
        ] {
            make_private_dir(&self.at(dir))?;
        }
        Ok(())
    }

    pub fn save(&self, state: &State) -> Result<()> {
        write_private(&self.at("cluster.json"), &serde_json::to_vec_pretty(state)?)
    }

    /// The state, or none where there is no such cluster or it never got so far.
    pub fn load(&self) -> Result<Option<State>> {
        let path = self.at("cluster.json");
        match fs::read(&path) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
                    format!("{} cannot be read", path.display())
                })?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Keeps all other clusters' drivers out of what clusters share, until it is dropped. The lock
    /// is on a folder, so it leaves no file.
    pub fn lock_shared(&self) -> Result<Flock<File>> {
        let dir = self.clusters.parent().context("no parent")?;
        let file = File::open(dir).with_context(|| dir.display().to_string())?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", dir.display()))
    }

    /// Waits until nobody else brings this cluster up or down, and keeps others waiting.
    pub fn lock(&self) -> Result<Lock> {
        make_private_dir(&self.clusters)?;
        Lock::take(self.clusters.join(format!(".{}.lock", self.name)))
    }
}

/// A lock on a file, which may be deleted at the end.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    pub fn take(path: PathBuf) -> Result<Self> {
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| path.display().to_string())?;
            let file = Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| errno)
                .with_context(|| format!("lock {}", path.display()))?;
            // Who held the lock before may have deleted the file: then this lock keeps nobody out.
            let held = file.metadata()?;
            match fs::metadata(&path) {
                Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {
                    return Ok(Self { path, file });
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the lock up and removes its file.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path)?;
        drop(self.file);
        Ok(())
    }
}

pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

/// Writes a file for this user alone, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let dir = path.parent().context("no parent")?;
        // Temporary files are made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn layout(dir: &Path) -> Layout {
        Layout::below(dir.join("clusters"), &"a".parse().unwrap())
    }

    #[test]
    fn folders_and_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        layout.create().unwrap();
        let state = State {
            light: true,
            number: 0,
            port: 7,
            binaries: "/b".into(),
            init: None,
            processes: vec![],
            ready: false,
        };
        assert!(layout.load().unwrap().is_none());
        layout.save(&state).unwrap();
        assert_eq!(layout.load().unwrap().unwrap().port, 7);
        let mode = |p: PathBuf| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(layout.state()), 0o700);
        assert_eq!(mode(layout.at("pki")), 0o700);
        assert_eq!(mode(layout.at("cluster.json")), 0o600);
    }

    #[test]
    fn bad_places_are_refused_with_a_way_out() {
        let name = "12345678901234567890".parse().unwrap();
        let long = Layout::below(format!("/{}", "x".repeat(60)).into(), &name);
        let error = long.check(true).unwrap_err().to_string();
        assert!(error.contains("XDG_CACHE_HOME"), "{error}");
        let home = Layout::below("/home/somebody/.cache/postern/clusters".into(), &name);
        home.check(false).unwrap();
        let covered = Layout::below("/var/lib/x/clusters".into(), &name);
        covered.check(true).unwrap();
        let error = covered.check(false).unwrap_err().to_string();
        assert!(error.contains("/var/lib"), "{error}");
    }

    #[test]
    fn a_lock_keeps_others_out_although_its_file_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let first = layout.lock().unwrap();
        let held = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let lock = layout.lock().unwrap();
                assert!(
                    !held.load(Ordering::SeqCst),
                    "two hold the lock at one time"
                );
                lock.remove().unwrap();
            });
            held.store(false, Ordering::SeqCst);
            first.remove().unwrap();
            second.join().unwrap();
        });
        assert_eq!(fs::read_dir(layout.clusters()).unwrap().count(), 0);
    }
}
