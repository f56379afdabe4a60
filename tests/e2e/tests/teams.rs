//! Two teams on a real cluster: that each is served, and that neither reaches the other.
//!
//! One cluster for all parts, which run in order and leave the teams as they found them. Every refusal
//! is preceded by an act that the same user may do, every closed path by the same path open.
//!
//! `POSTERN_E2E=off` leaves it out. `POSTERN_E2E_CLUSTER=NAME` uses the cluster of that name and leaves it up; `POSTERN_E2E_PARTS=a,b`
//! runs only these parts.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "teams/broken.rs"]
mod broken;
#[path = "teams/faults.rs"]
mod faults;
#[path = "teams/lines.rs"]
mod lines;
#[path = "teams/network.rs"]
mod network;
#[path = "teams/quiet.rs"]
mod quiet;
#[path = "teams/tenancy.rs"]
mod tenancy;
#[path = "teams/world.rs"]
mod world;

use std::time::Instant;

use postern_cluster::Cluster;

use crate::world::World;

/// A part of the test.
type Part = (&'static str, fn(&World) -> anyhow::Result<()>);

const PARTS: &[Part] = &[
    ("lines", lines::run),
    ("tenancy", tenancy::run),
    ("network", network::run),
    ("broken", broken::run),
    ("entitlement", faults::entitlement),
    ("failures", quiet::nothing_failed),
    ("faults", faults::control_plane),
    ("idle", quiet::idle),
    ("refused", quiet::at_last),
];

/// Ends the cluster on every way out.
struct Down {
    name: String,
    keep: bool,
}

impl Drop for Down {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = Cluster::remove(&self.name)
        {
            eprintln!("{error:#}");
        }
    }
}

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
    let down = Down {
        name: name.clone(),
        keep: kept.is_some(),
    };
    let started = Instant::now();
    let tell = |line: &str| println!("[{:6.1} s] {line}", started.elapsed().as_secs_f64());
    let world = World::up(&name, &tell).unwrap();
    for (part, run) in PARTS {
        if let Some(chosen) = &chosen
            && !chosen.split(',').any(|name| name == *part)
        {
            continue;
        }
        let began = Instant::now();
        if let Err(error) = run(&world) {
            world.explain();
            panic!("{part}: {error:#}");
        }
        tell(&format!("{part}: {:.1} s", began.elapsed().as_secs_f64()));
    }
    drop(down);
    if kept.is_none() {
        assert_eq!(Cluster::leftovers(&name).unwrap(), Vec::<String>::new());
    }
}
