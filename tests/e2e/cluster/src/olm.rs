//! The Operator Lifecycle Manager (version 0), as OpenShift and OperatorHub have it: its two programs
//! beside the cluster, under the rights of its own ServiceAccount. Catalogs and bundles are images, which it
//! runs as pods.
//!
//! It is built when it is first asked for, apart from the node's programs: a cluster without it does
//! not wait for it, and a change of its versions does not build the node anew.
//!
//! What is applied is what OLM's own chart holds (`deploy/chart/templates` of
//! `operator-framework/operator-lifecycle-manager`), but for the packages API, which only consoles ask.

mod images;
mod programs;
mod scorecard;

use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use self::images::TOOLS_IMAGE;
use crate::layout::write_private;
use crate::start::must;
use crate::{Cluster, background};

pub use self::programs::OlmPrograms;
pub use self::scorecard::SCORECARD_IMAGE;

/// Where OLM lives. Catalogs there are for the whole cluster.
pub const OLM_NAMESPACE: &str = "olm";
/// Where OLM's chart puts operators that are for the whole cluster.
pub const OPERATORS_NAMESPACE: &str = "operators";

/// As whom OLM acts.
const ACCOUNT: &str = "olm-operator-serviceaccount";

/// OLM at work on a cluster.
#[derive(Debug)]
pub struct Olm<'a> {
    cluster: &'a Cluster,
    programs: OlmPrograms,
}

impl Cluster {
    /// Puts OLM to work on this cluster, until it goes down; builds it first where it is missing.
    /// One that works already is taken as it is.
    ///
    /// # Errors
    /// Where it does not build, the API server does not take what it needs, or it ends.
    pub fn olm(&self) -> Result<Olm<'_>> {
        self.full("place to run OLM")?;
        let olm = Olm {
            cluster: self,
            programs: OlmPrograms::built(false)?,
        };
        if PARTS
            .iter()
            .all(|part| background::runs(&self.layout, part))
        {
            return Ok(olm);
        }
        olm.install()?;
        Ok(olm)
    }
}

const PARTS: [&str; 2] = ["olm", "catalog"];

impl Olm<'_> {
    /// OLM's programs.
    #[must_use]
    pub fn programs(&self) -> &OlmPrograms {
        &self.programs
    }

    /// Fails with its last words if a part of OLM has ended.
    ///
    /// # Errors
    /// Names the part.
    pub fn check(&self) -> Result<()> {
        PARTS
            .iter()
            .try_for_each(|part| background::check(&self.cluster.layout, part))
    }

    fn install(&self) -> Result<()> {
        let crds = self.programs.crds().display().to_string();
        self.apply(&["-f", &crds], "")?;
        let arguments = ["wait", "--for=condition=Established", "--timeout=60s", "-f"];
        let output = self.cluster.kubectl(&[&arguments[..], &[&crds]].concat())?;
        must("wait for OLM's definitions", output)?;
        for object in objects() {
            self.apply(&["-f", "-"], &object.to_string())?;
        }
        let user = format!("system:serviceaccount:{OLM_NAMESPACE}:{ACCOUNT}");
        let all = format!("system:serviceaccounts:{OLM_NAMESPACE}");
        let groups = ["system:serviceaccounts", &all];
        let kubeconfig = self.cluster.kubeconfig_for(&user, &groups)?;
        let layout = &self.cluster.layout;
        let tools = layout.at("images/olm-tools.tar");
        self.programs.tools_image(&tools)?;
        self.cluster.load_image(&tools)?;
        // Catalogs are asked by their Services' names.
        let resolver = layout.at("run/resolv.conf");
        let text = format!(
            "nameserver {}\nsearch svc.cluster.local cluster.local\noptions ndots:5\n",
            self.cluster.addresses()?.node
        );
        write_private(&resolver, text.as_bytes())?;
        for part in PARTS {
            let namespace = match part {
                "olm" => OPERATORS_NAMESPACE,
                _ => OLM_NAMESPACE,
            };
            let mut command = Command::new("unshare");
            let with_resolver = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            command
                .args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    with_resolver,
                ])
                .arg(&resolver)
                .arg(self.programs.program(part))
                .args(["--namespace", namespace]);
            // There is no OpenShift to tell of its state.
            command.args(["--writeStatusName", ""]);
            match part {
                "olm" => command.args(["--writePackageServerStatusName", ""]),
                // Its pods are to fit namespaces whose profile is restricted.
                _ => command
                    .args(["--opmImage", TOOLS_IMAGE, "--util-image", TOOLS_IMAGE])
                    .arg("--set-workload-user-id=true"),
            };
            let environment = [
                ("KUBECONFIG", kubeconfig.display().to_string()),
                ("OPERATOR_NAMESPACE", OLM_NAMESPACE.to_owned()),
                ("OPERATOR_NAME", format!("{part}-operator")),
            ];
            background::start(layout, part, &command, &environment)?;
        }
        self.check()
    }

    fn apply(&self, arguments: &[&str], input: &str) -> Result<()> {
        let kubeconfig = self.cluster.kubeconfig();
        let arguments = [&["apply", "--server-side"], arguments].concat();
        let output = self.cluster.kubectl_as(&kubeconfig, &arguments, input)?;
        must("kubectl apply", output)?;
        Ok(())
    }
}

/// Namespaces, rights and OperatorGroups of OLM's chart.
fn objects() -> Vec<Value> {
    let namespace = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })
    };
    let name = "system:controller:operator-lifecycle-manager";
    let read = ["get", "list", "watch"];
    vec![
        namespace(OLM_NAMESPACE),
        namespace(OPERATORS_NAMESPACE),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": OLM_NAMESPACE},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [
                {
                    "apiGroups": ["*"], "resources": ["*"],
                    "verbs": ["watch", "list", "get", "create", "update", "patch", "delete",
                        "deletecollection", "escalate", "bind"],
                },
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("olm-operator-binding-{OLM_NAMESPACE}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": OLM_NAMESPACE}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": "aggregate-olm-edit",
                "labels": {
                    "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                    "rbac.authorization.k8s.io/aggregate-to-edit": "true",
                },
            },
            "rules": [
                {
                    "apiGroups": ["operators.coreos.com"], "resources": ["subscriptions"],
                    "verbs": ["create", "update", "patch", "delete"],
                },
                {
                    "apiGroups": ["operators.coreos.com"],
                    "resources": ["clusterserviceversions", "catalogsources", "installplans", "subscriptions"],
                    "verbs": ["delete"],
                },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": "aggregate-olm-view",
                "labels": {
                    "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                    "rbac.authorization.k8s.io/aggregate-to-edit": "true",
                    "rbac.authorization.k8s.io/aggregate-to-view": "true",
                },
            },
            "rules": [{
                "apiGroups": ["operators.coreos.com"],
                "resources": ["clusterserviceversions", "catalogsources", "installplans", "subscriptions",
                    "operatorgroups"],
                "verbs": read,
            }],
        }),
        json!({"apiVersion": "operators.coreos.com/v1", "kind": "OLMConfig", "metadata": {"name": "cluster"}}),
        json!({
            "apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup",
            "metadata": {"name": "global-operators", "namespace": OPERATORS_NAMESPACE},
        }),
        json!({
            "apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup",
            "metadata": {"name": "olm-operators", "namespace": OLM_NAMESPACE},
            "spec": {"targetNamespaces": [OLM_NAMESPACE]},
        }),
    ]
}
