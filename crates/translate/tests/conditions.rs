//! What is said about broken things, and that their neighbours serve.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use postern_model::{Action, Host, Proxy, Target};
use postern_refs::objects::{HttpFilter, ServiceKind};
use postern_refs::status::Truth;
use postern_refs::{FieldPath, Snapshot};
use postern_translate::{Cause, Translation};
use support::*;

fn base() -> (Snapshot, postern_api::EntitlementStatus) {
    let listeners = vec![listener("http", 80, None, None)];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    put_service(&mut snapshot, "good", &["10.0.0.1"]);
    put_route(
        &mut snapshot,
        "neighbour",
        route(&["n.example"], vec![rule("/", vec![backend("good", 1)])]),
    );
    (snapshot, entitlement(&listeners))
}

fn actions<'a>(proxy: &'a Proxy, host: &str) -> Vec<&'a Action> {
    let table = proxy.tables.values().next().unwrap();
    let host = Host::parse(host);
    table
        .hosts
        .iter()
        .find(|known| known.host == host)
        .map(|known| known.entries.iter().map(|entry| &entry.action).collect())
        .unwrap_or_default()
}

fn check_neighbour(translation: &Translation) {
    let actions = actions(&translation.proxies["default"], "n.example");
    assert!(matches!(actions[..], [Action::Forward(_)]));
    assert_eq!(
        route_condition(translation, "neighbour", "Accepted")
            .unwrap()
            .0,
        Truth::True
    );
    assert_eq!(
        route_condition(translation, "neighbour", "ResolvedRefs")
            .unwrap()
            .0,
        Truth::True
    );
}

#[test]
fn an_unknown_backend_keeps_its_share_and_that_share_gets_500() {
    let (mut snapshot, entitlement) = base();
    put_route(
        &mut snapshot,
        "r",
        route(
            &["r.example"],
            vec![rule("/", vec![backend("good", 9), backend("gone", 1)])],
        ),
    );
    let translation = fresh(&snapshot, &entitlement);
    check_neighbour(&translation);
    let actions = actions(&translation.proxies["default"], "r.example");
    let [Action::Forward(shares)] = actions[..] else {
        panic!("{actions:?}")
    };
    assert!(matches!(shares[0].target, Target::Cluster(_)));
    assert!(matches!(shares[1].target, Target::Broken(_)));
    let (status, reason, message) = route_condition(&translation, "r", "ResolvedRefs").unwrap();
    assert_eq!((status, reason.as_str()), (Truth::False, "BackendNotFound"));
    assert!(
        message.contains("spec.rules[0].backendRefs[1].name"),
        "{message}"
    );
    assert_eq!(
        route_condition(&translation, "r", "Accepted").unwrap().0,
        Truth::True
    );
}

#[test]
fn a_reference_across_namespaces_is_refused_before_anybody_looks_whether_the_target_exists() {
    let (mut snapshot, mut entitlement) = base();
    let mut foreign = backend("secret-service", 1);
    foreign.namespace = Some("other".into());
    put_route(
        &mut snapshot,
        "r",
        route(&["r.example"], vec![rule("/", vec![foreign])]),
    );
    let undecided = fresh(&snapshot, &entitlement);
    assert_eq!(
        route_condition(&undecided, "r", "ResolvedRefs").unwrap().1,
        "Pending"
    );
    let object = |group: &str, kind: &str, namespace: &str, name: &str| {
        postern_api::entitlement::ObjectRef {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    };
    entitlement
        .refused
        .push(postern_api::entitlement::Decision {
            from: object(postern_api::GATEWAY_GROUP, "HTTPRoute", NS, "r"),
            to: object("", "Service", "other", "secret-service"),
            ..Default::default()
        });
    let translation = fresh(&snapshot, &entitlement);
    check_neighbour(&translation);
    let refused = route_condition(&translation, "r", "ResolvedRefs").unwrap();
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (Truth::False, "RefNotPermitted")
    );
    assert!(refused.2.contains("spec.rules[0].backendRefs[0].namespace"));
    assert!(matches!(
        actions(&translation.proxies["default"], "r.example")[..],
        [Action::Fixed(_)]
    ));
}

