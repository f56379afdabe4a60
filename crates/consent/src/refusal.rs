//! Why an instance gets nothing, and what to do about it.

use std::collections::BTreeSet;
use std::fmt::Write;

use postern_api::instance::{ExposureType, Granted, Placement};
use postern_api::reasons::Reason;
use postern_api::{GROUP, GatewayInstanceSpec};
use postern_refs::{Body, FieldPath, Key, Object, Snapshot};

use crate::Facts;
use crate::ownership::in_namespace;

/// The most hostnames that a proposed TenantGrant lists.
const MOST_HOSTNAMES: usize = 16;

/// Why an instance gets nothing: the condition `Accepted=False`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The condition's reason.
    pub reason: Reason,
    /// The field that is refused; empty for the whole object.
    pub field: FieldPath,
    /// The condition's message: the field, what is wrong and what to do. For a missing grant it
    /// ends in the YAML that an admin would apply.
    pub message: String,
}

impl Refusal {
    /// Whether what was stamped before must go: an admin took the grant away. After a mistake
    /// of the tenant's the last good state goes on.
    #[must_use]
    pub fn revokes(&self) -> bool {
        matches!(self.reason, Reason::NotGranted | Reason::ExposureNotGranted)
    }
}

pub(crate) fn absent(tenant: &Key) -> Refusal {
    Refusal {
        reason: Reason::Invalid,
        field: FieldPath::default(),
        message: format!("there is no GatewayInstance {tenant}"),
    }
}

/// The first reason to refuse the instance: grants come before what it asks for.
pub(crate) fn find(
    snapshot: &Snapshot,
    tenant: &Key,
    instance: &Object<GatewayInstanceSpec>,
    granted: &Granted,
    cluster: &Facts,
) -> Option<Refusal> {
    let asked = instance
        .valid()
        .map(|spec| spec.exposure.kind)
        .unwrap_or_default();
    if granted.by.is_empty() {
        return Some(Refusal {
            reason: Reason::NotGranted,
            field: FieldPath::default(),
            message: format!(
                "no TenantGrant covers the namespace {}; an admin who reviewed what it asks for \
                 would apply:\n{}",
                tenant.namespace,
                proposal(snapshot, tenant, instance, asked)
            ),
        });
    }
    let spec = match &instance.body {
        Body::Valid(spec) => spec,
        Body::Invalid { field, reason } => {
            return Some(at(Reason::Invalid, field.clone(), reason));
        }
    };
    if let Some(field) = instance.unsupported.first() {
        let message = "this version does not know the field; remove it";
        return Some(at(Reason::UnsupportedValue, field.clone(), message));
    }
    not_granted(snapshot, tenant, instance, granted, asked)
        .or_else(|| pool(spec, granted))
        .or_else(|| unbuilt(spec))
        .or_else(|| not_served(spec, cluster))
}

/// A pool that is asked for and not granted.
fn pool(spec: &GatewayInstanceSpec, granted: &Granted) -> Option<Refusal> {
    let asked = spec
        .exposure
        .load_balancer
        .as_ref()?
        .address_pool
        .as_ref()?;
    if granted.address_pools.is_empty() || granted.address_pools.contains(asked) {
        return None;
    }
    let field = FieldPath::parse("spec.exposure.loadBalancer.addressPool");
    let message = format!(
        "the pool {asked:?} is not granted (granted: {}; by {}); ask for one of those or for none",
        granted.address_pools.join(", "),
        granted.by.join(", ")
    );
    Some(at(Reason::AddressPoolNotGranted, field, &message))
}

fn not_granted(
    snapshot: &Snapshot,
    tenant: &Key,
    instance: &Object<GatewayInstanceSpec>,
    granted: &Granted,
    asked: ExposureType,
) -> Option<Refusal> {
    if granted.exposures.contains(&asked) {
        return None;
    }
    let allowed: Vec<&str> = granted.exposures.iter().map(|kind| word(*kind)).collect();
    let message = format!(
        "{} is not granted to the namespace {} (granted: {}; by {}); ask for one of those, or an \
         admin would apply:\n{}",
        word(asked),
        tenant.namespace,
        if allowed.is_empty() {
            "none".into()
        } else {
            allowed.join(", ")
        },
        granted.by.join(", "),
        proposal(snapshot, tenant, instance, asked)
    );
    let field = FieldPath::parse("spec.exposure.type");
    Some(at(Reason::ExposureNotGranted, field, &message))
}

