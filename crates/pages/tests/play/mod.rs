//! A cluster that is played: the objects of a file, completed as an API server would, and what the
//! operator and the control planes say of them, by their own code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use postern_api::instance::GatewayInstanceStatus;
use postern_api::names::InstanceNames;
use postern_consent::{Consent, RouteFacts, RouterVerdict, ServiceFacts, consent};
use postern_operator::live;
use postern_operator::orphans::{self, Standing};
use postern_operator::status::Wanted;
use postern_pages::{Answer, Facts, Resource};
use postern_refs::status::Statuses;
use postern_refs::{Key, Kind, Snapshot};
use postern_stamp::{ApiServers, Images, Instance, Observed, Settings, stamp};
use postern_translate::{Ack, Acks, Memo, ShardAcks, finish, translate};
use postern_watch::status::merged;
use postern_watch::store::Store;
use serde_json::{Value, json};

/// What a case does.
pub struct Case {
    /// Its directory.
    pub name: &'static str,
    /// Whether whoever asks is a tenant: no Lease, no GatewayClass.
    pub tenant: bool,
    /// Whether there is the GatewayClass.
    pub class: bool,
    /// What a router answers to the Route of a host.
    pub router: fn(&str) -> RouterVerdict,
    /// How many pods of control planes are available.
    pub control_planes: i64,
    /// How many Envoys are available.
    pub envoys: i64,
    /// Seconds since the operator renewed its Lease.
    pub lease_age: i64,
    /// What happens after all statuses were written.
    pub after: fn(&mut Vec<Value>),
    /// What is asked of the page `routes`.
    pub routes: &'static [Option<&'static str>],
    /// What is explained.
    pub explain: &'static [&'static str],
}

/// All is well, and a tenant asks.
pub const WELL: Case = Case {
    name: "",
    tenant: true,
    class: true,
    router: admitted,
    control_planes: 1,
    envoys: 1,
    lease_age: 2,
    after: |_| {},
    routes: &[None],
    explain: &[],
};

/// The router admits everything.
pub fn admitted(host: &str) -> RouterVerdict {
    RouterVerdict {
        router: "default".into(),
        host: host.into(),
        canonical_hostname: "router.apps.example".into(),
        admitted: Some(true),
        ..RouterVerdict::default()
    }
}

pub fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

/// Another spec, at this time.
pub fn change(object: &mut Value, seconds_ago: i64) {
    let meta = &mut object["metadata"];
    meta["generation"] = json!(meta["generation"].as_i64().expect("a generation") + 1);
    let time = now() - SignedDuration::from_secs(seconds_ago);
    meta["managedFields"] = json!([{"manager": "kubectl", "time": time.to_string()}]);
}

pub fn is(object: &Value, kind: &str, name: &str) -> bool {
    object["kind"] == kind && object["metadata"]["name"] == name
}

struct Play<'a> {
    case: &'a Case,
    objects: Vec<Value>,
}

/// What whoever asks is answered.
pub fn facts(case: &Case, yaml: &str) -> Facts {
    let mut play = Play {
        case,
        objects: serde_saphyr::from_multiple(yaml).expect("YAML"),
    };
    if case.class {
        play.objects.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "postern"},
            "spec": {"controllerName": postern_api::CONTROLLER_NAME},
        }));
    }
    play.complete();
    play.operator();
    (case.after)(&mut play.objects);
    play.answers()
}

