use serde_json::{Value, json};

use super::*;
use crate::GatewayInstanceSpec;
use crate::grant::TenantGrantSpec;

/// All schemas of a kind, with their paths.
fn schemas(crd: &CustomResourceDefinition) -> Vec<(String, JSONSchemaProps)> {
    fn visit(path: &str, schema: &JSONSchemaProps, all: &mut Vec<(String, JSONSchemaProps)>) {
        all.push((path.to_owned(), schema.clone()));
        for (name, property) in schema.properties.iter().flatten() {
            visit(&format!("{path}.{name}"), property, all);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            visit(&format!("{path}[]"), items, all);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            visit(&format!("{path}{{}}"), values, all);
        }
    }
    let mut all = Vec::new();
    for version in &crd.spec.versions {
        let schema = version
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap();
        visit(&crd.spec.names.kind, schema, &mut all);
    }
    assert!(all.len() > 5);
    all
}

#[test]
fn every_field_is_described() {
    for crd in crds() {
        for (path, schema) in schemas(&crd) {
            let is_field = !path.ends_with("[]") && !path.ends_with("{}");
            let description = schema.description.unwrap_or_default();
            assert!(
                !is_field || description.len() > 5,
                "{path} has no description"
            );
        }
    }
}

#[test]
fn what_tenants_write_is_bounded() {
    for crd in crds() {
        for (path, schema) in schemas(&crd) {
            if !path.contains(".spec") {
                continue;
            }
            match schema.type_.as_deref() {
                Some("array") => assert!(schema.max_items.is_some(), "{path} has no maxItems"),
                Some("string") => assert!(
                    schema.max_length.is_some() || schema.enum_.is_some(),
                    "{path} has no maxLength"
                ),
                Some("integer") => assert!(schema.minimum.is_some(), "{path} has no minimum"),
                Some("object") => assert!(
                    schema.additional_properties.is_none() || schema.max_properties.is_some(),
                    "{path} has no maxProperties"
                ),
                Some("boolean") => {}
                None => assert!(
                    schema.x_kubernetes_int_or_string == Some(true) && schema.max_length.is_some(),
                    "{path} has no type"
                ),
                Some(other) => panic!("{path}: {other}"),
            }
        }
    }
}

#[test]
fn schemas_are_structural_and_make_no_surprises() {
    for crd in crds() {
        for (path, schema) in schemas(&crd) {
            assert_eq!(schema.nullable, None, "{path}");
            assert!(schema.any_of.is_none() && schema.one_of.is_none(), "{path}");
            assert!(schema.all_of.is_none() && schema.not.is_none(), "{path}");
            assert_eq!(schema.x_kubernetes_preserve_unknown_fields, None, "{path}");
            assert!(
                matches!(
                    schema.format.as_deref(),
                    None | Some("int32" | "int64" | "date-time")
                ),
                "{path}: {:?}",
                schema.format
            );
            if path.contains(".status") {
                assert_eq!(schema.default, None, "{path}: a status is what was written");
            }
        }
    }
}

#[test]
fn lists_with_keys_say_so() {
    let crd = crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == "GatewayInstance")
        .unwrap();
    let all = schemas(&crd);
    for (path, key) in [
        ("GatewayInstance.spec.listeners", "name"),
        ("GatewayInstance.spec.exposure.nodePort.ports", "port"),
        ("GatewayInstance.status.conditions", "type"),
    ] {
        let (_, schema) = all.iter().find(|(found, _)| found == path).unwrap();
        assert_eq!(
            schema.x_kubernetes_list_type.as_deref(),
            Some("map"),
            "{path}"
        );
        assert_eq!(
            schema.x_kubernetes_list_map_keys,
            Some(vec![key.to_owned()]),
            "{path}"
        );
    }
}

#[test]
fn all_variants_stand_in_the_schema_from_the_first_version() {
    let crd = crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == "GatewayInstance")
        .unwrap();
    let all = schemas(&crd);
    let variants = |path: &str| -> Vec<Value> {
        let (_, schema) = all.iter().find(|(found, _)| found == path).unwrap();
        schema
            .enum_
            .iter()
            .flatten()
            .map(|value| value.0.clone())
            .collect()
    };
    assert_eq!(
        variants("GatewayInstance.spec.exposure.type"),
        ["ClusterIP", "NodePort", "LoadBalancer", "Route"]
    );
    assert_eq!(
        variants("GatewayInstance.spec.listeners[].protocol"),
        ["HTTP", "HTTPS", "TLS", "TCP", "UDP"]
    );
    assert_eq!(
        variants("GatewayInstance.spec.placement"),
        ["Own", "Managed"]
    );
}

