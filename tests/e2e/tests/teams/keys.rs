//! Certificates of two minutes between Envoys and control planes, while everything else goes on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use postern_api::ports;
use postern_e2e::platform::SYSTEM;
use postern_edge::Ask;

use crate::faults::change_arrives_at;
use crate::inside::identity;
use crate::instances::{cluster_ip, make, remove};
use crate::quiet::sum;
use crate::world::{CONTROL_PLANE, TEAMS, Who, World};

/// An instance of team-b that begins with such certificates.
const INSTANCE: &str = "keys";
const ITS_ENVOY: &str = "postern-keys-envoy";
const ITS_CONTROL_PLANE: &str = "postern-keys-controlplane";
const HOST: &str = "keys.team-b.example";

/// The life of a certificate, in seconds.
const LIFE: u64 = 120;
/// How many times its Envoy takes another certificate.
const ROTATIONS: usize = 2;
/// A kubelet looks at a mounted Secret once a minute and caches what it saw: each certificate may be
/// seen 80 s late.
const LONGEST: Duration = Duration::from_secs(80 * (ROTATIONS as u64 + 1));

/// Lets certificates live two minutes while `meanwhile` runs, and as many rotations as are to be seen.
/// Clients of both of team-b's instances see nothing of it.
pub fn run(world: &World, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let at = world.node_port("team-b", 80)?;
    let mut api = Ask::new("http://api.team-b.example/v1/items", at);
    // Who writes says so.
    api.headers = &[("x-team", "b")];
    world.under_load(&[api.into()], "certificates of two minutes, for all", || {
        live(world, Some(LIFE))?;
        let spec =
            "{exposure: {type: ClusterIP}, listeners: [{name: http, port: 80, protocol: HTTP}]}";
        make(world, 1, INSTANCE, spec)?;
        let rule = "backendRefs: [{name: api, port: 8080}]";
        world.route(1, "keys", "{name: keys}", HOST, rule)?;
        let at = cluster_ip(world, "team-b", INSTANCE, 80)?;
        world.wait_for_answer(at, HOST, "/", |status, _| status == 200)?;
        let url = format!("http://{HOST}/");
        let clients = [Ask::new(&url, at).into()];
        let done = world.under_load(&clients, "rotation", || rotate(world, at, meanwhile));
        world.delete(1, "httproute", "keys")?;
        let gone = remove(world, 1, INSTANCE);
        let back = live(world, None);
        done.and(gone).and(back)
    })
}

fn rotate(world: &World, at: SocketAddr, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let envoy = world.pods_of("team-b", ITS_ENVOY)?;
    let began = Instant::now();
    let end = AtomicBool::new(false);
    let serials = std::thread::scope(|scope| {
        let looks = scope.spawn(|| look(world, began, &end));
        let done = meanwhile();
        end.store(done.is_err(), Ordering::Relaxed);
        let serials = looks.join().ok().context("the look-out panicked")?;
        done.and(serials)
    })?;
    println!(
        "           certificates that one Envoy held in {:.0} s: {}",
        began.elapsed().as_secs_f64(),
        serials.len()
    );
    // The first one has ended by now, and the stream with it: the server ends it at that time. What
    // arrives does so over a stream that was opened with a later one.
    ensure!(began.elapsed() > Duration::from_secs(LIFE), "too early");
    change_arrives_at(world, 1, (INSTANCE, at), "after-rotations")?;
    // Nor does a stream to a new control plane need a new Envoy.
    let (control_plane, _) = world.pods_of("team-b", ITS_CONTROL_PLANE)?.remove(0);
    let delete = ["-n", "team-b", "delete", "pod", &control_plane];
    world.may(Who::Admin, &delete, "")?;
    change_arrives_at(world, 1, (INSTANCE, at), "after-another-control-plane")?;
    let (pod, address) = &envoy[0];
    ensure!(
        world.pods_of("team-b", ITS_ENVOY)? == envoy,
        "it is another Envoy than {pod}"
    );
    let restarts = "{.status.containerStatuses[*].restartCount}";
    let restarts = world.value("team-b", &format!("pod/{pod}"), restarts)?;
    ensure!(restarts == "0", "Envoy started again: {restarts}");
    let metrics = SocketAddr::new(*address, ports::PROXY_METRICS);
    let (_, told) = world.get(metrics, "metrics", "/metrics")?;
    let (taken, rejected) = (
        sum(&told, "update_success")?,
        sum(&told, "update_rejected")?,
    );
    ensure!(
        taken > 0.0 && rejected == 0.0,
        "update_success {taken}, update_rejected {rejected}"
    );
    Ok(())
}

/// The serials that its Envoy held one after another.
fn look(world: &World, began: Instant, end: &AtomicBool) -> Result<Vec<String>> {
    let mut serials = vec![identity(world, "team-b", ITS_ENVOY)?];
    while serials.len() < ROTATIONS + 1 && !end.load(Ordering::Relaxed) {
        if began.elapsed() > LONGEST {
            bail!("Envoy held only {serials:?} in {} s", LONGEST.as_secs());
        }
        std::thread::sleep(Duration::from_secs(1));
        let now = identity(world, "team-b", ITS_ENVOY)?;
        if !serials.contains(&now) {
            serials.push(now);
        }
    }
    Ok(serials)
}

/// Says to the operator how long certificates live, as an admin's Subscription does, and waits until
/// all control planes were told.
fn live(world: &World, seconds: Option<u64>) -> Result<()> {
    let value = seconds.map(|seconds| seconds.to_string());
    let setting = match &value {
        Some(value) => format!("POSTERN_CERTIFICATE_SECONDS={value}"),
        None => "POSTERN_CERTIFICATE_SECONDS-".to_owned(),
    };
    world.set_operator(&setting)?;
    for team in TEAMS {
        world.wait(&format!("{team}'s control plane was told"), || {
            let object = format!("deployment/{CONTROL_PLANE}");
            let path = "{.spec.template.spec.containers[0].env[?(@.name==\"POSTERN_CERTIFICATE_SECONDS\")].value}";
            Ok(world.value(team, &object, path)? == value.clone().unwrap_or_default())
        })?;
    }
    for (namespace, name) in [
        (SYSTEM, "postern-operator"),
        (TEAMS[0], CONTROL_PLANE),
        (TEAMS[1], CONTROL_PLANE),
    ] {
        world.settled(namespace, name)?;
    }
    Ok(())
}
