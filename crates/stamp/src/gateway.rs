//! What each Gateway has: its Service. And the Gateway of `spec.listeners`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern_api::entitlement::{EntitledGateway, EntitlementStatus, Exposed};
use postern_api::instance::{
    Exposure, ExposureType, ExternalTrafficPolicy, Listener, ListenerProtocol, RouteNamespacesFrom,
};
use postern_api::{GATEWAY_CLASS, GATEWAY_GROUP, GROUP, names};
use serde_json::{Value, json};

use crate::{Instance, Stamped, labels};

/// The pool that MetalLB takes an address from (MetalLB, "Requesting specific IPs").
const ADDRESS_POOL: &str = "metallb.io/address-pool";

/// A Service for each Gateway of the instance: its own address. Its target ports lead to that
/// Gateway's own listeners.
pub(crate) fn services(instance: &Instance<'_>, entitlement: &EntitlementStatus) -> Vec<Stamped> {
    entitlement
        .gateways
        .iter()
        // The contract could say otherwise one day; a Service elsewhere would lead nowhere.
        .filter(|gateway| gateway.namespace == instance.namespace)
        .filter_map(|gateway| service(instance, entitlement, gateway))
        .collect()
}

fn service(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    gateway: &EntitledGateway,
) -> Option<Stamped> {
    let exposed = exposed(instance, instance.exposures(entitlement));
    let ports: BTreeMap<u16, ServicePort> = gateway
        .ports
        .iter()
        .filter(|port| port.exposure == Exposed::Direct)
        .map(|port| {
            let service_port = ServicePort {
                name: Some(format!("port-{}", port.port)),
                port: i32::from(port.port),
                target_port: Some(IntOrString::Int(i32::from(port.container_port))),
                protocol: Some("TCP".into()),
                node_port: exposed.node_ports.get(&i32::from(port.port)).copied(),
                app_protocol: None,
            };
            (port.port, service_port)
        })
        .collect();
    // A Service without ports is refused by API servers.
    if ports.is_empty() {
        return None;
    }
    let mut metadata = instance.meta(names::gateway_service(&gateway.name), labels::GATEWAY);
    if gateway.name.len() <= 63 {
        metadata
            .labels
            .get_or_insert_default()
            .insert(labels::GATEWAY_NAME.into(), gateway.name.clone());
    }
    if !exposed.annotations.is_empty() {
        metadata.annotations = Some(exposed.annotations);
    }
    Some(Stamped::typed(&Service {
        metadata,
        spec: Some(ServiceSpec {
            selector: Some(labels::select_envoys(instance.name, Some(&gateway.shard))),
            ports: Some(ports.into_values().collect()),
            session_affinity: Some("None".into()),
            internal_traffic_policy: Some("Cluster".into()),
            ..exposed.spec
        }),
        status: None,
    }))
}

/// What an exposure adds to a Service.
#[derive(Default)]
struct ExposedService {
    annotations: BTreeMap<String, String>,
    /// Fixed node ports by port.
    node_ports: BTreeMap<i32, i32>,
    spec: ServiceSpec,
}

