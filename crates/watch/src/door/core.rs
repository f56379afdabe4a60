//! Service, EndpointSlice, Secret, Namespace.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::ByteString;
use postern_refs::objects::{
    AddressPort, EndpointSlice, Namespace, Redacted, Service, ServiceKind, ServicePort,
    SliceEndpoint, TargetPort, TlsSecret,
};
use postern_refs::{Kind, Map, Name, Snapshot};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::types::{List, Port};
use super::{Inside, Lower, Problem};
use crate::text::{Text, intern};

/// The label by which an EndpointSlice says its Service (`discovery.k8s.io`).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub struct ServiceDoor {
    #[serde(rename = "type")]
    kind: Option<Text>,
    #[serde(default)]
    ports: List<ServicePortDoor, 1024>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a port")]
struct ServicePortDoor {
    name: Option<Text>,
    port: Port,
    target_port: Option<Target>,
    protocol: Option<Text>,
    app_protocol: Option<Text>,
}

/// `IntOrString`; 0 and the empty string are what leaving it out is.
#[derive(Debug)]
enum Target {
    Same,
    Number(u16),
    Name(Name),
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Target;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535 or the name of one")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Target, E> {
                match u16::try_from(number) {
                    Ok(0) => Ok(Target::Same),
                    Ok(number) => Ok(Target::Number(number)),
                    Err(_) => Err(E::invalid_value(
                        serde::de::Unexpected::Unsigned(number),
                        &self,
                    )),
                }
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Target, E> {
                // `"8080"` is a number too (intstr.Parse).
                Ok(match text.parse::<u16>() {
                    Ok(0) => Target::Same,
                    Ok(number) => Target::Number(number),
                    Err(_) if text.is_empty() => Target::Same,
                    Err(_) => Target::Name(intern(text)),
                })
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl Lower for Service {
    const KIND: Kind = Kind::Service;
    const NAMES_UNREAD: bool = false;
    type Door = ServiceDoor;

    fn lower(door: ServiceDoor, _: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(Service {
            kind: match door.kind.as_ref().map(|kind| &*kind.0) {
                Some("ExternalName") => ServiceKind::ExternalName,
                _ => ServiceKind::Endpoints,
            },
            ports: door.ports.map(|port| ServicePort {
                name: port.name.map_or_else(|| intern(""), Name::from),
                port: port.port.number(),
                target: match port.target_port.unwrap_or(Target::Same) {
                    Target::Same => TargetPort::Number(port.port.number()),
                    Target::Number(number) => TargetPort::Number(number),
                    Target::Name(name) => TargetPort::Name(name),
                },
                protocol: port.protocol.map_or_else(|| intern("TCP"), Name::from),
                app_protocol: port.app_protocol.map(Name::from),
            }),
        })
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.services
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.services
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct SliceDoor {
    address_type: Text,
    #[serde(default)]
    ports: List<AddressPortDoor, 20_000>,
    #[serde(default)]
    endpoints: List<EndpointDoor, 1000>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a port")]
struct AddressPortDoor {
    name: Option<Text>,
    port: Option<Port>,
    protocol: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an endpoint")]
struct EndpointDoor {
    #[serde(default)]
    addresses: List<String, 100>,
    #[serde(default)]
    conditions: Option<EndpointConditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
struct EndpointConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Lower for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    const UNDER_SPEC: bool = false;
    const NAMES_UNREAD: bool = false;
    type Door = SliceDoor;

    fn lower(door: SliceDoor, inside: &mut Inside<'_>) -> Result<Self, Problem> {
        let mut endpoints = Vec::new();
        if matches!(&*door.address_type.0, "IPv4" | "IPv6") {
            for (number, endpoint) in door.endpoints.0.into_iter().enumerate() {
                endpoints.push(lower_endpoint(endpoint, number, inside)?);
            }
        }
        Ok(EndpointSlice {
            service: inside
                .label(SERVICE_NAME)
                .cloned()
                .unwrap_or_else(|| intern("")),
            // A port without a number means every port, which no reference can mean.
            ports: door
                .ports
                .0
                .into_iter()
                .filter_map(|port| {
                    Some(AddressPort {
                        port: port.port?.number(),
                        name: port.name.map_or_else(|| intern(""), Name::from),
                        protocol: port.protocol.map_or_else(|| intern("TCP"), Name::from),
                    })
                })
                .collect(),
            endpoints,
        })
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.endpoint_slices
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.endpoint_slices
    }
}

fn lower_endpoint(
    door: EndpointDoor,
    number: usize,
    inside: &Inside<'_>,
) -> Result<SliceEndpoint, Problem> {
    let mut addresses = Vec::with_capacity(door.addresses.0.len());
    for (place, address) in door.addresses.0.iter().enumerate() {
        addresses.push(address.parse::<IpAddr>().map_err(|_| {
            inside.wrong(
                &format!("endpoints[{number}].addresses[{place}]"),
                &format!("{address}: no IP address"),
            )
        })?);
    }
    // Source: `EndpointConditions`: absent `ready` is true, `serving` is as `ready`.
    let conditions = door.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Ok(SliceEndpoint {
        addresses,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct SecretDoor {
    #[serde(rename = "type")]
    kind: Option<Text>,
    data: Option<DataDoor>,
    string_data: Option<StringDataDoor>,
}

/// Only these two are decoded; whatever else a Secret holds is passed over unread.
#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct DataDoor {
    #[serde(rename = "tls.crt")]
    certificate: Option<ByteString>,
    #[serde(rename = "tls.key")]
    key: Option<ByteString>,
}

/// What an API server moves to `data`; only a directory has it.
#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct StringDataDoor {
    #[serde(rename = "tls.crt")]
    certificate: Option<String>,
    #[serde(rename = "tls.key")]
    key: Option<String>,
}

impl Lower for TlsSecret {
    const KIND: Kind = Kind::Secret;
    const UNDER_SPEC: bool = false;
    const NAMES_UNREAD: bool = false;
    type Door = SecretDoor;

    fn lower(door: SecretDoor, _: &mut Inside<'_>) -> Result<Self, Problem> {
        let data = door.data.unwrap_or_default();
        let plain = door.string_data.unwrap_or_default();
        let text = |bytes: Option<ByteString>, plain: Option<String>| -> Option<Name> {
            plain
                .or_else(|| String::from_utf8(bytes?.0).ok())
                .map(Name::from)
        };
        Ok(TlsSecret {
            kind: door.kind.map_or_else(|| intern("Opaque"), Name::from),
            certificate: text(data.certificate, plain.certificate),
            key: text(data.key, plain.key).map(Redacted),
        })
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.secrets
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.secrets
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub struct NamespaceDoor {}

impl Lower for Namespace {
    const KIND: Kind = Kind::Namespace;
    const UNDER_SPEC: bool = false;
    const NAMES_UNREAD: bool = false;
    type Door = NamespaceDoor;

    fn lower(_: NamespaceDoor, inside: &mut Inside<'_>) -> Result<Self, Problem> {
        Ok(Namespace {
            labels: inside.labels().clone(),
        })
    }

    fn map(snapshot: &Snapshot) -> &Map<Self> {
        &snapshot.namespaces
    }
    fn map_mut(snapshot: &mut Snapshot) -> &mut Map<Self> {
        &mut snapshot.namespaces
    }
}
