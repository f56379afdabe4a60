//! The cgroup below which a cluster's pods run, in every hierarchy of the machine.
//!
//! Version 1 (a hierarchy a controller) is what was tried. Version 2 (one hierarchy) is written
//! after its documentation and could not be tried.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::names::Name;
use crate::process::poll;
use crate::procs;

/// The mount points of the hierarchies, from this process's own view.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchies {
    /// One for each controller, and those that systemd uses without one.
    v1: BTreeSet<PathBuf>,
    /// Beside version 1 it carries no controllers (systemd's hybrid), but runc makes groups in it.
    v2: Option<PathBuf>,
}

fn hierarchies() -> Result<Hierarchies> {
    parse(&fs::read_to_string("/proc/self/mountinfo")?)
}

fn parse(mountinfo: &str) -> Result<Hierarchies> {
    let mut found = Hierarchies {
        v1: BTreeSet::new(),
        v2: None,
    };
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = before.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        match after.split(' ').next() {
            Some("cgroup") => {
                found.v1.insert(point);
            }
            Some("cgroup2") => found.v2 = Some(point),
            _ => {}
        }
    }
    ensure!(
        !found.v1.is_empty() || found.v2.is_some(),
        "no cgroups are mounted: mount cgroup2 on /sys/fs/cgroup, or run on the machine itself"
    );
    Ok(found)
}

impl Hierarchies {
    /// The one hierarchy that carries the controllers, if it is of version 2.
    fn unified(&self) -> Option<&PathBuf> {
        self.v2.as_ref().filter(|_| self.v1.is_empty())
    }

    /// Everywhere that the cluster may have a group.
    fn groups(&self, name: &Name) -> Vec<PathBuf> {
        let points = self.v1.iter().chain(&self.v2);
        points.map(|point| point.join(name.cgroup())).collect()
    }
}

/// Makes the cluster's cgroups: the kubelet wants its root to be there.
pub(crate) fn create(name: &Name) -> Result<()> {
    let hierarchies = hierarchies()?;
    if let Some(point) = hierarchies.unified() {
        enable_controllers(point)?;
    }
    for group in hierarchies.groups(name) {
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| group.display().to_string());
            }
            _ => {}
        }
        // A new cpuset of version 1 has no processors and no memory: nothing could run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = group.join(file);
            if hierarchies.unified().is_none() && own.exists() {
                let above = group.with_file_name(file);
                fs::write(&own, fs::read(&above)?).with_context(|| own.display().to_string())?;
            }
        }
    }
    if let Some(point) = hierarchies.unified() {
        enable_controllers(&point.join(name.cgroup()))?;
    }
    Ok(())
}

/// Lets the groups below use every controller that there is. Enabling what is enabled changes
/// nothing; systemd has most of them on at the root.
fn enable_controllers(group: &Path) -> Result<()> {
    let there = fs::read_to_string(group.join("cgroup.controllers"))?;
    for controller in there.split_whitespace() {
        let file = group.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&file)?;
        if !enabled.split_whitespace().any(|word| word == controller) {
            fs::write(&file, format!("+{controller}")).with_context(|| {
                format!(
                    "cannot enable {controller} in {}: processes in this cgroup itself stand in \
                     the way (in a container), move them to one below it",
                    group.display()
                )
            })?;
        }
    }
    Ok(())
}

/// Ends what is in the cluster's cgroups and removes them. Returns those that stayed.
pub(crate) fn remove(name: &Name) -> Result<Vec<PathBuf>> {
    let there = |groups: Vec<PathBuf>| -> Vec<_> {
        groups.into_iter().filter(|group| group.exists()).collect()
    };
    // Without cgroups there is nothing to remove.
    let Ok(hierarchies) = hierarchies() else {
        return Ok(Vec::new());
    };
    // A process that was ended leaves its group a moment later.
    let gone = poll(Duration::from_secs(15), || {
        let groups = there(hierarchies.groups(name));
        for group in &groups {
            remove_below(group);
        }
        Ok(there(groups).is_empty().then_some(()))
    })?;
    Ok(match gone {
        Some(()) => Vec::new(),
        None => there(hierarchies.groups(name)),
    })
}

/// What cannot be removed yet is tried again by the caller.
fn remove_below(group: &Path) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_below(&entry.path());
            }
        }
    }
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse().ok()) {
        procs::end(pid);
    }
    let _ = fs::remove_dir(group);
}

/// The cluster's cgroups that exist.
pub(crate) fn leftovers(name: &Name) -> Vec<PathBuf> {
    hierarchies()
        .map(|hierarchies| hierarchies.groups(name))
        .unwrap_or_default()
        .into_iter()
        .filter(|group| group.exists())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
    const V2: &str = "40 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn versions_are_told_apart() {
        let name = "a".parse().unwrap();
        let both = parse(&format!("{V1}{V2}")).unwrap();
        assert_eq!(both.unified(), None);
        assert_eq!(
            both.groups(&name),
            [
                Path::new("/sys/fs/cgroup/cpu/postern-a"),
                Path::new("/sys/fs/cgroup/memory/postern-a"),
                Path::new("/sys/fs/cgroup/unified/postern-a")
            ]
        );
        let v2 = parse(V2).unwrap();
        assert_eq!(v2.unified().unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(v2.groups(&name).len(), 1);
        let error = parse("1 1 0:1 / / rw - ext4 /dev/a rw").unwrap_err();
        assert!(error.to_string().contains("mount cgroup2"));
    }
}
