//! What is in the cluster of what was stamped.
//!
//! Watches bring it; only a digest of each object is kept, and the few facts that others need. A
//! run asks the API server for an object only if its digest is not the one that was last found
//! right ([`Live::is_verified`]), so that a system at rest reads and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use kube::api::DynamicObject;
use postern_api::Entitlement;
use postern_api::entitlement::ExternalAddress;
use postern_api::instance::ExposureType;
use postern_consent::{RouteFacts, RouterVerdict};
use serde_json::Value;

use crate::compare;
use crate::kinds::Stamped;

mod heard;

use self::heard::Heard;

/// What a stamped object is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: Stamped,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind(), self.namespace, self.name)
    }
}

/// A GatewayInstance that an object names as its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its name, in the object's namespace.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What is known about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its UID.
    pub uid: String,
    /// The GatewayInstances that it names as owners.
    pub owners: Vec<Owner>,
    /// A digest of its metadata and content, without its status.
    pub digest: u64,
    /// What others need of it.
    pub facts: Facts,
}

/// What others need of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// Nothing.
    None,
    /// Of a Service.
    Service {
        /// Its addresses.
        cluster_ips: Vec<IpAddr>,
        /// The node port of each port.
        node_ports: BTreeMap<u16, u16>,
        /// Its type, if it is one that Postern makes.
        kind: Option<ExposureType>,
        /// What its load balancer gave it.
        load_balancer: Vec<ExternalAddress>,
    },
    /// Of a Deployment.
    Deployment {
        /// How many pods it shall have.
        wanted: i64,
        /// How many are available.
        available: i64,
        /// Why pods cannot be made, if so.
        trouble: Option<String>,
    },
    /// Of a Route.
    Route(RouteFacts),
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Live {
    hasher: RandomState,
    objects: BTreeMap<Id, Seen>,
    entitlements: BTreeMap<(String, String), Arc<Entitlement>>,
    verified: BTreeMap<Id, (u64, u64)>,
    // Objects of a kind that the list which is under way has not named yet.
    unlisted: BTreeMap<Stamped, BTreeSet<Id>>,
    served: BTreeSet<Stamped>,
    heard: Heard,
}

impl Live {
    /// A run for a tenant of this namespace begins: what watches say from here on counts more than
    /// what the run itself reads and writes.
    pub fn run_begins(&mut self, namespace: &str) {
        self.heard.run_begins(namespace);
    }

    /// It ends.
    pub fn run_ends(&mut self, namespace: &str) {
        self.heard.run_ends(namespace);
    }

    /// A watch tells of an object as it is now. Returns whether that is news.
    pub fn apply(&mut self, kind: Stamped, object: &DynamicObject) -> bool {
        let id = id(kind, object);
        self.heard.there(&id.namespace, Some(kind), &id.name);
        if let Some(unlisted) = self.unlisted.get_mut(&kind) {
            unlisted.remove(&id);
        }
        let seen = self.look(kind, object);
        if self.objects.get(&id) == Some(&seen) {
            return false;
        }
        self.objects.insert(id, seen);
        true
    }

    /// A watch tells of an object that is gone, or that no longer carries our label.
    pub fn delete(&mut self, kind: Stamped, object: &DynamicObject) {
        let id = id(kind, object);
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        self.heard.gone(&id.namespace, Some(kind), &id.name, uid);
        self.forget(&id);
    }

    /// Forgets an object.
    pub fn forget(&mut self, id: &Id) {
        self.objects.remove(id);
        self.verified.remove(id);
    }

    /// A list of all objects of a kind begins.
    pub fn list_begins(&mut self, kind: Stamped) {
        let known = self
            .objects
            .keys()
            .filter(|id| id.kind == kind)
            .cloned()
            .collect();
        self.unlisted.insert(kind, known);
    }

    /// It ends: what it did not name is gone. Returns the namespaces of those.
    pub fn list_ends(&mut self, kind: Stamped) -> BTreeSet<String> {
        self.served.insert(kind);
        let gone = self.unlisted.remove(&kind).unwrap_or_default();
        for id in &gone {
            let uid = self.objects.get(id).map(|seen| seen.uid.as_str());
            let uid = uid.unwrap_or_default();
            self.heard.gone(&id.namespace, Some(kind), &id.name, uid);
            self.forget(id);
        }
        gone.into_iter().map(|id| id.namespace).collect()
    }

