//! `cargo xtask run` and `stop`: two teams on a real cluster.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use postern_cluster::Cluster;
use postern_e2e::demo::{Demo, Install};

use crate::current;

/// The cluster's name.
const NAME: &str = "run";

/// Options of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// How the programs in the images are built.
    #[arg(long, default_value = "release", value_parser = ["release", "dev"])]
    profile: String,
    /// How the operator is installed: from the kustomize base (manifests), or from a catalog by OLM (olm).
    #[arg(long, env = "INSTALL", default_value = "manifests")]
    install: String,
    #[command(flatten)]
    on: On,
    /// How images come to the cluster of the current context: push:REGISTRY, or load:COMMAND.
    #[arg(long, env = "IMAGES")]
    images: Option<String>,
}

/// Options of `stop`.
#[derive(Args)]
pub struct StopArgs {
    #[command(flatten)]
    on: On,
}

/// Which cluster.
#[derive(Args)]
struct On {
    /// `current`: the cluster of the current kubeconfig context [default: one of our own, on this machine].
    #[arg(long, env = "CLUSTER")]
    cluster: Option<String>,
}

impl On {
    /// Whether it is the cluster of the current context.
    fn is_current(&self) -> Result<bool> {
        match self.cluster.as_deref() {
            // `make run CLUSTER=` says nothing, too.
            None | Some("") => Ok(false),
            Some("current") => Ok(true),
            Some(other) => bail!(
                "CLUSTER={other:?}: only CLUSTER=current is known, the cluster of the current kubeconfig \
                 context; without it a cluster is made on this machine"
            ),
        }
    }
}

/// How the operator is installed.
fn install(text: &str) -> Result<Install> {
    match text {
        "" | "manifests" => Ok(Install::Manifests),
        "olm" => Ok(Install::Olm),
        other => bail!("INSTALL={other:?} is neither manifests nor olm"),
    }
}

/// Leaves two teams served on a real cluster.
pub fn run(arguments: &RunArgs) -> Result<ExitCode> {
    let install = install(&arguments.install)?;
    let images = arguments
        .images
        .as_deref()
        .filter(|images| !images.is_empty());
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    if arguments.on.is_current()? {
        return current::run(images, install, &arguments.profile, &tell);
    }
    if let Some(images) = images {
        bail!("IMAGES={images}: only the cluster of CLUSTER=current has to be given images");
    }
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
    let demo = Demo::up(NAME, &arguments.profile, install, &tell)?;
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
pub fn stop(arguments: &StopArgs) -> Result<ExitCode> {
    if arguments.on.is_current()? {
        return current::stop();
    }
    Cluster::remove(NAME)?;
    println!("The cluster is gone, and nothing of it is left.");
    Ok(ExitCode::SUCCESS)
}
