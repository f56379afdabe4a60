//! A team that applies a Gateway and a route, and nothing of Postern's.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use postern_e2e::platform::give_tenants;

use crate::instances::cluster_ip;
use crate::world::{Who, World, example};

const TEAM: &str = "team-c";
const HOST: &str = "www.team-c.example";

/// What the platform gives the team: the stock role, hostnames, and a template.
const PLATFORM: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: team-c, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenants, namespace: team-c}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: team-c}]
---
apiVersion: postern.dev/v1alpha1
kind: TenantGrant
metadata: {name: team-c}
spec:
  namespaces: {names: [team-c]}
  hostnames: ['*.team-c.example']
  exposures: [ClusterIP]
  instanceTemplate: {}
";

/// All that the team applies, beside its backend.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: team-c}
spec:
  gatewayClassName: postern
  listeners: [{name: http, port: 80, protocol: HTTP}]
";
const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: www, namespace: team-c}
spec:
  parentRefs: [{name: web}]
  hostnames: [www.team-c.example]
  rules: [{backendRefs: [{name: api, port: 8080}]}]
";

pub fn run(world: &World) -> Result<()> {
    world.apply(Who::Admin, PLATFORM)?;
    let tenant = world.cluster().kubeconfig_for("cat", &[TEAM])?;
    let tenant = Who::Config(&tenant);
    // On OpenShift's terms the platform alone makes Gateways.
    world.may(tenant, &["-n", TEAM, "get", "gateways"], "")?;
    world.may_not(tenant, &["create", "-f", "-"], GATEWAY)?;
    give_tenants(world.cluster(), "kubernetes")?;
    let done = served(world, tenant);
    let back = give_tenants(world.cluster(), "openshift");
    for object in ["tenantgrant", "namespace"] {
        world.may(Who::Admin, &["delete", object, TEAM, "--wait=false"], "")?;
    }
    done.and(back)
}

fn served(world: &World, tenant: Who<'_>) -> Result<()> {
    let backend = fs::read_to_string(example("cluster/team-b.yaml"))?.replace("team-b", TEAM);
    world.apply(tenant, &backend)?;
    world.apply(tenant, ROUTE)?;
    world.wait("the tenant may make Gateways", || {
        let arguments = ["apply", "--server-side", "-f", "-"];
        Ok(world.ask(tenant, &arguments, GATEWAY)?.status.success())
    })?;
    let mut at: Option<SocketAddr> = None;
    world.wait("the Gateway has an address", || {
        at = cluster_ip(world, TEAM, "web", 80).ok();
        Ok(at.is_some())
    })?;
    if let Some(at) = at {
        world.wait_for_answer(at, HOST, "/", |status, body| {
            status == 200 && body.contains("api")
        })?;
    }
    let owners = "{.metadata.ownerReferences[*].kind}/{.metadata.ownerReferences[*].name}";
    let owners = world.value(TEAM, "gatewayinstance/default", owners)?;
    ensure!(owners == "Gateway/web", "it is owned by {owners}");
    // With the Gateway goes what was made for it.
    world.may(tenant, &["-n", TEAM, "delete", "gateway", "web"], "")?;
    world.wait("nothing of the gateway is left", || {
        let list = [
            "-n",
            TEAM,
            "get",
            "gatewayinstances,deployments",
            "-o",
            "name",
        ];
        Ok(world.may(tenant, &list, "")?.trim() == "deployment.apps/api")
    })
}
