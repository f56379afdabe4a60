use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::keys::authority::trust;
use crate::keys::store::{Contents, DirectoryStore, MemoryStore};
use crate::keys::testing::{START, TestClock, handshake_with, of, short, subject};

type Memory = Keeper<MemoryStore, TestClock>;

/// A keeper, and what tells it whether it leads.
fn keeper<S: Store + Clone>(
    store: &S,
    clock: &TestClock,
    leads: bool,
) -> (Keeper<S, TestClock>, watch::Sender<bool>) {
    let (_, subject) = watch::channel(Arc::new(subject()));
    let (leader, receiver) = watch::channel(leads);
    let keeper = Keeper::new(store.clone(), clock.clone(), short(), subject, receiver);
    (keeper, leader)
}

/// Steps until it is content to wait.
async fn settle<S: Store>(keeper: &mut Keeper<S, TestClock>) {
    for _ in 0..8 {
        if keeper.step().await >= SECOND {
            return;
        }
    }
    panic!("never content");
}

async fn talk<S: Store>(server: &Keeper<S, TestClock>, envoy: &Leaf) -> Result<(), String> {
    let config = server.publisher.receiver().unwrap().borrow().clone();
    handshake_with(&config, envoy, &subject(), "fast", server.clock.t())
}

fn envoy(store: &MemoryStore) -> Leaf {
    decode(&store.all(), &subject()).0.envoys["fast"].clone()
}

#[tokio::test]
async fn the_leader_makes_and_all_serve() {
    let (store, clock) = (MemoryStore::default(), TestClock::new());
    let (mut follower, promote) = keeper(&store, &clock, false);
    assert_eq!(follower.step().await, short().recheck);
    assert!(follower.publisher.receiver().is_none());
    assert_eq!(store.writes(), 0, "who does not lead writes nothing");

    let (mut leader, _leads) = keeper(&store, &clock, true);
    settle(&mut leader).await;
    follower.step().await;
    talk(&leader, &envoy(&store)).await.unwrap();
    talk(&follower, &envoy(&store)).await.unwrap();
    assert_eq!(follower.known.server, leader.known.server);

    // Leadership moves: the new leader goes on with what there is.
    let writes = store.writes();
    promote.send_replace(true);
    settle(&mut follower).await;
    assert_eq!(store.writes(), writes);
}

#[tokio::test]
async fn who_idles_writes_nothing() {
    let (store, clock) = (MemoryStore::default(), TestClock::new());
    let (mut leader, _leads) = keeper(&store, &clock, true);
    settle(&mut leader).await;
    let writes = store.writes();
    let tls = leader.ready().await;
    for t in 0..79 {
        clock.set(START + t);
        assert!(leader.step().await >= SECOND);
    }
    assert_eq!(store.writes(), writes);
    assert!(!tls.has_changed().unwrap());
    clock.set(START + 80);
    settle(&mut leader).await;
    assert!(tls.has_changed().unwrap());
    assert_eq!(
        store.writes(),
        writes + 3,
        "three certificates, and nothing else"
    );
}

#[tokio::test]
async fn two_leaders_end_with_the_same_keys() {
    let (store, clock) = (MemoryStore::default(), TestClock::new());
    let (mut one, _one) = keeper(&store, &clock, true);
    let (mut two, _two) = keeper(&store, &clock, true);
    for t in 0..1800 {
        clock.set(START + t);
        if t % 10 == 0 {
            one.step().await;
            two.step().await;
        }
        if t % 100 == 0 {
            settle(&mut one).await;
            settle(&mut two).await;
            assert_eq!(one.known, two.known, "{t}");
            talk(&one, &envoy(&store)).await.unwrap();
            talk(&two, &envoy(&store)).await.unwrap();
        }
    }
    // At rest they do not write against each other.
    let writes = store.writes();
    settle(&mut one).await;
    settle(&mut two).await;
    assert_eq!(store.writes(), writes);
}

/// Calls something before each write.
#[derive(Clone)]
struct Hooked<F> {
    inner: MemoryStore,
    before: Arc<Mutex<F>>,
}

impl<F> Hooked<F> {
    fn new(before: F) -> Hooked<F> {
        Hooked {
            inner: MemoryStore::default(),
            before: Arc::new(Mutex::new(before)),
        }
    }
}

impl<F: FnMut(&MemoryStore, &Part) -> Result<(), StoreError> + Send> Store for Hooked<F> {
    type Version = u64;

    async fn load(&self, parts: &[Part]) -> Result<Stored<u64>, StoreError> {
        self.inner.load(parts).await
    }

    async fn save(
        &self,
        part: &Part,
        contents: &Contents,
        over: Option<&u64>,
    ) -> Result<(), StoreError> {
        (self.before.lock().unwrap())(&self.inner, part)?;
        self.inner.save(part, contents, over).await
    }
}

