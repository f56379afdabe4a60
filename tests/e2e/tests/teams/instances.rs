//! A second instance in a team's namespace: names that are taken, a route of both, and its end.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use postern_edge::Ask;
use serde_json::Value;

use crate::world::{ENTITLEMENT, TEAMS, Who, World};

const ANN: Who<'_> = Who::Tenant(0);
/// The host of the route that both instances serve.
const BOTH: &str = "both.team-a.example";

/// What is there under names that the instance `second` would give, and what looks like its own.
const TAKEN: [(&str, &str, &str); 3] = [
    (
        "Service",
        "postern-second-gateway",
        "{apiVersion: v1, kind: Service, spec: {ports: [{port: 9, targetPort: 9}]}",
    ),
    (
        "NetworkPolicy",
        "postern-second-envoy",
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, spec: {podSelector: {matchLabels: {no: such}}}",
    ),
    (
        "Deployment",
        "postern-second-envoy",
        "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 0, selector: {matchLabels: {no: such}}, \
         template: {metadata: {labels: {no: such}}, spec: {containers: [{name: a, image: none}]}}}",
    ),
];
const ALIKE: [(&str, &str, &str); 2] = [
    (
        "ConfigMap",
        "looks-like-ours",
        "{apiVersion: v1, kind: ConfigMap, data: {a: b}",
    ),
    (
        "Service",
        "looks-like-ours",
        "{apiVersion: v1, kind: Service, spec: {ports: [{port: 9, targetPort: 9}]}",
    ),
];

pub fn run(world: &World) -> Result<()> {
    for (_, name, text) in &ALIKE {
        put(world, name, text)?;
    }
    let before = objects(world, "team-a", |_| true)?;
    ensure!(before.len() > 20, "only {before:?}");
    names_that_are_taken(world)?;
    let owner = uid(world, "team-a", "second")?;
    let owned = objects(world, "team-a", |object| is_owned_by(object, &owner))?;
    ensure!(owned.len() > 10, "only {owned:?}");
    route_of_both(world)?;

    // Its end is the end of what has its UID, and of nothing else.
    let url = format!("http://{BOTH}/");
    let both = Ask::new(&url, world.node_port("team-a", 80)?).into();
    world.under_load(&[world.shop()?, both], "the other instance goes", || {
        remove(world, 0, "second")
    })?;
    world.delete(0, "httproute", "both")?;
    let mut after = BTreeSet::new();
    let same = world.wait("the namespace is as before", || {
        after = objects(world, "team-a", |_| true)?;
        Ok(after == before)
    });
    same.with_context(|| {
        format!(
            "other than before: {:?}",
            before.symmetric_difference(&after)
        )
    })?;
    delete(world, &ALIKE)
}

/// Makes an instance as a tenant, and waits until it is ready.
pub fn make(world: &World, tenant: usize, name: &str, spec: &str) -> Result<()> {
    apply(world, tenant, name, spec)?;
    ready(world, TEAMS[tenant], name, "True|Ready|").map(|_| ())
}

/// Deletes an instance as its tenant, and waits until garbage collection has taken all that it owned.
pub fn remove(world: &World, tenant: usize, name: &str) -> Result<()> {
    let team = TEAMS[tenant];
    let owner = uid(world, team, name)?;
    world.delete(tenant, "gatewayinstance", name)?;
    let mut left = BTreeSet::new();
    let seen = world.wait("all that it owned is gone", || {
        left = objects(world, team, |object| is_owned_by(object, &owner))?;
        Ok(left.is_empty())
    });
    seen.with_context(|| format!("left: {left:?}"))
}

/// The address of a Gateway's Service and one of its ports, for clients within the cluster.
pub fn cluster_ip(world: &World, team: &str, gateway: &str, port: u16) -> Result<SocketAddr> {
    let object = format!("service/postern-{gateway}-gateway");
    let text = world.value(team, &object, "{.spec.clusterIP}")?;
    let address: IpAddr = text
        .parse()
        .with_context(|| format!("{object}: {text:?}"))?;
    Ok(SocketAddr::new(address, port))
}

fn apply(world: &World, tenant: usize, name: &str, spec: &str) -> Result<()> {
    let team = TEAMS[tenant];
    let text = format!(
        "apiVersion: postern.dev/v1alpha1\nkind: GatewayInstance\nmetadata: {{name: {name}, namespace: {team}}}\nspec: {spec}"
    );
    world.apply(Who::Tenant(tenant), &text)
}

fn uid(world: &World, team: &str, name: &str) -> Result<String> {
    let uid = world.value(team, &format!("gatewayinstance/{name}"), "{.metadata.uid}")?;
    ensure!(!uid.is_empty(), "there is no GatewayInstance {team}/{name}");
    Ok(uid)
}

/// Waits until `Ready` begins so (status, reason, message), and returns all of it.
fn ready(world: &World, team: &str, name: &str, wanted: &str) -> Result<String> {
    let object = format!("gatewayinstance/{name}");
    let path =
        "{range .status.conditions[?(@.type==\"Ready\")]}{.status}|{.reason}|{.message}{end}";
    let mut said = String::new();
    let seen = world.wait(&format!("{name}: Ready is {wanted}"), || {
        said = world.value(team, &object, path)?;
        Ok(said.starts_with(wanted))
    });
    seen.with_context(|| format!("{name}: Ready is {said}"))?;
    Ok(said)
}

