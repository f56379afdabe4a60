//! Two teams on a real cluster: that each is served, and that neither reaches the other.
//!
//! One cluster for all parts, which run in order and leave the teams as they found them. Every refusal
//! is preceded by an act that the same user may do, every closed path by the same path open.
//!
//! `POSTERN_E2E=off` leaves it out. `POSTERN_E2E_CLUSTER=NAME` uses the cluster of that name and leaves it up; `POSTERN_E2E_PARTS=a,b`
//! runs only these parts.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "teams/bare.rs"]
mod bare;
#[path = "teams/broken.rs"]
mod broken;
#[path = "teams/clients.rs"]
mod clients;
#[path = "teams/drift.rs"]
mod drift;
#[path = "teams/exposures.rs"]
mod exposures;
#[path = "teams/faults.rs"]
mod faults;
#[path = "teams/inside.rs"]
mod inside;
#[path = "teams/instances.rs"]
mod instances;
#[path = "teams/keys.rs"]
mod keys;
#[path = "teams/lines.rs"]
mod lines;
#[path = "teams/many.rs"]
mod many;
#[path = "teams/network.rs"]
mod network;
#[path = "teams/quiet.rs"]
mod quiet;
#[path = "teams/restarts.rs"]
mod restarts;
#[path = "teams/same.rs"]
mod same;
#[path = "teams/tenancy.rs"]
mod tenancy;
#[path = "teams/truth.rs"]
mod truth;
#[path = "teams/world.rs"]
mod world;

use std::time::Instant;

use anyhow::Context as _;
use postern_cluster::{Cluster, Gone};

use crate::world::World;

/// A part of the test.
type Part = (&'static str, fn(&World) -> anyhow::Result<()>);

const PARTS: &[Part] = &[
    ("lines", lines::run),
    ("network", network::run),
    ("broken", broken::run),
    ("entitlement", faults::entitlement),
    ("failures", quiet::nothing_failed),
    ("faults", faults::control_plane),
    ("idle", quiet::idle),
    ("exposures", exposures::run),
    ("refused", quiet::at_last),
];

/// Run while certificates of two minutes rotate (`keys`): there is time, and none may notice. A system
/// whose certificates are written anew is not idle, nor without streams that end.
const WHILE_KEYS_ROTATE: &[Part] = &[
    ("tenancy", tenancy::run),
    ("restarts", restarts::run),
    ("drift", drift::run),
    ("instances", instances::run),
    ("bare", bare::run),
    ("clients", clients::run),
    ("same", same::run),
    ("many", many::run),
];

const LAST: &[Part] = &[("rejected", quiet::refused)];

#[test]
fn two_teams_on_a_real_cluster() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: two teams on a real cluster: needs root");
        return;
    }
    if std::env::var("POSTERN_E2E").is_ok_and(|wish| wish == "off") {
        println!("not run: two teams on a real cluster: POSTERN_E2E=off; `make test` runs it");
        return;
    }
    let kept = std::env::var("POSTERN_E2E_CLUSTER").ok();
    let name = kept
        .clone()
        .unwrap_or_else(|| format!("e2e-{}", std::process::id()));
    let chosen = std::env::var("POSTERN_E2E_PARTS").ok();
    let down = kept.is_none().then(|| Gone(name.clone()));
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let world = World::up(&name, &tell).unwrap();
    let is_chosen = |part: &str| {
        let chosen = chosen.as_deref();
        chosen.is_none_or(|chosen| chosen.split(',').any(|name| name == part))
    };
    let timed = |part: &str, run: &dyn Fn() -> anyhow::Result<()>| {
        let began = Instant::now();
        run().with_context(|| part.to_owned())?;
        tell(&format!("{part}: {:.1} s", began.elapsed().as_secs_f64()));
        Ok(())
    };
    let all = |parts: &[Part]| {
        let mut parts = parts.iter().filter(|(part, _)| is_chosen(part));
        parts.try_for_each(|(part, run)| timed(part, &|| run(&world)))
    };
    let done = all(PARTS)
        .and_then(|()| match is_chosen("keys") {
            true => timed("keys", &|| keys::run(&world, || all(WHILE_KEYS_ROTATE))),
            false => all(WHILE_KEYS_ROTATE),
        })
        .and_then(|()| all(LAST));
    if let Err(error) = done {
        world.explain();
        panic!("{error:#}");
    }
    drop(down);
    if kept.is_none() {
        assert_eq!(Cluster::leftovers(&name).unwrap(), Vec::<String>::new());
    }
}