#[test]
fn specs_read_back_as_they_were_written() {
    let full = json!({
        "listeners": [{
            "name": "https",
            "hostname": "*.a.example",
            "port": 443,
            "protocol": "HTTPS",
            "tls": { "certificateRefs": [{ "name": "cert" }, { "namespace": "b", "name": "cert" }] },
            "allowedRoutes": {
                "namespaces": { "from": "Selector", "selector": { "matchLabels": { "x": "y" } } }
            },
        }],
        "exposure": {
            "type": "NodePort",
            "nodePort": {
                "ports": [{ "port": 443, "nodePort": 30443 }],
                "externalTrafficPolicy": "Local",
            },
        },
        "clients": { "from": "Names", "names": ["team-b"] },
        "placement": "Own",
        "proxy": { "replicas": 2, "requests": { "cpu": "100m" }, "limits": { "memory": "1Gi" } },
        "controlPlane": {},
    });
    let read: GatewayInstanceSpec = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), full);

    let full = json!({
        "namespaces": { "names": ["team-a"], "selector": { "matchLabels": { "tenant": "yes" } } },
        "hostnames": ["a.example", "*.a.example"],
        "exposures": ["ClusterIP", "NodePort"],
        "quotas": { "routes": 100, "listeners": 8, "endpoints": 1000, "configurationBytes": 1000000 },
        "instanceTemplate": {
            "exposure": { "type": "LoadBalancer", "loadBalancer": { "class": "metallb" } },
            "clients": { "from": "All" },
            "proxy": { "replicas": 2, "nodeSelector": { "infra": "" } },
            "controlPlane": { "replicas": 1 },
        },
    });
    let read: TenantGrantSpec = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), full);
    // What a template says is what the instance says.
    let mut made = full["instanceTemplate"].clone();
    made["placement"] = json!("Own");
    let instance = read.instance_template.unwrap().instance();
    assert_eq!(serde_json::to_value(instance).unwrap(), made);
}

/// Whatever a grant's template lets an admin write is bounded and checked as in an instance.
#[test]
fn a_template_has_the_schema_of_an_instance() {
    let of = |kind: &str, under: &str| -> Vec<(String, JSONSchemaProps)> {
        let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind);
        let all = schemas(&crd.unwrap()).into_iter();
        let below = all.filter_map(|(path, schema)| {
            let rest = path.strip_prefix(under)?.to_owned();
            let parts = [".exposure", ".clients", ".proxy", ".controlPlane"];
            let schema = JSONSchemaProps {
                description: None,
                ..schema
            };
            let is_one = parts.iter().any(|part| rest.starts_with(part));
            is_one.then_some((rest, schema))
        });
        below.collect()
    };
    let template = of("TenantGrant", "TenantGrant.spec.instanceTemplate");
    assert!(template.len() > 30, "{}", template.len());
    assert_eq!(template, of("GatewayInstance", "GatewayInstance.spec"));
}

#[test]
fn an_empty_spec_is_an_instance() {
    let read: GatewayInstanceSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!(read, GatewayInstanceSpec::default());
}

#[test]
fn amounts_may_be_numbers() {
    let read: GatewayInstanceSpec =
        serde_json::from_value(json!({ "proxy": { "requests": { "cpu": 2 } } })).unwrap();
    assert_eq!(read.proxy.requests["cpu"].0, "2");
}

/// A newer writer's fields are passed over, and an older writer's absent ones have defaults: each
/// side reads the version before and after its own.
#[test]
fn the_contract_reads_what_others_wrote() {
    let read: crate::EntitlementStatus = serde_json::from_value(json!({
        "contractVersion": 2,
        "somethingNew": { "a": 1 },
        "gateways": [{ "name": "web", "new": true, "ports": [{ "port": 80 }] }],
    }))
    .unwrap();
    assert_eq!(read.contract_version, 2);
    assert_eq!(read.gateways[0].ports[0].port, 80);
    assert_eq!(read.trust_domain, "");
    let again = serde_json::to_value(&read).unwrap();
    assert_eq!(
        serde_json::from_value::<crate::EntitlementStatus>(again).unwrap(),
        read
    );
}
