//! GatewayClass and Gateway. Source: Gateway API v1.6.3, `apis/v1`.

use postern_refs::objects::{
    AllowedRoutes, Gateway, GatewayClass, Listener, ListenerTls, NamespacesFrom, Protocol,
    RouteKind, TlsMode,
};
use postern_refs::status::Status;
use postern_refs::{Kind, Map, Name, ObjectRef, Snapshot};
use serde::Deserialize;

use super::types::{FullRefDoor, List, LocalRefDoor, Port, SecretRefDoor, SelectorDoor, Skip};
use super::{Inside, Lower, Problem};
use crate::text::{Text, intern};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ClassDoor {
    controller_name: Text,
    parameters_ref: Option<FullRefDoor>,
    #[serde(rename = "description")]
    _description: Option<Skip>,
}

impl Lower for GatewayClass {
    const KIND: Kind = Kind::GatewayClass;
    type Door = ClassDoor;

    fn lower(door: ClassDoor, _: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(GatewayClass {
            controller: door.controller_name.into(),
            parameters: door.parameters_ref.map(ObjectRef::from),
        })
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.gateway_classes
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.gateway_classes
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct GatewayDoor {
    gateway_class_name: Text,
    #[serde(default)]
    listeners: List<ListenerDoor, 64>,
    infrastructure: Option<InfrastructureDoor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct InfrastructureDoor {
    parameters_ref: Option<LocalRefDoor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a listener")]
struct ListenerDoor {
    name: Text,
    hostname: Option<Text>,
    port: Port,
    protocol: Text,
    tls: Option<TlsDoor>,
    allowed_routes: Option<AllowedRoutesDoor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct TlsDoor {
    mode: Option<Text>,
    #[serde(default)]
    certificate_refs: List<SecretRefDoor, 64>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct AllowedRoutesDoor {
    namespaces: Option<RouteNamespacesDoor>,
    #[serde(default)]
    kinds: List<RouteKindDoor, 8>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct RouteNamespacesDoor {
    from: Option<Text>,
    selector: Option<SelectorDoor>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct RouteKindDoor {
    group: Option<Text>,
    kind: Text,
}

impl Lower for Gateway {
    const KIND: Kind = Kind::Gateway;
    type Door = GatewayDoor;

    fn lower(door: GatewayDoor, _: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(Gateway {
            class: door.gateway_class_name.into(),
            listeners: door.listeners.map(listener),
            parameters: door
                .infrastructure
                .and_then(|infrastructure| infrastructure.parameters_ref)
                .map(ObjectRef::from),
        })
    }

    const HAS_STATUS: bool = true;
    fn status(json: &str) -> Option<Status> {
        super::status::gateway(json)
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.gateways
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.gateways
    }
}

fn listener(door: ListenerDoor) -> Listener {
    Listener {
        name: door.name.into(),
        // The API has no empty hostname; from a directory it means what leaving it out means.
        hostname: door
            .hostname
            .map(Name::from)
            .filter(|name| !name.is_empty()),
        port: door.port.number(),
        protocol: match &*door.protocol.0 {
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            "TLS" => Protocol::Tls,
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => Protocol::Other(door.protocol.into()),
        },
        tls: door.tls.map(|tls| ListenerTls {
            mode: match tls.mode.as_ref().map_or("Terminate", |mode| &*mode.0) {
                "Terminate" => TlsMode::Terminate,
                "Passthrough" => TlsMode::Passthrough,
                other => TlsMode::Other(other.into()),
            },
            certificates: tls.certificate_refs.map(ObjectRef::from),
        }),
        allowed_routes: door.allowed_routes.map(allowed_routes).unwrap_or_default(),
    }
}

fn allowed_routes(door: AllowedRoutesDoor) -> AllowedRoutes {
    let namespaces = door.namespaces.map_or(NamespacesFrom::Same, |namespaces| {
        match namespaces.from.as_ref().map_or("Same", |from| &*from.0) {
            "Same" => NamespacesFrom::Same,
            "All" => NamespacesFrom::All,
            // Without a selector it selects nobody: an absent selector is not an empty one.
            "Selector" => namespaces.selector.map_or_else(
                || NamespacesFrom::Nobody(intern("Selector")),
                |selector| NamespacesFrom::Selector(selector.into()),
            ),
            other => NamespacesFrom::Nobody(intern(other)),
        }
    });
    AllowedRoutes {
        namespaces,
        kinds: door.kinds.map(|kind| RouteKind {
            group: kind
                .group
                .map_or_else(|| intern(postern_api::GATEWAY_GROUP), Name::from),
            kind: kind.kind.into(),
        }),
    }
}
