//! MetalLB in layer-2 mode, as its own manifest installs it, built from its own module.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use postern_cluster::{Cluster, Entry, ImageConfig};
use serde_json::json;

use crate::{apply, build, kubectl, must, who};

const NAMESPACE: &str = "metallb-system";
/// The pool that [`Metallb::start`] makes.
const POOL: &str = "pool";
/// An argument that both parts have; ours follows it.
const BEFORE: &str = "- --log-level=info";

/// MetalLB at work: Services of type `LoadBalancer` get addresses of its pool, and its speaker, a
/// pod on the node's network, answers ARP for them on that network, where [`Cluster::outside`]
/// asks. It goes with the cluster.
#[derive(Debug)]
pub struct Metallb<'a> {
    cluster: &'a Cluster,
    class: Option<String>,
}

impl<'a> Metallb<'a> {
    /// Installs it with one pool, from the first address to the last one, and waits until it works.
    /// With a class it serves Services of that `loadBalancerClass` alone, else those of none.
    ///
    /// # Errors
    /// Where it cannot be built, or does not start.
    pub fn start(
        cluster: &'a Cluster,
        pool: (Ipv4Addr, Ipv4Addr),
        class: Option<&str>,
    ) -> Result<Self> {
        let built = build::metallb()?;
        let manifest = fs::read_to_string(built.join("manifest.yaml"))?;
        for part in ["controller", "speaker"] {
            load(cluster, &manifest, part, built.join(part))?;
        }
        let manifest = with_class(&manifest, class)?;
        // Its controller would make this key of the speakers' gossip, and the speaker would find it
        // at one of the kubelet's ever rarer attempts only.
        let key = rcgen::KeyPair::generate()?.serialize_pem();
        apply(
            cluster,
            &[
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
                json!({"apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": "memberlist", "namespace": NAMESPACE},
                    "stringData": {"secretkey": key}}),
            ],
        )?;
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let mut command = cluster.kubectl_command();
        must(
            "kubectl apply of MetalLB",
            postern_cluster::feed(command.args(arguments), &manifest)?,
        )?;
        for part in ["deployment/controller", "daemonset/speaker"] {
            let ready = ["-n", NAMESPACE, "rollout", "status", part, "--timeout=120s"];
            must(part, cluster.kubectl(&ready)?).with_context(|| logs(cluster))?;
        }
        let metallb = Self {
            cluster,
            class: class.map(str::to_owned),
        };
        metallb.pool(pool)?;
        Ok(metallb)
    }

    /// The class of Services that it serves; none for those without one.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// What it printed last.
    #[must_use]
    pub fn log(&self) -> String {
        logs(self.cluster)
    }

    fn pool(&self, (first, last): (Ipv4Addr, Ipv4Addr)) -> Result<()> {
        let meta = json!({"name": POOL, "namespace": NAMESPACE});
        let objects = [
            json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": meta,
                "spec": {"addresses": [format!("{first}-{last}")]}}),
            json!({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": meta,
                "spec": {"ipAddressPools": [POOL]}}),
        ];
        // Its admission webhook gets its certificate some time after the pod is ready.
        for _ in 0..60 {
            if apply(self.cluster, &objects).is_ok() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        apply(self.cluster, &objects).with_context(|| self.log())
    }
}

/// Gives the node a part under the name that the manifest has for it, so that nothing is pulled.
fn load(cluster: &Cluster, manifest: &str, part: &str, program: PathBuf) -> Result<()> {
    let name = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "))
        .find(|name| name.contains(&format!("/{part}:")))
        .with_context(|| format!("MetalLB's manifest names no image of its {part}"))?;
    let inside = format!("/{part}");
    let config = ImageConfig {
        entrypoint: vec![inside.clone()],
        ..ImageConfig::default()
    };
    let layer = vec![
        Entry::File(inside.into(), program, 0o755),
        Entry::Dir("/tmp".into(), 0o1777),
    ];
    who::load(cluster, name, &[layer], &config)
}

fn with_class(manifest: &str, class: Option<&str>) -> Result<String> {
    let Some(class) = class else {
        return Ok(manifest.to_owned());
    };
    let mut lines = Vec::new();
    let mut told = 0;
    for line in manifest.lines() {
        lines.push(line.to_owned());
        if line.trim() == BEFORE {
            lines.push(line.replace(BEFORE, &format!("- --lb-class={class}")));
            told += 1;
        }
    }
    ensure!(told == 2, "MetalLB's manifest starts {told} parts, not two");
    Ok(lines.join("\n"))
}

fn logs(cluster: &Cluster) -> String {
    let pods = ["-n", NAMESPACE, "get", "pods", "-o", "wide"];
    let mut all = kubectl(cluster, &pods).unwrap_or_else(|error| error.to_string());
    for part in ["deployment/controller", "daemonset/speaker"] {
        let logs = ["-n", NAMESPACE, "logs", part, "--tail=20"];
        all += &kubectl(cluster, &logs).unwrap_or_else(|error| error.to_string());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_to_both_parts() {
        let part = "      - args:\n        - --log-level=info\n        - --x\n";
        let both = [part, part].concat();
        let told = with_class(&both, Some("a.test/b")).unwrap_or_default();
        assert_eq!(told.matches("\n        - --lb-class=a.test/b\n").count(), 2);
        assert!(with_class(part, Some("a")).is_err());
        assert_eq!(with_class(part, None).unwrap_or_default(), part);
    }
}
