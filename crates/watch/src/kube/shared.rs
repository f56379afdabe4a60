//! What the tasks of a source share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_refs::Key;
use tokio::sync::{Notify, mpsc};

use super::raw::Raw;
use super::source::Event;
use crate::scope::{Watch, WatchState};
use crate::store::Store;

/// A run of a watch's task: what an older one still says is not heard.
pub(super) type Epoch = u64;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) epoch: Epoch,
    pub(super) state: WatchState,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) watches: BTreeMap<Watch, Slot>,
}

/// The one store, and the way to the supervisor.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something changed: objects, or the state of a watch.
    pub(super) changed: Notify,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// The server can send the first list as a watch (WatchList).
    pub(super) streaming: AtomicBool,
}

impl State {
    /// Drops the objects of a watch that are not to be kept and that no other watch holds.
    pub(super) fn retain(&mut self, watch: &Watch, keep: impl Fn(&Key) -> bool) {
        let others: Vec<&Watch> = self
            .watches
            .iter()
            .filter(|(other, slot)| {
                other.kind == watch.kind
                    && *other != watch
                    && matches!(slot.state, WatchState::Loading(_) | WatchState::Loaded)
            })
            .map(|(other, _)| other)
            .collect();
        self.store.retain(watch.kind, &watch.extent, |key| {
            keep(key) || others.iter().any(|other| other.extent.holds(key))
        });
    }
}

impl Shared {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>, streaming: bool) -> Arc<Shared> {
        Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            events,
            streaming: AtomicBool::new(streaming),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole once it is made, whatever panics after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a task change the state, unless it is an old one's: then it is to end.
    fn with<R>(
        &self,
        watch: &Watch,
        epoch: Epoch,
        change: impl FnOnce(&mut State) -> R,
    ) -> Result<R, Stale> {
        let mut state = self.lock();
        if state
            .watches
            .get(watch)
            .is_none_or(|slot| slot.epoch != epoch)
        {
            return Err(Stale);
        }
        let result = change(&mut state);
        drop(state);
        self.changed.notify_one();
        Ok(result)
    }

    pub(super) fn apply(
        &self,
        watch: &Watch,
        epoch: Epoch,
        raw: &Raw,
    ) -> Result<Option<Key>, Stale> {
        let Some(key) = raw.key() else {
            tracing::warn!(%watch, "an object without a name");
            return Ok(None);
        };
        // A selector that the server did not heed must not bring in what was not asked for.
        if !watch.extent.holds(&key) {
            return Ok(None);
        }
        let applied = self.with(watch, epoch, |state| {
            state.store.apply_json(watch.kind, raw.json())
        })?;
        match applied {
            Ok(key) => Ok(Some(key)),
            Err(nameless) => {
                tracing::warn!(%watch, %nameless, "an object that cannot be told from others");
                Ok(None)
            }
        }
    }

    pub(super) fn remove(&self, watch: &Watch, epoch: Epoch, key: &Key) -> Result<(), Stale> {
        self.with(watch, epoch, |state| state.store.remove(watch.kind, key))
    }

    /// The list is in: what it did not hold is gone.
    pub(super) fn listed(
        &self,
        watch: &Watch,
        epoch: Epoch,
        seen: &BTreeSet<Key>,
    ) -> Result<(), Stale> {
        self.with(watch, epoch, |state| {
            state.retain(watch, |key| seen.contains(key));
            set(state, watch, WatchState::Loaded);
        })
    }

    /// There is nothing to see any more. Says whether that is new.
    pub(super) fn lost(&self, watch: &Watch, epoch: Epoch, now: WatchState) -> Result<bool, Stale> {
        self.with(watch, epoch, |state| {
            let new = state
                .watches
                .get(watch)
                .is_some_and(|slot| slot.state != now);
            set(state, watch, now);
            state.retain(watch, |_| false);
            new
        })
    }

    /// Something goes wrong. What is loaded stays loaded.
    pub(super) fn troubled(&self, watch: &Watch, epoch: Epoch, why: &str) -> Result<(), Stale> {
        self.with(watch, epoch, |state| {
            if let Some(slot) = state.watches.get_mut(watch)
                && let WatchState::Loading(_) = slot.state
            {
                slot.state = WatchState::Loading(Some(why.into()));
            }
        })
    }

    /// The server says that it does not serve a kind.
    pub(super) fn absent(&self) {
        // It fails only when the supervisor has ended.
        let _ = self.events.send(Event::Absent);
    }
}

fn set(state: &mut State, watch: &Watch, now: WatchState) {
    if let Some(slot) = state.watches.get_mut(watch) {
        slot.state = now;
    }
}

/// The task that asks is not the watch's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale;
