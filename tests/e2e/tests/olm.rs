//! Installed by OLM, as on OpenShift: from a catalog to a tenant's traffic, whatever becomes of the Gateway
//! API's definitions, over an upgrade, and after the operator was uninstalled.
//!
//! One cluster for all parts, which run in order and build on each other. From the beginning to the end an
//! admission policy refuses writes of the Gateway API's definitions by anyone but the cluster's admin, as
//! OpenShift does; it must never have had to.
//!
//! `POSTERN_E2E=off` leaves it out. `POSTERN_E2E_OLM=NAME` leaves the cluster up, under that name.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "olm/guard.rs"]
mod guard;
#[path = "olm/rights.rs"]
mod rights;
#[path = "olm/tenant.rs"]
mod tenant;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use postern_cluster::{Channel, Cluster, Gone, Olm, Options};
use postern_e2e::images;
use postern_e2e::olm::{self, Version};
use postern_e2e::platform::{self, SYSTEM, apply, kubectl, value};
use serde_json::Value;

use crate::guard::Guard;
use crate::tenant::Tenant;

/// How long something may take that a controller has to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// The version that is upgraded from: the same programs as images of other names, so that everything is
/// rolled out anew.
const BEFORE: &str = "0.0.9";

/// The cluster, and what its admin does on it.
struct World<'a> {
    cluster: &'a Cluster,
    olm: Olm<'a>,
    catalogs: PathBuf,
    before: Version,
    now: Version,
}

impl World<'_> {
    /// kubectl as the cluster's admin.
    fn admin(&self, arguments: &[&str], input: &str) -> Result<String> {
        kubectl(self.cluster, &self.cluster.kubeconfig(), arguments, input)
    }

    /// An object or a list, as JSON.
    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.admin(&[&["get", "-o", "json"], arguments].concat(), "")?;
        Ok(serde_json::from_str(&text)?)
    }

    fn wait(&self, what: &str, done: impl FnMut() -> Result<bool>) -> Result<()> {
        let about = [
            "get",
            "pods,gatewayinstances,gateways,httproutes",
            "-A",
            "-o",
            "wide",
        ];
        platform::wait(self.cluster, what, PATIENCE, &about, done)
    }

    /// Whose pod the operator is: a restart or a new pod changes it.
    fn operator(&self) -> Result<String> {
        let list = ["-n", SYSTEM, "get", "pods", "-l", OPERATOR_PODS];
        let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount};{end}";
        let told = self.admin(&[&list[..], &["-o", path]].concat(), "")?;
        ensure!(told.matches(';').count() == 1, "operators: {told:?}");
        Ok(told)
    }
}

/// Labels of the operator's pods.
const OPERATOR_PODS: &str = "app.kubernetes.io/name=postern,app.kubernetes.io/component=operator";

#[test]
fn from_a_catalog_to_traffic() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: the operator installed by OLM: needs root");
        return;
    }
    if std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off") {
        println!("not run: the operator installed by OLM: POSTERN_E2E=off; `make test` runs it");
        return;
    }
    let kept = std::env::var("POSTERN_E2E_OLM").ok();
    let name = kept
        .clone()
        .unwrap_or_else(|| format!("olm-{}", std::process::id()));
    let down = kept.is_none().then(|| Gone(name.clone()));
    let done = run(&name);
    if done.is_err()
        && let Ok(cluster) = Cluster::open(&name)
    {
        explain(&cluster);
    }
    drop(down);
    done.unwrap();
}

fn run(name: &str) -> Result<()> {
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let images = images::build(&images::default_dir()?, "dev", &tell)?;
    let cluster = Cluster::up(name, &Options::default())?;
    // The tenant's backend. All that is Postern's comes from a registry.
    cluster.load_image(&images.echo)?;
    let [before, now] = olm::release(&cluster, &images, [BEFORE, olm::VERSION])?;
    let world = World {
        olm: cluster.olm()?,
        catalogs: cluster.state_dir().join("catalogs"),
        before,
        now,
        cluster: &cluster,
    };
    tell("the cluster and OLM run, the images are in a registry");
    let guard = Guard::put_up(&world)?;
    tell("nobody but the admin writes the Gateway API's definitions");

    install(&world, &[&world.before], &world.before)?;
    tell("OLM installed the operator on a cluster without the Gateway API");
    rights::are_those_of_the_bundle(&world, &world.before)?;
    let operator = world.operator()?;

    initialize(&world)?;
    let tenant = Tenant::come(&world)?;
    tenant.is_told_that_the_gateway_api_is_absent(&world)?;
    tell("without the Gateway API the tenant's instance says so");

    let old = cluster.old_gateway_api_crds(Channel::Standard);
    apply(&cluster, &cluster.kubeconfig(), &old)?;
    tenant.is_served(&world)?;
    ensure!(world.operator()? == operator, "the operator began anew");
    tell("with the Gateway API 1.2.1 it is served, without a restart");

    world.admin(&["delete", "-f", &old.to_string_lossy()], "")?;
    tenant.is_told_that_the_gateway_api_is_absent(&world)?;
    apply(&cluster, &cluster.kubeconfig(), &old)?;
    let at = tenant.is_served(&world)?;
    ensure!(world.operator()? == operator, "the operator began anew");
    tell(
        "the Gateway API went, which the instance said, and came back; the route that is made again is served",
    );

    let mut clients = tenant.clients(&world, at)?;
    clients.during("other definitions", || {
        apply(
            &cluster,
            &cluster.kubeconfig(),
            &cluster.gateway_api_crds(Channel::Experimental),
        )?;
        tenant.changes_are_served(&world, at)
    })?;
    ensure!(world.operator()? == operator, "the operator began anew");
    tell("with the Gateway API 1.6.3 (experimental) it still is, and changes are served");

    clients.during("an upgrade", || upgrade(&world, &tenant))?;
    tell("upgraded under traffic");
    rights::are_those_of_the_bundle(&world, &world.now)?;

    scorecard(&world)?;
    tell("scorecard's suites basic and olm pass");

    clients.during("uninstallation", || uninstall(&world))?;
    clients.end()?;
    tell("uninstalled under traffic");
    guard.was_never_hit(&world)?;
    Ok(())
}

