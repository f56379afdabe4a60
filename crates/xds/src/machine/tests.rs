//! The protocol, state by state.

mod order;
mod refusal;

use bytes::Bytes;
use envoy_types::pb::google::rpc::Status;
use postern_envoy::Resource;

use super::*;

/// Resources from lines such as `Routes/r@3 a b`: kind, name, version, needs.
pub(super) fn resources(lines: &[&str]) -> Arc<Resources> {
    let mut resources = Resources::default();
    for line in lines {
        let mut words = line.split(' ');
        let (kind, rest) = words.next().unwrap().split_once('/').unwrap();
        let (name, version) = rest.split_once('@').unwrap();
        let kind = of_short(kind);
        let mut needs: Vec<Arc<str>> = words.map(Arc::from).collect();
        needs.sort();
        let resource = Resource {
            version: u64::from_str_radix(version, 16).unwrap(),
            body: Bytes::from(line.as_bytes().to_vec()),
            needs: needs.into(),
        };
        resources.of_mut(kind).insert(name.into(), resource);
    }
    Arc::new(resources)
}

fn of_short(short: &str) -> Kind {
    let debug = |kind: &Kind| format!("{kind:?}") == short;
    Kind::ALL.into_iter().find(debug).unwrap()
}

pub(super) fn kind_of(response: &DeltaDiscoveryResponse) -> Kind {
    Kind::of_type_url(&response.type_url).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// A machine and the nonce that is outstanding of each type.
struct Envoy {
    machine: Machine,
    nonces: BTreeMap<Kind, String>,
}

impl Envoy {
    fn new() -> Envoy {
        Envoy {
            machine: Machine::new(),
            nonces: BTreeMap::new(),
        }
    }

    /// With these resources and Envoy's wildcard subscriptions, before any answer was taken.
    fn with(lines: &[&str]) -> Envoy {
        let mut envoy = Envoy::new();
        assert_eq!(envoy.push(lines), "");
        envoy
    }

    /// Remembers nonces and writes responses as `Kind +name@version -removed; …`.
    fn note(&mut self, responses: Vec<DeltaDiscoveryResponse>) -> String {
        let mut lines = Vec::new();
        for response in responses {
            let kind = kind_of(&response);
            let mut line = format!("{kind:?}");
            for resource in &response.resources {
                let any = resource.resource.as_ref().unwrap();
                assert_eq!(any.type_url, response.type_url);
                assert!(!any.value.is_empty());
                line += &format!(" +{}@{}", resource.name, resource.version);
            }
            for name in &response.removed_resources {
                line += &format!(" -{name}");
            }
            lines.push(line);
            let before = self.nonces.insert(kind, response.nonce);
            assert_eq!(before, None, "two responses of one type in flight");
        }
        lines.join("; ")
    }

    fn push(&mut self, lines: &[&str]) -> String {
        let responses = self.machine.on_resources(resources(lines));
        self.note(responses)
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> String {
        let responses = self.machine.on_request(request).unwrap();
        self.note(responses)
    }

    fn request(kind: Kind, subscribe: &[&str]) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names(subscribe),
            ..Default::default()
        }
    }

    fn subscribe(&mut self, kind: Kind, subscribe: &[&str]) -> String {
        self.send(Envoy::request(kind, subscribe))
    }

    fn unsubscribe(&mut self, kind: Kind, names: &[&str]) -> String {
        let mut request = Envoy::request(kind, &[]);
        request.resource_names_unsubscribe = self::names(names);
        self.send(request)
    }

    fn bring(&mut self, kind: Kind, subscribe: &[&str], versions: &[(&str, &str)]) -> String {
        let mut request = Envoy::request(kind, subscribe);
        request.initial_resource_versions = versions
            .iter()
            .map(|(name, version)| (name.to_string(), version.to_string()))
            .collect();
        self.send(request)
    }

    fn ack(&mut self, kind: Kind) -> String {
        let mut request = Envoy::request(kind, &[]);
        request.response_nonce = self.nonces.remove(&kind).expect("nothing to acknowledge");
        self.send(request)
    }

    fn nack(&mut self, kind: Kind, why: &str) -> String {
        let mut request = Envoy::request(kind, &[]);
        request.response_nonce = self.nonces.remove(&kind).expect("nothing to refuse");
        request.error_detail = Some(Status {
            code: 13,
            message: why.to_owned(),
            ..Default::default()
        });
        self.send(request)
    }

    fn events(&mut self) -> Vec<Event> {
        self.machine.take_events()
    }
}

