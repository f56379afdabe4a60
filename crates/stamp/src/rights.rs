//! What the operator and the control planes may do: the one place, from which the bundle and the
//! plain manifests are made.
//!
//! The operator has no verb on Secrets, and no rule has a `*`. What it has on Roles (`escalate`,
//! `bind`) is as strong as cluster-admin in the hands of a thief; the hardening manifest narrows
//! it, and nothing here pretends otherwise.

use k8s_openapi::api::rbac::v1::PolicyRule;
use postern_api::{GATEWAY_GROUP, GROUP};

/// The static ClusterRole that control planes are bound to in their own namespace, by RoleBindings.
pub const CONTROL_PLANE_READER: &str = "postern-controlplane-reader";

/// The Lease that the operator's leader holds, in the operator's namespace.
pub const OPERATOR_LEASE: &str = "postern-operator";

pub(crate) const READ: &[&str] = &["get", "list", "watch"];
const KEEP: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];

/// A rule on whole kinds.
#[must_use]
pub fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|text| (*text).to_owned()).collect()),
        verbs: verbs.iter().map(|text| (*text).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// A rule on objects by name. `names` must not be empty: for RBAC no name is every name.
#[must_use]
pub fn rule_for(group: &str, resources: &[&str], verbs: &[&str], names: &[String]) -> PolicyRule {
    PolicyRule {
        resource_names: Some(names.to_vec()),
        ..rule(group, resources, verbs)
    }
}

/// What the operator may do in every namespace.
#[must_use]
pub fn operator_cluster_rules() -> Vec<PolicyRule> {
    vec![
        // What consent is computed from.
        rule("", &["namespaces"], READ),
        rule(GATEWAY_GROUP, &["httproutes", "referencegrants"], READ),
        rule(GROUP, &["tenantgrants"], READ),
        // And the instance that is made for Gateways without one. That later Gateways become owners of
        // it too is a patch; where owners are protected (OpenShift), only who may delete an object
        // may change them.
        rule(
            GROUP,
            &["gatewayinstances"],
            &["create", "delete", "get", "list", "patch", "watch"],
        ),
        // The version of the Gateway API, which its definitions carry as an annotation.
        rule_for(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            READ,
            &["gatewayclasses.gateway.networking.k8s.io".into()],
        ),
        // Addresses: of nodes for node ports, of API servers for policies.
        rule("", &["nodes"], READ),
        rule_for(
            "discovery.k8s.io",
            &["endpointslices"],
            READ,
            &["kubernetes".into()],
        ),
        // The GatewayClass, the Gateways of spec.listeners, and the status of Gateways that have no
        // control plane.
        rule(
            GATEWAY_GROUP,
            &["gatewayclasses"],
            &["create", "get", "list", "patch", "update", "watch"],
        ),
        rule(GATEWAY_GROUP, &["gateways"], KEEP),
        rule(
            GATEWAY_GROUP,
            &["gatewayclasses/status", "gateways/status"],
            &["patch", "update"],
        ),
        // Our own kinds.
        rule(GROUP, &["entitlements"], KEEP),
        rule(
            GROUP,
            &["entitlements/status", "gatewayinstances/status"],
            &["patch", "update"],
        ),
        // What became of an instance.
        rule("events.k8s.io", &["events"], &["create", "patch"]),
        // What is stamped.
        rule("", &["serviceaccounts", "services"], KEEP),
        rule("apps", &["deployments"], KEEP),
        rule("networking.k8s.io", &["networkpolicies"], KEEP),
        rule("policy", &["poddisruptionbudgets"], KEEP),
        // Where there is OpenShift's router. A Route of a host needs the second right.
        rule("route.openshift.io", &["routes"], KEEP),
        rule(
            "route.openshift.io",
            &["routes/custom-host"],
            &["create", "update"],
        ),
        rule("rbac.authorization.k8s.io", &["rolebindings"], KEEP),
        rule(
            "rbac.authorization.k8s.io",
            &["roles"],
            &[
                "bind", "create", "delete", "escalate", "get", "list", "patch", "update", "watch",
            ],
        ),
        rule_for(
            "rbac.authorization.k8s.io",
            &["clusterroles"],
            &["bind"],
            &[CONTROL_PLANE_READER.into()],
        ),
    ]
}

/// What the operator may do in its own namespace: hold its Lease.
///
/// OLM lifts these rules to every namespace when it installs for all of them. Limited to one name
/// and to a Lease, that gives nothing worth having.
#[must_use]
pub fn operator_own_rules() -> Vec<PolicyRule> {
    vec![rule_for(
        "coordination.k8s.io",
        &["leases"],
        &["create", "get", "patch", "update"],
        &[OPERATOR_LEASE.into()],
    )]
}

/// The static ClusterRoles by name. The operator binds them in tenants' namespaces.
#[must_use]
pub fn static_cluster_roles() -> Vec<(&'static str, Vec<PolicyRule>)> {
    vec![(
        CONTROL_PLANE_READER,
        vec![
            rule("", &["services"], READ),
            rule("discovery.k8s.io", &["endpointslices"], READ),
            rule(GATEWAY_GROUP, &["gateways", "httproutes"], READ),
        ],
    )]
}