/// A catalog of these versions, a Subscription, and this one is installed.
fn install(world: &World<'_>, versions: &[&Version], wanted: &Version) -> Result<()> {
    let into = world.catalogs.join(wanted.number);
    let catalog = olm::catalog(world.cluster, &world.olm, versions, &into)?;
    olm::subscribe(world.cluster, &catalog)?;
    olm::installed(world.cluster, &world.olm, wanted.number)
}

/// What the console offers once the operator is installed: the TenantGrant of the bundle.
fn initialize(world: &World<'_>) -> Result<()> {
    let csv = csv(world, &world.before)?;
    let annotation = "operatorframework.io/initialization-resource";
    let grant = csv["metadata"]["annotations"][annotation]
        .as_str()
        .context("no initialization-resource")?;
    world.admin(&["create", "-f", "-"], grant)?;
    Ok(())
}

fn csv(world: &World<'_>, version: &Version) -> Result<Value> {
    let name = olm::csv_name(version.number);
    world.json(&["-n", SYSTEM, "clusterserviceversion", &name])
}

/// The next version comes to the catalog; everything that it stamps is rolled out anew.
fn upgrade(world: &World<'_>, tenant: &Tenant) -> Result<()> {
    install(world, &[&world.before, &world.now], &world.now)?;
    world.wait("the version before is gone", || {
        let name = olm::csv_name(world.before.number);
        let object = format!("clusterserviceversion/{name}");
        Ok(value(world.cluster, SYSTEM, &object, "{.metadata.name}")?.is_empty())
    })?;
    tenant.runs_images_of(world, &world.now)
}

/// The suites of `operator-sdk scorecard` pass, for the bundle as it is in the repository.
fn scorecard(world: &World<'_>) -> Result<()> {
    world.admin(&["create", "namespace", "scorecard"], "")?;
    let bundle = postern_e2e::tools::repository().join("bundle");
    let found = world.cluster.scorecard(&bundle, "scorecard")?;
    let tests = found["items"].as_array().context("no tests")?;
    let results: Vec<&Value> = tests
        .iter()
        .flat_map(|test| test["status"]["results"].as_array().into_iter().flatten())
        .collect();
    let failed: Vec<String> = results
        .iter()
        .filter(|result| result["state"] != "pass")
        .map(|result| {
            format!(
                "{}: {}: {}",
                result["name"], result["state"], result["errors"]
            )
        })
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    ensure!(
        results.len() == 6,
        "{} of 6 tests ran: {found}",
        results.len()
    );
    Ok(())
}

/// The Subscription and the ClusterServiceVersion are deleted, as the console's "Uninstall" does it.
fn uninstall(world: &World<'_>) -> Result<()> {
    world.admin(&["-n", SYSTEM, "delete", "subscription", "postern"], "")?;
    let name = olm::csv_name(world.now.number);
    world.admin(
        &["-n", SYSTEM, "delete", "clusterserviceversion", &name],
        "",
    )?;
    world.wait("the operator is gone", || {
        let none = |what: &[&str]| -> Result<bool> {
            let list = world.json(&[&["-n", SYSTEM], what].concat())?;
            Ok(list["items"] == serde_json::json!([]))
        };
        // The catalog's pod stays, and those that unpacked bundles.
        Ok(none(&["deployments"])? && none(&["pods", "-l", OPERATOR_PODS])?)
    })?;
    // What the README says that remains.
    for object in [
        "customresourcedefinition/entitlements.postern.dev",
        "customresourcedefinition/gatewayinstances.postern.dev",
        "customresourcedefinition/tenantgrants.postern.dev",
        "gatewayclass/postern",
        "tenantgrant/team-a",
        "operatorgroup/postern",
        "catalogsource/postern",
    ] {
        let there = value(world.cluster, SYSTEM, object, "{.metadata.name}")?;
        ensure!(!there.is_empty(), "{object} is gone");
    }
    // A while in which something could notice.
    std::thread::sleep(Duration::from_secs(5));
    Ok(())
}

/// Says what the cluster looks like, after something failed.
fn explain(cluster: &Cluster) {
    for arguments in [
        &[
            "get",
            "subscriptions,installplans,csv,pods,gatewayinstances",
            "-A",
            "-o",
            "wide",
        ][..],
        &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        &[
            "-n",
            "team-a",
            "get",
            "gatewayinstances,gateways,httproutes",
            "-o",
            "yaml",
        ],
        &[
            "-n",
            SYSTEM,
            "logs",
            "deployment/postern-operator",
            "--tail=30",
        ],
    ] {
        if let Ok(output) = cluster.kubectl(arguments) {
            let text = String::from_utf8_lossy(&output.stdout);
            let lines: Vec<&str> = text.lines().collect();
            println!("--- kubectl {}", arguments.join(" "));
            println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}
