//! Parts that die, are stopped, or are meddled with, while a client sends requests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postern_e2e::platform::SYSTEM;

use crate::world::{CONTROL_PLANE, ENTITLEMENT, ENVOY, TEAMS, Who, World};

/// A tenant takes the Entitlement away, in three ways.
pub fn entitlement(world: &World) -> Result<()> {
    let object = format!("entitlement/{ENTITLEMENT}");
    let ports = || {
        world.value(
            "team-a",
            &object,
            "{.status.gateways[*].ports[*].containerPort}",
        )
    };
    let owner = || world.value("team-a", &object, "{.metadata.ownerReferences[*].kind}");
    let uid = || world.value("team-a", &object, "{.metadata.uid}");
    let (before, first) = (ports()?, uid()?);
    ensure!(
        !before.is_empty() && owner()? == "GatewayInstance",
        "{before:?} of {:?}",
        owner()?
    );
    let strip = [
        "-n",
        "team-a",
        "patch",
        "entitlement",
        ENTITLEMENT,
        "--type=merge",
        "-p",
        r#"{"metadata":{"ownerReferences":null,"labels":null}}"#,
    ];
    world.under_load(&[world.shop()?], "the Entitlement goes", || {
        // Stripped while the operator looks on, and while it does not.
        world.may(Who::Tenant(0), &strip, "")?;
        world.wait("the owner is back", || Ok(owner()? == "GatewayInstance"))?;
        world.without_operator(|| {
            world.may(Who::Tenant(0), &strip, "")?;
            ensure!(owner()?.is_empty(), "the owner was not stripped");
            Ok(())
        })?;
        world.wait("the owner is back", || Ok(owner()? == "GatewayInstance"))?;
        ensure!(
            ports()? == before && uid()? == first,
            "{} instead of {before}",
            ports()?
        );
        // Deleted while the operator is stopped.
        world.without_operator(|| {
            let delete = ["-n", "team-a", "delete", "entitlement", ENTITLEMENT];
            world.may(Who::Tenant(0), &delete, "")?;
            ensure!(uid()?.is_empty(), "the Entitlement was not deleted");
            Ok(())
        })?;
        world.wait("the Entitlement is back", || Ok(!ports()?.is_empty()))?;
        ensure!(ports()? == before, "{} instead of {before}", ports()?);
        ensure!(uid()? != first, "it is the old one");
        Ok(())
    })?;
    change_arrives(world, "after-entitlement")
}

/// The control plane dies; Envoys go on, and a fresh one waits for it.
pub fn control_plane(world: &World) -> Result<()> {
    let programmed = || {
        world.value(
            "team-a",
            "gateway/default",
            "{.status.conditions[?(@.type==\"Programmed\")]['status','lastTransitionTime']}",
        )
    };
    let before = programmed()?;
    ensure!(before.starts_with("True "), "Programmed is {before}");
    let mut clients = world.clients(&[world.shop()?])?;
    clients.during("a control plane dies", || {
        let old = world.pods_of("team-a", CONTROL_PLANE)?;
        for (pod, _) in &old {
            let kill = [
                "-n",
                "team-a",
                "delete",
                "pod",
                pod,
                "--grace-period=0",
                "--force",
            ];
            world.may(Who::Admin, &kill, "")?;
        }
        world.wait("a new control plane is ready", || {
            let object = format!("deployment/{CONTROL_PLANE}");
            let new = world.pods_of("team-a", CONTROL_PLANE)?;
            Ok(
                world.value("team-a", &object, "{.status.readyReplicas}")? == "1"
                    && new.iter().all(|pod| !old.contains(pod)),
            )
        })
    })?;
    change_arrives(world, "after-kill")?;
    ensure!(
        programmed()? == before,
        "Programmed was {before}, and is {} after its control plane was killed",
        programmed()?
    );

    // Who scales back what was scaled here is the operator: it is away meanwhile.
    world.without_operator(|| {
        let done = clients.during("no control plane", || fresh_envoy(world));
        world.scale("team-a", CONTROL_PLANE, 1)?;
        done?;
        // The operator is still away: traffic goes on and changes arrive.
        world.wait("the fresh Envoy is ready", || {
            let object = format!("deployment/{ENVOY}");
            Ok(world.value("team-a", &object, "{.status.readyReplicas}")? == "2")
        })?;
        change_arrives(world, "without-operator")?;
        world.scale("team-a", ENVOY, 1)
    })?;
    clients.end()?;
    ensure!(
        world.value(
            SYSTEM,
            "deployment/postern-operator",
            "{.status.readyReplicas}"
        )? == "1",
        "the operator is not back"
    );
    Ok(())
}

/// With no control plane, a fresh Envoy runs and is not Ready.
fn fresh_envoy(world: &World) -> Result<()> {
    world.scale("team-a", CONTROL_PLANE, 0)?;
    let old = world.pods_of("team-a", ENVOY)?;
    world.scale_only("team-a", ENVOY, 2)?;
    let mut fresh = String::new();
    world.wait("a fresh Envoy runs", || {
        for (pod, _) in world.pods_of("team-a", ENVOY)? {
            let object = format!("pod/{pod}");
            if old.iter().all(|(name, _)| *name != pod)
                && !world
                    .value(
                        "team-a",
                        &object,
                        "{.status.containerStatuses[0].state.running.startedAt}",
                    )?
                    .is_empty()
            {
                fresh = pod;
            }
        }
        Ok(!fresh.is_empty())
    })?;
    // Its probe runs every few seconds: it is not Ready at any time in ten of them.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let ready = world.value(
            "team-a",
            &format!("pod/{fresh}"),
            "{.status.conditions[?(@.type==\"Ready\")].status}",
        )?;
        ensure!(
            ready == "False",
            "a fresh Envoy without a control plane: Ready={ready}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// A new route of team-a's tenant is served; then it goes again.
fn change_arrives(world: &World, name: &str) -> Result<()> {
    let at = world.node_port("team-a", 80)?;
    change_arrives_at(world, 0, ("default", at), name)
}

/// The same of a tenant and one of its Gateways, which is reached there.
pub fn change_arrives_at(
    world: &World,
    tenant: usize,
    (gateway, at): (&str, SocketAddr),
    name: &str,
) -> Result<()> {
    let backend = ["shop-v2", "api"][tenant];
    let host = format!("{name}.{}.example", TEAMS[tenant]);
    ensure!(
        world.get(at, &host, "/")?.0 == 404,
        "{host} is served already"
    );
    let parent = format!("{{name: {gateway}}}");
    let rule = format!("backendRefs: [{{name: {backend}, port: 8080}}]");
    world.route(tenant, name, &parent, &host, &rule)?;
    world.wait_for_answer(at, &host, "/", |status, body| {
        status == 200 && body.contains(backend)
    })?;
    world.delete(tenant, "httproute", name)?;
    world.wait_for_answer(at, &host, "/", |status, _| status == 404)
}
