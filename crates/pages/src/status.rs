//! The page `status`: instances, Gateways, grants, use, and what is wrong.

use std::collections::BTreeSet;

use postern_api::entitlement::{EntitlementStatus, Quotas};
use postern_api::instance::{Address, Granted};
use postern_api::names::InstanceNames;
use serde::Serialize;

use crate::facts::{Answer, Facts, Resource};
use crate::find::problems;
use crate::problem::Problem;
use crate::read::{Condition, Gateway, Id, Instance, World, find};
use crate::serving::serving;

/// How a namespace's gateways are.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusPage {
    /// Whether nothing is known to be wrong.
    pub ok: bool,
    /// The namespace; null for all of them.
    pub namespace: Option<String>,
    /// The GatewayInstances.
    pub instances: Vec<InstanceRow>,
    /// The Gateways of ours.
    pub gateways: Vec<GatewayRow>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is not known.
    pub unknown: Vec<Unknown>,
}

/// A condition, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, as one word.
    pub reason: String,
}

/// A GatewayInstance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its condition `Accepted`.
    pub accepted: State,
    /// Its condition `Ready`.
    pub ready: State,
    /// The exposure that it asks for.
    pub exposure: String,
    /// Exposures that go on until the one asked for is ready.
    pub leaving: Vec<String>,
    /// Where clients reach it.
    pub addresses: Vec<Address>,
    /// The grants in force; null if there is none.
    pub granted: Option<Granted>,
    /// What it uses of what it may.
    pub quotas: Vec<Quota>,
    /// Its Deployments; empty if they are not known.
    pub pods: Vec<Pods>,
}

/// Use of a quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Of what: `routes`, `listeners`, `endpoints`, `configurationBytes`.
    pub of: &'static str,
    /// How much is used; null if it is not known.
    pub used: Option<u64>,
    /// How much may be; null for no bound.
    pub most: Option<u64>,
}

/// The pods of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// `control plane` or `envoy`.
    pub part: String,
    /// The Deployment.
    pub deployment: String,
    /// How many are available.
    pub available: i64,
    /// How many there should be.
    pub wanted: i64,
}

/// A Gateway.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The instance that it asks for.
    pub instance: String,
    /// Its class.
    pub class: String,
    /// Its condition `Accepted`.
    pub accepted: State,
    /// Its condition `Programmed`.
    pub programmed: State,
    /// Its condition `Exposed`; null where it has none.
    pub exposed: Option<State>,
    /// Its listeners.
    pub listeners: Vec<ListenerRow>,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerRow {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: String,
    /// Its hostname; `*` if it has none.
    pub host: String,
    /// How many routes are attached.
    pub routes: i64,
    /// Its condition `Programmed`.
    pub programmed: State,
    /// Where clients reach it: address and port.
    pub addresses: Vec<String>,
}

/// A kind that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unknown {
    /// The kind.
    pub kind: &'static str,
    /// Why.
    pub why: String,
    /// What cannot be told for lack of it.
    pub so: &'static str,
    /// Whether it is so for most tenants, who seldom need it.
    pub usual: bool,
}

/// Makes the page.
#[must_use]
pub fn status(facts: &Facts) -> StatusPage {
    let world = World::of(facts);
    let serving = serving(facts, &world);
    let problems = problems(facts, &world, serving.as_deref());
    StatusPage {
        ok: problems.is_empty(),
        namespace: facts.namespace.clone(),
        instances: world
            .instances
            .values()
            .map(|instance| row(facts, &world, instance))
            .collect(),
        gateways: world
            .gateways
            .values()
            .map(|gateway| gateway_row(&world, gateway))
            .collect(),
        problems,
        unknown: unknown(facts),
    }
}

pub(crate) fn state(conditions: &[Condition], kind: &str) -> State {
    match find(conditions, kind) {
        Some(found) => State {
            status: found.status.clone(),
            reason: found.reason.clone(),
        },
        None => State {
            status: "Unknown".into(),
            reason: String::new(),
        },
    }
}

fn row(facts: &Facts, world: &World, instance: &Instance) -> InstanceRow {
    let id = instance.meta.id();
    let entitled = world.entitlements.get(&id);
    let exposure = format!("{:?}", instance.asked);
    let going_on = entitled.map(|entitled| &entitled.exposures).into_iter();
    InstanceRow {
        accepted: state(&instance.conditions, "Accepted"),
        ready: state(&instance.conditions, "Ready"),
        leaving: going_on
            .flatten()
            .map(|one| format!("{:?}", one.kind))
            .filter(|kind| *kind != exposure)
            .collect(),
        exposure,
        addresses: instance.addresses.clone(),
        granted: instance.granted.clone(),
        quotas: quotas(facts, world, instance, entitled),
        pods: pods(world, &id, entitled),
        namespace: id.0,
        name: id.1,
    }
}

/// What is used of what may be: as the operator tells it, else as it is counted here.
fn quotas(
    facts: &Facts,
    world: &World,
    instance: &Instance,
    entitled: Option<&EntitlementStatus>,
) -> Vec<Quota> {
    let granted = instance.granted.as_ref();
    match (&instance.used, entitled) {
        (Some(used), _) => {
            let most = granted.and_then(|granted| granted.quotas.clone());
            let count = |used: u32| Some(u64::from(used));
            let most = most.unwrap_or_default();
            of_bounds(count(used.routes), count(used.listeners), &most)
        }
        (None, Some(entitled)) => counted(facts, world, entitled),
        (None, None) => Vec::new(),
    }
}

