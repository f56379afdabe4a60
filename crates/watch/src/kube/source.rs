//! The supervisor: which watches run, and when a Snapshot is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::ApiResource;
use postern_refs::{Kind, Name, Snapshot};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::access::{Backoff, jittered};
use super::client::Clients;
use super::discover::{Discovered, discover};
use super::shared::{Epoch, Shared, Slot};
use super::task::Job;
use crate::debounce::Debounce;
use crate::observed::Observed;
use crate::scope::{Scope, Watch, WatchState};

/// How often the API server is asked again which kinds it serves, while one is absent.
const ASK_ABSENT: Duration = Duration::from_secs(15);
/// And while none is: a newer version may have come.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// Not more often than this, however many watches say that their kind is gone.
const ASK_SOON: Duration = Duration::from_secs(1);

/// How a source behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of one's own: watches of others are foreign. `None` (the operator): no watch
    /// is foreign.
    pub own_namespace: Option<Name>,
    /// The hold-off before a Snapshot is published.
    pub debounce: Debounce,
    /// Foreign watches last no longer than this, so that a revocation is seen.
    pub reauthorise: Duration,
    /// First lists come as watches where the server can do that (WatchList): it costs less memory
    /// on both sides.
    pub streaming_lists: bool,
}

impl Options {
    /// What a program in this namespace uses.
    #[must_use]
    pub fn new(own_namespace: Option<Name>) -> Options {
        Options {
            own_namespace,
            debounce: Debounce::default(),
            reauthorise: Duration::from_secs(55),
            streaming_lists: true,
        }
    }
}

/// The state of each watch.
pub type Coverage = BTreeMap<Watch, WatchState>;

/// What tasks tell the supervisor.
#[derive(Debug)]
pub(super) enum Event {
    /// A watch was told that its kind is not served.
    Absent,
    /// An answer about kinds.
    Discovered(Result<Discovered, kube::Error>),
}

enum Command {
    Scope(Scope),
    Rediscover,
}

/// An API server that is followed until this is dropped.
#[derive(Debug)]
pub struct KubeSource {
    commands: mpsc::UnboundedSender<Command>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    coverage: watch::Receiver<Arc<Coverage>>,
    kinds: watch::Receiver<Arc<Discovered>>,
    observed: Arc<Observed>,
    task: JoinHandle<()>,
}

impl KubeSource {
    /// Follows what the scope says. Needs a tokio runtime; one thread is enough.
    #[must_use]
    pub fn spawn(clients: Clients, scope: Scope, options: Options) -> KubeSource {
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (events, events_in) = mpsc::unbounded_channel();
        let (snapshots, snapshots_out) = watch::channel(None);
        let (coverage, coverage_out) = watch::channel(Arc::default());
        let (kinds, kinds_out) = watch::channel(Arc::default());
        let shared = Shared::new(events, options.streaming_lists);
        let observed = shared.lock().store.observed();
        let supervisor = Supervisor {
            clients,
            debounce: options.debounce.clone(),
            options,
            shared,
            scope,
            kinds,
            snapshots,
            coverage,
            jobs: BTreeMap::new(),
            epoch: 0,
            discovered: None,
            incomplete: false,
            asked: BTreeSet::new(),
            ask: Ask::At(tokio::time::Instant::now()),
            backoff: Backoff::default(),
        };
        KubeSource {
            commands,
            snapshots: snapshots_out,
            coverage: coverage_out,
            kinds: kinds_out,
            observed,
            task: tokio::spawn(supervisor.run(commands_in, events_in)),
        }
    }

    /// The Snapshots; `None` until every watch is settled for the first time.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshots.clone()
    }

    /// How far each watch is.
    #[must_use]
    pub fn coverage(&self) -> watch::Receiver<Arc<Coverage>> {
        self.coverage.clone()
    }

    /// The kinds that are served. Empty until the API server was asked.
    #[must_use]
    pub fn kinds(&self) -> watch::Receiver<Arc<Discovered>> {
        self.kinds.clone()
    }

    /// What the statuses say of ours.
    #[must_use]
    pub fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.observed)
    }

    /// Changes what is watched: other watches go on, objects that nothing watches any more are
    /// dropped, and watches that were refused ask again at once.
    pub fn set_scope(&self, scope: Scope) {
        // It fails only when the supervisor has ended with its runtime.
        let _ = self.commands.send(Command::Scope(scope));
    }

    /// Asks the API server again which kinds it serves; to be called when definitions have changed.
    pub fn rediscover(&self) {
        let _ = self.commands.send(Command::Rediscover);
    }
}

