//! A simulated Envoy, whatever the order of events, ends with the newest resources and never holds
//! a route table whose needs it lacks.

use std::collections::{BTreeSet, HashMap, VecDeque};

use envoy_types::pb::google::rpc::Status;
use proptest::prelude::*;

use super::tests::{kind_of, resources};
use super::*;

/// What the Envoy applied: version and needs.
type Applied = BTreeMap<String, (u64, Vec<String>)>;

/// Behaves as Envoy does: a response is taken in order, whole or (clusters, listeners) in part;
/// endpoints are subscribed with their cluster and tables with their listener; removal of a table
/// or of endpoints is ignored for as long as they are subscribed to.
#[derive(Default)]
struct Envoy {
    applied: BTreeMap<Kind, Applied>,
    /// What it would tell a new stream: a response that it refused left no trace here, even where
    /// it took a part.
    told: BTreeMap<Kind, Applied>,
    subscribed: BTreeMap<Kind, BTreeSet<String>>,
    /// Clusters that warm: they were sent, and no endpoints after that.
    warming: BTreeSet<String>,
    /// On this stream.
    refused: BTreeSet<(Kind, String, u64)>,
    /// On any stream.
    ever_refused: BTreeSet<(Kind, String)>,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
}

const SERVED: [Kind; 4] = [Kind::Cluster, Kind::Listener, Kind::Endpoints, Kind::Routes];

/// What makes an Envoy subscribe to a kind.
fn parent(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Endpoints => Some(Kind::Cluster),
        Kind::Routes => Some(Kind::Listener),
        Kind::Cluster | Kind::Listener | Kind::Secret => None,
    }
}

/// A version that this Envoy does not take.
fn bad(version: u64) -> bool {
    version % 7 == 3
}

impl Envoy {
    fn applied(&mut self, kind: Kind) -> &mut Applied {
        self.applied.entry(kind).or_default()
    }

