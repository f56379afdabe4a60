//! The Gateway that the operator keeps for an instance with listeners of its own.

use std::collections::BTreeMap;

use postern_api::GatewayInstanceSpec;
use postern_api::instance::{ListenerProtocol, RouteNamespacesFrom};

use crate::objects::{
    AllowedRoutes, Body, Gateway, Listener, ListenerTls, Meta, NamespacesFrom, Object, ObjectRef,
    Protocol, Selector, TlsMode,
};
use crate::{Name, Snapshot};

/// The Gateway of `spec.listeners`, named as the instance; `None` if the instance has none.
///
/// On a cluster the operator applies it; where there is no cluster, [`with_gateways`] puts it into
/// the Snapshot.
#[must_use]
pub fn gateway(instance: &Object<GatewayInstanceSpec>) -> Option<Object<Gateway>> {
    let spec = instance.valid()?;
    if spec.listeners.is_empty() {
        return None;
    }
    let listeners = spec.listeners.iter().map(listener).collect();
    let key = &instance.meta.key;
    Some(Object {
        meta: Meta {
            key: key.clone(),
            uid: format!("{}-gateway", instance.meta.uid).into(),
            ..instance.meta.clone()
        },
        body: Body::Valid(Gateway {
            class: postern_api::GATEWAY_CLASS.into(),
            listeners,
            parameters: Some(ObjectRef {
                group: postern_api::GROUP.into(),
                kind: "GatewayInstance".into(),
                namespace: None,
                name: key.name.clone(),
            }),
        }),
        unsupported: Vec::new(),
    })
}

fn listener(spec: &postern_api::instance::Listener) -> Listener {
    let allowed = spec.allowed_routes.clone().unwrap_or_default().namespaces;
    Listener {
        name: spec.name.as_str().into(),
        hostname: spec.hostname.as_deref().map(Name::from),
        port: u16::try_from(spec.port).unwrap_or(0),
        protocol: match spec.protocol {
            ListenerProtocol::Http => Protocol::Http,
            ListenerProtocol::Https => Protocol::Https,
            ListenerProtocol::Tls => Protocol::Tls,
            ListenerProtocol::Tcp => Protocol::Tcp,
            ListenerProtocol::Udp => Protocol::Udp,
        },
        tls: spec.tls.as_ref().map(|tls| ListenerTls {
            mode: TlsMode::Terminate,
            certificates: tls
                .certificate_refs
                .iter()
                .map(|reference| ObjectRef {
                    group: "".into(),
                    kind: "Secret".into(),
                    namespace: reference.namespace.as_deref().map(Name::from),
                    name: reference.name.as_str().into(),
                })
                .collect(),
        }),
        allowed_routes: AllowedRoutes {
            namespaces: match allowed.from {
                RouteNamespacesFrom::Same => NamespacesFrom::Same,
                RouteNamespacesFrom::All => NamespacesFrom::All,
                RouteNamespacesFrom::Selector => {
                    NamespacesFrom::Selector(selector(&allowed.selector.unwrap_or_default()))
                }
            },
            kinds: Vec::new(),
        },
    }
}

fn selector(wanted: &postern_api::instance::LabelSelector) -> Selector {
    let labels: BTreeMap<Name, Name> = wanted
        .match_labels
        .iter()
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect();
    Selector {
        labels,
        requirements: Vec::new(),
    }
}

/// A Snapshot with the Gateways that an operator would keep for its instances. A Gateway that is
/// already there under the name is left alone.
#[must_use]
pub fn with_gateways(mut snapshot: Snapshot) -> Snapshot {
    let made: Vec<Object<Gateway>> = snapshot
        .instances
        .values()
        .filter_map(|instance| gateway(instance))
        .filter(|gateway| !snapshot.gateways.contains_key(&gateway.meta.key))
        .collect();
    if !made.is_empty() {
        let gateways = std::sync::Arc::make_mut(&mut snapshot.gateways);
        for gateway in made {
            gateways.insert(gateway.meta.key.clone(), std::sync::Arc::new(gateway));
        }
    }
    snapshot
}
