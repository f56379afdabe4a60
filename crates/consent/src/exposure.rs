//! How clients reach an instance's Gateways: which exposures are in force, and what each of them
//! claims and has.
//!
//! ```text
//! asked ─────────────────────────────┐
//! previous.exposures ── still granted ┴─> in force ── claims ─> ports, Routes
//! Facts ── what the cluster gave ───────> addresses, the verdict `Exposed`
//! ```
//!
//! An exposure that was left goes on until the one asked for has all that it needs, and then for as
//! long as [`Facts::lingering`] says: who used the old address may find the new one meanwhile.

use std::collections::BTreeSet;

use postern_api::entitlement::{
    EntitlementStatus, Exposed, ExposedVerdict, ExternalAddress, RouteClaim,
};
use postern_api::instance::{Exposure, ExposureType, Granted, RouteTermination};
use postern_api::names;
use postern_api::reasons::Reason;
use postern_model::Host;
use postern_refs::objects::{Gateway, Protocol};
use postern_refs::{Key, Object};

use crate::{Facts, RouteFacts, Way, ports};

/// Most addresses of a Gateway (Gateway API, `status.addresses`).
pub(crate) const MOST_ADDRESSES: usize = 16;

/// The most characters of a router's message that are told.
const MOST_OF_A_MESSAGE: usize = 300;

/// The most Routes whose problems are told.
const MOST_PROBLEMS: usize = 5;

/// What is looked at: one instance's Gateways, and what the cluster gave them.
pub(crate) struct Exposing<'a> {
    pub gateways: &'a [(&'a Object<Gateway>, &'a Gateway)],
    pub granted: &'a Granted,
    pub cluster: &'a Facts,
}

/// The exposures in force, the one asked for first.
pub(crate) struct InForce {
    pub exposures: Vec<Exposure>,
    /// Those that only [`Facts::lingering`] keeps.
    pub leaving: BTreeSet<Way>,
    /// Whether one goes on because what is asked for has not all that it needs.
    pub unfinished: bool,
}

/// What one Gateway claims under one exposure.
#[derive(Default)]
struct Claims {
    routes: Vec<RouteClaim>,
    /// Hosts that no TenantGrant gives the namespace.
    refused: Vec<String>,
}

