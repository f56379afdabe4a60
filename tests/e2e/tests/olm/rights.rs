//! The operator runs under exactly the rights that its bundle asks for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use postern_e2e::olm::Version;
use postern_e2e::platform::SYSTEM;
use serde_json::Value;

use crate::{OPERATOR_PODS, World, csv};

/// What is bound to the ServiceAccount of the operator's pod is what stands in the
/// ClusterServiceVersion, no less and no more.
pub fn are_those_of_the_bundle(world: &World<'_>, version: &Version) -> Result<()> {
    let pods = world.json(&["-n", SYSTEM, "pods", "-l", OPERATOR_PODS])?;
    let account = pods["items"][0]["spec"]["serviceAccountName"]
        .as_str()
        .context("no pod of the operator")?
        .to_owned();
    let csv = csv(world, version)?;
    let mut asked = BTreeSet::new();
    for list in ["clusterPermissions", "permissions"] {
        let permissions = csv["spec"]["install"]["spec"][list].as_array();
        for permission in permissions.context("no permissions")? {
            ensure!(
                permission["serviceAccountName"] == *account,
                "{permission} is of another account than {account}"
            );
            asked.extend(rules(permission));
        }
    }
    let mut bound = BTreeSet::new();
    for kind in ["clusterrolebindings", "rolebindings"] {
        let bindings = world.json(&["-A", kind])?;
        for binding in bindings["items"].as_array().context("no bindings")? {
            let is_ours = |subject: &Value| {
                subject["kind"] == "ServiceAccount"
                    && subject["name"] == *account
                    && subject["namespace"] == SYSTEM
            };
            let subjects = binding["subjects"].as_array();
            if !subjects.is_some_and(|subjects| subjects.iter().any(is_ours)) {
                continue;
            }
            let role = &binding["roleRef"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&role["kind"]).to_lowercase(), text(&role["name"]));
            let namespace = text(&binding["metadata"]["namespace"]);
            let namespace = if namespace.is_empty() {
                SYSTEM.into()
            } else {
                namespace
            };
            ensure!(namespace == SYSTEM, "bound in {namespace}: {binding}");
            bound.extend(rules(&world.json(&["-n", &namespace, &kind, &name])?));
        }
    }
    ensure!(!asked.is_empty(), "the bundle asks for nothing");
    // OLM lets every operator keep its own condition (OperatorCondition), in the operator's namespace.
    let own = |rule: &String| !rule.contains("\"operators.coreos.com\"");
    let bound: BTreeSet<String> = bound.into_iter().filter(own).collect();
    ensure!(
        bound == asked,
        "too much: {:?}; missing: {:?}",
        bound.difference(&asked),
        asked.difference(&bound)
    );
    Ok(())
}

/// Its rules, each as one text.
fn rules(role: &Value) -> Vec<String> {
    let rules = role["rules"].as_array();
    rules.into_iter().flatten().map(Value::to_string).collect()
}