#[test]
fn an_external_name_is_no_backend() {
    let (mut snapshot, entitlement) = base();
    put_service(&mut snapshot, "admin", &["127.0.0.1"]);
    let services = Arc::make_mut(&mut snapshot.services);
    let object = Arc::make_mut(services.get_mut(&key("admin")).unwrap());
    let postern_refs::Body::Valid(service) = &mut object.body else {
        panic!()
    };
    service.kind = ServiceKind::ExternalName;
    put_route(
        &mut snapshot,
        "r",
        route(&["r.example"], vec![rule("/", vec![backend("admin", 1)])]),
    );
    let translation = fresh(&snapshot, &entitlement);
    assert_eq!(
        route_condition(&translation, "r", "ResolvedRefs")
            .unwrap()
            .1,
        "InvalidKind"
    );
    assert!(
        !translation.proxies["default"]
            .clusters
            .keys()
            .any(|id| id.0.contains("admin"))
    );
}

#[test]
fn hand_made_endpoints_do_not_lead_home() {
    let (mut snapshot, entitlement) = base();
    put_service(
        &mut snapshot,
        "trap",
        &["127.0.0.1", "169.254.169.254", "10.0.0.2"],
    );
    put_route(
        &mut snapshot,
        "r",
        route(&["r.example"], vec![rule("/", vec![backend("trap", 1)])]),
    );
    let translation = fresh(&snapshot, &entitlement);
    let endpoints =
        &translation.proxies["default"].endpoints[&postern_model::ClusterId("team/trap/80".into())];
    let addresses: Vec<String> = endpoints
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.2"]);
}

#[test]
fn an_unsupported_field_costs_its_rule_a_500_and_a_condition_that_names_it() {
    let (mut snapshot, entitlement) = base();
    put_route(
        &mut snapshot,
        "r",
        route(
            &["r.example"],
            vec![
                rule("/good", vec![backend("good", 1)]),
                rule("/bad", vec![backend("good", 1)]),
            ],
        ),
    );
    let routes = Arc::make_mut(&mut snapshot.http_routes);
    Arc::make_mut(routes.get_mut(&key("r")).unwrap()).unsupported =
        vec![FieldPath::parse("spec.rules[1].timeouts")];
    let translation = fresh(&snapshot, &entitlement);
    check_neighbour(&translation);
    let actions = actions(&translation.proxies["default"], "r.example");
    assert!(
        matches!(actions[..], [Action::Forward(_), Action::Fixed(_)]),
        "{actions:?}"
    );
    assert_eq!(
        route_condition(&translation, "r", "Accepted").unwrap().0,
        Truth::True
    );
    let (status, reason, message) = route_condition(&translation, "r", "PartiallyInvalid").unwrap();
    assert_eq!((status, reason.as_str()), (Truth::True, "UnsupportedValue"));
    assert!(message.contains("spec.rules[1].timeouts"), "{message}");
}

#[test]
fn an_unsupported_field_of_a_match_never_widens_it() {
    let (mut snapshot, entitlement) = base();
    put_route(
        &mut snapshot,
        "r",
        route(
            &["r.example"],
            vec![rule("/only", vec![backend("good", 1)])],
        ),
    );
    let routes = Arc::make_mut(&mut snapshot.http_routes);
    Arc::make_mut(routes.get_mut(&key("r")).unwrap()).unsupported =
        vec![FieldPath::parse("spec.rules[0].matches[0].grpc")];
    let translation = fresh(&snapshot, &entitlement);
    assert!(actions(&translation.proxies["default"], "r.example").is_empty());
    let accepted = route_condition(&translation, "r", "Accepted").unwrap();
    assert_eq!(
        (accepted.0, accepted.1.as_str()),
        (Truth::False, "UnsupportedValue")
    );
}

