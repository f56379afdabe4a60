//! What both variants start alike: keys, kubeconfigs, etcd, the API server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::binaries::Binaries;
use crate::config::{Addresses, Config};
use crate::layout::{Layout, State};
use crate::pki::{Pki, write_kubeconfig};
use crate::process::Parts;

const API_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster is made from.
pub(crate) struct Settings {
    pub light: bool,
    pub addresses: Addresses,
    pub number: u8,
    pub binaries: Binaries,
}

impl Settings {
    pub fn config<'a>(&'a self, layout: &'a Layout, port: u16) -> Config<'a> {
        Config {
            layout,
            binaries: &self.binaries,
            addresses: self.addresses,
            port,
            light: self.light,
        }
    }

    pub fn state(&self, port: u16) -> State {
        State {
            light: self.light,
            number: self.number,
            port,
            binaries: self.binaries.dir().to_owned(),
            init: None,
            processes: Vec::new(),
            ready: false,
        }
    }
}

/// Makes the keys, the administrator's kubeconfig and one for each component.
pub(crate) fn save_identities(config: &Config<'_>, components: &[&str]) -> Result<()> {
    let layout = config.layout;
    let pki = Pki::at(layout.at("pki"));
    pki.create(&config.addresses)?;
    let read = |file: &str| fs::read_to_string(pki.file(file)).with_context(|| file.to_owned());
    let ca = read("ca.crt")?;
    let save = |to: &Path, identity: &str| -> Result<()> {
        let certificate = read(&format!("{identity}.crt"))?;
        let key = read(&format!("{identity}.key"))?;
        let pair = (certificate.as_str(), key.as_str());
        write_kubeconfig(to, layout.name.as_str(), config.port, &ca, pair)
    };
    for component in components {
        let to = layout.at(&format!("etc/{component}.kubeconfig"));
        save(&to, component)?;
    }
    save(&layout.kubeconfig(), "admin")
}

/// etcd and the API server, which waits for etcd by itself.
pub(crate) fn start_control_plane(
    parts: &mut Parts<'_>,
    config: &Config<'_>,
    entrance: Option<&Command>,
) -> Result<()> {
    for (part, arguments) in [
        ("etcd", config.etcd()),
        ("kube-apiserver", config.apiserver()),
    ] {
        start(parts, config, entrance, part, &arguments)?;
    }
    Ok(())
}

/// Starts one part by its name.
pub(crate) fn start(
    parts: &mut Parts<'_>,
    config: &Config<'_>,
    entrance: Option<&Command>,
    part: &str,
    arguments: &[String],
) -> Result<()> {
    let program = config.binaries.program(part);
    parts.start(part, entrance, &program, arguments, &config.binaries.path())
}

/// Waits until the API server says that it is ready, with all that it makes at its start.
pub(crate) fn wait_for_api(config: &Config<'_>, parts: &Parts<'_>) -> Result<()> {
    parts.wait(
        "the API server is ready",
        "kube-apiserver",
        API_LIMIT,
        || {
            let asked = kubectl(config.layout, config.binaries, &config.layout.kubeconfig())
                .args(["get", "--raw=/readyz", "--request-timeout=3s"])
                .stdin(Stdio::null())
                .output()?;
            Ok(asked.status.success())
        },
    )
}

/// kubectl with a kubeconfig of this cluster; what it caches is kept with the cluster.
pub(crate) fn kubectl(layout: &Layout, binaries: &Binaries, kubeconfig: &Path) -> Command {
    let mut command = Command::new(binaries.program("kubectl"));
    command
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECACHEDIR", layout.at("run/kubectl"));
    command
}

/// The output of a command that must do its work.
pub(crate) fn must(what: &str, output: Output) -> Result<Output> {
    ensure!(
        output.status.success(),
        "{what} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}
