//! Labels of what is stamped. They are for people and for selectors of ours; nothing is believed
//! because of them, since tenants can write labels too.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The instance's name.
pub const INSTANCE: &str = "postern.dev/instance";
/// The shard's name, on Envoys.
pub const SHARD: &str = "postern.dev/shard";
/// The part of the gateway.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Who keeps the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "postern-operator";
/// The Gateway that a Service is for (GEP-1762). Never on pods: Gateways share them.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Annotation of an instance that the operator made for Gateways: the TenantGrant with its template.
pub const MADE_FROM_GRANT: &str = "postern.dev/made-from-grant";
/// The name of a namespace, which the API server sets and nobody can change.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Component: the control plane.
pub(crate) const CONTROL_PLANE: &str = "controlplane";
/// Component: the Envoys.
pub(crate) const ENVOY: &str = "envoy";
/// Component: what belongs to a Gateway.
pub(crate) const GATEWAY: &str = "gateway";

/// Labels of an object of an instance.
pub(crate) fn of(instance: &str, component: &str) -> BTreeMap<String, String> {
    map(&[
        ("app.kubernetes.io/name", "postern"),
        ("app.kubernetes.io/part-of", "postern"),
        ("app.kubernetes.io/instance", instance),
        (COMPONENT, component),
        (MANAGED_BY, MANAGER),
        (INSTANCE, instance),
    ])
}

/// Labels that pick an instance's control plane.
pub(crate) fn select_control_plane(instance: &str) -> BTreeMap<String, String> {
    map(&[(INSTANCE, instance), (COMPONENT, CONTROL_PLANE)])
}

/// Labels that pick the Envoys of a shard, or of all shards.
pub(crate) fn select_envoys(instance: &str, shard: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = map(&[(INSTANCE, instance), (COMPONENT, ENVOY)]);
    if let Some(shard) = shard {
        labels.insert(SHARD.into(), shard.into());
    }
    labels
}

pub(crate) fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
