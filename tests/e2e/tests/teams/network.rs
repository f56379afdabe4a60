//! Who reaches which port, and what refuses the rest.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_api::ports;
use postern_cluster::PROBE_IMAGE;

use crate::world::{CONTROL_PLANE, ENTITLEMENT, ENVOY, Who, World, example};

pub fn run(world: &World) -> Result<()> {
    for (number, team) in ["team-a", "team-b"].into_iter().enumerate() {
        world.apply(Who::Tenant(number), &probe_pod(team))?;
    }
    for team in ["team-a", "team-b"] {
        world.wait("the probe runs", || {
            Ok(world.value(team, "pod/probe", "{.status.phase}")? == "Running")
        })?;
    }
    let shop = only(world, "team-a", "shop-v1")?;
    let control_plane = only(world, "team-a", CONTROL_PLANE)?;
    let envoy = only(world, "team-a", ENVOY)?;
    let backend = SocketAddr::new(shop, 8080);

    // A deny denies: the platform's baseline, and without it the same connection is made.
    reaches(world, "team-a", backend)?;
    refused(world, "team-b", backend, "team-a/baseline")?;
    world.may(
        Who::Admin,
        &["-n", "team-a", "delete", "networkpolicy", "baseline"],
        "",
    )?;
    let without = without_baseline(world, backend, control_plane, envoy);
    let platform = example("platform");
    let path = platform.to_str().context("the examples' path")?;
    world.may(Who::Admin, &["apply", "--server-side", "-f", path], "")?;
    without?;
    world.wait("the baseline denies again", || {
        Ok(!connects(world, "team-b", backend)?)
    })?;
    certificate(world, control_plane)?;
    for (number, team) in ["team-a", "team-b"].into_iter().enumerate() {
        let delete = [
            "-n",
            team,
            "delete",
            "pod",
            "probe",
            "--grace-period=1",
            "--wait=false",
        ];
        world.may(Who::Tenant(number), &delete, "")?;
    }
    Ok(())
}

/// No other policy selects our pods now: what refuses is ours.
fn without_baseline(
    world: &World,
    backend: SocketAddr,
    control_plane: IpAddr,
    envoy: IpAddr,
) -> Result<()> {
    world.wait("team-b reaches a pod that no policy selects", || {
        connects(world, "team-b", backend)
    })?;
    let object = format!("entitlement/{ENTITLEMENT}");
    let numbers = world.value(
        "team-a",
        &object,
        "{.status.gateways[*].ports[*].containerPort}",
    )?;
    ensure!(
        numbers.split(' ').count() == 2,
        "ports of listeners: {numbers}"
    );
    for number in numbers.split(' ') {
        // Exposed by a node port: from everywhere.
        reaches(world, "team-b", SocketAddr::new(envoy, number.parse()?))?;
    }
    for (pod, number, policy) in [
        (control_plane, ports::XDS, CONTROL_PLANE),
        (control_plane, ports::CONTROL_PLANE_PROBES, CONTROL_PLANE),
        (control_plane, ports::CONTROL_PLANE_METRICS, CONTROL_PLANE),
        (envoy, ports::PROXY_PROBES, ENVOY),
        (envoy, ports::PROXY_METRICS, ENVOY),
    ] {
        let at = SocketAddr::new(pod, number);
        // Something listens: the node gets in.
        world.cluster().dial(at, Duration::from_secs(3))?;
        refused(world, "team-b", at, &format!("team-a/{policy}"))?;
    }
    // Not even a pod of the tenant's own that is no Envoy.
    let xds = SocketAddr::new(control_plane, ports::XDS);
    refused(world, "team-a", xds, &format!("team-a/{CONTROL_PLANE}"))
}

/// The certificate of team-a's Envoys opens team-a's control plane and not team-b's.
fn certificate(world: &World, own: IpAddr) -> Result<()> {
    let other = only(world, "team-b", CONTROL_PLANE)?;
    let mut files = Vec::new();
    for key in ["tls.crt", "tls.key"] {
        let template = format!("go-template={{{{index .data {key:?} | base64decode}}}}");
        let secret = [
            "-n",
            "team-a",
            "get",
            "secret",
            "postern-default-tls",
            "-o",
            &template,
        ];
        let path = world.cluster().state_dir().join(format!("xds-{key}"));
        std::fs::write(&path, world.may(Who::Tenant(0), &secret, "")?)?;
        files.push(path.display().to_string());
    }
    let ask = |pod: IpAddr| -> Result<(usize, String)> {
        // The preface of HTTP/2 (RFC 9113, 3.4) and empty SETTINGS: a server answers with its own.
        let line = format!(
            "(printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\000\\000\\000\\004\\000\\000\\000\\000\\000'; sleep 1) \
             | timeout 3 openssl s_client -quiet -alpn h2 -connect {pod}:{} -cert {} -key {}",
            ports::XDS,
            files[0],
            files[1]
        );
        let output = world.cluster().exec(&["sh", "-c", &line])?;
        Ok((
            output.stdout.len(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let (answered, said) = ask(own)?;
    ensure!(
        answered > 0 && !said.contains("alert"),
        "its own control plane refused it: {said}"
    );
    let (answered, said) = ask(other)?;
    ensure!(
        answered == 0 && said.contains("alert"),
        "team-b's control plane took it: {said}"
    );
    Ok(())
}

fn only(world: &World, team: &str, deployment: &str) -> Result<IpAddr> {
    let pods = world.pods_of(team, deployment)?;
    ensure!(pods.len() == 1, "{team}/{deployment}: {pods:?}");
    Ok(pods[0].1)
}

pub fn connects(world: &World, from: &str, to: SocketAddr) -> Result<bool> {
    let target = format!("tcp://{to}");
    let probe = [
        "-n", from, "exec", "probe", "--", "/probe", "-timeout", "1500ms", &target,
    ];
    Ok(world.ask(Who::Admin, &probe, "")?.status.success())
}

pub fn reaches(world: &World, from: &str, to: SocketAddr) -> Result<()> {
    ensure!(
        connects(world, from, to)?,
        "a pod of {from} does not reach {to}"
    );
    Ok(())
}

pub fn refused(world: &World, from: &str, to: SocketAddr, policy: &str) -> Result<()> {
    ensure!(
        !connects(world, from, to)?,
        "a pod of {from} reaches {to}, which {policy} should refuse"
    );
    println!("           {from} -> {to}: refused by NetworkPolicy {policy}");
    Ok(())
}

pub fn probe_pod(team: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: probe, namespace: {team}}}, spec: {{automountServiceAccountToken: false, \
         securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}, \
         containers: [{{name: probe, image: {PROBE_IMAGE:?}, imagePullPolicy: Never, command: [/probe, wait], \
         securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]}}}}"
    )
}
