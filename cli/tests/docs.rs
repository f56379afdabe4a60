//! Every YAML block of the documentation: Postern finds nothing wrong with it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use postern_e2e::docs::pages;
use serde_json::Value;

/// What a page leaves to others: the reader's own backends and certificates.
const OF_OTHERS: [&str; 2] = ["BackendNotFound", "InvalidCertificateRef"];

/// What an administrator would have granted to the reader of a page that speaks of tenants alone.
const GRANT: &str = "
apiVersion: postern.dev/v1alpha1
kind: TenantGrant
metadata: {name: reader}
spec:
  namespaces: {names: [team-a]}
  hostnames: ['*.team-a.example']
  exposures: [ClusterIP, NodePort, LoadBalancer, Route]
";

#[test]
fn postern_finds_nothing_wrong_with_what_pages_show() {
    let pages = pages().unwrap();
    let count: usize = pages.iter().map(|page| page.blocks.len()).sum();
    assert!(
        count >= 15,
        "{count} blocks: the pages are not where they were"
    );
    for page in pages {
        let folder = tempfile::tempdir().unwrap();
        for (number, block) in page.blocks.iter().enumerate() {
            fs::write(folder.path().join(format!("{number}.yaml")), block).unwrap();
        }
        fs::write(folder.path().join("grant.yaml"), GRANT).unwrap();
        let report = check(folder.path());
        // What Postern does not read (the platform's own kinds) is a note.
        for file in report["files"].as_array().unwrap() {
            assert_eq!(file["severity"], "note", "{}: {file}", page.name);
        }
        for instance in report["instances"].as_array().unwrap() {
            assert_eq!(instance["accepted"], true, "{}: {instance}", page.name);
            assert_eq!(instance["problems"], serde_json::json!([]), "{}", page.name);
        }
        for object in report["objects"].as_array().unwrap() {
            assert_eq!(object["problems"], serde_json::json!([]), "{}", page.name);
            let conditions = object["conditions"].as_array().unwrap().iter();
            let wrong: Vec<&Value> = conditions
                .filter(|condition| condition["wrong"] == true)
                .collect();
            // What waits for a certificate is not ready either.
            let excused = wrong.is_empty()
                || wrong.iter().any(|condition| {
                    OF_OTHERS.contains(&condition["reason"].as_str().unwrap_or_default())
                });
            assert!(excused, "{}: {} {wrong:?}", page.name, object["name"]);
        }
    }
}

fn check(folder: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-postern"))
        .args(["check", "-o", "json", "-f"])
        .arg(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}
