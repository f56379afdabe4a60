//! Translation and encoding: one changed route of a thousand beside the full pass.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use postern_envoy::{Encoder, Options};
use postern_translate::{Memo, Settings, translate};

use crate::input::{self, ROUTES};
use crate::row::Row;

/// How often each is done; the median counts.
const TIMES: usize = 41;

/// CPU time of this process so far.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .context("no CPU clock")?
        .into())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (hosts, place) in [(true, "1,000 hosts"), (false, "one host")] {
        let entitlement = input::entitlement();
        let mut snapshot = input::snapshot(hosts);
        let mut full = Vec::new();
        for _ in 0..TIMES {
            let (mut memo, mut encoder) = (
                Memo::new(Settings::default()),
                Encoder::new(Options::default()),
            );
            let before = cpu()?;
            let translation = translate(&snapshot, &entitlement, &mut memo);
            let resources = encoder.encode(&translation.proxies["default"]);
            full.push(cpu()? - before);
            drop(resources);
        }
        let (mut memo, mut encoder) = (
            Memo::new(Settings::default()),
            Encoder::new(Options::default()),
        );
        let first = translate(&snapshot, &entitlement, &mut memo);
        // What the xDS server holds meanwhile: sharing with it is part of the cost.
        let mut held = encoder.encode(&first.proxies["default"]);
        let mut one = Vec::new();
        let mut translated = 0;
        let mut encoded = 0;
        for time in 0..TIMES {
            input::put_route(
                &mut snapshot,
                ROUTES / 2,
                hosts,
                &format!("/changed-{time}"),
            );
            let before = cpu()?;
            let translation = translate(&snapshot, &entitlement, &mut memo);
            let resources = encoder.encode(&translation.proxies["default"]);
            one.push(cpu()? - before);
            translated = translated.max(memo.work().entries);
            encoded = encoded.max(encoder.work().entries);
            held = resources;
        }
        drop(held);
        let note = "median of 41, CPU time; translation and encoding";
        rows.push(Row::new(
            &format!("one changed route of 1,000, {place}"),
            "ms CPU",
            median(one),
            "full pass",
            median(full),
            note,
        ));
        let note = "entries translated, and the same number encoded";
        anyhow::ensure!(
            translated == encoded,
            "{translated} entries translated, {encoded} encoded"
        );
        rows.push(Row::new(
            &format!("entries recomputed for it, {place}"),
            "entries",
            translated as f64,
            "full pass",
            ROUTES as f64,
            note,
        ));
    }
    Ok(rows)
}
