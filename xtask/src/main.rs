//! Project tasks: `cargo xtask --help`.

mod bench;
mod check;
mod cluster;
mod current;
mod demo;
mod generate;
mod images;
mod local;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Postern project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Ratios, measured side by side in one run; written to target/bench.json.
    Bench,
    /// Formatting, lints, generated files, licences, and who imports whom.
    Check,
    /// A real cluster on this machine, for tests and for trying things out.
    Cluster(cluster::ClusterArgs),
    /// Files that are made from the code: crds/, config/, bundle/.
    Gen(generate::GenArgs),
    /// Our container images, as OCI archives.
    Images(images::ImagesArgs),
    /// Two teams on a real cluster: one on this machine (root), or that of the current context.
    Run(demo::RunArgs),
    /// Ends that cluster, or removes from the other what was made there.
    Stop(demo::StopArgs),
    /// Two teams on this machine, without root and without Kubernetes.
    Try(local::TryArgs),
    /// Every test that this machine can run, and what it could not and why.
    Test,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench => bench::run(),
        Task::Check => check::run(),
        Task::Test => test::run(),
        Task::Cluster(arguments) => cluster::run(&arguments),
        Task::Gen(arguments) => generate::run(&arguments),
        Task::Images(arguments) => images::run(&arguments),
        Task::Run(arguments) => demo::run(&arguments),
        Task::Stop(arguments) => demo::stop(&arguments),
        Task::Try(arguments) => local::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
