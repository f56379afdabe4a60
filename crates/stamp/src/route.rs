//! What a Gateway has behind OpenShift's router: Routes, and the Service that they lead to.
//!
//! Routers take the pods behind a Service, so the Service decides nothing but the port: it has the
//! ports that only routers may reach, and those that clients use are another Service's.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern_api::entitlement::{EntitledGateway, EntitlementStatus, Exposed, RouteClaim};
use postern_api::instance::{
    ExposureType, InsecureEdgeTerminationPolicy, RouteExposure, RouteTermination,
};
use postern_api::names;
use serde_json::{Value, json};

use crate::{Instance, Observed, Stamped, labels};

/// Has the router replace what clients say about the way of a request.
const FORWARDED_HEADERS: &str = "haproxy.router.openshift.io/set-forwarded-headers";
/// Keeps the router from tying clients to a pod, which no weight could undo.
const NO_COOKIES: &str = "haproxy.router.openshift.io/disable_cookies";

/// A Service for each Gateway that routers lead to.
pub(crate) fn services(instance: &Instance<'_>, entitlement: &EntitlementStatus) -> Vec<Stamped> {
    own(instance, entitlement)
        .filter_map(|gateway| service(instance, gateway))
        .collect()
}

/// A Route for each host that a Gateway claims. Those that reencrypt wait until it is known whom the
/// router is to believe: without that it believes OpenShift's own authorities, which no Envoy is of.
pub(crate) fn routes(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    observed: &Observed,
) -> Vec<Stamped> {
    let known = |claim: &&RouteClaim| {
        claim.exposure != Exposed::RouterReencrypt || observed.trust.is_some()
    };
    own(instance, entitlement)
        .flat_map(|gateway| {
            let claims = gateway.routes.iter().filter(known);
            claims.map(|claim| {
                let tls = tls(instance, entitlement, claim.exposure, observed);
                route(instance, gateway, claim, &tls)
            })
        })
        .collect()
}

/// The Gateways of the instance's namespace: Routes lead to Services of their own.
fn own<'a>(
    instance: &Instance<'a>,
    entitlement: &'a EntitlementStatus,
) -> impl Iterator<Item = &'a EntitledGateway> {
    let namespace = instance.namespace;
    let gateways = entitlement.gateways.iter();
    gateways.filter(move |gateway| gateway.namespace == namespace)
}

fn port_name(port: u16, exposure: Exposed) -> String {
    // At most 15 characters, says the Service API: the word is not the exposure's whole name.
    let word = match exposure {
        Exposed::Direct => "port",
        Exposed::Router => "edge",
        Exposed::RouterPassthrough => "pass",
        Exposed::RouterReencrypt => "tls",
    };
    format!("{word}-{port}")
}

fn service(instance: &Instance<'_>, gateway: &EntitledGateway) -> Option<Stamped> {
    let behind = gateway
        .ports
        .iter()
        .filter(|port| port.exposure != Exposed::Direct);
    let ports: Vec<ServicePort> = behind
        .map(|port| ServicePort {
            name: Some(port_name(port.port, port.exposure)),
            // Of no use but to tell them apart: one port of the Gateway may have two of these.
            port: i32::from(port.container_port),
            target_port: Some(IntOrString::Int(i32::from(port.container_port))),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    Some(Stamped::typed(&Service {
        metadata: instance.meta(names::router_service(&gateway.name), labels::GATEWAY),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(labels::select_envoys(instance.name, Some(&gateway.shard))),
            ports: Some(ports),
            session_affinity: Some("None".into()),
            internal_traffic_policy: Some("Cluster".into()),
            ..ServiceSpec::default()
        }),
        status: None,
    }))
}

fn route(
    instance: &Instance<'_>,
    gateway: &EntitledGateway,
    claim: &RouteClaim,
    tls: &Value,
) -> Stamped {
    let mut metadata = instance.meta(names::route(&gateway.name, &claim.host), labels::GATEWAY);
    metadata.annotations = Some(
        [
            (FORWARDED_HEADERS.to_owned(), "replace".to_owned()),
            (NO_COOKIES.to_owned(), "true".to_owned()),
        ]
        .into(),
    );
    let mut spec = json!({
        "to": { "kind": "Service", "name": names::router_service(&gateway.name), "weight": 100 },
        "port": { "targetPort": port_name(claim.port, claim.exposure) },
        "tls": tls,
        "wildcardPolicy": "None",
    });
    match (claim.host.as_str(), claim.host.strip_prefix("*.")) {
        ("", _) => {
            spec["subdomain"] = names::subdomain(&gateway.name, &gateway.namespace).into();
        }
        (_, Some(suffix)) => {
            spec["host"] = format!("{}.{suffix}", names::WILDCARD).into();
            spec["wildcardPolicy"] = "Subdomain".into();
        }
        (host, None) => spec["host"] = host.into(),
    }
    Stamped::new(
        "route.openshift.io/v1",
        "Route",
        json!({ "metadata": metadata, "spec": spec }),
    )
}

fn tls(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    exposure: Exposed,
    observed: &Observed,
) -> Value {
    let (termination, word) = match exposure {
        Exposed::RouterPassthrough => (RouteTermination::Passthrough, "passthrough"),
        Exposed::RouterReencrypt => (RouteTermination::Reencrypt, "reencrypt"),
        Exposed::Router | Exposed::Direct => (RouteTermination::Edge, "edge"),
    };
    let mut exposures = instance.exposures(entitlement).iter();
    let settings: RouteExposure = exposures
        .find(|exposure| exposure.way() == (ExposureType::Route, termination))
        .and_then(|exposure| exposure.route.clone())
        .unwrap_or_default();
    let insecure = match settings.insecure_edge_termination_policy {
        None | Some(InsecureEdgeTerminationPolicy::None) => "None",
        Some(InsecureEdgeTerminationPolicy::Allow) => "Allow",
        Some(InsecureEdgeTerminationPolicy::Redirect) => "Redirect",
    };
    let mut tls = json!({ "termination": word, "insecureEdgeTerminationPolicy": insecure });
    if exposure == Exposed::RouterReencrypt {
        // With authorities of its own the router looks at the chain, and at no name.
        tls["destinationCACertificate"] = observed.trust.as_deref().into();
    }
    tls
}