    /// The cluster does not serve a kind: its objects are gone. Returns their namespaces.
    pub fn not_served(&mut self, kind: Stamped) -> BTreeSet<String> {
        self.served.remove(&kind);
        self.unlisted.remove(&kind);
        let ids = self.objects.keys().filter(|id| id.kind == kind);
        let gone: Vec<Id> = ids.cloned().collect();
        for id in &gone {
            self.forget(id);
        }
        gone.into_iter().map(|id| id.namespace).collect()
    }

    /// Whether the cluster serves a kind.
    #[must_use]
    pub fn is_served(&self, kind: Stamped) -> bool {
        self.served.contains(&kind)
    }

    /// What is known about an object.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<&Seen> {
        self.objects.get(id)
    }

    /// The objects of a namespace.
    pub fn in_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Id, &'a Seen)> {
        let first = Id {
            namespace: namespace.to_owned(),
            kind: Stamped::ALL[0],
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(id, _)| id.namespace == namespace)
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = (&Id, &Seen)> {
        self.objects.iter()
    }

    /// Whether this object, as it is now, was found to be what `desired` (a digest) asks for.
    #[must_use]
    pub fn is_verified(&self, id: &Id, desired: u64) -> bool {
        let seen = self.objects.get(id).map(|seen| (seen.digest, desired));
        seen.is_some() && self.verified.get(id).copied() == seen
    }

    /// The object was read or written by this run and was what `desired` asks for. How it is now,
    /// watches may know better.
    pub fn verified(&mut self, kind: Stamped, object: &DynamicObject, desired: u64) {
        let id = id(kind, object);
        let seen = self.look(kind, object);
        self.verified.insert(id.clone(), (seen.digest, desired));
        let (namespace, name) = (&id.namespace, &id.name);
        if !self.heard.outdates(namespace, Some(kind), name, &seen.uid) {
            self.objects.insert(id, seen);
        }
    }

    /// A digest of a value, good within this process.
    #[must_use]
    pub fn digest(&self, value: &impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    fn look(&self, kind: Stamped, object: &DynamicObject) -> Seen {
        let meta = &object.metadata;
        let mut hasher = self.hasher.build_hasher();
        meta.uid.hash(&mut hasher);
        meta.labels.hash(&mut hasher);
        meta.annotations.hash(&mut hasher);
        meta.finalizers.hash(&mut hasher);
        meta.deletion_timestamp.is_some().hash(&mut hasher);
        for owner in meta.owner_references.iter().flatten() {
            (&owner.uid, &owner.kind, &owner.name, &owner.api_version).hash(&mut hasher);
            (owner.controller, owner.block_owner_deletion).hash(&mut hasher);
        }
        if let Value::Object(fields) = &object.data {
            for (key, value) in fields {
                if compare::is_content(kind.kind(), key) {
                    (key, value.to_string()).hash(&mut hasher);
                }
            }
        }
        Seen {
            uid: meta.uid.clone().unwrap_or_default(),
            owners: owners(object),
            digest: hasher.finish(),
            facts: facts(kind, &object.data),
        }
    }

    /// A watch tells of an Entitlement as it is now. Returns whether that is news.
    pub fn apply_entitlement(&mut self, object: Entitlement) -> bool {
        let key = entitlement_key(&object);
        self.heard.there(&key.0, None, &key.1);
        self.put_entitlement(key, object)
    }

    /// An Entitlement that this run read or wrote. How it is now, watches may know better.
    pub fn verified_entitlement(&mut self, object: Entitlement) {
        let key = entitlement_key(&object);
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        if !self.heard.outdates(&key.0, None, &key.1, uid) {
            self.put_entitlement(key, object);
        }
    }

    fn put_entitlement(&mut self, key: (String, String), object: Entitlement) -> bool {
        if self
            .entitlements
            .get(&key)
            .is_some_and(|before| **before == object)
        {
            return false;
        }
        self.entitlements.insert(key, Arc::new(object));
        true
    }

    /// An Entitlement that is gone.
    pub fn delete_entitlement(&mut self, object: &Entitlement) {
        let key = entitlement_key(object);
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        self.heard.gone(&key.0, None, &key.1, uid);
        self.entitlements.remove(&key);
    }

    /// Only these Entitlements are there.
    pub fn retain_entitlements(&mut self, listed: &BTreeSet<(String, String)>) -> BTreeSet<String> {
        let gone = self
            .entitlements
            .keys()
            .filter(|key| !listed.contains(*key));
        let gone: Vec<_> = gone.cloned().collect();
        for key in &gone {
            if let Some(object) = self.entitlements.get(key).cloned() {
                self.delete_entitlement(&object);
            }
        }
        gone.into_iter().map(|(namespace, _)| namespace).collect()
    }

    /// An Entitlement by namespace and name.
    #[must_use]
    pub fn entitlement(&self, namespace: &str, name: &str) -> Option<Arc<Entitlement>> {
        self.entitlements
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// The Entitlements of a namespace.
    #[must_use]
    pub fn entitlements_in(&self, namespace: &str) -> Vec<Arc<Entitlement>> {
        let first = (namespace.to_owned(), String::new());
        let all = self.entitlements.range(first..);
        all.take_while(|((own, _), _)| own == namespace)
            .map(|(_, found)| found.clone())
            .collect()
    }

    /// The namespaces that hold anything of ours.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        let objects = self.objects.keys().map(|id| id.namespace.clone());
        objects
            .chain(
                self.entitlements
                    .keys()
                    .map(|(namespace, _)| namespace.clone()),
            )
            .collect()
    }
}