impl Exposing<'_> {
    /// What is in force: as asked, and what was in force before as long as it must go on.
    pub(crate) fn in_force(
        &self,
        asked: &Exposure,
        previous: Option<&EntitlementStatus>,
    ) -> InForce {
        let mut found = InForce {
            exposures: vec![asked.clone()],
            leaving: BTreeSet::new(),
            unfinished: false,
        };
        let ready = self.is_ready(asked);
        for before in previous.into_iter().flat_map(|status| &status.exposures) {
            let way = before.way();
            let there = found.exposures.iter().any(|other| other.way() == way);
            // A Service has cluster addresses under every exposure.
            let serves = way.0 != ExposureType::ClusterIP;
            if there || !serves || !self.granted.exposures.contains(&way.0) {
                continue;
            }
            if way.0 == ExposureType::Route && !self.cluster.routes_served {
                continue;
            }
            if !ready {
                found.unfinished = true;
            } else if self.cluster.lingering.contains(&way) {
                found.leaving.insert(way);
            } else {
                continue;
            }
            found.exposures.push(before.clone());
        }
        found
    }

    /// Whether every Gateway has all that this exposure needs.
    fn is_ready(&self, asked: &Exposure) -> bool {
        self.gateways.iter().all(|(object, gateway)| {
            let mut served = ports::served(gateway).peekable();
            if served.peek().is_none() {
                return true;
            }
            let service = self.cluster.services.get(&object.meta.key);
            match asked.kind {
                ExposureType::ClusterIP => {
                    service.is_some_and(|service| !service.cluster_ips.is_empty())
                }
                ExposureType::NodePort => service.is_some_and(|service| {
                    served.all(|port| service.node_ports.contains_key(&port))
                }),
                ExposureType::LoadBalancer => {
                    service.is_some_and(|service| !service.load_balancer.is_empty())
                }
                ExposureType::Route => {
                    let claims = self.claims(asked, &object.meta.key, gateway);
                    let admitted = |claim: &RouteClaim| {
                        self.route(&object.meta.key, claim)
                            .is_some_and(|route| admitted(route, claim, &object.meta.key).is_some())
                    };
                    claims.refused.is_empty()
                        && !claims.routes.is_empty()
                        && claims.routes.iter().all(admitted)
                }
            }
        })
    }

    fn route(&self, gateway: &Key, claim: &RouteClaim) -> Option<&RouteFacts> {
        let name = names::route(&gateway.name, &claim.host);
        let key = gateway.sibling(gateway.namespace.clone(), name);
        self.cluster.routes.get(&key)
    }

    /// The Routes of a Gateway, by order of the exposures in force: a host has one.
    pub(crate) fn routes(
        &self,
        exposures: &[Exposure],
        gateway: &Key,
        spec: &Gateway,
    ) -> Vec<RouteClaim> {
        let mut seen = BTreeSet::new();
        let routes = exposures
            .iter()
            .flat_map(|exposure| self.claims(exposure, gateway, spec).routes);
        routes
            .filter(|claim| seen.insert(claim.host.clone()))
            .collect()
    }

    /// The ports that a Gateway needs beside those for clients who connect themselves. What an
    /// exposure that is being left needs stays, though its Routes may lead elsewhere by now:
    /// routers learn of that in their own time.
    pub(crate) fn router_ports(
        &self,
        exposures: &[Exposure],
        gateway: &Key,
        spec: &Gateway,
    ) -> BTreeSet<(u16, Exposed)> {
        let claims = exposures
            .iter()
            .flat_map(|exposure| self.claims(exposure, gateway, spec).routes);
        claims.map(|claim| (claim.port, claim.exposure)).collect()
    }

    /// What a Gateway claims under an exposure: each host once, at the first listener that it can
    /// lead to.
    fn claims(&self, exposure: &Exposure, gateway: &Key, spec: &Gateway) -> Claims {
        let mut claims = Claims::default();
        if exposure.kind != ExposureType::Route || !self.cluster.routes_served {
            return claims;
        }
        let route = exposure.route.clone().unwrap_or_default();
        let (protocol, exposed) = leads_to(route.termination);
        let fitting: Vec<(Host, u16)> = spec
            .listeners
            .iter()
            .filter(|listener| listener.protocol == protocol)
            .map(|listener| {
                let host = Host::parse(listener.hostname.as_deref().unwrap_or_default());
                (host, listener.port)
            })
            .collect();
        let hosts: Vec<Host> = match route.hosts.is_empty() {
            true => fitting.iter().map(|(host, _)| host.clone()).collect(),
            false => route.hosts.iter().map(|host| Host::parse(host)).collect(),
        };
        let mine: Vec<Host> = self
            .granted
            .hostnames
            .iter()
            .map(|host| Host::parse(host))
            .collect();
        let mut seen = BTreeSet::new();
        for host in hosts {
            if !seen.insert(host.clone()) {
                continue;
            }
            let covering = fitting.iter().find(|(listener, _)| listener.covers(&host));
            let overlapping = || {
                fitting
                    .iter()
                    .find(|(listener, _)| listener.intersect(&host).is_some())
            };
            let Some((_, port)) = covering.or_else(overlapping) else {
                claims.refused.push(format!(
                    "no {} listener of the Gateway serves {host}; add one, or take the host off \
                     spec.exposure.route.hosts",
                    match protocol {
                        Protocol::Https => "HTTPS",
                        _ => "HTTP",
                    }
                ));
                continue;
            };
            let host = match host {
                Host::Any => String::new(),
                host if mine.iter().any(|mine| mine.covers(&host)) => host.to_string(),
                host => {
                    claims.refused.push(format!(
                        "no TenantGrant gives the namespace {} {host}; ask your platform's admins",
                        gateway.namespace
                    ));
                    continue;
                }
            };
            claims.routes.push(RouteClaim {
                host,
                port: *port,
                exposure: exposed,
            });
        }
        claims
    }

    /// The addresses at which a Gateway's listeners answer on their own ports, those asked for
    /// first: those of its load balancer or its Routes where it has them, else those of its
    /// Service. Node ports are other ports, and stand in the instance's status.
    pub(crate) fn external(
        &self,
        exposures: &[Exposure],
        gateway: &Key,
        routes: &[RouteClaim],
    ) -> Vec<ExternalAddress> {
        let service = self.cluster.services.get(gateway);
        let mut found: Vec<ExternalAddress> = Vec::new();
        for exposure in exposures {
            let of_it: Vec<ExternalAddress> = match exposure.kind {
                ExposureType::LoadBalancer => service
                    .map(|service| service.load_balancer.clone())
                    .unwrap_or_default(),
                ExposureType::Route => routes
                    .iter()
                    .filter_map(|claim| admitted(self.route(gateway, claim)?, claim, gateway))
                    .map(|value| ExternalAddress {
                        kind: "Hostname".into(),
                        value,
                    })
                    .collect(),
                ExposureType::ClusterIP | ExposureType::NodePort => service
                    .into_iter()
                    .flat_map(|service| &service.cluster_ips)
                    .map(|address| ExternalAddress {
                        kind: "IPAddress".into(),
                        value: address.to_string(),
                    })
                    .collect(),
            };
            for address in of_it {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        found.truncate(MOST_ADDRESSES);
        found
    }

    /// How what is asked for fares at the routers; `None` where no router is asked.
    pub(crate) fn verdict(
        &self,
        asked: &Exposure,
        gateway: &Key,
        spec: &Gateway,
    ) -> Option<ExposedVerdict> {
        if asked.kind != ExposureType::Route {
            return None;
        }
        let claims = self.claims(asked, gateway, spec);
        let mut problems: Vec<(Reason, String)> = Vec::new();
        if claims.routes.is_empty() && claims.refused.is_empty() {
            let termination = asked.route.clone().unwrap_or_default().termination;
            let (wanted, other) = match termination {
                RouteTermination::Passthrough => ("HTTPS", "Edge"),
                RouteTermination::Edge | RouteTermination::Reencrypt => ("HTTP", "Passthrough"),
            };
            let message = format!(
                "{termination:?} leads to {wanted} listeners and the Gateway has none; add one, or \
                 use {other}"
            );
            problems.push((Reason::NoMatchingListener, message));
        }
        let refused = claims.refused.into_iter();
        problems.extend(refused.map(|message| (Reason::HostnameNotGranted, message)));
        for claim in &claims.routes {
            problems.extend(self.problem(gateway, claim));
        }
        Some(match problems.first() {
            Some((reason, _)) => {
                let told: Vec<&str> = problems
                    .iter()
                    .take(MOST_PROBLEMS)
                    .map(|(_, message)| message.as_str())
                    .collect();
                let more = match problems.len().saturating_sub(MOST_PROBLEMS) {
                    0 => String::new(),
                    more => format!("; and {more} more"),
                };
                ExposedVerdict {
                    holds: false,
                    reason: (*reason).into(),
                    message: format!("{}{more}", told.join("; ")),
                }
            }
            None => ExposedVerdict {
                holds: true,
                reason: Reason::Exposed.into(),
                message: "A router admitted every Route of the Gateway.".into(),
            },
        })
    }

    /// What keeps a router from serving a Route.
    fn problem(&self, gateway: &Key, claim: &RouteClaim) -> Option<(Reason, String)> {
        let name = names::route(&gateway.name, &claim.host);
        let pending = |what: &str| Some((Reason::Pending, format!("Route {name}: {what}")));
        let Some(route) = self.route(gateway, claim) else {
            return pending("it is not there yet");
        };
        if admitted(route, claim, gateway).is_some() {
            return None;
        }
        let refusal = route
            .routers
            .iter()
            .find(|router| router.admitted == Some(false));
        match refusal {
            Some(router) => Some((
                Reason::RouteNotAdmitted,
                format!(
                    "Route {name}: the router {} refused it: {}: {}",
                    plain(&router.router),
                    plain(&router.reason),
                    plain(&router.message)
                ),
            )),
            None if route.routers.is_empty() => pending(
                "no router has answered yet; if none does, ask your platform's admins which router \
                 takes Routes of this namespace",
            ),
            None => pending("no router has admitted it yet"),
        }
    }
}

/// The protocol of the listeners that a termination leads to, and by which of their ports. With
/// `Reencrypt` the client's TLS ends at the router: what it asks for is the HTTP listeners' to answer,
/// and the TLS behind the router is between the router and Envoy.
fn leads_to(termination: RouteTermination) -> (Protocol, Exposed) {
    match termination {
        RouteTermination::Edge => (Protocol::Http, Exposed::Router),
        RouteTermination::Reencrypt => (Protocol::Http, Exposed::RouterReencrypt),
        RouteTermination::Passthrough => (Protocol::Https, Exposed::RouterPassthrough),
    }
}

/// The name by which clients reach an admitted Route: its host, or for a wildcard that of the
/// router.
///
/// Admins of a namespace may write the status of Routes on OpenShift, so what stands there is only
/// taken if it can be true: a host that is not the Route's is not.
fn admitted(route: &RouteFacts, claim: &RouteClaim, gateway: &Key) -> Option<String> {
    let subdomain = names::subdomain(&gateway.name, &gateway.namespace);
    let may_be = |host: &str| match (claim.host.as_str(), claim.host.strip_prefix("*.")) {
        ("", _) => host
            .strip_prefix(&subdomain)
            .is_some_and(|rest| rest.starts_with('.')),
        (_, Some(suffix)) => host == format!("{}.{suffix}", names::WILDCARD),
        (own, None) => host == own,
    };
    let admitting = route
        .routers
        .iter()
        .filter(|router| router.admitted == Some(true) && may_be(&router.host));
    let mut names = admitting.map(|router| match claim.host.starts_with("*.") {
        true => &router.canonical_hostname,
        false => &router.host,
    });
    names.find(|name| is_name(name)).cloned()
}

/// Whether this is a DNS name in lower case.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            label.len() <= 63
                && label.bytes().next().is_some_and(plain)
                && label.bytes().all(|byte| plain(byte) || byte == b'-')
        })
}

/// Text of others on one line, cut.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_OF_A_MESSAGE)
        .collect()
}
