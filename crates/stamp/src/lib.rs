//! What the operator stamps for one instance: a pure function from a GatewayInstance and its
//! Entitlement to Kubernetes objects.
//!
//! ```text
//! GatewayInstance ─┐                    ┌─ access    ServiceAccounts, Roles, RoleBindings
//! Entitlement ─────┼─> stamp ─> objects ├─ network   NetworkPolicies
//! Settings ────────┤                    ├─ pods      Deployments, disruption budgets
//! Observed ────────┘                    ├─ gateway   Services, the Gateway of spec.listeners
//!                                       └─ route     OpenShift Routes and the Services they lead to
//! ```
//!
//! Architecture invariant: no clock, no I/O, and equal input gives equal output, in an order in
//! which the objects may be applied (what protects comes before what runs). Deployments and
//! policies are written with the values that an API server would add by default, so that what is
//! read back is what was written.
//!
//! Each object has the instance as its owner, by UID and without `blockOwnerDeletion` (which
//! would ask for a right on the instance's finalizers), and the label [`labels::INSTANCE`].
//! The namespace that holds the pods is one value ([`Instance::home`]): placement in another
//! namespace changes it there, and the owner references with it.
//!
//! [`bare`] holds the instance that is made for Gateways without one, which is not kept as it was
//! stamped. [`rights`] holds what the operator and the control planes may do, [`tenants`] what people may,
//! [`operator`] the operator's own Deployment.

mod access;
pub mod bare;
mod control_plane;
mod gateway;
pub mod labels;
mod network;
pub mod operator;
mod pods;
mod proxy;
mod quantity;
pub mod rights;
mod route;
mod settings;
pub mod tenants;

#[cfg(test)]
mod restricted;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use postern_api::entitlement::EntitlementStatus;
use postern_api::instance::{Exposure, Granted, Placement};
use postern_api::names::InstanceNames;
use postern_api::reasons::Reason;
use postern_api::{GROUP, GatewayInstanceSpec};
use postern_refs::{FieldPath, Object};
use serde_json::Value;

pub use settings::{ApiServers, Images, Observed, Settings};

/// The version of our kinds that owner references name: the newest one served.
pub const VERSION: &str = "v1alpha1";

/// The longest name of an instance: it is a label's value (`metav1`, 63 characters).
pub const MAX_INSTANCE_NAME: usize = 63;

/// An object to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// What it is known by.
    pub key: StampedKey,
    /// All of it, as JSON.
    pub object: Value,
}

/// What a stamped object is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StampedKey {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Stamped {
    fn new(api_version: &str, kind: &str, mut object: Value) -> Stamped {
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .map(str::to_owned)
                .unwrap_or_default()
        };
        let key = StampedKey {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: text("namespace"),
            name: text("name"),
        };
        if let Value::Object(fields) = &mut object {
            fields.insert("apiVersion".into(), api_version.into());
            fields.insert("kind".into(), kind.into());
        }
        Stamped { key, object }
    }

    /// A typed object. Those of `k8s_openapi` always are JSON objects.
    fn typed<T: k8s_openapi::Resource + serde::Serialize>(object: &T) -> Stamped {
        let value = serde_json::to_value(object).unwrap_or_default();
        Stamped::new(T::API_VERSION, T::KIND, value)
    }
}

/// Why nothing is stamped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Refused {
    /// The field that asks for it.
    pub field: FieldPath,
    /// The condition's reason.
    pub reason: Reason,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// The instance to stamp for.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// What it asks for.
    pub spec: &'a GatewayInstanceSpec,
    /// What the TenantGrants allow it.
    pub granted: &'a Granted,
}

impl<'a> Instance<'a> {
    /// An instance of a Snapshot; `None` if it could not be read.
    #[must_use]
    pub fn of(
        object: &'a Object<GatewayInstanceSpec>,
        granted: &'a Granted,
    ) -> Option<Instance<'a>> {
        Some(Instance {
            namespace: &object.meta.key.namespace,
            name: &object.meta.key.name,
            uid: &object.meta.uid,
            spec: object.valid()?,
            granted,
        })
    }

    /// The namespace that holds the gateway's pods.
    fn home(&self) -> &'a str {
        match self.spec.placement {
            // Managed placement is refused before anything is stamped.
            Placement::Own | Placement::Managed => self.namespace,
        }
    }

    /// The exposures in force, the one asked for first.
    fn exposures<'b>(&'b self, entitlement: &'b EntitlementStatus) -> &'b [Exposure] {
        match entitlement.exposures.as_slice() {
            // A contract of the version before.
            [] => std::slice::from_ref(&self.spec.exposure),
            exposures => exposures,
        }
    }

    fn names(&self) -> InstanceNames<'a> {
        InstanceNames::new(self.name)
    }

    /// Metadata of what is stamped under `name` for a part of the gateway.
    fn meta(&self, name: String, component: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.home().to_owned()),
            labels: Some(labels::of(self.name, component)),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "GatewayInstance".into(),
            name: self.name.into(),
            uid: self.uid.into(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

/// Everything that one instance has in the cluster, but for the status of its Entitlement.
///
/// Call it again when [`Observed`] changes: the Envoys are told the address of the control
/// plane's Service, which is only known once that was applied.
///
/// # Errors
/// If the instance asks for what is not built.
pub fn stamp(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    settings: &Settings,
    observed: &Observed,
) -> Result<Vec<Stamped>, Refused> {
    check(instance)?;
    let mut objects = vec![access::entitlement(instance)];
    objects.extend(access::control_plane(instance, entitlement));
    objects.extend(access::trust(instance, entitlement, settings));
    objects.push(network::control_plane(instance, settings));
    objects.push(control_plane::service(instance));
    objects.extend(control_plane::pods(instance, settings));
    for shard in &entitlement.shards {
        objects.push(access::envoy(instance, &shard.name));
        objects.push(network::envoy(
            instance,
            entitlement,
            &shard.name,
            settings,
            observed,
        ));
    }
    objects.extend(gateway::services(instance, entitlement));
    objects.extend(route::services(instance, entitlement));
    for shard in &entitlement.shards {
        objects.extend(proxy::pods(
            instance,
            entitlement,
            &shard.name,
            settings,
            observed,
        ));
    }
    objects.extend(gateway::gateway(instance));
    // Last: who comes by a Route finds all else.
    objects.extend(route::routes(instance, entitlement, observed));
    Ok(objects)
}

/// Refuses what the schema knows and this version does not stamp.
fn check(instance: &Instance<'_>) -> Result<(), Refused> {
    let refuse = |field: &str, reason: Reason, message: String| {
        Err(Refused {
            field: FieldPath::parse(field),
            reason,
            message,
        })
    };
    if instance.name.len() > MAX_INSTANCE_NAME {
        return refuse(
            "metadata.name",
            Reason::Invalid,
            format!("has more than {MAX_INSTANCE_NAME} characters; choose a shorter name"),
        );
    }
    match instance.spec.placement {
        Placement::Own => Ok(()),
        Placement::Managed => refuse(
            "spec.placement",
            Reason::UnsupportedValue,
            "Managed is not built yet; use Own".into(),
        ),
    }
}
