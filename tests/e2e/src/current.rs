//! Two teams on the cluster of the current kubeconfig context: `make run CLUSTER=current`.
//!
//! The cluster is somebody's. Whatever is made there bears a mark ([`MARK`]) or lies in a namespace
//! that bears it; what is there without it is refused before anything is written, and [`stop`] removes
//! what bears it. It is asked by the person's own kubectl: kubeconfigs hold ways to log in that only
//! that knows.

mod answers;
mod context;
mod delivery;
mod made;
mod objects;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use postern_cluster::Channel;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use self::context::Context;
pub use self::delivery::Delivery;
pub use self::made::Removed;
pub use self::objects::MARK;

use self::made::{GATEWAY_API, Served};
use self::objects::{apply, marked, read};
use crate::demo::{self, TEAMS};
use crate::images::{self, reference};
use crate::platform::{self, Ask, with_local_images};
use crate::push::Named;
use crate::tools::repository;

/// The oldest minor version of Kubernetes 1 that Postern is for.
const OLDEST: u32 = 32;
/// Kinds of the Gateway API that are needed.
const NEEDED: [&str; 3] = ["gatewayclasses", "gateways", "httproutes"];
/// The users of the teams. Nobody has to know them: the administrator acts as they would.
const USERS: [&str; 2] = ["ann", "ben"];
/// Ports on this machine for the lines that a person tries: team-a's HTTP and HTTPS, team-b's HTTP.
const PORTS: [u16; 3] = [18080, 18443, 18081];

/// Leaves two teams served on a cluster. What is there of an earlier run is taken up. `tell` hears a
/// line a stage.
///
/// # Errors
/// In a line, before anything is built or written, where the cluster does not fit or something of ours
/// would take the place of something of others; else where a part does not come up. What was made by
/// then stays, to be looked at.
pub fn up(
    context: &Context,
    delivery: &Delivery,
    profile: &str,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let served = fitting(context)?;
    let gateway_api = gateway_api(context, &served)?;
    let base = platform::base(context)?;
    let tenants = tenants(served.is_openshift())?;
    let planned = [
        gateway_api.clone(),
        operator(&base, reference)?,
        tenants.clone(),
    ]
    .concat();
    made::all_known(&planned, &made::namespaces())?;
    made::refuse_others(context, &served, &planned)?;
    tell("the cluster fits, and nothing of others is in the way");

    let images = images::build(&images::default_dir()?, profile, tell)?;
    let named = delivery.deliver(&images, tell)?;
    // Building takes minutes: somebody may have come meanwhile.
    made::refuse_others(context, &served, &planned)?;
    if gateway_api.is_empty() {
        tell("the Gateway API's definitions are there and used as they are");
    } else {
        apply(context, &gateway_api)?;
        tell("there were no definitions of the Gateway API: the standard channel is applied");
    }
    let objects = operator(&base, |target| named.of(target))?;
    apply(context, &objects)?;
    objects::served(context, &objects)?;
    demo::operator_runs(context)?;
    tell("the operator runs");
    apply(context, &tenants)?;
    for (team, user) in TEAMS.iter().zip(USERS) {
        act_as_tenant(context, team, user, &named)?;
    }
    tell("both teams applied their files, each as a user of its own namespace");
    for team in TEAMS {
        demo::served(context, team)?;
    }
    tell("both gateways are programmed, and say so in their conditions");
    tell(&answers::asked(context)?);
    Ok(())
}

/// Removes what [`up`] made, and nothing else.
///
/// # Errors
/// Where others use what would go, before anything is removed; or something does not go in time.
pub fn stop(context: &Context, tell: &dyn Fn(&str)) -> Result<Removed> {
    reached(context)?;
    let removed = made::remove(context, tell)?;
    let state = state(context)?;
    if state.exists() {
        fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
    }
    Ok(removed)
}

/// Whether the cluster has OLM, and what to do: an installation by OLM is not made here.
///
/// # Errors
/// Where the cluster cannot be asked.
pub fn about_olm(context: &Context) -> Result<String> {
    reached(context)?;
    let kind = "subscriptions.operators.coreos.com";
    let about = match Served::by(context)?.has(kind) {
        true => format!(
            "has OLM (it serves {kind}), which installs a released catalog as docs/olm.md says"
        ),
        false => format!("has no OLM (it serves no {kind})"),
    };
    Ok(format!(
        "INSTALL=olm: {} {about}; images that are built here are installed from config/: leave INSTALL out",
        context.about()
    ))
}

