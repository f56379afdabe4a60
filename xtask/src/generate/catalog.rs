//! The catalog (file-based), its semver template, and what an admin applies to install from it.
//!
//! Source: <https://olm.operatorframework.io/docs/reference/file-based-catalogs/> and
//! <https://olm.operatorframework.io/docs/reference/catalog-templates/>. A test compares the catalog with
//! what the template's own code makes of template and bundle.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::olm::{CHANNEL, PACKAGE, VERSION};
use super::{Files, Release, config, text};

pub(super) fn files(release: &Release, service_version: &Value) -> Result<Files> {
    let mut files = Files::new();
    let mut add = |name: &str, text: String| {
        files.insert(PathBuf::from("olm").join(name), text);
    };
    // In the order in which kubectl reads a directory; it does not look below.
    add("00-namespace.yaml", text::yaml(&config::namespace())?);
    add("10-operator-group.yaml", text::yaml(&operator_group())?);
    add(
        "20-catalog-source.yaml",
        text::yaml(&catalog_source(release))?,
    );
    add("30-subscription.yaml", text::yaml(&subscription())?);
    add(
        "catalog-templates/semver.yaml",
        text::yaml(&template(release))?,
    );
    add(
        &format!("catalog/{PACKAGE}/catalog.yaml"),
        text::documents(&catalog(release, service_version)?)?,
    );
    Ok(files)
}

/// The whole cluster: without target namespaces it is install mode AllNamespaces.
fn operator_group() -> Value {
    json!({
        "apiVersion": "operators.coreos.com/v1",
        "kind": "OperatorGroup",
        "metadata": { "name": PACKAGE, "namespace": config::NAMESPACE },
        "spec": { "upgradeStrategy": "Default" },
    })
}

/// In the operator's own namespace, since the one for catalogs of the whole cluster has another name on
/// each platform.
fn catalog_source(release: &Release) -> Value {
    json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "CatalogSource",
        "metadata": { "name": PACKAGE, "namespace": config::NAMESPACE },
        "spec": {
            "sourceType": "grpc",
            "image": release.catalog,
            "displayName": "Postern",
            "publisher": "The Postern authors",
            "grpcPodConfig": { "securityContextConfig": "restricted" },
            "updateStrategy": { "registryPoll": { "interval": "60m" } },
        },
    })
}

fn subscription() -> Value {
    json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "Subscription",
        "metadata": { "name": PACKAGE, "namespace": config::NAMESPACE },
        "spec": {
            "name": PACKAGE,
            "channel": CHANNEL,
            "source": PACKAGE,
            "sourceNamespace": config::NAMESPACE,
            "installPlanApproval": "Automatic",
        },
    })
}

fn template(release: &Release) -> Value {
    json!({
        "schema": "olm.semver",
        "generateMajorChannels": true,
        "generateMinorChannels": false,
        "candidate": { "bundles": [{ "image": release.bundle }] },
    })
}

/// Package, channel and bundle.
fn catalog(release: &Release, service_version: &Value) -> Result<Vec<Value>> {
    let (spec, name) = (
        &service_version["spec"],
        &service_version["metadata"]["name"],
    );
    let icon = &spec["icon"][0];
    Ok(vec![
        json!({
            "schema": "olm.package",
            "name": PACKAGE,
            "defaultChannel": CHANNEL,
            "description": spec["description"],
            "icon": { "base64data": icon["base64data"], "mediatype": icon["mediatype"] },
        }),
        json!({
            "schema": "olm.channel",
            "package": PACKAGE,
            "name": CHANNEL,
            "entries": [{ "name": name }],
        }),
        json!({
            "schema": "olm.bundle",
            "name": name,
            "package": PACKAGE,
            "image": release.bundle,
            "properties": properties(service_version)?,
            "relatedImages": related_images(release, spec)?,
        }),
    ])
}

fn properties(service_version: &Value) -> Result<Vec<Value>> {
    let (metadata, spec) = (&service_version["metadata"], &service_version["spec"]);
    let owned = &spec["customresourcedefinitions"]["owned"];
    let mut properties = Vec::new();
    for kind in owned.as_array().context("no owned kinds")? {
        properties.push(json!({
            "type": "olm.gvk",
            "value": {
                "group": postern_api::GROUP,
                "kind": kind["kind"],
                "version": kind["version"],
            },
        }));
    }
    properties.push(json!({
        "type": "olm.package",
        "value": { "packageName": PACKAGE, "version": VERSION },
    }));
    let mut about = Map::new();
    for (name, value) in [
        ("annotations", &metadata["annotations"]),
        ("labels", &metadata["labels"]),
        ("crdDescriptions", &spec["customresourcedefinitions"]),
        ("description", &spec["description"]),
        ("displayName", &spec["displayName"]),
        ("installModes", &spec["installModes"]),
        ("keywords", &spec["keywords"]),
        ("links", &spec["links"]),
        ("maintainers", &spec["maintainers"]),
        ("maturity", &spec["maturity"]),
        ("minKubeVersion", &spec["minKubeVersion"]),
        ("provider", &spec["provider"]),
    ] {
        about.insert(name.to_owned(), value.clone());
    }
    // Written by OLM's types, whether there are any or not.
    about.insert("apiServiceDefinitions".to_owned(), json!({}));
    properties.push(json!({ "type": "olm.csv.metadata", "value": about }));
    Ok(properties)
}

/// The bundle's and those that it names, in order of their images.
fn related_images(release: &Release, spec: &Value) -> Result<Vec<Value>> {
    let named = spec["relatedImages"].as_array().context("no images")?;
    let mut images: Vec<Value> = named.clone();
    images.push(json!({ "name": "", "image": release.bundle }));
    images.sort_by_key(|image| image["image"].as_str().unwrap_or_default().to_owned());
    Ok(images)
}
