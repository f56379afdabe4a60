//! Finds what is wrong, each thing once: what follows from another problem is not told again.

use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use postern_api::names::InstanceNames;
use postern_api::{DEFAULT_INSTANCE, GATEWAY_CLASS};

use crate::advice::{Context, about, plain};
use crate::facts::{Answer, Facts, Resource};
use crate::problem::{Problem, Step, Subject};
use crate::read::{Condition, Deployment, Gateway, Id, Instance, Lease, Listener, Route, World, find};
use crate::serving::Serving;

/// Reasons of problems that no condition tells, and when they are found.
pub const FOUND: [(&str, &str); 10] = [
    ("NotInstalled", "the API server does not serve postern.dev"),
    ("GatewayApiNotServed", "the API server does not serve the Gateway API"),
    ("OperatorDown", "the operator does not renew its Lease, or does not look at what changed"),
    ("ControlPlaneDown", "no pod of an instance's control plane is available"),
    ("EnvoysDown", "no Envoy of an instance is available"),
    ("ClassNotFound", "a Gateway names a GatewayClass that does not exist"),
    ("NotAnswered", "nobody has said anything about an object"),
    ("NotLookedAt", "what is said about an object is about an older generation of it"),
    ("GatewayNotFound", "a route names a Gateway that does not exist"),
    ("NoEndpoints", "a route forwards to a Service without ready endpoints"),
];

/// How long it may take until something that changed is looked at.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// How far clocks may differ.
const SKEW: SignedDuration = SignedDuration::from_secs(15);

