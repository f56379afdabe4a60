//! Whose consent a change can alter: what keeps one tenant's churn away from all others.

use std::collections::BTreeSet;
use std::sync::Arc;

use postern_refs::{Key, Map, Name, Snapshot};

/// Whose consent may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// That of the tenants of these namespaces, at most.
    Namespaces(BTreeSet<Name>),
    /// Anybody's: an admin changed something.
    All,
}

/// Whose consent may differ between two Snapshots. Objects are compared by pointer, as a
/// source keeps them: two equal objects of different age count as a change.
#[must_use]
pub fn touched(old: &Snapshot, new: &Snapshot) -> Touched {
    // Every kind is thought of here: no `..`. Services, slices and Secrets are the control
    // plane's; ReferenceGrants permit nothing yet.
    let Snapshot {
        gateway_classes,
        gateways,
        http_routes,
        services: _,
        endpoint_slices: _,
        secrets: _,
        reference_grants: _,
        namespaces,
        instances,
        tenant_grants,
    } = new;
    if differs(&old.gateway_classes, gateway_classes) || differs(&old.tenant_grants, tenant_grants)
    {
        return Touched::All;
    }
    let mut touched = BTreeSet::new();
    let mut own = |key: &Key| {
        touched.insert(key.namespace.clone());
    };
    changed(&old.gateways, gateways, &mut own);
    changed(&old.http_routes, http_routes, &mut own);
    changed(&old.instances, instances, &mut own);
    changed(&old.namespaces, namespaces, &mut |key| {
        touched.insert(key.name.clone());
    });
    Touched::Namespaces(touched)
}

fn differs<T>(old: &Map<T>, new: &Map<T>) -> bool {
    let mut any = false;
    changed(old, new, &mut |_| any = true);
    any
}

/// Calls `with` for each key whose object came, went or is another.
fn changed<T>(old: &Map<T>, new: &Map<T>, with: &mut impl FnMut(&Key)) {
    if Arc::ptr_eq(old, new) {
        return;
    }
    for (key, object) in new.iter() {
        if !old
            .get(key)
            .is_some_and(|before| Arc::ptr_eq(before, object))
        {
            with(key);
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        with(key);
    }
}
