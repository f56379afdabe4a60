//! The delta ADS protocol as a machine without I/O: one [`Machine`] a stream, one stream an Envoy.
//!
//! Source: "xDS protocol", sections "Incremental xDS" and "Eventual consistency considerations",
//! and `envoy/service/discovery/v3/discovery.proto`.
//!
//! At most one response a type is in flight, so what Envoy holds is known whenever the next one is
//! made, and a slow Envoy gets the newest state and none in between. Order is make before break:
//!
//! - kinds go out in the order of [`Kind::ALL`];
//! - a route table waits until each cluster it needs is held by this Envoy, with its endpoints
//!   (Envoy acknowledges clusters before they are warm), or was refused by it; the old table stays;
//! - clusters and endpoints that are gone are withheld from removal while a table that Envoy holds,
//!   or that is in flight, needs them. Envoy itself ignores the removal of a table and keeps it for
//!   connections that still drain from its listener; such connections are not waited for;
//! - listeners that are gone go at once, and before their tables and secrets.
//!
//! A response that Envoy refuses as a whole is halved and sent again until the culprit stands alone:
//! only that is a refusal. A version so refused is not sent again on the stream as long as its name
//! exists and is subscribed to.

mod channel;
mod event;
mod order;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::Any;
use postern_envoy::{Kind, Resources};

use channel::{Channel, Outstanding, Sent, differences};
use discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
pub use event::{Event, MAX_DETAIL};
use order::{Needed, Verdict};

/// Greatest count of names in one list of a request, and of subscriptions of one type on one stream.
pub const MAX_NAMES: usize = 65_536;

/// Greatest length of a resource name in a request, in bytes.
pub const MAX_NAME: usize = 1024;

/// A response is closed when its names and bodies reach this many bytes. One resource is never cut.
pub const RESPONSE_BYTES: usize = 2 << 20;

/// A request that no Envoy sends. It ends the stream with `InvalidArgument`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// More than [`MAX_NAMES`].
    #[error("more than {MAX_NAMES} names")]
    TooManyNames,
    /// Longer than [`MAX_NAME`].
    #[error("a name of more than {MAX_NAME} bytes")]
    NameTooLong,
}

/// The protocol of one stream.
#[derive(Debug, Default)]
pub struct Machine {
    /// `None` until the first [`Machine::on_resources`]: nothing is answered before.
    resources: Option<Arc<Resources>>,
    channels: [Channel; Kind::ALL.len()],
    nonce: u64,
    /// Envoy has answered a response. It says what it holds of all types before it does so, hence
    /// from here on it is known which tables it brought along, and removals may begin. Each
    /// wildcard subscription gets an answer, so this comes.
    heard: bool,
    /// Clusters sent before Envoy said which endpoints it has, and whether they were new to it.
    sent_early: BTreeMap<Arc<str>, bool>,
    /// The clusters that must stay; `None` when to be worked out anew.
    needed: Option<Needed>,
    events: Vec<Event>,
    /// How many names and needs were looked at.
    #[cfg(test)]
    looks: std::cell::Cell<usize>,
}

