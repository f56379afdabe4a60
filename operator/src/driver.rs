//! The loop: what changed, whose it is, who is next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use postern_consent::{Touched, touched};
use postern_refs::status::Statuses;
use postern_refs::{Key, Kind, Snapshot};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::sleep_until;

use postern_watch::WatchState;
use postern_watch::kube::Coverage;

use crate::class::Kept;
use crate::observe::Touch;
use crate::queue::{Outcome, Queue};
use crate::reconcile;
use crate::shared::{Shared, Surroundings};
use crate::{bare, class, orphans};

/// The kinds that consent is computed from, of the whole cluster. Secrets are none of them.
pub const KINDS: [Kind; 7] = [
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::HttpRoute,
    Kind::ReferenceGrant,
    Kind::Namespace,
    Kind::GatewayInstance,
    Kind::TenantGrant,
];

/// How many tenants run at a time.
const MOST_RUNS: usize = 8;
/// How long a run may take.
const LONGEST_RUN: Duration = Duration::from_secs(120);
/// How long changes are gathered before the statuses of Gateways are looked at.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// How long after a failure the GatewayClass is looked at again.
const CLASS_RETRY: Duration = Duration::from_secs(10);
/// How long it is left alone when nothing changes: the CRDs' version may.
const CLASS_REST: Duration = Duration::from_secs(600);

/// What the loop listens to, and what it says.
pub struct Inputs {
    /// Everything that consent is computed from. The first one is whole.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How far the source's watches are. While one of them is refused, nothing is done: a
    /// TenantGrant that cannot be read is not one that was taken away. The source tells this before
    /// the Snapshot that lacks the objects.
    pub coverage: watch::Receiver<Arc<Coverage>>,
    /// Whether this is the leader.
    pub leader: watch::Receiver<bool>,
    /// What was looked up.
    pub around: watch::Receiver<Surroundings>,
    /// Where something changed that was stamped.
    pub touches: mpsc::UnboundedReceiver<Touch>,
    /// Where the statuses of Gateways without a control plane go.
    pub statuses: watch::Sender<Arc<Statuses>>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Another one leads now. What was under way was dropped; start again.
    #[error("the Lease was lost")]
    LostLease,
    /// Something that feeds the loop is gone.
    #[error("a watch ended")]
    InputGone,
}

struct Driver {
    shared: Arc<Shared>,
    queue: Queue,
    runs: JoinSet<(Key, Outcome)>,
    keys: HashMap<Id, Key>,
    snapshot: Arc<Snapshot>,
    around: Surroundings,
    statuses: watch::Sender<Arc<Statuses>>,
    statuses_due: Option<Instant>,
}

/// Runs until the Lease is lost or an input is gone.
pub async fn drive(shared: Arc<Shared>, inputs: Inputs) -> Ended {
    let Inputs {
        mut snapshots,
        mut coverage,
        mut leader,
        mut around,
        mut touches,
        statuses,
    } = inputs;
    let class = keep_class(shared.clone(), snapshots.clone(), leader.clone());
    let _class = AbortOnDrop(tokio::spawn(class).abort_handle());
    let mut driver = Driver {
        shared,
        queue: Queue::default(),
        runs: JoinSet::new(),
        keys: HashMap::new(),
        snapshot: snapshots.borrow_and_update().clone(),
        around: around.borrow_and_update().clone(),
        statuses,
        statuses_due: Some(Instant::now()),
    };
    driver.touch_all();
    let mut led = *leader.borrow_and_update();
    loop {
        let leads = *leader.borrow();
        if led && !leads {
            return Ended::LostLease;
        }
        led = leads;
        // Before the runs: a Gateway's status is let go of before it gets another writer.
        driver.tell_statuses(Instant::now());
        let may_run = leads
            && is_whole(&coverage.borrow())
            && driver.shared.settings(&driver.around).is_some();
        if may_run {
            driver.start_runs();
        }
        // A tenant that is due while all places are taken waits for a run to end.
        let wake = driver
            .queue
            .next_due()
            .filter(|_| may_run && driver.runs.len() < MOST_RUNS);
        let wake = [wake, driver.statuses_due].into_iter().flatten().min();
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Ended::InputGone;
                }
                driver.snapshot_changed(snapshots.borrow_and_update().clone());
            }
            touch = touches.recv() => match touch {
                Some(Touch::Namespace(namespace)) => driver.touch_namespace(&namespace),
                Some(Touch::Everywhere) => driver.touch_all(),
                None => return Ended::InputGone,
            },
            changed = around.changed() => {
                if changed.is_err() {
                    return Ended::InputGone;
                }
                driver.around = around.borrow_and_update().clone();
                driver.touch_all();
            }
            changed = leader.changed() => if changed.is_err() {
                return Ended::InputGone;
            },
            changed = coverage.changed() => if changed.is_err() {
                return Ended::InputGone;
            },
            Some(ended) = driver.runs.join_next_with_id() => driver.run_ended(ended),
            () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
        }
    }
}

impl Driver {
    fn touch_all(&mut self) {
        let mut namespaces = self.shared.live().namespaces();
        let snapshot = &self.snapshot;
        let there = snapshot.instances.keys().chain(snapshot.gateways.keys());
        namespaces.extend(there.map(|key| key.namespace.to_string()));
        for namespace in namespaces {
            self.touch_namespace(&namespace);
        }
    }

