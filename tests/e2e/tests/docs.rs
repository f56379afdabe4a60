//! Every YAML block of the documentation, as a reader would use it: an API server takes it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use postern_cluster::{Channel, Cluster, Gone, Options};
use postern_e2e::docs::pages;
use postern_e2e::tools;

#[test]
fn an_api_server_takes_what_pages_show() {
    let name = format!("docs-{}", std::process::id());
    let options = Options {
        light: true,
        ..Options::default()
    };
    let _gone = Gone(name.clone());
    let cluster = Cluster::up(&name, &options).unwrap();
    let kubeconfig = cluster.kubeconfig();
    let kubectl = |arguments: &[&str], input: &str, what: &str| {
        let output = cluster.kubectl_as(&kubeconfig, arguments, input).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {errors}\n{input}");
        assert!(!errors.contains("Warning"), "{what}: {errors}\n{input}");
    };
    for folder in [
        tools::repository().join("crds"),
        cluster.gateway_api_crds(Channel::Standard),
    ] {
        let folder = folder.display().to_string();
        let arguments = ["apply", "--server-side", "-f", &folder];
        kubectl(&arguments, "", "CRDs");
    }
    kubectl(
        &["wait", "--for=condition=Established", "crd", "--all"],
        "",
        "CRDs",
    );
    let mut namespaces = BTreeSet::from(["default"]);
    for page in pages().unwrap() {
        for block in &page.blocks {
            // Who reads a page has a namespace already.
            for team in ["team-a", "team-b"] {
                if block.contains(&format!("namespace: {team}")) && namespaces.insert(team) {
                    kubectl(&["create", "namespace", team], "", &page.name);
                }
            }
            let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
            kubectl(&arguments, block, &page.name);
        }
    }
}