impl Machine {
    /// A new stream.
    #[must_use]
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Takes a request and returns the responses that are due.
    ///
    /// The node in it is not looked at. Types that are not served are ignored.
    ///
    /// # Errors
    /// When the request exceeds the bounds of this module. The stream must then be ended.
    #[expect(clippy::needless_pass_by_value, reason = "a request is answered once")]
    pub fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
    ) -> Result<Vec<DeltaDiscoveryResponse>, ProtocolError> {
        let Some(kind) = Kind::of_type_url(&request.type_url) else {
            let shown: String = request.type_url.chars().take(128).collect();
            tracing::debug!(type_url = ?shown, "type not served: ignored");
            return Ok(Vec::new());
        };
        check(&request)?;
        if !request.response_nonce.is_empty() {
            let error = request.error_detail.as_ref().map(|e| e.message.as_str());
            self.settle(kind, &request.response_nonce, error);
        }
        self.subscriptions(kind, &request)?;
        Ok(self.pump())
    }

    /// Takes what this Envoy should hold from now on and returns the responses that are due.
    ///
    /// Costs one walk over the names, whose versions alone are compared.
    pub fn on_resources(&mut self, resources: Arc<Resources>) -> Vec<DeltaDiscoveryResponse> {
        let old = self.resources.take();
        for kind in Kind::ALL {
            let channel = &mut self.channels[kind as usize];
            if !channel.asked {
                continue;
            }
            match &old {
                Some(old) if Arc::ptr_eq(old, &resources) => {}
                Some(old) => differences(old.of(kind), resources.of(kind), |name| {
                    if channel.covers(name) {
                        channel.pending.insert(name.clone());
                    }
                }),
                None if channel.wildcard => {
                    let names = resources.of(kind).keys();
                    channel.pending.extend(names.cloned());
                }
                None => {}
            }
        }
        self.resources = Some(resources);
        Kind::ALL.into_iter().for_each(|kind| self.recognise(kind));
        self.pump()
    }

    /// Takes what has been learnt since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Books Envoy's answer to a response. An answer to any but the last one is stale and ignored.
    fn settle(&mut self, kind: Kind, nonce: &str, error: Option<&str>) {
        let channel = &mut self.channels[kind as usize];
        let Some(outstanding) = channel.outstanding.take_if(|o| o.nonce == nonce) else {
            tracing::debug!(?kind, "stale nonce: ignored");
            return;
        };
        self.heard = true;
        if kind == Kind::Routes {
            self.needed = None;
        }
        let news = match error {
            None => {
                channel.accept(&outstanding);
                true
            }
            Some(_) => channel.refuse(&outstanding),
        };
        if !news {
            tracing::debug!(
                ?kind,
                count = outstanding.sent.len(),
                "refused: narrowing down"
            );
            return;
        }
        let names = outstanding.sent.into_iter().map(|s| (s.name, s.version));
        let names: Vec<_> = names.collect();
        let removed: Vec<_> = outstanding
            .removed
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        self.events.push(match error {
            None => Event::Acknowledged {
                kind,
                names,
                removed,
            },
            Some(detail) => Event::Refused {
                kind,
                // Those that went along with a refused resource are told again.
                removed: if names.is_empty() {
                    removed
                } else {
                    Vec::new()
                },
                names,
                detail: event::bounded(detail),
            },
        });
    }

    fn subscriptions(
        &mut self,
        kind: Kind,
        request: &DeltaDiscoveryRequest,
    ) -> Result<(), ProtocolError> {
        let resources = self.resources.clone();
        let resources = resources.as_deref();
        // One copy of a name, if it is one of ours.
        let shared = |name: &str| -> Arc<str> {
            resources
                .and_then(|r| r.of(kind).get_key_value(name))
                .map_or_else(|| Arc::from(name), |(name, _)| name.clone())
        };
        let channel = &mut self.channels[kind as usize];
        let first = !std::mem::replace(&mut channel.asked, true);
        if kind == Kind::Routes && !request.resource_names_unsubscribe.is_empty() {
            self.needed = None;
        }
        for name in &request.resource_names_unsubscribe {
            match name.as_str() {
                "*" => channel.unsubscribe_all(),
                name => channel.unsubscribe(name),
            }
        }
        for name in &request.resource_names_subscribe {
            match name.as_str() {
                "*" => channel.subscribe_all(kind, resources),
                name => channel.subscribe(shared(name), !first),
            }
            if channel.named.len() > MAX_NAMES {
                return Err(ProtocolError::TooManyNames);
            }
        }
        if !first {
            return Ok(());
        }
        // What Envoy always did for these two before `*` had a name.
        if request.resource_names_subscribe.is_empty()
            && matches!(kind, Kind::Cluster | Kind::Listener)
        {
            channel.subscribe_all(kind, resources);
        }
        for (name, version) in &request.initial_resource_versions {
            if channel.covers(name) {
                channel.bring(shared(name), u64::from_str_radix(version, 16).ok());
            }
        }
        self.recognise(kind);
        if kind == Kind::Endpoints {
            for (cluster, fresh) in std::mem::take(&mut self.sent_early) {
                self.warm(&cluster, fresh);
            }
        }
        Ok(())
    }

    /// Tells of what Envoy brought along at the version that it should have.
    fn recognise(&mut self, kind: Kind) {
        let Some(resources) = &self.resources else {
            return;
        };
        let names = self.channels[kind as usize].recognise(kind, resources);
        if kind == Kind::Routes {
            self.needed = None;
        }
        if !names.is_empty() {
            self.events.push(Event::Acknowledged {
                kind,
                names,
                removed: Vec::new(),
            });
        }
    }

    /// The next response of each type that may have one.
    fn pump(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let Some(resources) = self.resources.clone() else {
            return Vec::new();
        };
        let next = |kind| self.next_response(kind, &resources);
        Kind::ALL.into_iter().filter_map(next).collect()
    }

    fn next_response(
        &mut self,
        kind: Kind,
        resources: &Resources,
    ) -> Option<DeltaDiscoveryResponse> {
        let channel = &mut self.channels[kind as usize];
        if !channel.asked || channel.outstanding.is_some() {
            return None;
        }
        let mut draft = Draft::default();
        while draft.is_empty() {
            let group = self.channels[kind as usize].next_suspects(kind, resources);
            if group.is_empty() {
                break;
            }
            for name in group {
                self.consider(kind, name, resources, &mut draft);
            }
        }
        if draft.is_empty() {
            let mut pending = std::mem::take(&mut self.channels[kind as usize].pending);
            while draft.bytes < RESPONSE_BYTES
                && let Some(name) = pending.pop_first()
            {
                self.consider(kind, name, resources, &mut draft);
            }
            self.channels[kind as usize].pending.append(&mut pending);
        }
        let channel = &mut self.channels[kind as usize];
        let due = std::mem::take(&mut channel.answer_due);
        if draft.is_empty() && !due {
            return None;
        }
        if kind == Kind::Routes {
            self.needed = None;
        }
        self.nonce += 1;
        let nonce = format!("{:x}", self.nonce);
        let removed_resources = draft.removed.iter().map(|(n, _)| n.to_string()).collect();
        channel.outstanding = Some(Outstanding {
            nonce: nonce.clone(),
            sent: draft.sent,
            removed: draft.removed,
        });
        Some(DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            nonce,
            resources: draft.resources,
            removed_resources,
            ..Default::default()
        })
    }

    fn consider(&mut self, kind: Kind, name: Arc<str>, resources: &Resources, draft: &mut Draft) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        let verdict = self.verdict(kind, &name, resources);
        let channel = &mut self.channels[kind as usize];
        match verdict {
            Verdict::Nothing => {
                if resources.get(kind, &name).is_none() && !channel.named.contains(&name) {
                    channel.entries.remove(&name);
                }
            }
            Verdict::Wait => {
                channel.pending.insert(name);
            }
            Verdict::Send => self.include(kind, name, resources, draft),
            Verdict::Remove => self.exclude(kind, name, draft),
        }
    }

    fn include(&mut self, kind: Kind, name: Arc<str>, resources: &Resources, draft: &mut Draft) {
        let Some(resource) = resources.get(kind, &name) else {
            return;
        };
        let entry = self.channels[kind as usize]
            .entries
            .entry(name.clone())
            .or_default();
        let again = std::mem::take(&mut entry.resend);
        entry.absent = false;
        entry.waits_for = None;
        if kind == Kind::Cluster {
            let fresh = !entry.is_held();
            self.warm(&name, fresh);
        }
        draft.bytes += name.len() + resource.body.len();
        draft.resources.push(discovery::Resource {
            name: name.to_string(),
            version: format!("{:x}", resource.version),
            resource: Some(Any {
                type_url: kind.type_url().to_owned(),
                value: resource.body.to_vec(),
            }),
            ..Default::default()
        });
        draft.sent.push(Sent {
            name,
            version: resource.version,
            needs: resource.needs.clone(),
            again,
        });
    }

    fn exclude(&mut self, kind: Kind, name: Arc<str>, draft: &mut Draft) {
        let channel = &mut self.channels[kind as usize];
        let named = channel.named.contains(&name);
        let entry = channel.entries.entry(name.clone()).or_default();
        entry.resend = false;
        entry.absent = named;
        if kind == Kind::Cluster {
            self.sent_early.remove(&name);
        }
        draft.bytes += name.len();
        draft.removed.push((name, entry.held.take()));
    }

    /// A cluster that is sent warms, and only endpoints that come after it end that: Envoy does
    /// not ask for them again if it knows them. A fresh one has none until they are acknowledged.
    fn warm(&mut self, cluster: &Arc<str>, fresh: bool) {
        let endpoints = &mut self.channels[Kind::Endpoints as usize];
        if !endpoints.asked {
            self.sent_early.insert(cluster.clone(), fresh);
            return;
        }
        if endpoints.covers(cluster)
            && let Some(entry) = endpoints.entries.get_mut(cluster)
        {
            entry.resend = true;
            entry.absent = false;
            if fresh {
                entry.held = None;
            }
            endpoints.pending.insert(cluster.clone());
        }
    }
}

/// A response in the making.
#[derive(Default)]
struct Draft {
    resources: Vec<discovery::Resource>,
    sent: Vec<Sent>,
    removed: Vec<(Arc<str>, Option<channel::Held>)>,
    bytes: usize,
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.removed.is_empty()
    }
}

fn check(request: &DeltaDiscoveryRequest) -> Result<(), ProtocolError> {
    let counts = [
        request.resource_names_subscribe.len(),
        request.resource_names_unsubscribe.len(),
        request.initial_resource_versions.len(),
    ];
    if counts.into_iter().any(|count| count > MAX_NAMES) {
        return Err(ProtocolError::TooManyNames);
    }
    let mut names = (request.resource_names_subscribe.iter())
        .chain(&request.resource_names_unsubscribe)
        .chain(request.initial_resource_versions.keys());
    if names.any(|name| name.len() > MAX_NAME) {
        return Err(ProtocolError::NameTooLong);
    }
    Ok(())
}
