//! The OLM bundle (registry+v1).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use postern_stamp::{operator, rights};
use serde_json::{Map, Value, json};

use super::{Files, Release, catalog, config, descriptors, scorecard, text};

pub(super) const PACKAGE: &str = "postern";
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The channel of versions that may still change their API, as the semver template names it.
pub(super) const CHANNEL: &str = concat!("candidate-v", env!("CARGO_PKG_VERSION_MAJOR"));
/// When this version was made. Kept by hand: what is made must not depend on the day.
const CREATED_AT: &str = "2026-07-01T00:00:00Z";
/// OpenShift 4.19; CEL's `isCIDR` needs 1.31.
const LEAST_KUBERNETES: &str = "1.32.0";
/// OpenShift versions, in step with [`LEAST_KUBERNETES`].
const OPENSHIFT: &str = "v4.19";

pub(super) fn files(release: &Release) -> Result<Files> {
    let mut files = Files::new();
    let manifest = |name: String| format!("bundle/manifests/{name}.yaml").into();
    let service_version = service_version(release)?;
    files.insert(
        manifest(format!("{PACKAGE}.clusterserviceversion")),
        text::yaml(&service_version)?,
    );
    files.extend(catalog::files(release, &service_version)?);
    for (name, rules) in rights::static_cluster_roles() {
        files.insert(
            manifest(format!("{name}.clusterrole")),
            text::yaml(&config::cluster_role(name, &rules))?,
        );
    }
    files.insert(
        "bundle/metadata/annotations.yaml".into(),
        text::yaml(&annotations())?,
    );
    files.insert(
        "bundle/tests/scorecard/config.yaml".into(),
        text::yaml(&scorecard::config())?,
    );
    Ok(files)
}

fn annotations() -> Value {
    let prefix = "operators.operatorframework.io.bundle";
    let tests = "operators.operatorframework.io.test";
    let mut annotations = Map::new();
    for (name, value) in [
        (format!("{prefix}.mediatype.v1"), "registry+v1"),
        (format!("{prefix}.manifests.v1"), "manifests/"),
        (format!("{prefix}.metadata.v1"), "metadata/"),
        (format!("{prefix}.package.v1"), PACKAGE),
        (format!("{prefix}.channels.v1"), CHANNEL),
        (format!("{prefix}.channel.default.v1"), CHANNEL),
        (format!("{tests}.mediatype.v1"), "scorecard+v1"),
        (format!("{tests}.config.v1"), "tests/scorecard/"),
        ("com.redhat.openshift.versions".into(), OPENSHIFT),
    ] {
        annotations.insert(name, value.into());
    }
    json!({ "annotations": annotations })
}

fn service_version(release: &Release) -> Result<Value> {
    let crds = postern_api::crds::crds();
    let examples: Vec<Value> = crds.iter().map(example).collect::<Result<_>>()?;
    let deployment = operator::deployment(None, &release.operator, &release.stamped);
    let grant = examples
        .iter()
        .find(|example| example["kind"] == "TenantGrant");
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{PACKAGE}.v{VERSION}"),
            "namespace": "placeholder",
            "annotations": about(release, &examples, grant)?,
            "labels": {
                format!("operatorframework.io/arch.{}", operator::ARCHITECTURE): "supported",
                format!("operatorframework.io/os.{}", operator::OS): "supported",
            },
        },
        "spec": {
            "displayName": "Postern",
            "version": VERSION,
            "maturity": "alpha",
            "minKubeVersion": LEAST_KUBERNETES,
            "description": prose("description.md")?,
            "keywords": ["gateway", "gateway api", "envoy", "ingress", "multi-tenancy", "networking"],
            "provider": { "name": "The Postern authors", "url": "https://postern.dev" },
            "maintainers": [{ "name": "The Postern authors", "email": "maintainers@postern.dev" }],
            "links": [{ "name": "Documentation", "url": "https://postern.dev/docs" }],
            "icon": [{
                "base64data": base64(prose("icon.svg")?.as_bytes()),
                "mediatype": "image/svg+xml",
            }],
            "installModes": [
                { "type": "OwnNamespace", "supported": false },
                { "type": "SingleNamespace", "supported": false },
                { "type": "MultiNamespace", "supported": false },
                { "type": "AllNamespaces", "supported": true },
            ],
            "customresourcedefinitions": { "owned": crds.iter().map(owned).collect::<Vec<_>>() },
            "install": {
                "strategy": "deployment",
                "spec": {
                    "clusterPermissions": [{
                        "serviceAccountName": operator::NAME,
                        "rules": rights::operator_cluster_rules(),
                    }],
                    "permissions": [{
                        "serviceAccountName": operator::NAME,
                        "rules": rights::operator_own_rules(),
                    }],
                    "deployments": [{
                        "name": operator::NAME,
                        "label": deployment.metadata.labels,
                        "spec": deployment.spec,
                    }],
                },
            },
            "relatedImages": [
                { "name": "operator", "image": release.operator },
                { "name": "controlplane", "image": release.stamped.control_plane },
                { "name": "proxy", "image": release.stamped.proxy },
            ],
        },
    }))
}

