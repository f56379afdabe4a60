//! Goldens: `tests/goldens/*.yaml`, each with its input and its output. Run with
//! `UPDATE_GOLDENS=1` to write the outputs anew, and read the diff.

use std::fs;
use std::path::{Path, PathBuf};

use postern_api::instance::Granted;
use postern_api::{EntitlementStatus, GatewayInstance};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Instance, Observed, Settings, stamp};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    about: String,
    instance: GatewayInstance,
    entitlement: EntitlementStatus,
    #[serde(default)]
    granted: Granted,
    settings: Settings,
    #[serde(default)]
    observed: Observed,
    /// What is stamped.
    #[serde(default)]
    objects: Vec<Value>,
    /// Or why nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

fn goldens() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    found.sort();
    found
}

#[test]
fn stamps_are_as_in_the_goldens() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let paths = goldens();
    assert!(paths.len() >= 4, "goldens are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let mut case: Case = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let metadata = &case.instance.metadata;
        let instance = Instance {
            namespace: metadata.namespace.as_deref().unwrap(),
            name: metadata.name.as_deref().unwrap(),
            uid: metadata.uid.as_deref().unwrap(),
            spec: &case.instance.spec,
            granted: &case.granted,
        };
        let (objects, refused) =
            match stamp(&instance, &case.entitlement, &case.settings, &case.observed) {
                Ok(stamped) => (stamped.into_iter().map(|one| one.object).collect(), None),
                Err(refused) => (Vec::new(), Some(refused.to_string())),
            };
        if (&objects, &refused) == (&case.objects, &case.refused) {
            continue;
        }
        (case.objects, case.refused) = (objects, refused);
        if update {
            fs::write(&path, serde_saphyr::to_string(&case).unwrap()).unwrap();
        } else {
            wrong.push(path);
        }
    }
    assert!(
        wrong.is_empty(),
        "not as in {wrong:#?}; UPDATE_GOLDENS=1 writes them anew"
    );
}
