//! Watches of what was stamped, so that drift is repaired, and of Entitlements.
//!
//! What was stamped is watched by our label; an object that lost it looks deleted, which brings
//! the run that puts it back. Entitlements are watched all, since tenants may write their labels.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use postern_api::Entitlement;
use postern_api::entitlement::EntitlementSpec;
use postern_stamp::labels;
use tokio::sync::{mpsc, watch};

use crate::kinds::Stamped;
use crate::live::entitlement_key;
use crate::shared::Shared;

/// Where something changed that was stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// In this namespace.
    Namespace(String),
    /// Perhaps in all of them.
    Everywhere,
}

/// Where changes are told.
pub type Touches = mpsc::UnboundedSender<Touch>;

/// How often is asked whether a kind has come that a cluster may do without.
const ASK_ABSENT: Duration = Duration::from_secs(5);

/// Objects a page of a list: whole objects are held for one page only.
const PAGE: u32 = 100;

/// Which watches have not brought their first list.
#[derive(Clone, Debug)]
pub struct Pending(watch::Sender<BTreeSet<&'static str>>);

impl Pending {
    fn done(&self, kind: &'static str) {
        self.0.send_if_modified(|pending| pending.remove(kind));
    }

    /// Waits until all of them have.
    pub async fn all_listed(&self) {
        let mut pending = self.0.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = pending.wait_for(BTreeSet::is_empty).await;
    }

    /// Those that have not.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&'static str> {
        self.0.borrow().clone()
    }
}

/// Starts all watches on tasks of their own, which end when `touches` is closed.
#[must_use]
pub fn start(shared: &Arc<Shared>, client: &kube::Client, touches: &Touches) -> Pending {
    let kinds = Stamped::ALL.iter().map(|kind| kind.kind());
    let pending = Pending(watch::Sender::new(kinds.chain(["Entitlement"]).collect()));
    let page = watcher::Config::default().page_size(PAGE);
    for kind in Stamped::ALL {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
        let ours = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
        let config = page.clone().labels(&ours);
        let (shared, touches, pending) = (shared.clone(), touches.clone(), pending.clone());
        tokio::spawn(async move {
            while watch_kind(&shared, kind, (&api, &config), &touches, &pending).await {
                tokio::time::sleep(ASK_ABSENT).await;
            }
        });
    }
    let resource = ApiResource::erase::<Entitlement>(&());
    let events = watcher(
        Api::<DynamicObject>::all_with(client.clone(), &resource),
        page,
    );
    let events = events.default_backoff();
    let (shared, touches, pending_too) = (shared.clone(), touches.clone(), pending.clone());
    tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        let mut listed = BTreeSet::new();
        while let Some(event) = next(&mut events, &touches).await {
            match event {
                Ok(event) => {
                    entitlement(&shared, event, &mut listed, &touches, &pending_too);
                }
                Err(error) => failed("Entitlement", &error),
            }
        }
    });
    pending
}

/// Watches a kind until it is not served, then returns true: it is to be asked for again, from the
/// start. A watch that goes on from where it was would never list what is there when it comes back.
async fn watch_kind(
    shared: &Shared,
    kind: Stamped,
    (api, config): (&Api<DynamicObject>, &watcher::Config),
    touches: &Touches,
    pending: &Pending,
) -> bool {
    let mut events = std::pin::pin!(watcher(api.clone(), config.clone()).default_backoff());
    while let Some(event) = next(&mut events, touches).await {
        match event {
            Ok(event) => stamped(shared, kind, event, touches, pending),
            Err(error) if is_absent(kind, &error) => {
                absent(shared, kind, touches, pending);
                return true;
            }
            Err(error) => failed(kind.kind(), &error),
        }
    }
    false
}

/// The next event; `None` once nobody listens any more.
async fn next<S: Stream + Unpin>(events: &mut S, touches: &Touches) -> Option<S::Item> {
    tokio::select! {
        () = touches.closed() => None,
        event = events.next() => event,
    }
}

/// Whether a kind that a cluster may do without is not there.
fn is_absent(kind: Stamped, error: &watcher::Error) -> bool {
    // By the code: for a group that it does not know, an API server answers "404 page not found", which has
    // no reason.
    let not_found = matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if status.code == 404
    );
    not_found && kind.is_optional()
}