#[tokio::test]
async fn whoever_loses_the_race_reads_what_the_winner_made() {
    let clock = TestClock::new();
    let winner = MemoryStore::default();
    settle(&mut keeper(&winner, &clock, true).0).await;
    let made = winner.all();
    let raced = made.clone();
    // The other replica creates all in the moment before this one's first write.
    let store = Hooked::new(move |inner: &MemoryStore, _: &Part| {
        if inner.writes() == 0 {
            for (part, (contents, _)) in &raced {
                inner.put(part.clone(), contents.clone());
            }
        }
        Ok(())
    });
    let (mut loser, _leads) = keeper(&store, &clock, true);
    settle(&mut loser).await;
    for (part, (contents, _)) in store.inner.all() {
        assert_eq!(contents, made[&part].0, "{part}");
    }
    talk(&loser, &envoy(&winner)).await.unwrap();
}

#[tokio::test]
async fn leadership_that_goes_between_two_writes_stops_the_second() {
    let clock = TestClock::new();
    let (leader, receiver) = watch::channel(true);
    let store = Hooked::new(move |_: &MemoryStore, part: &Part| {
        assert_eq!(*part, Part::Authority);
        leader.send_replace(false);
        Ok(())
    });
    let (mut keeper, _) = keeper(&store, &clock, true);
    keeper.leader = receiver;
    keeper.step().await;
    keeper.step().await;
    assert_eq!(store.inner.writes(), 1);
}

async fn started() -> (MemoryStore, TestClock, Memory, watch::Sender<bool>) {
    let (store, clock) = (MemoryStore::default(), TestClock::new());
    let (mut leader, leads) = keeper(&store, &clock, true);
    settle(&mut leader).await;
    (store, clock, leader, leads)
}

#[tokio::test]
async fn what_a_tenant_deletes_comes_back() {
    let (store, clock, mut leader, _leads) = started().await;
    let first = leader.known.authorities[0].clone();
    for part in Part::of(&subject()) {
        store.remove(&part);
    }
    clock.set(START + 10);
    settle(&mut leader).await;
    assert_eq!(store.all().len(), 5);
    // A new authority; the old one, whose key is gone, is trusted for who has not seen it.
    let known = &leader.known.authorities;
    assert_eq!(known.len(), 2);
    assert_eq!(
        (&known[1].certificate, &known[1].key),
        (&first.certificate, &None)
    );
    assert_ne!(known[0].serial, first.serial);
    // All Secrets went, so the server has a certificate of the new one, and Envoys whose mount
    // has not changed yet wait for that; when it has, they are served.
    talk(&leader, &envoy(&store)).await.unwrap();

    // The authority alone: nobody notices.
    let (store, clock, mut leader, _leads) = started().await;
    let before = envoy(&store);
    store.remove(&Part::Authority);
    for t in 0..75 {
        clock.set(START + t);
        settle(&mut leader).await;
        let envoy = if t < 15 { &before } else { &envoy(&store) };
        talk(&leader, envoy)
            .await
            .unwrap_or_else(|e| panic!("{t}: {e}"));
    }
    let (now, _) = decode(&store.all(), &subject());
    assert!(now.authorities[0].issued(&envoy(&store), Usage::Envoy, clock.now()));
}

#[tokio::test]
async fn an_authority_that_a_tenant_plants_is_announced_first() {
    let (store, clock, mut leader, _leads) = started().await;
    let before = envoy(&store);
    // Whole, fitting, and claims to be known for long.
    let other = MemoryStore::default();
    settle(&mut keeper(&other, &clock, true).0).await;
    store.put(Part::Authority, other.all()[&Part::Authority].0.clone());
    clock.set(START + 20);
    settle(&mut leader).await;
    talk(&leader, &before).await.unwrap();
    assert_eq!(leader.known.authorities.len(), 2);
    assert_eq!(leader.known.authorities[0].published, Some(START + 20));
}

#[tokio::test]
async fn one_secret_that_cannot_be_written_keeps_no_other() {
    let clock = TestClock::new();
    let store = Hooked::new(|inner: &MemoryStore, part: &Part| {
        // It was there before, with junk in it, and cannot be changed.
        if *part == Part::Envoy("default".into()) && inner.all().contains_key(part) {
            return Err(StoreError::Failed(
                "web-envoy-default: 422 immutable".into(),
            ));
        }
        Ok(())
    });
    store
        .inner
        .put(Part::Envoy("default".into()), Contents::default());
    let (mut leader, _leads) = keeper(&store, &clock, true);
    let mut authorities = BTreeSet::new();
    let mut made = BTreeSet::new();
    for t in 0..1500 {
        clock.set(START + t);
        if t % 10 == 0 {
            leader.step().await;
            talk(&leader, &envoy(&store.inner))
                .await
                .unwrap_or_else(|e| panic!("{t}: {e}"));
            authorities.insert(leader.known.authorities[0].serial.clone());
            made.insert(leader.known.envoys["default"].key.pem().to_owned());
        }
    }
    assert!(authorities.len() >= 2, "authorities change all the same");
    assert!(made.len() < 30, "no new key at each look: {}", made.len());
    let troubles = leader.troubles().join("\n");
    assert!(
        troubles.contains("shard default has no tls.key; it is replaced"),
        "{troubles}"
    );
    assert!(troubles.contains("cannot write the certificate of shard default: web-envoy"));
}

