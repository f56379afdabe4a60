//! The check: what `serve` does with a directory, without Envoys, and everything that it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_api::entitlement::EntitlementStatus;
use postern_api::grant::Namespaces;
use postern_api::reasons::{ConditionType, Reason};
use postern_api::{GROUP, TenantGrantSpec};
use postern_consent::{Consent, Facts, Ownership, consent, missing, owner, with_missing};
use postern_envoy::Encoder;
use postern_refs::objects::Gateway;
use postern_refs::status::{self, Statuses};
use postern_refs::{Body, Key, Kind, Meta, Object, Snapshot, attach, instance};
use postern_translate::{Acks, Memo, Settings, finish, translate};
use postern_watch::dir::{FileProblem, Severity};

use crate::absent::Absentees;
use crate::files::{Loaded, is_implied};
use crate::report::{Condition, FileFinding, Instance, Item, Report};

/// Looks at everything. `local` takes loopback endpoints as good.
pub fn check(loaded: &Loaded, local: bool) -> Report {
    let facts = Facts {
        classes: [postern_api::GATEWAY_CLASS.into()].into(),
        // Files do not tell; whoever asks for Routes has a router.
        routes_served: true,
        ..Facts::default()
    };
    let snapshot = instance::with_gateways(with_missing(loaded.snapshot.clone(), &facts));
    let mut check = Check {
        written: &loaded.snapshot,
        snapshot: &snapshot,
        local,
        facts,
        instances: Vec::new(),
        served: BTreeSet::new(),
        statuses: Statuses::new(),
        items: BTreeMap::new(),
        absent: Absentees::default(),
    };
    for key in snapshot.instances.keys() {
        check.instance(key);
    }
    for (key, object) in snapshot.gateways.iter() {
        check.gateway(key, object);
    }
    for key in snapshot.http_routes.keys() {
        check.route(key);
    }
    check.others();
    let mut report = Report {
        files: loaded.problems.iter().map(file).collect(),
        instances: check.instances,
        objects: check.items.into_values().collect(),
        absent: check.absent.report(),
        ok: false,
    };
    report.ok = report.is_ok();
    report
}

struct Check<'a> {
    /// As the files are.
    written: &'a Snapshot,
    /// With the instances and Gateways that an operator would add.
    snapshot: &'a Snapshot,
    local: bool,
    facts: Facts,
    instances: Vec<Instance>,
    /// The instances that were translated.
    served: BTreeSet<Key>,
    statuses: Statuses,
    items: BTreeMap<(Kind, Key), Item>,
    absent: Absentees,
}