/// One Service for all exposures in force. A load balancer's has node ports, too, so each type
/// has what those before it have.
fn exposed(instance: &Instance<'_>, exposures: &[Exposure]) -> ExposedService {
    let of = |kind: ExposureType| exposures.iter().find(|exposure| exposure.kind == kind);
    let by_node_port = of(ExposureType::NodePort);
    let node_port = by_node_port.and_then(|exposure| exposure.node_port.clone());
    let node_port = node_port.unwrap_or_default();
    let fixed = node_port.ports.iter();
    let node_ports = fixed.map(|port| (port.port, port.node_port)).collect();
    if let Some(exposure) = of(ExposureType::LoadBalancer) {
        let settings = exposure.load_balancer.clone().unwrap_or_default();
        let pool = settings
            .address_pool
            .or_else(|| instance.granted.address_pools.first().cloned());
        let granted = instance.granted.exposures.contains(&ExposureType::NodePort);
        return ExposedService {
            // Always there: who empties it empties what somebody else wrote there.
            annotations: [(ADDRESS_POOL.to_owned(), pool.unwrap_or_default())].into(),
            node_ports,
            spec: ServiceSpec {
                type_: Some("LoadBalancer".into()),
                load_balancer_class: settings.class,
                load_balancer_ip: settings.address,
                load_balancer_source_ranges: (!settings.source_ranges.is_empty())
                    .then_some(settings.source_ranges),
                external_traffic_policy: traffic_policy(settings.external_traffic_policy),
                // Node ports are an exposure of their own, which may not be granted.
                allocate_load_balancer_node_ports: Some(granted),
                ..ServiceSpec::default()
            },
        };
    }
    let (type_, external_traffic_policy) = match by_node_port {
        Some(_) => (
            "NodePort",
            traffic_policy(node_port.external_traffic_policy),
        ),
        None => ("ClusterIP", None),
    };
    ExposedService {
        node_ports,
        spec: ServiceSpec {
            type_: Some(type_.into()),
            external_traffic_policy,
            ..ServiceSpec::default()
        },
        ..ExposedService::default()
    }
}

fn traffic_policy(asked: Option<ExternalTrafficPolicy>) -> Option<String> {
    let policy = match asked.unwrap_or(ExternalTrafficPolicy::Cluster) {
        ExternalTrafficPolicy::Cluster => "Cluster",
        ExternalTrafficPolicy::Local => "Local",
    };
    Some(policy.into())
}

/// The Gateway that the operator keeps for an instance with listeners: of the instance's name, so
/// that routes know what to name.
pub(crate) fn gateway(instance: &Instance<'_>) -> Option<Stamped> {
    if instance.spec.listeners.is_empty() {
        return None;
    }
    let mut metadata = instance.meta(instance.name.to_owned(), labels::GATEWAY);
    // Routes of the tenant name it there, wherever its pods are.
    metadata.namespace = Some(instance.namespace.to_owned());
    let listeners: Vec<Value> = instance.spec.listeners.iter().map(listener).collect();
    Some(Stamped::new(
        &format!("{GATEWAY_GROUP}/v1"),
        "Gateway",
        json!({
            "metadata": metadata,
            "spec": {
                "gatewayClassName": GATEWAY_CLASS,
                "infrastructure": {
                    "parametersRef": {
                        "group": GROUP,
                        "kind": "GatewayInstance",
                        "name": instance.name,
                    },
                },
                "listeners": listeners,
            },
        }),
    ))
}

/// A listener as the Gateway API writes it, with that API's defaults.
fn listener(listener: &Listener) -> Value {
    // A field that is added there must be thought of here.
    let Listener {
        name,
        hostname,
        port,
        protocol,
        tls,
        allowed_routes,
    } = listener;
    let namespaces = allowed_routes.clone().unwrap_or_default().namespaces;
    let mut from = json!({
        "from": match namespaces.from {
            RouteNamespacesFrom::Same => "Same",
            RouteNamespacesFrom::All => "All",
            RouteNamespacesFrom::Selector => "Selector",
        },
    });
    if let Some(selector) = &namespaces.selector {
        from["selector"] = json!({ "matchLabels": selector.match_labels });
    }
    let mut value = json!({
        "name": name,
        "port": port,
        "protocol": match protocol {
            ListenerProtocol::Http => "HTTP",
            ListenerProtocol::Https => "HTTPS",
            ListenerProtocol::Tls => "TLS",
            ListenerProtocol::Tcp => "TCP",
            ListenerProtocol::Udp => "UDP",
        },
        "allowedRoutes": { "namespaces": from },
    });
    if let Some(hostname) = hostname {
        value["hostname"] = hostname.clone().into();
    }
    if let Some(tls) = tls {
        let certificates: Vec<Value> = tls
            .certificate_refs
            .iter()
            .map(|secret| {
                let mut value = json!({ "group": "", "kind": "Secret", "name": secret.name });
                if let Some(namespace) = &secret.namespace {
                    value["namespace"] = namespace.clone().into();
                }
                value
            })
            .collect();
        value["tls"] = json!({ "mode": "Terminate", "certificateRefs": certificates });
    }
    value
}