#[tokio::test]
async fn what_cannot_be_replaced_is_not_made_at_each_look() {
    let clock = TestClock::new();
    let store = Hooked::new(|inner: &MemoryStore, part: &Part| {
        match *part == Part::Server && inner.all().contains_key(part) {
            true => Err(StoreError::Failed("web-xds-server: 422 immutable".into())),
            false => Ok(()),
        }
    });
    let (mut leader, _leads) = keeper(&store, &clock, true);
    let mut made = BTreeSet::new();
    for t in (0..600).step_by(10) {
        clock.set(START + t);
        leader.step().await;
        let error = talk(&leader, &envoy(&store.inner)).await.err();
        assert_eq!(error, None, "{t}");
        let server = leader.known.server.as_ref().unwrap();
        made.insert(server.certificate.clone());
    }
    assert!((7..=9).contains(&made.len()), "{}", made.len());
}

#[tokio::test]
async fn without_the_store_what_there_is_serves_on() {
    let clock = TestClock::new();
    let broken = Arc::new(Mutex::new(false));
    let is_broken = broken.clone();
    let store = Hooked::new(
        move |_: &MemoryStore, _: &Part| match *is_broken.lock().unwrap() {
            true => Err(StoreError::Failed("no route to host".into())),
            false => Ok(()),
        },
    );
    let (mut leader, _leads) = keeper(&store, &clock, true);
    settle(&mut leader).await;
    *broken.lock().unwrap() = true;
    let writes = store.inner.writes();
    clock.set(START + 100);
    assert_eq!(leader.step().await, short().recheck);
    talk(&leader, &envoy(&store.inner)).await.unwrap();
    assert_eq!(store.inner.writes(), writes);
    *broken.lock().unwrap() = false;
    settle(&mut leader).await;
    assert_eq!(leader.troubles(), Vec::<String>::new());
    assert_eq!(envoy(&store.inner).not_after, START + 220);
}

#[tokio::test]
async fn who_undoes_what_is_written_gets_no_endless_fight() {
    let (store, clock, mut leader, _leads) = started().await;
    let before = store.writes();
    let (mut t, mut steps) = (0, 0);
    while t < 60 {
        clock.set(START + t);
        store.put(Part::Server, Contents::default());
        t += leader.step().await.as_secs();
        steps += 1;
    }
    assert!(steps < 20, "{steps}");
    assert!(store.writes() - before < 60);
}

#[tokio::test]
async fn the_loop_wakes_for_time_leadership_and_shards() {
    let (store, clock) = (MemoryStore::default(), TestClock::new());
    let (subjects, subject) = watch::channel(Arc::new(of("team-a", &["fast"])));
    let (leader, receiver) = watch::channel(false);
    let mut keeper = Keeper::new(store.clone(), clock.clone(), short(), subject, receiver);
    // Not ready before somebody leads.
    let (tls, keeper) = tokio::join!(
        async {
            let tls = keeper.ready().await;
            (tls, keeper)
        },
        async {
            tokio::task::yield_now().await;
            assert_eq!(store.writes(), 0);
            leader.send_replace(true);
        }
    )
    .0;
    let mut tls = tls;
    let running = tokio::spawn(keeper.run());
    tls.mark_unchanged();
    clock.set(START + 80);
    tls.changed().await.unwrap();

    subjects.send_replace(Arc::new(of("team-a", &["fast", "slow"])));
    let slow = Part::Envoy("slow".into());
    let deadline = tokio::time::timeout(Duration::from_secs(30), async {
        while !store.all().contains_key(&slow) {
            tokio::task::yield_now().await;
        }
    });
    deadline.await.unwrap();
    // Nobody can tell it anything any more; time goes on.
    drop((subjects, leader));
    clock.set(START + 160);
    tls.changed().await.unwrap();
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test]
async fn a_directory_keeps_keys_over_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let (store, clock) = (DirectoryStore::new(home.path()), TestClock::new());
    let (mut first, _leads) = keeper(&store, &clock, true);
    settle(&mut first).await;
    let (mut second, _leads) = keeper(&store, &clock, true);
    settle(&mut second).await;
    assert_eq!(first.known, second.known);
    let key = second.known.envoys["fast"].key.clone();
    for t in 0..180 {
        clock.set(START + 10 * t);
        settle(&mut second).await;
        assert_eq!(second.known.envoys["fast"].key, key, "{t}");
        let file = std::fs::read_to_string(home.path().join("public/ca.crt")).unwrap();
        assert_eq!(file, trust(&second.known.authorities));
    }
    assert_ne!(first.known.authorities[0], second.known.authorities[0]);
    assert_eq!(second.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_said() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("state");
    std::fs::write(&file, "a file").unwrap();
    let (mut keeper, _leads) = keeper(&DirectoryStore::new(&file), &TestClock::new(), true);
    keeper.step().await;
    let troubles = keeper.troubles().join("\n");
    assert!(
        troubles.contains("/state") && troubles.lines().count() == 1,
        "{troubles}"
    );
    assert!(keeper.publisher.receiver().is_none());
}
