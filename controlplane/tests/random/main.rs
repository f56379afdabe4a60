//! Random and hostile routes go the whole way: files, translation, encoding, the xDS server, a real
//! Envoy. Its answer to each of many requests is what the model means, and nothing is refused.
//!
//! `POSTERN_RANDOM_ROUNDS` says how many rounds of 40 routes and 400 requests there are (16), and
//! `POSTERN_RANDOM_SEED` where chance starts (1). A failure prints the seed of its round, with
//! which that round comes first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod evaluate;
mod generate;
#[allow(dead_code, reason = "shared; each test uses a part")]
#[path = "../../../crates/xds/tests/pki/mod.rs"]
mod pki;
#[allow(dead_code, reason = "shared; each test uses a part")]
#[path = "../../../crates/xds/tests/real/mod.rs"]
mod real;
mod requests;
mod routes;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use postern_refs::status::{Status, Truth};
use postern_refs::{Key, Kind};

use evaluate::{Answer, evaluate};
use generate::Random;
use world::{Outcome, World};

const ROUTES: usize = 40;
const REQUESTS: usize = 400;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a whole number"),
        Err(_) => otherwise,
    }
}

/// What happened, to show that the test looks at something.
#[derive(Debug, Default)]
struct Counts {
    routes: usize,
    undecodable: usize,
    /// Routes with `Accepted=True`, and entries of theirs in a table.
    accepted: usize,
    /// Routes of which an entry decided a request.
    reached: usize,
    requests: usize,
    by_answer: BTreeMap<String, usize>,
}

impl Counts {
    fn add(&mut self, answer: &Answer) {
        let what = match answer {
            Answer::Backend(_) => "a backend".to_owned(),
            Answer::Redirect(..) => "a redirect".to_owned(),
            Answer::Status(status) => status.to_string(),
        };
        *self.by_answer.entry(what).or_default() += 1;
        self.requests += 1;
    }
}

fn is_accepted(outcome: &Outcome, name: &str) -> bool {
    let status = outcome
        .statuses
        .get(&(Kind::HttpRoute, Key::new("team", name)));
    let Some(Status::Route(status)) = status.map(|status| &**status) else {
        return false;
    };
    let conditions = status.parents.iter().flat_map(|parent| &parent.conditions);
    conditions
        .filter(|condition| &*condition.kind == "Accepted")
        .any(|condition| condition.status == Truth::True)
}

fn round(world: &mut World, seed: u64, counts: &mut Counts) {
    let mut random = Random::new(seed);
    let names: Vec<String> = (0..ROUTES).map(|index| format!("r{index}")).collect();
    let texts: Vec<String> = names.iter().map(|name| random.route(name)).collect();
    for (name, text) in names.iter().zip(&texts) {
        world.write(name, text);
    }
    let outcome = world.apply();
    assert_eq!(
        outcome.refused,
        [],
        "seed {seed}: the encoder knows better than the translator"
    );
    let entries = world.proxy.tables.values().flat_map(|table| &table.hosts);
    let served: BTreeSet<_> = entries
        .flat_map(|host| &host.entries)
        .map(|entry| entry.origin.name.clone())
        .collect();
    counts.routes += names.len();
    counts.undecodable += outcome.undecodable;
    counts.accepted += names
        .iter()
        .filter(|name| is_accepted(&outcome, name) && served.contains(name.as_str()))
        .count();

    let mut reached = BTreeSet::new();
    for _ in 0..REQUESTS {
        let request = random.request(&world.proxy);
        let expected = evaluate(&world.proxy, &request);
        let answer = world.send(&request);
        let right = answer
            .as_ref()
            .is_ok_and(|answer| expected.answers.contains(answer));
        let route = expected.origin.as_ref().and_then(|origin| {
            let at = names.iter().position(|name| **name == *origin.name)?;
            Some(&texts[at])
        });
        assert!(
            right,
            "seed {seed}\n{request:#?}\nanswer: {answer:?}\nright: {expected:#?}\nroute: {route:#?}"
        );
        counts.add(&answer.unwrap());
        reached.extend(expected.origin.map(|origin| origin.name));
    }
    counts.reached += reached.len();
}

#[test]
fn a_real_envoy_answers_as_the_model_means() {
    let Some(binary) = real::binary() else {
        println!("not run: no Envoy binary");
        return;
    };
    let seed = number("POSTERN_RANDOM_SEED", 1);
    let rounds = number("POSTERN_RANDOM_ROUNDS", 16);
    let mut world = World::start(&binary);
    let mut counts = Counts::default();
    for step in 0..rounds {
        round(&mut world, seed.wrapping_add(step), &mut counts);
    }
    world.assert_nothing_refused();
    println!("seeds {seed} and {rounds} on: {counts:#?}");
    assert!(counts.accepted * 2 >= counts.routes, "{counts:#?}");
    assert!(counts.reached * 2 >= counts.accepted, "{counts:#?}");
    // A few rounds may do without some kind of answer.
    if rounds >= 8 {
        assert!(counts.undecodable > 0, "{counts:#?}");
        for answer in ["a backend", "a redirect", "400", "404", "500"] {
            assert!(counts.by_answer.contains_key(answer), "{counts:#?}");
        }
    }
}
