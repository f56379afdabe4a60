//! Snapshots for tests, built from a few words.

#![allow(dead_code)]

use std::sync::Arc;

use postern_api::EntitlementStatus;
use postern_api::entitlement::{
    EntitledGateway, Exposed, ListenerConsent, ObjectRef as Referent, PortAllocation, PortTrust,
    ShardRef,
};
use postern_refs::objects::{
    AddressPort, AllowedRoutes, BackendRef, EndpointSlice, Gateway, HttpMatch, HttpRoute, HttpRule,
    Listener, ListenerTls, ObjectRef, ParentRef, PathType, Protocol, Redacted, Service,
    ServiceKind, ServicePort, SliceEndpoint, TargetPort, TlsMode, TlsSecret,
};
use postern_refs::status::{Status, Truth};
use postern_refs::{Body, Key, Kind, Meta, Object, Snapshot};
use postern_translate::{Memo, Settings, Translation, translate};

pub const NS: &str = "team";

pub fn key(name: &str) -> Key {
    Key::new(NS, name)
}

pub fn object<T>(kind: &str, name: &str, created: i64, body: T) -> Arc<Object<T>> {
    Arc::new(Object {
        meta: Meta {
            key: key(name),
            uid: format!("{kind}-{name}").into(),
            generation: 1,
            created,
        },
        body: Body::Valid(body),
        unsupported: vec![],
    })
}

pub fn listener(name: &str, port: u16, hostname: Option<&str>, tls: Option<&str>) -> Listener {
    Listener {
        name: name.into(),
        hostname: hostname.map(Into::into),
        port,
        protocol: if tls.is_some() {
            Protocol::Https
        } else {
            Protocol::Http
        },
        tls: tls.map(|secret| ListenerTls {
            mode: TlsMode::Terminate,
            certificates: vec![ObjectRef {
                group: "".into(),
                kind: "Secret".into(),
                namespace: None,
                name: secret.into(),
            }],
        }),
        allowed_routes: AllowedRoutes::default(),
    }
}

pub fn put_gateway(snapshot: &mut Snapshot, listeners: Vec<Listener>) {
    let gateway = Gateway {
        class: "postern".into(),
        listeners,
        parameters: None,
    };
    Arc::make_mut(&mut snapshot.gateways).insert(key("gw"), object("Gateway", "gw", 0, gateway));
}

pub fn put_service(snapshot: &mut Snapshot, name: &str, addresses: &[&str]) {
    let port = ServicePort {
        name: "http".into(),
        port: 80,
        target: TargetPort::Number(8080),
        protocol: "TCP".into(),
        app_protocol: None,
    };
    let service = Service {
        kind: ServiceKind::Endpoints,
        ports: vec![port],
    };
    Arc::make_mut(&mut snapshot.services).insert(key(name), object("Service", name, 0, service));
    put_slice(snapshot, name, addresses);
}

pub fn put_slice(snapshot: &mut Snapshot, service: &str, addresses: &[&str]) {
    let endpoints = addresses
        .iter()
        .map(|address| SliceEndpoint {
            addresses: vec![address.parse().unwrap()],
            ready: true,
            serving: true,
            terminating: false,
        })
        .collect();
    let slice = EndpointSlice {
        service: service.into(),
        ports: vec![AddressPort {
            name: "http".into(),
            port: 8080,
            protocol: "TCP".into(),
        }],
        endpoints,
    };
    let name = format!("{service}-1");
    Arc::make_mut(&mut snapshot.endpoint_slices)
        .insert(key(&name), object("EndpointSlice", &name, 0, slice));
}

pub fn put_secret(snapshot: &mut Snapshot, name: &str, certificate: &str, private: &str) {
    let secret = TlsSecret {
        kind: "kubernetes.io/tls".into(),
        certificate: Some(certificate.into()),
        key: Some(Redacted(private.into())),
    };
    Arc::make_mut(&mut snapshot.secrets).insert(key(name), object("Secret", name, 0, secret));
}

pub fn parent() -> ParentRef {
    ParentRef {
        group: postern_api::GATEWAY_GROUP.into(),
        kind: "Gateway".into(),
        namespace: None,
        name: "gw".into(),
        section: None,
        port: None,
    }
}

pub fn backend(name: &str, weight: u32) -> BackendRef {
    BackendRef {
        group: "".into(),
        kind: "Service".into(),
        namespace: None,
        name: name.into(),
        port: Some(80),
        weight,
    }
}

pub fn prefix(path: &str) -> HttpMatch {
    HttpMatch {
        path_type: PathType::Prefix,
        path: path.into(),
        headers: vec![],
        query: vec![],
        method: None,
    }
}

pub fn rule(path: &str, backends: Vec<BackendRef>) -> HttpRule {
    HttpRule {
        matches: vec![prefix(path)],
        filters: vec![],
        backends,
    }
}

pub fn route(hostnames: &[&str], rules: Vec<HttpRule>) -> HttpRoute {
    HttpRoute {
        parents: vec![parent()],
        hostnames: hostnames.iter().map(|host| (*host).into()).collect(),
        rules,
    }
}

pub fn put_route(snapshot: &mut Snapshot, name: &str, route: HttpRoute) {
    Arc::make_mut(&mut snapshot.http_routes).insert(key(name), object("HTTPRoute", name, 0, route));
}

/// What an operator would say about the Gateway of these listeners.
pub fn entitlement(listeners: &[Listener]) -> EntitlementStatus {
    let mut ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let secrets = listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref())
        .flat_map(|tls| &tls.certificates);
    EntitlementStatus {
        contract_version: 1,
        gateways: vec![EntitledGateway {
            namespace: NS.into(),
            name: "gw".into(),
            uid: "Gateway-gw".into(),
            shard: "default".into(),
            ports: ports
                .iter()
                .map(|port| PortAllocation {
                    port: *port,
                    exposure: Exposed::Direct,
                    container_port: 10_000 + port,
                    trust: PortTrust::Nothing,
                })
                .collect(),
            listeners: listeners
                .iter()
                .map(|listener| ListenerConsent {
                    name: listener.name.to_string(),
                    route_namespaces: vec![NS.into()],
                })
                .collect(),
            addresses: vec![],
            awaits_address: false,
            service: "gw".into(),
            ..EntitledGateway::default()
        }],
        shards: vec![ShardRef {
            name: "default".into(),
        }],
        objects: secrets
            .map(|reference| Referent {
                group: "".into(),
                kind: "Secret".into(),
                namespace: NS.into(),
                name: reference.name.to_string(),
            })
            .collect(),
        hostnames: vec!["*".into()],
        ..EntitlementStatus::default()
    }
}

pub fn memo() -> Memo {
    Memo::new(Settings {
        allow_loopback: false,
    })
}

pub fn fresh(snapshot: &Snapshot, entitlement: &EntitlementStatus) -> Translation {
    translate(snapshot, entitlement, &mut memo())
}

/// A condition of a route's first parent: status, reason, message.
pub fn route_condition(
    translation: &Translation,
    name: &str,
    kind: &str,
) -> Option<(Truth, String, String)> {
    let status = translation.routes.get(&(Kind::HttpRoute, key(name)))?;
    let Status::Route(status) = &**status else {
        return None;
    };
    let condition = status
        .parents
        .first()?
        .conditions
        .iter()
        .find(|c| &*c.kind == kind)?;
    Some((
        condition.status,
        condition.reason.to_string(),
        condition.message.to_string(),
    ))
}
