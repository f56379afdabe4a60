//! Finds what is wrong, each thing once: what follows from another problem is not told again.

mod platform;

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use postern_api::{DEFAULT_INSTANCE, GATEWAY_CLASS};

use crate::advice::{Context, about, plain};
use crate::facts::{Facts, Resource};
use crate::problem::{Problem, Step, Subject};
use crate::read::{Condition, Gateway, Id, Listener, Route, World, find};
use crate::serving::Serving;

/// Reasons of problems that no condition tells, and when they are found.
pub const FOUND: [(&str, &str); 10] = [
    ("NotInstalled", "the API server does not serve postern.dev"),
    (
        "GatewayApiNotServed",
        "the API server does not serve the Gateway API",
    ),
    (
        "OperatorDown",
        "the operator does not renew its Lease, or does not look at what changed",
    ),
    (
        "ControlPlaneDown",
        "no pod of an instance's control plane is available",
    ),
    ("EnvoysDown", "no Envoy of an instance is available"),
    (
        "ClassNotFound",
        "a Gateway names a GatewayClass that does not exist",
    ),
    ("NotAnswered", "nobody has said anything about an object"),
    (
        "NotLookedAt",
        "what is said about an object is about an older generation of it",
    ),
    (
        "GatewayNotFound",
        "a route names a Gateway that does not exist",
    ),
    (
        "NoEndpoints",
        "a route forwards to a Service without ready endpoints",
    ),
];

/// How long it may take until something that changed is looked at.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Everything that is wrong, what others follow from first.
pub(crate) fn problems(facts: &Facts, world: &World, serving: Option<&[Serving]>) -> Vec<Problem> {
    let mut finder = Finder {
        facts,
        world,
        found: Vec::new(),
        operator_down: false,
        broken: BTreeSet::new(),
    };
    finder.platform();
    for instance in world.instances.values() {
        finder.instance(instance);
    }
    for gateway in world.gateways.values() {
        finder.gateway(gateway);
    }
    for route in world.routes.values() {
        finder.route(route);
    }
    finder.endpoints(serving.unwrap_or_default());
    finder.found
}

/// Why Envoys may hold other than what is written now, if they may.
pub(crate) fn behind(problems: &[Problem]) -> Option<&'static str> {
    let why = [
        "ControlPlaneDown",
        "NotLookedAt",
        "NotAnswered",
        "OperatorDown",
    ];
    why.into_iter()
        .find(|why| problems.iter().any(|problem| problem.reason == *why))
}

struct Finder<'a> {
    facts: &'a Facts,
    world: &'a World,
    found: Vec<Problem>,
    /// Whether that was told.
    operator_down: bool,
    /// Instances and Gateways that cannot answer for what hangs on them.
    broken: BTreeSet<(&'static str, Id)>,
}

const INSTANCE: &str = "GatewayInstance";
const GATEWAY: &str = "Gateway";
const ROUTE: &str = "HTTPRoute";

fn subject<'a>(kind: &'static str, id: &'a Id, about: &'a str) -> Subject<'a> {
    Subject {
        kind,
        namespace: &id.0,
        name: &id.1,
        about,
    }
}

impl<'a> Finder<'a> {
    fn waits_too_long(&self, changed: Option<Timestamp>) -> bool {
        changed.is_none_or(|changed| self.facts.now.duration_since(changed) > PATIENCE)
    }

