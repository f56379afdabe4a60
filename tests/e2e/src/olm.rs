//! What an admin does on a cluster with OLM: a catalog, a Subscription, and the operator comes.
//!
//! Bundles and catalogs are made from what is in the repository, with the images that were built here. The
//! cluster has no image registry: catalogs hold the bundles' contents instead of their images' names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_cluster::{Cluster, Olm};
use serde_json::{Value, json};

use crate::images::tagged;
use crate::platform::{self, SYSTEM, kubectl, with_local_images};
use crate::tools::repository;

/// How long OLM may take: it tries again what failed only after a while.
const PATIENCE: Duration = Duration::from_secs(240);

/// The version of the bundle in the repository.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A version of the operator.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// `0.1.0`.
    pub number: &'a str,
    /// The tag of its images.
    pub tag: &'a str,
}

/// Makes a catalog of these versions of the bundle in the folder `into`, and returns where it is.
///
/// # Errors
/// Where OLM's own code does not take a bundle, or the catalog.
pub fn catalog(olm: &Olm<'_>, versions: &[Version<'_>], into: &Path) -> Result<PathBuf> {
    let named: Vec<(String, PathBuf)> = versions
        .iter()
        .map(|version| {
            let dir = into.join(format!("bundle-{}", version.number));
            bundle(*version, &dir)?;
            Ok((tagged("bundle", version.number), dir))
        })
        .collect::<Result<_>>()?;
    let mut template = read(&repository().join("olm/catalog-templates/semver.yaml"))?;
    let images = named.iter().map(|(image, _)| json!({ "image": image }));
    template["candidate"]["bundles"] = images.collect();
    let from = into.join("template.json");
    fs::write(&from, template.to_string())?;
    let bundles: Vec<(&str, &Path)> = named
        .iter()
        .map(|(image, dir)| (image.as_str(), dir.as_path()))
        .collect();
    let catalog = into.join("catalog");
    fs::create_dir_all(&catalog)?;
    let text = olm.programs().render(&from, &bundles, true)?;
    fs::write(catalog.join("catalog.yaml"), text)?;
    let checked = olm
        .programs()
        .opm(&["validate", &catalog.to_string_lossy()])?;
    ensure!(
        checked.status.success(),
        "opm validate: {}",
        String::from_utf8_lossy(&checked.stderr)
    );
    Ok(catalog)
}

/// The repository's bundle as this version, with images of its tag.
fn bundle(version: Version<'_>, into: &Path) -> Result<()> {
    copy(&repository().join("bundle"), into)?;
    let path = into.join("manifests/postern.clusterserviceversion.yaml");
    let named = |target: &str| tagged(target, version.tag);
    let text = with_local_images(&fs::read_to_string(&path)?, named);
    let mut csv: Value = serde_saphyr::from_str(&text)?;
    csv["metadata"]["name"] = csv_name(version.number).into();
    csv["spec"]["version"] = version.number.into();
    fs::write(&path, csv.to_string())?;
    Ok(())
}

/// Applies what an admin applies: the namespace, the OperatorGroup, the catalog's source, the Subscription.
/// `olm` serves the catalog.
///
/// # Errors
/// Where something is not taken.
pub fn subscribe(cluster: &Cluster, olm: &Olm<'_>, catalog: &Path) -> Result<()> {
    let address = olm.serve(catalog)?;
    let dir = repository().join("olm");
    for file in [
        "00-namespace",
        "10-operator-group",
        "20-catalog-source",
        "30-subscription",
    ] {
        let mut object = read(&dir.join(format!("{file}.yaml")))?;
        if object["kind"] == "CatalogSource" {
            // It is served beside the cluster and not by a pod: its image is in no registry.
            object["spec"] = json!({
                "sourceType": "grpc", "address": address.to_string(),
                "displayName": object["spec"]["displayName"],
            });
        }
        let arguments = ["apply", "--server-side", "-f", "-"];
        kubectl(
            cluster,
            &cluster.kubeconfig(),
            &arguments,
            &object.to_string(),
        )?;
    }
    Ok(())
}

/// Waits until OLM says of this version that it is installed.
///
/// # Errors
/// After four minutes, with what OLM says; at once where a part of OLM has ended.
pub fn installed(cluster: &Cluster, olm: &Olm<'_>, number: &str) -> Result<()> {
    let name = csv_name(number);
    let about = [
        "-n",
        SYSTEM,
        "get",
        "subscriptions,installplans,clusterserviceversions,pods,events",
        "-o",
        "wide",
    ];
    let object = format!("clusterserviceversion/{name}");
    platform::wait(
        cluster,
        &format!("{name} is installed"),
        PATIENCE,
        &about,
        || {
            olm.check()?;
            Ok(platform::value(cluster, SYSTEM, &object, "{.status.phase}")? == "Succeeded")
        },
    )
}

/// The name of a version's ClusterServiceVersion.
#[must_use]
pub fn csv_name(number: &str) -> String {
    format!("postern.v{number}")
}

/// A YAML file of one document.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
