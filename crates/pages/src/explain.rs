//! The page `explain`: from an object to what Envoys hold of it, and what stops it on the way.

use std::collections::{BTreeMap, BTreeSet};

use postern_api::entitlement::EntitledGateway;
use postern_api::names::InstanceNames;
use postern_refs::Key;
use postern_translate::{served_name, table_name};
use serde::Serialize;

use crate::facts::{Facts, Resource};
use crate::find::{behind, problems};
use crate::problem::Problem;
use crate::read::{Condition, Gateway, Id, Instance, Route, World, find};
use crate::routes::{Entry, entries, listener_of};
use crate::serving::serving;
use crate::status::{State, Unknown, state, unknown};

/// From an object to its Envoy resources.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether nothing stops it, as far as is known.
    pub ok: bool,
    /// The object's kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The way: what it depends on, in this order.
    pub way: Vec<Link>,
    /// The entries of route tables that are made of it.
    pub entries: Vec<Entry>,
    /// What Envoys are sent for it.
    pub envoy: Vec<EnvoyResource>,
    /// What stops it, or a part of it.
    pub problems: Vec<Problem>,
    /// What is not known.
    pub unknown: Vec<Unknown>,
}

/// Something that an object depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What it is.
    pub what: String,
    /// Its name; with its namespace where it may be another one.
    pub name: String,
    /// How it is.
    pub state: String,
    /// Whether that is good; null if it is not known.
    pub good: Option<bool>,
}

/// A resource of Envoy's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyResource {
    /// `listener`, `route table` or `cluster`.
    pub kind: &'static str,
    /// Its name, as Envoy's admin interface and logs write it.
    pub name: String,
    /// Whether a ready Envoy holds it as it is now: the condition `Programmed` of the listeners that
    /// need it, the best of them.
    pub acknowledged: State,
}

/// The kinds that can be explained, with the words for each.
const KINDS: [(Resource, &[&str]); 4] = [
    (
        Resource::GatewayInstance,
        &["gatewayinstance", "gatewayinstances", "gwi"],
    ),
    (Resource::Gateway, &["gateway", "gateways", "gtw"]),
    (Resource::HttpRoute, &["httproute", "httproutes"]),
    (Resource::Service, &["service", "services", "svc"]),
];

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    kind: Resource,
    name: String,
}

impl Target {
    /// Reads `KIND/NAME`, with a kind as commands write it.
    ///
    /// # Errors
    /// If it is none, or of a kind that cannot be explained.
    pub fn parse(text: &str) -> Result<Target, String> {
        let known: Vec<&str> = KINDS.iter().map(|(_, words)| words[0]).collect();
        let known = known.join(", ");
        let Some((kind, name)) = text.split_once('/') else {
            return Err(format!("{text:?} is not KIND/NAME; kinds are {known}"));
        };
        // `httproutes.gateway.networking.k8s.io` means the same.
        let word = kind
            .split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let found = KINDS.iter().find(|(_, words)| words.contains(&&*word));
        match found {
            Some((kind, _)) if !name.is_empty() => Ok(Target {
                kind: *kind,
                name: name.into(),
            }),
            Some(_) => Err(format!("{text:?} has no name")),
            None => Err(format!("{kind:?} cannot be explained; kinds are {known}")),
        }
    }
}