/// What the schema has and this version has not.
fn unbuilt(spec: &GatewayInstanceSpec) -> Option<Refusal> {
    match spec.placement {
        Placement::Own => None,
        Placement::Managed => Some(at(
            Reason::UnsupportedValue,
            FieldPath::parse("spec.placement"),
            "Managed is not built yet; use Own",
        )),
    }
}

/// What the cluster has not.
fn not_served(spec: &GatewayInstanceSpec, cluster: &Facts) -> Option<Refusal> {
    let missing = spec.exposure.kind == ExposureType::Route && !cluster.routes_served;
    missing.then(|| {
        at(
            Reason::NotServed,
            FieldPath::parse("spec.exposure.type"),
            "this cluster does not serve route.openshift.io/v1, which comes with OpenShift; use \
             ClusterIP, NodePort or LoadBalancer",
        )
    })
}

fn at(reason: Reason, field: FieldPath, what: &str) -> Refusal {
    let message = match field.0.is_empty() {
        true => what.into(),
        false => format!("{field}: {what}"),
    };
    Refusal {
        reason,
        field,
        message,
    }
}

fn word(kind: ExposureType) -> &'static str {
    match kind {
        ExposureType::ClusterIP => "ClusterIP",
        ExposureType::NodePort => "NodePort",
        ExposureType::LoadBalancer => "LoadBalancer",
        ExposureType::Route => "Route",
    }
}

/// A TenantGrant that would let the instance have what it asks for. It never bears the name of
/// one that exists: grants add up, and applying this one must not take another away.
///
/// The tenant wrote the hostnames, and an admin is about to apply them: only plain DNS names
/// get in, so that no text can pose as another field, and never `*`, which is everybody's.
fn proposal(
    snapshot: &Snapshot,
    tenant: &Key,
    instance: &Object<GatewayInstanceSpec>,
    exposure: ExposureType,
) -> String {
    let namespace = &*tenant.namespace;
    let taken = |name: &str| {
        let mut grants = snapshot.tenant_grants.keys();
        grants.any(|key| &*key.name == name)
    };
    let name = std::iter::once(namespace.to_owned())
        .chain((2..).map(|number| format!("{namespace}-{number}")))
        .find(|name| !taken(name))
        .unwrap_or_default();
    let mut yaml = format!(
        "apiVersion: {GROUP}/v1alpha1\nkind: TenantGrant\nmetadata:\n  name: {}\nspec:\n  \
         namespaces:\n    names: [{}]\n  exposures: [{}]\n",
        quoted(&name),
        quoted(namespace),
        word(exposure)
    );
    let asked = hostnames(snapshot, tenant, instance);
    if asked.is_empty() {
        yaml.push_str("  hostnames: [] # list those that the namespace owns\n");
    } else {
        yaml.push_str("  hostnames: # as the namespace asks: are they its own?\n");
        for name in asked.iter().take(MOST_HOSTNAMES) {
            // Writing to a String cannot fail.
            let _ = writeln!(yaml, "  - {}", quoted(name));
        }
        if asked.len() > MOST_HOSTNAMES {
            let more = asked.len() - MOST_HOSTNAMES;
            let _ = writeln!(yaml, "  # and {more} more");
        }
    }
    yaml
}

/// The hostnames that the namespace asks for, as far as they are plain.
fn hostnames(
    snapshot: &Snapshot,
    tenant: &Key,
    instance: &Object<GatewayInstanceSpec>,
) -> BTreeSet<String> {
    let own = instance
        .valid()
        .into_iter()
        .flat_map(|spec| &spec.listeners);
    let own = own.filter_map(|listener| listener.hostname.as_deref());
    let gateways = in_namespace(&snapshot.gateways, tenant).filter_map(Object::valid);
    let listeners = gateways
        .flat_map(|gateway| &gateway.listeners)
        .filter_map(|listener| listener.hostname.as_deref());
    let routes = in_namespace(&snapshot.http_routes, tenant).filter_map(Object::valid);
    let routes = routes.flat_map(|route| route.hostnames.iter().map(|name| &**name));
    own.chain(listeners)
        .chain(routes)
        .filter(|name| is_plain(name))
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Whether this is a DNS name, or `*.` and one: nothing that YAML could read in another way.
fn is_plain(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// A YAML double-quoted scalar.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if (' '..='~').contains(&c) => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}