fn acknowledged(kind: Kind, names: &[(&str, u64)], removed: &[&str]) -> Event {
    Event::Acknowledged {
        kind,
        names: names.iter().map(|(n, v)| (Arc::from(*n), *v)).collect(),
        removed: removed.iter().map(|n| Arc::from(*n)).collect(),
    }
}

fn refused(kind: Kind, names: &[(&str, u64)], detail: &str) -> Event {
    Event::Refused {
        kind,
        names: names.iter().map(|(n, v)| (Arc::from(*n), *v)).collect(),
        removed: Vec::new(),
        detail: detail.to_owned(),
    }
}

use Kind::{Cluster, Endpoints, Listener, Routes, Secret};

#[test]
fn an_empty_first_subscription_is_a_wildcard_for_clusters_and_listeners_alone() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Listener/l@1", "Secret/s@1", "Routes/r@1"]);
    assert_eq!(envoy.subscribe(Cluster, &[]), "Cluster +a@1");
    assert_eq!(envoy.subscribe(Listener, &[]), "Listener +l@1");
    assert_eq!(envoy.subscribe(Secret, &[]), "");
    assert_eq!(envoy.subscribe(Routes, &[]), "");
    assert_eq!(envoy.subscribe(Endpoints, &["*"]), "Endpoints");
}

#[test]
fn a_wildcard_is_answered_even_with_nothing() {
    let mut envoy = Envoy::with(&[]);
    assert_eq!(envoy.subscribe(Cluster, &[]), "Cluster");
    assert_eq!(envoy.subscribe(Listener, &["*"]), "Listener");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.events(), [acknowledged(Cluster, &[], &[])]);
    assert_eq!(envoy.ack(Listener), "");
    assert_eq!(envoy.push(&["Cluster/a@1"]), "Cluster +a@1");
}

#[test]
fn nothing_is_said_before_there_are_resources() {
    let mut envoy = Envoy::new();
    assert_eq!(envoy.bring(Cluster, &[], &[("a", "1"), ("b", "1")]), "");
    assert_eq!(envoy.bring(Routes, &["r"], &[("r", "5")]), "");
    assert_eq!(envoy.subscribe(Endpoints, &["a", "x"]), "");
    let answers = envoy.push(&[
        "Cluster/a@1",
        "Cluster/c@1",
        "Routes/r@5 a",
        "Endpoints/a@7",
    ]);
    assert_eq!(answers, "Cluster +c@1; Endpoints +a@7 -x");
    let brought = [
        acknowledged(Cluster, &[("a", 1)], &[]),
        acknowledged(Routes, &[("r", 5)], &[]),
    ];
    assert_eq!(envoy.events(), brought);
    assert_eq!(envoy.ack(Cluster), "Cluster -b");
}

#[test]
fn one_response_of_a_type_is_in_flight_and_the_newest_follows() {
    let mut envoy = Envoy::with(&["Cluster/a@1"]);
    assert_eq!(envoy.subscribe(Cluster, &[]), "Cluster +a@1");
    assert_eq!(envoy.push(&["Cluster/a@2"]), "");
    assert_eq!(envoy.push(&["Cluster/a@3", "Cluster/b@1"]), "");
    assert_eq!(envoy.ack(Cluster), "Cluster +a@3 +b@1");
    assert_eq!(envoy.push(&["Cluster/a@3", "Cluster/b@1"]), "");
    assert_eq!(envoy.ack(Cluster), "");
    let told = [
        acknowledged(Cluster, &[("a", 1)], &[]),
        acknowledged(Cluster, &[("a", 3), ("b", 1)], &[]),
    ];
    assert_eq!(envoy.events(), told);
}

#[test]
fn a_change_taken_back_in_flight_sends_nothing() {
    let mut envoy = Envoy::with(&["Cluster/a@1"]);
    envoy.subscribe(Cluster, &[]);
    assert_eq!(envoy.push(&["Cluster/a@2"]), "");
    assert_eq!(envoy.push(&["Cluster/a@1"]), "");
    assert_eq!(envoy.ack(Cluster), "");
}

#[test]
fn versions_are_hexadecimal_on_the_wire() {
    let mut envoy = Envoy::with(&["Cluster/a@ffffffffffffffff"]);
    let answer = "Cluster +a@ffffffffffffffff";
    assert_eq!(envoy.subscribe(Cluster, &[]), answer);
    envoy.ack(Cluster);
    let told = [acknowledged(Cluster, &[("a", u64::MAX)], &[])];
    assert_eq!(envoy.events(), told);
}

