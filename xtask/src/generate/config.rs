//! Plain manifests: what OLM would make from the bundle; and, to choose from, what tenants may do.

use anyhow::Result;
use k8s_openapi::api::rbac::v1::PolicyRule;
use postern_stamp::tenants::{self, TenantRole, Terms};
use postern_stamp::{operator, rights};
use serde_json::{Value, json};

use super::{Files, Release, text};

/// Where the operator runs.
pub(super) const NAMESPACE: &str = "postern-system";

pub(super) fn files(release: &Release) -> Result<Files> {
    let mut files = Files::new();
    let mut add = |name: &str, value: Value| -> Result<()> {
        files.insert(format!("config/{name}.yaml").into(), text::yaml(&value)?);
        Ok(())
    };
    // In the order in which kubectl reads a directory.
    add("00-namespace", namespace())?;
    add(
        "10-service-account",
        with_kind("v1", "ServiceAccount", json!({ "metadata": own() })),
    )?;
    add(
        "20-operator-role",
        cluster_role(operator::NAME, &rights::operator_cluster_rules()),
    )?;
    add(
        "21-operator-binding",
        binding(
            "ClusterRoleBinding",
            "ClusterRole",
            json!({ "name": operator::NAME }),
        ),
    )?;
    add(
        "22-lease-role",
        with_kind(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({ "metadata": own(), "rules": rights::operator_own_rules() }),
        ),
    )?;
    add("23-lease-binding", binding("RoleBinding", "Role", own()))?;
    for (name, rules) in rights::static_cluster_roles() {
        add(&format!("30-{name}"), cluster_role(name, &rules))?;
    }
    add("40-network-policy", network_policy())?;
    let deployment = operator::deployment(Some(NAMESPACE), &release.operator, &release.stamped);
    add(
        "50-operator",
        with_kind("apps/v1", "Deployment", serde_json::to_value(deployment)?),
    )?;
    Ok(files)
}

/// The sets of rights that an admin may give to tenants: `config/tenants/`.
pub(super) fn tenants() -> Result<Files> {
    let mut files = Files::new();
    for terms in Terms::ALL {
        let roles: Vec<Value> = tenants::roles(terms).iter().map(aggregated).collect();
        let path = format!("config/{TENANTS}/{}.yaml", terms.name());
        files.insert(path.into(), text::documents(&roles)?);
    }
    Ok(files)
}

/// Where in `config/` they are: beside what is applied as a whole.
const TENANTS: &str = "tenants";

/// All of `config/` but the sets to choose from, for `kubectl apply -k`.
pub(super) fn kustomization(files: &Files) -> Result<String> {
    let resources: Vec<&str> = files
        .keys()
        .filter_map(|path| path.strip_prefix("config").ok())
        .filter(|path| !path.starts_with(TENANTS))
        .filter_map(|path| path.to_str())
        .collect();
    text::yaml(&json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    }))
}

/// A ClusterRole of ours.
pub(super) fn cluster_role(name: &str, rules: &[PolicyRule]) -> Value {
    with_kind(
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        json!({ "metadata": { "name": name, "labels": labels() }, "rules": rules }),
    )
}

pub(super) fn with_kind(api_version: &str, kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object
}

/// The operator's namespace.
pub(super) fn namespace() -> Value {
    let mut labels = labels();
    for mode in ["enforce", "audit", "warn"] {
        labels[format!("pod-security.kubernetes.io/{mode}")] = "restricted".into();
    }
    with_kind(
        "v1",
        "Namespace",
        json!({ "metadata": { "name": NAMESPACE, "labels": labels } }),
    )
}

fn binding(kind: &str, role_kind: &str, metadata: Value) -> Value {
    let mut metadata = metadata;
    metadata["labels"] = labels();
    with_kind(
        "rbac.authorization.k8s.io/v1",
        kind,
        json!({
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": role_kind,
                "name": operator::NAME,
            },
            "subjects": [{
                "kind": "ServiceAccount",
                "name": operator::NAME,
                "namespace": NAMESPACE,
            }],
        }),
    )
}

fn aggregated(role: &TenantRole) -> Value {
    let mut value = cluster_role(role.name, &role.rules);
    for stock in role.added_to {
        value["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{stock}")] =
            "true".into();
    }
    value
}

/// Nobody comes in; probes come from the node, which always gets in. Egress is open: by address
/// the operator could lock itself out.
fn network_policy() -> Value {
    with_kind(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({
            "metadata": own(),
            "spec": {
                "podSelector": { "matchLabels": {
                    "app.kubernetes.io/name": "postern",
                    "app.kubernetes.io/component": "operator",
                } },
                "policyTypes": ["Ingress"],
            },
        }),
    )
}

/// Metadata of the operator's own objects.
fn own() -> Value {
    json!({ "name": operator::NAME, "namespace": NAMESPACE, "labels": labels() })
}

fn labels() -> Value {
    json!({ "app.kubernetes.io/name": "postern", "app.kubernetes.io/part-of": "postern" })
}
