//! What `operator-sdk scorecard` runs against the bundle: its basic suite and its OLM suite.

use postern_cluster::SCORECARD_IMAGE;
use serde_json::{Value, json};

const TESTS: [(&str, &str); 6] = [
    ("basic", "basic-check-spec"),
    ("olm", "olm-bundle-validation"),
    ("olm", "olm-crds-have-validation"),
    ("olm", "olm-crds-have-resources"),
    ("olm", "olm-spec-descriptors"),
    ("olm", "olm-status-descriptors"),
];

/// `tests/scorecard/config.yaml`.
pub(super) fn config() -> Value {
    let tests: Vec<Value> = TESTS
        .iter()
        .map(|(suite, test)| {
            json!({
                "image": SCORECARD_IMAGE,
                "entrypoint": ["scorecard-test", test],
                "labels": { "suite": suite, "test": format!("{test}-test") },
                "storage": { "spec": { "mountPath": {} } },
            })
        })
        .collect();
    json!({
        "apiVersion": "scorecard.operatorframework.io/v1alpha3",
        "kind": "Configuration",
        "metadata": { "name": "config" },
        "stages": [{ "parallel": true, "tests": tests }],
        "storage": { "spec": { "mountPath": {} } },
    })
}
