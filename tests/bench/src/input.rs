//! A thousand routes of one rule and two backends.

use std::sync::Arc;

use postern_api::EntitlementStatus;
use postern_api::entitlement::{EntitledGateway, ListenerConsent, PortAllocation, ShardRef};
use postern_refs::objects::{
    AddressPort, AllowedRoutes, BackendRef, EndpointSlice, Gateway, HttpMatch, HttpRoute, HttpRule,
    Listener, ParentRef, PathType, Protocol, Service, ServiceKind, ServicePort, SliceEndpoint,
    TargetPort,
};
use postern_refs::{Body, Key, Meta, Object, Snapshot};

/// How many routes.
pub const ROUTES: usize = 1_000;

fn object<T>(name: &str, body: T) -> Arc<Object<T>> {
    Arc::new(Object {
        meta: Meta {
            key: Key::new("bench", name),
            uid: name.into(),
            generation: 1,
            created: 0,
        },
        body: Body::Valid(body),
        unsupported: vec![],
    })
}

/// Route number `number`, on a host of its own or on the one host of all. `path` tells versions of it
/// apart.
pub fn put_route(snapshot: &mut Snapshot, number: usize, hosts: bool, path: &str) {
    let name = format!("route-{number}");
    let host = if hosts {
        format!("host-{number}.bench.example")
    } else {
        "all.bench.example".to_owned()
    };
    let backend = |number: usize| BackendRef {
        group: "".into(),
        kind: "Service".into(),
        namespace: None,
        name: format!("service-{}", number % ROUTES).into(),
        port: Some(80),
        weight: 1,
    };
    let route = HttpRoute {
        parents: vec![ParentRef {
            group: postern_api::GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "gateway".into(),
            section: None,
            port: None,
        }],
        hostnames: vec![host.into()],
        rules: vec![HttpRule {
            matches: vec![HttpMatch {
                path_type: PathType::Prefix,
                path: path.into(),
                headers: vec![],
                query: vec![],
                method: None,
            }],
            filters: vec![],
            backends: vec![backend(number), backend(number + 1)],
        }],
    };
    Arc::make_mut(&mut snapshot.http_routes)
        .insert(Key::new("bench", name.as_str()), object(&name, route));
}

/// All of it.
pub fn snapshot(hosts: bool) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let gateway = Gateway {
        class: "postern".into(),
        listeners: vec![Listener {
            name: "http".into(),
            hostname: None,
            port: 80,
            protocol: Protocol::Http,
            tls: None,
            allowed_routes: AllowedRoutes::default(),
        }],
        parameters: None,
    };
    Arc::make_mut(&mut snapshot.gateways)
        .insert(Key::new("bench", "gateway"), object("gateway", gateway));
    for number in 0..ROUTES {
        let name = format!("service-{number}");
        let service = Service {
            kind: ServiceKind::Endpoints,
            ports: vec![ServicePort {
                name: "http".into(),
                port: 80,
                target: TargetPort::Number(8080),
                protocol: "TCP".into(),
                app_protocol: None,
            }],
        };
        Arc::make_mut(&mut snapshot.services)
            .insert(Key::new("bench", name.as_str()), object(&name, service));
        let slice = EndpointSlice {
            service: name.as_str().into(),
            ports: vec![AddressPort {
                name: "http".into(),
                port: 8080,
                protocol: "TCP".into(),
            }],
            endpoints: vec![SliceEndpoint {
                addresses: vec![
                    std::net::Ipv4Addr::new(10, 0, (number / 250) as u8, (number % 250) as u8 + 1)
                        .into(),
                ],
                ready: true,
                serving: true,
                terminating: false,
            }],
        };
        Arc::make_mut(&mut snapshot.endpoint_slices)
            .insert(Key::new("bench", name.as_str()), object(&name, slice));
        put_route(&mut snapshot, number, hosts, &format!("/path-{number}"));
    }
    snapshot
}

/// What an operator would say.
pub fn entitlement() -> EntitlementStatus {
    EntitlementStatus {
        contract_version: 1,
        gateways: vec![EntitledGateway {
            namespace: "bench".into(),
            name: "gateway".into(),
            uid: "gateway".into(),
            shard: "default".into(),
            ports: vec![PortAllocation {
                port: 80,
                container_port: 10_080,
                ..PortAllocation::default()
            }],
            listeners: vec![ListenerConsent {
                name: "http".into(),
                route_namespaces: vec!["bench".into()],
            }],
            service: "gateway".into(),
            ..EntitledGateway::default()
        }],
        shards: vec![ShardRef {
            name: "default".into(),
        }],
        hostnames: vec!["*".into()],
        ..EntitlementStatus::default()
    }
}
