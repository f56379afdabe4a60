//! What the control plane holds at rest, beside a bare watcher of the same objects.
//!
//! Both programs run against a real API server and are there before the objects come. The figure is
//! `RssAnon`: memory that no other process can share.

mod world;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use self::world::{NAMESPACE, SECRET, World};
use crate::row::Row;

/// How many routes, and what the control plane may hold then.
const STEPS: [(usize, Option<f64>); 3] = [(0, None), (100, Some(5.0)), (1_000, Some(12.0))];
/// Between two looks at a figure.
const PAUSE: Duration = Duration::from_millis(500);
/// So many looks in a row must agree within [`DRIFT_KIB`].
const LOOKS: usize = 16;
const DRIFT_KIB: u64 = 64;
/// Within which a figure must come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure())
}

async fn measure() -> Result<Vec<Row>> {
    let world = World::up().await?;
    let mut ours = Program::control_plane(&world)?;
    let mut bare = Program::start(&world, "bare-watcher", &[NAMESPACE, SECRET], &[])?;
    let mut rows = Vec::new();
    for (routes, most) in STEPS {
        world.grow(routes).await?;
        let size = world.attached(routes).await?;
        let mut note = most.map_or(String::new(), |most| format!("at most {most} MiB; "));
        if let Some(size) = size {
            note += &format!("a route is {size} bytes with its status; ");
        }
        note += "all were created while it ran";
        rows.push(row(
            &format!("control plane's RssAnon, {routes} routes"),
            ours.rest().await?,
            bare.rest().await?,
            &note,
        ));
    }
    drop((ours, bare));
    let (routes, _) = STEPS[STEPS.len() - 1];
    let mut ours = Program::control_plane(&world)?;
    let mut bare = Program::start(&world, "bare-watcher", &[NAMESPACE, SECRET], &[])?;
    rows.push(row(
        &format!("the same after a restart, {routes} routes"),
        ours.rest().await?,
        bare.rest().await?,
        "all were there before it, with their statuses",
    ));
    Ok(rows)
}

fn row(name: &str, ours: u64, bare: u64, note: &str) -> Row {
    let mib = |kib: u64| kib as f64 / 1024.0;
    Row::new(name, "MiB", mib(ours), "bare watcher", mib(bare), note)
}

/// A program that ends with this value.
struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    fn control_plane(world: &World) -> Result<Program> {
        let any = "127.0.0.1:0";
        let settings = [
            ("POSTERN_NAMESPACE", NAMESPACE),
            ("POSTERN_INSTANCE", world::INSTANCE),
            ("POSTERN_POD_NAME", "bench"),
            ("POSTERN_XDS_ADDRESS", any),
            ("POSTERN_PROBES_ADDRESS", any),
            ("POSTERN_METRICS_ADDRESS", any),
            // The one after a restart need not wait for long.
            ("POSTERN_LEASE_SECONDS", "6,4,1"),
        ];
        Program::start(world, "postern-controlplane", &["run"], &settings)
    }

    /// Starts a program that was built beside this one.
    fn start(
        world: &World,
        name: &'static str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Result<Program> {
        let path = std::env::current_exe()?.with_file_name(name);
        ensure!(
            path.exists(),
            "{} is missing: `cargo xtask bench` builds it",
            path.display()
        );
        let log = world.log(name);
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(&path)
            .args(arguments)
            .env("KUBECONFIG", world.kubeconfig())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        Ok(Program { name, child, log })
    }

    /// Its `RssAnon` in KiB, once that has come to rest.
    async fn rest(&mut self) -> Result<u64> {
        let until = Instant::now() + PATIENCE;
        let mut looks: Vec<u64> = Vec::new();
        loop {
            looks.push(self.anonymous()?);
            let last = &looks[looks.len().saturating_sub(LOOKS)..];
            if last.len() == LOOKS
                && let (Some(least), Some(most)) = (last.iter().min(), last.iter().max())
                && most - least <= DRIFT_KIB
            {
                return Ok(*most);
            }
            if Instant::now() > until {
                bail!(
                    "{}: its memory never comes to rest: {last:?} KiB",
                    self.name
                );
            }
            sleep(PAUSE).await;
        }
    }

    fn anonymous(&mut self) -> Result<u64> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            bail!("{} has ended, {status}: {last}", self.name);
        }
        let path = Path::new("/proc")
            .join(self.child.id().to_string())
            .join("status");
        rss_anon(&std::fs::read_to_string(path)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Asked, not killed: a control plane lets go of its Lease, and the next one need not wait.
        // It fails only if it has ended by itself.
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// proc(5), `/proc/PID/status`: `RssAnon:  1234 kB`.
fn rss_anon(status: &str) -> Result<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no RssAnon: a kernel before 4.5?")?
        .parse()
        .context("RssAnon is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_line_is_read() {
        let status = "VmRSS:\t   9000 kB\nRssAnon:\t    1234 kB\nRssFile:\t 5 kB\n";
        assert_eq!(rss_anon(status).ok(), Some(1234));
        assert!(rss_anon("VmRSS:\t 1 kB\n").is_err());
        assert!(rss_anon("RssAnon:\t x kB\n").is_err());
    }
}
