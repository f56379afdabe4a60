//! `cargo xtask cluster NAME …`: a real cluster on this machine.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use postern_cluster::{Cluster, Name, Options};

/// A real one-node cluster in a network namespace, without a registry and without the internet.
#[derive(Args)]
pub struct ClusterArgs {
    /// The cluster's name; several run side by side.
    name: Name,
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Start it and wait until it works (the first time builds its programs).
    Up {
        /// Only etcd and an API server, on the loopback, as any user.
        #[arg(long)]
        light: bool,
        /// Which addresses it has, 0 to 9: only clusters that are to be joined need different ones.
        #[arg(long, default_value_t = 0)]
        number: u8,
    },
    /// End it and remove everything of it, also what a failed start left.
    Down,
    /// Run kubectl as its administrator.
    Kubectl {
        /// What kubectl is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a command inside its network namespace.
    Exec {
        /// The command with its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command on the peer outside of it, which is on the node's network.
    Outside {
        /// The command with its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Print the path of a kubeconfig: the administrator's, or one made for a user.
    Kubeconfig {
        /// A user, to whom nothing is granted.
        #[arg(long)]
        user: Option<String>,
        /// A group of that user (at most two).
        #[arg(long = "group", requires = "user")]
        groups: Vec<String>,
    },
    /// Open a port of the ordinary loopback that leads inside, until the cluster goes down.
    Forward {
        /// The port of 127.0.0.1; 0 for any free one.
        port: u16,
        /// ADDRESS:PORT inside: of a pod, a Service, the node.
        target: String,
    },
    /// Give it an image from an OCI archive.
    Load {
        /// The archive.
        archive: std::path::PathBuf,
    },
}

/// Does what was asked; the exit code is the inner command's where there is one.
pub fn run(arguments: &ClusterArgs) -> Result<ExitCode> {
    let name = arguments.name.as_str();
    match &arguments.act {
        Act::Up { light, number } => {
            let options = Options {
                light: *light,
                number: *number,
                quiet: false,
            };
            Cluster::up(name, &options)?;
        }
        Act::Down => {
            Cluster::remove(name)?;
            eprintln!("nothing of cluster {name} is left");
        }
        Act::Kubectl { arguments } => {
            return finish(Cluster::open(name)?.kubectl_command().args(arguments));
        }
        Act::Exec { command } => {
            let (program, rest) = command.split_first().context("no command")?;
            return finish(Cluster::open(name)?.command(program).args(rest));
        }
        Act::Outside { command } => {
            let (program, rest) = command.split_first().context("no command")?;
            let cluster = Cluster::open(name)?;
            return finish(cluster.outside()?.command(program).args(rest));
        }
        Act::Kubeconfig { user, groups } => {
            let cluster = Cluster::open(name)?;
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            let path = match user {
                Some(user) => cluster.kubeconfig_for(user, &groups)?,
                None => cluster.kubeconfig(),
            };
            println!("{}", path.display());
        }
        Act::Forward { port, target } => {
            let port = Cluster::open(name)?.forward_from(*port, target)?;
            println!("127.0.0.1:{port}");
        }
        Act::Load { archive } => {
            Cluster::open(name)?.load_image(Path::new(archive))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn finish(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().context("cannot run it")?;
    // Ended by a signal: as a shell would say.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(128)))
}
