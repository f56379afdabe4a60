//! Two that ask for the same: routes of one host and path, listeners of one port.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::instances::cluster_ip;
use crate::world::{Who, World};

const HOST: &str = "same.team-a.example";

pub fn run(world: &World) -> Result<()> {
    let (routes, listeners) = std::thread::scope(|scope| {
        let routes = scope.spawn(|| routes(world));
        let listeners = listeners(world);
        (routes.join(), listeners)
    });
    listeners?;
    routes.map_err(|_| anyhow::anyhow!("routes: panicked"))?
}

/// The older route is served, though the younger one comes first by name. Both are accepted: each would
/// serve alone, and does once the other is gone. (Gateway API, `HTTPRouteRule.matches`.)
fn routes(world: &World) -> Result<()> {
    let at = world.node_port("team-a", 80)?;
    let answers = |backend: &'static str| {
        world.wait_for_answer(at, HOST, "/", move |status, body| {
            status == 200 && body.contains(backend)
        })
    };
    route(world, "same-z-older", "shop-v1")?;
    answers("shop-v1")?;
    // Ages are in whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    route(world, "same-a-younger", "shop-v2")?;
    for name in ["same-z-older", "same-a-younger"] {
        for (kind, reason) in [("Accepted", "Accepted"), ("ResolvedRefs", "ResolvedRefs")] {
            world.wait("both routes are accepted", || {
                let said = world.route_condition(0, "team-a", name, kind)?;
                Ok(said.0 == "True" && said.1 == reason)
            })?;
        }
    }
    for _ in 0..20 {
        let (status, body) = world.get(at, HOST, "/")?;
        ensure!(
            status == 200 && body.contains("shop-v1"),
            "not the older one: {status} {body}"
        );
    }
    world.delete(0, "httproute", "same-z-older")?;
    answers("shop-v2")?;
    world.delete(0, "httproute", "same-a-younger")?;
    world.wait_for_answer(at, HOST, "/", |status, _| status == 404)
}

fn route(world: &World, name: &str, backend: &str) -> Result<()> {
    let rule = format!("backendRefs: [{{name: {backend}, port: 8080}}]");
    let parent = "{name: default, sectionName: http}";
    world.route(0, name, parent, HOST, &rule)
}

/// Listeners that a connection could not tell apart are refused, by the API server where its schema can
/// say so, else by us; their neighbour on another port serves.
fn listeners(world: &World) -> Result<()> {
    // Gateways are for a platform's admin here.
    let listener = |name: &str, port: u16, protocol: &str| {
        let tls = json!({"certificateRefs": [{"name": "team-a-tls"}]});
        json!({
            "name": name, "port": port, "protocol": protocol, "hostname": HOST,
            "tls": if protocol == "HTTPS" { tls } else { json!(null) },
        })
    };
    let gateway = |listeners: &[serde_json::Value]| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "same", "namespace": "team-a"},
            "spec": {"gatewayClassName": "postern", "listeners": listeners},
        })
        .to_string()
    };
    let twice = gateway(&[listener("one", 8080, "HTTP"), listener("two", 8080, "HTTP")]);
    let said = world.ask(Who::Admin, &["create", "-f", "-"], &twice)?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(
        said.contains("spec.listeners") && said.contains("must be unique"),
        "one port and hostname twice: {said}"
    );

    let three = gateway(&[
        listener("plain", 8080, "HTTP"),
        listener("secure", 8080, "HTTPS"),
        listener("neighbour", 8081, "HTTP"),
    ]);
    world.may(Who::Admin, &["create", "-f", "-"], &three)?;
    let done = conflicted(world);
    world.may(
        Who::Admin,
        &["-n", "team-a", "delete", "gateway", "same"],
        "",
    )?;
    done
}

fn conflicted(world: &World) -> Result<()> {
    let condition = |listener: &str, kind: &str| {
        let path = format!(
            "{{range .status.listeners[?(@.name==\"{listener}\")].conditions[?(@.type==\"{kind}\")]}}{{.status}}|{{.reason}}|{{.message}}{{end}}"
        );
        world.value("team-a", "gateway/same", &path)
    };
    for (name, field) in [
        ("plain", "spec.listeners[0].protocol"),
        ("secure", "spec.listeners[1].protocol"),
    ] {
        world.wait("both are conflicted", || {
            Ok(condition(name, "Conflicted")?.starts_with("True|ProtocolConflict|"))
        })?;
        let said = condition(name, "Conflicted")?;
        ensure!(
            said.contains(field),
            "{name} does not name the field: {said}"
        );
        let programmed = condition(name, "Programmed")?;
        ensure!(programmed.starts_with("False|"), "{name}: {programmed}");
    }
    world.wait("the neighbour is programmed", || {
        Ok(condition("neighbour", "Programmed")?.starts_with("True|"))
    })?;
    let said = condition("neighbour", "Conflicted")?;
    ensure!(
        said.is_empty() || said.starts_with("False|"),
        "the neighbour: {said}"
    );
    // It answers (with 404: no route names it), and the other port does not.
    let at = cluster_ip(world, "team-a", "same", 8081)?;
    world.wait_for_answer(at, HOST, "/", |status, _| status == 404)?;
    let refused = cluster_ip(world, "team-a", "same", 8080)?;
    ensure!(world.get(refused, HOST, "/").is_err(), "port 8080 answers");
    let (status, _) = world.get(world.node_port("team-a", 80)?, "shop.team-a.example", "/")?;
    ensure!(status == 200, "team-a's own gateway answers {status}");
    Ok(())
}
