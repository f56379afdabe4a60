//! What a platform's admins do: definitions, the operator under the rights that its bundle asks for,
//! namespaces, roles and grants of the tenants.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postern_cluster::{Channel, Cluster};
use serde_json::{Value, json};

use crate::images::reference;
use crate::tools::repository;

/// The namespace of the operator.
pub const SYSTEM: &str = "postern-system";

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
    ensure!(
        output.status.success(),
        "kubectl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

/// Installs the definitions and the operator; its rights are those of the bundle's
/// ClusterServiceVersion, and nothing else.
///
/// # Errors
/// Where something is not taken.
pub fn install(cluster: &Cluster) -> Result<()> {
    let root = repository();
    let admin = cluster.kubeconfig();
    apply(
        cluster,
        &admin,
        &cluster.gateway_api_crds(Channel::Standard),
    )?;
    apply(cluster, &admin, &root.join("crds"))?;
    for object in operator(&root.join("bundle/manifests"))? {
        let arguments = ["apply", "--server-side", "-f", "-"];
        kubectl(cluster, &admin, &arguments, &object.to_string())?;
    }
    Ok(())
}

/// The objects that OLM would make of the bundle in mode AllNamespaces: rights in `permissions` are
/// lifted to the whole cluster too.
fn operator(manifests: &Path) -> Result<Vec<Value>> {
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SYSTEM, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })];
    for entry in fs::read_dir(manifests)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".clusterrole.yaml") {
            objects.push(read(&path)?);
        }
    }
    let csv = read(&manifests.join("postern.clusterserviceversion.yaml"))?;
    let install = csv
        .pointer("/spec/install/spec")
        .context("the bundle has no install spec")?;
    let list = |name: &str| install[name].as_array().cloned().unwrap_or_default();
    for (number, permission) in list("clusterPermissions")
        .iter()
        .chain(&list("permissions"))
        .enumerate()
    {
        let account = &permission["serviceAccountName"];
        let name = format!("postern-operator-{number}");
        objects.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": SYSTEM},
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": permission["rules"],
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
        }));
    }
    for deployment in list("deployments") {
        let text = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": deployment["name"], "namespace": SYSTEM, "labels": deployment["label"]},
            "spec": deployment["spec"],
        })
        .to_string();
        objects.push(serde_json::from_str(&with_local_images(&text))?);
    }
    Ok(objects)
}

/// The images that were built here instead of the released ones.
fn with_local_images(text: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    ["operator", "controlplane", "proxy"]
        .iter()
        .fold(text.to_owned(), |text, target| {
            text.replace(
                &format!("postern.dev/{target}:v{version}"),
                &reference(target),
            )
        })
}

fn read(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))
}

/// Waits until `done`; asks kubectl's `about` for the error's text otherwise.
///
/// # Errors
/// After `limit`.
pub fn wait(
    cluster: &Cluster,
    what: &str,
    limit: Duration,
    about: &[&str],
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > limit {
            let said = cluster
                .kubectl(about)
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
pub fn value(cluster: &Cluster, namespace: &str, object: &str, path: &str) -> Result<String> {
    let output = cluster.kubectl(&[
        "-n",
        namespace,
        "get",
        object,
        "-o",
        &format!("jsonpath={path}"),
    ])?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
