//! What a platform's admins do: definitions, the operator, namespaces, roles and grants of the tenants.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use postern_cluster::{Channel, Cluster};

use crate::images::reference;
use crate::tools::repository;

/// The namespace of the operator.
pub const SYSTEM: &str = "postern-system";

/// A cluster that its administrator asks by kubectl.
pub trait Ask {
    /// Runs kubectl; `input` becomes its standard input. The output is for the caller to judge.
    ///
    /// # Errors
    /// Where it cannot be run.
    fn ask(&self, arguments: &[&str], input: &str) -> Result<Output>;

    /// What kubectl printed.
    ///
    /// # Errors
    /// Where it fails, with what it said.
    fn told(&self, arguments: &[&str], input: &str) -> Result<String> {
        printed(arguments, &self.ask(arguments, input)?)
    }
}

impl Ask for Cluster {
    fn ask(&self, arguments: &[&str], input: &str) -> Result<Output> {
        self.kubectl_as(&self.kubeconfig(), arguments, input)
    }
}

fn printed(arguments: &[&str], output: &Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "kubectl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs kubectl with a kubeconfig; `input` becomes its standard input.
///
/// # Errors
/// Where it fails, with what it said.
pub fn kubectl(
    cluster: &Cluster,
    kubeconfig: &Path,
    arguments: &[&str],
    input: &str,
) -> Result<String> {
    let output = cluster.kubectl_as(kubeconfig, arguments, input)?;
    printed(arguments, &output)
}

/// Applies a file or a directory.
///
/// # Errors
/// Where kubectl fails.
pub fn apply(cluster: &Cluster, kubeconfig: &Path, path: &Path) -> Result<()> {
    let path = path.to_string_lossy();
    kubectl(
        cluster,
        kubeconfig,
        &["apply", "--server-side", "-f", &path],
        "",
    )
    .map(|_| ())
}

/// Installs the Gateway API's definitions and the operator, as on plain Kubernetes: from the kustomize
/// base `config/`.
///
/// # Errors
/// Where something is not taken.
pub fn install(cluster: &Cluster) -> Result<()> {
    let admin = cluster.kubeconfig();
    apply(
        cluster,
        &admin,
        &cluster.gateway_api_crds(Channel::Standard),
    )?;
    let objects = with_local_images(&base(cluster)?, reference);
    cluster.told(&["apply", "--server-side", "-f", "-"], &objects)?;
    Ok(())
}

/// The objects of the kustomize base `config/`, in YAML.
///
/// # Errors
/// Where kubectl does not take it.
pub(crate) fn base(cluster: &dyn Ask) -> Result<String> {
    let base = repository().join("config");
    cluster.told(&["kustomize", &base.to_string_lossy()], "")
}

/// Gives tenants their rights: one of the sets of `config/tenants`.
///
/// # Errors
/// Where kubectl fails.
pub fn give_tenants(cluster: &Cluster, terms: &str) -> Result<()> {
    let set = repository().join(format!("config/tenants/{terms}.yaml"));
    let (admin, path) = (cluster.kubeconfig(), set.display().to_string());
    let arguments = ["apply", "--server-side", "--force-conflicts", "-f", &path];
    kubectl(cluster, &admin, &arguments, "").map(|_| ())
}

/// A manifest with the images that were built here instead of the released ones; `named` says what the
/// cluster calls the image of a target.
pub(crate) fn with_local_images(text: &str, named: impl Fn(&str) -> String) -> String {
    let version = env!("CARGO_PKG_VERSION");
    ["operator", "controlplane", "proxy"]
        .iter()
        .fold(text.to_owned(), |text, target| {
            text.replace(&format!("postern.dev/{target}:v{version}"), &named(target))
        })
}

/// Waits until `done`; asks kubectl's `about` for the error's text otherwise.
///
/// # Errors
/// After `limit`.
pub fn wait(
    cluster: &dyn Ask,
    what: &str,
    limit: Duration,
    about: &[&str],
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > limit {
            let said = cluster
                .ask(about, "")
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            bail!(
                "not after {} s: {what}\n{}",
                limit.as_secs(),
                said.unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// A value by JSONPath, as the administrator; empty if the object or the field is not there.
///
/// # Errors
/// Where kubectl cannot be run.
pub fn value(cluster: &dyn Ask, namespace: &str, object: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    let output = cluster.ask(&["-n", namespace, "get", object, "-o", &path], "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