#[test]
fn a_filter_that_is_not_built_is_never_skipped() {
    let (mut snapshot, entitlement) = base();
    let mut made = route(&["r.example"], vec![rule("/", vec![backend("good", 1)])]);
    made.rules[0].filters = vec![HttpFilter::Other("ExtensionRef".into())];
    put_route(&mut snapshot, "r", made);
    let translation = fresh(&snapshot, &entitlement);
    assert!(matches!(
        actions(&translation.proxies["default"], "r.example")[..],
        [Action::Fixed(_)]
    ));
    let accepted = route_condition(&translation, "r", "Accepted").unwrap();
    assert_eq!(
        (accepted.0, accepted.1.as_str()),
        (Truth::False, "UnsupportedValue")
    );
    assert!(accepted.2.contains("spec.rules[0].filters[0].type"));
    let gateway = translation.gateways.values().next().unwrap();
    assert_eq!(
        gateway.listeners[0].attached, 1,
        "only the neighbour is attached"
    );
}

#[test]
fn a_host_that_stands_twice_is_served_once_and_said() {
    let (mut snapshot, entitlement) = base();
    put_route(
        &mut snapshot,
        "r",
        route(
            &["r.example", "R.example"],
            vec![rule("/", vec![backend("good", 1)])],
        ),
    );
    let translation = fresh(&snapshot, &entitlement);
    assert_eq!(
        actions(&translation.proxies["default"], "r.example").len(),
        1
    );
    let (status, _, message) = route_condition(&translation, "r", "Accepted").unwrap();
    assert_eq!(status, Truth::True);
    assert!(message.contains("spec.hostnames[1]"), "{message}");
}

#[test]
fn a_host_that_nobody_granted_is_not_served() {
    let (mut snapshot, mut entitlement) = base();
    entitlement.hostnames = vec!["*.mine.example".into(), "n.example".into()];
    put_route(
        &mut snapshot,
        "theirs",
        route(
            &["a.theirs.example"],
            vec![rule("/", vec![backend("good", 1)])],
        ),
    );
    put_route(
        &mut snapshot,
        "all",
        route(&[], vec![rule("/", vec![backend("good", 1)])]),
    );
    let translation = fresh(&snapshot, &entitlement);
    let table = translation.proxies["default"]
        .tables
        .values()
        .next()
        .unwrap();
    let served: Vec<String> = table
        .hosts
        .iter()
        .filter(|host| !host.entries.is_empty())
        .map(|host| host.host.to_string())
        .collect();
    assert_eq!(
        served,
        ["n.example", "*.mine.example"],
        "a route for all hosts gets those that are owned"
    );
    let theirs = route_condition(&translation, "theirs", "Accepted").unwrap();
    assert_eq!(
        (theirs.0, theirs.1.as_str()),
        (Truth::False, "HostnameNotGranted")
    );
}

#[test]
fn a_listeners_host_never_falls_through_to_a_wider_listener() {
    let listeners = vec![
        listener("wide", 80, Some("*.example"), None),
        listener("narrow", 80, Some("a.example"), None),
    ];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    put_service(&mut snapshot, "good", &["10.0.0.1"]);
    let mut made = route(
        &["*.example", "a.example"],
        vec![rule("/", vec![backend("good", 1)])],
    );
    made.parents[0].section = Some("wide".into());
    put_route(&mut snapshot, "r", made);
    let translation = fresh(&snapshot, &entitlement(&listeners));
    let proxy = &translation.proxies["default"];
    assert_eq!(actions(proxy, "*.example").len(), 1);
    let table = proxy.tables.values().next().unwrap();
    let narrow = table
        .hosts
        .iter()
        .find(|host| host.host == Host::parse("a.example"))
        .expect("a host of its own");
    assert!(narrow.entries.is_empty());
}

#[test]
fn another_gateway_of_the_name_is_not_the_entitled_one() {
    let (snapshot, mut entitlement) = base();
    entitlement.gateways[0].uid = "another".into();
    let translation = fresh(&snapshot, &entitlement);
    assert!(translation.gateways.is_empty());
    assert!(translation.proxies["default"].listeners.is_empty());
}