impl Play<'_> {
    /// What an API server adds.
    fn complete(&mut self) {
        for (number, object) in self.objects.iter_mut().enumerate() {
            let kind = object["kind"].as_str().expect("a kind").to_owned();
            let created = now() - SignedDuration::from_secs(3600 - number as i64);
            let meta = &mut object["metadata"];
            let uid = format!("{kind}-{}", meta["name"].as_str().expect("a name"));
            for (field, value) in [
                ("uid", json!(uid)),
                ("generation", json!(1)),
                ("creationTimestamp", json!(created.to_string())),
            ] {
                if meta[field].is_null() {
                    meta[field] = value;
                }
            }
            // The default of the Gateway API's CRD.
            if kind == "Gateway" && object["status"].is_null() {
                let pending = |kind: &str| {
                    json!({
                        "type": kind, "status": "Unknown", "reason": "Pending",
                        "message": "Waiting for controller",
                        "lastTransitionTime": "1970-01-01T00:00:00Z",
                    })
                };
                object["status"] =
                    json!({"conditions": [pending("Accepted"), pending("Programmed")]});
            }
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let mut store = Store::new();
        for object in &self.objects {
            let version = object["apiVersion"].as_str().expect("a version");
            let group = version.rsplit_once('/').map_or("", |(group, _)| group);
            let kind = object["kind"].as_str().expect("a kind");
            if let Some(kind) = Kind::find(group, kind) {
                store.apply_json(kind, &object.to_string()).expect("a name");
            }
        }
        store.snapshot()
    }

    fn find(&mut self, kind: &str, key: &Key) -> &mut Value {
        let mut all = self.objects.iter_mut();
        all.find(|object| {
            object["kind"] == kind
                && object["metadata"]["name"] == *key.name
                && object["metadata"]["namespace"] == *key.namespace
        })
        .expect("it is there")
    }

    /// What the cluster gave to what was stamped.
    fn surroundings(&self, before: &[(Key, Consent)]) -> postern_consent::Facts {
        let mut facts = postern_consent::Facts {
            routes_served: true,
            ..postern_consent::Facts::default()
        };
        for (_, consent) in before {
            for (number, gateway) in consent.entitlement.gateways.iter().enumerate() {
                let key = Key::new(&*gateway.namespace, &*gateway.name);
                let ip = format!("10.96.0.{}", number + 1)
                    .parse()
                    .expect("an address");
                facts.services.insert(
                    key.clone(),
                    ServiceFacts {
                        cluster_ips: vec![ip],
                        ..ServiceFacts::default()
                    },
                );
                for claim in &gateway.routes {
                    let name = postern_api::names::route(&gateway.name, &claim.host);
                    let routers = vec![(self.case.router)(&claim.host)];
                    let route = Key::new(&*gateway.namespace, name);
                    facts.routes.insert(route, RouteFacts { routers });
                }
            }
        }
        facts
    }

    fn operator(&mut self) {
        let instances: Vec<Key> = self.snapshot().instances.keys().cloned().collect();
        let consents = |snapshot: &Snapshot, facts: &postern_consent::Facts| {
            let all = instances.iter();
            let all = all.map(|key| (key.clone(), consent(snapshot, key, None, facts)));
            all.collect::<Vec<_>>()
        };
        let snapshot = self.snapshot();
        let first = consents(&snapshot, &self.surroundings(&[]));
        for (key, consent) in &first {
            if consent.refusal.is_none() {
                self.stamp(&snapshot, key, consent);
            }
        }
        self.complete();
        let snapshot = self.snapshot();
        let second = consents(&snapshot, &self.surroundings(&[]));
        let consents = consents(&snapshot, &self.surroundings(&second));
        for (key, consent) in &consents {
            self.instance_status(key, consent);
            if consent.refusal.is_none() {
                self.control_plane(&snapshot, consent);
            }
        }
        let standing = |key: &Key| {
            let known = consents.iter().find(|(known, _)| known == key);
            match known.map(|(_, consent)| &consent.refusal) {
                None => Standing::Absent(None),
                Some(None) => Standing::Served,
                Some(Some(refusal)) => Standing::Refused(refusal.reason),
            }
        };
        let facts = self.surroundings(&[]);
        self.write(&orphans::statuses(&snapshot, &facts, standing));
    }

    fn stamp(&mut self, snapshot: &Snapshot, key: &Key, consent: &Consent) {
        let object = &snapshot.instances[key];
        let instance = Instance::of(object, &consent.granted).expect("it was read");
        let settings = Settings {
            images: Images {
                control_plane: "c".into(),
                proxy: "p".into(),
            },
            api_servers: ApiServers::Ports([6443].into()),
            monitoring_namespaces: BTreeSet::new(),
            listen: "0.0.0.0".parse().expect("an address"),
            certificate_seconds: None,
            operator_namespace: "postern-system".into(),
        };
        let stamped = stamp(
            &instance,
            &consent.entitlement,
            &settings,
            &Observed::default(),
        );
        for stamped in stamped.expect("stamped") {
            let mut object = stamped.object;
            let kinds = ["Deployment", "Gateway", "Entitlement"];
            if !kinds.contains(&&*stamped.key.kind) {
                continue;
            }
            if stamped.key.kind == "Deployment" {
                let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
                let up = self.up(&stamped.key.name, key).min(wanted);
                object["status"] = json!({"availableReplicas": up});
            }
            self.objects.push(object);
        }
    }

    fn up(&self, deployment: &str, instance: &Key) -> i64 {
        match deployment == InstanceNames::new(&instance.name).control_plane() {
            true => self.case.control_planes,
            false => self.case.envoys,
        }
    }

    fn instance_status(&mut self, key: &Key, consent: &Consent) {
        let wanted = match &consent.refusal {
            Some(refusal) => Wanted::refused(refusal.reason, &refusal.message, consent),
            None => {
                let names = InstanceNames::new(&key.name);
                let deployments = [names.control_plane(), names.envoy("default")].map(|name| {
                    let replicas = {
                        let key = Key::new(&*key.namespace, &*name);
                        self.find("Deployment", &key)["spec"]["replicas"].as_i64()
                    };
                    let wanted = replicas.unwrap_or(1);
                    let facts = live::Facts::Deployment {
                        wanted,
                        available: self.up(&name, key).min(wanted),
                        trouble: None,
                    };
                    (name, Some(facts))
                });
                let entitlement = Key::new(&*key.namespace, names.entitlement());
                self.find("Entitlement", &entitlement)["status"] =
                    serde_json::to_value(&consent.entitlement).expect("JSON");
                Wanted::stamped(consent, &[], &deployments)
            }
        };
        let status = wanted.status(&GatewayInstanceStatus::default(), &Time(now()));
        self.find("GatewayInstance", key)["status"] = serde_json::to_value(status).expect("JSON");
    }

    /// What the control plane says once every Envoy holds what it was sent.
    fn control_plane(&mut self, snapshot: &Snapshot, consent: &Consent) {
        let mut memo = Memo::new(postern_translate::Settings::default());
        let translation = translate(snapshot, &consent.entitlement, &mut memo);
        let mut acks = Acks::new();
        for (key, gateway) in translation.gateways.iter() {
            let proxy = &translation.proxies[&gateway.shard];
            let held = ShardAcks {
                listeners: proxy
                    .listeners
                    .keys()
                    .map(|name| (name.clone(), Ack::Acknowledged))
                    .collect(),
                tables: proxy
                    .tables
                    .keys()
                    .map(|table| (table.clone(), Ack::Acknowledged))
                    .collect(),
            };
            if self.case.envoys > 0 {
                acks.insert(key.clone(), Arc::new(held));
            }
        }
        self.write(&finish(&translation, &acks));
    }

    fn write(&mut self, statuses: &Statuses) {
        for ((kind, key), status) in statuses {
            let object = self.find(kind.name(), key);
            if let Some(merged) = merged(object, status, &now().to_string()) {
                object["status"] = merged;
            }
        }
    }

    fn answers(&self) -> Facts {
        let renewed = now() - SignedDuration::from_secs(self.case.lease_age);
        let lease = json!({
            "metadata": {"namespace": "postern-system", "name": "postern-operator"},
            "spec": {
                "holderIdentity": "postern-operator-5d8", "leaseDurationSeconds": 15,
                "renewTime": renewed.to_string(),
            },
        });
        let answer = |resource: Resource| match resource {
            Resource::GatewayClass | Resource::Lease if self.case.tenant => Answer::Forbidden,
            Resource::Lease => Answer::Known(vec![lease.clone()]),
            _ => {
                let of = self.objects.iter();
                let of = of.filter(|object| object["kind"] == resource.kind());
                Answer::Known(of.cloned().collect())
            }
        };
        let answers: BTreeMap<Resource, Answer> = Resource::ALL
            .into_iter()
            .map(|resource| (resource, answer(resource)))
            .collect();
        Facts {
            namespace: Some("shop".into()),
            now: now(),
            answers,
            operator_namespace: "postern-system".into(),
        }
    }
}
