//! Who may reach our pods, and whom they may reach.
//!
//! Each policy selects pods of ours alone and denies what it does not allow. Policies see traffic
//! after the Service's translation: pods and *target* ports.
//!
//! | path | what holds it against a hostile tenant |
//! | --- | --- |
//! | others' pods to this tenant's Envoys and control plane | this policy; the tenant's own later policies can only open its own gateway |
//! | this tenant's Envoys to others' pods | a guard rail: whoever may exec into these pods also may add policies. The target's own policy is the boundary |
//!
//! Probes come from the node, which always gets in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postern_api::entitlement::{EntitlementStatus, Exposed};
use postern_api::instance::{ClientsFrom, Exposure, ExposureType};
use postern_api::ports;

use crate::settings::{ApiServers, Observed, Settings};
use crate::{Instance, Stamped, labels};

/// Ports of DNS servers, as pods see them and as some CoreDNS pods listen.
const DNS_PORTS: [u16; 2] = [53, 5353];

/// The control plane: Envoys of its own instance come in; it reaches API servers.
pub(crate) fn control_plane(instance: &Instance<'_>, settings: &Settings) -> Stamped {
    let mut ingress = vec![NetworkPolicyIngressRule {
        from: Some(vec![pods(labels::select_envoys(instance.name, None))]),
        ports: Some(tcp([ports::XDS])),
    }];
    ingress.extend(metrics(settings, ports::CONTROL_PLANE_METRICS));
    policy(
        instance,
        instance.names().control_plane(),
        labels::CONTROL_PLANE,
        labels::select_control_plane(instance.name),
        ingress,
        api_servers(&settings.api_servers),
    )
}

/// Envoys of a shard: admitted clients come in to the listeners' ports; they reach their control
/// plane, and the pods of their namespace.
pub(crate) fn envoy(
    instance: &Instance<'_>,
    entitlement: &EntitlementStatus,
    shard: &str,
    settings: &Settings,
    observed: &Observed,
) -> Stamped {
    let ports = |wanted: fn(Exposed) -> bool| -> BTreeSet<u16> {
        entitlement
            .gateways
            .iter()
            .filter(|gateway| gateway.shard == shard)
            .flat_map(|gateway| &gateway.ports)
            .filter(|port| wanted(port.exposure))
            .map(|port| port.container_port)
            .collect()
    };
    let direct = ports(|exposure| exposure == Exposed::Direct);
    let behind_router = ports(|exposure| exposure != Exposed::Direct);
    let mut ingress = Vec::new();
    // A rule without ports would be one for every port.
    if !direct.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: clients(instance, instance.exposures(entitlement)),
            ports: Some(tcp(direct)),
        });
    }
    if !behind_router.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: Some(vec![router()]),
            ports: Some(tcp(behind_router)),
        });
    }
    ingress.extend(metrics(settings, ports::PROXY_METRICS));
    let mut egress = vec![
        NetworkPolicyEgressRule {
            to: Some(vec![pods(labels::select_control_plane(instance.name))]),
            ports: Some(tcp([ports::XDS])),
        },
        // Backends: pods of this namespace.
        NetworkPolicyEgressRule {
            to: Some(vec![pods(BTreeMap::new())]),
            ports: None,
        },
    ];
    if observed.control_plane.is_none() {
        egress.push(NetworkPolicyEgressRule {
            to: None,
            ports: Some(
                ["UDP", "TCP"]
                    .into_iter()
                    .flat_map(|protocol| DNS_PORTS.map(|number| port(protocol, number)))
                    .collect(),
            ),
        });
    }
    policy(
        instance,
        instance.names().envoy(shard),
        labels::ENVOY,
        labels::select_envoys(instance.name, Some(shard)),
        ingress,
        egress,
    )
}

/// OpenShift's routers, whoever else runs in their namespace. On the host network they come with
/// a node's address, which OpenShift puts down to the namespace with this label, and only where no
/// pod is picked out (OpenShift, "Allowing traffic from the OpenShift Ingress Controller").
fn router() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(labels::selector(
            [(ROUTER_LABEL.to_owned(), String::new())].into(),
        )),
        pod_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    }
}

