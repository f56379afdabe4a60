//! `cargo xtask run` and `stop`: two teams on a real cluster.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use postern_cluster::Cluster;
use postern_e2e::demo::{Demo, Install};

/// The cluster's name.
const NAME: &str = "run";

/// Options of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// How the programs in the images are built.
    #[arg(long, default_value = "release", value_parser = ["release", "dev"])]
    profile: String,
    /// How the operator is installed: from the kustomize base, or from a catalog by OLM.
    #[arg(long, env = "INSTALL", value_enum, default_value = "manifests")]
    install: By,
}

/// How the operator is installed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// `config/`, as on plain Kubernetes.
    Manifests,
    /// The bundle, by the Operator Lifecycle Manager.
    Olm,
}

impl From<By> for Install {
    fn from(by: By) -> Install {
        match by {
            By::Manifests => Install::Manifests,
            By::Olm => Install::Olm,
        }
    }
}

/// Leaves two teams served on a real cluster.
pub fn run(arguments: &RunArgs) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "a real cluster on this machine needs root; without it, `make try` serves the same two teams from files"
        );
    }
    println!(
        "A real Kubernetes node in network, mount and process namespaces of its own, the operator on it, and two\n\
         teams that each have their own gateway. The first time, the cluster's programs and our images are built:\n\
         about 20 minutes on two cores. Later: about two. `INSTALL=olm` installs the operator from a catalog, by the\n\
         Operator Lifecycle Manager. `make stop` leaves nothing."
    );
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let demo = Demo::up(NAME, &arguments.profile, arguments.install.into(), &tell)?;
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