    fn touch_namespace(&mut self, namespace: &str) {
        let now = Instant::now();
        for key in reconcile::tenants_of(&self.shared, &self.snapshot, namespace) {
            self.queue.touch(&key, now);
        }
        self.touch_statuses(now);
    }

    fn touch_statuses(&mut self, now: Instant) {
        self.statuses_due.get_or_insert(now + STATUS_PAUSE);
    }

    fn snapshot_changed(&mut self, new: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.snapshot, new);
        match touched(&old, &self.snapshot) {
            Touched::All => self.touch_all(),
            Touched::Namespaces(namespaces) => {
                for namespace in &namespaces {
                    self.touch_namespace(namespace);
                }
                // Instances that are gone and of which nothing was seen yet.
                let gone: BTreeSet<Key> = old
                    .instances
                    .keys()
                    .filter(|key| namespaces.contains(&key.namespace))
                    .filter(|key| !self.snapshot.instances.contains_key(*key))
                    .cloned()
                    .collect();
                let now = Instant::now();
                for key in gone {
                    self.queue.touch(&key, now);
                }
            }
        }
        self.statuses_due = Some(Instant::now());
    }

    fn start_runs(&mut self) {
        while self.runs.len() < MOST_RUNS {
            let Some(key) = self.queue.take(Instant::now()) else {
                return;
            };
            let (shared, snapshot) = (self.shared.clone(), self.snapshot.clone());
            let (around, tenant) = (self.around.clone(), key.clone());
            let task = self.runs.spawn(async move {
                let run = reconcile::run(&shared, &snapshot, &around, &tenant);
                let outcome = match tokio::time::timeout(LONGEST_RUN, run).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        tracing::warn!(instance = %tenant, "a run took too long");
                        Outcome::Failed
                    }
                };
                (tenant, outcome)
            });
            self.keys.insert(task.id(), key);
        }
    }

    fn run_ended(&mut self, ended: Result<(Id, (Key, Outcome)), JoinError>) {
        let now = Instant::now();
        match ended {
            Ok((id, (key, outcome))) => {
                self.keys.remove(&id);
                self.queue.ended(&key, outcome, now);
            }
            Err(error) => {
                if let Some(key) = self.keys.remove(&error.id()) {
                    tracing::error!(instance = %key, %error, "a run broke down");
                    self.queue.ended(&key, Outcome::Failed, now);
                }
            }
        }
        self.touch_statuses(now);
    }

    fn tell_statuses(&mut self, now: Instant) {
        if self.statuses_due.is_none_or(|due| due > now) {
            return;
        }
        self.statuses_due = None;
        let standing = |key: &Key| reconcile::standing(&self.shared, &self.snapshot, key);
        let new = orphans::statuses(&self.snapshot, &bare::facts(&self.shared), standing);
        self.statuses.send_if_modified(|told| {
            let news = **told != new;
            if news {
                tracing::debug!(gateways = new.len(), "Gateways without a control plane");
                *told = Arc::new(new);
            }
            news
        });
    }
}

/// Whether everything that consent is computed from is being read. The Gateway API's kinds may be
/// absent; our own may not, since a definition that was deleted takes all its objects with it.
#[must_use]
pub fn is_whole(coverage: &Coverage) -> bool {
    let ours = |kind: Kind| matches!(kind, Kind::GatewayInstance | Kind::TenantGrant);
    !coverage.is_empty()
        && coverage.iter().all(|(watch, state)| match state {
            WatchState::Loaded | WatchState::Loading(_) => true,
            WatchState::Refused => false,
            WatchState::Absent => !ours(watch.kind),
        })
}

/// Keeps the GatewayClass while this is the leader.
async fn keep_class(
    shared: Arc<Shared>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut leader: watch::Receiver<bool>,
) {
    loop {
        if leader.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        let snapshot = snapshots.borrow_and_update().clone();
        let kept = class::keep(&shared, &snapshot, &Time(Timestamp::now())).await;
        if let Err(problem) = &kept {
            tracing::error!(%problem, "GatewayClass");
        }
        let rest = match kept {
            Ok(Kept::There) => CLASS_REST,
            Ok(Kept::NotServed) | Err(_) => CLASS_RETRY,
        };
        let classes = snapshot.gateway_classes.clone();
        drop(snapshot);
        let changed = snapshots.wait_for(|new| !Arc::ptr_eq(&new.gateway_classes, &classes));
        if let Ok(Err(_)) = tokio::time::timeout(rest, changed).await {
            return;
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use postern_watch::Watch;

    use super::*;

    #[test]
    fn nothing_is_done_while_something_cannot_be_read() {
        let coverage = |kind: Kind, state: WatchState| {
            let loaded = Kind::ALL.map(|kind| (Watch::cluster(kind), WatchState::Loaded));
            let mut coverage = Coverage::from(loaded);
            coverage.insert(Watch::cluster(kind), state);
            coverage
        };
        let cases = [
            (Kind::TenantGrant, WatchState::Loaded, true),
            (Kind::TenantGrant, WatchState::Loading(None), true),
            (Kind::TenantGrant, WatchState::Refused, false),
            (Kind::TenantGrant, WatchState::Absent, false),
            (Kind::GatewayInstance, WatchState::Absent, false),
            (Kind::Gateway, WatchState::Absent, true),
            (Kind::Namespace, WatchState::Refused, false),
        ];
        for (kind, state, whole) in cases {
            assert_eq!(
                is_whole(&coverage(kind, state.clone())),
                whole,
                "{kind:?} {state:?}"
            );
        }
        assert!(!is_whole(&Coverage::new()));
    }
}
