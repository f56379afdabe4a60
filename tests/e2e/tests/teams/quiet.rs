//! An idle system, and what Envoy refused over all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_api::ports;
use postern_e2e::platform::SYSTEM;

use crate::world::{CONTROL_PLANE, ENVOY, Who, World};

/// How long nothing may be written.
const IDLE: Duration = Duration::from_secs(35);

pub fn idle(world: &World) -> Result<()> {
    // What came before may still be written down: it ends when two looks are equal.
    let mut before = versions(world)?;
    world.wait("what came before has ended", || {
        std::thread::sleep(Duration::from_secs(3));
        let now = versions(world)?;
        let same = now == before;
        before = now;
        Ok(same)
    })?;
    let leases = world.value(SYSTEM, "lease/postern-operator", "{.spec.renewTime}")?;
    std::thread::sleep(IDLE);
    let after = versions(world)?;
    let changed: Vec<_> = after
        .iter()
        .filter(|(name, version)| before.get(*name) != Some(version))
        .map(|(name, _)| name)
        .chain(before.keys().filter(|name| !after.contains_key(*name)))
        .collect();
    ensure!(changed.is_empty(), "written while idle: {changed:?}");
    ensure!(
        world.value(SYSTEM, "lease/postern-operator", "{.spec.renewTime}")? != leases,
        "the operator's Lease was not renewed: is it alive?"
    );
    Ok(())
}

/// The version of every object of the teams and the operator, but Leases and Events.
fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let kinds = [
        world.kinds(&["events", "leases"])?,
        "gatewayclasses.gateway.networking.k8s.io,tenantgrants.postern.dev".to_owned(),
    ];
    let path = "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}={.metadata.resourceVersion}{\"\\n\"}{end}";
    let all = world.may(Who::Admin, &["get", &kinds.join(","), "-A", "-o", path], "")?;
    let versions: BTreeMap<String, String> = all
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| {
            ["team-a", "team-b", SYSTEM, ""].contains(&name.split('/').nth(1).unwrap_or_default())
        })
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    ensure!(versions.len() > 40, "only {} objects", versions.len());
    Ok(versions)
}

/// Nothing was refused and nothing failed, while each team's control plane was there all the time.
pub fn nothing_failed(world: &World) -> Result<()> {
    refused(world)?;
    for team in ["team-a", "team-b"] {
        failures(world, team)?;
    }
    Ok(())
}

/// Nothing was refused until now, and nothing failed where the control plane was there all the time:
/// team-b's.
pub fn at_last(world: &World) -> Result<()> {
    refused(world)?;
    failures(world, "team-b")
}

/// `update_failure` counts streams that broke too: it is 0 where no control plane was lost.
fn failures(world: &World, team: &str) -> Result<()> {
    for (pod, ip) in world.pods_of(team, ENVOY)? {
        let at = SocketAddr::new(ip, ports::PROXY_METRICS);
        let (_, text) = world.get(at, "metrics", "/metrics")?;
        let failed: Vec<&str> = series(&text, "update_failure")
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        ensure!(failed.is_empty(), "{pod}: {failed:?}");
    }
    Ok(())
}

/// No Envoy refused anything, as it and as its control plane count.
pub fn refused(world: &World) -> Result<()> {
    for team in ["team-a", "team-b"] {
        for (pod, ip) in world.pods_of(team, ENVOY)? {
            let at = SocketAddr::new(ip, ports::PROXY_METRICS);
            let (status, text) = world.get(at, "metrics", "/metrics")?;
            ensure!(status == 200, "{pod}: {status}");
            ensure!(
                sum(&text, "update_success")? > 0.0,
                "{pod} counts no updates"
            );
            let count = sum(&text, "update_rejected")?;
            ensure!(count == 0.0, "{pod}: update_rejected is {count}");
        }
        for (pod, ip) in world.pods_of(team, CONTROL_PLANE)? {
            let at = SocketAddr::new(ip, ports::CONTROL_PLANE_METRICS);
            let (status, text) = world.get(at, "metrics", "/metrics")?;
            ensure!(
                status == 200 && text.contains("postern_xds_refused_total"),
                "{pod}: {status} {text}"
            );
            let count = sum(&text, "postern_xds_refused_total")?;
            ensure!(count == 0.0, "{pod}: refused {count}");
        }
    }
    Ok(())
}

/// The lines of all series whose name ends so.
fn series<'a>(text: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter(move |line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            name.ends_with(end)
        })
}

/// The sum over all series whose name ends so.
pub fn sum(text: &str, end: &str) -> Result<f64> {
    series(text, end)
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value
                .trim()
                .parse::<f64>()
                .with_context(|| format!("no number: {line}"))
        })
        .sum()
}