#[test]
fn listeners_that_exclude_each_other_are_both_refused_and_the_others_serve() {
    let listeners = vec![
        listener("one", 80, Some("a.example"), None),
        listener("two", 80, Some("a.example"), None),
        listener("three", 81, None, None),
    ];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    let translation = fresh(&snapshot, &entitlement(&listeners));
    let report = translation.gateways.values().next().unwrap();
    let causes: Vec<Vec<Cause>> = report
        .listeners
        .iter()
        .map(|listener| {
            listener
                .problems
                .iter()
                .map(|problem| problem.cause)
                .collect()
        })
        .collect();
    assert_eq!(
        causes,
        [
            vec![Cause::HostnameConflict],
            vec![Cause::HostnameConflict],
            vec![]
        ]
    );
    assert_eq!(translation.proxies["default"].listeners.len(), 1);
}

#[test]
fn a_bad_certificate_stops_its_listener_and_no_other() {
    let pair = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (good, other) = (pair("good.example"), pair("other.example"));
    let listeners = vec![
        listener("good", 443, Some("good.example"), Some("good")),
        listener("mixed", 443, Some("mixed.example"), Some("mixed")),
        listener("junk", 443, Some("junk.example"), Some("junk")),
        listener("gone", 443, Some("gone.example"), Some("gone")),
    ];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, listeners.clone());
    put_secret(
        &mut snapshot,
        "good",
        &good.cert.pem(),
        &good.signing_key.serialize_pem(),
    );
    put_secret(
        &mut snapshot,
        "mixed",
        &good.cert.pem(),
        &other.signing_key.serialize_pem(),
    );
    put_secret(&mut snapshot, "junk", "no certificate", "no key");
    let translation = fresh(&snapshot, &entitlement(&listeners));
    let report = translation.gateways.values().next().unwrap();
    for (listener, expected) in report.listeners.iter().zip([
        None,
        Some("does not belong"),
        Some("tls.crt"),
        Some("there is no Secret"),
    ]) {
        match expected {
            None => assert!(listener.problems.is_empty(), "{:?}", listener.problems),
            Some(text) => {
                assert_eq!(listener.problems[0].cause, Cause::InvalidCertificateRef);
                let said = listener.problems[0].to_string();
                assert!(
                    said.contains(text) && said.contains("tls.certificateRefs[0]"),
                    "{said}"
                );
            }
        }
    }
    let served = translation.proxies["default"]
        .listeners
        .values()
        .next()
        .unwrap();
    let postern_model::ListenerKind::Https { chains } = &served.kind else {
        panic!()
    };
    assert_eq!(
        chains
            .iter()
            .map(|chain| chain.server_name.to_string())
            .collect::<Vec<_>>(),
        ["good.example"]
    );
}

#[test]
fn a_secret_that_the_operator_has_not_opened_yet_is_pending_and_the_old_one_goes_on() {
    let pair = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let before = vec![listener("https", 443, None, Some("old"))];
    let mut snapshot = Snapshot::default();
    put_gateway(&mut snapshot, before.clone());
    put_secret(
        &mut snapshot,
        "old",
        &pair.cert.pem(),
        &pair.signing_key.serialize_pem(),
    );
    let entitlement = entitlement(&before);
    let mut memo = memo();
    let first = postern_translate::translate(&snapshot, &entitlement, &mut memo);
    put_gateway(
        &mut snapshot,
        vec![listener("https", 443, None, Some("new"))],
    );
    let second = postern_translate::translate(&snapshot, &entitlement, &mut memo);
    assert_eq!(
        second.gateways.values().next().unwrap().listeners[0].problems[0].cause,
        Cause::Pending
    );
    assert_eq!(
        first.proxies["default"].listeners, second.proxies["default"].listeners,
        "what serves goes on"
    );
    assert_eq!(
        first.proxies["default"].secrets,
        second.proxies["default"].secrets
    );
}
