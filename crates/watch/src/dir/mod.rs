//! A directory as the source of a Snapshot.
//!
//! It may hold every kind that a tenant or an admin applies, in YAML or JSON, several in a file.
//! A file that is broken is not taken: its last good content goes on, and one line says what is
//! wrong. Where an API server would set something, it is set here: the namespace `default`, a UID
//! (from kind and key, the same in every run), generations, and a Namespace for each namespace that
//! objects stand in. All objects are of the same age, so that neither the order of files nor their
//! times decide which route wins: names do.
//!
//! Not done here: what the schemas of the API server's definitions check beyond what is read, such
//! as patterns of names.
//!
//! **Polling.** The directory is looked at four times a second, and a file is read once it is the
//! same at two looks. Notifications of the kernel would save little (a look at fifty files costs
//! about a tenth of a millisecond) and are not to be had where directories come from elsewhere:
//! network filesystems, FUSE, mounts of virtual machines, ConfigMap volumes whose links are swapped
//! beneath them. Looking twice also debounces: half-written files and files that an editor is about
//! to replace are never read.

mod document;
mod problem;
mod reader;
mod scan;
mod yaml;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_refs::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::problem::{FileProblem, Severity};
use self::reader::Reader;

/// How often a directory is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Reads a directory, or a single file, once. Broken files give nothing but their problem.
#[must_use]
pub fn read(path: &Path) -> (Arc<Snapshot>, Vec<FileProblem>) {
    let mut reader = Reader::new(path);
    reader.look(false);
    (reader.snapshot(), reader.problems().to_vec())
}

/// A directory that is followed until this is dropped.
#[derive(Debug)]
pub struct DirSource {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    problems: watch::Receiver<Arc<Vec<FileProblem>>>,
    task: JoinHandle<()>,
}

impl DirSource {
    /// Follows a directory, or a single file. Needs a tokio runtime.
    #[must_use]
    pub fn spawn(path: &Path) -> DirSource {
        let (snapshots, snapshots_out) = watch::channel(None);
        let (problems, problems_out) = watch::channel(Arc::default());
        let mut reader = Reader::new(path);
        let task = tokio::spawn(async move {
            let mut settle = false;
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let looked = tokio::task::spawn_blocking(move || {
                    reader.look(settle);
                    reader
                });
                // It fails only when the runtime ends.
                let Ok(back) = looked.await else { return };
                reader = back;
                settle = true;
                let now = reader.problems();
                problems.send_if_modified(|last| {
                    !Arc::ptr_eq(last, &now) && {
                        *last = now;
                        true
                    }
                });
                let now = reader.snapshot();
                snapshots.send_if_modified(|last| {
                    let same = last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &now));
                    if !same {
                        *last = Some(now);
                    }
                    !same
                });
            }
        });
        DirSource {
            snapshots: snapshots_out,
            problems: problems_out,
            task,
        }
    }

    /// The Snapshots; `None` until the directory was read for the first time.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshots.clone()
    }

    /// The problems as they are now, by path.
    #[must_use]
    pub fn problems(&self) -> watch::Receiver<Arc<Vec<FileProblem>>> {
        self.problems.clone()
    }
}

impl Drop for DirSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