/// The annotations that catalogs show and check.
fn about(release: &Release, examples: &[Value], grant: Option<&Value>) -> Result<Value> {
    let mut about = json!({
        "alm-examples": serde_json::to_string_pretty(examples)?,
        "capabilities": "Basic Install",
        "categories": "Networking",
        "certified": "false",
        "containerImage": release.operator,
        "createdAt": CREATED_AT,
        "description": "An isolated Envoy gateway for each team's namespace, with a control plane that sees that namespace only.",
        "repository": "https://postern.dev/source",
        "support": "The Postern authors",
        "operatorframework.io/suggested-namespace": config::NAMESPACE,
        "operatorframework.io/suggested-namespace-template":
            serde_json::to_string_pretty(&config::namespace())?,
        "operators.operatorframework.io/internal-objects": "[\"entitlements.postern.dev\"]",
    });
    if let Some(grant) = grant {
        about["operatorframework.io/initialization-resource"] =
            serde_json::to_string_pretty(grant)?.into();
    }
    // Honestly: images are named by tag until a release pins them by digest, TLS and cipher
    // choices are our own, and Envoy's cryptography is not RHEL's validated one. The operator
    // talks to the API server alone, so that there is nothing for a proxy to carry.
    for (feature, has) in [
        ("cnf", false),
        ("cni", false),
        ("csi", false),
        ("disconnected", false),
        ("fips-compliant", false),
        ("proxy-aware", false),
        ("tls-profiles", false),
        ("token-auth-aws", false),
        ("token-auth-azure", false),
        ("token-auth-gcp", false),
    ] {
        about[format!("features.operators.openshift.io/{feature}")] = has.to_string().into();
    }
    Ok(about)
}

/// What the catalog says of a kind.
fn owned(crd: &CustomResourceDefinition) -> Value {
    let names = &crd.spec.names;
    let version = crd.spec.versions.first();
    let root = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let description = root
        .and_then(|root| root.description.as_deref())
        .unwrap_or_default();
    let mut owned = json!({
        "name": crd.metadata.name,
        "version": version.map(|version| &version.name),
        "kind": names.kind,
        "displayName": match names.kind.as_str() {
            "GatewayInstance" => "Gateway instance",
            "TenantGrant" => "Tenant grant",
            kind => kind,
        },
        "description": descriptors::one_line(description),
    });
    for (part, field) in [("spec", "specDescriptors"), ("status", "statusDescriptors")] {
        let descriptors = descriptors::of(crd, part);
        if !descriptors.is_empty() {
            owned[field] = descriptors.into();
        }
    }
    owned["resources"] = resources(&names.kind)
        .iter()
        .map(|(kind, version)| json!({ "kind": kind, "name": "", "version": version }))
        .collect();
    owned
}

/// What the catalog shows beside a kind: what is made for it, or what it is for.
fn resources(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "GatewayInstance" => &[
            ("Deployment", "v1"),
            ("Pod", "v1"),
            ("Service", "v1"),
            ("NetworkPolicy", "v1"),
            ("PodDisruptionBudget", "v1"),
            ("Gateway", "v1"),
        ],
        "TenantGrant" | "Entitlement" => &[("GatewayInstance", "v1alpha1")],
        _ => &[],
    }
}

/// The example of a kind, kept by hand.
fn example(crd: &CustomResourceDefinition) -> Result<Value> {
    let kind = &crd.spec.names.kind;
    let text = prose(&format!("examples/{}.yaml", kind.to_lowercase()))?;
    let value: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("the example of {kind}"))?;
    ensure!(
        value["kind"] == kind.as_str(),
        "the example of {kind} is of another kind"
    );
    Ok(value)
}

/// A text that is kept by hand.
fn prose(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("bundle")
        .join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4_usize {
            let six = (bits >> (18 - 6 * place)) & 63;
            let digit = char::from(ALPHABET[usize::try_from(six).unwrap_or_default()]);
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    /// RFC 4648, section 10.
    #[test]
    fn base64_is_as_in_its_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
