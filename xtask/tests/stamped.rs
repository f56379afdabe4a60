//! What is stamped, written to a real API server by a user who has the operator's rights as they
//! are in `config/`, and read back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use postern_cluster::{Channel, Cluster, Options};
use serde_json::{Value, json};

/// The operator's field manager.
const MANAGER: &str = "--field-manager=postern-operator";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A light cluster that goes with this value.
struct Own {
    cluster: Cluster,
    operator: PathBuf,
}

impl Own {
    fn up() -> Own {
        let name = format!("stamped-{}", std::process::id());
        let options = Options {
            light: true,
            quiet: true,
            ..Options::default()
        };
        let cluster = Cluster::up(&name, &options).unwrap();
        let operator = cluster.kubeconfig_for("operator", &[]).unwrap();
        let own = Own { cluster, operator };
        let gateway_api = own.cluster.gateway_api_crds(Channel::Standard);
        own.admin(&["create", "-f", gateway_api.to_str().unwrap()]);
        own.admin(&["create", "-f", root().join("crds").to_str().unwrap()]);
        own.admin(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd",
            "--all",
        ]);
        for role in ["20-operator-role", "30-postern-controlplane-reader"] {
            own.admin(&[
                "create",
                "-f",
                root().join(format!("config/{role}.yaml")).to_str().unwrap(),
            ]);
        }
        own.admin(&[
            "create",
            "clusterrolebinding",
            "operator",
            "--clusterrole=postern-operator",
            "--user=operator",
        ]);
        own
    }

    fn admin(&self, arguments: &[&str]) -> String {
        done(&self.cluster.kubectl(arguments).unwrap())
    }

    fn operator(&self, arguments: &[&str], input: &str) -> Output {
        self.cluster
            .kubectl_as(&self.operator, arguments, input)
            .unwrap()
    }

    fn apply(&self, object: &Value) -> Value {
        let arguments = ["apply", "--server-side", MANAGER, "-o", "json", "-f", "-"];
        let answer = done(&self.operator(&arguments, &object.to_string()));
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = Cluster::remove(self.cluster.name().as_str()) {
            eprintln!("{error:#}");
        }
    }
}

fn done(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The objects of a golden, in a namespace of their own.
fn golden(path: &Path, namespace: &str) -> Vec<Value> {
    let text = fs::read_to_string(path)
        .unwrap()
        .replace("team-a", namespace);
    let case: Value = serde_saphyr::from_str(&text).unwrap();
    case["objects"].as_array().unwrap().clone()
}

/// Takes away what a cluster gives to a Service that did not ask for it.
fn without_given(mut live: Value, wanted: &Value) -> Value {
    let Value::Object(spec) = &mut live else {
        return live;
    };
    for field in [
        "clusterIP",
        "clusterIPs",
        "healthCheckNodePort",
        "ipFamilies",
        "ipFamilyPolicy",
    ] {
        spec.remove(field);
    }
    for (position, port) in spec["ports"].as_array_mut().unwrap().iter_mut().enumerate() {
        if wanted["ports"][position].get("nodePort").is_none() {
            port.as_object_mut().unwrap().remove("nodePort");
        }
    }
    live
}

#[test]
fn an_api_server_takes_what_is_stamped_and_gives_it_back_unchanged() {
    let own = Own::up();
    // OpenShift's own definition of Routes, and its check of who may choose a host.
    postern_edge::install_routes(&own.cluster).unwrap();
    let goldens = root().join("crates/stamp/tests/goldens");
    let mut paths: Vec<PathBuf> = fs::read_dir(goldens)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut compared = 0;
    for (number, path) in paths.iter().enumerate() {
        let namespace = format!("tenant-{number}");
        own.admin(&["create", "namespace", &namespace]);
        for wanted in golden(path, &namespace) {
            let live = own.apply(&wanted);
            let kind = wanted["kind"].as_str().unwrap();
            for (field, value) in wanted.as_object().unwrap() {
                if ["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
                    continue;
                }
                let found = match (kind, &live[field]) {
                    ("Service", spec) => without_given(spec.clone(), value),
                    // A Role without rules.
                    (_, Value::Null) => json!([]),
                    (_, found) => found.clone(),
                };
                assert_eq!(
                    &found,
                    value,
                    "{}: {kind} {}",
                    path.display(),
                    wanted["metadata"]["name"]
                );
                compared += 1;
            }
            // Applies are no way to keep a Gateway: each one is a write, since its definition has
            // defaults in lists. The operator reads and compares first.
            if kind != "Gateway" {
                let again = own.apply(&wanted);
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                assert_eq!(version(&again), version(&live), "{kind} is written again");
            }
        }
    }
    assert!(compared > 50, "{compared}");
    the_operator_reads_no_secret(&own, "tenant-0");
}

/// Each refusal is preceded by an act that the same user may do.
fn the_operator_reads_no_secret(own: &Own, namespace: &str) {
    own.admin(&[
        "create",
        "secret",
        "generic",
        "cert",
        "-n",
        namespace,
        "--from-literal=key=secret",
    ]);
    done(&own.operator(&["get", "deployments", "-n", namespace], ""));
    let patch = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
    for refused in [
        vec!["get", "secret", "cert", "-n", namespace],
        vec!["get", "secrets", "-n", namespace],
        vec![
            "patch",
            "secret",
            "cert",
            "-n",
            namespace,
            "--dry-run=server",
            "-o",
            "yaml",
            "-p",
            &patch,
        ],
        vec![
            "create",
            "token",
            "postern-web-controlplane",
            "-n",
            namespace,
        ],
    ] {
        let answer = own.operator(&refused, "");
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(
            !answer.status.success() && said.contains("orbidden"),
            "{refused:?}: {said}"
        );
    }
}
