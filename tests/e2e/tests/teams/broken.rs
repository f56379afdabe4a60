//! What a tenant gets wrong: that route answers so, a condition names the field, neighbours serve.

use anyhow::{Result, ensure};

use crate::world::{Who, World};

pub fn run(world: &World) -> Result<()> {
    let at = world.node_port("team-a", 80)?;
    let neighbours = || -> Result<()> {
        let own = world.get(at, "shop.team-a.example", "/")?;
        let other = world.get(
            world.node_port("team-b", 80)?,
            "api.team-b.example",
            "/v1/items",
        )?;
        ensure!(own.0 == 200 && other.0 == 200, "{own:?} {other:?}");
        Ok(())
    };
    neighbours()?;
    route(world, "lost", "backendRefs: [{name: no-such, port: 8080}]")?;
    world.wait_for_answer(at, "lost.team-a.example", "/", |status, _| status == 500)?;
    condition(
        world,
        "lost",
        "ResolvedRefs",
        "BackendNotFound",
        "backendRefs",
    )?;
    neighbours()?;

    route(
        world,
        "late",
        "timeouts: {request: 5s}, backendRefs: [{name: shop-v1, port: 8080}]",
    )?;
    condition(world, "late", "Accepted", "UnsupportedValue", "timeouts")?;
    ensure!(
        world.get(at, "late.team-a.example", "/")?.0 != 200,
        "served as if it had no timeout"
    );
    neighbours()?;
    for name in ["lost", "late"] {
        world.delete(0, "httproute", name)?;
    }
    certificate(world, &neighbours)?;
    neighbours()
}

/// A listener whose certificate is none.
fn certificate(world: &World, neighbours: &dyn Fn() -> Result<()>) -> Result<()> {
    let ann = Who::Tenant(0);
    let secret = "apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata: {name: bad-tls, namespace: team-a}\nstringData: {tls.crt: none, tls.key: none}";
    world.apply(ann, secret)?;
    let add = r#"[{"op":"add","path":"/spec/listeners/-","value":{"name":"bad","port":8443,"protocol":"HTTPS","tls":{"certificateRefs":[{"name":"bad-tls"}]}}}]"#;
    world.may(
        ann,
        &[
            "-n",
            "team-a",
            "patch",
            "gatewayinstance",
            "default",
            "--type=json",
            "-p",
            add,
        ],
        "",
    )?;
    let mut said = String::new();
    let seen = world.wait("the bad certificate has a condition", || {
        let path = "jsonpath={range .status.listeners[?(@.name==\"bad\")].conditions[?(@.type==\"ResolvedRefs\")]}{.status}|{.reason}|{.message}{end}";
        said = world.may(ann, &["-n", "team-a", "get", "gateway", "default", "-o", path], "")?;
        Ok(said.starts_with("False|InvalidCertificateRef|"))
    });
    let served = neighbours();
    let remove = r#"[{"op":"test","path":"/spec/listeners/2/name","value":"bad"},{"op":"remove","path":"/spec/listeners/2"}]"#;
    world.may(
        ann,
        &[
            "-n",
            "team-a",
            "patch",
            "gatewayinstance",
            "default",
            "--type=json",
            "-p",
            remove,
        ],
        "",
    )?;
    world.delete(0, "secret", "bad-tls")?;
    seen?;
    served?;
    ensure!(
        said.contains("certificateRefs"),
        "the condition does not name the field: {said}"
    );
    world.wait("the listener is gone", || {
        Ok(!world
            .value("team-a", "gateway/default", "{.status.listeners[*].name}")?
            .contains("bad"))
    })
}

fn route(world: &World, name: &str, rule: &str) -> Result<()> {
    let host = format!("{name}.team-a.example");
    world.route(0, name, "{name: default}", &host, rule)
}

/// Waits for a condition that is False for this reason, and looks for the field in its message.
fn condition(world: &World, route: &str, kind: &str, reason: &str, field: &str) -> Result<()> {
    let mut last = Default::default();
    let seen = world.wait("the condition is there", || {
        last = world.route_condition(0, "team-a", route, kind)?;
        Ok(last.0 == "False" && last.1 == reason)
    });
    ensure!(
        seen.is_ok() && last.2.contains(field),
        "{route}: {kind} is {last:?}"
    );
    Ok(())
}
