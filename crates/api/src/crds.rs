//! The CustomResourceDefinitions of our kinds, as they are installed.
//!
//! The schemas come from the types; what [`crds`] adds is what a derive cannot say: no defaults
//! and no nulls where the API server should not make any, no number formats that it does not
//! know, and the rules on an object's name.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{Entitlement, GatewayInstance, TenantGrant};

/// A DNS label (RFC 1123): a namespace.
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS subdomain (RFC 1123): most objects' names, and hosts.
pub const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A host or, after `*.`, all hosts below one (Gateway API, `Hostname`).
pub const HOSTNAME: &str =
    r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The same, or `*` for all hosts.
pub const OWNED_HOSTNAME: &str =
    r"^(\*|(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$";
/// A label's key (Kubernetes, "Labels and Selectors").
pub const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// A label's value; it may be empty.
pub const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
/// A quantity that is no less than nothing (`resource.Quantity`).
const QUANTITY: &str = r"^([0-9]+(\.[0-9]+)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// The CustomResourceDefinitions of our kinds, in the order of their names.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        Entitlement::crd(),
        GatewayInstance::crd(),
        TenantGrant::crd(),
    ];
    for crd in &mut crds {
        let namespaced = crd.spec.scope == "Namespaced";
        let kind = crd.spec.names.kind.clone();
        for version in &mut crd.spec.versions {
            let Some(root) = version
                .schema
                .as_mut()
                .and_then(|s| s.open_api_v3_schema.as_mut())
            else {
                continue;
            };
            tidy(root);
            if let Some(status) = root.properties.as_mut().and_then(|p| p.get_mut("status")) {
                without_defaults(status);
                without_rules(status);
            }
            if namespaced && kind == "GatewayInstance" {
                root.x_kubernetes_validations = Some(vec![ValidationRule {
                    // The name stands in labels of all that the instance has.
                    rule: "size(self.metadata.name) <= 63".into(),
                    message: Some("the name of an instance has at most 63 characters".into()),
                    ..ValidationRule::default()
                }]);
            }
        }
    }
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}

/// What the operator alone writes needs no rules: API servers count what rules could cost, and what
/// it copies from specs has been checked there.
fn without_rules(schema: &mut JSONSchemaProps) {
    walk(schema, &mut |schema| schema.x_kubernetes_validations = None);
}

/// Labels of a selector, bounded.
pub(crate) fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

/// Labels of nodes.
pub(crate) fn node_selector_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63, "pattern": LABEL_VALUE },
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key.size() <= 317)",
            "message": "a label's key has at most 317 characters",
        }],
    })
}

/// Amounts of the resources that pods of ours may ask for.
pub(crate) fn resources_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 3,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": QUANTITY,
        },
        "x-kubernetes-validations": [{
            "rule": "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'])",
            "message": "only cpu, memory and ephemeral-storage can be asked for",
        }],
    })
}

/// Takes away what the API server warns about or would keep as `null`.
fn tidy(schema: &mut JSONSchemaProps) {
    walk(schema, &mut |schema| {
        // Optional fields are left out, never null: then `has()` in a rule says what it means.
        schema.nullable = None;
        schema.title = None;
        if let Some(values) = &mut schema.enum_ {
            values.retain(|value| !value.0.is_null());
        }
        schema.format = match schema.format.as_deref() {
            Some("uint8" | "uint16" | "int8" | "int16") => Some("int32".into()),
            Some("uint32" | "uint64" | "uint") => Some("int64".into()),
            other => other.map(str::to_owned),
        };
    });
}

/// A status is what was written, and nothing that a schema made up.
fn without_defaults(schema: &mut JSONSchemaProps) {
    walk(schema, &mut |schema| schema.default = None);
}

/// Calls `visit` for a schema and all schemas in it.
fn walk(schema: &mut JSONSchemaProps, visit: &mut impl FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        walk(property, visit);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => walk(items, visit),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => {
            for items in all {
                walk(items, visit);
            }
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        walk(values, visit);
    }
}

#[cfg(test)]
mod tests;
