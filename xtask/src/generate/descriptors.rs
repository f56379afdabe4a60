//! Descriptors of fields, for the OpenShift console's forms: made from the schemas.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::{Value, json};

const UI: &str = "urn:alm:descriptor:com.tectonic.ui";

/// Descriptors of all fields below `spec` or `status`. Fields of a list's items are named as those of its
/// first, `listeners[0].port`: so the console takes them.
pub(super) fn of(crd: &CustomResourceDefinition, part: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for version in &crd.spec.versions {
        let root = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(schema) = root.and_then(|root| root.properties.as_ref()?.get(part)) {
            visit("", None, schema, &mut found);
        }
    }
    found
}

/// `group`: what the console shows these fields together as.
fn visit(path: &str, group: Option<&str>, schema: &JSONSchemaProps, found: &mut Vec<Value>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let mut descriptor = json!({
            "path": path,
            "displayName": display_name(name),
            "description": one_line(property.description.as_deref().unwrap_or_default()),
        });
        let mut hints: Vec<String> = group
            .map(|group| format!("{UI}:{group}"))
            .into_iter()
            .collect();
        hints.extend(self::hints(name, property));
        if !hints.is_empty() {
            descriptor["x-descriptors"] = hints.into();
        }
        found.push(descriptor);
        if name == "conditions" {
            continue;
        }
        match &property.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => {
                let group = format!("arrayFieldGroup:{path}");
                visit(&format!("{path}[0]"), Some(&group), item, found);
            }
            _ => visit(&path, Some(&format!("fieldGroup:{path}")), property, found),
        }
    }
}

fn hints(name: &str, property: &JSONSchemaProps) -> Vec<String> {
    if name == "conditions" {
        return vec!["urn:alm:descriptor:io.kubernetes.conditions".into()];
    }
    if name == "replicas" {
        return vec![format!("{UI}:podCount")];
    }
    if let Some(values) = &property.enum_ {
        let values = values.iter().filter_map(|value| value.0.as_str());
        return values.map(|value| format!("{UI}:select:{value}")).collect();
    }
    match property.type_.as_deref() {
        Some("boolean") => vec![format!("{UI}:booleanSwitch")],
        Some("integer") => vec![format!("{UI}:number")],
        Some("string") => vec![format!("{UI}:text")],
        _ => Vec::new(),
    }
}

/// `externalTrafficPolicy` is `External Traffic Policy`.
fn display_name(name: &str) -> String {
    let mut words = String::new();
    for (position, c) in name.chars().enumerate() {
        if position == 0 {
            words.extend(c.to_uppercase());
        } else {
            if c.is_uppercase() {
                words.push(' ');
            }
            words.push(c);
        }
    }
    words
}

/// A doc comment's lines as one.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