/// The key of an Entitlement: namespace and name.
#[must_use]
pub fn entitlement_key(object: &Entitlement) -> (String, String) {
    let meta = &object.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn id(kind: Stamped, object: &DynamicObject) -> Id {
    Id {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        kind,
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}

/// The GatewayInstances that an object names as its owners.
#[must_use]
pub fn owners(object: &DynamicObject) -> Vec<Owner> {
    let owners = object.metadata.owner_references.iter().flatten();
    let ours = owners.filter(|owner| {
        owner.kind == "GatewayInstance"
            && owner.api_version.split('/').next() == Some(postern_api::GROUP)
            && is_name(&owner.name)
    });
    ours.map(|owner| Owner {
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
    .collect()
}

/// Whether a text can be an object's name. An API server takes any text as an owner's, and it
/// becomes part of a path that we ask for.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 253
        && text.bytes().next().is_some_and(plain)
        && text
            .bytes()
            .all(|byte| plain(byte) || matches!(byte, b'-' | b'.'))
}

/// Most addresses of a Gateway (Gateway API, `status.addresses`).
const MOST_ADDRESSES: usize = 16;

/// An entry of `status.loadBalancer.ingress`.
fn given(ingress: &Value) -> Option<ExternalAddress> {
    let address = ingress["ip"].as_str().map(|value| ("IPAddress", value));
    let hostname = || {
        let name = ingress["hostname"].as_str().filter(|name| is_name(name))?;
        Some(("Hostname", name))
    };
    let (kind, value) = address
        .filter(|(_, value)| value.parse::<IpAddr>().is_ok())
        .or_else(hostname)?;
    Some(ExternalAddress {
        kind: kind.into(),
        value: value.into(),
    })
}

/// The most routers that are listened to.
const MOST_ROUTERS: usize = 16;

/// An entry of a Route's `status.ingress`.
fn router(ingress: &Value) -> RouterVerdict {
    let text = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        crate::problem::shorten(text)
    };
    let conditions = ingress["conditions"].as_array().into_iter().flatten();
    let mut admitted = conditions.filter(|condition| condition["type"] == "Admitted");
    let condition = admitted.next().unwrap_or(&Value::Null);
    RouterVerdict {
        router: text(&ingress["routerName"]),
        host: text(&ingress["host"]),
        canonical_hostname: text(&ingress["routerCanonicalHostname"]),
        admitted: match condition["status"].as_str() {
            Some("True") => Some(true),
            Some("False") => Some(false),
            _ => None,
        },
        reason: text(&condition["reason"]),
        message: text(&condition["message"]),
    }
}

fn facts(kind: Stamped, data: &Value) -> Facts {
    match kind {
        Stamped::Service => {
            let items = |path: &str| data.pointer(path).and_then(Value::as_array);
            let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
            let cluster_ips = items("/spec/clusterIPs").into_iter().flatten();
            let ports = items("/spec/ports").into_iter().flatten();
            Facts::Service {
                cluster_ips: cluster_ips
                    .filter_map(|address| address.as_str()?.parse().ok())
                    .collect(),
                node_ports: ports
                    .filter_map(|item| Some((port(&item["port"])?, port(&item["nodePort"])?)))
                    .collect(),
                kind: data
                    .pointer("/spec/type")
                    .and_then(|kind| serde_json::from_value(kind.clone()).ok()),
                load_balancer: items("/status/loadBalancer/ingress")
                    .into_iter()
                    .flatten()
                    .filter_map(given)
                    .take(MOST_ADDRESSES)
                    .collect(),
            }
        }
        Stamped::Deployment => {
            let number = |path: &str| data.pointer(path).and_then(Value::as_i64);
            let conditions = data.pointer("/status/conditions").and_then(Value::as_array);
            let trouble = conditions.into_iter().flatten().find(|condition| {
                condition["type"] == "ReplicaFailure" && condition["status"] == "True"
            });
            Facts::Deployment {
                wanted: number("/spec/replicas").unwrap_or(1),
                available: number("/status/availableReplicas").unwrap_or(0),
                trouble: trouble
                    .and_then(|condition| condition["message"].as_str())
                    .map(crate::problem::shorten),
            }
        }
        Stamped::Route => Facts::Route(RouteFacts {
            routers: data
                .pointer("/status/ingress")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .take(MOST_ROUTERS)
                .map(router)
                .collect(),
        }),
        Stamped::NetworkPolicy
        | Stamped::ServiceAccount
        | Stamped::Role
        | Stamped::RoleBinding
        | Stamped::PodDisruptionBudget
        | Stamped::Gateway => Facts::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    fn service(port: u16) -> DynamicObject {
        object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "s", "namespace": "n", "uid": "u", "resourceVersion": port.to_string(),
                "ownerReferences": [
                    {"apiVersion": "postern.dev/v1alpha1", "kind": "GatewayInstance",
                     "name": "default", "uid": "i"},
                    {"apiVersion": "other.example/v1", "kind": "GatewayInstance",
                     "name": "x", "uid": "y"},
                ],
            },
            "spec": {
                "clusterIPs": ["10.0.0.1"],
                "ports": [{"port": port, "nodePort": 30080}, {"port": 443}],
                "type": "LoadBalancer",
            },
            "status": {"loadBalancer": {"ingress": [
                {"ip": "192.0.2.7", "ipMode": "VIP"}, {"hostname": "lb.example"}, {"ip": "no address"}]}},
        }))
    }

    fn the_id() -> Id {
        Id {
            namespace: "n".into(),
            kind: Stamped::Service,
            name: "s".into(),
        }
    }

    #[test]
    fn what_is_verified_stays_so_until_either_side_changes() {
        let mut live = Live::default();
        live.verified(Stamped::Service, &service(80), 7);
        assert!(live.is_verified(&the_id(), 7));
        assert!(!live.is_verified(&the_id(), 8));
        assert!(!live.apply(Stamped::Service, &service(80)), "no news");
        // Of a status the addresses are news, and nothing that we stamp.
        let mut reported = service(80);
        reported.data["status"]["conditions"] = json!([{"type": "Ready"}]);
        reported.metadata.resource_version = Some("99".into());
        assert!(!live.apply(Stamped::Service, &reported));
        reported.data["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        assert!(live.apply(Stamped::Service, &reported));
        assert!(live.is_verified(&the_id(), 7));
        live.apply(Stamped::Service, &service(80));
        let mut changes: Vec<DynamicObject> = vec![service(81), service(80), service(80)];
        changes[1].metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        changes[2].metadata.owner_references = None;
        for changed in changes {
            assert!(live.apply(Stamped::Service, &changed));
            assert!(!live.is_verified(&the_id(), 7));
        }
        live.apply(Stamped::Service, &service(80));
        assert!(live.is_verified(&the_id(), 7), "put back by somebody");
        live.delete(Stamped::Service, &service(80));
        live.apply(Stamped::Service, &service(80));
        assert!(!live.is_verified(&the_id(), 7));
    }

    /// The answer was on its way when the tenant deleted or changed the object.
    #[test]
    fn an_answer_brings_nothing_back_that_a_watch_said_is_gone() {
        let mut live = Live::default();
        live.apply(Stamped::Service, &service(80));
        live.run_begins("n");
        live.delete(Stamped::Service, &service(80));
        live.verified(Stamped::Service, &service(80), 7);
        assert_eq!(live.get(&the_id()), None, "it must be made again");
        // The one that was made in its place is another.
        let mut fresh = service(80);
        fresh.metadata.uid = Some("v".into());
        live.verified(Stamped::Service, &fresh, 7);
        assert!(live.is_verified(&the_id(), 7));
        live.run_ends("n");

        live.run_begins("n");
        live.apply(Stamped::Service, &service(81));
        live.verified(Stamped::Service, &service(80), 7);
        assert!(!live.is_verified(&the_id(), 7), "it must be put back");
        live.run_ends("n");
        live.verified(Stamped::Service, &service(80), 7);
        assert!(live.is_verified(&the_id(), 7));

        let entitlement = |uid: &str| -> Entitlement {
            let object = json!({"apiVersion": "postern.dev/v1alpha1", "kind": "Entitlement",
                "metadata": {"name": "e", "namespace": "n", "uid": uid}, "spec": {}});
            serde_json::from_value(object).expect("an Entitlement")
        };
        live.apply_entitlement(entitlement("u"));
        live.run_begins("n");
        live.delete_entitlement(&entitlement("u"));
        live.verified_entitlement(entitlement("u"));
        assert_eq!(live.entitlement("n", "e"), None, "it must be made again");
        live.verified_entitlement(entitlement("v"));
        assert!(live.entitlement("n", "e").is_some());
    }

    #[test]
    fn facts_and_owners_are_read() {
        let mut live = Live::default();
        live.apply(Stamped::Service, &service(80));
        let seen = live.get(&the_id()).expect("seen");
        assert_eq!(
            seen.owners,
            [Owner {
                name: "default".into(),
                uid: "i".into()
            }]
        );
        let expected = Facts::Service {
            cluster_ips: vec![IpAddr::from([10, 0, 0, 1])],
            node_ports: [(80, 30080)].into(),
            kind: Some(ExposureType::LoadBalancer),
            // Of the third, a tenant's text, nothing is taken.
            load_balancer: [("IPAddress", "192.0.2.7"), ("Hostname", "lb.example")]
                .map(|(kind, value)| ExternalAddress {
                    kind: kind.into(),
                    value: value.into(),
                })
                .into(),
        };
        assert_eq!(seen.facts, expected);
        let deployment = object(json!({
            "metadata": {"name": "d", "namespace": "n"},
            "spec": {"replicas": 2},
            "status": {"availableReplicas": 1, "conditions": [
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]},
        }));
        live.apply(Stamped::Deployment, &deployment);
        let facts: Vec<&Facts> = live
            .in_namespace("n")
            .map(|(_, seen)| &seen.facts)
            .collect();
        let expected = Facts::Deployment {
            wanted: 2,
            available: 1,
            trouble: Some("exceeded quota".into()),
        };
        assert!(facts.contains(&&expected), "{facts:?}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_owns_nothing() {
        for name in ["../../secrets/x", "a/b", "", "..", "a?b", "A", "a%2fb"] {
            let mut posing = service(80);
            posing.metadata.owner_references.as_mut().expect("owners")[0].name = name.into();
            assert_eq!(owners(&posing), [], "{name}");
        }
        assert_eq!(owners(&service(80)).len(), 1);
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let mut live = Live::default();
        live.apply(Stamped::Service, &service(80));
        let mut other = service(80);
        other.metadata.name = Some("other".into());
        other.metadata.namespace = Some("m".into());
        live.apply(Stamped::Service, &other);
        live.list_begins(Stamped::Service);
        live.apply(Stamped::Service, &service(80));
        assert_eq!(live.list_ends(Stamped::Service), ["m".to_owned()].into());
        assert_eq!(live.all().count(), 1);
    }
}
