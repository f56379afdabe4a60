//! An hour of certificates of two minutes.
//!
//! Two replicas over one store that refuses now and then; leadership moves; replicas die and come
//! back without memory. Envoys see each of their Secrets late, by as much as the lag. At every
//! instant each Envoy, with old files or new ones, and each replica must be able to talk.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::keys::material::{Authority, split};
use crate::keys::store::{Contents, MemoryStore};
use crate::keys::testing::{START, TestClock, at, handshake_with, short, subject};

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A store that refuses some writes and reads, and knows what stood in it when.
#[derive(Clone)]
struct Flaky {
    inner: MemoryStore,
    clock: TestClock,
    random: Arc<Mutex<Random>>,
    history: Arc<Mutex<Vec<(u64, Part, Contents)>>>,
    /// One of so many reads and writes fails; none with 0.
    failing: u64,
    refusals: Arc<Mutex<u64>>,
}

impl Flaky {
    fn fails(&self) -> Result<(), StoreError> {
        if self.failing > 0 && self.random.lock().unwrap().below(self.failing) == 0 {
            *self.refusals.lock().unwrap() += 1;
            return Err(StoreError::Failed("not now".into()));
        }
        Ok(())
    }

    /// What a pod that mounts the part sees, if it lags by so much.
    fn seen(&self, part: &Part, lag: u64) -> Option<Contents> {
        let until = self.clock.t() - lag;
        let history = self.history.lock().unwrap();
        let mut all = history.iter().rev();
        let (_, _, contents) = all.find(|(t, p, _)| p == part && *t <= until)?;
        Some(contents.clone())
    }
}

impl Store for Flaky {
    type Version = u64;

    async fn load(&self, parts: &[Part]) -> Result<Stored<u64>, StoreError> {
        self.fails()?;
        self.inner.load(parts).await
    }

    async fn save(
        &self,
        part: &Part,
        contents: &Contents,
        over: Option<&u64>,
    ) -> Result<(), StoreError> {
        self.fails()?;
        self.inner.save(part, contents, over).await?;
        let entry = (self.clock.t(), part.clone(), contents.clone());
        self.history.lock().unwrap().push(entry);
        Ok(())
    }
}

struct Replica {
    keeper: Keeper<Flaky, TestClock>,
    leader: watch::Sender<bool>,
    next: u64,
}

fn replica(store: &Flaky, lifetimes: Lifetimes, leads: bool) -> Replica {
    let (_, subject) = watch::channel(Arc::new(subject()));
    let (leader, receiver) = watch::channel(leads);
    Replica {
        keeper: Keeper::new(
            store.clone(),
            store.clock.clone(),
            lifetimes,
            subject,
            receiver,
        ),
        leader,
        next: 0,
    }
}

#[derive(Debug, Default)]
struct Outcome {
    /// How often somebody could have met somebody.
    instants: u64,
    /// How many different pairs these were.
    pairs: usize,
    /// Handshakes that failed.
    bad: Vec<String>,
    /// Reads and writes that the store refused.
    refusals: u64,
    authorities: usize,
    certificates: usize,
    writes: u64,
}

/// A replica's configuration and an Envoy's files that stood at the same time.
struct Pair {
    server: Arc<ServerConfig>,
    envoy: Leaf,
    shard: &'static str,
    about: String,
    /// The first and the last second.
    times: (u64, u64),
}

fn mounted(shard: &str, contents: Contents) -> Leaf {
    let part = Part::Envoy(shard.into());
    let mounted: Stored<()> = BTreeMap::from([(part, (contents, ()))]);
    decode(&mounted, &subject()).0.envoys.remove(shard).unwrap()
}

