//! An image registry itself: CNCF Distribution, as Debian packages it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use postern_cluster::Cluster;
use serde_json::json;

use crate::debian;

/// Where it listens in a cluster's network: nodes take their own loopback without TLS.
const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
const NAME: &str = "registry";
const LIMIT: Duration = Duration::from_secs(30);

/// The program.
///
/// # Errors
/// Where the package cannot be had.
pub fn registry() -> Result<PathBuf> {
    let root = debian::unpacked("registry", &["docker-registry"])?;
    Ok(root.join("usr/bin/docker-registry"))
}

/// Starts a registry in the cluster's network, until the cluster goes down; what it holds goes with it.
/// Returns its address, which the node pulls from and [`Cluster::command`] can push to.
///
/// # Errors
/// Where the package cannot be had, or the registry ends or does not listen; with its last words.
pub fn start_registry(cluster: &Cluster) -> Result<SocketAddr> {
    let state = cluster.state_dir();
    let config = json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": state.join("registry")}},
        "http": {"addr": AT.to_string()},
    });
    // JSON is YAML.
    let path = state.join("run/registry.yaml");
    fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
    let mut command = Command::new(registry()?);
    command.arg("serve").arg(path);
    cluster.start_beside(NAME, &command)?;
    let started = Instant::now();
    loop {
        cluster.runs_beside(NAME)?;
        match cluster.dial(AT, Duration::from_secs(1)) {
            Ok(_) => return Ok(AT),
            Err(error) if started.elapsed() > LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