/// The label of the namespaces that OpenShift's routers run in; its value is empty.
const ROUTER_LABEL: &str = "policy-group.network.openshift.io/ingress";

/// Who may connect to listeners; `None` is everybody.
fn clients(instance: &Instance<'_>, exposures: &[Exposure]) -> Option<Vec<NetworkPolicyPeer>> {
    // Clients come from anywhere, and often with a node's address.
    let outside = exposures.iter().any(|exposure| match exposure.kind {
        ExposureType::NodePort | ExposureType::LoadBalancer => true,
        ExposureType::ClusterIP | ExposureType::Route => false,
    });
    if outside {
        return None;
    }
    let clients = &instance.spec.clients;
    Some(match clients.from {
        ClientsFrom::Same => vec![namespaces([instance.namespace])],
        ClientsFrom::All => vec![NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        }],
        ClientsFrom::Names => {
            let names = clients.names.iter().map(String::as_str);
            vec![namespaces(names.chain([instance.namespace]))]
        }
    })
}

fn metrics(settings: &Settings, number: u16) -> Option<NetworkPolicyIngressRule> {
    // A peer list without names would be one for everybody.
    (!settings.monitoring_namespaces.is_empty()).then(|| NetworkPolicyIngressRule {
        from: Some(vec![namespaces(
            settings.monitoring_namespaces.iter().map(String::as_str),
        )]),
        ports: Some(tcp([number])),
    })
}

fn api_servers(servers: &ApiServers) -> Vec<NetworkPolicyEgressRule> {
    match servers {
        ApiServers::Endpoints(endpoints) => {
            let mut by_port: BTreeMap<u16, Vec<NetworkPolicyPeer>> = BTreeMap::new();
            for endpoint in endpoints {
                let length = match endpoint.ip() {
                    IpAddr::V4(_) => 32,
                    IpAddr::V6(_) => 128,
                };
                by_port
                    .entry(endpoint.port())
                    .or_default()
                    .push(NetworkPolicyPeer {
                        ip_block: Some(IPBlock {
                            cidr: format!("{}/{length}", endpoint.ip()),
                            except: None,
                        }),
                        ..NetworkPolicyPeer::default()
                    });
            }
            by_port
                .into_iter()
                .map(|(port, peers)| NetworkPolicyEgressRule {
                    to: Some(peers),
                    ports: Some(tcp([port])),
                })
                .collect()
        }
        ApiServers::Ports(ports) if ports.is_empty() => Vec::new(),
        ApiServers::Ports(ports) => vec![NetworkPolicyEgressRule {
            to: None,
            ports: Some(tcp(ports.iter().copied())),
        }],
    }
}

/// Pods of our own namespace with these labels.
fn pods(selected: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(match selected.is_empty() {
            true => LabelSelector::default(),
            false => labels::selector(selected),
        }),
        ..NetworkPolicyPeer::default()
    }
}

/// Pods of namespaces by name: by the one label that tenants cannot write.
fn namespaces<'a>(names: impl IntoIterator<Item = &'a str>) -> NetworkPolicyPeer {
    let names: BTreeSet<&str> = names.into_iter().collect();
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: labels::NAMESPACE_NAME.into(),
                operator: "In".into(),
                values: Some(names.into_iter().map(str::to_owned).collect()),
            }]),
            match_labels: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn tcp(numbers: impl IntoIterator<Item = u16>) -> Vec<NetworkPolicyPort> {
    numbers
        .into_iter()
        .map(|number| port("TCP", number))
        .collect()
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

fn policy(
    instance: &Instance<'_>,
    name: String,
    component: &str,
    selected: BTreeMap<String, String>,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> Stamped {
    Stamped::typed(&NetworkPolicy {
        metadata: instance.meta(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels::selector(selected)),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: (!ingress.is_empty()).then_some(ingress),
            egress: (!egress.is_empty()).then_some(egress),
        }),
    })
}
