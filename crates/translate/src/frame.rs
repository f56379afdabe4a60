//! Gateways and their listeners: the frame that routes are hung in.
//!
//! A frame says for each listener which hosts it serves, from which namespaces routes may attach,
//! into which table they go, and what keeps it from serving. Routes look at nothing else of a
//! Gateway, so a frame that comes out equal keeps every route as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_api::entitlement::{
    EntitledGateway, EntitlementStatus, Exposed, ExposedVerdict, ObjectRef as Referent,
    PortAllocation, PortTrust,
};
use postern_model::{
    Host, Listener, ListenerKind, Origin, Secret, SecretId, TableId, Text, TlsChain, Trust,
};
use postern_refs::attach;
use postern_refs::objects::{self, Gateway, Object, Protocol, RouteKind, TlsMode};
use postern_refs::permit::{Permission, Permissions};
use postern_refs::status::Address;
use postern_refs::{Body, FieldPath, Key, Name, Snapshot};

use crate::filters::is_hostname;
use crate::outcome::{Cause, Outcome, Problem};
use crate::secrets::{self, Certificates};

/// A Gateway, looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GatewayFrame {
    pub key: Key,
    pub generation: i64,
    pub shard: Text,
    pub addresses: Vec<Address>,
    /// Whether clients need an address that nobody has given it yet.
    pub awaits_address: bool,
    /// How its exposure fares, where there is something to say.
    pub exposed: Option<ExposedVerdict>,
    pub problems: Vec<Problem>,
    pub listeners: Vec<ListenerFrame>,
    /// What Envoy should listen on.
    pub served: Vec<Arc<Listener>>,
    /// The certificates that `served` names.
    pub secrets: BTreeMap<SecretId, Arc<Secret>>,
}

/// A listener, looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenerFrame {
    pub name: Name,
    pub spec: objects::Listener,
    pub host: Host,
    pub tls: bool,
    pub supported_kinds: Vec<RouteKind>,
    pub route_namespaces: Vec<Name>,
    /// The hosts of all listeners that share port and protocol with this one, itself included;
    /// requests belong to the most specific (see [`attach::owner`]).
    pub siblings: Arc<[Host]>,
    /// Its own place among `siblings`.
    pub place: usize,
    /// Where its routes go; `None` if it is not served.
    pub table: Option<TableId>,
    /// Its certificates, for HTTPS.
    pub certificates: Vec<SecretId>,
    pub problems: Vec<Problem>,
}

/// All Gateways of the instance, by key.
pub(crate) type Frames = BTreeMap<Key, Arc<GatewayFrame>>;

/// Looks at all entitled Gateways; a frame that comes out as before stays the same `Arc`.
pub(crate) fn frames(
    snapshot: &Snapshot,
    entitlement: &EntitlementStatus,
    permissions: &Permissions,
    certificates: &mut Certificates,
    before: &Frames,
) -> Frames {
    certificates.retain(|key| snapshot.secrets.contains_key(key));
    let mut made = Frames::new();
    let allowed = allowed(snapshot, entitlement);
    for entitled in &entitlement.gateways {
        let key = Key::new(entitled.namespace.as_str(), entitled.name.as_str());
        let Some(object) = snapshot.gateways.get(&key) else {
            continue;
        };
        // Another Gateway of this name is not the one that was entitled.
        if *object.meta.uid != *entitled.uid {
            continue;
        }
        let old = before.get(&key);
        let mut builder = Builder {
            snapshot,
            entitlement,
            permissions,
            certificates,
            old: old.map(|old| &**old),
            allowed: allowed.get(&key).copied(),
        };
        let fresh = builder.gateway(object, entitled);
        let frame = match old {
            Some(old) if **old == fresh => old.clone(),
            _ => Arc::new(fresh),
        };
        made.insert(key, frame);
    }
    made
}

