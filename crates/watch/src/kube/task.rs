//! One watch.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Error, Event as Change};
use postern_refs::Key;
use tokio::sync::Notify;

use super::access::{Access, Backoff, jittered};
use super::client::Lease;
use super::raw::Raw;
use super::shared::{Epoch, Shared, Stale};
use crate::scope::{Extent, Watch, WatchState};

/// Objects in a page of a list: they are held as text until they are lowered.
const PAGE: u32 = 100;
/// While a list comes in, silence for longer than this is trouble.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a watch of our own namespace lasts.
const OWN_LASTS: u32 = 290;

/// What a watch's task needs.
pub(super) struct Job {
    pub(super) watch: Watch,
    pub(super) epoch: Epoch,
    pub(super) resource: ApiResource,
    pub(super) lease: Lease,
    /// How long a watch lasts at most, where another owner may revoke it: a watch that is open goes
    /// on delivering after its rights are gone, a new one is refused.
    pub(super) reauthorise: Option<Duration>,
    pub(super) shared: Arc<Shared>,
    /// The grants may have changed.
    pub(super) nudge: Arc<Notify>,
}

/// Why a watcher is given up. A new one lists again.
enum End {
    Stale,
    /// 403.
    Refused,
    /// 404: the kind, or this version of it, is not served.
    Absent,
    /// The server cannot send a list as a watch.
    NoStreaming,
    Failed(String),
}

impl From<Stale> for End {
    fn from(_: Stale) -> End {
        End::Stale
    }
}

impl Job {
    /// Follows the watch until it is another's task.
    pub(super) async fn run(self) {
        let mut access = Access::default();
        let mut backoff = Backoff::default();
        loop {
            let streaming = self.shared.streaming.load(Ordering::Relaxed);
            let Err(end) = self.follow(streaming, &mut access, &mut backoff).await;
            let wait = match end {
                End::Stale => return,
                End::NoStreaming => {
                    tracing::info!(watch = %self.watch, "the API server does not stream lists: listing instead");
                    self.shared.streaming.store(false, Ordering::Relaxed);
                    continue;
                }
                End::Refused => {
                    let refusal = access.refused(Instant::now());
                    if refusal.certain && self.lost(&WatchState::Refused).is_err() {
                        return;
                    }
                    refusal.wait
                }
                End::Absent => {
                    if self.lost(&WatchState::Absent).is_err() {
                        return;
                    }
                    self.shared.absent();
                    backoff.next(Instant::now())
                }
                End::Failed(why) => {
                    tracing::debug!(watch = %self.watch, why, "the watch failed");
                    if self.shared.troubled(&self.watch, self.epoch, &why).is_err() {
                        return;
                    }
                    backoff.next(Instant::now())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(jittered(wait)) => {}
                () = self.nudge.notified() => access.nudge(),
            }
        }
    }

    fn lost(&self, now: &WatchState) -> Result<(), Stale> {
        if self.shared.lost(&self.watch, self.epoch, now.clone())? {
            tracing::info!(watch = %self.watch, state = ?now, "the watch sees nothing");
        }
        Ok(())
    }

    fn config(&self, streaming: bool) -> watcher::Config {
        let lasts = self.reauthorise.map_or(OWN_LASTS, |at_most| {
            u32::try_from(at_most.as_secs())
                .unwrap_or(OWN_LASTS)
                .clamp(1, OWN_LASTS)
        });
        // Watches that began together do not end together.
        let spread = RandomState::new().hash_one(&self.watch) % u64::from(lasts / 8 + 1);
        let mut config = watcher::Config::default()
            .page_size(PAGE)
            .timeout(lasts - u32::try_from(spread).unwrap_or(0));
        if let Extent::Object(_, name) = &self.watch.extent {
            config = config.fields(&format!("metadata.name={name}"));
        }
        if streaming {
            config.streaming_lists()
        } else {
            config
        }
    }

    fn api(&self) -> Api<Raw> {
        let client = self.lease.client.clone();
        match self.watch.extent.namespace() {
            Some(namespace) if !namespace.is_empty() => {
                Api::namespaced_with(client, namespace, &self.resource)
            }
            _ => Api::all_with(client, &self.resource),
        }
    }

    /// Lists and watches, and resumes where it left off after trouble that passes.
    async fn follow(
        &self,
        streaming: bool,
        access: &mut Access,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, End> {
        let mut changes = pin!(watcher::watcher(self.api(), self.config(streaming)));
        // The keys of the list that is coming in; `None` once it is in.
        let mut seen: Option<BTreeSet<Key>> = Some(BTreeSet::new());
        let mut began = false;
        loop {
            let change = if seen.is_some() {
                match tokio::time::timeout(SILENCE, changes.next()).await {
                    Ok(change) => change,
                    Err(_) if streaming && began => return Err(End::NoStreaming),
                    Err(_) => return Err(End::Failed("the API server does not answer".into())),
                }
            } else {
                changes.next().await
            };
            match change {
                None => return Err(End::Failed("the watch ended".into())),
                Some(Ok(Change::Init)) => {
                    began = true;
                    seen = Some(BTreeSet::new());
                }
                Some(Ok(Change::InitApply(raw) | Change::Apply(raw))) => {
                    if let Some(key) = self.shared.apply(&self.watch, self.epoch, &raw)?
                        && let Some(seen) = &mut seen
                    {
                        seen.insert(key);
                    }
                }
                Some(Ok(Change::Delete(raw))) => {
                    if let Some(key) = raw.key() {
                        self.shared.remove(&self.watch, self.epoch, &key)?;
                    }
                }
                Some(Ok(Change::InitDone)) => {
                    self.shared.listed(
                        &self.watch,
                        self.epoch,
                        &seen.take().unwrap_or_default(),
                    )?;
                    access.granted();
                    backoff.reset();
                }
                Some(Err(error)) => {
                    if let Some(end) = ends(&error, streaming && seen.is_some()) {
                        return Err(end);
                    }
                    let why = error.to_string();
                    tracing::debug!(watch = %self.watch, why, "the watch resumes");
                    self.shared.troubled(&self.watch, self.epoch, &why)?;
                    tokio::time::sleep(jittered(backoff.next(Instant::now()))).await;
                }
            }
        }
    }
}

/// Whether an error needs a new watcher. `streaming`: while a list comes in as a watch.
fn ends(error: &Error, streaming: bool) -> Option<End> {
    let status = match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => status,
        Error::NoResourceVersion => return Some(End::Failed(error.to_string())),
        _ => return None,
    };
    match status.code {
        403 => Some(End::Refused),
        404 => Some(End::Absent),
        // Its own resumption: it lists again.
        410 => None,
        // Servers and stores that are too old say so in several ways (400, 405, 422; 500 in the
        // stream): a list never does harm.
        400 | 405 | 422 => Some(if streaming {
            End::NoStreaming
        } else {
            End::Failed(error.to_string())
        }),
        _ if streaming && matches!(error, Error::WatchError(_)) && status.code != 429 => {
            Some(End::NoStreaming)
        }
        _ => None,
    }
}
