//! What is wrong with the platform, and with instances.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use postern_api::GATEWAY_CLASS;
use postern_api::names::InstanceNames;

use super::{Finder, INSTANCE, subject};
use crate::advice::{Context, about, plain};
use crate::facts::{Answer, Resource};
use crate::problem::{Step, Subject};
use crate::read::{Deployment, Id, Instance, Lease, find};

/// How far clocks may differ.
const SKEW: SignedDuration = SignedDuration::from_secs(15);

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
    pub(super) fn platform(&mut self) {
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

    pub(super) fn operator_down(&mut self, cause: &str) {
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

    pub(super) fn instance(&mut self, instance: &'a Instance) {
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
            let cause = format!(
                "there is no GatewayClass {GATEWAY_CLASS} of this controller, so no Gateway is served"
            );
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
        let by_gateway =
            ready.message.starts_with("Gateway ") || ready.message.starts_with("the Gateway ");
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
        let shards = shards
            .map(|entitled| &entitled.shards)
            .into_iter()
            .flatten();
        let envoys = shards.map(|shard| names.envoy(&shard.name));
        let parts =
            std::iter::once((names.control_plane(), true)).chain(envoys.map(|name| (name, false)));
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
    pub(super) fn unanswered(
        &mut self,
        here: &Subject<'_>,
        cause: &str,
        changed: Option<Timestamp>,
    ) {
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
        let waits = waits
            .map(|waits| format!(", for {waits}"))
            .unwrap_or_default();
        self.operator_down(&format!(
            "{} {}/{}: {cause}{waits}",
            here.kind, here.namespace, here.name
        ));
    }
}
