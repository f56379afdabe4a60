//! `GatewayInstance`: this namespace has a gateway.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::{
    HOSTNAME, LABEL, LABEL_KEY, LABEL_VALUE, SUBDOMAIN, labels_schema, node_selector_schema,
    resources_schema,
};
use crate::entitlement::Quotas;

/// What a tenant asks for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "GatewayInstance",
    plural = "gatewayinstances",
    shortname = "gwi",
    namespaced,
    status = "GatewayInstanceStatus",
    derive = "Default",
    derive = "PartialEq",
    category = "postern",
    doc = "A gateway of one's own: an isolated Envoy and a control plane that sees this namespace only.",
    printcolumn = r#"{"name":"Exposure","type":"string","jsonPath":".spec.exposure.type"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".status.addresses[0].value"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayInstanceSpec {
    /// Listeners of the Gateway that the operator keeps under the instance's name. Use this where
    /// you may not create Gateways yourself (OpenShift's stock roles may only read them). Leave it
    /// empty if you create Gateways of your own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = [
            {
                "rule": "self.all(a, self.exists_one(b, b.port == a.port && b.protocol == a.protocol && (has(b.hostname) ? b.hostname : '') == (has(a.hostname) ? a.hostname : '')))",
                "message": "two listeners of one port and protocol need different hostnames",
            },
            {
                "rule": "self.all(a, self.all(b, a.port != b.port || a.protocol == b.protocol || a.protocol == 'UDP' || b.protocol == 'UDP' || (a.protocol in ['HTTPS', 'TLS'] && b.protocol in ['HTTPS', 'TLS'])))",
                "message": "the listeners of one port need protocols that can share it",
            },
        ],
    ))]
    pub listeners: Vec<Listener>,
    /// How clients reach the gateway.
    pub exposure: Exposure,
    /// Who may connect to the gateway from within the cluster.
    pub clients: Clients,
    /// Where the gateway's pods run. `Own`: in this namespace. `Managed`, in a namespace of the
    /// operator's that is paired with this one, is not built yet: it is refused with a condition.
    pub placement: Placement,
    /// Envoy: how many pods, of what size, on which nodes.
    pub proxy: Size,
    /// The control plane: how many pods, of what size, on which nodes.
    pub control_plane: Size,
}

/// A listener: a port, a protocol, and for HTTPS the certificates. It becomes the Gateway API's
/// `Listener` of the same fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.protocol == 'HTTPS' ? has(self.tls) : true",
        "message": "HTTPS needs tls with the names of its certificates",
        "fieldPath": ".tls",
    },
    {
        "rule": "has(self.tls) ? self.protocol in ['HTTPS', 'TLS'] : true",
        "message": "tls is for HTTPS only",
        "fieldPath": ".tls",
    },
    {
        "rule": "has(self.hostname) ? !(self.protocol in ['TCP', 'UDP']) : true",
        "message": "TCP and UDP know no hostname",
        "fieldPath": ".hostname",
    },
]))]
pub struct Listener {
    /// The name, unique in the instance; routes may name it as `sectionName`.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// The host names that it serves: a DNS name, or `*.` and a DNS name. All, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = HOSTNAME))]
    pub hostname: Option<String>,
    /// The port that clients use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The protocol. `HTTP`: HTTP/1.1 and HTTP/2 without TLS. `HTTPS`: the same within TLS. `TLS`,
    /// `TCP` and `UDP` are not built yet: such a listener is refused with a condition.
    pub protocol: ListenerProtocol,
    /// TLS settings; required for HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Whose routes may attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// Protocols of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 without TLS.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/1.1 and HTTP/2 within TLS.
    #[serde(rename = "HTTPS")]
    Https,
    /// TLS; not built yet.
    #[serde(rename = "TLS")]
    Tls,
    /// TCP; not built yet.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP; not built yet.
    #[serde(rename = "UDP")]
    Udp,
}

/// TLS of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Secrets of type `kubernetes.io/tls` with the certificates; at least one.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub certificate_refs: Vec<SecretRef>,
}

/// A Secret by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its namespace; the instance's own if absent. Another one needs a ReferenceGrant there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// Whose routes may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedRoutes {
    /// From which namespaces.
    pub namespaces: RouteNamespaces,
}

/// Namespaces whose routes may attach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.from == 'Selector') == has(self.selector)",
    "message": "selector goes with from: Selector, and with nothing else",
    "fieldPath": ".selector",
}]))]
pub struct RouteNamespaces {
    /// `Same`: this namespace. `All`: every namespace. `Selector`: those with matching labels.
    pub from: RouteNamespacesFrom,
    /// Labels, for `Selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Values of `allowedRoutes.namespaces.from`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteNamespacesFrom {
    /// This namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Namespaces with matching labels.
    Selector,
}

/// A label selector that asks for equal labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be equal. None at all select everything.
    #[schemars(schema_with = "labels_schema")]
    pub match_labels: BTreeMap<String, String>,
}

