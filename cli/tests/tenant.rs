//! The program against a real API server, as a tenant: what the stock role `view` holds on the
//! namespace, ours beside it, and nothing else. No Secret, no Node, nothing of other namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postern_cluster::{Channel, Cluster, Options};
use serde_json::Value;

/// What pages need of the stock role `view` (Kubernetes' `pkg/apis/…/rbac/bootstrappolicy/policy.go`).
/// What a platform adds to it is in `config/tenants`. A cluster without controllers aggregates no rules, so
/// they stand here.
const VIEW: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: stock-view}
rules:
- {apiGroups: [''], resources: [services, pods, configmaps, events], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: stock, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: stock-view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: tenant}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ours, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: postern-view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: tenant}]
";

/// What the operator says of an instance without a grant.
const REFUSED: &str = r#"{"status": {"observedGeneration": 1, "conditions": [
  {"type": "Accepted", "status": "False", "reason": "NotGranted", "observedGeneration": 1,
   "lastTransitionTime": "2026-01-01T00:00:00Z",
   "message": "no TenantGrant covers the namespace shop; an admin would apply:\napiVersion: postern.dev/v1alpha1\nkind: TenantGrant"}]}}"#;

struct World {
    name: String,
    cluster: Cluster,
    tenant: PathBuf,
    directory: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = Cluster::remove(&self.name) {
            eprintln!("cluster {} was not removed: {error:#}", self.name);
        }
    }
}

impl World {
    fn up() -> World {
        let name = format!("cli-{}", std::process::id());
        let options = Options {
            light: true,
            ..Options::default()
        };
        let cluster = Cluster::up(&name, &options).expect("a light cluster");
        let tenant = cluster.kubeconfig_for("tenant", &[]).expect("a user");
        let world = World {
            name,
            cluster,
            tenant,
            directory: tempfile::tempdir().unwrap(),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let theirs = world.cluster.gateway_api_crds(Channel::Standard);
        for path in [
            &root.join("crds"),
            &theirs,
            &root.join("config/tenants/openshift.yaml"),
        ] {
            world.admin(&["apply", "--server-side", "-f", path.to_str().unwrap()]);
        }
        world.admin(&["wait", "--for=condition=Established", "crd", "--all"]);
        world.apply(VIEW);
        let input = root.join("crates/pages/tests/goldens/well/in.yaml");
        world.apply(&fs::read_to_string(input).unwrap());
        world
    }

    fn admin(&self, arguments: &[&str]) -> String {
        let output = self.cluster.kubectl(arguments).expect("kubectl");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn apply(&self, yaml: &str) {
        let path = self.directory.path().join("applied.yaml");
        fs::write(&path, yaml).unwrap();
        self.admin(&["apply", "--server-side", "-f", path.to_str().unwrap()]);
    }

    fn can(&self, arguments: &[&str]) -> bool {
        let whole = [&["auth", "can-i", "--as=tenant"], arguments].concat();
        let output = self.cluster.kubectl(&whole).expect("kubectl");
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kubectl-postern"))
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.tenant)
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.is_empty(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A refusal: exit code 2, one line, nothing on the standard output.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(output.stdout.is_empty());
        errors
    }
}

fn words<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item[field].as_str().unwrap()).collect()
}

#[test]
fn a_tenants_rights_are_enough() {
    let world = World::up();
    assert!(world.can(&["list", "services", "-n", "shop"]));
    assert!(world.can(&["list", "entitlements.postern.dev", "-n", "shop"]));
    for forbidden in [
        ["list", "secrets", "-n", "shop"],
        [
            "get",
            "gatewayclasses.gateway.networking.k8s.io/postern",
            "-n",
            "shop",
        ],
        ["list", "services", "-n", "other"],
        ["get", "leases.coordination.k8s.io", "-n", "postern-system"],
    ] {
        assert!(!world.can(&forbidden), "{forbidden:?}");
    }

    // Nobody has answered: the operator does not run here.
    let page = world.json(&["status", "-n", "shop"], 1);
    assert_eq!(words(&page["instances"], "name"), ["default"]);
    assert_eq!(words(&page["problems"], "reason"), ["NotAnswered"]);
    assert_eq!(words(&page["unknown"], "kind"), ["GatewayClass", "Lease"]);

    let merge = [
        "patch",
        "gatewayinstance",
        "default",
        "-n",
        "shop",
        "--subresource=status",
    ];
    world.admin(&[&merge[..], &["--type=merge", "-p", REFUSED]].concat());
    let page = world.json(&["status", "-n", "shop"], 1);
    assert_eq!(words(&page["problems"], "reason"), ["NotGranted"]);
    assert!(
        page["problems"][0]["yaml"]
            .as_str()
            .unwrap()
            .contains("kind: TenantGrant")
    );
    let text = world.run(&["status", "-n", "shop"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("hand the TenantGrant to your platform's admins"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "colours on what is no terminal");
    let coloured = world.run(&["status", "-n", "shop", "--color", "always"]);
    assert!(coloured.stdout.contains(&0x1b));

    let page = world.json(&["routes", "-n", "shop", "a.shop.example/x"], 1);
    assert_eq!(
        page["entries"],
        serde_json::json!([]),
        "no contract, nothing served"
    );
    let page = world.json(&["explain", "httproute/web", "-n", "shop"], 1);
    assert_eq!(page["way"][0]["what"], "HTTPRoute at default");

    // Of another namespace nothing is known, and that is no error.
    let page = world.json(&["status", "-n", "other"], 0);
    let unknown = words(&page["unknown"], "kind");
    assert!(
        unknown.contains(&"GatewayInstance") && unknown.contains(&"Service"),
        "{unknown:?}"
    );

    assert!(
        world
            .refused(&["status", "-A"])
            .contains("you may not list gatewayinstances")
    );
    assert!(
        world
            .refused(&["explain", "httproute/absent", "-n", "shop"])
            .contains("there is web")
    );
    assert!(
        world
            .refused(&["explain", "web", "-n", "shop"])
            .contains("KIND/NAME")
    );
    assert!(
        world
            .refused(&["routes", "a b", "-n", "shop"])
            .contains("names no host")
    );
    assert!(
        world
            .refused(&["status", "--context", "absent"])
            .contains("kubeconfig")
    );
}
