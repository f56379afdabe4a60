//! The TenantGrants that cover a namespace.

use std::collections::{BTreeMap, BTreeSet};

use postern_api::TenantGrantSpec;
use postern_api::entitlement::Quotas;
use postern_api::grant::InstanceTemplate;
use postern_api::instance::{ExposureType, Granted};
use postern_refs::{FieldPath, Key, Name, Object, Snapshot};

/// The label that the API server keeps on every Namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The labels of the tenant's Namespace. The name's label is always there, as on a cluster, and
/// cannot be another.
pub(crate) fn namespace_labels(snapshot: &Snapshot, tenant: &Key) -> BTreeMap<Name, Name> {
    let mut labels = snapshot
        .namespaces
        .get(&tenant.sibling("", tenant.namespace.clone()))
        .and_then(|namespace| namespace.valid())
        .map(|namespace| namespace.labels.clone())
        .unwrap_or_default();
    labels.insert(NAME_LABEL.into(), tenant.namespace.clone());
    labels
}

/// All grants on the tenant's namespace together: hostnames and exposures united, each quota the
/// least.
pub(crate) fn in_force(snapshot: &Snapshot, tenant: &Key) -> Granted {
    let mut by = Vec::new();
    let mut hostnames: BTreeSet<String> = BTreeSet::new();
    let mut exposures: BTreeSet<ExposureType> = BTreeSet::new();
    let mut address_pools: BTreeSet<&String> = BTreeSet::new();
    let mut quotas = Quotas::default();
    for (object, grant) in covering(snapshot, tenant) {
        by.push(object.meta.key.name.to_string());
        // Host names compare without case (RFC 4343).
        hostnames.extend(grant.hostnames.iter().map(|name| name.to_ascii_lowercase()));
        exposures.extend(&grant.exposures);
        address_pools.extend(&grant.address_pools);
        if let Some(more) = &grant.quotas {
            quotas = least(&quotas, more);
        }
    }
    Granted {
        by,
        hostnames: hostnames.into_iter().collect(),
        exposures: exposures.into_iter().collect(),
        address_pools: address_pools.into_iter().cloned().collect(),
        quotas: (quotas != Quotas::default()).then_some(quotas),
    }
}

/// What an instance of the tenant's namespace is made from, and by which grant: the oldest that
/// has a template; of one age the one whose name comes first.
pub(crate) fn template<'a>(
    snapshot: &'a Snapshot,
    tenant: &Key,
) -> Option<(&'a Object<TenantGrantSpec>, &'a InstanceTemplate)> {
    covering(snapshot, tenant)
        .filter_map(|(object, grant)| Some((object, grant.instance_template.as_ref()?)))
        .min_by_key(|(object, _)| (object.meta.created, &object.meta.key))
}

/// The grants that cover the tenant's namespace, by name.
fn covering<'a>(
    snapshot: &'a Snapshot,
    tenant: &Key,
) -> impl Iterator<Item = (&'a Object<TenantGrantSpec>, &'a TenantGrantSpec)> {
    let labels = namespace_labels(snapshot, tenant);
    let (source, namespace) = (tenant.source, tenant.namespace.clone());
    snapshot
        .tenant_grants
        .values()
        .filter(move |object| object.meta.key.source == source)
        .filter_map(|object| Some((&**object, object.valid()?)))
        .filter(move |(object, grant)| covers(object, grant, &namespace, &labels))
}

/// Whether a grant is for this namespace.
///
/// A selector without labels selects nothing, unlike one of Kubernetes: an API server drops the
/// fields that this version does not know (`matchExpressions`), and what is left of such a
/// selector must not be every namespace. For the same reason a grant whose `spec.namespaces` says
/// something that was not read selects nothing by label.
fn covers(
    object: &Object<TenantGrantSpec>,
    grant: &TenantGrantSpec,
    namespace: &str,
    labels: &BTreeMap<Name, Name>,
) -> bool {
    if grant.namespaces.names.iter().any(|name| name == namespace) {
        return true;
    }
    let whom = FieldPath::parse("spec.namespaces");
    grant.namespaces.selector.as_ref().is_some_and(|selector| {
        !selector.match_labels.is_empty()
            && !object.unsupported.iter().any(|field| whom.contains(field))
            && selector
                .match_labels
                .iter()
                .all(|(key, value)| labels.get(key.as_str()).is_some_and(|v| **v == **value))
    })
}

fn least(left: &Quotas, right: &Quotas) -> Quotas {
    fn lower<T: Ord>(left: Option<T>, right: Option<T>) -> Option<T> {
        match (left, right) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (one, None) | (None, one) => one,
        }
    }
    // A new quota must be thought of here: no `..`.
    let Quotas {
        routes,
        listeners,
        endpoints,
        configuration_bytes,
    } = right;
    Quotas {
        routes: lower(left.routes, *routes),
        listeners: lower(left.listeners, *listeners),
        endpoints: lower(left.endpoints, *endpoints),
        configuration_bytes: lower(left.configuration_bytes, *configuration_bytes),
    }
}