/// How many listeners of each Gateway are within the quota: the older a Gateway, the sooner it has its
/// own, so that what serves goes on. Empty where there is no quota.
fn allowed(snapshot: &Snapshot, entitlement: &EntitlementStatus) -> BTreeMap<Key, usize> {
    let Some(most) = entitlement.quotas.listeners else {
        return BTreeMap::new();
    };
    let mut gateways: Vec<(i64, Key, usize)> = entitlement
        .gateways
        .iter()
        .filter_map(|entitled| {
            let key = Key::new(entitled.namespace.as_str(), entitled.name.as_str());
            let object = snapshot.gateways.get(&key)?;
            let listeners = object.valid()?.listeners.len();
            Some((object.meta.created, key, listeners))
        })
        .collect();
    gateways.sort_unstable();
    let mut left = most as usize;
    gateways
        .into_iter()
        .map(|(_, key, listeners)| {
            let own = listeners.min(left);
            left -= own;
            (key, own)
        })
        .collect()
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    entitlement: &'a EntitlementStatus,
    permissions: &'a Permissions,
    certificates: &'a mut Certificates,
    old: Option<&'a GatewayFrame>,
    /// How many of the Gateway's listeners are within the quota, if there is one.
    allowed: Option<usize>,
}

impl Builder<'_> {
    fn gateway(&mut self, object: &Object<Gateway>, entitled: &EntitledGateway) -> GatewayFrame {
        let mut frame = GatewayFrame {
            key: object.meta.key.clone(),
            generation: object.meta.generation,
            shard: entitled.shard.as_str().into(),
            awaits_address: entitled.awaits_address,
            exposed: entitled.exposed.clone(),
            addresses: entitled
                .addresses
                .iter()
                .map(|address| Address {
                    kind: address.kind.as_str().into(),
                    value: address.value.as_str().into(),
                })
                .collect(),
            problems: Vec::new(),
            listeners: Vec::new(),
            served: Vec::new(),
            secrets: BTreeMap::new(),
        };
        let gateway = match &object.body {
            Body::Valid(gateway) => gateway,
            Body::Invalid { field, reason } => {
                frame.problems.push(Problem::new(
                    Cause::Undecodable,
                    field.clone(),
                    reason.clone(),
                ));
                return frame;
            }
        };
        for path in &object.unsupported {
            if path.index_after(&["spec", "listeners"]).is_none() {
                frame.problems.push(not_built(path));
            }
        }
        for position in 0..gateway.listeners.len() {
            let listener = self.listener(object, gateway, entitled, position, &mut frame.secrets);
            frame.listeners.push(listener);
        }
        let allowed = self.allowed.unwrap_or(usize::MAX);
        let most = self.entitlement.quotas.listeners.unwrap_or(u32::MAX);
        for (position, listener) in frame.listeners.iter_mut().enumerate().skip(allowed) {
            listener.table = None;
            listener.problems.push(Problem::new(
                Cause::OverQuota,
                FieldPath::parse(&format!("spec.listeners[{position}]")),
                format!(
                    "the TenantGrant allows {most} listeners in all Gateways; remove some or ask your \
                     platform's admins"
                ),
            ));
        }
        if frame.problems.is_empty() {
            frame.served = served(&frame.listeners, entitled, &frame.key);
            let reencrypts = |port: &PortAllocation| port.exposure == Exposed::RouterReencrypt;
            if entitled.ports.iter().any(reencrypts) {
                let mounted = secrets::mounted(&self.entitlement.instance);
                frame.secrets.insert(mounted.id.clone(), Arc::new(mounted));
            }
        }
        frame
    }

    fn listener(
        &mut self,
        object: &Object<Gateway>,
        gateway: &Gateway,
        entitled: &EntitledGateway,
        position: usize,
        secrets: &mut BTreeMap<SecretId, Arc<Secret>>,
    ) -> ListenerFrame {
        let spec = &gateway.listeners[position];
        let key = &object.meta.key;
        let field = FieldPath::parse(&format!("spec.listeners[{position}]"));
        let mut problems: Vec<Problem> = object
            .unsupported
            .iter()
            .filter(|path| path.index_after(&["spec", "listeners"]) == Some(position))
            .map(not_built)
            .collect();
        let tls = spec.protocol == Protocol::Https;
        protocol(spec, &field).record(&mut problems);
        hostname(spec, &field).record(&mut problems);
        conflicts(&gateway.listeners, position, &field).record(&mut problems);
        let supported_kinds = kinds(spec, &field).record(&mut problems);
        if !entitled.ports.iter().any(|port| port.port == spec.port) {
            problems.push(Problem::new(
                Cause::NoPort,
                field.field("port"),
                "the operator has not given this port a place yet; it follows by itself",
            ));
        }
        let before = self
            .old
            .and_then(|old| old.listeners.iter().find(|old| old.name == spec.name));
        let certificates = if tls {
            self.tls(key, spec, &field.field("tls"), before, secrets)
                .record(&mut problems)
        } else {
            Vec::new()
        };
        let same =
            |other: &&objects::Listener| other.port == spec.port && other.protocol == spec.protocol;
        let siblings: Vec<Host> = gateway.listeners.iter().filter(same).map(host_of).collect();
        let place = gateway.listeners[..position].iter().filter(same).count();
        // A certificate that is broken or not decided does not stop a listener that has another.
        let stopped = problems.iter().any(|problem| {
            !matches!(
                problem.cause,
                Cause::InvalidCertificateRef
                    | Cause::InvalidKind
                    | Cause::RefNotPermitted
                    | Cause::Pending
                    | Cause::InvalidRouteKinds
            )
        });
        let usable = !stopped && !supported_kinds.is_empty() && (!tls || !certificates.is_empty());
        ListenerFrame {
            name: spec.name.clone(),
            host: host_of(spec),
            tls,
            supported_kinds,
            route_namespaces: entitled
                .listeners
                .iter()
                .find(|consent| *consent.name == *spec.name)
                .map(|consent| {
                    consent
                        .route_namespaces
                        .iter()
                        .map(|name| name.as_str().into())
                        .collect()
                })
                .unwrap_or_default(),
            siblings: siblings.into(),
            place,
            table: usable.then(|| table_id(key, spec, tls)),
            certificates,
            problems,
            spec: spec.clone(),
        }
    }

    /// The usable certificates of a listener.
    fn tls(
        &mut self,
        gateway: &Key,
        spec: &objects::Listener,
        field: &FieldPath,
        before: Option<&ListenerFrame>,
        secrets: &mut BTreeMap<SecretId, Arc<Secret>>,
    ) -> Outcome<Vec<SecretId>> {
        let Some(tls) = &spec.tls else {
            return Outcome::flawed(
                Vec::new(),
                Problem::new(
                    Cause::InvalidValue,
                    field.clone(),
                    "an HTTPS listener needs tls.certificateRefs; name a Secret of type kubernetes.io/tls",
                ),
            );
        };
        if tls.mode != TlsMode::Terminate {
            return Outcome::flawed(
                Vec::new(),
                Problem::new(
                    Cause::UnsupportedValue,
                    field.field("mode"),
                    "only Terminate goes with HTTPS",
                ),
            );
        }
        if tls.certificates.is_empty() {
            return Outcome::flawed(
                Vec::new(),
                Problem::new(
                    Cause::InvalidValue,
                    field.field("certificateRefs"),
                    "name at least one Secret of type kubernetes.io/tls",
                ),
            );
        }
        let mut problem = None;
        let mut ids: Vec<SecretId> = Vec::new();
        for (position, reference) in tls.certificates.iter().enumerate() {
            let field = field.field("certificateRefs").index(position);
            match self.certificate(gateway, reference, &field) {
                Ok(secret) => {
                    if !ids.contains(&secret.id) {
                        ids.push(secret.id.clone());
                    }
                    secrets.insert(secret.id.clone(), secret);
                }
                Err(found) => problem = problem.or(Some(found)),
            }
        }
        // While the operator has not decided, what serves goes on.
        if ids.is_empty()
            && problem
                .as_ref()
                .is_some_and(|problem| problem.cause == Cause::Pending)
            && let (Some(before), Some(old)) = (before, self.old)
        {
            ids.clone_from(&before.certificates);
            let kept = |id: &SecretId| {
                old.secrets
                    .get(id)
                    .map(|secret| (id.clone(), secret.clone()))
            };
            secrets.extend(ids.iter().filter_map(kept));
        }
        match problem {
            Some(problem) => Outcome::flawed(ids, problem),
            None => Outcome::clean(ids),
        }
    }

    fn certificate(
        &mut self,
        gateway: &Key,
        reference: &objects::ObjectRef,
        field: &FieldPath,
    ) -> Result<Arc<Secret>, Problem> {
        if !reference.group.is_empty() || &*reference.kind != "Secret" {
            return Err(Problem::new(
                Cause::InvalidKind,
                field.field("kind"),
                "only Secrets hold certificates here",
            ));
        }
        let namespace = reference.namespace.as_ref().unwrap_or(&gateway.namespace);
        let key = gateway.sibling(namespace.clone(), reference.name.clone());
        let target = referent("", "Secret", &key);
        let from = referent(postern_api::GATEWAY_GROUP, "Gateway", gateway);
        match self.permissions.check(&from, &target) {
            Permission::Permitted => {}
            Permission::Refused => {
                return Err(Problem::new(
                    Cause::RefNotPermitted,
                    field.clone(),
                    format!(
                        "references to Secrets of another namespace are not permitted; use a Secret of namespace {}",
                        gateway.namespace
                    ),
                ));
            }
            Permission::Pending => {
                return Err(Problem::new(
                    Cause::Pending,
                    field.clone(),
                    "the operator has not decided yet",
                ));
            }
        }
        match self.snapshot.secrets.get(&key) {
            Some(object) => self.certificates.check(object).map_err(|reason| {
                Problem::new(
                    Cause::InvalidCertificateRef,
                    field.clone(),
                    format!("Secret {}: {reason}", reference.name),
                )
            }),
            None if self.entitlement.objects.contains(&target) => Err(Problem::new(
                Cause::InvalidCertificateRef,
                field.clone(),
                format!("there is no Secret {key}; create it, of type kubernetes.io/tls"),
            )),
            None => Err(Problem::new(
                Cause::Pending,
                field.clone(),
                "the operator has not opened this Secret to the control plane yet",
            )),
        }
    }
}

