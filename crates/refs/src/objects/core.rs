//! Kinds of Kubernetes itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Redacted;
use crate::Name;

/// `v1 Namespace`. Read by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels.
    pub labels: BTreeMap<Name, Name>,
}

/// `Service.spec.type`, as far as backends tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// It has endpoints (ClusterIP, headless, NodePort, LoadBalancer).
    Endpoints,
    /// It is a name for a name: refused as a backend (a confused deputy waits there).
    ExternalName,
}

/// `ServicePort.targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port.
    Name(Name),
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: Name,
    /// The port that clients use.
    pub port: u16,
    /// Where it leads.
    pub target: TargetPort,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Name,
    /// The application protocol, for example `kubernetes.io/h2c`.
    pub app_protocol: Option<Name>,
}

/// `v1 Service`. Its status is never input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its type.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// One port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPort {
    /// Its name, which is the Service port's.
    pub name: Name,
    /// The number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Name,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it may get requests.
    pub ready: bool,
    /// Whether it can answer (also while it ends).
    pub serving: bool,
    /// Whether it ends.
    pub terminating: bool,
}

/// `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The Service that it belongs to (label `kubernetes.io/service-name`); empty if to none.
    pub service: Name,
    /// The ports, the same for each endpoint.
    pub ports: Vec<AddressPort>,
    /// The endpoints. Those of address type FQDN are left out at the door.
    pub endpoints: Vec<SliceEndpoint>,
}

/// `v1 Secret` of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSecret {
    /// Its `type`.
    pub kind: Name,
    /// `tls.crt`, as text; `None` if it is absent or no text.
    pub certificate: Option<Name>,
    /// `tls.key`, as text.
    pub key: Option<Redacted>,
}