/// How clients reach the gateway: a `type`, and the settings of that type under its own field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.nodePort) ? self.type == 'NodePort' : true",
        "message": "nodePort goes with type: NodePort",
        "fieldPath": ".nodePort",
    },
    {
        "rule": "has(self.loadBalancer) ? self.type == 'LoadBalancer' : true",
        "message": "loadBalancer goes with type: LoadBalancer",
        "fieldPath": ".loadBalancer",
    },
    {
        "rule": "has(self.route) ? self.type == 'Route' : true",
        "message": "route goes with type: Route",
        "fieldPath": ".route",
    },
]))]
pub struct Exposure {
    /// The type. `ClusterIP`: from within the cluster, by a Service's address. `NodePort`: by a
    /// port of every node. `LoadBalancer`: by an address of MetalLB or a cloud. `Route`: behind the
    /// OpenShift Router, which must be there: the cluster serves `route.openshift.io/v1`. After a
    /// change the exposure before goes on until this one has addresses, and for half a minute more.
    #[serde(rename = "type")]
    pub kind: ExposureType,
    /// Settings for `NodePort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<NodePortExposure>,
    /// Settings for `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerExposure>,
    /// Settings for `Route`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteExposure>,
}

/// Ways to reach a gateway.
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
pub enum ExposureType {
    /// From within the cluster, by a Service's address.
    #[default]
    ClusterIP,
    /// By a port of every node.
    NodePort,
    /// By an address of a load balancer such as MetalLB.
    LoadBalancer,
    /// Behind the OpenShift Router.
    Route,
}

/// Settings for `NodePort`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePortExposure {
    /// Fixed node ports. Ports of listeners that are not listed here get one from the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["port"],
        "x-kubernetes-validations" = [{
            "rule": "self.all(a, self.exists_one(b, b.nodePort == a.nodePort))",
            "message": "a node port leads to one port only",
        }],
    ))]
    pub ports: Vec<FixedNodePort>,
    /// Whether nodes pass traffic on to other nodes (`Cluster`, the default, which hides the
    /// client's address) or serve it only where an Envoy runs (`Local`). The same words as in
    /// `Service.spec.externalTrafficPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// A fixed node port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FixedNodePort {
    /// The listener's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port of the nodes, within the cluster's range.
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: i32,
}

/// `Service.spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Every node answers.
    Cluster,
    /// Only nodes with an Envoy answer.
    Local,
}

/// Settings for `LoadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerExposure {
    /// `Service.spec.loadBalancerClass`. It cannot be changed while the type stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class: Option<String>,
    /// The address asked for (`Service.spec.loadBalancerIP`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 45), extend("x-kubernetes-validations" = [{
        "rule": "isIP(self)",
        "message": "this is no IP address",
    }]))]
    pub address: Option<String>,
    /// The pool to take an address from (MetalLB: the annotation `metallb.io/address-pool`). The
    /// TenantGrants must allow it; if absent, the first that they name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub address_pool: Option<String>,
    /// Whether nodes pass traffic on to other nodes (`Cluster`, the default, which hides the
    /// client's address) or serve it only where an Envoy runs (`Local`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Client address ranges (CIDR) that may connect from outside the cluster
    /// (`Service.spec.loadBalancerSourceRanges`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 49)), extend(
        "x-kubernetes-list-type" = "set",
        "x-kubernetes-validations" = [{
            "rule": "self.all(range, isCIDR(range))",
            "message": "a range is written as address and length: 192.0.2.0/24",
        }],
    ))]
    pub source_ranges: Vec<String>,
}

/// Settings for `Route` (`route.openshift.io/v1`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.termination == 'Passthrough' && has(self.insecureEdgeTerminationPolicy) ? self.insecureEdgeTerminationPolicy != 'Allow' : true",
    "message": "with Passthrough the router answers no plain HTTP; use Redirect or None",
    "fieldPath": ".insecureEdgeTerminationPolicy",
}]))]
pub struct RouteExposure {
    /// Where TLS ends. `Edge`: at the router, which speaks plain HTTP to the HTTP listeners.
    /// `Passthrough`: at Envoy, with the certificates of the HTTPS listeners; the router cannot
    /// send the client's address, which is then reported as `unknown`. `Reencrypt`: at the router,
    /// which speaks TLS again to the HTTP listeners; it believes the instance's own authority alone,
    /// and the operator tells it which that is.
    pub termination: RouteTermination,
    /// The hosts, one Route each; `*.` and a name is a Route for all names one label below it,
    /// which routers admit only where their admin allows wildcards. A TenantGrant must give them.
    /// If absent: the hostnames of the listeners, and for a listener without one a name of the
    /// router's domain, `<gateway>-<namespace>.<domain>`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = HOSTNAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hosts: Vec<String>,
    /// What the router does with plain HTTP. `None`, the default: nothing answers. `Redirect`: to
    /// HTTPS. `Allow`: as if it were HTTPS. The Route's field of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_edge_termination_policy: Option<InsecureEdgeTerminationPolicy>,
}

