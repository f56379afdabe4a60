//! What a tenant writes into what the operator keeps: it is taken out again, and nobody notices.

use anyhow::{Result, ensure};
use postern_cluster::PROBE_IMAGE;
use serde_json::{Value, json};

use crate::world::{CONTROL_PLANE, ENVOY, Who, World};

/// The name of what is foreign, wherever it stands.
const FOREIGN: &str = "foreign";

pub fn run(world: &World) -> Result<()> {
    let both = [CONTROL_PLANE, ENVOY];
    let before = both.map(|name| template(world, name));
    let right = || -> Result<bool> {
        for (name, before) in both.iter().zip(&before) {
            if before.as_ref().ok() != Some(&template(world, name)?) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    ensure!(right()?, "the templates change by themselves");
    world.under_load(&[world.shop()?], "what is foreign comes and goes", || {
        // Under the operator's eyes: an argument with which nothing starts, too.
        for name in both {
            meddle(world, name, &[argument(), variable(), sidecar()])?;
        }
        world.wait("the templates are as before", right)?;
        for name in both {
            world.settled("team-a", name)?;
        }
        // While it is away: what is foreign runs, until it is back.
        world.without_operator(|| {
            for name in both {
                meddle(world, name, &[variable(), sidecar()])?;
            }
            for name in both {
                world.settled("team-a", name)?;
                let runs = containers(world, name)?;
                ensure!(runs.contains(FOREIGN), "{name} runs without it: {runs}");
            }
            Ok(())
        })?;
        world.wait("the templates are as before", right)?;
        for name in both {
            world.settled("team-a", name)?;
            let runs = containers(world, name)?;
            ensure!(!runs.contains(FOREIGN), "{name} runs with {runs}");
            world.drained("team-a", name)?;
        }
        Ok(())
    })
}

fn template(world: &World, name: &str) -> Result<Value> {
    let deployment = world.json(&["-n", "team-a", "deployment", name])?;
    Ok(deployment["spec"]["template"].clone())
}

/// The names of the containers of a Deployment's pods.
fn containers(world: &World, name: &str) -> Result<String> {
    let mut names = String::new();
    for (pod, _) in world.pods_of("team-a", name)? {
        let path = "{.status.containerStatuses[?(@.ready==true)].name} ";
        names += &world.value("team-a", &format!("pod/{pod}"), path)?;
    }
    Ok(names)
}

/// Changes a Deployment as the tenant, who may.
fn meddle(world: &World, name: &str, changes: &[Value]) -> Result<()> {
    let patch = Value::from(changes).to_string();
    let arguments = [
        "-n",
        "team-a",
        "patch",
        "deployment",
        name,
        "--type=json",
        "-p",
        &patch,
        "-o",
        "json",
    ];
    let said = world.may(Who::Tenant(0), &arguments, "")?;
    ensure!(said.contains(FOREIGN), "{name} was not changed");
    Ok(())
}

fn add(path: &str, value: &Value) -> Value {
    json!({"op": "add", "path": format!("/spec/template/spec/containers{path}/-"), "value": value})
}

fn argument() -> Value {
    add("/0/args", &json!(format!("--{FOREIGN}")))
}

fn variable() -> Value {
    add("/0/env", &json!({"name": FOREIGN, "value": "1"}))
}

fn sidecar() -> Value {
    add(
        "",
        &json!({
            "name": FOREIGN, "image": PROBE_IMAGE, "imagePullPolicy": "Never", "command": ["/probe", "wait"],
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsUser": 65_532,
            },
        }),
    )
}
