//! Taking a cluster away so that nothing of it stays, also after a start that was cut short.
//!
//! What is ours is told by things that have our name (network namespace, cgroup, state folder),
//! never by what a process is called: nothing else is touched.

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};

use crate::layout::Layout;
use crate::process::poll;
use crate::{cgroups, netns, procs};

/// How long processes may take to end after SIGKILL.
const ENDING: Duration = Duration::from_secs(20);

/// Removes everything. The caller holds the cluster's lock.
pub(crate) fn remove(layout: &Layout) -> Result<()> {
    let own = std::process::id();
    ensure!(
        !netns::members(&layout.name).contains(&own),
        "this process is inside {}: leave it first",
        layout.name.netns()
    );
    end_processes(layout)?;
    let stuck = cgroups::remove(&layout.name)?;
    for mount in mounts_below(layout)? {
        umount2(&mount, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", mount.display()))?;
    }
    netns::remove(layout)?;
    // Whatever is mounted there still would be emptied with the folder.
    let mounts = mounts_below(layout)?;
    ensure!(
        mounts.is_empty(),
        "{mounts:?} stay mounted below the state folder: unmount them, then go down again"
    );
    match fs::remove_dir_all(layout.state()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| layout.state().display().to_string());
        }
        _ => {}
    }
    let left = leftovers(layout)?;
    if !left.is_empty() || !stuck.is_empty() {
        bail!("these stayed: {}", left.join(", "));
    }
    Ok(())
}

/// Everything of the cluster that exists, for people.
pub(crate) fn leftovers(layout: &Layout) -> Result<Vec<String>> {
    let shown = |what: &str, paths: Vec<PathBuf>| -> Vec<String> {
        paths
            .into_iter()
            .map(|path| format!("{what} {}", path.display()))
            .collect()
    };
    let mut left: Vec<String> = processes(layout).into_iter().map(procs::describe).collect();
    left.extend(shown("cgroup", cgroups::leftovers(&layout.name)));
    left.extend(shown("mount", mounts_below(layout)?));
    let files = [
        layout.name.netns_path(),
        layout.name.outside_path(),
        layout.state(),
    ];
    let files = files.into_iter().filter(|path| path.exists()).collect();
    left.extend(shown("file", files));
    Ok(left)
}

/// Processes in the network namespaces, those that carry the mark of the state folder, and those that
/// were written down when they were started.
fn processes(layout: &Layout) -> Vec<u32> {
    let state = layout.state();
    let mut found = netns::members(&layout.name);
    found.extend(
        procs::all()
            .into_iter()
            .filter(|pid| procs::is_marked(*pid, &state)),
    );
    // A state that cannot be read holds nobody up: the other two ways find the processes.
    if let Ok(Some(state)) = layout.load() {
        let written = state.processes.iter().chain(&state.init);
        found.extend(written.filter(|p| p.is_alive()).map(|p| p.pid));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn end_processes(layout: &Layout) -> Result<()> {
    // Process 1 of the node takes all others with it, pods too. It goes first, so that those who
    // wait outside for a process inside can still see it end.
    if let Ok(Some(state)) = layout.load()
        && let Some(init) = state.init.filter(procs::Proc::is_alive)
    {
        procs::end(init.pid);
        poll(ENDING, || Ok((!init.is_alive()).then_some(())))?;
    }
    let ended = poll(ENDING, || {
        let left = processes(layout);
        for pid in &left {
            procs::end(*pid);
        }
        Ok(left.is_empty().then_some(()))
    })?;
    if ended.is_none() {
        let left: Vec<_> = processes(layout).into_iter().map(procs::describe).collect();
        bail!("these do not end: {}", left.join(", "));
    }
    Ok(())
}

/// Mounts in the state folder, the innermost first.
fn mounts_below(layout: &Layout) -> Result<Vec<PathBuf>> {
    let state = layout.state();
    let mut found = netns::mount_points()?;
    found.retain(|point| point.starts_with(&state));
    found.sort();
    found.reverse();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::layout::State;
    use crate::procs::Proc;

    fn layout(dir: &std::path::Path) -> Layout {
        let layout = Layout::below(dir.join("clusters"), &"td-unit".parse().unwrap());
        layout.create().unwrap();
        layout
    }

    #[test]
    fn a_cluster_cut_short_is_taken_away_and_a_stranger_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let spawn = |mark: &std::path::Path| {
            Command::new("cat")
                .current_dir(layout.state())
                .env(procs::MARK, mark)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        };
        // Started, never written down.
        let mut ours = spawn(&layout.state());
        // Written down, but the id belongs to somebody else by now: of another cluster, and who
        // merely stands in our folder.
        let mut stranger = spawn(dir.path());
        let mut written = Proc::find("etcd", stranger.id()).unwrap();
        written.started -= 1;
        layout
            .save(&State {
                light: true,
                number: 0,
                port: 1,
                binaries: "/b".into(),
                init: None,
                processes: vec![written],
                ready: false,
            })
            .unwrap();
        assert_eq!(processes(&layout), [ours.id()]);
        remove(&layout).unwrap();
        assert!(!ours.wait().unwrap().success());
        assert!(
            stranger.try_wait().unwrap().is_none(),
            "a stranger was ended"
        );
        assert!(!layout.state().exists());
        assert_eq!(leftovers(&layout).unwrap(), Vec::<String>::new());
        // Again, with nothing there.
        remove(&layout).unwrap();
        procs::end(stranger.id());
        stranger.wait().unwrap();
    }

    #[test]
    fn a_state_that_cannot_be_read_is_taken_away_too() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs::write(layout.at("cluster.json"), "{ half").unwrap();
        remove(&layout).unwrap();
        assert!(!layout.state().exists());
    }
}
