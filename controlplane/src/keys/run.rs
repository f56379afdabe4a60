//! The loop: load, plan, save, publish, wait.
//!
//! Only the leader makes and saves. The others load, and serve with what they find: all replicas
//! have the same keys, and an Envoy may talk to any of them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::authority::{Bundle, Plan, plan};
use super::lifetimes::Lifetimes;
use super::material::{Leaf, Usage};
use super::store::{Part, Store, StoreError, Stored, Warning, decode, encode};
use super::subject::Subject;
use super::tls::Publisher;

/// How often in a row the store is looked at again at once, because it changed.
const BURST: u32 = 4;
const SECOND: Duration = Duration::from_secs(1);

/// What the loop knows of time.
pub trait Clock: Send + Sync {
    /// The time by which certificates are made.
    fn now(&self) -> UnixTime;
    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        UnixTime::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Keeps the keys of an instance: see [`Keeper::ready`] and [`Keeper::run`].
pub struct Keeper<S, C = SystemClock> {
    store: S,
    clock: C,
    lifetimes: Lifetimes,
    subject: watch::Receiver<Arc<Subject>>,
    leader: watch::Receiver<bool>,
    publisher: Publisher,
    /// The last bundle that was good. What vanishes from the store is trusted for a while.
    known: Bundle,
    /// Certificates that the store refused: not to make new ones at each look.
    refused: BTreeMap<Part, Leaf>,
    burst: u32,
    told: Vec<String>,
}

/// What came of saving.
#[derive(Default)]
struct Saved {
    wrote: bool,
    conflict: bool,
    failures: Vec<String>,
    authorities: bool,
}

impl<S: Store, C: Clock> Keeper<S, C> {
    /// A keeper over a store. `leader` says whether this replica makes keys; where there is only
    /// one, its sender may be dropped after `true`. `subject` may change: shards come and go.
    pub fn new(
        store: S,
        clock: C,
        lifetimes: Lifetimes,
        subject: watch::Receiver<Arc<Subject>>,
        leader: watch::Receiver<bool>,
    ) -> Keeper<S, C> {
        Keeper {
            store,
            clock,
            lifetimes,
            subject,
            leader,
            publisher: Publisher::new(),
            known: Bundle::default(),
            refused: BTreeMap::new(),
            burst: 0,
            told: Vec::new(),
        }
    }

    /// Waits until there are keys to serve with, and gives the TLS side of the xDS server: now,
    /// and whenever it changes while [`Keeper::run`] runs.
    pub async fn ready(&mut self) -> watch::Receiver<Arc<ServerConfig>> {
        loop {
            let next = self.step().await;
            if let Some(receiver) = self.publisher.receiver() {
                return receiver;
            }
            self.wait(next.min(SECOND)).await;
        }
    }

    /// What is wrong now, a line each: why [`Keeper::ready`] waits, or what was replaced.
    #[must_use]
    pub fn troubles(&self) -> &[String] {
        &self.told
    }

    /// Keeps the keys, for ever. It may be dropped at any time.
    pub async fn run(mut self) -> Infallible {
        loop {
            let next = self.step().await;
            self.wait(next).await;
        }
    }

    async fn wait(&mut self, time: Duration) {
        tokio::select! {
            () = self.clock.sleep(time) => {}
            () = changed(&mut self.leader) => {}
            () = changed(&mut self.subject) => {}
        }
    }

    /// Looks once, and says when to look again.
    async fn step(&mut self) -> Duration {
        let subject = self.subject.borrow_and_update().clone();
        let leader = *self.leader.borrow_and_update();
        let stored = match self.store.load(&Part::of(&subject)).await {
            Ok(stored) => stored,
            Err(error) => {
                self.tell(vec![format!("cannot read the keys: {error}")]);
                return self.soon();
            }
        };
        let (found, warnings) = decode(&stored, &subject);
        if leader {
            self.lead(&subject, &stored, found, &warnings).await
        } else {
            self.follow(found);
            self.burst = 0;
            self.lifetimes.recheck
        }
    }

    fn follow(&mut self, found: Bundle) {
        let now = self.clock.now();
        let server = found.server.as_ref();
        let fits = server.is_some_and(|leaf| {
            let mut all = found.authorities.iter();
            all.any(|authority| authority.issued(leaf, Usage::Server, now))
        });
        if !fits {
            debug!("no keys to serve with in the store: the leader makes them");
            return;
        }
        self.publish(&found);
        self.known = found;
    }

