//! Consent: who may be read and who may be reached, for one tenant, from everything that the
//! cluster's objects say.
//!
//! ```text
//! Snapshot ─┬─ grants      TenantGrants that cover the namespace ─┐
//!           ├─ ownership   which Gateways are the instance's      ├─> Consent
//!           └─ references  what they name, and where              ┘     ├─ entitlement  (contract)
//! previous Entitlement ── ports and exposures, read back                ├─ granted      (summary)
//! Facts ───────────────── addresses, as the cluster gave them           └─ refusal      (condition)
//! ```
//!
//! Architecture invariant: pure and total. No clock, no I/O, no `Result` for what a tenant wrote;
//! equal input gives equal output in the same order. The operator calls it for a cluster, and
//! `serve --from` and `check -f` for a directory, so that no two of them can disagree.
//!
//! Nothing outside of a tenant's namespace changes its consent but what admins write: the
//! TenantGrants, the GatewayClasses and the labels of its Namespace. In this version no reference
//! leaves the namespace: each that tries is refused, whether or not its target exists.

mod bare;
mod exposure;
mod grants;
mod ownership;
mod ports;
mod references;
mod refusal;
mod touched;
mod used;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use postern_api::entitlement::{
    CONTRACT_VERSION, EntitledGateway, EntitlementStatus, Exposed, ExternalAddress, InstanceRef,
    ListenerConsent, ShardRef,
};
use postern_api::instance::{Address, Exposure, ExposureType, Granted, RouteTermination, Used};
use postern_api::ports::PortKey;
use postern_api::{CONTROLLER_NAME, DEFAULT_SHARD, TRUST_DOMAIN, names};
use postern_refs::objects::{Gateway, Listener, NamespacesFrom};
use postern_refs::{Key, Name, Object, Snapshot};

pub use bare::{BareGateway, Missing, bare_gateways, is_bare, is_missing, missing, with_missing};
use exposure::Exposing;
pub use ownership::{Ownership, is_our_class, owner};
pub use refusal::Refusal;
pub use touched::{Touched, touched};

/// What the cluster gave to what was stamped: never read from where a tenant could write it, and
/// the same for every tenant's consent but its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// GatewayClasses that the program itself stands for, where nobody makes one (`serve --from`).
    /// One of this name in the Snapshot that is another controller's wins.
    pub classes: BTreeSet<Name>,
    /// The Services of Gateways, by the Gateway's key.
    pub services: BTreeMap<Key, ServiceFacts>,
    /// Addresses of nodes that clients may use for node ports; none if unknown.
    pub nodes: Vec<IpAddr>,
    /// Whether the cluster serves OpenShift's Routes.
    pub routes_served: bool,
    /// The Routes of Gateways, by their own key.
    pub routes: BTreeMap<Key, RouteFacts>,
    /// Exposures that were left and may go on for now, though what is asked for is ready.
    pub lingering: BTreeSet<Way>,
}

/// What of an exposure decides by which ports clients come in ([`Exposure::way`]).
pub type Way = (ExposureType, RouteTermination);

/// A Route, as routers answered it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFacts {
    /// What each router said (`status.ingress`).
    pub routers: Vec<RouterVerdict>,
}

/// What a router said about a Route (`route.openshift.io/v1`, `RouteIngress`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterVerdict {
    /// The router's name.
    pub router: String,
    /// The host that it serves the Route under.
    pub host: String,
    /// The name of the router itself, which hosts may point to; empty if it has none.
    pub canonical_hostname: String,
    /// Whether it admits the Route (condition `Admitted`); `None` if it has not said.
    pub admitted: Option<bool>,
    /// Its reason.
    pub reason: String,
    /// Its reason, for people.
    pub message: String,
}

/// A Gateway's Service, as the cluster completed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Its addresses within the cluster (`spec.clusterIPs`).
    pub cluster_ips: Vec<IpAddr>,
    /// The node port of each port.
    pub node_ports: BTreeMap<u16, u16>,
    /// What its load balancer gave it (`status.loadBalancer.ingress`); tenants' stock roles cannot
    /// write a Service's status.
    pub load_balancer: Vec<ExternalAddress>,
}

