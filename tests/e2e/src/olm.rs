//! What an admin does on a cluster with OLM: a catalog, a Subscription, and the operator comes.
//!
//! Bundles and catalogs are made from what is in the repository. The images that were built here are in a
//! registry beside the cluster, and bundles name them by their digests ([`release`]). Bundles themselves
//! are not images here: catalogs hold their contents instead of their images' names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_cluster::{Cluster, Olm};
use serde_json::{Value, json};

use crate::images::Images;
use crate::platform::{self, SYSTEM, kubectl, with_local_images};
use crate::push::{Named, Pusher};
use crate::tools::repository;

/// How long OLM may take: it tries again what failed only after a while.
const PATIENCE: Duration = Duration::from_secs(240);

/// The version of the bundle in the repository.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A version of the operator, whose images are in a registry.
#[derive(Clone, Debug)]
pub struct Version {
    /// `0.1.0`.
    pub number: &'static str,
    images: Named,
}

impl Version {
    /// What it calls the image of a target: by its digest.
    #[must_use]
    pub fn image(&self, target: &str) -> String {
        self.images.of(target)
    }
}

/// Starts a registry beside the cluster, and pushes the images there once for each of these versions: they
/// differ in the path below which they are, so that an upgrade rolls out everything anew.
///
/// # Errors
/// Where there is no registry, or it does not take them.
pub fn release<const N: usize>(
    cluster: &Cluster,
    images: &Images,
    numbers: [&'static str; N],
) -> Result<[Version; N]> {
    let at = postern_edge::start_registry(cluster)?;
    let pusher = Pusher::built()?;
    // The backends of examples are not of a release.
    let released = images
        .each()
        .into_iter()
        .filter(|(target, _)| *target != "echo");
    let released: Vec<_> = released.collect();
    let push = |number| {
        let registry = format!("{at}/v{number}").parse()?;
        let images = pusher.push_all(&released, &registry, Some(cluster))?;
        Ok(Version { number, images })
    };
    let versions: Vec<Version> = numbers.into_iter().map(push).collect::<Result<_>>()?;
    versions.try_into().ok().context("as many versions")
}

/// Makes a catalog of these versions of the bundle in the folder `into`, and returns where it is.
///
/// # Errors
/// Where OLM's own code does not take a bundle, or the catalog.
pub fn catalog(olm: &Olm<'_>, versions: &[&Version], into: &Path) -> Result<PathBuf> {
    let named: Vec<(String, PathBuf)> = versions
        .iter()
        .map(|version| {
            let dir = into.join(format!("bundle-{}", version.number));
            bundle(version, &dir)?;
            Ok((format!("postern.test/bundle:{}", version.number), dir))
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

/// The repository's bundle as this version, with its images.
fn bundle(version: &Version, into: &Path) -> Result<()> {
    copy(&repository().join("bundle"), into)?;
    let path = into.join("manifests/postern.clusterserviceversion.yaml");
    let text = fs::read_to_string(&path)?;
    let text = with_local_images(&text, |target| version.image(target));
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