/// A kind that is not served has no objects. The watch is tried again, so it is noticed when it
/// comes; that, and that it goes, is news to every tenant that asked for it.
fn absent(shared: &Shared, kind: Stamped, touches: &Touches, pending: &Pending) {
    let (news, gone) = {
        let mut live = shared.live();
        (live.is_served(kind), live.not_served(kind))
    };
    for namespace in gone {
        let _ = touches.send(Touch::Namespace(namespace));
    }
    if news {
        let _ = touches.send(Touch::Everywhere);
    }
    pending.done(kind.kind());
    tracing::debug!(kind = kind.kind(), "is not served");
}

fn failed(kind: &'static str, error: &watcher::Error) {
    tracing::warn!(kind, error = %crate::problem::chain(error), "cannot be watched");
}

fn stamped(
    shared: &Shared,
    kind: Stamped,
    event: Event<DynamicObject>,
    touches: &Touches,
    pending: &Pending,
) {
    let touch = |object: &DynamicObject| {
        // Whoever listened is gone: so are we, soon.
        let _ = touches.send(Touch::Namespace(
            object.metadata.namespace.clone().unwrap_or_default(),
        ));
    };
    match event {
        Event::Init => shared.live().list_begins(kind),
        Event::InitApply(object) | Event::Apply(object) => {
            if shared.live().apply(kind, &object) {
                touch(&object);
            }
        }
        Event::Delete(object) => {
            shared.live().delete(kind, &object);
            touch(&object);
        }
        Event::InitDone => {
            let (news, gone) = {
                let mut live = shared.live();
                (!live.is_served(kind), live.list_ends(kind))
            };
            for namespace in gone {
                let _ = touches.send(Touch::Namespace(namespace));
            }
            if news && kind.is_optional() {
                // Every tenant could have waited for it.
                let _ = touches.send(Touch::Everywhere);
            }
            pending.done(kind.kind());
        }
    }
}

fn entitlement(
    shared: &Shared,
    event: Event<DynamicObject>,
    listed: &mut BTreeSet<(String, String)>,
    touches: &Touches,
    pending: &Pending,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            let object = lower(object);
            let key = entitlement_key(&object);
            if shared.live().apply_entitlement(object) {
                let _ = touches.send(Touch::Namespace(key.0.clone()));
            }
            listed.insert(key);
        }
        Event::Apply(object) => {
            let object = lower(object);
            let (namespace, _) = entitlement_key(&object);
            if shared.live().apply_entitlement(object) {
                let _ = touches.send(Touch::Namespace(namespace));
            }
        }
        Event::Delete(object) => {
            let object = lower(object);
            let (namespace, _) = entitlement_key(&object);
            shared.live().delete_entitlement(&object);
            let _ = touches.send(Touch::Namespace(namespace));
        }
        Event::InitDone => {
            let gone = shared.live().retain_entitlements(listed);
            listed.clear();
            for namespace in gone {
                let _ = touches.send(Touch::Namespace(namespace));
            }
            pending.done("Entitlement");
        }
    }
}

/// Reads an Entitlement whatever it says: one object that does not decode must not stop the
/// watch of all. A status that does not is none: no news.
fn lower(object: DynamicObject) -> Entitlement {
    let status = object.data.get("status").cloned();
    let mut metadata = object.metadata;
    metadata.managed_fields = None;
    Entitlement {
        metadata,
        spec: EntitlementSpec::default(),
        status: status.and_then(|status| serde_json::from_value(status).ok()),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_group_that_is_not_served_is_absent_whatever_the_words() {
        let failed = |code: u16, reason: &str| {
            let status = Status::failure("404 page not found", reason).with_code(code);
            watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
        };
        // The group, and the kind in a group that is there.
        for reason in ["Failed to parse error data", "NotFound"] {
            assert!(is_absent(Stamped::Route, &failed(404, reason)), "{reason}");
            assert!(
                is_absent(Stamped::Gateway, &failed(404, reason)),
                "{reason}"
            );
            assert!(
                !is_absent(Stamped::Service, &failed(404, reason)),
                "{reason}"
            );
        }
        assert!(!is_absent(Stamped::Route, &failed(403, "Forbidden")));
    }
}