/// Makes the page.
///
/// # Errors
/// If there is no such object, or that is not known.
pub fn explain(facts: &Facts, target: &Target) -> Result<Explanation, String> {
    let world = World::of(facts);
    let namespace = facts.namespace.clone().unwrap_or_default();
    let id: Id = (namespace, target.name.clone());
    is_there(facts, target, &id)?;
    let serving = serving(facts, &world);
    let all = serving.iter().flatten();
    let all: Vec<Entry> = all
        .flat_map(|serving| entries(serving, &world))
        .map(|found| found.entry)
        .collect();
    let mut maker = Maker {
        world: &world,
        way: Vec::new(),
        entries: Vec::new(),
        envoy: Vec::new(),
        about: BTreeSet::new(),
        whole: matches!(target.kind, Resource::GatewayInstance | Resource::Gateway),
        behind: None,
    };
    match target.kind {
        Resource::GatewayInstance => maker.instance_target(&id, all),
        Resource::Gateway => {
            maker.entries = all;
            maker.entries.retain(|entry| gateway_of(entry) == id);
            maker.gateway(&id);
        }
        Resource::HttpRoute => maker.route_target(&id, all),
        _ => maker.service_target(&id, all),
    }
    let mut problems = problems(facts, &world, serving.as_deref());
    problems.retain(|problem| {
        let object = (
            problem.kind.clone(),
            (problem.namespace.clone(), problem.name.clone()),
        );
        problem.kind.is_empty() || maker.about.contains(&object)
    });
    maker.behind = behind(&problems);
    maker.resources();
    Ok(Explanation {
        ok: problems.is_empty(),
        kind: target.kind.kind(),
        namespace: id.0,
        name: id.1,
        way: maker.way,
        entries: maker.entries,
        envoy: maker.envoy,
        problems,
        unknown: unknown(facts),
    })
}

fn is_there(facts: &Facts, target: &Target, id: &Id) -> Result<(), String> {
    let kind = target.kind.kind();
    if !facts.knows(target.kind) {
        let missing = unknown(facts);
        let why = missing.iter().find(|one| one.kind == kind);
        let why = why.map_or("the API server does not serve them", |one| &one.why);
        return Err(format!("{kind} {}/{}: {why}", id.0, id.1));
    }
    let names: Vec<&str> = facts
        .objects(target.kind)
        .iter()
        .filter_map(|object| object.pointer("/metadata/name")?.as_str())
        .collect();
    if names.contains(&&*id.1) {
        return Ok(());
    }
    let there = match names.is_empty() {
        true => "there is none".to_owned(),
        false => format!("there is {}", names.join(", ")),
    };
    Err(format!(
        "there is no {kind} {} in the namespace {}; {there}",
        id.1, id.0
    ))
}

fn gateway_of(entry: &Entry) -> Id {
    (entry.namespace.clone(), entry.gateway.clone())
}

/// Envoy's resources by a number that orders kinds, kind and name.
type Resources = BTreeMap<(u8, &'static str, String), State>;

struct Maker<'a> {
    world: &'a World,
    way: Vec<Link>,
    entries: Vec<Entry>,
    envoy: Vec<EnvoyResource>,
    /// What problems may be about: kind, and namespace and name.
    about: BTreeSet<(String, Id)>,
    /// Whether all listeners matter, not only those that have entries.
    whole: bool,
    /// Whether what is acknowledged may be older than what is written: why.
    behind: Option<&'static str>,
}

