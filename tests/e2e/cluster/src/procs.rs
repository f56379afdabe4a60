//! Processes as /proc shows them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process that we started: its id, and when it began, since ids are used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proc {
    pub name: String,
    pub pid: u32,
    /// Clock ticks since the machine started (field 22 of /proc/PID/stat).
    pub started: u64,
}

impl Proc {
    /// The process of this id as it is now, or none if there is none.
    pub fn find(name: &str, pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        Some(Self {
            name: name.to_owned(),
            pid,
            started: stat.started,
        })
    }

    /// Whether this very process still runs; one that ended and was not waited for does not.
    pub fn is_alive(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && !stat.ended)
    }
}

struct Stat {
    ended: bool,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state …`: the name may hold anything, parentheses and spaces too.
    fn parse(line: &str) -> Option<Self> {
        let (_, after) = line.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next()?;
        Some(Self {
            ended: matches!(state, "Z" | "X"),
            started: fields.nth(18)?.parse().ok()?,
        })
    }
}

/// Device and inode: what makes a namespace the same as another.
pub(crate) type NamespaceId = (u64, u64);

/// The namespace behind a file, if it is one: a plain file left by a crash is none.
pub(crate) fn namespace(path: &Path) -> Option<NamespaceId> {
    let own = fs::metadata("/proc/self/ns/net").ok()?;
    let found = fs::metadata(path).ok()?;
    (own.dev() == found.dev()).then(|| (found.dev(), found.ino()))
}

/// The network namespace of a running process.
pub(crate) fn netns_of(pid: u32) -> Option<NamespaceId> {
    namespace(&PathBuf::from(format!("/proc/{pid}/ns/net")))
}

/// All processes, but not those that have ended and wait to be reaped.
pub(crate) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| Stat::of(*pid).is_some_and(|stat| !stat.ended))
        .collect()
}

/// Marks every process that a cluster's driver starts, with the cluster's folder as its value.
pub(crate) const MARK: &str = "POSTERN_CLUSTER_STATE";

/// Whether a process carries the mark of this folder. What it starts inherits it.
pub(crate) fn is_marked(pid: u32, state: &Path) -> bool {
    let wanted = [MARK.as_bytes(), b"=", state.as_os_str().as_encoded_bytes()].concat();
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|v| v == wanted))
}

/// Id and command line, for people.
pub(crate) fn describe(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|b| *b == 0)
        .take(3)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    format!("process {pid} ({})", words.join(" ").trim())
}

/// Ends a process at once. Whether it ended is for the caller to look at.
pub(crate) fn end(pid: u32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // An error says that it ended before, or is not ours; the walk after this shows it.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn odd_names_do_not_shift_fields() {
        let line = "7 (a) S 1 (x) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.started, 4711);
        assert!(!stat.ended);
        assert!(Stat::parse("7 (z) Z 1 2").is_none());
    }

    #[test]
    fn a_process_is_known_again_and_its_end_seen() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let known = Proc::find("cat", child.id()).unwrap();
        assert!(known.is_alive());
        assert!(all().contains(&child.id()));
        assert_eq!(netns_of(child.id()), netns_of(std::process::id()));
        let other = Proc {
            started: known.started + 1,
            ..known.clone()
        };
        assert!(!other.is_alive(), "an id used again is another process");
        end(child.id());
        child.wait().unwrap();
        assert!(!known.is_alive());
    }

    #[test]
    fn plain_files_are_no_namespaces() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(namespace(file.path()), None);
        assert!(namespace(Path::new("/proc/self/ns/net")).is_some());
    }
}
