//! What each user may read and write, asked of the API server with tokens and certificates of their own.

use anyhow::{Context as _, Result, ensure};
use postern_e2e::platform::SYSTEM;

use crate::world::{CONTROL_PLANE, ENTITLEMENT, Who, World};

pub fn run(world: &World) -> Result<()> {
    control_plane(world)?;
    operator(world)?;
    tenant(world)
}

/// The token of team-a's control plane, as its tenant can mint it.
fn control_plane(world: &World) -> Result<()> {
    let token = world.token(Who::Tenant(0), "team-a", CONTROL_PLANE)?;
    let account = Who::Config(&token);
    let unused = "apiVersion: v1\nkind: Secret\nmetadata: {name: unused, namespace: team-a}\nstringData: {a: b}";
    world.apply(Who::Tenant(0), unused)?;

    // Of its own namespace: the kinds that it needs, and the Secret that a listener names.
    world.may(
        account,
        &["-n", "team-a", "get", "secret", "team-a-tls"],
        "",
    )?;
    for kind in ["services", "endpointslices", "gateways", "httproutes"] {
        world.may(account, &["-n", "team-a", "get", kind], "")?;
    }
    world.may(
        account,
        &["-n", "team-a", "get", "entitlement", ENTITLEMENT],
        "",
    )?;
    // But no other Secret, nor all of them.
    world.may_not(account, &["-n", "team-a", "get", "secret", "unused"], "")?;
    world.may_not(account, &["-n", "team-a", "get", "secrets"], "")?;
    // Nor may it write what the operator decided.
    world.may_not(account, &WRITE_STATUS, &status_of_entitlement())?;

    // Of the other team: no list of any kind that the API server has.
    let kinds = world.may(
        Who::Admin,
        &[
            "api-resources",
            "--namespaced",
            "--verbs=list",
            "-o",
            "name",
        ],
        "",
    )?;
    ensure!(kinds.lines().count() > 20, "few kinds: {kinds}");
    for needed in [
        "secrets",
        "services",
        "configmaps",
        "endpointslices.discovery.k8s.io",
        "gateways.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
    ] {
        ensure!(kinds.lines().any(|kind| kind == needed), "no kind {needed}");
    }
    for kind in kinds.lines() {
        world.may_not(account, &["-n", "team-b", "get", kind], "")?;
    }
    let cluster_wide = ["get", "services", "--all-namespaces"];
    world.may_not(account, &cluster_wide, "")?;
    world.may(
        Who::Tenant(0),
        &["-n", "team-a", "delete", "secret", "unused"],
        "",
    )?;
    Ok(())
}

/// The operator's token reads no Secret anywhere; a patch would be a read too.
fn operator(world: &World) -> Result<()> {
    let account = world.value(
        SYSTEM,
        "deployment/postern-operator",
        "{.spec.template.spec.serviceAccountName}",
    )?;
    let token = world.token(Who::Admin, SYSTEM, &account)?;
    let operator = Who::Config(&token);
    world.may(operator, &["get", "deployments", "--all-namespaces"], "")?;
    world.may_not(operator, &["get", "secrets", "--all-namespaces"], "")?;
    let namespaces = world.may(operator, &["get", "namespaces", "-o", "name"], "")?;
    ensure!(namespaces.contains("namespace/team-b"), "{namespaces}");
    for namespace in namespaces
        .lines()
        .filter_map(|line| line.strip_prefix("namespace/"))
    {
        let dry = [
            "-n",
            namespace,
            "apply",
            "--server-side",
            "--dry-run=server",
            "-f",
            "-",
        ];
        let object = |kind: &str| {
            format!(
                "apiVersion: v1\nkind: {kind}\nmetadata: {{name: team-a-tls, namespace: {namespace}}}"
            )
        };
        let list = format!("/api/v1/namespaces/{namespace}/secrets");
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let watch = "?watch=true&timeoutSeconds=1";
        // Each act, first on what it needs.
        world.may(operator, &["get", "--raw", &services], "")?;
        world.may(
            operator,
            &["get", "--raw", &format!("{services}{watch}")],
            "",
        )?;
        world.may(operator, &dry, &object("ServiceAccount"))?;
        for (path, verb) in [
            (format!("{list}/team-a-tls"), "get"),
            (list.clone(), "list"),
            (format!("{list}{watch}"), "watch"),
        ] {
            let said = world.may_not(operator, &["get", "--raw", &path], "")?;
            ensure!(
                said.contains(&format!("cannot {verb} resource \"secrets\"")),
                "{said}"
            );
        }
        let said = world.may_not(operator, &dry, &object("Secret"))?;
        ensure!(said.contains("cannot patch resource \"secrets\""), "{said}");
    }
    Ok(())
}

/// A user with the stock role `edit` in team-a.
fn tenant(world: &World) -> Result<()> {
    let ann = Who::Tenant(0);
    // Metadata of the Entitlement is the tenant's to write, its status is not.
    let annotate = [
        "-n",
        "team-a",
        "annotate",
        "--overwrite",
        "entitlement",
        ENTITLEMENT,
    ];
    world.may(ann, &[&annotate[..], &["example.com/by=ann"]].concat(), "")?;
    let said = world.may_not(ann, &WRITE_STATUS, &status_of_entitlement())?;
    ensure!(
        said.contains("cannot patch resource \"entitlements/status\""),
        "{said}"
    );
    let ports = world.value(
        "team-a",
        &format!("entitlement/{ENTITLEMENT}"),
        "{.status.gateways[*].ports[*].containerPort}",
    )?;
    ensure!(!ports.is_empty(), "the Entitlement has no ports");
    world.may(ann, &[&annotate[..], &["example.com/by-"]].concat(), "")?;

    // Gateways are read-only, as on OpenShift.
    let dry = [
        "-n",
        "team-a",
        "apply",
        "--server-side",
        "--dry-run=server",
        "-f",
        "-",
    ];
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: mine, namespace: team-a}\nspec: {parentRefs: [{name: default}]}";
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: mine, namespace: team-a}\nspec: {gatewayClassName: postern, listeners: [{name: http, port: 80, protocol: HTTP}]}";
    world.may(ann, &["-n", "team-a", "get", "gateways"], "")?;
    world.may(ann, &dry, route)?;
    world.may_not(ann, &dry, gateway)?;

    // Nothing of the other team, the admin or the operator.
    for kind in [
        "secrets",
        "services",
        "pods",
        "httproutes",
        "gatewayinstances",
        "entitlements",
    ] {
        world.may(ann, &["-n", "team-a", "get", kind], "")?;
        world.may_not(ann, &["-n", "team-b", "get", kind], "")?;
        world.may_not(ann, &["-n", SYSTEM, "get", kind], "")?;
    }
    world.may_not(ann, &["get", "tenantgrants"], "")?;
    world.may(ann, &["-n", "team-a", "create", "token", CONTROL_PLANE], "")?;
    let said = world.may_not(ann, &["-n", "team-b", "create", "token", CONTROL_PLANE], "")?;
    said.contains("serviceaccounts").then_some(()).context(said)
}

/// A write of an Entitlement's status, of which kubectl reads nothing before.
const WRITE_STATUS: [&str; 6] = [
    "apply",
    "--server-side",
    "--force-conflicts",
    "--subresource=status",
    "-f",
    "-",
];

fn status_of_entitlement() -> String {
    format!(
        "apiVersion: postern.dev/v1alpha1\nkind: Entitlement\nmetadata: {{name: {ENTITLEMENT}, namespace: team-a}}\nstatus: {{gateways: []}}"
    )
}
