//! Two teams on a real cluster: what `make run` leaves, and what its tests act on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use postern_cluster::{Channel, Cluster, Options};

use crate::images::{self, Images};
use crate::olm;
use crate::platform::{Ask, SYSTEM, apply, give_tenants, install, kubectl, value, wait};
use crate::tools::repository;

/// The teams.
pub const TEAMS: [&str; 2] = ["team-a", "team-b"];
/// How long pods may take to start, on a machine that does something else too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How the operator comes to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// From the kustomize base, as on plain Kubernetes.
    Manifests,
    /// From a catalog, by OLM.
    Olm,
}

/// A cluster with two teams' gateways.
#[derive(Debug)]
pub struct Demo {
    /// The cluster.
    pub cluster: Cluster,
    /// Kubeconfigs of a user of each team: the stock role `edit` in the team's namespace and what
    /// is added to it on OpenShift's terms.
    pub tenants: [PathBuf; 2],
    ports: Ports,
}

/// Ports on 127.0.0.1 that lead to the teams' gateways.
#[derive(Clone, Copy, Debug)]
struct Ports {
    a: u16,
    tls: u16,
    b: u16,
}

impl Demo {
    /// Builds what is missing, starts a cluster and leaves two teams served on it. `tell` hears a line
    /// a stage.
    ///
    /// # Errors
    /// Where a part does not come up. The cluster stays, to be looked at.
    pub fn up(name: &str, profile: &str, how: Install, tell: &dyn Fn(&str)) -> Result<Demo> {
        let images = images::build(&images::default_dir()?, profile, tell)?;
        tell("images are built");
        let cluster = Cluster::up(name, &Options::default())?;
        let admin = cluster.kubeconfig();
        match how {
            Install::Manifests => {
                for archive in images.all() {
                    cluster.load_image(archive)?;
                }
                tell("images are loaded");
                install(&cluster)?;
            }
            Install::Olm => {
                cluster.load_image(&images.echo)?;
                by_olm(&cluster, &images, tell)?;
            }
        }
        let examples = repository().join("examples");
        apply(&cluster, &admin, &examples.join("platform"))?;
        give_tenants(&cluster, "openshift")?;
        operator_runs(&cluster)?;
        tell("the operator runs");
        apply(&cluster, &admin, &examples.join("admin"))?;
        let tenants = [
            cluster.kubeconfig_for("ann", &["team-a"])?,
            cluster.kubeconfig_for("ben", &["team-b"])?,
        ];
        for (team, tenant) in TEAMS.iter().zip(&tenants) {
            act_as_tenant(&cluster, team, tenant, &examples)?;
        }
        tell("both teams applied their files, each as a user of its own namespace");
        for team in TEAMS {
            served(&cluster, team)?;
        }
        tell("both gateways are programmed");
        Demo::open(cluster, tenants)
    }

    /// What an earlier [`Demo::up`] left, on a cluster that is up.
    ///
    /// # Errors
    /// Where there is none of that name, or its gateways have no ports.
    pub fn again(name: &str) -> Result<Demo> {
        let cluster = Cluster::open(name)?;
        let tenants = [
            cluster.kubeconfig_for("ann", &["team-a"])?,
            cluster.kubeconfig_for("ben", &["team-b"])?,
        ];
        Demo::open(cluster, tenants)
    }

    fn open(cluster: Cluster, tenants: [PathBuf; 2]) -> Result<Demo> {
        let node = cluster.addresses()?.node;
        let forward = |team: &str, port: u16| -> Result<u16> {
            let path = format!("{{.spec.ports[?(@.port=={port})].nodePort}}");
            let service = postern_api::names::gateway_service("default");
            let number = value(&cluster, team, &format!("service/{service}"), &path)?;
            cluster
                .forward(&format!("{node}:{}", number.trim()))
                .with_context(|| format!("{team}'s port {port}"))
        };
        let ports = Ports {
            a: forward("team-a", 80)?,
            tls: forward("team-a", 443)?,
            b: forward("team-b", 80)?,
        };
        Ok(Demo {
            cluster,
            tenants,
            ports,
        })
    }