/// Where TLS of an OpenShift Route ends.
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
pub enum RouteTermination {
    /// At the router.
    #[default]
    Edge,
    /// At the router, and again at Envoy.
    Reencrypt,
    /// At Envoy.
    Passthrough,
}

/// `insecureEdgeTerminationPolicy` of an OpenShift Route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InsecureEdgeTerminationPolicy {
    /// Plain HTTP is not answered.
    None,
    /// Plain HTTP is served.
    Allow,
    /// Plain HTTP is redirected to HTTPS.
    Redirect,
}

impl Exposure {
    /// What of it decides by which ports clients come in: two of one way differ in settings only.
    #[must_use]
    pub fn way(&self) -> (ExposureType, RouteTermination) {
        let route = self
            .route
            .as_ref()
            .filter(|_| self.kind == ExposureType::Route);
        let termination = route.map(|route| route.termination);
        (self.kind, termination.unwrap_or_default())
    }
}

/// Who may connect from within the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.from == 'Names') == has(self.names)",
    "message": "names goes with from: Names, and with nothing else",
    "fieldPath": ".names",
}]))]
pub struct Clients {
    /// `Same`: pods of this namespace. `All`: pods of every namespace. `Names`: pods of the
    /// namespaces listed, and of this one.
    pub from: ClientsFrom,
    /// Namespaces, for `Names`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 63), regex(pattern = LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Vec<String>,
}

/// Values of `clients.from`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientsFrom {
    /// Pods of this namespace.
    #[default]
    Same,
    /// Pods of every namespace.
    All,
    /// Pods of the namespaces listed.
    Names,
}

/// Where the gateway's pods run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Placement {
    /// In the tenant's namespace.
    #[default]
    Own,
    /// In a namespace of the operator's that is paired with the tenant's; not built yet.
    Managed,
}

/// Pods: how many, of what size, on which nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Size {
    /// How many pods; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<i32>,
    /// Requests (`cpu`, `memory`, `ephemeral-storage`); small ones if absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "resources_schema")]
    pub requests: BTreeMap<String, Quantity>,
    /// Limits (`cpu`, `memory`, `ephemeral-storage`); a memory limit if absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "resources_schema")]
    pub limits: BTreeMap<String, Quantity>,
    /// Labels of the nodes that the pods may run on (`Pod.spec.nodeSelector`), for example those of
    /// infrastructure nodes. What the namespace's own node selector says holds as well.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "node_selector_schema")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods tolerate (`Pod.spec.tolerations`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
}

/// A taint that pods tolerate: the fields of a pod's toleration (`core/v1`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
        "message": "Exists takes no value",
        "fieldPath": ".value",
    },
    {
        "rule": "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
        "message": "a toleration without a key needs the operator Exists",
        "fieldPath": ".operator",
    },
    {
        "rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "message": "tolerationSeconds is for the effect NoExecute",
        "fieldPath": ".tolerationSeconds",
    },
]))]
pub struct Toleration {
    /// The taint's key; every key, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317), regex(pattern = LABEL_KEY))]
    pub key: Option<String>,
    /// How the value is compared; `Equal`, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL_VALUE))]
    pub value: Option<String>,
    /// The taint's effect; every effect, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long pods stay once the taint is there, in seconds; for ever, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration compares values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Any value.
    Exists,
    /// The same value.
    Equal,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New ones do not come.
    NoSchedule,
    /// New ones come if there is no other node.
    PreferNoSchedule,
    /// Those that are there go, too.
    NoExecute,
}

/// What the operator says about an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayInstanceStatus {
    /// The generation that this status is about.
    pub observed_generation: i64,
    /// `Accepted`, `Ready`; see the reference for reasons and what to do about each.
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"],
    ))]
    pub conditions: Vec<Condition>,
    /// Where clients reach the instance's Gateways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<Address>,
    /// The TenantGrants in force, summed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<Granted>,
    /// How much it uses of what the quotas count; none while it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// An address of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    /// The Gateway.
    pub gateway: String,
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub value: String,
    /// The port clients use, of the listener `listenerPort`.
    pub port: i32,
    /// The listener's port.
    pub listener_port: i32,
}

/// What the TenantGrants on this namespace allow together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Granted {
    /// The TenantGrants.
    pub by: Vec<String>,
    /// Hostnames that the namespace owns.
    pub hostnames: Vec<String>,
    /// Exposure types that it may use.
    pub exposures: Vec<ExposureType>,
    /// Pools that a load balancer may take its address from; none: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address_pools: Vec<String>,
    /// Quotas in force: of each the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
}

/// What an instance uses of its quotas, as they count it. Past a quota the newest are not served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// Routes of the namespace that name one of its Gateways.
    pub routes: u32,
    /// Listeners of all its Gateways.
    pub listeners: u32,
}