/// Runs for so many seconds, in steps of one.
async fn simulate(lifetimes: Lifetimes, seconds: u64, seed: u64, trouble: bool) -> Outcome {
    let clock = TestClock::new();
    let store = Flaky {
        inner: MemoryStore::default(),
        clock: clock.clone(),
        random: Arc::new(Mutex::new(Random(seed))),
        history: Arc::default(),
        failing: if trouble { 10 } else { 0 },
        refusals: Arc::default(),
    };
    let lag = short().lag.as_secs();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut replicas = [
        replica(&store, lifetimes, true),
        replica(&store, lifetimes, false),
    ];
    let mut outcome = Outcome::default();
    let mut authorities = BTreeSet::new();
    let mut pairs: BTreeMap<(usize, BTreeMap<String, Vec<u8>>), Pair> = BTreeMap::new();
    for t in START..START + seconds {
        clock.set(t);
        if trouble && t > START + 60 {
            match random.below(200) {
                0 => {
                    // Leadership moves.
                    for replica in &mut replicas {
                        replica.leader.send_modify(|leads| *leads = !*leads);
                        replica.next = t;
                    }
                }
                1 => {
                    // A replica dies; the new one knows nothing.
                    let which = random.below(2) as usize;
                    let leads = *replicas[which].leader.borrow();
                    replicas[which] = replica(&store, lifetimes, leads);
                }
                _ => {}
            }
        }
        for replica in &mut replicas {
            while replica.next <= t {
                let wait = replica.keeper.step().await;
                replica.next = replica.next.max(t) + wait.as_secs();
            }
        }
        for authority in &replicas[0].keeper.known.authorities {
            authorities.insert(authority.serial.clone());
        }
        // Who could meet whom now.
        for (r, replica) in replicas.iter().enumerate() {
            let Some(server) = replica.keeper.publisher.receiver() else {
                continue;
            };
            let server = server.borrow().clone();
            for lag in [0, lag, random.below(lag)] {
                for shard in ["default", "fast"] {
                    let Some(seen) = store.seen(&Part::Envoy(shard.into()), lag) else {
                        continue; // its pod has not started yet
                    };
                    outcome.instants += 1;
                    let key = (Arc::as_ptr(&server) as usize, seen.0.clone());
                    let pair = pairs.entry(key).or_insert_with(|| Pair {
                        server: server.clone(),
                        envoy: mounted(shard, seen),
                        shard,
                        about: format!("replica {r}, lag {lag}"),
                        times: (t, t),
                    });
                    pair.times.1 = t;
                }
            }
        }
    }
    // Whoever can talk at the first and at the last second can talk in between.
    for pair in pairs.values() {
        for t in [pair.times.0, pair.times.1] {
            let result = handshake_with(&pair.server, &pair.envoy, &subject(), pair.shard, t)
                .and_then(|()| unexpired(&pair.envoy, t));
            if let Err(error) = result {
                let after = t - START;
                outcome
                    .bad
                    .push(format!("{}: after {after} s: {error}", pair.about));
            }
        }
    }
    outcome.pairs = pairs.len();
    outcome.refusals = *store.refusals.lock().unwrap();
    outcome.authorities = authorities.len();
    outcome.writes = store.inner.writes();
    let history = store.history.lock().unwrap();
    let of_server = history.iter().filter(|(_, part, _)| *part == Part::Server);
    let certificates: BTreeSet<_> = of_server
        .map(|(_, _, contents)| contents.0["tls.crt"].clone())
        .collect();
    outcome.certificates = certificates.len();
    outcome
}

/// An authority that has ended is none to Envoy, whatever rustls says of trust anchors.
fn unexpired(envoy: &Leaf, t: u64) -> Result<(), String> {
    let mut trusted = split(&envoy.trust).into_iter();
    let signs = |pem: String| {
        let authority = Authority::read(&pem, &subject()).unwrap();
        authority.not_after > t && authority.issued(envoy, Usage::Envoy, at(t))
    };
    if trusted.any(signs) {
        Ok(())
    } else {
        Err("its authority has ended".into())
    }
}

#[tokio::test]
async fn all_can_talk_at_every_instant_of_an_hour() {
    let outcome = simulate(short(), 3600, 7, false).await;
    assert_eq!(outcome.bad, Vec::<String>::new());
    assert!(
        outcome.instants > 40_000 && outcome.pairs > 200,
        "{outcome:?}"
    );
    assert!(
        outcome.authorities >= 4 && outcome.certificates >= 40,
        "{outcome:?}"
    );
}

#[tokio::test]
async fn and_where_writes_fail_replicas_die_and_leadership_moves() {
    for seed in 1..4 {
        let outcome = simulate(short(), 1800, seed, true).await;
        assert_eq!(outcome.bad, Vec::<String>::new(), "seed {seed}");
        assert!(
            outcome.refusals > 40 && outcome.authorities >= 3,
            "{outcome:?}"
        );
    }
}

/// The simulation finds what it is to find: without an overlap, or with renewals later than a
/// mount is slow, somebody is shut out.
#[tokio::test]
async fn without_overlap_or_with_late_renewal_somebody_is_shut_out() {
    let overlap = Lifetimes {
        overlap: Duration::ZERO,
        ..short()
    };
    let outcome = simulate(overlap, 900, 7, false).await;
    assert!(!outcome.bad.is_empty());
    let late = Lifetimes {
        renew_percent: 90,
        ..short()
    };
    let outcome = simulate(late, 300, 7, false).await;
    assert!(
        outcome.bad.iter().any(|bad| bad.contains("xpired")),
        "{:?}",
        outcome.bad
    );
    assert!(overlap.check().is_err() && late.check().is_err());
}
