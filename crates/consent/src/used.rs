//! What an instance uses of its quotas.

use std::collections::BTreeSet;

use postern_api::instance::Used;
use postern_refs::objects::Gateway;
use postern_refs::{Key, Object, Snapshot, attach};

use crate::ownership::in_namespace;

/// Counted as the quotas count: the listeners of its Gateways, and the routes that name one of those.
/// Routes of other namespaces do not attach, and nobody there can use up what is this one's.
pub(crate) fn of(
    snapshot: &Snapshot,
    tenant: &Key,
    gateways: &[(&Object<Gateway>, &Gateway)],
) -> Used {
    let own: BTreeSet<&Key> = gateways
        .iter()
        .map(|(object, _)| &object.meta.key)
        .collect();
    let routes = in_namespace(&snapshot.http_routes, tenant)
        .filter(|route| attach::names_gateway(route, |key| own.contains(key)))
        .count();
    let listeners: usize = gateways
        .iter()
        .map(|(_, gateway)| gateway.listeners.len())
        .sum();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Used {
        routes: number(routes),
        listeners: number(listeners),
    }
}