    fn gateway(&mut self, gateway: &'a Gateway) {
        let id = gateway.meta.id();
        let here = subject(GATEWAY, &id, "");
        if self.world.controller(&gateway.class) == Some(None) {
            self.no_class(&here, gateway);
            self.broken.insert((GATEWAY, id));
            return;
        }
        let instance = gateway.instance();
        let context = Context {
            gateway: &id.1,
            kept: gateway.kept,
            ..Context::default().with(self.world, &instance)
        };
        let broken = self.broken.contains(&(INSTANCE, instance.clone()));
        if !gateway.is_answered() {
            self.broken.insert((GATEWAY, id.clone()));
            // Nobody answers for a Gateway whose instance is in trouble; that is told there.
            if !broken && !self.operator_down {
                let cause = "nobody has answered for it yet; is its GatewayClass ours?";
                let steps = about(&here, "Pending", &context);
                self.found
                    .push(here.found("NotAnswered", cause.into(), steps));
            }
            return;
        }
        let accepted = find(&gateway.conditions, "Accepted");
        let refused = accepted.filter(|found| found.status != "True");
        if let Some(refused) = refused {
            self.broken.insert((GATEWAY, id.clone()));
            let exists = self.world.instances.contains_key(&instance);
            if exists && !self.world.is_accepted(&instance) {
                return;
            }
            let mut problem = here.told(refused, about(&here, &refused.reason, &context));
            let name = &instance.1;
            if refused.reason == "InvalidParameters" && !exists && plain(name) == name {
                problem.yaml = format!(
                    "apiVersion: postern.dev/v1alpha1\nkind: GatewayInstance\nmetadata:\n  \
                     name: {name}\n  namespace: {}\n",
                    here.namespace
                );
                if gateway.parameters.is_none() {
                    let what = "or add spec.instanceTemplate to a TenantGrant on the namespace";
                    problem
                        .next
                        .push(Step::admin(what, "kubectl get tenantgrants"));
                }
            }
            self.found.push(problem);
            return;
        }
        let told = self.listeners(gateway, &id, &context, broken);
        let stale =
            accepted.is_some_and(|found| found.observed_generation < gateway.meta.generation);
        if stale && !broken && self.waits_too_long(gateway.meta.changed()) {
            let cause = "the control plane has not looked at its last change yet";
            let steps = about(&here, "Pending", &context);
            self.found
                .push(here.found("NotLookedAt", cause.into(), steps));
        }
        let bad =
            |kind: &str| find(&gateway.conditions, kind).filter(|found| found.status == "False");
        let exposed = bad("Exposed");
        if let Some(exposed) = exposed {
            let steps = about(&here, &exposed.reason, &context);
            self.found.push(here.told(exposed, steps));
        }
        let programmed = bad("Programmed").filter(|found| {
            let waits = found.reason == "Pending";
            let follows = (exposed.is_some() && found.reason == "AddressNotAssigned")
                || (told && (waits || found.reason == "Invalid"));
            !(follows || (broken && waits))
        });
        if let Some(programmed) = programmed {
            let steps = about(&here, &programmed.reason, &context);
            self.found.push(here.told(programmed, steps));
        }
    }

    fn no_class(&mut self, here: &Subject<'_>, gateway: &Gateway) {
        let class = &gateway.class;
        let cause =
            format!("spec.gatewayClassName: there is no GatewayClass {class}, so nobody serves it");
        let operator = plain(&self.facts.operator_namespace).to_owned();
        let steps = match class == GATEWAY_CLASS {
            true => vec![Step::admin(
                "the operator makes it: see what keeps it",
                format!("kubectl -n {operator} logs deployment/postern-operator --tail=50"),
            )],
            false => vec![Step::tenant(
                format!("name the class {GATEWAY_CLASS}"),
                here.command(&format!("edit {}", here.argument())),
            )],
        };
        self.found.push(here.found("ClassNotFound", cause, steps));
    }

    /// Tells of listeners; whether there was something to tell.
    fn listeners(
        &mut self,
        gateway: &Gateway,
        id: &Id,
        context: &Context<'_>,
        broken: bool,
    ) -> bool {
        let before = self.found.len();
        for status in &gateway.listener_statuses {
            let at = format!("listener {}", status.name);
            let here = subject(GATEWAY, id, &at);
            let mut spec = gateway.listeners.iter();
            let spec = spec.find(|listener| listener.name == status.name);
            let context = Context {
                secrets: spec.map(secrets).unwrap_or_default(),
                ..context.clone()
            };
            let waiting =
                |found: &Condition| found.kind == "Programmed" && found.reason == "Pending";
            let told = bad(
                &status.conditions,
                &["Accepted", "Conflicted", "ResolvedRefs", "Programmed"],
            );
            let told = told.filter(|found| !(broken && waiting(found)));
            self.tell(&here, told.collect(), &context);
        }
        self.found.len() > before
    }

    /// Tells of conditions, without that something is not served where it is told why.
    fn tell(&mut self, here: &Subject<'_>, conditions: Vec<&Condition>, context: &Context<'_>) {
        let several = conditions.len() > 1;
        for condition in conditions {
            if several && condition.kind == "Programmed" {
                continue;
            }
            let steps = about(here, &condition.reason, context);
            self.found.push(here.told(condition, steps));
        }
    }

    fn route(&mut self, route: &'a Route) {
        let id = route.meta.id();
        for parent in &route.parents {
            let Some(gateway) = parent.gateway(&id.0) else {
                continue;
            };
            let at = format!("at {}", parent.place());
            let here = subject(ROUTE, &id, &at);
            let status = route
                .statuses
                .iter()
                .find(|status| status.parent_ref.place() == parent.place());
            let known = self.world.gateways.get(&gateway);
            match (status, known) {
                (Some(status), _) => self.attached(&here, route, status, &gateway),
                (None, Some(_)) if self.broken.contains(&(GATEWAY, gateway.clone())) => {}
                (None, Some(known)) => {
                    let instance = known.instance();
                    if self.broken.contains(&(INSTANCE, instance.clone())) {
                        continue;
                    }
                    let context = Context {
                        gateway: &gateway.1,
                        ..Context::default().with(self.world, &instance)
                    };
                    let cause = format!(
                        "the control plane of the Gateway {} has not answered for it yet",
                        gateway.1
                    );
                    let steps = about(&here, "Pending", &context);
                    self.found.push(here.found("NotAnswered", cause, steps));
                }
                (None, None) => self.no_gateway(&here, &gateway),
            }
        }
    }

