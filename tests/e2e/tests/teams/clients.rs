//! Which namespaces' pods reach a gateway that is exposed within the cluster.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use postern_api::ports;

use crate::instances::{cluster_ip, make, remove};
use crate::network::{connects, probe_pod, reaches, refused};
use crate::world::{Who, World};

const HOST: &str = "inner.team-a.example";
/// A namespace of nobody's, without policies of its own.
const OTHERS: &str = "default";

pub fn run(world: &World) -> Result<()> {
    for namespace in ["team-b", OTHERS] {
        world.apply(Who::Admin, &probe_pod(namespace))?;
    }
    make(
        world,
        0,
        "inner",
        "{exposure: {type: ClusterIP}, clients: {from: Names, names: [team-b]}, \
         listeners: [{name: http, port: 80, protocol: HTTP}]}",
    )?;
    world.route(
        0,
        "inner",
        "{name: inner}",
        HOST,
        "backendRefs: [{name: shop-v1, port: 8080}]",
    )?;
    for namespace in ["team-b", OTHERS] {
        world.wait("the probe runs", || {
            Ok(world.value(namespace, "pod/probe", "{.status.phase}")? == "Running")
        })?;
    }
    let done = admitted(world);
    world.delete(0, "httproute", "inner")?;
    for namespace in ["team-b", OTHERS] {
        let delete = [
            "-n",
            namespace,
            "delete",
            "pod",
            "probe",
            "--grace-period=1",
            "--wait=false",
        ];
        world.may(Who::Admin, &delete, "")?;
    }
    remove(world, 0, "inner")?;
    done
}

fn admitted(world: &World) -> Result<()> {
    let service = cluster_ip(world, "team-a", "inner", 80)?;
    ensure!(
        world.value("team-a", "service/postern-inner-gateway", "{.spec.type}")? == "ClusterIP",
        "exposed outside the cluster"
    );
    let path = "{.status.gateways[0].ports[0].containerPort}";
    let port = world.value("team-a", "entitlement/postern-inner-entitlement", path)?;
    let envoys = world.pods_of("team-a", "postern-inner-envoy")?;
    ensure!(envoys.len() == 1, "{envoys:?}");
    let pod = SocketAddr::new(envoys[0].1, port.parse()?);
    let policy = "team-a/postern-inner-envoy";
    world.wait("a pod of team-b is served", || {
        let url = format!("http://{service}/");
        let ask = [
            "-n", "team-b", "exec", "probe", "--", "/probe", "-host", HOST, &url,
        ];
        let said = world.ask(Who::Admin, &ask, "")?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(text.starts_with("200") && text.contains("shop-v1"))
    })?;
    for at in [service, pod] {
        reaches(world, "team-b", at)?;
        refused(world, OTHERS, at, policy)?;
    }
    // The same connections, once the tenant lets them in, and once it does no more.
    admit(world, &["team-b", OTHERS])?;
    world.wait("a pod of another namespace is let in", || {
        Ok(connects(world, OTHERS, service)? && connects(world, OTHERS, pod)?)
    })?;
    // The listener, and nothing beside it.
    let metrics = SocketAddr::new(pod.ip(), ports::PROXY_METRICS);
    world
        .cluster()
        .dial(metrics, std::time::Duration::from_secs(3))?;
    refused(world, OTHERS, metrics, policy)?;
    admit(world, &["team-b"])?;
    world.wait("it is shut out again", || {
        Ok(!connects(world, OTHERS, service)? && !connects(world, OTHERS, pod)?)
    })?;
    for at in [service, pod] {
        reaches(world, "team-b", at)?;
    }
    Ok(())
}

fn admit(world: &World, namespaces: &[&str]) -> Result<()> {
    let patch = serde_json::json!({"spec": {"clients": {"names": namespaces}}}).to_string();
    let arguments = [
        "-n",
        "team-a",
        "patch",
        "gatewayinstance",
        "inner",
        "--type=merge",
        "-p",
        &patch,
    ];
    world.may(Who::Tenant(0), &arguments, "").map(|_| ())
}
