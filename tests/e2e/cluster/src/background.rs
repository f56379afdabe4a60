//! Programs beside the node's own: in the cluster's network namespace, with the machine's files, until
//! they are ended or the cluster goes down.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::layout::{Layout, write_private};
use crate::netns;
use crate::process::{poll, reap_later, tail_of};
use crate::procs::{self, MARK, Proc};

/// How long one may take to end after SIGKILL.
const ENDING: Duration = Duration::from_secs(10);

/// Starts a program under a name; one of that name that runs is ended first. Its output is in
/// `logs/NAME.log`. What it is told of its surroundings stands in `environment`, and nothing else.
pub(crate) fn start(
    layout: &Layout,
    name: &str,
    command: &Command,
    environment: &[(&str, String)],
) -> Result<()> {
    end(layout, name)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log(name))?;
    let entrance = netns::enter_network(&layout.name);
    let child = Command::new("setsid")
        .arg(entrance.get_program())
        .args(entrance.get_args())
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", layout.at("run"))
        .env("TMPDIR", layout.at("run"))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, layout.state())
        .current_dir(layout.at("run"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let process = Proc::find(name, child.id());
    reap_later(child);
    let process = process.with_context(|| format!("{name} ended at once"))?;
    write_private(&record(layout, name), &serde_json::to_vec(&process)?)
}

/// Whether the program of this name runs.
pub(crate) fn runs(layout: &Layout, name: &str) -> bool {
    find(layout, name).is_some_and(|process| process.is_alive())
}

/// Fails with its last words if the program of this name has ended.
pub(crate) fn check(layout: &Layout, name: &str) -> Result<()> {
    ensure!(
        runs(layout, name),
        "{name} has ended; {}",
        tail_of(layout, name)
    );
    Ok(())
}

/// Ends the program of this name, if it runs.
pub(crate) fn end(layout: &Layout, name: &str) -> Result<()> {
    let Some(process) = find(layout, name).filter(Proc::is_alive) else {
        return Ok(());
    };
    procs::end(process.pid);
    poll(ENDING, || Ok((!process.is_alive()).then_some(())))?
        .with_context(|| format!("{name} does not end"))
}

fn find(layout: &Layout, name: &str) -> Option<Proc> {
    serde_json::from_slice(&fs::read(record(layout, name)).ok()?).ok()
}

fn record(layout: &Layout, name: &str) -> PathBuf {
    layout.at("run").join(format!("{name}.process"))
}
