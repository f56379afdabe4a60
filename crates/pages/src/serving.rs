//! What is served, by the code that the control plane runs, from what whoever asks may read.
//!
//! Secrets are not read, so HTTPS listeners are taken as HTTP ones: hosts and routes are the same,
//! and whether their certificates are good is told by their conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_model::{Action, ClusterId, Endpoints, Health, Target};
use postern_refs::Kind;
use postern_translate::{Memo, Settings, Translation, translate};
use postern_watch::store::Store;
use serde_json::{Value, json};

use crate::facts::{Facts, Resource};
use crate::read::{Gateway, Id, World, find};

/// What an instance's Envoys serve.
pub(crate) struct Serving {
    pub translation: Translation,
}

/// The kinds that what is served is made of.
const NEEDED: [(Resource, Kind); 4] = [
    (Resource::Gateway, Kind::Gateway),
    (Resource::HttpRoute, Kind::HttpRoute),
    (Resource::Service, Kind::Service),
    (Resource::EndpointSlice, Kind::EndpointSlice),
];

/// What is served, by instance; `None` if something that is needed for it is not known.
pub(crate) fn serving(facts: &Facts, world: &World) -> Option<Vec<Serving>> {
    let known = |resource| facts.knows(resource);
    if !(known(Resource::Entitlement) && NEEDED.iter().all(|(resource, _)| known(*resource))) {
        return None;
    }
    let mut store = Store::new();
    for (resource, kind) in NEEDED {
        for object in facts.objects(resource) {
            let object = match resource {
                Resource::Gateway => without_tls(object, world),
                _ => object.clone(),
            };
            // What an API server lists has a name.
            let _ = store.apply_json(kind, &object.to_string());
        }
    }
    let snapshot = store.snapshot();
    let all = world.entitlements.values().map(|entitlement| {
        let mut memo = Memo::new(Settings::default());
        Serving {
            translation: translate(&snapshot, entitlement, &mut memo),
        }
    });
    Some(all.collect())
}

/// A Gateway whose HTTPS listeners are HTTP ones, without those that its status says are not
/// served.
fn without_tls(gateway: &Value, world: &World) -> Value {
    let mut gateway = gateway.clone();
    let text = |pointer: &str| {
        let value = gateway.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let id = (text("/metadata/namespace"), text("/metadata/name"));
    let known = world.gateways.get(&id);
    let listeners = gateway
        .pointer_mut("/spec/listeners")
        .and_then(Value::as_array_mut);
    let Some(listeners) = listeners else {
        return gateway;
    };
    listeners.retain(|listener| {
        let name = listener["name"].as_str().unwrap_or_default();
        let tls = listener["protocol"] == "HTTPS";
        known.is_none_or(|known| !is_refused(known, name, tls))
    });
    for listener in listeners {
        if listener["protocol"] == "HTTPS" {
            listener["protocol"] = json!("HTTP");
            if let Some(fields) = listener.as_object_mut() {
                fields.remove("tls");
            }
        }
    }
    gateway
}

fn is_refused(gateway: &Gateway, listener: &str, tls: bool) -> bool {
    let Some(status) = gateway.listener_status(listener) else {
        return false;
    };
    let is = |kind: &str, word: &str| {
        find(&status.conditions, kind).is_some_and(|found| found.status == word)
    };
    let unserved =
        find(&status.conditions, "Programmed").is_some_and(|found| found.reason == "Invalid");
    is("Accepted", "False")
        || is("Conflicted", "True")
        || (tls && is("ResolvedRefs", "False") && unserved)
}

/// A rule that forwards to a Service none of whose endpoints is ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WithoutEndpoints {
    /// The route.
    pub route: Id,
    /// The Service.
    pub service: Id,
    /// Its port.
    pub port: String,
}

/// The namespace, name and port of the Service behind a cluster.
pub(crate) fn service_of(cluster: &ClusterId) -> Option<(Id, String)> {
    let mut parts = cluster.0.splitn(3, '/').map(str::to_owned);
    Some(((parts.next()?, parts.next()?), parts.next()?))
}

/// How many endpoints of a cluster are ready.
pub(crate) fn ready(endpoints: &BTreeMap<ClusterId, Arc<Endpoints>>, cluster: &ClusterId) -> usize {
    let of = endpoints.get(cluster).into_iter();
    of.flat_map(|of| &of.endpoints)
        .filter(|endpoint| endpoint.health == Health::Ready)
        .count()
}

impl Serving {
    /// Each route and Service of which no endpoint is ready, once.
    pub(crate) fn without_endpoints(&self) -> BTreeSet<WithoutEndpoints> {
        let mut found = BTreeSet::new();
        for proxy in self.translation.proxies.values() {
            let hosts = proxy.tables.values().flat_map(|table| &table.hosts);
            for entry in hosts.flat_map(|host| &host.entries) {
                let Action::Forward(backends) = &entry.action else {
                    continue;
                };
                for backend in backends.iter().filter(|backend| backend.weight > 0) {
                    let Target::Cluster(cluster) = &backend.target else {
                        continue;
                    };
                    if ready(&proxy.endpoints, cluster) > 0 {
                        continue;
                    }
                    found.extend(service_of(cluster).map(|(service, port)| WithoutEndpoints {
                        route: (
                            entry.origin.namespace.to_string(),
                            entry.origin.name.to_string(),
                        ),
                        service,
                        port,
                    }));
                }
            }
        }
        found
    }
}
