//! All that serves is scaled up, replaced and scaled down again, while clients send requests: no request is
//! lost, neither short nor slow ones, until the last old pod has drained.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use postern_api::ports;
use postern_e2e::platform::SYSTEM;
use postern_edge::{Ask, Target};
use serde_json::json;

use crate::quiet::sum;
use crate::world::{CONTROL_PLANE, ENVOY, Who, World};

const TEAM: &str = "team-a";
const ANN: Who<'_> = Who::Tenant(0);

pub fn run(world: &World) -> Result<()> {
    let certificate = world.demo.certificate();
    let mut secure = Ask::new("https://shop.team-a.example/", world.node_port(TEAM, 443)?);
    secure.ca = Some(&certificate);
    let mut clients = world.clients(&[world.shop()?, Target::from(secure)])?;
    clients.during("scaling up", || size(world, Some(2)))?;
    clients.during("another operator", || {
        world.restart(Who::Admin, SYSTEM, "postern-operator")
    })?;
    clients.during("other control planes", || {
        world.restart(ANN, TEAM, CONTROL_PLANE)
    })?;
    clients.during("other Envoys", || world.restart(ANN, TEAM, ENVOY))?;
    each_was_asked(world)?;
    clients.during("scaling down", || size(world, None))?;
    clients.end()
}

/// So many control planes and Envoys, or as many as there are by default.
fn size(world: &World, replicas: Option<u32>) -> Result<()> {
    let size = json!({"replicas": replicas});
    let patch = json!({"spec": {"proxy": size, "controlPlane": size}}).to_string();
    let object = "gatewayinstance/default";
    let arguments = ["-n", TEAM, "patch", object, "--type=merge", "-p", &patch];
    world.may(ANN, &arguments, "")?;
    let wanted = replicas.unwrap_or(1);
    for name in [CONTROL_PLANE, ENVOY] {
        let object = format!("deployment/{name}");
        world.wait(&format!("{name} is to have {wanted} pods"), || {
            Ok(world.value(TEAM, &object, "{.spec.replicas}")? == wanted.to_string())
        })?;
    }
    for name in [CONTROL_PLANE, ENVOY] {
        world.settled(TEAM, name)?;
        world.drained(TEAM, name)?;
    }
    Ok(())
}

/// Both Envoys have clients: neither was there for nothing.
fn each_was_asked(world: &World) -> Result<()> {
    let envoys = world.pods_of(TEAM, ENVOY)?;
    ensure!(envoys.len() == 2, "{envoys:?}");
    for (pod, address) in envoys {
        let metrics = SocketAddr::new(address, ports::PROXY_METRICS);
        let (_, told) = world.get(metrics, "metrics", "/metrics")?;
        let asked = sum(&told, "cluster_upstream_rq_total")?;
        ensure!(asked > 20.0, "{pod} asked backends {asked} times");
    }
    Ok(())
}
