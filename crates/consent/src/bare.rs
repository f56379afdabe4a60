//! Bare Gateways: those of ours that name no instance. They belong to the one named `default`; where
//! there is none, one is made for them, if a TenantGrant has a template.

use std::sync::Arc;

use postern_api::reasons::Reason;
use postern_api::{DEFAULT_INSTANCE, GatewayInstanceSpec};
use postern_refs::objects::Gateway;
use postern_refs::{Body, FieldPath, Key, Meta, Name, Object, Snapshot};

use crate::ownership::{Ownership, in_namespace, owner};
use crate::{Facts, Refusal, grants, refusal};

/// The most Gateways that are named as owners of what is made for them. Should these go before
/// others, it is made again for those.
const MOST_OWNERS: usize = 32;

/// An instance that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// Its key.
    pub key: Key,
    /// What it asks for.
    pub spec: GatewayInstanceSpec,
    /// The TenantGrant whose template that is.
    pub grant: Name,
    /// The Gateways that it is made for, the oldest first.
    pub gateways: Vec<BareGateway>,
}

/// A Gateway of ours that names no instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BareGateway {
    /// Its name.
    pub name: Name,
    /// Its UID.
    pub uid: Name,
}

/// Whether a Gateway names no instance.
#[must_use]
pub fn is_bare(object: &Object<Gateway>) -> bool {
    object
        .valid()
        .is_some_and(|gateway| gateway.parameters.is_none())
}

/// The Gateways that name no instance and belong to this one, the oldest first, and not all if there
/// are very many. None, if the instance has another name than `default`.
#[must_use]
pub fn bare_gateways(snapshot: &Snapshot, tenant: &Key, cluster: &Facts) -> Vec<BareGateway> {
    let mut found: Vec<(i64, BareGateway)> = bare(snapshot, tenant, cluster)
        .map(|object| {
            let gateway = BareGateway {
                name: object.meta.key.name.clone(),
                uid: object.meta.uid.clone(),
            };
            (object.meta.created, gateway)
        })
        .collect();
    found.sort_unstable();
    found.truncate(MOST_OWNERS);
    found.into_iter().map(|(_, gateway)| gateway).collect()
}

fn bare<'a>(
    snapshot: &'a Snapshot,
    tenant: &'a Key,
    cluster: &'a Facts,
) -> impl Iterator<Item = &'a Object<Gateway>> {
    in_namespace(&snapshot.gateways, tenant)
        .filter(|object| is_bare(object))
        .filter(|object| {
            owner(snapshot, &cluster.classes, object) == Ownership::Instance(tenant.clone())
        })
}

/// Whether Gateways need this instance, and there is none.
#[must_use]
pub fn is_missing(snapshot: &Snapshot, tenant: &Key, cluster: &Facts) -> bool {
    !snapshot.instances.contains_key(tenant) && bare(snapshot, tenant, cluster).next().is_some()
}

/// What becomes of the bare Gateways whose instance this is: `None` if there are none, or if the
/// instance is there. Else it is to be made, or the Gateways say why not.
#[must_use]
pub fn missing(
    snapshot: &Snapshot,
    tenant: &Key,
    cluster: &Facts,
) -> Option<Result<Missing, Refusal>> {
    is_missing(snapshot, tenant, cluster).then(|| {
        let gateways = bare_gateways(snapshot, tenant, cluster);
        wanted(snapshot, tenant, cluster, gateways)
    })
}

fn wanted(
    snapshot: &Snapshot,
    tenant: &Key,
    cluster: &Facts,
    gateways: Vec<BareGateway>,
) -> Result<Missing, Refusal> {
    let granted = grants::in_force(snapshot, tenant);
    let found = grants::template(snapshot, tenant);
    let spec = found
        .map(|(_, template)| template.instance())
        .unwrap_or_default();
    // As if it were there, so that nothing is made that would get nothing.
    let made = object(tenant, spec.clone(), &gateways);
    let refused = refusal::find(snapshot, tenant, &made, &granted, cluster);
    let Some((grant, _)) = found else {
        return Err(match refused {
            Some(refused) if refused.reason == Reason::NotGranted => with_template(refused),
            _ => without_template(&granted.by),
        });
    };
    let field = FieldPath::parse("spec.instanceTemplate");
    let unknown = grant
        .unsupported
        .iter()
        .find(|unknown| field.contains(unknown));
    let what = match (refused, unknown) {
        (Some(refused), _) => Some((refused.reason, refused.message)),
        (None, Some(unknown)) => Some((
            Reason::UnsupportedValue,
            format!("{unknown}: this version does not know the field; an admin removes it"),
        )),
        (None, None) => None,
    };
    let name = &grant.meta.key.name;
    match what {
        Some((reason, what)) => Err(Refusal {
            reason,
            field,
            message: format!(
                "no GatewayInstance {DEFAULT_INSTANCE} is made from spec.instanceTemplate of the \
                 TenantGrant {name}, since it would get nothing: {what}"
            ),
        }),
        None => Ok(Missing {
            key: tenant.clone(),
            spec,
            grant: name.clone(),
            gateways,
        }),
    }
}

/// The YAML at the end of the message is a grant by which the Gateways would work.
fn with_template(refused: Refusal) -> Refusal {
    Refusal {
        message: format!("{}  instanceTemplate: {{}}\n", refused.message),
        ..refused
    }
}

fn without_template(by: &[String]) -> Refusal {
    Refusal {
        reason: Reason::InvalidParameters,
        field: FieldPath::default(),
        message: format!(
            "there is no GatewayInstance {DEFAULT_INSTANCE} in this namespace, and no TenantGrant on \
             it ({}) has a spec.instanceTemplate to make one from; create it, name another in \
             spec.infrastructure.parametersRef, or ask your platform's admins for a template",
            by.join(", ")
        ),
    }
}

/// The instance, as the API server would show it.
fn object(
    tenant: &Key,
    spec: GatewayInstanceSpec,
    gateways: &[BareGateway],
) -> Object<GatewayInstanceSpec> {
    let first = gateways.first().map(|gateway| &*gateway.uid);
    Object {
        meta: Meta {
            key: tenant.clone(),
            uid: format!("{}-instance", first.unwrap_or_default()).into(),
            generation: 1,
            created: 0,
        },
        body: Body::Valid(spec),
        unsupported: Vec::new(),
    }
}

/// The Snapshot with the instances that an operator would make: for where there is none.
#[must_use]
pub fn with_missing(mut snapshot: Snapshot, cluster: &Facts) -> Snapshot {
    let namespaces: std::collections::BTreeSet<Key> = snapshot
        .gateways
        .keys()
        .map(|key| key.sibling(key.namespace.clone(), DEFAULT_INSTANCE))
        .collect();
    let made: Vec<Missing> = namespaces
        .iter()
        .filter_map(|tenant| missing(&snapshot, tenant, cluster)?.ok())
        .collect();
    for missing in made {
        let object = object(&missing.key, missing.spec, &missing.gateways);
        Arc::make_mut(&mut snapshot.instances).insert(missing.key, Arc::new(object));
    }
    snapshot
}