/// What is not ours is left alone and told of, whatever labels it has; once it is gone, ours come.
fn names_that_are_taken(world: &World) -> Result<()> {
    for (_, name, text) in &TAKEN {
        put(world, name, text)?;
    }
    let read = |(kind, name, _): &(&str, &str, &str)| {
        let mut object = world.json(&["-n", "team-a", kind, name])?;
        // Who keeps Deployments writes these.
        object["status"] = Value::Null;
        for field in ["resourceVersion", "managedFields", "annotations"] {
            object["metadata"][field] = Value::Null;
        }
        anyhow::Ok(object)
    };
    let before: Vec<Value> = TAKEN.iter().map(read).collect::<Result<_>>()?;
    // Whether those that are still there are as they were.
    let untouched = |there: &[&(&str, &str, &str)]| -> Result<()> {
        for taken in there {
            let now = read(taken)?;
            ensure!(before.contains(&now), "touched: {now}");
        }
        Ok(())
    };
    apply(
        world,
        0,
        "second",
        "{listeners: [{name: http, port: 80, protocol: HTTP}]}",
    )?;
    let [service, policy, deployment] = &TAKEN;
    told(world, &[service, policy])?;
    // No Envoy without the policy that protects it, whether or not its name is free.
    untouched(&[service, policy, deployment])?;
    delete(world, std::slice::from_ref(policy))?;
    told(world, &[service, deployment])?;
    untouched(&[service, deployment])?;
    delete(world, &[*service, *deployment])?;
    ready(world, "team-a", "second", "True|Ready|").map(|_| ())
}

/// Waits until the instance tells of these and of no other names.
fn told(world: &World, taken: &[&(&str, &str, &str)]) -> Result<()> {
    let mut said = String::new();
    let seen = world.wait("the instance tells of names that are taken", || {
        said = ready(world, "team-a", "second", "False|NameInUse|")?;
        let named = |(kind, name, _): &&(&str, &str, &str)| {
            said.contains(&format!("{kind} team-a/{name} exists and is not ours"))
        };
        Ok(taken.iter().all(named) && said.matches("is not ours").count() == taken.len())
    });
    seen.with_context(|| format!("Ready is {said}"))
}

/// One route, two Gateways of two instances: both serve it, both say so, neither takes the other's word
/// away; the first one's ports stay.
fn route_of_both(world: &World) -> Result<()> {
    let ports = || {
        let object = format!("entitlement/{ENTITLEMENT}");
        let allocated = world.value("team-a", &object, "{.status.gateways}")?;
        let path = "{.spec.ports}";
        let service = world.value("team-a", "service/postern-default-gateway", path)?;
        anyhow::Ok((allocated, service))
    };
    let before = ports()?;
    world.route(
        0,
        "both",
        "{name: default}, {name: second}",
        BOTH,
        "backendRefs: [{name: shop-v1, port: 8080}]",
    )?;
    let first = world.node_port("team-a", 80)?;
    let second = cluster_ip(world, "team-a", "second", 80)?;
    for at in [first, second] {
        world.wait_for_answer(at, BOTH, "/", |status, body| {
            status == 200 && body.contains("shop-v1")
        })?;
    }
    let accepted = || {
        let path = "{range .status.parents[*]}{.parentRef.name}={.conditions[?(@.type==\"Accepted\")].status} {end}";
        let text = world.value("team-a", "httproute/both", path)?;
        let mut parts: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parts.sort();
        anyhow::Ok(parts)
    };
    let wanted = ["default=True", "second=True"];
    world.wait("both say that they serve it", || Ok(accepted()? == wanted))?;
    // Each writes anew when the route changes; no write is lost.
    for number in 0..5 {
        let label = format!("number={number}");
        let arguments = [
            "-n",
            "team-a",
            "label",
            "--overwrite",
            "httproute",
            "both",
            &label,
        ];
        world.may(ANN, &arguments, "")?;
        let weight = format!(
            r#"[{{"op":"add","path":"/spec/rules/0/backendRefs/0/weight","value":{}}}]"#,
            number + 2
        );
        let patch = [
            "-n",
            "team-a",
            "patch",
            "httproute",
            "both",
            "--type=json",
            "-p",
            &weight,
        ];
        world.may(ANN, &patch, "")?;
    }
    world.wait("both have seen the last change", || {
        let generation = world.value("team-a", "httproute/both", "{.metadata.generation}")?;
        let path = "{range .status.parents[*]}{.conditions[?(@.type==\"Accepted\")].observedGeneration} {end}";
        let seen = world.value("team-a", "httproute/both", path)?;
        Ok(accepted()? == wanted && seen.split_whitespace().eq([&*generation; 2]))
    })?;
    ensure!(
        ports()? == before,
        "ports moved: {before:?} became {:?}",
        ports()?
    );
    Ok(())
}

fn is_owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
}

/// Kind and name of the objects of a team, of every kind but events.
fn objects(world: &World, team: &str, wanted: impl Fn(&Value) -> bool) -> Result<BTreeSet<String>> {
    let list = world.json(&["-n", team, &world.kinds(&["events"])?])?;
    let all = list["items"].as_array().context("no items")?;
    let name = |object: &Value| {
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        format!("{} {}", text("/kind"), text("/metadata/name"))
    };
    // What is on its way out is as good as gone.
    let stays = |object: &&Value| object["metadata"]["deletionTimestamp"].is_null();
    Ok(all
        .iter()
        .filter(stays)
        .filter(|object| wanted(object))
        .map(name)
        .collect())
}

/// Applies an object as the tenant, under labels as ours have.
fn put(world: &World, name: &str, text: &str) -> Result<()> {
    let metadata = format!(
        "metadata: {{name: {name}, namespace: team-a, labels: {{postern.dev/instance: second, \
         app.kubernetes.io/managed-by: postern-operator, app.kubernetes.io/instance: second}}}}"
    );
    world.apply(ANN, &format!("{text}, {metadata}}}"))
}

fn delete(world: &World, all: &[(&str, &str, &str)]) -> Result<()> {
    for (kind, name, _) in all {
        world.delete(0, kind, name)?;
    }
    Ok(())
}
