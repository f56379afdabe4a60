//! Objects as pages need them. What does not decode is left out of an object, never the object:
//! a page is most wanted where something is wrong.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use postern_api::entitlement::EntitlementStatus;
use postern_api::instance::{Address, ExposureType, Granted, Used};
use postern_api::{CONTROLLER_NAME, DEFAULT_INSTANCE, GATEWAY_CLASS, GATEWAY_GROUP, GROUP};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::facts::{Answer, Facts, Resource};

/// Namespace and name.
pub(crate) type Id = (String, String);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub name: String,
    pub namespace: String,
    pub generation: i64,
    creation_timestamp: Option<Timestamp>,
    managed_fields: Vec<ManagedField>,
    owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ManagedField {
    time: Option<Timestamp>,
    subresource: String,
}

impl Meta {
    pub(crate) fn id(&self) -> Id {
        (self.namespace.clone(), self.name.clone())
    }

    /// When its spec was last written, as far as is known.
    pub(crate) fn changed(&self) -> Option<Timestamp> {
        let writes = self.managed_fields.iter();
        let writes = writes.filter(|write| write.subresource.is_empty());
        writes
            .filter_map(|write| write.time)
            .max()
            .or(self.creation_timestamp)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub observed_generation: i64,
}

/// The condition of a type.
pub(crate) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Instance {
    pub meta: Meta,
    /// What it asks for.
    pub asked: ExposureType,
    pub observed_generation: i64,
    pub conditions: Vec<Condition>,
    pub addresses: Vec<Address>,
    pub granted: Option<Granted>,
    pub used: Option<Used>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Listener {
    pub name: String,
    pub port: u16,
    pub protocol: String,
    pub hostname: Option<String>,
    pub tls: Option<ListenerTls>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListenerTls {
    pub certificate_refs: Vec<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Named {
    pub group: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListenerStatus {
    pub name: String,
    pub attached_routes: i64,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Gateway {
    pub meta: Meta,
    /// Whether the operator keeps it for an instance's own listeners.
    pub kept: bool,
    pub class: String,
    pub parameters: Option<Named>,
    pub listeners: Vec<Listener>,
    pub conditions: Vec<Condition>,
    pub listener_statuses: Vec<ListenerStatus>,
}

impl Gateway {
    /// The instance that it asks for.
    pub(crate) fn instance(&self) -> Id {
        let name = match &self.parameters {
            Some(to) if to.group == GROUP => to.name.clone(),
            _ => DEFAULT_INSTANCE.to_owned(),
        };
        (self.meta.namespace.clone(), name)
    }

    /// Whether somebody has answered: the API server's default is `Unknown`, `Pending`.
    pub(crate) fn is_answered(&self) -> bool {
        find(&self.conditions, "Accepted").is_some_and(|found| found.status != "Unknown")
    }

    pub(crate) fn listener_status(&self, name: &str) -> Option<&ListenerStatus> {
        let mut all = self.listener_statuses.iter();
        all.find(|status| status.name == name)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ParentRef {
    pub group: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
    pub section_name: Option<String>,
    pub port: Option<u16>,
}

impl Default for ParentRef {
    fn default() -> Self {
        ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: String::new(),
            section_name: None,
            port: None,
        }
    }
}

impl ParentRef {
    /// The Gateway that it names, from a route in this namespace.
    pub(crate) fn gateway(&self, own: &str) -> Option<Id> {
        let namespace = self.namespace.as_deref().unwrap_or(own);
        (self.group == GATEWAY_GROUP && self.kind == "Gateway")
            .then(|| (namespace.to_owned(), self.name.clone()))
    }

    pub(crate) fn place(&self) -> String {
        let mut text = String::new();
        if let Some(namespace) = &self.namespace {
            text.push_str(namespace);
            text.push('/');
        }
        text.push_str(&self.name);
        if let Some(section) = &self.section_name {
            text.push_str(" listener ");
            text.push_str(section);
        }
        if let Some(port) = self.port {
            text.push_str(&format!(" port {port}"));
        }
        text
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ParentStatus {
    pub controller_name: String,
    pub parent_ref: ParentRef,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub meta: Meta,
    pub parents: Vec<ParentRef>,
    pub hostnames: Vec<String>,
    /// Those of our controller.
    pub statuses: Vec<ParentStatus>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Deployment {
    pub wanted: i64,
    pub available: i64,
    /// Why it has fewer, as far as it says.
    pub trouble: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    pub holder: String,
    pub renewed: Option<Timestamp>,
    pub seconds: i64,
}

/// All objects of a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub instances: BTreeMap<Id, Instance>,
    /// By their instance.
    pub entitlements: BTreeMap<Id, EntitlementStatus>,
    /// Those of our classes, and of classes that nobody has.
    pub gateways: BTreeMap<Id, Gateway>,
    pub routes: BTreeMap<Id, Route>,
    pub deployments: BTreeMap<Id, Deployment>,
    /// `None` if it is not known; `Some(None)` if there is none.
    pub lease: Option<Option<Lease>>,
    /// The controllers of the classes that were asked for; `None` if they are not known.
    pub classes: Option<BTreeMap<String, String>>,
}

fn part<T: DeserializeOwned + Default>(object: &Value, pointer: &str) -> T {
    object
        .pointer(pointer)
        .and_then(|value| T::deserialize(value).ok())
        .unwrap_or_default()
}

/// A list of which those items are taken that decode.
fn list<T: DeserializeOwned>(object: &Value, pointer: &str) -> Vec<T> {
    let items = object.pointer(pointer).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|item| T::deserialize(item).ok())
        .collect()
}

impl World {
    pub(crate) fn of(facts: &Facts) -> World {
        let mut world = World {
            instances: by_id(facts, Resource::GatewayInstance, instance),
            routes: by_id(facts, Resource::HttpRoute, route),
            deployments: by_id(facts, Resource::Deployment, deployment),
            ..World::default()
        };
        for object in facts.objects(Resource::Entitlement) {
            // One without a status is no news.
            let status: Option<EntitlementStatus> = part(object, "/status");
            let meta: Meta = part(object, "/metadata");
            if let Some(status) = status {
                let id = (meta.namespace, status.instance.name.clone());
                world.entitlements.insert(id, status);
            }
        }
        if facts.knows(Resource::GatewayClass) {
            let classes = facts.objects(Resource::GatewayClass).iter();
            let named = classes.map(|class| {
                let meta: Meta = part(class, "/metadata");
                (meta.name, part(class, "/spec/controllerName"))
            });
            world.classes = Some(named.collect());
        }
        if let Some(Answer::Known(leases)) = facts.answers.get(&Resource::Lease) {
            world.lease = Some(leases.first().map(lease));
        }
        world.gateways = by_id(facts, Resource::Gateway, gateway);
        let mut gateways = std::mem::take(&mut world.gateways);
        gateways.retain(|_, gateway| world.may_be_ours(gateway));
        world.gateways = gateways;
        world
    }

    /// Whether a class has a controller that is known; `None` if that is not known.
    pub(crate) fn controller(&self, class: &str) -> Option<Option<&str>> {
        let classes = self.classes.as_ref()?;
        Some(classes.get(class).map(String::as_str))
    }

    fn may_be_ours(&self, gateway: &Gateway) -> bool {
        match self.controller(&gateway.class) {
            Some(Some(controller)) => controller == CONTROLLER_NAME,
            Some(None) => true,
            None => {
                let mut entitled = self.entitlements.values();
                gateway.class == GATEWAY_CLASS
                    || entitled.any(|entitled| entitled.gateway_classes.contains(&gateway.class))
            }
        }
    }

    /// Whether an instance is accepted; not if there is none.
    pub(crate) fn is_accepted(&self, instance: &Id) -> bool {
        let instance = self.instances.get(instance);
        instance
            .and_then(|instance| find(&instance.conditions, "Accepted"))
            .is_some_and(|found| found.status == "True")
    }
}

fn by_id<T>(
    facts: &Facts,
    resource: Resource,
    read: impl Fn(&Value, Meta) -> T,
) -> BTreeMap<Id, T> {
    let objects = facts.objects(resource).iter();
    let read = objects.map(|object| {
        let meta: Meta = part(object, "/metadata");
        (meta.id(), read(object, meta))
    });
    read.collect()
}

fn instance(object: &Value, meta: Meta) -> Instance {
    Instance {
        meta,
        asked: part(object, "/spec/exposure/type"),
        observed_generation: part(object, "/status/observedGeneration"),
        conditions: list(object, "/status/conditions"),
        addresses: list(object, "/status/addresses"),
        granted: part(object, "/status/granted"),
        used: part(object, "/status/used"),
    }
}

fn gateway(object: &Value, meta: Meta) -> Gateway {
    let mut owners = meta.owner_references.iter();
    Gateway {
        kept: owners.any(|owner| owner.kind == Resource::GatewayInstance.kind()),
        meta,
        class: part(object, "/spec/gatewayClassName"),
        parameters: part(object, "/spec/infrastructure/parametersRef"),
        listeners: list(object, "/spec/listeners"),
        conditions: list(object, "/status/conditions"),
        listener_statuses: list(object, "/status/listeners"),
    }
}

fn route(object: &Value, meta: Meta) -> Route {
    let mut statuses: Vec<ParentStatus> = list(object, "/status/parents");
    statuses.retain(|status| status.controller_name == CONTROLLER_NAME);
    Route {
        meta,
        parents: list(object, "/spec/parentRefs"),
        hostnames: list(object, "/spec/hostnames"),
        statuses,
    }
}

fn deployment(object: &Value, _: Meta) -> Deployment {
    let conditions: Vec<Condition> = list(object, "/status/conditions");
    // What keeps pods from being made tells more than that there are too few.
    let failure = find(&conditions, "ReplicaFailure").filter(|found| found.status == "True");
    let stuck = find(&conditions, "Progressing").filter(|found| found.status == "False");
    Deployment {
        wanted: object
            .pointer("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(1),
        available: part(object, "/status/availableReplicas"),
        trouble: failure
            .or(stuck)
            .map(|found| found.message.clone())
            .unwrap_or_default(),
    }
}

fn lease(object: &Value) -> Lease {
    Lease {
        holder: part(object, "/spec/holderIdentity"),
        renewed: part(object, "/spec/renewTime"),
        seconds: part(object, "/spec/leaseDurationSeconds"),
    }
}
