//! Nobody but the admin writes the Gateway API's definitions, as on OpenShift.

use anyhow::{Context as _, Result, ensure};
use postern_cluster::Channel;
use postern_e2e::platform::kubectl;
use serde_json::json;

use crate::World;

const NAME: &str = "gateway-api-is-the-platforms";
const DENIED: &str = "the Gateway API's definitions belong to the platform";

/// The policy, and how often it had to refuse something when it was put up.
pub struct Guard {
    denials: u64,
}

impl Guard {
    /// Puts the policy up, and shows that it refuses a user who has all rights on definitions.
    pub fn put_up(world: &World<'_>) -> Result<Guard> {
        let who = world.admin(
            &[
                "auth",
                "whoami",
                "-o",
                "jsonpath={.status.userInfo.username}",
            ],
            "",
        )?;
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": NAME},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["*"],
                    "resources": ["customresourcedefinitions"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                }]},
                "matchConditions": [{
                    "name": "gateway-api",
                    "expression": "(has(request.name) && request.name.endsWith('.gateway.networking.k8s.io')) || \
                        (object != null && object.spec.group == 'gateway.networking.k8s.io')",
                }],
                "validations": [{
                    "expression": format!("request.userInfo.username == '{who}'"),
                    "message": DENIED,
                }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": NAME},
            "spec": {"policyName": NAME, "validationActions": ["Deny"]},
        });
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "definitions"},
            "rules": [{
                "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"],
            }],
        });
        let bound = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "definitions"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "definitions"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "olga"}],
        });
        for object in [policy, binding, role, bound] {
            world.admin(&["apply", "--server-side", "-f", "-"], &object.to_string())?;
        }
        let olga = world.cluster.kubeconfig_for("olga", &[])?;
        let own = postern_e2e::tools::repository().join("crds/tenantgrants.postern.dev.yaml");
        let theirs = world
            .cluster
            .gateway_api_crds(Channel::Standard)
            .join("gateway.networking.k8s.io_gatewayclasses.yaml");
        let write = |path: &std::path::Path| {
            let path = path.to_string_lossy();
            kubectl(
                world.cluster,
                &olga,
                &["create", "--dry-run=server", "-f", &path],
                "",
            )
        };
        write(&own).context("a definition that is nobody's")?;
        let mut refusal = String::new();
        world.wait("the policy is in force", || {
            // Until it is in force, the same write is allowed.
            let Err(refused) = write(&theirs) else {
                return Ok(false);
            };
            refusal = format!("{refused:#}");
            Ok(true)
        })?;
        ensure!(refusal.contains(DENIED), "{refusal}");
        let guard = Guard {
            denials: denials(world)?,
        };
        ensure!(guard.denials > 0, "the API server counts no refusals");
        Ok(guard)
    }

    /// Nothing was refused since, nor left undecided.
    pub fn was_never_hit(&self, world: &World<'_>) -> Result<()> {
        let now = denials(world)?;
        ensure!(
            now == self.denials,
            "{} writes of the Gateway API's definitions were refused",
            now - self.denials
        );
        Ok(())
    }
}

/// How often the API server refused something by the policy, as it counts.
fn denials(world: &World<'_>) -> Result<u64> {
    let metrics = world.admin(&["get", "--raw", "/metrics"], "")?;
    let mut sum = 0.0;
    for line in metrics.lines() {
        let series = line.starts_with("apiserver_validating_admission_policy_check_total{");
        if series && line.contains(NAME) && line.contains("enforcement_action=\"deny\"") {
            let number = line.rsplit(' ').next().context("a line without a number")?;
            sum += number.parse::<f64>()?;
        }
    }
    Ok(sum as u64)
}
