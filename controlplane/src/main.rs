//! A tenant's control plane.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postern_controlplane::run::{RunArgs, run};
use postern_controlplane::serve::{Serve, serve};
use tracing_subscriber::EnvFilter;

/// A tenant's control plane: translates its objects and serves its Envoys.
#[derive(Parser)]
#[command(name = "postern-controlplane", version)]
struct Arguments {
    /// Form of log lines.
    #[arg(long, env = "POSTERN_LOG_FORMAT", global = true, default_value = "text", value_parser = ["json", "text"])]
    log_format: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run in a tenant's namespace.
    Run(RunArgs),
    /// Serve the instances that stand in a directory of YAML files, without Kubernetes.
    Serve {
        /// The directory with YAML or JSON files; links in it are followed.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Where keys and descriptions of the instances are written.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The address to listen on.
        #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
        bind: IpAddr,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let default = match arguments.command {
        // The client and its runtime say by themselves what a request ends with; whoever made it says it
        // better.
        Command::Run(_) => "info,kube_client::client=off,kube_runtime=error",
        Command::Serve { .. } => "warn",
    };
    let filter = EnvFilter::try_from_env("POSTERN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if arguments.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
    let done = match arguments.command {
        Command::Run(arguments) => run(arguments).await,
        Command::Serve { from, state, bind } => serve(Serve { from, state, bind }).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