/// What was found for one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consent {
    /// The contract. After a refusal it entitles to nothing and is not to be written.
    pub entitlement: EntitlementStatus,
    /// The TenantGrants in force, summed up for the instance's status.
    pub granted: Granted,
    /// What it uses of its quotas, for the instance's status; `None` after a refusal.
    pub used: Option<Used>,
    /// Where clients reach the instance's Gateways, for the instance's status.
    pub addresses: Vec<Address>,
    /// Listener ports for which no container port was left.
    pub without_port: BTreeSet<PortKey>,
    /// Exposures that go on only because of [`Facts::lingering`]: their time runs.
    pub leaving: BTreeSet<Way>,
    /// Whether exposures that were left go on because the one asked for is not ready.
    pub unfinished: bool,
    /// Why the instance gets nothing.
    pub refusal: Option<Refusal>,
}

/// Computes the consent of one tenant: the GatewayInstance of this key.
///
/// `previous` is the status of its Entitlement, where container ports are read back from and
/// nothing else.
#[must_use]
pub fn consent(
    snapshot: &Snapshot,
    tenant: &Key,
    previous: Option<&EntitlementStatus>,
    cluster: &Facts,
) -> Consent {
    let granted = grants::in_force(snapshot, tenant);
    let Some(instance) = snapshot.instances.get(tenant) else {
        return Consent {
            granted,
            refusal: Some(refusal::absent(tenant)),
            ..Consent::default()
        };
    };
    let base = base(snapshot, cluster, tenant, instance);
    match refusal::find(snapshot, tenant, instance, &granted, cluster) {
        Some(refusal) => Consent {
            entitlement: base,
            granted,
            refusal: Some(refusal),
            ..Consent::default()
        },
        None => entitled(snapshot, tenant, previous, cluster, base, granted),
    }
}

/// What stands in every Entitlement.
fn base<T>(
    snapshot: &Snapshot,
    cluster: &Facts,
    tenant: &Key,
    instance: &Object<T>,
) -> EntitlementStatus {
    EntitlementStatus {
        contract_version: CONTRACT_VERSION,
        instance: InstanceRef {
            namespace: tenant.namespace.to_string(),
            name: tenant.name.to_string(),
            uid: instance.meta.uid.to_string(),
            generation: instance.meta.generation,
        },
        trust_domain: TRUST_DOMAIN.into(),
        controller_name: CONTROLLER_NAME.into(),
        gateway_classes: ownership::our_classes(snapshot, &cluster.classes),
        ..EntitlementStatus::default()
    }
}

fn entitled(
    snapshot: &Snapshot,
    tenant: &Key,
    previous: Option<&EntitlementStatus>,
    cluster: &Facts,
    base: EntitlementStatus,
    granted: Granted,
) -> Consent {
    let gateways = ownership::gateways_of(snapshot, tenant, &cluster.classes);
    let asked = snapshot
        .instances
        .get(tenant)
        .and_then(|instance| instance.valid())
        .map(|spec| spec.exposure.clone())
        .unwrap_or_default();
    let exposing = Exposing {
        gateways: &gateways,
        granted: &granted,
        cluster,
    };
    let in_force = exposing.in_force(&asked, previous);
    let exposures = &in_force.exposures;
    let wanted: BTreeSet<PortKey> = gateways
        .iter()
        .flat_map(|(object, gateway)| {
            let key = &object.meta.key;
            let direct = ports::served(gateway).map(|port| (port, Exposed::Direct));
            direct
                .chain(exposing.router_ports(exposures, key, gateway))
                .map(|(port, exposure)| ports::key(key, port, exposure))
        })
        .collect();
    let allocated = ports::allocate(&wanted, previous);
    let labels = grants::namespace_labels(snapshot, tenant);
    let entitled: Vec<EntitledGateway> = gateways
        .iter()
        .map(|(object, gateway)| {
            let key = &object.meta.key;
            let routes = exposing.routes(exposures, key, gateway);
            let addresses = exposing.external(exposures, key, &routes);
            EntitledGateway {
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                uid: object.meta.uid.to_string(),
                shard: DEFAULT_SHARD.into(),
                ports: ports::of_gateway(&allocated, key),
                listeners: listeners(gateway, &tenant.namespace, &labels),
                awaits_address: addresses.is_empty() && needs_address(asked.kind),
                addresses,
                service: names::gateway_service(&key.name),
                routes,
                exposed: exposing.verdict(&asked, key, gateway),
            }
        })
        .collect();
    Consent {
        addresses: addresses(cluster, exposures, &gateways, &entitled),
        entitlement: EntitlementStatus {
            gateways: entitled,
            shards: vec![ShardRef {
                name: DEFAULT_SHARD.into(),
            }],
            refused: references::refused(snapshot, tenant, &gateways),
            watches: references::watches(tenant),
            objects: references::secrets(tenant, &gateways),
            hostnames: granted.hostnames.clone(),
            quotas: granted.quotas.clone().unwrap_or_default(),
            exposures: in_force.exposures,
            ..base
        },
        used: Some(used::of(snapshot, tenant, &gateways)),
        granted,
        without_port: allocated.without,
        leaving: in_force.leaving,
        unfinished: in_force.unfinished,
        refusal: None,
    }
}