#[test]
fn a_stale_nonce_is_ignored_but_its_subscriptions_are_not() {
    let mut envoy = Envoy::with(&["Secret/a@1", "Secret/b@1"]);
    assert_eq!(envoy.subscribe(Secret, &["a"]), "Secret +a@1");
    let mut stale = Envoy::request(Secret, &["b"]);
    stale.response_nonce = "77".to_owned();
    assert_eq!(envoy.send(stale), "");
    assert_eq!(envoy.events(), []);
    assert_eq!(envoy.ack(Secret), "Secret +b@1");
    // The nonce of one type is not that of another.
    let mut other = Envoy::request(Cluster, &[]);
    other.response_nonce = envoy.nonces[&Secret].clone();
    assert_eq!(envoy.send(other), "Cluster");
    assert_eq!(envoy.events(), [acknowledged(Secret, &[("a", 1)], &[])]);
}

#[test]
fn a_name_that_does_not_exist_is_answered_and_sent_when_it_does() {
    let mut envoy = Envoy::with(&["Secret/a@1"]);
    assert_eq!(envoy.subscribe(Secret, &["a", "b"]), "Secret +a@1 -b");
    assert_eq!(envoy.ack(Secret), "");
    let told = [acknowledged(Secret, &[("a", 1)], &["b"])];
    assert_eq!(envoy.events(), told);
    assert_eq!(envoy.push(&["Secret/a@1", "Secret/b@9"]), "Secret +b@9");
    assert_eq!(envoy.ack(Secret), "");
    assert_eq!(envoy.push(&["Secret/a@1"]), "Secret -b");
    assert_eq!(envoy.ack(Secret), "");
    // Asked again, it is answered again.
    assert_eq!(envoy.subscribe(Secret, &["b"]), "Secret -b");
}

#[test]
fn what_is_not_subscribed_is_not_sent() {
    let mut envoy = Envoy::with(&["Secret/a@1", "Secret/b@1"]);
    assert_eq!(envoy.subscribe(Secret, &["a"]), "Secret +a@1");
    envoy.ack(Secret);
    assert_eq!(envoy.push(&["Secret/a@1", "Secret/b@2"]), "");
    assert_eq!(envoy.unsubscribe(Secret, &["a", "never"]), "");
    assert_eq!(envoy.push(&["Secret/a@2"]), "");
    // After the last name is gone this is no wildcard.
    assert_eq!(envoy.subscribe(Secret, &[]), "");
    assert_eq!(envoy.subscribe(Secret, &["a"]), "Secret +a@2");
}

#[test]
fn a_wildcard_and_names_go_together() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Cluster/b@1"]);
    assert_eq!(envoy.subscribe(Cluster, &[]), "Cluster +a@1 +b@1");
    assert_eq!(envoy.ack(Cluster), "");
    // Named besides, it is sent again; so it is when the name is given up.
    assert_eq!(envoy.subscribe(Cluster, &["a", "x"]), "Cluster +a@1 -x");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.unsubscribe(Cluster, &["a", "x"]), "Cluster +a@1 -x");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.subscribe(Cluster, &["b"]), "Cluster +b@1");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.unsubscribe(Cluster, &["*"]), "");
    assert_eq!(envoy.push(&["Cluster/a@2", "Cluster/b@2"]), "Cluster +b@2");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.subscribe(Cluster, &["*"]), "Cluster +a@2");
}

#[test]
fn a_reconnecting_envoy_gets_the_difference() {
    let now = ["Cluster/a@a1", "Cluster/b@b2", "Cluster/d@d1"];
    let mut envoy = Envoy::with(&now);
    let had = [("a", "a1"), ("b", "b1"), ("c", "c1"), ("d", "?")];
    // Removal comes after Envoy has said of all types what it holds.
    assert_eq!(envoy.bring(Cluster, &[], &had), "Cluster +b@b2 +d@d1");
    let told = [acknowledged(Cluster, &[("a", 0xa1)], &[])];
    assert_eq!(envoy.events(), told);
    assert_eq!(envoy.bring(Listener, &[], &[]), "Listener");
    assert_eq!(envoy.ack(Cluster), "Cluster -c");
    assert_eq!(envoy.ack(Cluster), "");
}

#[test]
fn a_reconnecting_envoy_that_lacks_nothing_gets_an_empty_answer() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Secret/s@1"]);
    assert_eq!(envoy.bring(Cluster, &[], &[("a", "1")]), "Cluster");
    assert_eq!(envoy.bring(Secret, &["s"], &[("s", "1")]), "");
    assert_eq!(envoy.ack(Cluster), "");
}

