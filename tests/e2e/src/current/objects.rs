//! What is applied to a cluster that is not ours, with the mark by which it is known again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::context::Context;
use crate::platform::Ask;

/// The mark: a label on everything that is of no namespace, and on namespaces.
pub const MARK: (&str, &str) = ("postern.dev/made-by", "make-run");

/// The objects in a text of YAML documents.
pub(super) fn objects(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(Value::is_object).collect())
}

/// The objects in a file, or in the YAML files of a folder.
pub(super) fn read(path: &Path) -> Result<Vec<Value>> {
    let mut files: Vec<PathBuf> = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        files = entries.into_iter().map(|entry| entry.path()).collect();
        // A list of the others, which is no object of a cluster.
        files.retain(|file| {
            let is_yaml = file.extension().is_some_and(|end| end == "yaml");
            is_yaml && file.file_stem().is_some_and(|stem| stem != "kustomization")
        });
        files.sort();
    }
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        all.extend(objects(&text).with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

/// Puts the mark on objects.
pub(super) fn marked(mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        object["metadata"]["labels"][MARK.0] = MARK.1.into();
    }
    objects
}

/// Applies objects. What others wrote into them is a conflict, and not taken over.
pub(super) fn apply(context: &Context, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = [
        "apply",
        "--server-side",
        "--field-manager=postern-make-run",
        "-f",
        "-",
    ];
    context.told(&arguments, &list.to_string()).map(|_| ())
}

/// Waits until the API server serves the kinds of those definitions that are among the objects.
pub(super) fn served(context: &Context, objects: &[Value]) -> Result<()> {
    let names: Vec<String> = objects
        .iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .filter_map(|object| Some(format!("crd/{}", object["metadata"]["name"].as_str()?)))
        .collect();
    let mut arguments = vec!["wait", "--for=condition=Established", "--timeout=60s"];
    arguments.extend(names.iter().map(String::as_str));
    context.told(&arguments, "").map(|_| ())
}
