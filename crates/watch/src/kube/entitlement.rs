//! The contract, as the control plane follows it.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event as Change};
use postern_api::{Entitlement, EntitlementStatus};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::access::{Backoff, jittered};
use super::client::{Clients, Lease};

/// One Entitlement that is followed until this is dropped.
///
/// The last status goes on where there is none any more, whether the object was deleted, stripped
/// or cannot be read: *no news*, never *nothing allowed*.
#[derive(Debug)]
pub struct EntitlementSource {
    statuses: watch::Receiver<Option<Arc<EntitlementStatus>>>,
    task: JoinHandle<()>,
}

impl EntitlementSource {
    /// Follows the Entitlement of this name. Needs a tokio runtime.
    ///
    /// # Errors
    /// If there is no connection to be had.
    pub fn spawn(
        clients: &Clients,
        namespace: &str,
        name: &str,
    ) -> Result<EntitlementSource, kube::Error> {
        let (sender, statuses) = watch::channel(None);
        let lease = clients.lease()?;
        let task = tokio::spawn(follow(lease, namespace.into(), name.into(), sender));
        Ok(EntitlementSource { statuses, task })
    }

    /// The statuses; `None` until there was one.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Option<Arc<EntitlementStatus>>> {
        self.statuses.clone()
    }
}

impl Drop for EntitlementSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    lease: Lease,
    namespace: String,
    name: String,
    sender: watch::Sender<Option<Arc<EntitlementStatus>>>,
) {
    let api: Api<Entitlement> = Api::namespaced(lease.client.clone(), &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = std::pin::pin!(watcher::watcher(api, config));
    let mut backoff = Backoff::default();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Change::Apply(object) | Change::InitApply(object)) => {
                if object.metadata.name.as_deref() == Some(&*name)
                    && let Some(status) = object.status
                {
                    sender.send_if_modified(|last| {
                        let changed = last.as_deref() != Some(&status);
                        if changed {
                            *last = Some(Arc::new(status));
                        }
                        changed
                    });
                }
            }
            Ok(Change::Init | Change::InitDone) => backoff.reset(),
            Ok(Change::Delete(_)) => tracing::warn!(
                namespace,
                name,
                "the Entitlement is gone: the last one goes on"
            ),
            Err(error) => {
                tracing::debug!(%error, "the Entitlement's watch resumes");
                tokio::time::sleep(jittered(backoff.next(Instant::now()))).await;
            }
        }
    }
}