impl Drop for KubeSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A watch's task; it ends when this is dropped.
struct Running {
    resource: ApiResource,
    nudge: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When the server is asked about kinds.
enum Ask {
    At(tokio::time::Instant),
    /// The question is on its way.
    Asking,
}

struct Supervisor {
    clients: Clients,
    options: Options,
    debounce: Debounce,
    shared: Arc<Shared>,
    scope: Scope,
    kinds: watch::Sender<Arc<Discovered>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    coverage: watch::Sender<Arc<Coverage>>,
    jobs: BTreeMap<Watch, Running>,
    epoch: Epoch,
    discovered: Option<Arc<Discovered>>,
    /// Some watch could not be started.
    incomplete: bool,
    /// The kinds that were asked about.
    asked: BTreeSet<Kind>,
    ask: Ask,
    backoff: Backoff,
}

impl Supervisor {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        self.reconcile();
        let shared = Arc::clone(&self.shared);
        loop {
            let ask = match self.ask {
                Ask::At(time) => Some(time),
                Ask::Asking => None,
            };
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::Rediscover) => self.ask_within(Duration::ZERO),
                    Some(Command::Scope(scope)) => self.rescope(scope),
                },
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Absent) => self.ask_within(ASK_SOON),
                    Some(Event::Discovered(answer)) => self.answered(answer),
                },
                () = shared.changed.notified() => self.debounce.touch(Instant::now()),
                () = self.debounce.settled() => self.publish(),
                () = tokio::time::sleep_until(ask.unwrap_or_else(tokio::time::Instant::now)), if ask.is_some() => self.ask_now(),
            }
        }
    }

    fn rescope(&mut self, scope: Scope) {
        self.scope = scope;
        let kinds: BTreeSet<Kind> = self.scope.iter().map(|watch| watch.kind).collect();
        if !kinds.is_subset(&self.asked) {
            self.ask_within(Duration::ZERO);
        }
        for running in self.jobs.values() {
            running.nudge.notify_one();
        }
        self.reconcile();
    }

    fn ask_within(&mut self, time: Duration) {
        let soon = tokio::time::Instant::now() + time;
        if let Ask::At(at) = &mut self.ask {
            *at = soon.min(*at);
        }
    }

    fn ask_now(&mut self) {
        self.asked = self.scope.iter().map(|watch| watch.kind).collect();
        self.ask = Ask::Asking;
        let (client, kinds) = (self.clients.general(), self.asked.clone());
        let events = self.shared.events.clone();
        tokio::spawn(async move {
            let answer = discover(&client, &kinds).await;
            // It fails only when the supervisor has ended.
            let _ = events.send(Event::Discovered(answer));
        });
    }

    fn answered(&mut self, answer: Result<Discovered, kube::Error>) {
        let wait = match answer {
            Ok(found) => {
                self.backoff.reset();
                let wait = if found.absent.is_empty() {
                    ASK_AGAIN
                } else {
                    ASK_ABSENT
                };
                let mut wait = wait;
                if self.incomplete || self.discovered.as_deref() != Some(&found) {
                    self.incomplete = false;
                    if !found.absent.is_empty() {
                        tracing::info!(absent = ?found.absent, "kinds that the API server does not serve");
                    }
                    let found = Arc::new(found);
                    self.discovered = Some(Arc::clone(&found));
                    self.kinds.send_replace(found);
                    self.reconcile();
                    if self.incomplete {
                        wait = wait.min(ASK_ABSENT);
                    }
                }
                wait
            }
            Err(error) => {
                tracing::warn!(%error, "the API server does not say which kinds it serves");
                self.backoff.next(Instant::now())
            }
        };
        self.ask = Ask::At(tokio::time::Instant::now() + jittered(wait));
        let kinds: BTreeSet<Kind> = self.scope.iter().map(|watch| watch.kind).collect();
        if !kinds.is_subset(&self.asked) {
            self.ask_within(Duration::ZERO);
        }
    }

    /// Makes the tasks those of the scope, on the versions that are served.
    fn reconcile(&mut self) {
        let (scope, discovered) = (&self.scope, &self.discovered);
        let resource = |watch: &Watch| discovered.as_ref()?.resources.get(&watch.kind);
        self.jobs.retain(|watch, running| {
            scope.contains(watch) && resource(watch).is_some_and(|known| *known == running.resource)
        });

        let mut state = self.shared.lock();
        let gone: Vec<Watch> = state
            .watches
            .keys()
            .filter(|watch| !scope.contains(*watch))
            .cloned()
            .collect();
        for watch in gone {
            state.watches.remove(&watch);
            state.retain(&watch, |_| false);
        }
        let mut starting = Vec::new();
        for watch in scope {
            let absent = discovered
                .as_ref()
                .is_some_and(|found| found.absent.contains(&watch.kind));
            if absent {
                self.epoch += 1;
                state.watches.insert(
                    watch.clone(),
                    Slot {
                        epoch: self.epoch,
                        state: WatchState::Absent,
                    },
                );
                state.retain(watch, |_| false);
            } else if !self.jobs.contains_key(watch) {
                // What it held stays until the new list is in.
                self.epoch += 1;
                state.watches.insert(
                    watch.clone(),
                    Slot {
                        epoch: self.epoch,
                        state: WatchState::Loading(None),
                    },
                );
                if let Some(resource) = resource(watch) {
                    starting.push((watch.clone(), self.epoch, resource.clone()));
                }
            }
        }
        drop(state);
        for (watch, epoch, resource) in starting {
            self.start(watch, epoch, resource);
        }
        self.shared.changed.notify_one();
    }

    fn start(&mut self, watch: Watch, epoch: Epoch, resource: ApiResource) {
        let lease = match self.clients.lease() {
            Ok(lease) => lease,
            Err(error) => {
                // The same configuration made a client before: a file that it names is gone. The
                // next answer about kinds tries again.
                tracing::error!(%watch, %error, "no connection for the watch");
                let _ = self.shared.troubled(&watch, epoch, &error.to_string());
                self.incomplete = true;
                self.ask_within(ASK_ABSENT);
                return;
            }
        };
        let foreign = self
            .options
            .own_namespace
            .as_ref()
            .is_some_and(|own| watch.is_foreign(own));
        let nudge = Arc::new(Notify::new());
        let job = Job {
            watch: watch.clone(),
            epoch,
            resource: resource.clone(),
            lease,
            reauthorise: foreign.then_some(self.options.reauthorise),
            shared: Arc::clone(&self.shared),
            nudge: Arc::clone(&nudge),
        };
        let task = tokio::spawn(job.run());
        self.jobs.insert(
            watch,
            Running {
                resource,
                nudge,
                task,
            },
        );
    }

    fn publish(&mut self) {
        let mut state = self.shared.lock();
        let coverage: Coverage = state
            .watches
            .iter()
            .map(|(watch, slot)| (watch.clone(), slot.state.clone()))
            .collect();
        let first = self.snapshots.borrow().is_none();
        let settled = coverage.values().all(WatchState::is_settled);
        // Once there is something to go on with, a watch that is new or troubled holds nothing up.
        let snapshot = (!first || settled).then(|| state.store.snapshot());
        drop(state);
        self.coverage.send_if_modified(|last| {
            let changed = **last != coverage;
            if changed {
                *last = Arc::new(coverage);
            }
            changed
        });
        if let Some(snapshot) = snapshot {
            self.snapshots.send_if_modified(|last| {
                let same = last
                    .as_ref()
                    .is_some_and(|last| Arc::ptr_eq(last, &snapshot));
                if !same {
                    *last = Some(snapshot);
                }
                !same
            });
        }
    }
}