impl Check<'_> {
    fn instance(&mut self, key: &Key) {
        let mut found = consent(self.snapshot, key, None, &self.facts);
        let mut instance = Instance {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            accepted: true,
            reason: Reason::Accepted.to_string(),
            message: String::new(),
            problems: Vec::new(),
            as_if_granted: false,
        };
        if let Some(refusal) = found.refusal.take() {
            instance.accepted = false;
            instance.reason = refusal.reason.to_string();
            instance.message = refusal.message.clone();
            // Those who write routes cannot read grants: they want to know of all the rest.
            instance.as_if_granted = refusal.revokes();
            if refusal.revokes() {
                instance.problems.extend(self.unknown_labels(key));
                let granted = self.as_if_granted(key, &found);
                found = consent(&granted, key, None, &self.facts);
                if let Some(next) = found.refusal.take() {
                    instance.problems.push(next.message);
                    instance.as_if_granted = false;
                }
            }
        }
        if instance.accepted || instance.as_if_granted {
            instance.problems.extend(self.beside(key, &found));
            self.translate(&found.entitlement);
            self.served.insert(key.clone());
        }
        self.instances.push(instance);
    }

    /// The Snapshot with a grant of what the instance asks for.
    fn as_if_granted(&self, key: &Key, found: &Consent) -> Snapshot {
        let asked = self
            .snapshot
            .instances
            .get(key)
            .and_then(|object| object.valid());
        let asked = asked.map(|spec| spec.exposure.kind).unwrap_or_default();
        let everything = found.granted.by.is_empty().then(|| "*".to_owned());
        let grant = TenantGrantSpec {
            namespaces: Namespaces {
                names: vec![key.namespace.to_string()],
                ..Namespaces::default()
            },
            hostnames: everything.into_iter().collect(),
            exposures: vec![asked],
            address_pools: Vec::new(),
            quotas: None,
            instance_template: None,
        };
        let meta = Meta {
            key: key.sibling("", "as if granted"),
            uid: "".into(),
            generation: 0,
            created: 0,
        };
        let mut snapshot = self.snapshot.clone();
        let object = Object {
            meta: meta.clone(),
            body: Body::Valid(grant),
            unsupported: Vec::new(),
        };
        Arc::make_mut(&mut snapshot.tenant_grants).insert(meta.key, Arc::new(object));
        snapshot
    }

    /// A grant that selects by labels may cover a Namespace that no file describes.
    fn unknown_labels(&self, key: &Key) -> Option<String> {
        let namespace = self
            .snapshot
            .namespaces
            .get(&key.sibling("", key.namespace.clone()));
        let mut grants = self
            .snapshot
            .tenant_grants
            .values()
            .filter_map(|grant| grant.valid());
        let selects = grants.any(|grant| grant.namespaces.selector.is_some());
        (selects && namespace.is_none_or(|namespace| is_implied(namespace))).then(|| {
            format!(
                "a TenantGrant selects namespaces by their labels, and no file holds labels of the \
                 Namespace {}; add its file",
                key.namespace
            )
        })
    }

    /// What is wrong beside consent.
    fn beside(&self, key: &Key, found: &Consent) -> Vec<String> {
        let mut problems = Vec::new();
        if found.entitlement.gateway_classes.is_empty() {
            problems.push(format!(
                "no GatewayClass of {} is accepted; correct the class {}, or remove it",
                postern_api::CONTROLLER_NAME,
                postern_api::GATEWAY_CLASS
            ));
        }
        problems.extend(found.without_port.iter().map(|port| {
            format!(
                "no container port is left for port {} of the Gateway {}; use fewer ports",
                port.port, port.gateway
            )
        }));
        let keeps = self
            .written
            .instances
            .get(key)
            .and_then(|object| instance::gateway(object));
        if keeps.is_some() && self.written.gateways.contains_key(key) {
            problems.push(format!(
                "spec.listeners: the operator keeps a Gateway {key} for them, but that name is \
                 taken; rename that Gateway, or move the listeners there"
            ));
        }
        problems
    }

    fn translate(&mut self, entitlement: &EntitlementStatus) {
        let mut memo = Memo::new(Settings {
            allow_loopback: self.local,
        });
        let translation = translate(self.snapshot, entitlement, &mut memo);
        for proxy in translation.proxies.values() {
            let mut encoder = Encoder::new(postern_envoy::Options {
                allow_loopback: self.local,
                ..postern_envoy::Options::default()
            });
            let _ = encoder.encode(proxy);
            for (origin, reason) in encoder.refused() {
                let Some(kind) = Kind::ALL
                    .into_iter()
                    .find(|kind| kind.name() == &*origin.kind)
                else {
                    continue;
                };
                let key = Key::new(origin.namespace.clone(), origin.name.clone());
                let problem = format!("{}: {reason}", origin.field);
                let problems = &mut self.item(kind, &key).problems;
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        // No Envoy acknowledges anything here.
        status::merge(&mut self.statuses, finish(&translation, &Acks::new()));
    }

    fn item(&mut self, kind: Kind, key: &Key) -> &mut Item {
        self.items
            .entry((kind, key.clone()))
            .or_insert_with(|| Item {
                kind: kind.name().into(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                ours: true,
                ..Item::default()
            })
    }

    fn conditions(&self, kind: Kind, key: &Key) -> Vec<Condition> {
        let status = self.statuses.get(&(kind, key.clone()));
        let all = status.into_iter().flat_map(|status| status.conditions());
        all.map(|(about, found)| condition(about, found)).collect()
    }

    fn gateway(&mut self, key: &Key, object: &Object<Gateway>) {
        let belongs = owner(self.snapshot, &self.facts.classes, object);
        let class = object
            .valid()
            .map(|gateway| gateway.class.clone())
            .unwrap_or_default();
        let parameters = object
            .valid()
            .and_then(|gateway| gateway.parameters.as_ref());
        let asks_us = parameters.is_some_and(|to| &*to.group == GROUP);
        let (mut note, mut problem) = (String::new(), None);
        match &belongs {
            Ownership::NotOurs => {
                let known = self
                    .snapshot
                    .gateway_classes
                    .contains_key(&key.sibling("", class.clone()));
                note = match known {
                    true => format!("its GatewayClass {class} is of another controller"),
                    false => format!("no file holds its GatewayClass {class}"),
                };
                if asks_us {
                    problem = Some(format!(
                        "spec.gatewayClassName: {note}, but spec.infrastructure.parametersRef names \
                         a GatewayInstance; name the class {}",
                        postern_api::GATEWAY_CLASS
                    ));
                    note.clear();
                }
            }
            Ownership::Wrong { field, message } => problem = Some(format!("{field}: {message}")),
            Ownership::Instance(to) if self.served.contains(to) => {
                self.absent.of_gateway(self.snapshot, key);
            }
            Ownership::Instance(to) if self.snapshot.instances.contains_key(to) => {
                problem = Some(format!("its GatewayInstance {to} is refused; see there"));
            }
            Ownership::Instance(to) => {
                self.absent.add(
                    Kind::GatewayInstance,
                    to.clone(),
                    (Kind::Gateway, key.clone()),
                );
                problem = Some(match parameters {
                    Some(_) => format!(
                        "spec.infrastructure.parametersRef.name: there is no GatewayInstance {to}; \
                         create it, or name another"
                    ),
                    None => self.without_instance(to),
                });
            }
        }
        if !self.written.gateways.contains_key(key) {
            note = "kept for its GatewayInstance".into();
        }
        let conditions = self.conditions(Kind::Gateway, key);
        let item = self.item(Kind::Gateway, key);
        item.ours = belongs != Ownership::NotOurs || problem.is_some();
        item.note = note;
        item.problems.extend(problem);
        item.conditions = conditions;
    }

    /// What keeps a Gateway that names no instance from having one.
    fn without_instance(&self, to: &Key) -> String {
        match missing(self.snapshot, to, &self.facts) {
            // Who writes Gateways seldom has the files of grants.
            Some(Err(refusal)) if refusal.reason != Reason::NotGranted => refusal.message,
            _ => format!(
                "spec.infrastructure.parametersRef: there is no GatewayInstance {to}; create it, name \
                 another, or have an admin grant one by a TenantGrant with an instanceTemplate"
            ),
        }
    }

    fn route(&mut self, key: &Key) {
        let Some(route) = self
            .snapshot
            .http_routes
            .get(key)
            .and_then(|object| object.valid())
        else {
            return;
        };
        let mut problems = Vec::new();
        let mut ours = route.parents.is_empty();
        if ours {
            problems
                .push("spec.parentRefs: it names no Gateway, so nobody serves it; add one".into());
        }
        for (position, parent) in route.parents.iter().enumerate() {
            let Some((namespace, name)) = attach::gateway_of(parent, &key.namespace) else {
                continue;
            };
            let gateway = key.sibling(namespace.clone(), name.clone());
            match self.snapshot.gateways.get(&gateway) {
                None => {
                    ours = true;
                    problems.push(format!(
                        "spec.parentRefs[{position}].name: there is no Gateway {gateway}; create \
                         it, or correct the name"
                    ));
                }
                Some(object) => match owner(self.snapshot, &self.facts.classes, object) {
                    Ownership::NotOurs => {}
                    Ownership::Instance(to) if self.served.contains(&to) => ours = true,
                    Ownership::Instance(_) | Ownership::Wrong { .. } => {
                        ours = true;
                        problems.push(format!(
                            "spec.parentRefs[{position}]: the Gateway {gateway} belongs to no \
                             GatewayInstance that is accepted; see there"
                        ));
                    }
                },
            }
        }
        if ours {
            self.absent.of_route(self.snapshot, key);
            self.absent.parents(self.snapshot, key);
        }
        let conditions = self.conditions(Kind::HttpRoute, key);
        let item = self.item(Kind::HttpRoute, key);
        item.ours = ours;
        if !ours {
            item.note = "its parents are of other controllers, or unknown".into();
        }
        item.problems.extend(problems);
        item.conditions = conditions;
    }

    /// Objects that have no conditions of ours.
    fn others(&mut self) {
        let snapshot = self.snapshot;
        for (key, object) in snapshot.tenant_grants.iter() {
            self.unread(Kind::TenantGrant, key, object);
        }
        for (key, object) in snapshot.reference_grants.iter() {
            self.unread(Kind::ReferenceGrant, key, object);
        }
        for (key, object) in snapshot.gateway_classes.iter() {
            if !postern_consent::is_our_class(object) {
                continue;
            }
            self.unread(Kind::GatewayClass, key, object);
            if object
                .valid()
                .is_some_and(|class| class.parameters.is_some())
            {
                let problem = "spec.parametersRef: it is not supported; remove it".into();
                self.item(Kind::GatewayClass, key).problems.push(problem);
            }
        }
        if self.local {
            return;
        }
        for (key, object) in snapshot.endpoint_slices.iter() {
            let endpoints = object
                .valid()
                .into_iter()
                .flat_map(|slice| slice.endpoints.iter().enumerate());
            for (position, endpoint) in endpoints {
                let mut addresses = endpoint.addresses.iter();
                let Some(address) = addresses.find(|ip| ip.to_canonical().is_loopback()) else {
                    continue;
                };
                self.item(Kind::EndpointSlice, key).problems.push(format!(
                    "endpoints[{position}].addresses: {address} is the loopback address, and gets \
                     no requests on a cluster; use the pod's (or check with --local)"
                ));
            }
        }
    }

    fn unread<T>(&mut self, kind: Kind, key: &Key, object: &Object<T>) {
        for field in &object.unsupported {
            let problem = format!("{field}: this version does not know the field; remove it");
            self.item(kind, key).problems.push(problem);
        }
    }
}

/// Who alone knows, where a condition waits for somebody.
fn only_known_by(told: &Condition) -> Option<&'static str> {
    let is = |kind: ConditionType, reason: Reason| {
        told.kind == kind.as_str() && told.reason == reason.as_str()
    };
    if is(ConditionType::Programmed, Reason::Pending) {
        Some("a running Envoy")
    } else if is(ConditionType::Programmed, Reason::AddressNotAssigned) {
        Some("a load balancer or a router")
    } else if is(ConditionType::Exposed, Reason::Pending) {
        Some("a router")
    } else {
        None
    }
}

fn condition(about: String, found: &status::Condition) -> Condition {
    let mut told = Condition {
        about,
        kind: found.kind.to_string(),
        status: found.status.as_str().into(),
        reason: found.reason.to_string(),
        message: found.message.to_string(),
        wrong: found.is_bad(),
    };
    // What is not served is known from files; that it is served is not.
    if let Some(who) = only_known_by(&told) {
        told.status = status::Truth::Unknown.as_str().into();
        told.message = format!("Only {who} can tell.");
        told.wrong = false;
    }
    // A message that starts with a field tells what of an object is not served although the
    // condition is good; but a Gateway's repeats what its listeners say.
    let tells_of_field = told.message.starts_with("spec.");
    told.wrong |= tells_of_field && told.reason != Reason::ListenersNotValid.as_str();
    told
}

fn file(problem: &FileProblem) -> FileFinding {
    let object = problem.object.as_ref();
    FileFinding {
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        path: problem.path.to_string_lossy().into_owned(),
        line: problem.line.filter(|line| *line > 0),
        object: object.map(|(kind, name)| format!("{} {name}", kind.name())),
        field: problem.field.to_string(),
        message: problem.message.clone(),
        advice: problem.advice.clone(),
    }
}
