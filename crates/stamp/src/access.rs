//! Who may read and write what: ServiceAccounts, Roles and RoleBindings.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use postern_api::GROUP;
use postern_api::entitlement::EntitlementStatus;
use serde_json::json;

use crate::rights::{CONTROL_PLANE_READER, rule, rule_for};
use crate::{Instance, Settings, Stamped, VERSION, labels, operator};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// The instance's Entitlement, without its status: that is written apart.
pub(crate) fn entitlement(instance: &Instance<'_>) -> Stamped {
    let meta = instance.meta(instance.names().entitlement(), labels::CONTROL_PLANE);
    Stamped::new(
        &format!("{GROUP}/{VERSION}"),
        "Entitlement",
        json!({ "metadata": meta, "spec": {} }),
    )
}

/// ServiceAccount, Roles and RoleBindings of the control plane.
pub(crate) fn control_plane(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
) -> Vec<Stamped> {
    let names = instance.names();
    let name = names.control_plane();
    let account = (instance.home(), name.as_str());
    let own = RoleRef {
        api_group: Some(RBAC_GROUP.into()),
        kind: "Role".into(),
        name: names.control_plane(),
    };
    let secrets = RoleRef {
        name: names.secrets(),
        ..own.clone()
    };
    let reader = RoleRef {
        api_group: Some(RBAC_GROUP.into()),
        kind: "ClusterRole".into(),
        name: CONTROL_PLANE_READER.into(),
    };
    vec![
        service_account(instance, name.clone(), labels::CONTROL_PLANE),
        role(
            instance,
            names.control_plane(),
            own_rules(instance, entitlement),
        ),
        binding(instance, names.control_plane(), own, account),
        binding(instance, names.reader(), reader, account),
        role(
            instance,
            names.secrets(),
            secret_rules(instance, entitlement),
        ),
        binding(instance, names.secrets(), secrets, account),
    ]
}

/// Role and RoleBinding by which the operator reads the authorities that the control plane published,
/// where routers are to be told them: this one ConfigMap, and no other.
pub(crate) fn trust(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    settings: &Settings,
) -> Vec<Stamped> {
    if !entitlement.reencrypts() {
        return Vec::new();
    }
    let name = instance.names().trust();
    let rules = vec![rule_for(
        "",
        &["configmaps"],
        &["get"],
        std::slice::from_ref(&name),
    )];
    let role_ref = RoleRef {
        api_group: Some(RBAC_GROUP.into()),
        kind: "Role".into(),
        name: name.clone(),
    };
    vec![
        role(instance, name.clone(), rules),
        binding(
            instance,
            name,
            role_ref,
            (&settings.operator_namespace, operator::NAME),
        ),
    ]
}

/// ServiceAccount of a shard's Envoys: it may do nothing, and no token of it is mounted.
pub(crate) fn envoy(instance: &Instance<'_>, shard: &str) -> Stamped {
    service_account(instance, instance.names().envoy(shard), labels::ENVOY)
}

fn service_account(instance: &Instance<'_>, name: String, component: &str) -> Stamped {
    Stamped::typed(&ServiceAccount {
        metadata: instance.meta(name, component),
        // The control plane's pods ask for theirs themselves.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}

fn role(instance: &Instance<'_>, name: String, rules: Vec<PolicyRule>) -> Stamped {
    Stamped::typed(&Role {
        metadata: instance.meta(name, labels::CONTROL_PLANE),
        rules: Some(rules),
    })
}

/// A RoleBinding for a ServiceAccount: namespace and name.
fn binding(
    instance: &Instance<'_>,
    name: String,
    role_ref: RoleRef,
    (namespace, account): (&str, &str),
) -> Stamped {
    Stamped::typed(&RoleBinding {
        metadata: instance.meta(name, labels::CONTROL_PLANE),
        role_ref,
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: account.into(),
            namespace: Some(namespace.into()),
            api_group: None,
        }]),
    })
}

/// What the control plane owns or reports in its own namespace.
///
/// `create` by name works for server-side apply alone, which is how these objects are made: a
/// plain create is refused, since its name is not known to the authorizer.
fn own_rules(instance: &Instance<'_>, entitlement: &EntitlementStatus) -> Vec<PolicyRule> {
    const KEEP: &[&str] = &["create", "get", "patch", "update"];
    let names = instance.names();
    let mut keys = vec![names.ca(), names.control_plane_tls()];
    keys.extend(
        entitlement
            .shards
            .iter()
            .map(|shard| names.envoy_tls(&shard.name)),
    );
    keys.sort();
    vec![
        rule_for("coordination.k8s.io", &["leases"], KEEP, &[names.lease()]),
        rule_for("", &["secrets"], KEEP, &keys),
        rule_for("", &["configmaps"], KEEP, &[names.trust()]),
        rule_for(
            GROUP,
            &["entitlements"],
            &["get", "list", "watch"],
            &[names.entitlement()],
        ),
        rule(
            "gateway.networking.k8s.io",
            &["gateways/status", "httproutes/status"],
            &["update"],
        ),
    ]
}

/// The Secrets that the tenant's own objects name, and no other. A rule without names would be one
/// for all Secrets: where there is no name there is no rule.
fn secret_rules(instance: &Instance<'_>, entitlement: &EntitlementStatus) -> Vec<PolicyRule> {
    let names: BTreeSet<String> = entitlement
        .objects
        .iter()
        .filter(|object| object.group.is_empty() && object.kind == "Secret")
        .filter(|object| object.namespace == instance.home() && !object.name.is_empty())
        .map(|object| object.name.clone())
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = names.into_iter().collect();
    vec![rule_for(
        "",
        &["secrets"],
        &["get", "list", "watch"],
        &names,
    )]
}