pub(crate) fn referent(group: &str, kind: &str, key: &Key) -> Referent {
    Referent {
        group: group.into(),
        kind: kind.into(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

pub(crate) fn not_built(path: &FieldPath) -> Problem {
    Problem::new(
        Cause::UnsupportedValue,
        path.clone(),
        "this field is not built yet; remove it",
    )
}

fn host_of(spec: &objects::Listener) -> Host {
    Host::parse(spec.hostname.as_deref().unwrap_or("*"))
}

fn table_id(gateway: &Key, spec: &objects::Listener, tls: bool) -> TableId {
    table_name(gateway, spec.port, tls.then_some(&*spec.name))
}

/// The name of the route table of a Gateway's port; with HTTPS each listener has one of its own.
#[must_use]
pub fn table_name(gateway: &Key, port: u16, listener: Option<&str>) -> TableId {
    let base = format!("{}/{}/{port}", gateway.namespace, gateway.name);
    TableId(match listener {
        Some(listener) => format!("{base}/{listener}").into(),
        None => base.into(),
    })
}

fn protocol(spec: &objects::Listener, field: &FieldPath) -> Outcome<()> {
    let name = match &spec.protocol {
        Protocol::Http | Protocol::Https => return Outcome::clean(()),
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Other(name) => name,
    };
    Outcome::flawed(
        (),
        Problem::new(
            Cause::UnsupportedListener,
            field.field("protocol"),
            format!("{name:.64} is not built yet; use HTTP or HTTPS"),
        ),
    )
}

fn hostname(spec: &objects::Listener, field: &FieldPath) -> Outcome<()> {
    match &spec.hostname {
        Some(name) if !name.is_empty() && !is_hostname(name) => Outcome::flawed(
            (),
            Problem::new(
                Cause::InvalidValue,
                field.field("hostname"),
                "it is no DNS name, nor '*.' and a DNS name",
            ),
        ),
        _ => Outcome::clean(()),
    }
}

/// Listeners of one port exclude each other where a connection could not tell them apart.
fn conflicts(listeners: &[objects::Listener], position: usize, field: &FieldPath) -> Outcome<()> {
    let spec = &listeners[position];
    for (other, listener) in listeners
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != position)
    {
        if listener.port != spec.port {
            continue;
        }
        if listener.protocol != spec.protocol {
            return Outcome::flawed(
                (),
                Problem::new(
                    Cause::ProtocolConflict,
                    field.field("protocol"),
                    format!(
                        "spec.listeners[{other}] has the same port and another protocol; change one of the ports"
                    ),
                ),
            );
        }
        if host_of(listener) == host_of(spec) {
            return Outcome::flawed(
                (),
                Problem::new(
                    Cause::HostnameConflict,
                    field.field("hostname"),
                    format!(
                        "spec.listeners[{other}] has the same port and hostname; remove one of them"
                    ),
                ),
            );
        }
    }
    Outcome::clean(())
}

fn kinds(spec: &objects::Listener, field: &FieldPath) -> Outcome<Vec<RouteKind>> {
    let supported = attach::supported_kinds(spec);
    let known = |kind: &RouteKind| supported.contains(kind);
    match spec
        .allowed_routes
        .kinds
        .iter()
        .position(|kind| !known(kind))
    {
        Some(position) => Outcome::flawed(
            supported,
            Problem::new(
                Cause::InvalidRouteKinds,
                field.field("allowedRoutes").field("kinds").index(position),
                "this listener cannot take routes of this kind; remove it from the list",
            ),
        ),
        None => Outcome::clean(supported),
    }
}

/// What Envoy listens on for these listeners: one for each container port.
fn served(
    listeners: &[ListenerFrame],
    entitled: &EntitledGateway,
    gateway: &Key,
) -> Vec<Arc<Listener>> {
    let mut made = Vec::new();
    for allocation in &entitled.ports {
        let fits = |listener: &&ListenerFrame| {
            let reached = match allocation.exposure {
                Exposed::Direct => true,
                Exposed::Router | Exposed::RouterReencrypt => !listener.tls,
                Exposed::RouterPassthrough => listener.tls,
            };
            reached && listener.spec.port == allocation.port && listener.table.is_some()
        };
        let here: Vec<&ListenerFrame> = listeners.iter().filter(fits).collect();
        let Some(first) = here.first() else { continue };
        let Some(table) = &first.table else { continue };
        let origin = |field: &str| Origin {
            kind: "Gateway".into(),
            namespace: gateway.namespace.clone(),
            name: gateway.name.clone(),
            field: field.into(),
        };
        let kind = if allocation.exposure == Exposed::RouterReencrypt {
            // Whatever server name the router says or does not say: it is the only one that comes.
            let chain = TlsChain {
                server_name: Host::Any,
                certificates: vec![secrets::mounted_id()],
                table: table.clone(),
                origin: origin(""),
            };
            ListenerKind::Https {
                chains: vec![chain],
            }
        } else if first.tls {
            let mut chains: Vec<TlsChain> = here
                .iter()
                .filter_map(|listener| {
                    Some(TlsChain {
                        server_name: listener.host.clone(),
                        certificates: listener.certificates.clone(),
                        table: listener.table.clone()?,
                        origin: origin(&format!("spec.listeners[name={}]", listener.name)),
                    })
                })
                .collect();
            chains.sort_by(|left, right| left.server_name.cmp(&right.server_name));
            ListenerKind::Https { chains }
        } else {
            ListenerKind::Http {
                table: table.clone(),
            }
        };
        made.push(Arc::new(Listener {
            name: served_name(gateway, allocation.port, allocation.container_port),
            port: allocation.container_port,
            public_port: allocation.port,
            trust: match allocation.trust {
                PortTrust::Nothing => Trust::Nothing,
                PortTrust::ForwardedHeaders => Trust::ForwardedHeaders { hops: 1 },
                PortTrust::ProxyProtocol => Trust::ProxyProtocol,
                PortTrust::Unknown => Trust::Unknown,
            },
            kind,
            origin: origin(""),
        }));
    }
    made
}

/// The name of the Envoy listener for a Gateway's port at a container port.
#[must_use]
pub fn served_name(gateway: &Key, port: u16, container_port: u16) -> Text {
    format!(
        "{}/{}/{port}/{container_port}",
        gateway.namespace, gateway.name
    )
    .into()
}

/// Every host pattern that must have a virtual host of its own in a table, even an empty one: a
/// request for a listener's host never falls through to a less specific listener.
pub(crate) fn base_hosts(frame: &GatewayFrame) -> BTreeMap<TableId, Vec<Host>> {
    let mut hosts: BTreeMap<TableId, Vec<Host>> = BTreeMap::new();
    for listener in &frame.listeners {
        if let Some(table) = &listener.table {
            let bases = hosts.entry(table.clone()).or_default();
            if !bases.contains(&listener.host) {
                bases.push(listener.host.clone());
            }
        }
    }
    hosts
}
