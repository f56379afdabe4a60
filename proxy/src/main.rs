//! `postern-proxy`: process 1 of the Envoy container.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use nix::sys::signal::Signal;
use postern_proxy::args::{Cli, Command, Run, one_line};
use postern_proxy::envoy::{self, LogFormat};
use postern_proxy::{Prepared, Stop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Exit code for a wrong command line.
const USAGE: u8 = 2;

/// Signals that come so soon after one another are one order.
const SAME_ORDER: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are asked for, and long.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return fail(&one_line(&error), USAGE),
    };
    match cli.command {
        Command::Run(run) => match supervise(&run) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&format!("{error:#}"), 1),
        },
        Command::ExecEnvoy {
            parent,
            program,
            arguments,
        } => {
            let error = envoy::become_tethered(parent, &program, &arguments);
            let program = program.to_string_lossy();
            fail(&format!("{program}: cannot be started: {error}"), 127)
        }
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("postern-proxy: {line}");
    ExitCode::from(code)
}

fn supervise(run: &Run) -> anyhow::Result<u8> {
    if let Some(parent) = run.end_with_parent {
        anyhow::ensure!(
            envoy::tie_to_parent(parent, Signal::SIGTERM)?,
            "--end-with-parent {parent}: that process has ended, or did not start this one"
        );
    }
    log(run)?;
    let settings = run.settings()?;
    // One thread: little happens here, and Envoy is tied to the thread that starts it.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?
        .block_on(async {
            // First, so that an early SIGTERM is not lost: process 1 has no default for it.
            let mut stops = stops()?;
            let prepared = Prepared::new(&settings).await?;
            tokio::select! {
                () = prepared.control_plane() => {}
                Some(Stop) = stops.recv() => {
                    tracing::info!("told to end before Envoy was started");
                    return Ok(0);
                }
            }
            let supervisor = prepared.start()?;
            let status = supervisor.run(&mut stops).await?;
            tracing::info!(%status, "Envoy ended");
            Ok(envoy::exit_code(status))
        })
}

/// SIGTERM and SIGINT as orders to leave.
fn stops() -> anyhow::Result<mpsc::Receiver<Stop>> {
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT")?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => {}
                Some(()) = interrupt.recv() => {}
                else => return,
            }
            // Full: enough orders wait already.
            let _ = sender.try_send(Stop);
            // `timeout`, a terminal and a driver signal the process and its group: one order.
            let _ = tokio::time::timeout(SAME_ORDER, async {
                loop {
                    tokio::select! {
                        Some(()) = terminate.recv() => {}
                        Some(()) = interrupt.recv() => {}
                        else => return,
                    }
                }
            })
            .await;
        }
    });
    Ok(receiver)
}

fn log(run: &Run) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&run.log)
        .with_context(|| format!("--log {:?}", run.log))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match run.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
    }
    Ok(())
}