impl Maker<'_> {
    /// Notes an object on the way; whether it was new.
    fn mark(&mut self, kind: Resource, id: &Id) -> bool {
        self.about.insert((kind.kind().into(), id.clone()))
    }

    fn link(&mut self, what: &str, name: String, state: String, good: Option<bool>) {
        self.way.push(Link {
            what: what.into(),
            name,
            state,
            good,
        });
    }

    fn instance_target(&mut self, id: &Id, all: Vec<Entry>) {
        self.instance(id);
        self.entries = all;
        let world = self.world;
        let own = world
            .gateways
            .values()
            .filter(|gateway| gateway.instance() == *id);
        let own: Vec<Id> = own.map(|gateway| gateway.meta.id()).collect();
        self.entries
            .retain(|entry| own.contains(&gateway_of(entry)));
        for gateway in &own {
            self.gateway(gateway);
        }
    }

    fn route_target(&mut self, id: &Id, all: Vec<Entry>) {
        let name = format!("{}/{}", id.0, id.1);
        self.entries = all;
        self.entries.retain(|entry| entry.route == name);
        self.route(id);
    }

    fn service_target(&mut self, id: &Id, all: Vec<Entry>) {
        self.mark(Resource::Service, id);
        let here = format!("{}/{}/", id.0, id.1);
        self.entries = all;
        self.entries
            .retain(|entry| entry.clusters.iter().any(|name| name.starts_with(&here)));
        let routes: BTreeSet<Id> = self
            .entries
            .iter()
            .filter_map(|entry| entry.route.split_once('/'))
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect();
        if routes.is_empty() {
            let state = "no route that is served leads to it".to_owned();
            self.link("Service", format!("{}/{}", id.0, id.1), state, None);
        }
        for route in routes {
            self.route(&route);
        }
    }

    fn route(&mut self, id: &Id) {
        let Some(route) = self.world.routes.get(id) else {
            return;
        };
        if !self.mark(Resource::HttpRoute, id) {
            return;
        }
        for parent in &route.parents {
            let Some(gateway) = parent.gateway(&id.0) else {
                continue;
            };
            let (state, good) = attached(route, &parent.place());
            let what = format!("HTTPRoute at {}", parent.place());
            self.link(&what, format!("{}/{}", id.0, id.1), state, good);
            self.gateway(&gateway);
        }
    }

    fn gateway(&mut self, id: &Id) {
        if !self.mark(Resource::Gateway, id) {
            return;
        }
        let name = format!("{}/{}", id.0, id.1);
        let Some(gateway) = self.world.gateways.get(id) else {
            // That of an instance's own listeners comes once the instance is accepted.
            let awaited = self.world.instances.contains_key(id);
            let state = match awaited {
                true => "not there yet: its GatewayInstance has it made",
                false => "not one of ours, or absent",
            };
            self.link("Gateway", name, state.into(), awaited.then_some(false));
            if awaited {
                self.instance(id);
            }
            return;
        };
        let (state, good) = conditions(&gateway.conditions, &["Accepted", "Programmed", "Exposed"]);
        self.link("Gateway", name, state, good);
        self.instance(&gateway.instance());
    }

    fn instance(&mut self, id: &Id) {
        if !self.mark(Resource::GatewayInstance, id) {
            return;
        }
        let name = format!("{}/{}", id.0, id.1);
        let Some(instance) = self.world.instances.get(id) else {
            self.link("GatewayInstance", name, "absent".into(), Some(false));
            return;
        };
        let (state, good) = conditions(&instance.conditions, &["Accepted", "Ready"]);
        self.link("GatewayInstance", name, state, good);
        self.contract(id, instance);
        let names = InstanceNames::new(&id.1);
        self.pods("control plane", id, names.control_plane());
        let shards = self.world.entitlements.get(id);
        for shard in shards.map(|contract| &*contract.shards).unwrap_or_default() {
            self.pods("Envoys", id, names.envoy(&shard.name));
        }
    }

    fn contract(&mut self, id: &Id, instance: &Instance) {
        let name = InstanceNames::new(&id.1).entitlement();
        let generation = instance.meta.generation;
        let (state, good) = match self.world.entitlements.get(id) {
            None => ("none is known".to_owned(), None),
            Some(contract) if contract.instance.generation == generation => {
                ("as the instance asks now".into(), Some(true))
            }
            Some(contract) => {
                let known = contract.instance.generation;
                let state =
                    format!("of generation {known} of the instance, which is at {generation}");
                (state, Some(false))
            }
        };
        self.link("Entitlement", name, state, good);
    }

    fn pods(&mut self, what: &str, id: &Id, name: String) {
        let found = self.world.deployments.get(&(id.0.clone(), name.clone()));
        let (state, good) = match found {
            Some(found) => (
                format!("{} of {} pods are available", found.available, found.wanted),
                Some(found.available >= found.wanted),
            ),
            None => ("not known".into(), None),
        };
        self.link(what, name, state, good);
    }

    /// What Envoys are sent for the Gateways on the way and the entries.
    fn resources(&mut self) {
        let world = self.world;
        let here = |id: &Id| self.about.contains(&("Gateway".to_owned(), id.clone()));
        let mut found = Resources::new();
        for contract in world.entitlements.values() {
            for entitled in &contract.gateways {
                let id = (entitled.namespace.clone(), entitled.name.clone());
                if let Some(gateway) = world.gateways.get(&id).filter(|_| here(&id)) {
                    self.of_gateway(entitled, gateway, &mut found);
                }
            }
        }
        let resources = found.into_iter();
        let resources = resources.map(|((_, kind, name), acknowledged)| EnvoyResource {
            kind,
            name,
            acknowledged,
        });
        self.envoy = resources.collect();
    }

    fn of_gateway(&self, entitled: &EntitledGateway, gateway: &Gateway, found: &mut Resources) {
        let id = gateway.meta.id();
        let key = Key::new(&*id.0, &*id.1);
        let entries: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| gateway_of(entry) == id)
            .collect();
        for listener in &gateway.listeners {
            let tls = listener.protocol == "HTTPS";
            let of_listener = |entry: &&&Entry| {
                entry.port == listener.port
                    && listener_of(gateway, entry.port, &entry.host)
                        .is_some_and(|(name, _)| name == listener.name)
            };
            let here: Vec<&&Entry> = entries.iter().filter(of_listener).collect();
            // What is explained is a Gateway or more, or has something at this listener.
            if !self.whole && here.is_empty() {
                continue;
            }
            let told = gateway.listener_status(&listener.name);
            let told = told.map(|told| &*told.conditions).unwrap_or_default();
            // A condition from before a change tells nothing of what came after.
            let acknowledged = match self.behind {
                None => state(told, "Programmed"),
                Some(why) => State {
                    status: "Unknown".into(),
                    reason: why.into(),
                },
            };
            let mut note = |order, kind, name: &str| {
                let known = found.entry((order, kind, name.to_owned())).or_default();
                if known.status != "True" {
                    known.clone_from(&acknowledged);
                }
            };
            for port in entitled
                .ports
                .iter()
                .filter(|port| port.port == listener.port)
            {
                let name = served_name(&key, port.port, port.container_port);
                note(0, "listener", &name);
            }
            let table = table_name(&key, listener.port, tls.then_some(&*listener.name));
            note(1, "route table", &table.0);
            for cluster in here.iter().flat_map(|entry| &entry.clusters) {
                note(2, "cluster", cluster);
            }
        }
    }
}

