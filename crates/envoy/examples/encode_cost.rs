//! What encoding costs: one changed entry of 1,000 beside the full pass, on one host and on 1,000,
//! with and without clusters of their own. Prints CPU time and what was recomputed.
//!
//! `cargo run --release -p postern-envoy --example encode_cost`

#[allow(dead_code, reason = "shared with the tests; each uses a part")]
#[path = "../src/fixtures.rs"]
mod fixtures;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::{entry, host, path, put_cluster, put_table, share, table, with_header};
use postern_envoy::Encoder;
use postern_model::{Action, Proxy, RouteEntry, Table, VirtualHost};

const ENTRIES: usize = 1000;

/// An entry as an HTTPRoute of one rule and two backends gives it.
fn route(index: usize, version: u32) -> Arc<RouteEntry> {
    let matcher = with_header(
        path(&format!("/shop/products/{index:04}*")),
        "x-version",
        "1",
    );
    let backends = vec![
        share(90 + version, &format!("team-a/products-{index:04}/8080")),
        share(10, &format!("team-a/products-{index:04}-next/8080")),
    ];
    entry(
        &format!("route-{index:04}"),
        matcher,
        Action::Forward(backends),
    )
}

fn hosts(count: usize) -> Vec<Arc<VirtualHost>> {
    let each = ENTRIES / count;
    let build = |number: usize| {
        let entries = (0..each).map(|index| route(number * each + index, 0));
        host(&format!("h{number:04}.example.com"), entries.collect())
    };
    (0..count).map(build).collect()
}

/// The table with entry 500 changed, everything else shared.
fn changed(table: &Table, version: u32) -> Arc<Table> {
    let mut table = table.clone();
    let at = table.hosts.len() / 2;
    let mut host = (*table.hosts[at]).clone();
    let at_entry = host.entries.len() / 2;
    let old = &host.entries[at_entry];
    let new = route(500, version);
    host.entries[at_entry] = Arc::new(RouteEntry {
        precedence: old.precedence.clone(),
        ..(*new).clone()
    });
    table.hosts[at] = Arc::new(host);
    Arc::new(table)
}

fn least(runs: usize, mut run: impl FnMut(usize) -> Duration) -> Duration {
    (0..runs).map(&mut run).min().unwrap_or_default()
}

fn main() {
    for count in [1, 1000] {
        for clusters in [false, true] {
            measure(count, clusters);
        }
    }
}

fn measure(count: usize, clusters: bool) {
    let mut proxy = Proxy::default();
    if clusters {
        let address = [std::net::SocketAddr::from(([10, 0, 0, 1], 8080))];
        for index in 0..ENTRIES {
            put_cluster(
                &mut proxy,
                &format!("team-a/products-{index:04}/8080"),
                &address,
            );
            put_cluster(
                &mut proxy,
                &format!("team-a/products-{index:04}-next/8080"),
                &address,
            );
        }
    }
    let first = table("web", hosts(count));
    put_table(&mut proxy, Arc::clone(&first));

    let full = least(30, |_| {
        let start = Instant::now();
        let mut encoder = Encoder::default();
        let resources = encoder.encode(&proxy);
        let took = start.elapsed();
        drop((encoder, resources));
        took
    });
    let mut encoder = Encoder::default();
    let mut held = encoder.encode(&proxy);
    let mut work = encoder.work();
    let mut bytes = 0;
    let one = least(300, |run| {
        let version = u32::try_from(run % 2).unwrap_or(0) + 1;
        put_table(&mut proxy, changed(&first, version));
        let start = Instant::now();
        let resources = encoder.encode(&proxy);
        let took = start.elapsed();
        work = encoder.work();
        bytes = resources
            .get(postern_envoy::Kind::Routes, "web")
            .map_or(0, |table| table.body.len());
        held = resources;
        took
    });
    drop(held);
    let percent = 100.0 * one.as_secs_f64() / full.as_secs_f64();
    println!(
        "{count:4} hosts, clusters {clusters:5}: full {full:9.1?}, one changed {one:7.1?} = {percent:.2} % \
         ({} entries, {} hosts, {} clusters again; table {bytes} bytes)",
        work.entries, work.hosts, work.clusters
    );
}