#[test]
fn a_reconnecting_envoy_keeps_the_clusters_of_the_tables_that_it_has() {
    let mut envoy = Envoy::with(&[
        "Cluster/new@1",
        "Endpoints/new@1",
        "Listener/l@1",
        "Routes/r@2 new",
    ]);
    assert_eq!(envoy.bring(Cluster, &[], &[("old", "1")]), "Cluster +new@1");
    assert_eq!(envoy.bring(Listener, &[], &[("l", "1")]), "Listener");
    assert_eq!(envoy.bring(Endpoints, &["old"], &[("old", "1")]), "");
    assert_eq!(envoy.bring(Routes, &["r"], &[("r", "1")]), "");
    assert_eq!(envoy.ack(Listener), "");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.subscribe(Endpoints, &["new"]), "Endpoints +new@1");
    assert_eq!(envoy.ack(Endpoints), "Routes +r@2");
    assert_eq!(envoy.ack(Routes), "Cluster -old; Endpoints -old");
}

/// A table that stays what it was lets clusters go that it does not name.
#[test]
fn a_table_brought_along_at_the_right_version_is_known() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Routes/r@1 a"]);
    assert_eq!(
        envoy.bring(Cluster, &[], &[("a", "1"), ("b", "1")]),
        "Cluster"
    );
    assert_eq!(envoy.bring(Routes, &["r"], &[("r", "1")]), "");
    assert_eq!(envoy.ack(Cluster), "Cluster -b");
}

#[test]
fn asked_for_again_it_is_sent_again() {
    let mut envoy = Envoy::with(&["Endpoints/a@1"]);
    assert_eq!(envoy.subscribe(Endpoints, &["a"]), "Endpoints +a@1");
    // Crossing the response.
    assert_eq!(envoy.subscribe(Endpoints, &["a"]), "");
    assert_eq!(envoy.ack(Endpoints), "Endpoints +a@1");
    assert_eq!(envoy.ack(Endpoints), "");
    assert_eq!(envoy.subscribe(Endpoints, &["a"]), "Endpoints +a@1");
}

#[test]
fn endpoints_follow_each_change_of_their_cluster() {
    let mut envoy = Envoy::with(&["Cluster/a@1", "Endpoints/a@1"]);
    envoy.subscribe(Cluster, &[]);
    envoy.ack(Cluster);
    assert_eq!(envoy.subscribe(Endpoints, &["a"]), "Endpoints +a@1");
    envoy.ack(Endpoints);
    let both = envoy.push(&["Cluster/a@2", "Endpoints/a@1"]);
    assert_eq!(both, "Cluster +a@2; Endpoints +a@1");
    assert_eq!(envoy.ack(Cluster), "");
    assert_eq!(envoy.ack(Endpoints), "");
    // Also when there is nothing but the word that there is nothing.
    envoy.push(&["Cluster/a@2"]);
    envoy.ack(Endpoints);
    assert_eq!(envoy.push(&["Cluster/a@3"]), "Cluster +a@3; Endpoints -a");
}

#[test]
fn endpoints_follow_a_cluster_that_was_sent_before_envoy_told_which_it_has() {
    let mut envoy = Envoy::with(&[
        "Cluster/a@2",
        "Cluster/b@1",
        "Endpoints/a@1",
        "Endpoints/b@1",
    ]);
    let had = [("a", "1"), ("b", "1")];
    assert_eq!(envoy.bring(Cluster, &[], &had), "Cluster +a@2");
    assert_eq!(envoy.bring(Endpoints, &["a", "b"], &had), "Endpoints +a@1");
}

#[test]
fn a_large_answer_comes_in_parts() {
    let mut all = Resources::default();
    for n in 0..10 {
        let resource = Resource {
            version: 1,
            body: Bytes::from(vec![0; RESPONSE_BYTES / 2]),
            needs: Arc::from([]),
        };
        all.of_mut(Cluster).insert(format!("{n}").into(), resource);
    }
    let mut envoy = Envoy::new();
    envoy.machine.on_resources(Arc::new(all));
    let mut answer = envoy.subscribe(Cluster, &[]);
    let mut parts = Vec::new();
    while !answer.is_empty() {
        parts.push(answer);
        answer = envoy.ack(Cluster);
    }
    assert_eq!(parts.len(), 5);
    assert_eq!(parts[4], "Cluster +8@1 +9@1");
}