/// The namespaces that are made: the operator's, and the teams'.
#[must_use]
pub fn namespaces() -> Vec<&'static str> {
    made::namespaces()
}

/// Lines for a shell that lead to the two teams, and show what they serve.
///
/// # Errors
/// Where there is no cache folder.
pub fn lines(context: &Context) -> Result<Vec<(&'static str, String)>> {
    let kubectl = context.line();
    let [a, tls, b] = PORTS;
    let service = postern_api::names::gateway_service("default");
    let mut lines = vec![
        (
            "ports of this machine that lead to both gateways, until they are ended",
            format!(
                "{kubectl} -n team-a port-forward service/{service} {a}:80 {tls}:443 &\n\
                 {kubectl} -n team-b port-forward service/{service} {b}:80 &"
            ),
        ),
        (
            "or, from where the nodes are reached: their addresses, and the gateway's NodePorts",
            format!("{kubectl} get nodes -o wide; {kubectl} -n team-a get service {service}"),
        ),
    ];
    lines.extend(crate::local::lines(a, tls, b, &certificate(context)?));
    lines.push((
        "what team-a sees",
        format!("{kubectl} -n team-a get gatewayinstances,gateways,httproutes --as ann --as-group team-a"),
    ));
    Ok(lines)
}

/// Asks whether the cluster answers at all.
fn reached(context: &Context) -> Result<Value> {
    let arguments = ["version", "-o", "json", "--request-timeout=20s"];
    let output = context.ask(&arguments, "")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.trim().lines().last().unwrap_or("no answer").to_owned();
    ensure!(
        output.status.success(),
        "{} cannot be asked: {why}",
        context.about()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the cluster serves, if it is one that this can be tried on.
fn fitting(context: &Context) -> Result<Served> {
    let version = reached(context)?;
    let version = &version["serverVersion"];
    ensure!(
        is_new_enough(version),
        "{} is Kubernetes {}: Postern needs 1.{OLDEST} or newer",
        context.about(),
        version["gitVersion"].as_str().unwrap_or("unknown")
    );
    let may = context.ask(&["auth", "can-i", "*", "*", "--all-namespaces"], "")?;
    ensure!(
        may.status.success(),
        "definitions, roles and namespaces are made, and users acted as: that needs a cluster's \
         administrator, and `{} auth can-i '*' '*' --all-namespaces` says no",
        context.line()
    );
    let path = "jsonpath={.items[*].status.nodeInfo.architecture}";
    let nodes = context.told(&["get", "nodes", "-o", path], "")?;
    let ours = postern_cluster::architecture();
    ensure!(
        nodes.split_whitespace().any(|node| node == ours),
        "images are built here, for {ours}; the cluster's nodes are of {nodes:?}"
    );
    Served::by(context)
}

fn is_new_enough(version: &Value) -> bool {
    let number = |field: &str| -> Option<u32> {
        // Some say `32+`.
        version[field].as_str()?.trim_end_matches('+').parse().ok()
    };
    match (number("major"), number("minor")) {
        (Some(1), Some(minor)) => minor >= OLDEST,
        (Some(major), Some(_)) => major > 1,
        _ => false,
    }
}

/// The Gateway API's definitions, if they are to be applied: only where none are, and never on
/// OpenShift, whose own they are.
fn gateway_api(context: &Context, served: &Served) -> Result<Vec<Value>> {
    let missing: Vec<String> = NEEDED
        .iter()
        .map(|kind| format!("{kind}{GATEWAY_API}"))
        .filter(|name| !served.has(name))
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if served.is_openshift() {
        bail!(
            "this is OpenShift without {}, and its definitions of the Gateway API are the platform's own: \
             OpenShift 4.19 and newer bring them, nobody else may; upgrade, or have its administrator enable \
             them",
            missing.join(", ")
        );
    }
    let found = made::definitions(context, &served.ending(GATEWAY_API))?;
    ensure!(
        found.iter().all(|definition| definition.is_ours),
        "the cluster has the Gateway API without {}: apply the rest of the version that it has",
        missing.join(", ")
    );
    let folder = postern_cluster::gateway_api_crds(Channel::Standard).context(
        "the cluster has no definitions of the Gateway API, and they cannot be had here: apply the standard \
         channel (https://gateway-api.sigs.k8s.io/guides/)",
    )?;
    Ok(marked(read(&folder)?))
}

/// The operator, from the kustomize base.
fn operator(base: &str, named: impl Fn(&str) -> String) -> Result<Vec<Value>> {
    Ok(marked(objects::objects(&with_local_images(base, named))?))
}

/// What a platform's admins give the teams: namespaces, roles, grants.
fn tenants(is_openshift: bool) -> Result<Vec<Value>> {
    let terms = if is_openshift {
        "openshift"
    } else {
        "kubernetes"
    };
    let roles = format!("config/tenants/{terms}.yaml");
    let parts = ["examples/platform", &roles, "examples/admin"];
    let objects: Vec<_> = parts
        .into_iter()
        .map(|part| read(&repository().join(part)))
        .collect::<Result<_>>()?;
    Ok(marked(objects.concat()))
}

/// What a tenant does: a Secret, backends, the GatewayInstance and routes.
fn act_as_tenant(context: &Context, team: &str, user: &str, named: &Named) -> Result<()> {
    let tenant = context.acting_as(user, team);
    may(&tenant, team)?;
    let examples = repository().join("examples");
    let backends = examples.join(format!("cluster/{team}.yaml"));
    let text = fs::read_to_string(&backends).with_context(|| backends.display().to_string())?;
    let text = text.replace(&reference("echo"), &named.of("echo"));
    let mut all = objects::objects(&text)?;
    all.extend(read(&examples.join(team))?);
    if team == "team-a" {
        all.extend(secret(context)?);
    }
    apply(&tenant, &all)
}

/// Waits until the roles that were made have reached the stock role `edit`.
fn may(tenant: &Context, team: &str) -> Result<()> {
    let kinds = [
        "gatewayinstances.postern.dev",
        "httproutes.gateway.networking.k8s.io",
    ];
    let list = ["auth", "can-i", "--list", "-n", team];
    let what = format!("{team}'s users may make a gateway");
    platform::wait(tenant, &what, demo::PATIENCE, &list, || {
        let told = tenant.told(&list, "")?;
        let may = |kind| told.lines().any(|line| line.starts_with(kind));
        Ok(kinds.into_iter().all(may))
    })
}

/// The Secret with team-a's certificate, unless it is there. The certificate is kept for clients.
fn secret(context: &Context) -> Result<Option<Value>> {
    let path = certificate(context)?;
    fs::create_dir_all(state(context)?)?;
    let get = [
        "-n",
        "team-a",
        "get",
        "secret",
        "team-a-tls",
        "--ignore-not-found",
        "-o",
        "go-template={{index .data \"tls.crt\" | base64decode}}",
    ];
    let there = context.told(&get, "")?;
    if !there.is_empty() {
        fs::write(&path, there)?;
        return Ok(None);
    }
    let (certificate, secret) = demo::certificate()?;
    fs::write(&path, certificate)?;
    Ok(Some(secret))
}

/// Where the certificate is kept that team-a's clients trust.
fn certificate(context: &Context) -> Result<PathBuf> {
    Ok(state(context)?.join("team-a.crt"))
}

/// What is kept on this machine of a cluster.
fn state(context: &Context) -> Result<PathBuf> {
    let digest = Sha256::digest(context.server());
    let name: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(postern_cluster::cache()?.join("current").join(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let new =
            |major: &str, minor: &str| is_new_enough(&json!({"major": major, "minor": minor}));
        assert!(new("1", "32") && new("1", "32+") && new("1", "100") && new("2", "0"));
        assert!(!new("1", "31") && !new("1", "9") && !new("", ""));
        assert!(!is_new_enough(&Value::Null));
    }

    #[test]
    fn all_that_is_given_to_teams_bears_the_mark_and_can_be_found_again() {
        let objects = tenants(false).unwrap();
        for all in [&objects, &tenants(true).unwrap()] {
            made::all_known(all, &made::namespaces()).unwrap();
        }
        for team in TEAMS {
            let namespace = objects
                .iter()
                .find(|object| object["kind"] == "Namespace" && object["metadata"]["name"] == team);
            let labels = &namespace.unwrap()["metadata"]["labels"];
            assert_eq!(labels[MARK.0], MARK.1);
            // And what it had is there still.
            assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
        }
    }
}