    fn no_gateway(&mut self, here: &Subject<'_>, gateway: &Id) {
        // Of other namespaces nothing is known here, and Gateways of other classes are not ours.
        let asked = self.facts.namespace.as_deref();
        let seen = asked.is_none_or(|asked| asked == gateway.0);
        let mut others = self.facts.objects(Resource::Gateway).iter();
        let foreign = others.any(|other| {
            other
                .pointer("/metadata/namespace")
                .and_then(|v| v.as_str())
                == Some(&gateway.0)
                && other.pointer("/metadata/name").and_then(|v| v.as_str()) == Some(&gateway.1)
        });
        // That of an instance's own listeners comes once the instance is accepted.
        let awaited = self.broken.contains(&(INSTANCE, gateway.clone()));
        if !seen || foreign || awaited || !self.facts.knows(Resource::Gateway) {
            return;
        }
        let cause = format!(
            "spec.parentRefs: there is no Gateway {}/{}",
            gateway.0, gateway.1
        );
        let steps = vec![
            Step::tenant("see which Gateways there are", here.command("get gateways")),
            Step::tenant(
                format!(
                    "correct the name; the Gateway of an instance's own listeners has the instance's name ({DEFAULT_INSTANCE})"
                ),
                here.command(&format!("edit {}", here.argument())),
            ),
        ];
        self.found.push(here.found("GatewayNotFound", cause, steps));
    }

    fn attached(
        &mut self,
        here: &Subject<'_>,
        route: &Route,
        status: &crate::read::ParentStatus,
        gateway: &Id,
    ) {
        let known = self.world.gateways.get(gateway);
        let instance = known.map(Gateway::instance).unwrap_or_default();
        let context = Context {
            gateway: &gateway.1,
            ..Context::default().with(self.world, &instance)
        };
        let mut told: Vec<&Condition> = bad(
            &status.conditions,
            &["Accepted", "PartiallyInvalid", "ResolvedRefs"],
        )
        .collect();
        // A message that starts with a field tells what is not served although the route is
        // accepted.
        let accepted = find(&status.conditions, "Accepted");
        let partial = told.iter().any(|found| found.kind == "PartiallyInvalid");
        if let Some(accepted) = accepted {
            let noted = accepted.status == "True" && accepted.message.starts_with("spec.");
            if noted && !partial {
                told.insert(0, accepted);
            }
            let stale = accepted.observed_generation < route.meta.generation;
            let broken = self.broken.contains(&(INSTANCE, instance.clone()));
            if stale && !broken && self.waits_too_long(route.meta.changed()) {
                let cause = "the control plane has not looked at its last change yet";
                let steps = about(here, "Pending", &context);
                self.found
                    .push(here.found("NotLookedAt", cause.into(), steps));
            }
        }
        self.tell(here, told, &context);
    }

    fn endpoints(&mut self, serving: &[Serving]) {
        let found: BTreeSet<_> = serving
            .iter()
            .flat_map(Serving::without_endpoints)
            .collect();
        for without in found {
            let here = subject(ROUTE, &without.route, "");
            let (_, service) = &without.service;
            let cause = format!(
                "Service {service} port {}: none of its endpoints is ready, so requests are \
                 answered 503",
                without.port
            );
            let steps = vec![
                Step::tenant(
                    "see the Service: does its selector match the pods' labels?",
                    here.command(&format!("describe service {service}")),
                ),
                Step::tenant(
                    "see whether pods are ready",
                    here.command("get pods --show-labels"),
                ),
            ];
            self.found.push(here.found("NoEndpoints", cause, steps));
        }
    }
}

fn secrets(listener: &Listener) -> Vec<crate::read::Named> {
    let tls = listener.tls.iter();
    tls.flat_map(|tls| tls.certificate_refs.clone()).collect()
}

/// The conditions of these types that are in their bad state, in this order.
fn bad<'a>(
    conditions: &'a [Condition],
    kinds: &'a [&'a str],
) -> impl Iterator<Item = &'a Condition> {
    kinds
        .iter()
        .filter_map(|kind| find(conditions, kind))
        .filter(|found| {
            let good = match &*found.kind {
                "Conflicted" | "PartiallyInvalid" => "False",
                _ => "True",
            };
            found.status != good
        })
}
