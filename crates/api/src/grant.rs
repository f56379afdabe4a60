//! `TenantGrant`: what the namespaces that it lists or selects may claim.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GatewayInstanceSpec;
use crate::crds::{LABEL, OWNED_HOSTNAME, SUBDOMAIN};
use crate::entitlement::Quotas;
use crate::instance::{Clients, Exposure, ExposureType, LabelSelector, Placement, Size};

/// What an admin grants. Several grants on one namespace: hostnames and exposure types are
/// united, each quota is the least.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "TenantGrant",
    plural = "tenantgrants",
    derive = "Default",
    derive = "PartialEq",
    category = "postern",
    doc = "Which namespaces are tenants, and what each may claim. Written by the platform's admins.",
    printcolumn = r#"{"name":"Hostnames","type":"string","jsonPath":".spec.hostnames"}"#,
    printcolumn = r#"{"name":"Exposures","type":"string","jsonPath":".spec.exposures"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantGrantSpec {
    /// The namespaces that this is for.
    pub namespaces: Namespaces,
    /// Hostnames that they own: a DNS name; `*.` and a DNS name for every name below it; `*` for
    /// all. None allows no hostname.
    #[schemars(
        length(max = 1024),
        inner(length(min = 1, max = 253), regex(pattern = OWNED_HOSTNAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hostnames: Vec<String>,
    /// Exposure types that they may use. None allows no exposure, and so no gateway.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub exposures: Vec<ExposureType>,
    /// Pools of the load balancer (MetalLB's `IPAddressPool`s) that they may take addresses from.
    /// None names no pool: the load balancer chooses, and tenants may name any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = SUBDOMAIN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub address_pools: Vec<String>,
    /// Quotas of each namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
    /// What a GatewayInstance `default` is made from, where a Gateway names no instance and the
    /// namespace has none of that name. None: none is made. Of several grants the oldest that has
    /// one counts. What was made is the namespace's: a later change of this changes nothing there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_template: Option<InstanceTemplate>,
}

/// What an instance that is made for a Gateway asks for: fields of a GatewayInstance. The grants of
/// the namespace bound it as if the tenant had written it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceTemplate {
    /// How clients reach the gateway. The grants of the namespace must allow it.
    pub exposure: Exposure,
    /// Who may connect to the gateway from within the cluster.
    pub clients: Clients,
    /// Envoy: how many pods, of what size, on which nodes.
    pub proxy: Size,
    /// The control plane: how many pods, of what size, on which nodes.
    pub control_plane: Size,
}

impl InstanceTemplate {
    /// The instance that is made from it: without listeners, since there is a Gateway.
    #[must_use]
    pub fn instance(&self) -> GatewayInstanceSpec {
        // A new field must be thought of on both sides: no `..`.
        let InstanceTemplate {
            exposure,
            clients,
            proxy,
            control_plane,
        } = self.clone();
        GatewayInstanceSpec {
            listeners: Vec::new(),
            exposure,
            clients,
            placement: Placement::Own,
            proxy,
            control_plane,
        }
    }
}

/// Namespaces by name and by label. Listing by name is safer: a selector is as strong as whoever
/// may label namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespaces {
    /// By name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4096),
        inner(length(min = 1, max = 63), regex(pattern = LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Vec<String>,
    /// By label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "size(self.matchLabels) > 0",
        "message": "a selector without labels would select every namespace",
    }]))]
    pub selector: Option<LabelSelector>,
}
