//! Everything that a source knows, at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_api::{GatewayInstanceSpec, TenantGrantSpec};

use crate::Key;
use crate::objects::{
    EndpointSlice, Gateway, GatewayClass, HttpRoute, Namespace, Object, ReferenceGrant, Service,
    TlsSecret,
};

/// Objects of one kind by key.
///
/// The source keeps the same `Arc` for an object as long as nothing in it changed that a reader
/// can see, so that readers may compare pointers. The map itself is shared: cloning a Snapshot
/// copies no object, and a map in which nothing changed stays the same `Arc`.
pub type Map<T> = Arc<BTreeMap<Key, Arc<Object<T>>>>;

/// Everything that a source knows, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// GatewayClasses.
    pub gateway_classes: Map<GatewayClass>,
    /// Gateways.
    pub gateways: Map<Gateway>,
    /// HTTPRoutes.
    pub http_routes: Map<HttpRoute>,
    /// Services.
    pub services: Map<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Map<EndpointSlice>,
    /// Secrets with certificates. The operator reads none.
    pub secrets: Map<TlsSecret>,
    /// ReferenceGrants. Read by the operator.
    pub reference_grants: Map<ReferenceGrant>,
    /// Namespaces. Read by the operator.
    pub namespaces: Map<Namespace>,
    /// GatewayInstances. Read by the operator.
    pub instances: Map<GatewayInstanceSpec>,
    /// TenantGrants. Read by the operator.
    pub tenant_grants: Map<TenantGrantSpec>,
}

/// The kinds of a Snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `GatewayClass`.
    GatewayClass,
    /// `Gateway`.
    Gateway,
    /// `HTTPRoute`.
    HttpRoute,
    /// `Service`.
    Service,
    /// `EndpointSlice`.
    EndpointSlice,
    /// `Secret`.
    Secret,
    /// `ReferenceGrant`.
    ReferenceGrant,
    /// `Namespace`.
    Namespace,
    /// `GatewayInstance`.
    GatewayInstance,
    /// `TenantGrant`.
    TenantGrant,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 10] = [
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Secret,
        Kind::ReferenceGrant,
        Kind::Namespace,
        Kind::GatewayInstance,
        Kind::TenantGrant,
    ];

    /// The API group; empty for core.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute | Kind::ReferenceGrant => {
                "gateway.networking.k8s.io"
            }
            Kind::EndpointSlice => "discovery.k8s.io",
            Kind::Service | Kind::Secret | Kind::Namespace => "",
            Kind::GatewayInstance | Kind::TenantGrant => postern_api::GROUP,
        }
    }

    /// The kind as manifests write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::GatewayClass => "GatewayClass",
            Kind::Gateway => "Gateway",
            Kind::HttpRoute => "HTTPRoute",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Secret => "Secret",
            Kind::ReferenceGrant => "ReferenceGrant",
            Kind::Namespace => "Namespace",
            Kind::GatewayInstance => "GatewayInstance",
            Kind::TenantGrant => "TenantGrant",
        }
    }

    /// The kind of a group and a kind name, whatever the version.
    #[must_use]
    pub fn find(group: &str, name: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.group() == group && kind.name() == name)
    }
}