/// Whether somebody outside of the cluster must give a Gateway its address.
fn needs_address(kind: ExposureType) -> bool {
    match kind {
        ExposureType::LoadBalancer | ExposureType::Route => true,
        ExposureType::ClusterIP | ExposureType::NodePort => false,
    }
}

/// Whose routes may attach to each listener. Consent of other namespaces is not built: the
/// tenant's own is the only one that can appear.
fn listeners(gateway: &Gateway, own: &Name, labels: &BTreeMap<Name, Name>) -> Vec<ListenerConsent> {
    let admits = |listener: &Listener| match &listener.allowed_routes.namespaces {
        NamespacesFrom::Same | NamespacesFrom::All => true,
        NamespacesFrom::Selector(selector) => selector.matches(labels),
        NamespacesFrom::Nobody(_) => false,
    };
    let mut seen = BTreeSet::new();
    gateway
        .listeners
        .iter()
        .filter(|listener| seen.insert(&listener.name))
        .map(|listener| ListenerConsent {
            name: listener.name.to_string(),
            route_namespaces: admits(listener)
                .then(|| own.to_string())
                .into_iter()
                .collect(),
        })
        .collect()
}

/// Where clients reach each port, from outside first.
fn addresses(
    cluster: &Facts,
    exposures: &[Exposure],
    gateways: &[(&Object<Gateway>, &Gateway)],
    entitled: &[EntitledGateway],
) -> Vec<Address> {
    let mut found = Vec::new();
    for ((object, gateway), entitled) in gateways.iter().zip(entitled) {
        let address = |kind: &str, value: String, port: u16, listener_port: u16| Address {
            gateway: entitled.name.clone(),
            kind: kind.into(),
            value,
            port: i32::from(port),
            listener_port: i32::from(listener_port),
        };
        let ip = |value: &IpAddr, port: u16, listener_port: u16| {
            address("IPAddress", value.to_string(), port, listener_port)
        };
        let service = cluster.services.get(&object.meta.key);
        let ports: BTreeSet<u16> = ports::served(gateway).collect();
        for exposure in exposures {
            match exposure.kind {
                ExposureType::ClusterIP => {}
                ExposureType::Route => {
                    // By its name and the port of HTTPS, whatever the listener's.
                    let claimed: BTreeSet<u16> =
                        entitled.routes.iter().map(|claim| claim.port).collect();
                    let only = claimed.first().filter(|_| claimed.len() == 1);
                    let names = entitled.addresses.iter();
                    found.extend(names.filter(|name| name.kind == "Hostname").map(|name| {
                        let port = only.copied().unwrap_or(ROUTER_PORT);
                        address("Hostname", name.value.clone(), ROUTER_PORT, port)
                    }));
                }
                ExposureType::NodePort => {
                    for port in &ports {
                        let given = service.and_then(|service| service.node_ports.get(port));
                        if let Some(given) = given {
                            let nodes = cluster.nodes.iter();
                            found.extend(nodes.map(|node| ip(node, *given, *port)));
                        }
                    }
                }
                ExposureType::LoadBalancer => {
                    for port in &ports {
                        let given = service.into_iter().flat_map(|one| &one.load_balancer);
                        found.extend(
                            given.map(|given| {
                                address(&given.kind, given.value.clone(), *port, *port)
                            }),
                        );
                    }
                }
            }
        }
        for port in &ports {
            let ips = service.into_iter().flat_map(|one| &one.cluster_ips);
            found.extend(ips.map(|value| ip(value, *port, *port)));
        }
    }
    found
}

/// Where OpenShift's routers answer HTTPS.
const ROUTER_PORT: u16 = 443;

#[cfg(test)]
mod tests;
