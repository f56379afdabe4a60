//! `docs/reference/`: every field of our kinds, from their schemas; every condition and what to do
//! about it.

use std::fmt::Write as _;

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use postern_api::reasons::{ConditionType, Reason};

use super::descriptors::one_line;
use super::{Files, conditions};

const HEAD: &str = "<!-- Made by `cargo xtask gen`; do not edit. -->\n\n";

/// Pages by path.
pub(super) fn files() -> Result<Files> {
    let mut files = Files::new();
    for crd in postern_api::crds::crds() {
        let path = format!("docs/reference/{}.md", crd.spec.names.kind.to_lowercase());
        files.insert(path.into(), kind(&crd)?);
    }
    files.insert("docs/reference/conditions.md".into(), conditions()?);
    Ok(files)
}

fn kind(crd: &CustomResourceDefinition) -> Result<String> {
    let mut page = HEAD.to_owned();
    writeln!(page, "# {}\n", crd.spec.names.kind)?;
    for version in &crd.spec.versions {
        let root = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref());
        let Some(root) = root else { continue };
        let about = one_line(root.description.as_deref().unwrap_or_default());
        writeln!(
            page,
            "`{}/{}`, {}. {about}\n",
            crd.spec.group, version.name, crd.spec.scope
        )?;
        for part in ["spec", "status"] {
            let Some(schema) = root.properties.as_ref().and_then(|all| all.get(part)) else {
                continue;
            };
            writeln!(
                page,
                "## {part}\n\n| field | type | meaning |\n| --- | --- | --- |"
            )?;
            fields(&mut page, "", schema)?;
            rules(&mut page, schema)?;
            page.push('\n');
        }
    }
    Ok(page.trim_end().to_owned() + "\n")
}

/// A row for each field below a schema, with its own right after it.
fn fields(page: &mut String, path: &str, schema: &JSONSchemaProps) -> Result<()> {
    for (name, property) in schema.properties.iter().flatten() {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        let required = schema.required.iter().flatten().any(|other| other == name);
        let mut about = one_line(property.description.as_deref().unwrap_or_default());
        if let Some(default) = &property.default {
            let _ = write!(about, " Default: `{}`.", default.0);
        }
        if required {
            about.push_str(" Required.");
        }
        let kind = type_of(property);
        writeln!(page, "| `{path}` | {kind} | {} |", cell(about.trim()))?;
        match items(property) {
            Some(items) => fields(page, &format!("{path}[]"), items)?,
            None => fields(page, &path, property)?,
        }
    }
    Ok(())
}

/// What the API server checks beside each field on its own.
fn rules(page: &mut String, schema: &JSONSchemaProps) -> Result<()> {
    let mut told = Vec::new();
    collect_rules("", schema, &mut told);
    if !told.is_empty() {
        writeln!(page, "\nThe API server refuses more:\n")?;
    }
    for (path, message) in told {
        match path.as_str() {
            "" => writeln!(page, "- {message}")?,
            path => writeln!(page, "- `{path}`: {message}")?,
        }
    }
    Ok(())
}

fn collect_rules(path: &str, schema: &JSONSchemaProps, told: &mut Vec<(String, String)>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let message = rule.message.clone().unwrap_or_else(|| rule.rule.clone());
        told.push((path.to_owned(), one_line(&message)));
    }
    for (name, property) in schema.properties.iter().flatten() {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        collect_rules(&path, property, told);
        if let Some(items) = items(property) {
            collect_rules(&format!("{path}[]"), items, told);
        }
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(items) = items(schema) {
        return format!("list of {}", type_of(items));
    }
    if let Some(values) = &schema.enum_ {
        let values = values.iter().filter_map(|value| value.0.as_str());
        let values: Vec<String> = values.map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    let kind = schema.type_.as_deref().unwrap_or("any");
    let range = |what: &str, least: Option<String>, most: Option<String>| match (least, most) {
        (None, None) => String::new(),
        (Some(least), None) => format!(", {what}{least} or more"),
        (None, Some(most)) => format!(", {what}{most} at most"),
        (Some(least), Some(most)) => format!(", {what}{least} to {most}"),
    };
    let number = |bound: Option<f64>| bound.map(|bound| format!("{bound}"));
    format!(
        "{kind}{}",
        range("", number(schema.minimum), number(schema.maximum))
    )
}

/// Text within a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn conditions() -> Result<String> {
    let mut page = HEAD.to_owned();
    page.push_str(
        "# Conditions, and what to do about them\n\n\
         A condition says in its message which field it is about and what to do; this page holds what \
         is the same for all. `kubectl describe` shows conditions, and an instance's also as events.\n\n\
         ## Types\n\n| type | meaning |\n| --- | --- |\n",
    );
    for kind in ConditionType::ALL {
        writeln!(page, "| `{kind}` | {} |", cell(&one_line(kind.about())))?;
    }
    page.push_str("\n## Reasons\n\n| reason | meaning | what to do |\n| --- | --- | --- |\n");
    let mut reasons: Vec<Reason> = Reason::ALL.to_vec();
    reasons.sort_by_key(|reason| reason.as_str());
    for reason in reasons {
        let about = cell(&one_line(reason.about()));
        writeln!(
            page,
            "| `{reason}` | {about} | {} |",
            cell(conditions::what_to_do(reason))
        )?;
    }
    Ok(page)
}