    /// The certificate that clients of team-a trust.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        certificate_path(&self.cluster)
    }

    /// The port on 127.0.0.1 of a team's HTTP listener.
    #[must_use]
    pub fn port(&self, team: &str) -> u16 {
        if team == "team-a" {
            self.ports.a
        } else {
            self.ports.b
        }
    }

    /// Lines for a shell that show what the two teams serve, and how to look at it.
    #[must_use]
    pub fn lines(&self, kubectl: &str) -> Vec<(&'static str, String)> {
        let Ports { a, tls, b } = self.ports;
        let mut lines = crate::local::lines(a, tls, b, &self.certificate());
        let tenant = self.tenants[0].display();
        lines.push((
            "what team-a sees",
            format!(
                "{kubectl} --kubeconfig {tenant} -n team-a get gatewayinstances,gateways,httproutes"
            ),
        ));
        lines
    }
}

/// Waits until the operator is ready.
///
/// # Errors
/// After three minutes, with what there is instead.
pub fn operator_runs(cluster: &dyn Ask) -> Result<()> {
    let about = ["-n", SYSTEM, "get", "pods,events", "-o", "wide"];
    let object = "deployment/postern-operator";
    wait(cluster, "the operator is ready", PATIENCE, &about, || {
        Ok(value(cluster, SYSTEM, object, "{.status.readyReplicas}")? == "1")
    })
}

/// Waits until a team's Gateway is programmed and its backends are ready.
///
/// # Errors
/// After three minutes, with what there is instead.
pub fn served(cluster: &dyn Ask, team: &str) -> Result<()> {
    let kinds = "gatewayinstances,gateways,pods,events";
    let about = ["-n", team, "get", kinds, "-o", "wide"];
    let until = |what: &str, done: &dyn Fn() -> Result<bool>| {
        wait(cluster, &format!("{team}'s {what}"), PATIENCE, &about, done)
    };
    until("Gateway is programmed", &|| {
        let path = "{.status.conditions[?(@.type==\"Programmed\")].status}";
        Ok(value(cluster, team, "gateway/default", path)? == "True")
    })?;
    until("backends are ready", &|| {
        let count = |path: &str| value(cluster, team, "deployments", path);
        let ready = count("{.items[*].status.readyReplicas}")?;
        let wanted = count("{.items[*].spec.replicas}")?;
        Ok(!wanted.is_empty()
            && ready.split_whitespace().count() == wanted.split_whitespace().count())
    })
}

/// OLM, a registry with the images, a catalog of the bundle in the repository, and a Subscription.
fn by_olm(cluster: &Cluster, images: &Images, tell: &dyn Fn(&str)) -> Result<()> {
    let admin = cluster.kubeconfig();
    apply(
        cluster,
        &admin,
        &cluster.gateway_api_crds(Channel::Standard),
    )?;
    let olm = cluster.olm()?;
    tell("OLM runs");
    let [version] = olm::release(cluster, images, [olm::VERSION])?;
    tell("the images are in a registry that the node pulls from");
    let catalog = olm::catalog(cluster, &olm, &[&version], &cluster.state_dir().join("olm"))?;
    olm::subscribe(cluster, &catalog)?;
    olm::installed(cluster, &olm, olm::VERSION)?;
    tell("OLM installed the operator from its catalog, under the rights of its bundle");
    Ok(())
}

fn certificate_path(cluster: &Cluster) -> PathBuf {
    cluster.state_dir().join("team-a.crt")
}

/// What a tenant does: a Secret, backends, the GatewayInstance and routes.
fn act_as_tenant(cluster: &Cluster, team: &str, tenant: &Path, examples: &Path) -> Result<()> {
    if team == "team-a" {
        let (certificate, secret) = certificate()?;
        fs::write(certificate_path(cluster), certificate)?;
        kubectl(
            cluster,
            tenant,
            &["apply", "--server-side", "-f", "-"],
            &secret.to_string(),
        )?;
    }
    apply(
        cluster,
        tenant,
        &examples.join(format!("cluster/{team}.yaml")),
    )?;
    apply(cluster, tenant, &examples.join(team))
}

/// A certificate for team-a's hosts (PEM), and the Secret that holds it with its key.
pub(crate) fn certificate() -> Result<(String, serde_json::Value)> {
    let pair = rcgen::generate_simple_self_signed(vec!["*.team-a.example".to_owned()])?;
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "team-a-tls", "namespace": "team-a"},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    Ok((certificate, secret))
}