#[test]
fn types_that_are_not_served_are_ignored() {
    let mut envoy = Envoy::with(&["Cluster/a@1"]);
    for type_url in [
        "",
        "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        "\0",
    ] {
        let mut request = Envoy::request(Cluster, &["*"]);
        request.type_url = type_url.to_owned();
        assert_eq!(envoy.send(request), "");
    }
    assert_eq!(envoy.subscribe(Cluster, &[]), "Cluster +a@1");
}

#[test]
fn requests_are_bounded() {
    let mut machine = Machine::new();
    let long = "x".repeat(MAX_NAME + 1);
    let request = Envoy::request(Secret, &[&long]);
    assert_eq!(machine.on_request(request), Err(ProtocolError::NameTooLong));
    assert!(
        machine
            .on_request(Envoy::request(Secret, &[&long[1..]]))
            .is_ok()
    );

    let mut request = Envoy::request(Secret, &[]);
    request.resource_names_unsubscribe = vec![String::new(); MAX_NAMES + 1];
    assert_eq!(
        machine.on_request(request),
        Err(ProtocolError::TooManyNames)
    );

    // Nor by several requests.
    let mut request = Envoy::request(Secret, &[]);
    request.resource_names_subscribe = (1..MAX_NAMES).map(|n| n.to_string()).collect();
    assert!(machine.on_request(request.clone()).is_ok());
    assert!(machine.on_request(request).is_ok());
    let one_more = Envoy::request(Secret, &["one more"]);
    assert_eq!(
        machine.on_request(one_more),
        Err(ProtocolError::TooManyNames)
    );
}

/// Costs are counted, not timed: what is looked at again after each answer must not grow with
/// what is settled.
#[test]
fn a_changed_table_among_thousands_of_clusters_looks_at_that_table_alone() {
    let names: Vec<String> = (0..3000).map(|n| format!("{n:04}")).collect();
    let mut lines: Vec<String> = names.iter().map(|n| format!("Cluster/{n}@1")).collect();
    lines.extend(names.iter().map(|n| format!("Endpoints/{n}@1")));
    // Thirty tables, each of which needs all clusters.
    lines.extend((10..40).map(|n| format!("Routes/r{n}@1 {}", names.join(" "))));
    let all = |lines: &[String]| resources(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let looks = |envoy: &Envoy| envoy.machine.looks.replace(0);
    let mut envoy = Envoy::new();
    envoy.machine.on_resources(all(&lines));
    envoy.subscribe(Cluster, &[]);
    envoy.subscribe(Routes, &["*"]);
    envoy.ack(Routes);
    // Endpoints come in a hundred parts, and each time each table is held against one need alone.
    envoy.ack(Cluster);
    looks(&envoy);
    for part in names.chunks(30) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        envoy.subscribe(Endpoints, &part);
        let answer = envoy.ack(Endpoints);
        assert_eq!(answer.contains("+r10@1 +r11@1"), part.contains(&"2999"));
    }
    let settling = looks(&envoy);
    assert!(
        settling < 2 * 30 * 3000 + 3000 + 100 * 2 * 30 * 4,
        "{settling}"
    );
    envoy.ack(Routes);
    assert!(envoy.machine.channels.iter().all(Channel::settled));
    assert!(looks(&envoy) <= 30);

    lines.pop();
    lines.push("Routes/r39@2 0000 2998".to_owned());
    let responses = envoy.machine.on_resources(all(&lines));
    assert_eq!(envoy.note(responses), "Routes +r39@2");
    assert_eq!(looks(&envoy), 3);
}

#[test]
fn maps_are_compared_by_version() {
    let old = resources(&["Secret/a@1", "Secret/b@1", "Secret/c@1", "Secret/e@1"]);
    let new = resources(&[
        "Secret/a@1",
        "Secret/b@2",
        "Secret/d@1",
        "Secret/e@1",
        "Secret/f@1",
    ]);
    let changes = |old: &Resources, new: &Resources| {
        let mut changes = Vec::new();
        differences(old.of(Secret), new.of(Secret), |name| {
            changes.push(name.to_string());
        });
        changes
    };
    assert_eq!(changes(&old, &new), ["b", "c", "d", "f"]);
    assert_eq!(changes(&new, &old), ["b", "c", "d", "f"]);
    assert_eq!(changes(&Resources::default(), &old), ["a", "b", "c", "e"]);
    assert_eq!(changes(&old, &old), [""; 0]);
}