/// What the conditions of these types say, in short.
fn conditions(all: &[Condition], kinds: &[&str]) -> (String, Option<bool>) {
    let told = kinds.iter().filter_map(|kind| find(all, kind));
    let told: Vec<&Condition> = told.collect();
    let word = |kind: &str| match kind {
        "ResolvedRefs" => "resolved".to_owned(),
        kind => kind.to_ascii_lowercase(),
    };
    let words: Vec<String> = told
        .iter()
        .map(|found| match (&*found.status, &*found.reason) {
            ("True", _) => word(&found.kind),
            ("False", reason) => format!("not {}: {reason}", word(&found.kind)),
            (_, reason) => format!("{} unknown: {reason}", word(&found.kind)),
        })
        .collect();
    match told.is_empty() {
        true => ("nobody has said anything about it".into(), None),
        false => {
            let good = told.iter().all(|found| found.status == "True");
            (words.join(", "), Some(good))
        }
    }
}

fn attached(route: &Route, place: &str) -> (String, Option<bool>) {
    let mut statuses = route.statuses.iter();
    let status = statuses.find(|status| status.parent_ref.place() == place);
    match status {
        None => ("nobody has answered for it".into(), None),
        Some(status) => conditions(&status.conditions, &["Accepted", "ResolvedRefs"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_commands_name_them() {
        let target = |kind, name: &str| {
            Ok(Target {
                kind,
                name: name.into(),
            })
        };
        assert_eq!(
            Target::parse("gwi/default"),
            target(Resource::GatewayInstance, "default")
        );
        assert_eq!(
            Target::parse("HTTPRoute/web"),
            target(Resource::HttpRoute, "web")
        );
        let whole = Target::parse("gateways.gateway.networking.k8s.io/web");
        assert_eq!(whole, target(Resource::Gateway, "web"));
        for wrong in ["web", "pod/web", "gateway/", "/web", ""] {
            let said = Target::parse(wrong).expect_err("an error");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