/// Everything that is wrong, what others follow from first.
pub(crate) fn problems(
    facts: &Facts,
    world: &World,
    serving: Option<&[Serving<'_>]>,
) -> Vec<Problem> {
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

/// How long ago, in words.
fn since(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

impl<'a> Finder<'a> {
    fn waits_too_long(&self, changed: Option<Timestamp>) -> bool {
        changed.is_none_or(|changed| self.facts.now.duration_since(changed) > PATIENCE)
    }

    fn platform(&mut self) {
        let served = |resource| self.facts.answers.get(&resource) != Some(&Answer::NotServed);
        let platform = Subject {
            kind: "",
            namespace: "",
            name: "",
            about: "",
        };
        if !served(Resource::GatewayInstance) {
            let step = Step::admin("install Postern", "kubectl get crds");
            let cause = "the API server does not serve postern.dev: Postern is not installed";
            self.found
                .push(platform.found("NotInstalled", cause.into(), vec![step]));
            return;
        }
        if !served(Resource::Gateway) {
            let step = Step::admin(
                "install the CRDs of the Gateway API; OpenShift 4.19 and later brings them",
                "kubectl get crds",
            );
            let cause = "the API server does not serve gateway.networking.k8s.io";
            self.found
                .push(platform.found("GatewayApiNotServed", cause.into(), vec![step]));
        }
        if let Some(lease) = &self.world.lease {
            self.lease(lease.as_ref());
        }
    }

    fn lease(&mut self, lease: Option<&Lease>) {
        let now = self.facts.now;
        let cause = match lease {
            None => format!(
                "there is no Lease of the operator in the namespace {}: it has not run there",
                self.facts.operator_namespace
            ),
            Some(Lease {
                renewed: Some(renewed),
                seconds,
                holder,
            }) if !holder.is_empty() => {
                let late = now.duration_since(*renewed) - SignedDuration::from_secs(*seconds);
                if late <= SKEW {
                    return;
                }
                format!(
                    "the operator ({holder}) renewed its Lease {} ago, and should every {seconds} s",
                    since(*renewed, now)
                )
            }
            Some(_) => "no operator holds its Lease: none runs".into(),
        };
        self.operator_down(&cause);
    }

    fn operator_down(&mut self, cause: &str) {
        if self.operator_down {
            return;
        }
        self.operator_down = true;
        let namespace = &self.facts.operator_namespace;
        let platform = Subject {
            kind: "",
            namespace: "",
            name: "",
            about: "",
        };
        let run = |rest: &str| format!("kubectl -n {} {rest}", plain(namespace));
        let cause = format!(
            "{cause}. What is served goes on, and routes are still taken; new instances, Gateways \
             and grants wait"
        );
        let steps = vec![
            Step::admin("see the operator's pods", run("get pods")),
            Step::admin(
                "see what it says",
                run("logs deployment/postern-operator --tail=50"),
            ),
        ];
        self.found
            .push(platform.found("OperatorDown", cause, steps));
    }

    fn instance(&mut self, instance: &'a Instance) {
        let id = instance.meta.id();
        let here = subject(INSTANCE, &id, "");
        let context = Context::default().with(self.world, &id);
        let accepted = find(&instance.conditions, "Accepted");
        let Some(accepted) = accepted else {
            self.broken.insert((INSTANCE, id.clone()));
            let cause = "the operator has not said anything about it yet";
            self.unanswered(&here, cause, instance.meta.changed());
            return;
        };
        if instance.observed_generation < instance.meta.generation {
            let cause = "the operator has not looked at its last change yet";
            self.unanswered(&here, cause, instance.meta.changed());
        }
        if accepted.status != "True" {
            let steps = about(&here, &accepted.reason, &context);
            self.found.push(here.told(accepted, steps));
            self.broken.insert((INSTANCE, id));
            return;
        }
        let contract = self.world.entitlements.get(&id);
        if contract.is_some_and(|contract| contract.gateway_classes.is_empty()) {
            self.broken.insert((INSTANCE, id.clone()));
            let cause = format!("there is no GatewayClass {GATEWAY_CLASS} of this controller, so no Gateway is served");
            let steps = vec![Step::admin(
                "see whether it is absent, or another controller's; the operator makes it where it is absent",
                format!("kubectl get gatewayclass {GATEWAY_CLASS} -o yaml"),
            )];
            // Where the classes are known, Gateways that name it tell.
            let mut gateways = self.world.gateways.values();
            let told = gateways.any(|gateway| self.world.controller(&gateway.class) == Some(None));
            if !told {
                self.found.push(here.found("ClassNotFound", cause, steps));
            }
            return;
        }
        let down = self.pods(&id);
        let ready = find(&instance.conditions, "Ready").filter(|found| found.status != "True");
        let Some(ready) = ready else { return };
        // Where pods are known, they tell it better; what keeps a Gateway from its clients is told
        // there.
        let by_gateway = ready.message.starts_with("Gateway ")
            || ready.message.starts_with("the Gateway ");
        let told = (down && ready.reason == "Progressing") || (by_gateway && self.exposure(&id));
        if !told {
            let steps = about(&here, &ready.reason, &context);
            self.found.push(here.told(ready, steps));
        }
    }

    /// Whether a Gateway of the instance says itself that clients do not reach it.
    fn exposure(&self, instance: &Id) -> bool {
        let mut gateways = self.world.gateways.values();
        gateways.any(|gateway| {
            gateway.instance() == *instance
                && gateway.conditions.iter().any(|found| {
                    found.status == "False"
                        && (found.kind == "Exposed" || found.reason == "AddressNotAssigned")
                })
        })
    }

    /// Tells of Deployments that have no pods; whether there is one.
    fn pods(&mut self, id: &Id) -> bool {
        let names = InstanceNames::new(&id.1);
        let shards = self.world.entitlements.get(id);
        let shards = shards.map(|entitled| &entitled.shards).into_iter().flatten();
        let envoys = shards.map(|shard| names.envoy(&shard.name));
        let parts = std::iter::once((names.control_plane(), true))
            .chain(envoys.map(|name| (name, false)));
        let mut down = false;
        for (name, is_control_plane) in parts.collect::<Vec<_>>() {
            let deployment = self.world.deployments.get(&(id.0.clone(), name.clone()));
            let Some(deployment) = deployment.filter(|found| found.available < found.wanted) else {
                continue;
            };
            down = true;
            self.deployment(id, &name, deployment, is_control_plane);
        }
        down
    }

    fn deployment(&mut self, id: &Id, name: &str, deployment: &Deployment, control_plane: bool) {
        let here = subject(INSTANCE, id, "");
        let Deployment {
            wanted,
            available,
            trouble,
            ..
        } = deployment;
        let trouble = match trouble.is_empty() {
            true => String::new(),
            false => format!(" ({trouble})"),
        };
        let (reason, what, so) = match (control_plane, *available == 0) {
            (true, true) => (
                "ControlPlaneDown",
                "control plane",
                "what is served goes on; changes of routes and endpoints wait",
            ),
            (true, false) => ("Progressing", "control plane", "all is served"),
            (false, true) => ("EnvoysDown", "Envoys", "nothing is served"),
            (false, false) => ("Progressing", "Envoys", "fewer pods serve"),
        };
        if control_plane && *available == 0 {
            self.broken.insert((INSTANCE, id.clone()));
        }
        let cause = format!(
            "Deployment {name} ({what}): {available} of {wanted} pods are available{trouble}; {so}"
        );
        let steps = vec![
            Step::tenant(
                "see what keeps its pods",
                here.command(&format!("describe deployment {name}")),
            ),
            Step::tenant(
                "see what they say",
                here.command(&format!("logs deployment/{name} --tail=50")),
            ),
        ];
        self.found.push(here.found(reason, cause, steps));
    }

    /// Something of which nobody has said what should be said: told once it waits too long.
    fn unanswered(&mut self, here: &Subject<'_>, cause: &str, changed: Option<Timestamp>) {
        if !self.waits_too_long(changed) {
            let step = Step::tenant(
                "wait a few seconds, and ask again",
                format!("kubectl postern status -n {}", here.namespace),
            );
            self.found
                .push(here.found("NotAnswered", cause.into(), vec![step]));
            return;
        }
        let waits = changed.map(|changed| since(changed, self.facts.now));
        let waits = waits.map(|waits| format!(", for {waits}")).unwrap_or_default();
        self.operator_down(&format!("{} {}/{}: {cause}{waits}", here.kind, here.namespace, here.name));
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
                self.found.push(here.found("NotAnswered", cause.into(), steps));
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
            }
            self.found.push(problem);
            return;
        }
        let told = self.listeners(gateway, &id, &context, broken);
        let stale = accepted.is_some_and(|found| found.observed_generation < gateway.meta.generation);
        if stale && !broken && self.waits_too_long(gateway.meta.changed()) {
            let cause = "the control plane has not looked at its last change yet";
            let steps = about(&here, "Pending", &context);
            self.found.push(here.found("NotLookedAt", cause.into(), steps));
        }
        let bad = |kind: &str| find(&gateway.conditions, kind).filter(|found| found.status == "False");
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
        let cause = format!("spec.gatewayClassName: there is no GatewayClass {class}, so nobody serves it");
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
    fn listeners(&mut self, gateway: &Gateway, id: &Id, context: &Context<'_>, broken: bool) -> bool {
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
            let waiting = |found: &Condition| found.kind == "Programmed" && found.reason == "Pending";
            let told = bad(&status.conditions, &["Accepted", "Conflicted", "ResolvedRefs", "Programmed"]);
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
                    let cause = format!("the control plane of the Gateway {} has not answered for it yet", gateway.1);
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
            other.pointer("/metadata/namespace").and_then(|v| v.as_str()) == Some(&gateway.0)
                && other.pointer("/metadata/name").and_then(|v| v.as_str()) == Some(&gateway.1)
        });
        // That of an instance's own listeners comes once the instance is accepted.
        let awaited = self.broken.contains(&(INSTANCE, gateway.clone()));
        if !seen || foreign || awaited || !self.facts.knows(Resource::Gateway) {
            return;
        }
        let cause = format!("spec.parentRefs: there is no Gateway {}/{}", gateway.0, gateway.1);
        let steps = vec![
            Step::tenant("see which Gateways there are", here.command("get gateways")),
            Step::tenant(
                format!("correct the name; the Gateway of an instance's own listeners has the instance's name ({DEFAULT_INSTANCE})"),
                here.command(&format!("edit {}", here.argument())),
            ),
        ];
        self.found.push(here.found("GatewayNotFound", cause, steps));
    }

    fn attached(&mut self, here: &Subject<'_>, route: &Route, status: &crate::read::ParentStatus, gateway: &Id) {
        let known = self.world.gateways.get(gateway);
        let instance = known.map(Gateway::instance).unwrap_or_default();
        let context = Context {
            gateway: &gateway.1,
            ..Context::default().with(self.world, &instance)
        };
        let mut told: Vec<&Condition> =
            bad(&status.conditions, &["Accepted", "PartiallyInvalid", "ResolvedRefs"]).collect();
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
                self.found.push(here.found("NotLookedAt", cause.into(), steps));
            }
        }
        self.tell(here, told, &context);
    }

    fn endpoints(&mut self, serving: &[Serving<'_>]) {
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
                Step::tenant("see whether pods are ready", here.command("get pods --show-labels")),
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
fn bad<'a>(conditions: &'a [Condition], kinds: &'a [&'a str]) -> impl Iterator<Item = &'a Condition> {
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
