//! What a tenant's own objects refer to.

use std::collections::BTreeSet;

use postern_api::GATEWAY_GROUP;
use postern_api::entitlement::{Decision, ObjectRef, WatchGrant};
use postern_api::reasons::Reason;
use postern_refs::objects::{Gateway, ListenerTls, Protocol, TlsMode};
use postern_refs::{Key, Kind, Name, Object, Snapshot, attach};

use crate::ownership::in_namespace;

/// The most references across namespaces that are decided for one instance; what is past it stays
/// pending. An Entitlement must fit into an API server's largest object (1.5 MiB).
pub(crate) const MOST_DECISIONS: usize = 2_000;

/// The most objects by name; what is past it stays unread. Each costs its control plane a watch.
pub(crate) const MOST_OBJECTS: usize = 1_000;

/// What the control plane watches in its own namespace. GatewayClasses are cluster-scoped: the
/// contract carries their names instead.
pub(crate) fn watches(tenant: &Key) -> Vec<WatchGrant> {
    let mut watches: Vec<WatchGrant> = [
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::Service,
        Kind::EndpointSlice,
    ]
    .into_iter()
    .map(|kind| WatchGrant {
        group: kind.group().into(),
        kind: kind.name().into(),
        namespace: tenant.namespace.to_string(),
    })
    .collect();
    watches.sort();
    watches
}

/// The Secrets of the tenant's namespace that its own Gateways name as certificates: these and no
/// others may be read.
pub(crate) fn secrets(tenant: &Key, gateways: &[(&Object<Gateway>, &Gateway)]) -> Vec<ObjectRef> {
    let named: BTreeSet<ObjectRef> = gateways
        .iter()
        .flat_map(|(_, gateway)| certificates(gateway))
        .filter(|to| to.group.is_empty() && &*to.kind == Kind::Secret.name())
        .filter(|to| {
            to.namespace
                .as_ref()
                .is_none_or(|name| *name == tenant.namespace)
        })
        .map(|to| target(&to.group, &to.kind, &tenant.namespace, &to.name))
        .collect();
    named.into_iter().take(MOST_OBJECTS).collect()
}

/// References of the tenant's own objects that leave its namespace. None is permitted in this
/// version, and whether the target exists is not even asked.
pub(crate) fn refused(
    snapshot: &Snapshot,
    tenant: &Key,
    gateways: &[(&Object<Gateway>, &Gateway)],
) -> Vec<Decision> {
    let own = &tenant.namespace;
    let mut leaving: BTreeSet<(ObjectRef, ObjectRef)> = BTreeSet::new();
    let mut note = |from: &ObjectRef, group: &str, kind: &str, namespace: &Name, name: &str| {
        if namespace != own {
            leaving.insert((from.clone(), target(group, kind, namespace, name)));
        }
    };
    for (object, gateway) in gateways {
        let from = origin(Kind::Gateway, &object.meta.key);
        for to in certificates(gateway) {
            let namespace = to.namespace.as_ref().unwrap_or(own);
            note(&from, &to.group, &to.kind, namespace, &to.name);
        }
    }
    for object in in_namespace(&snapshot.http_routes, tenant) {
        let Some(route) = object.valid() else {
            continue;
        };
        let from = origin(Kind::HttpRoute, &object.meta.key);
        for parent in &route.parents {
            if let Some((namespace, name)) = attach::gateway_of(parent, own) {
                note(&from, GATEWAY_GROUP, Kind::Gateway.name(), namespace, name);
            }
        }
        for backend in route.rules.iter().flat_map(|rule| &rule.backends) {
            let namespace = backend.namespace.as_ref().unwrap_or(own);
            note(
                &from,
                &backend.group,
                &backend.kind,
                namespace,
                &backend.name,
            );
        }
    }
    leaving
        .into_iter()
        .take(MOST_DECISIONS)
        .map(|(from, to)| Decision {
            from,
            to,
            reason: Reason::RefNotPermitted.into(),
            decided_by: Vec::new(),
        })
        .collect()
}

/// The certificates that are really served: those of HTTPS listeners that end TLS.
fn certificates(gateway: &Gateway) -> impl Iterator<Item = &postern_refs::ObjectRef> {
    let ends = |tls: &&ListenerTls| tls.mode == TlsMode::Terminate;
    gateway
        .listeners
        .iter()
        .filter(|listener| listener.protocol == Protocol::Https)
        .filter_map(move |listener| listener.tls.as_ref().filter(ends))
        .flat_map(|tls| &tls.certificates)
}

fn origin(kind: Kind, key: &Key) -> ObjectRef {
    target(kind.group(), kind.name(), &key.namespace, &key.name)
}

fn target(group: &str, kind: &str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}
