//! What the objects name and no file holds: it may be on the cluster, which nobody asks here.

use std::collections::{BTreeMap, BTreeSet};

use postern_refs::objects::ObjectRef;
use postern_refs::{Key, Kind, Snapshot, attach};

use crate::report::Absent;

/// Collects it.
#[derive(Debug, Default)]
pub struct Absentees(BTreeMap<(Kind, Key), BTreeSet<(Kind, Key)>>);

impl Absentees {
    /// Something is not there that this object names.
    pub fn add(&mut self, kind: Kind, key: Key, named_by: (Kind, Key)) {
        self.0.entry((kind, key)).or_default().insert(named_by);
    }

    /// The Services of its own namespace that an HTTPRoute names. Those of others are not permitted
    /// in this version, wherever they are.
    pub fn of_route(&mut self, snapshot: &Snapshot, key: &Key) {
        let route = snapshot
            .http_routes
            .get(key)
            .and_then(|object| object.valid());
        let backends = route
            .into_iter()
            .flat_map(|route| &route.rules)
            .flat_map(|rule| &rule.backends);
        for backend in backends {
            let elsewhere = backend
                .namespace
                .as_ref()
                .is_some_and(|name| *name != key.namespace);
            if elsewhere || !backend.group.is_empty() || &*backend.kind != Kind::Service.name() {
                continue;
            }
            let service = key.sibling(key.namespace.clone(), backend.name.clone());
            if !snapshot.services.contains_key(&service) {
                self.add(Kind::Service, service, (Kind::HttpRoute, key.clone()));
            }
        }
    }

    /// The Secrets of its own namespace that a Gateway names.
    pub fn of_gateway(&mut self, snapshot: &Snapshot, key: &Key) {
        let gateway = snapshot.gateways.get(key).and_then(|object| object.valid());
        let named = gateway.into_iter().flat_map(|gateway| &gateway.listeners);
        let named = named.filter_map(|listener| listener.tls.as_ref());
        for to in named.flat_map(|tls| &tls.certificates) {
            let ObjectRef {
                group,
                kind,
                namespace,
                name,
            } = to;
            let elsewhere = namespace
                .as_ref()
                .is_some_and(|name| *name != key.namespace);
            if elsewhere || !group.is_empty() || &**kind != Kind::Secret.name() {
                continue;
            }
            let secret = key.sibling(key.namespace.clone(), name.clone());
            if !snapshot.secrets.contains_key(&secret) {
                self.add(Kind::Secret, secret, (Kind::Gateway, key.clone()));
            }
        }
    }

    /// The Gateways that an HTTPRoute names as parents.
    pub fn parents(&mut self, snapshot: &Snapshot, key: &Key) {
        let route = snapshot
            .http_routes
            .get(key)
            .and_then(|object| object.valid());
        for parent in route.into_iter().flat_map(|route| &route.parents) {
            if let Some((namespace, name)) = attach::gateway_of(parent, &key.namespace) {
                let gateway = key.sibling(namespace.clone(), name.clone());
                if !snapshot.gateways.contains_key(&gateway) {
                    self.add(Kind::Gateway, gateway, (Kind::HttpRoute, key.clone()));
                }
            }
        }
    }

    /// All of it, by kind, namespace and name.
    pub fn report(self) -> Vec<Absent> {
        let named = |(kind, key): &(Kind, Key)| format!("{} {key}", kind.name());
        self.0
            .into_iter()
            .map(|((kind, key), by)| Absent {
                kind: kind.name().into(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                named_by: by.iter().map(named).collect(),
            })
            .collect()
    }
}
