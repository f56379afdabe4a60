//! Processes of pods, as root on the node sees them: images hold no shell to ask from.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::world::{World, exchange};

/// Envoy's admin interface, within its container.
const ADMIN: &str = "run/postern/state/admin.sock";

/// The process of this program in the only pod of a Deployment.
pub fn process(world: &World, team: &str, deployment: &str, program: &str) -> Result<u32> {
    let pods = world.pods_of(team, deployment)?;
    ensure!(pods.len() == 1, "{team}/{deployment}: {pods:?}");
    let uid = world.value(team, &format!("pod/{}", pods[0].0), "{.metadata.uid}")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may end while we look.
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        if read("cgroup").contains(&uid)
            && command
                .split('\0')
                .next()
                .is_some_and(|path| path.ends_with(program))
        {
            return Ok(number);
        }
    }
    anyhow::bail!("{team}/{deployment}: no process {program} in pod {uid}")
}

/// Memory of a process that no other shares, in KiB.
pub fn anonymous(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.context("no RssAnon")?.trim().parse()?)
}

/// A certificate that an Envoy shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub serial: String,
    /// Its first name.
    pub name: String,
}

/// The certificates that a team's Envoy holds now, as its admin interface tells.
pub fn certificates(world: &World, team: &str, deployment: &str) -> Result<Vec<Shown>> {
    let process = process(world, team, deployment, "/envoy")?;
    let stream = UnixStream::connect(format!("/proc/{process}/root/{ADMIN}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (status, body) = exchange(stream, "admin", "/certs")?;
    ensure!(status == 200, "/certs: {status} {body}");
    let told: Value = serde_json::from_str(&body).context("/certs is no JSON")?;
    let mut shown = Vec::new();
    for certificate in told["certificates"].as_array().into_iter().flatten() {
        for leaf in certificate["cert_chain"].as_array().into_iter().flatten() {
            let names = leaf["subject_alt_names"][0].as_object();
            let name = names.and_then(|names| names.values().next()?.as_str());
            shown.push(Shown {
                serial: leaf["serial_number"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                name: name.unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(shown)
}

/// The serial of the certificate with which an Envoy is known to its control plane.
pub fn identity(world: &World, team: &str, deployment: &str) -> Result<String> {
    let mut all = certificates(world, team, deployment)?;
    all.retain(|shown| shown.name.starts_with("spiffe://"));
    ensure!(all.len() == 1, "{team}/{deployment}: {all:?}");
    Ok(all.remove(0).serial)
}
