//! What an admin does on a cluster with OLM: a catalog, a Subscription, and the operator comes.
//!
//! Bundles and catalogs are made from what is in the repository, and are images in a registry beside the
//! cluster, as are those that were built here. Bundles name these, and catalogs the bundles, by digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_cluster::{Cluster, Entry, ImageConfig, Olm, oci_archive};
use serde_json::{Value, json};

use crate::images::Images;
use crate::platform::{self, SYSTEM, kubectl, with_local_images};
use crate::push::{Named, Pusher, Registry};
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
    /// Where they are.
    registry: Registry,
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
    let released = images.each().into_iter();
    let released: Vec<_> = released.filter(|(target, _)| *target != "echo").collect();
    let push = |number| {
        let registry: Registry = format!("{at}/v{number}").parse()?;
        let images = pusher.push_all(&released, &registry, Some(cluster))?;
        Ok(Version {
            number,
            registry,
            images,
        })
    };
    let versions: Vec<Version> = numbers.into_iter().map(push).collect::<Result<_>>()?;
    versions.try_into().ok().context("as many versions")
}

/// Makes a catalog of these versions of the bundle in the folder `into`, pushes bundles and catalog to the
/// registry of the last one, and returns the catalog's image.
///
/// # Errors
/// Where OLM's own code does not take a bundle, or the catalog; or the registry does not.
pub fn catalog(
    cluster: &Cluster,
    olm: &Olm<'_>,
    versions: &[&Version],
    into: &Path,
) -> Result<String> {
    let pusher = Pusher::built()?;
    let named: Vec<(String, PathBuf)> = versions
        .iter()
        .map(|version| {
            let dir = into.join(format!("bundle-{}", version.number));
            bundle(version, &dir)?;
            let archive = dir.with_extension("tar");
            bundle_image(&dir, &archive)?;
            let registry = &version.registry;
            let image = pusher.push(&archive, registry, "bundle", "dev", Some(cluster))?;
            Ok((image, dir))
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
    let text = olm.programs().render(&from, &bundles)?;
    fs::write(catalog.join("catalog.yaml"), text)?;
    let checked = olm
        .programs()
        .opm(&["validate", &catalog.to_string_lossy()])?;
    ensure!(
        checked.status.success(),
        "opm validate: {}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let archive = into.join("catalog.tar");
    olm.programs().catalog_image(&catalog, &archive)?;
    let registry = &versions.last().context("no version")?.registry;
    pusher.push(&archive, registry, "catalog", "dev", Some(cluster))?;
    Ok(format!("{}:dev", registry.repository("catalog")))
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

/// Writes the archive of a bundle's image, as `opm alpha bundle build` makes it: what is in the bundle's
/// folder, and its annotations as labels.
fn bundle_image(bundle: &Path, archive: &Path) -> Result<()> {
    let metadata = read(&bundle.join("metadata/annotations.yaml"))?;
    let annotations = metadata["annotations"].as_object();
    let labels = annotations
        .context("no annotations")?
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let config = ImageConfig {
        labels: labels.collect(),
        ..ImageConfig::default()
    };
    let folders = ["manifests", "metadata", "tests"];
    let layer = folders.map(|folder| Entry::Tree(folder.into(), bundle.join(folder)));
    let name = "postern.test/bundle:dev";
    oci_archive(archive, name, &[layer.to_vec()], &config)
}

/// Applies what an admin applies: the namespace, the OperatorGroup, the catalog's source with this image,
/// the Subscription.
///
/// # Errors
/// Where something is not taken.
pub fn subscribe(cluster: &Cluster, catalog: &str) -> Result<()> {
    let dir = repository().join("olm");
    for file in [
        "00-namespace",
        "10-operator-group",
        "20-catalog-source",
        "30-subscription",
    ] {
        let mut object = read(&dir.join(format!("{file}.yaml")))?;
        if object["kind"] == "CatalogSource" {
            object["spec"]["image"] = catalog.into();
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
