//! Objects for tests: two teams, each with a grant, an instance and a Gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_api::instance::ExposureType;
use postern_api::{CONTROLLER_NAME, GATEWAY_GROUP, GatewayInstanceSpec, TenantGrantSpec};
use postern_refs::objects::{
    AllowedRoutes, BackendRef, Gateway, GatewayClass, HttpRoute, HttpRule, Listener, ListenerTls,
    Namespace, ParentRef, Protocol, ReferenceGrant, TlsMode,
};
use postern_refs::{Body, Key, Meta, Name, Object, ObjectRef, Snapshot};

pub type Grants = BTreeMap<Key, Arc<Object<TenantGrantSpec>>>;

/// The map of a kind in a Snapshot.
pub trait Edit<T> {
    fn edit(&mut self, with: impl FnOnce(&mut BTreeMap<Key, Arc<Object<T>>>));
}

macro_rules! edit {
    ($($field:ident: $kind:ty,)+) => {
        $(impl Edit<$kind> for Snapshot {
            fn edit(&mut self, with: impl FnOnce(&mut BTreeMap<Key, Arc<Object<$kind>>>)) {
                with(Arc::make_mut(&mut self.$field));
            }
        })+
    };
}

edit! {
    gateway_classes: GatewayClass,
    gateways: Gateway,
    http_routes: HttpRoute,
    reference_grants: ReferenceGrant,
    namespaces: Namespace,
    instances: GatewayInstanceSpec,
    tenant_grants: TenantGrantSpec,
}

/// Puts an object in, in the place of one of its key.
pub fn put<T>(snapshot: &mut Snapshot, object: Object<T>)
where
    Snapshot: Edit<T>,
{
    snapshot.edit(|map| {
        map.insert(object.meta.key.clone(), Arc::new(object));
    });
}

/// Changes what an object says.
pub trait EditSpec<T>: Sized {
    fn edit_spec(&mut self, with: impl FnOnce(&mut T));
    fn with(mut self, with: impl FnOnce(&mut T)) -> Self {
        self.edit_spec(with);
        self
    }
}

impl<T> EditSpec<T> for Object<T> {
    fn edit_spec(&mut self, with: impl FnOnce(&mut T)) {
        match &mut self.body {
            Body::Valid(body) => with(body),
            Body::Invalid { .. } => panic!("an object that does not read"),
        }
    }
}

pub fn object<T>(namespace: &str, name: &str, body: T) -> Object<T> {
    Object {
        meta: Meta {
            key: Key::new(namespace, name),
            uid: format!("uid-{namespace}/{name}").into(),
            generation: 1,
            created: 0,
        },
        body: Body::Valid(body),
        unsupported: Vec::new(),
    }
}

pub fn class(name: &str, controller: &str) -> Object<GatewayClass> {
    let body = GatewayClass {
        controller: controller.into(),
        parameters: None,
    };
    object("", name, body)
}

pub fn namespace(name: &str, labels: &[(&str, &str)]) -> Object<Namespace> {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    let body = Namespace {
        labels: labels.collect(),
    };
    object("", name, body)
}

pub fn grant(name: &str, namespaces: &[&str]) -> Object<TenantGrantSpec> {
    let mut spec = TenantGrantSpec::default();
    spec.namespaces.names = namespaces.iter().map(ToString::to_string).collect();
    spec.exposures = vec![ExposureType::ClusterIP];
    object("", name, spec)
}

pub fn instance(namespace: &str, name: &str) -> Object<GatewayInstanceSpec> {
    object(namespace, name, GatewayInstanceSpec::default())
}

pub fn http(name: &str, port: u16) -> Listener {
    Listener {
        name: name.into(),
        hostname: None,
        port,
        protocol: Protocol::Http,
        tls: None,
        allowed_routes: AllowedRoutes::default(),
    }
}

pub fn https(name: &str, port: u16, secret: &str) -> Listener {
    Listener {
        protocol: Protocol::Https,
        tls: Some(ListenerTls {
            mode: TlsMode::Terminate,
            certificates: vec![reference("", "Secret", None, secret)],
        }),
        ..http(name, port)
    }
}

pub fn gateway(namespace: &str, name: &str, listeners: Vec<Listener>) -> Object<Gateway> {
    let body = Gateway {
        class: "postern".into(),
        listeners,
        parameters: None,
    };
    object(namespace, name, body)
}

pub fn reference(group: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.map(Name::from),
        name: name.into(),
    }
}

pub fn to_instance(namespace: Option<&str>, name: &str) -> ObjectRef {
    reference(postern_api::GROUP, "GatewayInstance", namespace, name)
}

pub fn backend(kind: &str, namespace: Option<&str>, name: &str) -> BackendRef {
    BackendRef {
        group: "".into(),
        kind: kind.into(),
        namespace: namespace.map(Name::from),
        name: name.into(),
        port: Some(80),
        weight: 1,
    }
}

/// A route with one rule: parents and backends as (namespace, name).
pub fn route(
    namespace: &str,
    name: &str,
    parents: &[(Option<&str>, &str)],
    backends: &[BackendRef],
) -> Object<HttpRoute> {
    let parents = parents.iter().map(|(namespace, name)| ParentRef {
        group: GATEWAY_GROUP.into(),
        kind: "Gateway".into(),
        namespace: namespace.map(Name::from),
        name: (*name).into(),
        section: None,
        port: None,
    });
    let body = HttpRoute {
        parents: parents.collect(),
        hostnames: Vec::new(),
        rules: vec![HttpRule {
            matches: Vec::new(),
            filters: Vec::new(),
            backends: backends.to_vec(),
        }],
    };
    object(namespace, name, body)
}

/// Two teams: `team-a` with a Gateway `web` for HTTP and HTTPS and a route, `team-b` likewise.
pub fn world() -> Snapshot {
    let mut snapshot = Snapshot::default();
    put(&mut snapshot, class("postern", CONTROLLER_NAME));
    put(&mut snapshot, class("other", "other.example/controller"));
    put(&mut snapshot, namespace("team-a", &[("team", "a")]));
    put(&mut snapshot, namespace("team-b", &[("team", "b")]));
    let hosts = |spec: &mut TenantGrantSpec| spec.hostnames = vec!["*.team-a.example".into()];
    put(&mut snapshot, grant("a", &["team-a"]).with(hosts));
    put(&mut snapshot, grant("b-only", &["team-b"]));
    for team in ["team-a", "team-b"] {
        put(&mut snapshot, instance(team, "default"));
        let listeners = vec![http("http", 80), https("https", 443, "cert")];
        put(&mut snapshot, gateway(team, "web", listeners));
        let mut site = route(
            team,
            "site",
            &[(None, "web")],
            &[backend("Service", None, "site")],
        );
        site.edit_spec(|route| route.hostnames = vec![format!("www.{team}.example").into()]);
        put(&mut snapshot, site);
    }
    snapshot
}
