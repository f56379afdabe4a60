//! Backends of a rule: references to Services, and the share that each gets.
//!
//! Source: Gateway API, `HTTPBackendRef`: a backend that cannot be used keeps its share, and that
//! share gets 500.

use postern_model::{Backend, ClusterId, Fixed, Target, Upstream};
use postern_refs::objects::{BackendRef, Service, ServiceKind, ServicePort};
use postern_refs::permit::{Permission, Permissions};
use postern_refs::{FieldPath, Key, Snapshot};

use crate::frame::referent;
use crate::outcome::{Cause, Outcome, Problem};

/// A Service's port that a rule refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BackendPort {
    pub service: Key,
    pub port: u16,
}

impl BackendPort {
    /// The name of the cluster for it.
    pub(crate) fn cluster(&self) -> ClusterId {
        ClusterId(
            format!(
                "{}/{}/{}",
                self.service.namespace, self.service.name, self.port
            )
            .into(),
        )
    }
}

/// What a rule forwards to.
pub(crate) enum Shares {
    /// At least one cluster is among them.
    Forward(Vec<Backend>),
    /// Nothing can be forwarded.
    Fixed(Fixed),
}

/// The context in which a route's references are resolved.
pub(crate) struct Resolver<'a> {
    pub snapshot: &'a Snapshot,
    pub permissions: &'a Permissions,
    pub route: &'a Key,
}

impl Resolver<'_> {
    /// All backends of a rule. `used` collects the ports that are forwarded to, `looked_at` the
    /// Services whose change would change the answer.
    pub(crate) fn shares(
        &self,
        backends: &[BackendRef],
        field: &FieldPath,
        broken: impl Fn(usize) -> bool,
        used: &mut Vec<BackendPort>,
        looked_at: &mut Vec<Key>,
    ) -> Outcome<Shares> {
        let mut problems = Vec::new();
        let mut shares = Vec::with_capacity(backends.len());
        for (position, backend) in backends.iter().enumerate() {
            let target = if broken(position) {
                Target::Broken("a field of it is not built".into())
            } else {
                match self.resolve(backend, &field.index(position), looked_at) {
                    Ok(port) => {
                        let cluster = port.cluster();
                        if backend.weight > 0 {
                            used.push(port);
                        }
                        Target::Cluster(cluster)
                    }
                    Err(problem) => {
                        let because = problem.message.clone();
                        problems.push(problem);
                        Target::Broken(because)
                    }
                }
            };
            if backend.weight > 0 {
                shares.push(Backend {
                    weight: backend.weight,
                    target,
                });
            }
        }
        let outcome = if shares
            .iter()
            .any(|share| matches!(share.target, Target::Cluster(_)))
        {
            Shares::Forward(shares)
        } else {
            let because = match shares.first().map(|share| &share.target) {
                Some(Target::Broken(because)) => because.clone(),
                _ => "the rule has no backend with a weight".into(),
            };
            Shares::Fixed(Fixed {
                status: 500,
                because,
            })
        };
        let mut result = Outcome::clean(outcome);
        for problem in problems {
            result = result.and(problem);
        }
        result
    }

    fn resolve(
        &self,
        backend: &BackendRef,
        field: &FieldPath,
        looked_at: &mut Vec<Key>,
    ) -> Result<BackendPort, Problem> {
        if !backend.group.is_empty() || &*backend.kind != "Service" {
            return Err(Problem::new(
                Cause::InvalidKind,
                field.field("kind"),
                "only Services can be backends; name a Service",
            ));
        }
        let namespace = backend.namespace.as_ref().unwrap_or(&self.route.namespace);
        let key = self.route.sibling(namespace.clone(), backend.name.clone());
        let from = referent(postern_api::GATEWAY_GROUP, "HTTPRoute", self.route);
        match self
            .permissions
            .check(&from, &referent("", "Service", &key))
        {
            Permission::Permitted => {}
            Permission::Refused => {
                return Err(Problem::new(
                    Cause::RefNotPermitted,
                    field.field("namespace"),
                    format!(
                        "references to Services of another namespace are not permitted; use a Service of namespace {}",
                        self.route.namespace
                    ),
                ));
            }
            Permission::Pending => {
                return Err(Problem::new(
                    Cause::Pending,
                    field.field("namespace"),
                    "the operator has not decided yet",
                ));
            }
        }
        looked_at.push(key.clone());
        let Some(port) = backend.port else {
            return Err(Problem::new(
                Cause::InvalidValue,
                field.field("port"),
                "a Service needs a port; add it",
            ));
        };
        let service = self
            .snapshot
            .services
            .get(&key)
            .and_then(|object| object.valid());
        let Some(service) = service else {
            return Err(Problem::new(
                Cause::BackendNotFound,
                field.field("name"),
                format!("there is no Service {key}; create it or correct the name"),
            ));
        };
        if service.kind == ServiceKind::ExternalName {
            return Err(Problem::new(
                Cause::InvalidKind,
                field.field("name"),
                format!(
                    "Service {key} is of type ExternalName, which is refused: it could lead anywhere; use a Service with endpoints"
                ),
            ));
        }
        let Some(found) = service
            .ports
            .iter()
            .find(|candidate| candidate.port == port)
        else {
            return Err(Problem::new(
                Cause::BackendNotFound,
                field.field("port"),
                format!(
                    "Service {key} has no port {port}; it has {}",
                    ports_of(service)
                ),
            ));
        };
        upstream(found).map_err(|reason| {
            Problem::new(
                Cause::UnsupportedProtocol,
                field.field("port"),
                format!("Service {key} port {port}: {reason}"),
            )
        })?;
        Ok(BackendPort { service: key, port })
    }
}

fn ports_of(service: &Service) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .take(8)
        .map(|port| port.port.to_string())
        .collect();
    if ports.is_empty() {
        "none".into()
    } else {
        ports.join(", ")
    }
}

/// What a Service's port speaks (GEP-1911).
pub(crate) fn upstream(port: &ServicePort) -> Result<Upstream, String> {
    if &*port.protocol != "TCP" {
        return Err(format!(
            "{:.16} is not built for HTTP routes; use TCP",
            port.protocol
        ));
    }
    match port.app_protocol.as_deref() {
        None | Some("" | "http" | "kubernetes.io/ws") => Ok(Upstream::Http1),
        Some("kubernetes.io/h2c") => Ok(Upstream::H2c),
        Some(other) => Err(format!(
            "appProtocol {} is not built; use http, kubernetes.io/ws or kubernetes.io/h2c",
            crate::matches::shown(other)
        )),
    }
}