    async fn lead(
        &mut self,
        subject: &Subject,
        stored: &Stored<S::Version>,
        found: Bundle,
        warnings: &[Warning],
    ) -> Duration {
        let now = self.clock.now();
        let merged = self.merge(found, now);
        let keep = self.store.keeps_leaf_keys();
        let plan = match plan(Some(&merged), subject, now, &self.lifetimes, keep) {
            Ok(plan) => plan,
            Err(error) => {
                self.tell(vec![format!("cannot make keys: {error}")]);
                return self.soon();
            }
        };
        let mut notes: Vec<String> = warnings
            .iter()
            .map(|warning| format!("{warning}; it is replaced"))
            .collect();
        let saved = self.save(subject, stored, &plan).await;
        notes.extend(saved.failures.iter().cloned());
        self.tell(notes);
        if saved.authorities {
            self.publish(&plan.bundle);
            self.known = plan.bundle;
        }
        if saved.wrote || saved.conflict {
            return self.soon();
        }
        self.burst = 0;
        if saved.failures.is_empty() {
            plan.next_check
        } else {
            self.lifetimes.recheck
        }
    }

    /// What was found, and what is known beside it: an authority that vanished without notice is
    /// trusted until all have certificates of another one, and one that nobody here has seen
    /// before is announced first, whatever is written beside it.
    fn merge(&self, mut found: Bundle, now: UnixTime) -> Bundle {
        let known = &self.known.authorities;
        if !known.is_empty() {
            for authority in &mut found.authorities {
                if !known.iter().any(|k| k.certificate == authority.certificate) {
                    authority.published = None;
                }
            }
        }
        for authority in known.iter().filter(|a| a.not_after > now.as_secs()) {
            let mut all = found.authorities.iter();
            if !all.any(|a| a.certificate == authority.certificate) {
                let mut authority = authority.clone();
                authority.key = None;
                found.authorities.push(authority);
            }
        }
        for (part, leaf) in &self.refused {
            let better = |is: &Leaf| is.not_after < leaf.not_after;
            match part {
                Part::Server if found.server.as_ref().is_none_or(better) => {
                    found.server = Some(leaf.clone());
                }
                Part::Envoy(shard) if found.envoys.get(shard).is_none_or(better) => {
                    found.envoys.insert(shard.clone(), leaf.clone());
                }
                _ => {}
            }
        }
        found
    }

    /// Saves what differs from what is stored. Nothing that an authority signed is written before
    /// that authority is; what one part is refused does not keep the others.
    async fn save(&mut self, subject: &Subject, stored: &Stored<S::Version>, plan: &Plan) -> Saved {
        let mut saved = Saved::default();
        let parts = Part::of(subject);
        self.refused.retain(|part, _| parts.contains(part));
        for part in parts {
            let Some(contents) = encode(&plan.bundle, &part) else {
                continue;
            };
            let old = stored.get(&part);
            if old.is_none_or(|(is, _)| *is != contents) {
                // Leadership may have gone while the others were written.
                if !*self.leader.borrow() {
                    saved.conflict = true;
                    return saved;
                }
                let over = old.map(|(_, version)| version);
                match self.store.save(&part, &contents, over).await {
                    Ok(()) => {
                        info!(%part, "written");
                        saved.wrote = true;
                    }
                    Err(StoreError::Conflict) => {
                        debug!(%part, "someone else wrote it meanwhile");
                        saved.conflict = true;
                        return saved;
                    }
                    Err(StoreError::Failed(why)) => {
                        saved.failures.push(format!("cannot write {part}: {why}"));
                        if part == Part::Authority {
                            return saved;
                        }
                        let leaf = match &part {
                            Part::Server => plan.bundle.server.as_ref(),
                            Part::Envoy(shard) => plan.bundle.envoys.get(shard),
                            Part::Authority | Part::Public => None,
                        };
                        if let Some(leaf) = leaf {
                            self.refused.insert(part, leaf.clone());
                        }
                        continue;
                    }
                }
            }
            saved.authorities |= part == Part::Authority;
            self.refused.remove(&part);
        }
        saved
    }

    fn publish(&mut self, bundle: &Bundle) {
        match self.publisher.publish(bundle) {
            Ok(true) => info!("serving with new keys"),
            Ok(false) => {}
            Err(error) => error!("cannot serve with the keys: {error}"),
        }
    }

    /// Says what is wrong, once for each change.
    fn tell(&mut self, notes: Vec<String>) {
        for note in notes.iter().filter(|note| !self.told.contains(note)) {
            warn!("{note}");
        }
        self.told = notes;
    }

    /// At once, but not without end: someone may undo what is written.
    fn soon(&mut self) -> Duration {
        self.burst = self.burst.saturating_add(1);
        match self.burst.saturating_sub(BURST) {
            0 => Duration::ZERO,
            more => SECOND * 2u32.saturating_pow(more.min(16) - 1),
        }
        .min(self.lifetimes.recheck)
    }
}

/// Waits for a change; for ever where none can come.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod envoy;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
