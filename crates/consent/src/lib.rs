//! Consent: who may be read and who may be reached, for one tenant, from everything that the
//! cluster's objects say.
//!
//! ```text
//! Snapshot ─┬─ grants      TenantGrants that cover the namespace ─┐
//!           ├─ ownership   which Gateways are the instance's      ├─> Consent
//!           └─ references  what they name, and where              ┘     ├─ entitlement  (contract)
//! previous Entitlement ── ports, read back                              ├─ granted      (summary)
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

mod grants;
mod ownership;
mod ports;
mod references;
mod refusal;
mod touched;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use postern_api::entitlement::{
    CONTRACT_VERSION, EntitledGateway, EntitlementStatus, ExternalAddress, InstanceRef,
    ListenerConsent, Quotas, ShardRef,
};
use postern_api::instance::{Address, ExposureType, Granted};
use postern_api::ports::PortKey;
use postern_api::{CONTROLLER_NAME, DEFAULT_SHARD, TRUST_DOMAIN, names};
use postern_refs::objects::{Gateway, Listener, NamespacesFrom};
use postern_refs::{Key, Name, Object, Snapshot};

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
    /// Where clients reach the instance's Gateways, for the instance's status.
    pub addresses: Vec<Address>,
    /// Listener ports for which no container port was left.
    pub without_port: BTreeSet<PortKey>,
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
    let (granted, quotas) = grants::in_force(snapshot, tenant);
    let Some(instance) = snapshot.instances.get(tenant) else {
        return Consent {
            granted,
            refusal: Some(refusal::absent(tenant)),
            ..Consent::default()
        };
    };
    let base = base(snapshot, cluster, tenant, instance);
    match refusal::find(snapshot, tenant, instance, &granted) {
        Some(refusal) => Consent {
            entitlement: base,
            granted,
            refusal: Some(refusal),
            ..Consent::default()
        },
        None => entitled(snapshot, tenant, previous, cluster, base, granted, quotas),
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
    quotas: Quotas,
) -> Consent {
    let gateways = ownership::gateways_of(snapshot, tenant, &cluster.classes);
    let allocated = ports::allocate(&gateways, previous);
    let labels = grants::namespace_labels(snapshot, tenant);
    let exposure = snapshot
        .instances
        .get(tenant)
        .and_then(|instance| instance.valid())
        .map(|spec| spec.exposure.kind)
        .unwrap_or_default();
    let entitled = gateways
        .iter()
        .map(|(object, gateway)| EntitledGateway {
            namespace: object.meta.key.namespace.to_string(),
            name: object.meta.key.name.to_string(),
            uid: object.meta.uid.to_string(),
            shard: DEFAULT_SHARD.into(),
            ports: ports::of_gateway(&allocated, &object.meta.key),
            listeners: listeners(gateway, &tenant.namespace, &labels),
            addresses: external(cluster, exposure, &object.meta.key),
            awaits_address: exposure == ExposureType::LoadBalancer
                && load_balancer(cluster, &object.meta.key).is_empty(),
            service: names::gateway_service(&object.meta.key.name),
        })
        .collect();
    Consent {
        addresses: addresses(cluster, exposure, &gateways),
        entitlement: EntitlementStatus {
            gateways: entitled,
            shards: vec![ShardRef {
                name: DEFAULT_SHARD.into(),
            }],
            refused: references::refused(snapshot, tenant, &gateways),
            watches: references::watches(tenant),
            objects: references::secrets(tenant, &gateways),
            hostnames: granted.hostnames.clone(),
            quotas,
            ..base
        },
        granted,
        without_port: allocated.without,
        refusal: None,
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

/// What the load balancer gave a Gateway's Service.
fn load_balancer<'a>(cluster: &'a Facts, gateway: &Key) -> &'a [ExternalAddress] {
    cluster
        .services
        .get(gateway)
        .map_or(&[], |service| &service.load_balancer)
}

/// The addresses at which a Gateway's listeners answer on their own ports: those of its load
/// balancer where it has one, else those of its Service. Node ports are other ports, and stand in
/// the instance's status.
fn external(cluster: &Facts, exposure: ExposureType, gateway: &Key) -> Vec<ExternalAddress> {
    if exposure == ExposureType::LoadBalancer {
        return load_balancer(cluster, gateway).to_vec();
    }
    cluster
        .services
        .get(gateway)
        .map(|service| service.cluster_ips.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|address| ExternalAddress {
            kind: "IPAddress".into(),
            value: address.to_string(),
        })
        .collect()
}

/// Where clients reach each port, from outside first.
fn addresses(
    cluster: &Facts,
    exposure: ExposureType,
    gateways: &[(&Object<Gateway>, &Gateway)],
) -> Vec<Address> {
    let mut addresses = Vec::new();
    for (object, gateway) in gateways {
        let Some(service) = cluster.services.get(&object.meta.key) else {
            continue;
        };
        let address = |value: &IpAddr, port: u16, listener_port: u16| Address {
            gateway: object.meta.key.name.to_string(),
            kind: "IPAddress".into(),
            value: value.to_string(),
            port: i32::from(port),
            listener_port: i32::from(listener_port),
        };
        let ports: BTreeSet<u16> = ports::served(gateway).collect();
        if exposure == ExposureType::NodePort {
            for port in &ports {
                if let Some(node_port) = service.node_ports.get(port) {
                    let nodes = cluster.nodes.iter();
                    addresses.extend(nodes.map(|node| address(node, *node_port, *port)));
                }
            }
        }
        if exposure == ExposureType::LoadBalancer {
            for port in &ports {
                addresses.extend(service.load_balancer.iter().map(|given| Address {
                    kind: given.kind.clone(),
                    value: given.value.clone(),
                    gateway: object.meta.key.name.to_string(),
                    port: i32::from(*port),
                    listener_port: i32::from(*port),
                }));
            }
        }
        for port in &ports {
            let ips = service.cluster_ips.iter();
            addresses.extend(ips.map(|ip| address(ip, *port, *port)));
        }
    }
    addresses
}

#[cfg(test)]
mod tests;