    fn connect(&mut self) {
        self.requests.clear();
        self.responses.clear();
        // What warmed when the stream broke is warmed from Envoy's own cache of endpoints: those
        // of the right version are not sent again.
        self.warming.clear();
        for kind in SERVED {
            // No server can know of a part of a refused response that an Envoy took from another
            // one, so that is left out here.
            let mut told = self.told.entry(kind).or_default().clone();
            if let Some(parent) = parent(kind) {
                let parents = self.applied(parent).clone();
                let names = self.subscribed.entry(kind).or_default();
                *names = parents.keys().cloned().collect();
                told.retain(|name, _| names.contains(name));
            }
            self.told.insert(kind, told.clone());
            self.applied.insert(kind, told.clone());
            let versions = told
                .into_iter()
                .map(|(name, (v, _))| (name, format!("{v:x}")));
            let versions: HashMap<String, String> = versions.collect();
            let wildcard = matches!(kind, Kind::Cluster | Kind::Listener);
            let names = self.subscribed.entry(kind).or_default();
            if !wildcard && names.is_empty() {
                continue;
            }
            self.requests.push_back(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: names.iter().cloned().collect(),
                initial_resource_versions: versions,
                ..Default::default()
            });
        }
    }

    /// Changes a subscription: the change goes along with the next request of its type.
    fn interest(&mut self, kind: Kind, name: &str, wanted: bool) {
        let names = self.subscribed.entry(kind).or_default();
        let mut request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            ..Default::default()
        };
        if wanted && names.insert(name.to_owned()) {
            request.resource_names_subscribe.push(name.to_owned());
        } else if !wanted && names.remove(name) {
            request.resource_names_unsubscribe.push(name.to_owned());
            self.applied(kind).remove(name);
            self.told.entry(kind).or_default().remove(name);
            self.refused
                .retain(|(k, n, _)| (*k, n.as_str()) != (kind, name));
        } else {
            return;
        }
        self.requests.push_back(request);
    }

    fn take(&mut self, response: &DeltaDiscoveryResponse, partly: bool) {
        let kind = kind_of(response);
        let child = match kind {
            Kind::Cluster => Some(Kind::Endpoints),
            Kind::Listener => Some(Kind::Routes),
            _ => None,
        };
        let mut error = None;
        let mut names = BTreeSet::new();
        for resource in &response.resources {
            assert!(names.insert(&resource.name), "twice in one response");
            let version = u64::from_str_radix(&resource.version, 16).unwrap();
            let sent = (kind, resource.name.clone(), version);
            assert!(!self.refused.contains(&sent), "sent again: {sent:?}");
            if bad(version) {
                error = Some(resource.name.clone());
            }
        }
        for resource in &response.resources {
            let version = u64::from_str_radix(&resource.version, 16).unwrap();
            let wanted = self.subscribed.entry(kind).or_default();
            if child.is_none() && !wanted.contains(&resource.name) {
                // Given up meanwhile.
                continue;
            }
            if bad(version) {
                if response.resources.len() == 1 {
                    let name = resource.name.clone();
                    self.ever_refused.insert((kind, name.clone()));
                    self.refused.insert((kind, name, version));
                }
                continue;
            }
            if error.is_some() && !(partly && child.is_some()) {
                continue;
            }
            let body = resource.resource.as_ref().unwrap().value.clone();
            let body = String::from_utf8(body).unwrap();
            let needs = body.split(' ').skip(1).map(str::to_owned).collect();
            let new = (version, needs);
            let old = self
                .applied(kind)
                .insert(resource.name.clone(), new.clone());
            if kind == Kind::Cluster && old != Some(new) {
                self.warming.insert(resource.name.clone());
            }
            if kind == Kind::Endpoints {
                self.warming.remove(&resource.name);
            }
            if let Some(child) = child {
                self.interest(child, &resource.name, true);
            }
        }
        for name in &response.removed_resources {
            assert!(names.insert(name), "sent and removed in one response");
            if kind == Kind::Endpoints {
                self.warming.remove(name);
            }
            if let Some(child) = child {
                self.applied(kind).remove(name);
                self.warming.remove(name);
                self.interest(child, name, false);
            }
        }
        if error.is_none() {
            let applied = self.applied(kind).clone();
            let told = self.told.entry(kind).or_default();
            for resource in &response.resources {
                if let Some(taken) = applied.get(&resource.name) {
                    told.insert(resource.name.clone(), taken.clone());
                }
            }
            for name in &response.removed_resources {
                told.remove(name);
            }
        }
        self.requests.push_back(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| Status {
                code: 13,
                message,
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    /// No table refers to what is not there, unless this Envoy itself would not have it.
    fn assert_whole(&self) {
        let empty = Applied::new();
        let of = |kind| self.applied.get(&kind).unwrap_or(&empty);
        let refused = |kind, name: &str| self.ever_refused.contains(&(kind, name.to_owned()));
        for (table, (_, needs)) in of(Kind::Routes) {
            for need in needs {
                let cluster = of(Kind::Cluster).contains_key(need);
                assert!(
                    cluster || refused(Kind::Cluster, need),
                    "{table}: no {need}"
                );
                let endpoints = of(Kind::Endpoints).contains_key(need);
                // A cluster that was refused once may come when the table is there already.
                let excused = refused(Kind::Cluster, need) || refused(Kind::Endpoints, need);
                assert!(endpoints || excused, "{table}: no endpoints of {need}");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Resources(Vec<String>),
    /// The server reads a request.
    Request,
    /// The Envoy reads a response, and applies the good part of a bad one or not.
    Response(bool),
    Reconnect,
}

/// Resources in which each table belongs to a listener and needs clusters that exist.
fn some_resources() -> impl Strategy<Value = Vec<String>> {
    let version = 0..30_u64;
    let clusters =
        proptest::collection::btree_map(0..6_u8, (version.clone(), version.clone()), 0..6);
    let tables = proptest::collection::btree_map(
        0..3_u8,
        (version.clone(), version, any::<[bool; 6]>()),
        0..3,
    );
    (clusters, tables).prop_map(|(clusters, tables)| {
        let mut lines = Vec::new();
        for (name, (cluster, endpoints)) in &clusters {
            lines.push(format!("Cluster/c{name}@{cluster:x}"));
            lines.push(format!("Endpoints/c{name}@{endpoints:x}"));
        }
        for (name, (listener, table, needs)) in &tables {
            lines.push(format!("Listener/l{name}@{listener:x}"));
            let needs: Vec<String> = (clusters.keys())
                .filter(|cluster| needs[**cluster as usize])
                .map(|cluster| format!(" c{cluster}"))
                .collect();
            // The same version means the same content.
            let names: u64 = needs.iter().fold(*table, |version, name| {
                version * 1009 + u64::from(name.as_bytes()[2])
            });
            lines.push(format!("Routes/l{name}@{names:x}{}", needs.concat()));
        }
        lines
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => some_resources().prop_map(Step::Resources),
        10 => Just(Step::Request),
        10 => any::<bool>().prop_map(Step::Response),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 1..120)
}

fn push(machine: &mut Machine, envoy: &mut Envoy, lines: &[String]) {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let resources = resources(&lines);
    envoy.responses.extend(machine.on_resources(resources));
    forget(machine, envoy);
}

/// What is gone may be sent again when it comes back.
fn forget(machine: &Machine, envoy: &mut Envoy) {
    let resources = machine.resources.as_ref().unwrap();
    (envoy.refused).retain(|(kind, name, _)| resources.get(*kind, name).is_some());
}

fn request(machine: &mut Machine, envoy: &mut Envoy) {
    if let Some(request) = envoy.requests.pop_front() {
        envoy.responses.extend(machine.on_request(request).unwrap());
        forget(machine, envoy);
    }
}

fn response(envoy: &mut Envoy, partly: bool) {
    if let Some(response) = envoy.responses.pop_front() {
        envoy.take(&response, partly);
        envoy.assert_whole();
    }
}

fn run(steps: Vec<Step>) {
    let mut machine = Machine::new();
    let mut envoy = Envoy::default();
    let mut newest: Vec<String> = Vec::new();
    envoy.connect();
    push(&mut machine, &mut envoy, &newest);
    for step in steps {
        match step {
            Step::Resources(lines) => {
                push(&mut machine, &mut envoy, &lines);
                newest = lines;
            }
            Step::Request => request(&mut machine, &mut envoy),
            Step::Response(partly) => response(&mut envoy, partly),
            Step::Reconnect => {
                machine = Machine::new();
                envoy.refused.clear();
                envoy.connect();
                push(&mut machine, &mut envoy, &newest);
            }
        }
    }
    let mut left = 10_000;
    while !(envoy.requests.is_empty() && envoy.responses.is_empty()) {
        request(&mut machine, &mut envoy);
        response(&mut envoy, true);
        left -= 1;
        assert!(left > 0, "no end");
    }
    let newest = resources(&newest.iter().map(String::as_str).collect::<Vec<_>>());
    for kind in SERVED {
        let applied = envoy.applied(kind).clone();
        for (name, (version, _)) in &applied {
            let should = newest.get(kind, name).map(|r| r.version);
            let same = should == Some(*version) || should.is_some_and(bad);
            // A refused table keeps what it needs.
            let kept = matches!(kind, Kind::Cluster | Kind::Endpoints)
                && should.is_none()
                && newest.of(Kind::Routes).values().any(|r| bad(r.version));
            assert!(
                same || kept,
                "{kind:?} {name}: {version:x}, not {should:x?}"
            );
        }
        for (name, resource) in newest.of(kind) {
            let wanted =
                parent(kind).is_none_or(|parent| envoy.applied(parent).contains_key(&**name));
            let there = applied.contains_key(&**name);
            assert!(
                there || bad(resource.version) || !wanted,
                "{kind:?} {name} missing"
            );
        }
    }
    assert!(machine.channels.iter().all(|c| c.outstanding.is_none()));
    // What is withheld from removal may warm in vain: the old one still serves.
    let mut warming = envoy.warming.iter();
    assert!(warming.all(|name| {
        let endpoints = newest.get(Kind::Endpoints, name);
        endpoints.is_none_or(|resource| bad(resource.version))
    }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_order_of_events_ends_with_the_newest_resources(steps in steps()) {
        run(steps);
    }
}
