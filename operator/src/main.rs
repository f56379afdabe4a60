//! `postern-operator run`: the cluster's operator.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use postern_operator::run::{RunArgs, run};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(version, about = "Gives each granted namespace a gateway of its own")]
struct Arguments {
    /// How logs are written.
    #[arg(
        long,
        env = "POSTERN_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until SIGTERM. Only the holder of the Lease writes anything.
    Run(RunArgs),
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // RUST_LOG narrows or widens it. The client says by itself, as an error, whatever a request
    // of ours ends with; whoever made the request says it better.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client::client=off"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    let Command::Run(run_arguments) = arguments.command;
    match run(run_arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