/// What is used, counted in what whoever asks may read.
fn counted(facts: &Facts, world: &World, entitled: &EntitlementStatus) -> Vec<Quota> {
    let ours: BTreeSet<Id> = entitled
        .gateways
        .iter()
        .map(|gateway| (gateway.namespace.clone(), gateway.name.clone()))
        .collect();
    let routes = facts.knows(Resource::HttpRoute).then(|| {
        let named = world.routes.values().filter(|route| {
            let namespace = &route.meta.namespace;
            let mut parents = route.parents.iter();
            parents.any(|parent| {
                parent
                    .gateway(namespace)
                    .is_some_and(|to| ours.contains(&to))
            })
        });
        named.count() as u64
    });
    let listeners = facts.knows(Resource::Gateway).then(|| {
        let gateways = ours.iter().filter_map(|id| world.gateways.get(id));
        gateways.map(|gateway| gateway.listeners.len() as u64).sum()
    });
    of_bounds(routes, listeners, &entitled.quotas)
}

/// Of the bounds that nobody counts for pages only those that are set are told.
fn of_bounds(routes: Option<u64>, listeners: Option<u64>, most: &Quotas) -> Vec<Quota> {
    let counted = [
        ("routes", routes, most.routes.map(u64::from)),
        ("listeners", listeners, most.listeners.map(u64::from)),
    ];
    let bounds = [
        ("endpoints", most.endpoints.map(u64::from)),
        ("configurationBytes", most.configuration_bytes),
    ];
    let counted = counted.map(|(of, used, most)| Quota { of, used, most });
    let bounds = bounds.into_iter().filter(|(_, most)| most.is_some());
    let bounds = bounds.map(|(of, most)| Quota {
        of,
        used: None,
        most,
    });
    counted.into_iter().chain(bounds).collect()
}

fn pods(world: &World, id: &Id, entitled: Option<&EntitlementStatus>) -> Vec<Pods> {
    let names = InstanceNames::new(&id.1);
    let shards = entitled
        .map(|entitled| &entitled.shards)
        .into_iter()
        .flatten();
    let envoys = shards.map(|shard| ("envoy", names.envoy(&shard.name)));
    std::iter::once(("control plane", names.control_plane()))
        .chain(envoys)
        .filter_map(|(part, name)| {
            let found = world.deployments.get(&(id.0.clone(), name.clone()))?;
            Some(Pods {
                part: part.into(),
                deployment: name,
                available: found.available,
                wanted: found.wanted,
            })
        })
        .collect()
}

fn gateway_row(world: &World, gateway: &Gateway) -> GatewayRow {
    let instance = gateway.instance();
    let addresses = world
        .instances
        .get(&instance)
        .map(|instance| &*instance.addresses)
        .unwrap_or_default();
    let listeners = gateway.listeners.iter().map(|listener| {
        let told = gateway.listener_status(&listener.name);
        let here = addresses.iter().filter(|address| {
            address.gateway == gateway.meta.name
                && address.listener_port == i32::from(listener.port)
        });
        ListenerRow {
            name: listener.name.clone(),
            port: listener.port,
            protocol: listener.protocol.clone(),
            host: listener.hostname.clone().unwrap_or_else(|| "*".into()),
            routes: told.map_or(0, |told| told.attached_routes),
            programmed: state(
                told.map(|told| &*told.conditions).unwrap_or_default(),
                "Programmed",
            ),
            addresses: here.map(place).collect(),
        }
    });
    GatewayRow {
        namespace: gateway.meta.namespace.clone(),
        name: gateway.meta.name.clone(),
        class: gateway.class.clone(),
        accepted: state(&gateway.conditions, "Accepted"),
        programmed: state(&gateway.conditions, "Programmed"),
        exposed: find(&gateway.conditions, "Exposed")
            .map(|_| state(&gateway.conditions, "Exposed")),
        listeners: listeners.collect(),
        instance: instance.1,
    }
}

fn place(address: &Address) -> String {
    match address.value.contains(':') {
        true => format!("[{}]:{}", address.value, address.port),
        false => format!("{}:{}", address.value, address.port),
    }
}

/// The kinds that are not known, and what cannot be told for it.
pub(crate) fn unknown(facts: &Facts) -> Vec<Unknown> {
    let missing = facts.answers.iter().filter_map(|(resource, answer)| {
        let why = match answer {
            Answer::Known(_) | Answer::NotServed => return None,
            Answer::Forbidden => "you may not read them".to_owned(),
            Answer::Failed(why) => why.clone(),
        };
        let so = match resource {
            Resource::GatewayClass => "whether the class of a Gateway exists",
            Resource::GatewayInstance => "which instances there are",
            Resource::Entitlement => "Envoys, and who serves what",
            Resource::Gateway => "which Gateways there are",
            Resource::HttpRoute => "which routes there are",
            Resource::Service | Resource::EndpointSlice => "whether backends have endpoints",
            Resource::Deployment => "whether pods are up, beyond what the instance says",
            Resource::Lease => "whether the operator runs, beyond what it last said",
        };
        Some(Unknown {
            kind: resource.kind(),
            why,
            so,
            usual: *answer == Answer::Forbidden
                && matches!(resource, Resource::GatewayClass | Resource::Lease),
        })
    });
    missing.collect()
}
