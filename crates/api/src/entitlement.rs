//! The contract between operator and control plane: `Entitlement.status`.
//!
//! It carries all that a control plane needs and may not learn by itself. It stands in `status`
//! because OLM gives tenants full rights on every kind that a bundle owns, but not on its status
//! subresource. The type only grows: each side reads the versions N and N-1, unknown fields are
//! passed over, and every field has a default.
//!
//! One without a status means *no news*, never *nothing allowed*.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::instance::Exposure;

/// The version of the contract that this code writes.
pub const CONTRACT_VERSION: u32 = 1;

/// What a tenant may write in an Entitlement: nothing.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "Entitlement",
    plural = "entitlements",
    namespaced,
    status = "EntitlementStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "postern",
    doc = "What an instance's control plane may rely on. Written by the operator, in status only: nothing that is written elsewhere in it is believed.",
    printcolumn = r#"{"name":"Instance","type":"string","jsonPath":".status.instance.name"}"#,
    printcolumn = r#"{"name":"Contract","type":"integer","jsonPath":".status.contractVersion"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EntitlementSpec {}

/// The contract. Written by the operator alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EntitlementStatus {
    /// The version of this contract; a reader takes its own and the one before.
    pub contract_version: u32,
    /// The instance that this is for.
    pub instance: InstanceRef,
    /// The SPIFFE trust domain of the instance's certificates.
    pub trust_domain: String,
    /// The controller name that statuses are written under.
    pub controller_name: String,
    /// Names of the GatewayClasses that are ours.
    pub gateway_classes: Vec<String>,
    /// Names of the IngressClasses that are ours.
    pub ingress_classes: Vec<String>,
    /// How clients reach the Gateways: as the instance asks first, then what goes on until that
    /// has addresses. None at all means as the instance asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    // There are no more ways than these: four types, and three terminations of one.
    #[schemars(length(max = 8))]
    pub exposures: Vec<Exposure>,
    /// The Gateways that belong to the instance, by UID.
    pub gateways: Vec<EntitledGateway>,
    /// The Envoys of the instance.
    pub shards: Vec<ShardRef>,
    /// References across namespaces that both owners allowed.
    pub permitted: Vec<Decision>,
    /// References across namespaces that are refused. What stands in neither list is not decided
    /// yet: what serves goes on, and the reason is `Pending`.
    pub refused: Vec<Decision>,
    /// What to watch: a kind in a whole namespace.
    pub watches: Vec<WatchGrant>,
    /// What to watch: single objects by name (Secrets always; one watch each).
    pub objects: Vec<ObjectRef>,
    /// Hostnames that the namespace owns; a leading `*.` stands for one or more labels, `*` for
    /// all.
    pub hostnames: Vec<String>,
    /// Quotas in force.
    pub quotas: Quotas,
    /// Policies that hold whatever the tenant says.
    pub mandatory_policies: Vec<ObjectRef>,
}

impl EntitlementStatus {
    /// Whether a router speaks TLS to a Gateway, and must be told whom to believe.
    #[must_use]
    pub fn reencrypts(&self) -> bool {
        let mut ports = self.gateways.iter().flat_map(|gateway| &gateway.ports);
        ports.any(|port| port.exposure == Exposed::RouterReencrypt)
    }
}

/// The instance that an Entitlement is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its `metadata.generation` that this contract was computed from.
    pub generation: i64,
}

/// A Gateway that belongs to the instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EntitledGateway {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: another Gateway of this name is not the one that was entitled.
    pub uid: String,
    /// The shard whose Envoys serve it.
    pub shard: String,
    /// Its ports.
    pub ports: Vec<PortAllocation>,
    /// Per listener, whose routes may attach.
    pub listeners: Vec<ListenerConsent>,
    /// Where clients reach it; for `status.addresses`.
    pub addresses: Vec<ExternalAddress>,
    /// Whether clients need an address that nobody has given it yet.
    pub awaits_address: bool,
    /// The name of its Service, whose ready endpoints decide `Programmed`.
    pub service: String,
    /// The OpenShift Routes that it has, one a host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteClaim>,
    /// How its exposure fares, for the condition `Exposed`; absent where there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed: Option<ExposedVerdict>,
}

/// A host that a Gateway claims at the OpenShift router.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteClaim {
    /// The host as the Gateway API writes it: a name, or `*.` and a name. Empty for a name of the
    /// router's domain.
    pub host: String,
    /// The port of the Gateway's listeners that it leads to.
    pub port: u16,
    /// By which of that port's exposures.
    pub exposure: Exposed,
}

/// How a Gateway's exposure fares: a condition without type and times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExposedVerdict {
    /// Whether clients reach it by all that it claims.
    pub holds: bool,
    /// Why, as one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// The container port for a Gateway's port under one exposure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortAllocation {
    /// The port of the Gateway's listeners (1 to 65535).
    pub port: u16,
    /// The exposure that leads here. Each exposure has a port of its own, since trust is a
    /// property of the port.
    pub exposure: Exposed,
    /// The unprivileged port that Envoy listens on.
    pub container_port: u16,
    /// What is believed about clients on it.
    pub trust: PortTrust,
}

/// Exposures, as far as ports tell them apart.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Exposed {
    /// Clients connect themselves: ClusterIP, NodePort and LoadBalancer.
    #[default]
    Direct,
    /// The OpenShift router connects, without TLS: edge termination.
    Router,
    /// The OpenShift router passes the client's bytes through: passthrough termination.
    RouterPassthrough,
    /// The OpenShift router connects with TLS of its own: reencrypt termination.
    RouterReencrypt,
}

/// What is believed about clients on a port.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum PortTrust {
    /// Nothing: the peer of the connection is the client.
    #[default]
    Nothing,
    /// The forwarded headers of the one proxy in front.
    ForwardedHeaders,
    /// The PROXY protocol.
    ProxyProtocol,
    /// Nothing, and the peer of the connection is a proxy that cannot tell who the client is.
    Unknown,
}

/// Whose routes may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerConsent {
    /// The listener's name.
    pub name: String,
    /// The namespaces whose routes may attach, resolved from `allowedRoutes`.
    pub route_namespaces: Vec<String>,
}

/// An address that clients reach a Gateway at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalAddress {
    /// `IPAddress` or `Hostname` (Gateway API, `AddressType`).
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub value: String,
}

/// One group of Envoys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShardRef {
    /// Its name; it stands in the certificates' identity.
    pub name: String,
}

/// A reference across namespaces and what was decided about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Decision {
    /// The object that refers.
    pub from: ObjectRef,
    /// What it refers to.
    pub to: ObjectRef,
    /// Why it is refused (a Gateway API reason such as `RefNotPermitted`); empty if permitted.
    pub reason: String,
    /// The objects that decided it (ReferenceGrants, Gateways, TenantGrants).
    pub decided_by: Vec<ObjectRef>,
}

/// An object by name.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Its API group; empty for core.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A kind that may be read in a whole namespace.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct WatchGrant {
    /// The API group; empty for core.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
}

/// Upper bounds; absent means unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Quotas {
    /// Routes of all kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<u32>,
    /// Listeners of all Gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<u32>,
    /// Endpoints of all backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<u32>,
    /// Bytes of encoded configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_bytes: Option<u64>,
}
