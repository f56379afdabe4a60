//! `cargo xtask run` and `stop`: two teams on a real cluster.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use postern_cluster::Cluster;
use postern_e2e::demo::Demo;

/// The cluster's name.
const NAME: &str = "run";

/// Options of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// How the programs in the images are built.
    #[arg(long, default_value = "release", value_parser = ["release", "dev"])]
    profile: String,
}

/// Leaves two teams served on a real cluster.
pub fn run(arguments: &RunArgs) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "a real cluster on this machine needs root; without it, `make try` serves the same two teams from files"
        );
    }
    println!(
        "A real Kubernetes node in network, mount and process namespaces of its own, the operator on it under the\n\
         rights of its bundle, and two teams that each have their own gateway. The first time, the cluster's\n\
         programs and our images are built: about 20 minutes on two cores. Later: about two. `make stop` leaves\n\
         nothing."
    );
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let demo = Demo::up(NAME, &arguments.profile, &tell)?;
    tell("two teams are served; try:");
    let kubectl = demo
        .cluster
        .kubectl_command()
        .get_program()
        .to_string_lossy()
        .into_owned();
    for (about, line) in demo.lines(&kubectl) {
        println!("\n# {about}\n{line}");
    }
    println!(
        "\nAs an administrator: {kubectl} --kubeconfig {} …\nTo end it: make stop",
        demo.cluster.kubeconfig().display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Ends it.
pub fn stop() -> Result<ExitCode> {
    Cluster::remove(NAME)?;
    println!("The cluster is gone, and nothing of it is left.");
    Ok(ExitCode::SUCCESS)
}
